//! The collector against sources that lose, race and fail on purpose.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::rc::Rc;

use super::*;

/// What the fake sources tell, and in which order.
#[derive(Default)]
struct Script {
    tasks: Vec<Sighting>,
    /// Happens at the next drain.
    pending: VecDeque<Event>,
    /// Happens while the next walk is on.
    during_walk: VecDeque<Event>,
    lost: Lost,
    walks: u32,
    is_broken: bool,
}

type Shared = Rc<RefCell<Script>>;

struct Tasks(Shared);

impl TaskSource for Tasks {
    fn walk(&mut self) -> Result<Vec<Sighting>, SourceError> {
        let mut script = self.0.borrow_mut();
        if script.is_broken {
            let source = std::io::Error::other("gone");
            return Err(SourceError::Proc {
                path: "/proc".into(),
                source,
            });
        }
        script.walks += 1;
        let meanwhile = std::mem::take(&mut script.during_walk);
        script.pending.extend(meanwhile);
        Ok(script.tasks.clone())
    }
}

struct Events(Shared, std::fs::File);

impl EventSource for Events {
    fn drain(&mut self, apply: &mut dyn FnMut(Event)) -> Result<(), SourceError> {
        let pending = std::mem::take(&mut self.0.borrow_mut().pending);
        pending.into_iter().for_each(apply);
        Ok(())
    }

    fn lost(&mut self) -> Result<Lost, SourceError> {
        Ok(self.0.borrow().lost)
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.1.as_fd()
    }
}

fn seen(tgid: u32, start_ns: u64) -> Sighting {
    Sighting::new(Key { start_ns, tgid }, Precision::Nanosecond)
}

fn start(script: Script) -> (Collector, Shared) {
    let shared = Rc::new(RefCell::new(script));
    let events = Events(
        Rc::clone(&shared),
        std::fs::File::open("/dev/null").unwrap(),
    );
    let collector = Collector::start(
        CollectorSettings::default(),
        Box::new(Tasks(Rc::clone(&shared))),
        Some(Box::new(events)),
        ProcSource::at("/no/such/proc"),
    );
    (collector.unwrap(), shared)
}

#[test]
fn events_between_attaching_and_walking_are_neither_lost_nor_doubled() {
    let now = clock::boottime_ns();
    let (brief, both) = (seen(10, now), seen(11, now + 1));
    let exit = Sighting {
        dead: true,
        exit_status: Some(0),
        ..brief.clone()
    };
    let fork = |child| Event::Fork {
        time_ns: now + 1,
        child,
        forker: None,
    };
    let (collector, _) = start(Script {
        tasks: vec![seen(1, 1), both.clone(), brief.clone()],
        pending: [fork(brief), fork(both)].into(),
        // The walk has passed by, then it exits.
        during_walk: [Event::Exit {
            time_ns: now + 2,
            process: exit,
        }]
        .into(),
        ..Script::default()
    });
    assert_eq!((collector.cache().alive(), collector.cache().len()), (2, 3));
    assert_eq!(collector.repaired(), 0);
}

#[test]
fn a_loss_is_counted_and_repaired() {
    let (mut collector, script) = start(Script {
        tasks: vec![seen(1, 1)],
        ..Script::default()
    });
    script.borrow_mut().tasks.push(seen(10, 2));
    script.borrow_mut().lost = Lost {
        forks: 1,
        execs: 1,
        exits: 0,
    };
    let mut changes = Vec::new();
    collector
        .settle(&mut |change, _| changes.push((change.what, change.key.tgid)))
        .unwrap();
    assert_eq!(changes, [(What::Found, 10)]);
    assert_eq!(collector.cache().counters().lost(), 2);
    assert_eq!((collector.cache().alive(), collector.repaired()), (2, 1));
    // The same loss is not counted again, and starts no other walk.
    collector.settle(&mut |_, _| ()).unwrap();
    assert_eq!(
        (collector.cache().counters().lost(), script.borrow().walks),
        (2, 2)
    );
}

#[test]
fn repairs_under_a_storm_are_rate_limited() {
    let (mut collector, script) = start(Script {
        tasks: vec![seen(1, 1)],
        ..Script::default()
    });
    for round in 1..=1000 {
        script.borrow_mut().lost.exits = round;
        collector.lost_asked_ns = 0;
        collector.step(&mut |_, _| ()).unwrap();
    }
    assert!(
        script.borrow().walks <= 3,
        "{} walks",
        script.borrow().walks
    );
}

#[test]
fn a_broken_source_is_an_error_and_the_cache_stays() {
    let (mut collector, script) = start(Script {
        tasks: vec![seen(1, 1)],
        ..Script::default()
    });
    script.borrow_mut().is_broken = true;
    assert!(collector.walk(&mut |_, _| ()).is_err());
    assert_eq!(collector.cache().alive(), 1);
}

#[test]
fn an_audit_says_what_it_corrected() {
    let (mut collector, script) = start(Script {
        tasks: vec![seen(1, 1), seen(2, 2)],
        ..Script::default()
    });
    script.borrow_mut().tasks = vec![seen(1, 1), seen(3, 3)];
    let mut slabs = || vec![("signal_cache".to_owned(), 1)];
    let audit = collector.audit(&mut slabs, &mut |_, _| ()).unwrap();
    assert_eq!((audit.cached, audit.walked), (2, 2));
    assert_eq!(audit.repair.added, [seen(3, 3).key]);
    assert_eq!(audit.repair.ended, [seen(2, 2).key]);
    assert!(
        !audit.bounds[0].holds(),
        "two processes do not fit in one object"
    );
    assert!(!audit.agrees());
}
