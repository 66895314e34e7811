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

fn start_in(mode: Mode, script: Script) -> (Collector, Shared) {
    let shared = Rc::new(RefCell::new(script));
    let events = Events(
        Rc::clone(&shared),
        std::fs::File::open("/dev/null").unwrap(),
    );
    let settings = CollectorSettings {
        mode,
        poll_interval_ns: 0,
        poll_interval_alone_ns: 0,
        ..CollectorSettings::default()
    };
    let tasks = Box::new(Tasks(Rc::clone(&shared)));
    let collector = Collector::start(
        settings,
        tasks,
        Some(Box::new(events)),
        ProcSource::default(),
    );
    (collector.unwrap(), shared)
}

fn fork(child: Sighting) -> Event {
    Event::Fork {
        time_ns: child.key.start_ns,
        child,
        forker: None,
    }
}

#[test]
fn each_mode_has_its_sources() {
    let now = clock::boottime_ns();
    for (mode, told, walks) in [
        (Mode::Both, true, true),
        (Mode::Events, true, false),
        (Mode::Poll, false, true),
    ] {
        let (mut collector, script) = start_in(mode, Script::default());
        script.borrow_mut().pending.push_back(fork(seen(7, now)));
        // However quick: a walk takes a tenth of the time at most.
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(1));
            collector.step(&mut |_, _| ()).unwrap();
        }
        assert_eq!(collector.has_events(), told, "{mode:?}");
        assert_eq!(collector.cache().by_pid(7).is_some(), told, "{mode:?}");
        assert_eq!(script.borrow().walks > 1, walks, "{mode:?}");
    }
}

#[test]
fn a_loss_is_repaired_in_the_mode_without_walks() {
    let (mut collector, script) = start_in(Mode::Events, Script::default());
    script.borrow_mut().tasks.push(seen(7, 1));
    script.borrow_mut().lost.forks = 1;
    collector.settings.repair_interval_ns = 0;
    collector.lost_asked_ns = 0;
    std::thread::sleep(std::time::Duration::from_millis(1));
    collector.step(&mut |_, _| ()).unwrap();
    assert!(collector.cache().by_pid(7).is_some());
    assert_eq!(collector.cache().counters().forks_lost, 1);
}

#[test]
fn more_than_there_are_slabs_for_is_repaired() {
    let (mut collector, script) = start_in(
        Mode::Events,
        Script {
            tasks: vec![seen(1, 1), seen(2, 2)],
            ..Script::default()
        },
    );
    collector.settings.repair_interval_ns = 0;
    collector.walk_cost_ns = 0;
    script.borrow_mut().tasks.truncate(1);
    collector.audit_by(Box::new(|| vec![("signal_cache".to_owned(), 1)]));
    std::thread::sleep(std::time::Duration::from_millis(1));
    for _ in 0..2 {
        collector.step(&mut |_, _| ()).unwrap();
    }
    assert_eq!(collector.cache().alive(), 1);
    let counters = collector.cache().counters();
    assert_eq!((counters.audits_failed, counters.ended), (1, 1));
}

#[test]
fn one_process_is_read_in_proc() {
    let (mut collector, _) = start_in(Mode::Events, Script::default());
    let mut changes = Vec::new();
    let mut preload = |pid| {
        let observer = &mut |change: &Change, _: &Cache| changes.push(change.what);
        collector.preload(pid, observer).unwrap()
    };
    let own = preload(std::process::id()).unwrap();
    assert_eq!(preload(std::process::id()), Some(own));
    assert_eq!(preload(u32::MAX), None);
    assert_eq!(changes, [What::Found]);
    let reader = collector.reader();
    let process = reader.get(own).unwrap();
    assert!(process.is_alive() && process.image.is_some());
}

#[test]
fn readers_and_subscribers_follow() {
    let now = clock::boottime_ns();
    let (mut collector, script) = start_in(Mode::Events, Script::default());
    let reader = collector.reader();
    let subscription = reader.subscribe(10);
    script.borrow_mut().pending.push_back(fork(seen(7, now)));
    script.borrow_mut().tasks.push(seen(8, now));
    collector.step(&mut |_, _| ()).unwrap();
    assert!(reader.by_pid(7).is_some() && reader.by_pid(8).is_none());
    collector.walk(&mut |_, _| ()).unwrap();
    assert!(reader.by_pid(8).is_some());
    let told: Vec<_> = std::iter::from_fn(|| subscription.try_recv().unwrap())
        .map(|(change, _)| (change.what, change.key.tgid))
        .collect();
    let wanted = [(What::Forked, 7), (What::Gone, 7), (What::Found, 8)];
    assert_eq!(told, wanted);
}

#[test]
fn a_lost_exec_is_repaired() {
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let proc = ProcSource::default();
    let now = (0..1000).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        let now = proc.sighting(child.id())?;
        now.comm.starts_with(b"sleep\0").then_some(now)
    });
    let now = now.unwrap();
    let before = Sighting {
        comm: *b"before\0\0\0\0\0\0\0\0\0\0",
        ..now.clone()
    };
    let exec = Event::Exec {
        time_ns: clock::boottime_ns(),
        process: before.clone(),
        image: crate::Image::new(crate::ImageSource::Exec, None, (*b"before\0").into()),
    };
    let (mut collector, script) = start(Script {
        tasks: vec![before],
        ..Script::default()
    });
    collector.proc = proc;
    script.borrow_mut().pending.push_back(exec);
    collector.settle(&mut |_, _| ()).unwrap();
    let args = |collector: &Collector| {
        let process = collector.cache().by_pid(child.id()).unwrap();
        process.image.as_ref().unwrap().block.to_vec()
    };
    assert_eq!(args(&collector), b"before\0");
    script.borrow_mut().tasks = vec![now];
    collector.walk(&mut |_, _| ()).unwrap();
    let named_itself = args(&collector);
    script.borrow_mut().lost.execs = 1;
    script.borrow_mut().tasks[0].exe.as_mut().unwrap().ino += 1;
    collector.settle(&mut |_, _| ()).unwrap();
    let repaired = args(&collector);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(named_itself, b"before\0");
    assert_eq!(repaired, b"sleep\x0060\0");
}

#[test]
fn a_loss_between_the_walk_and_its_merge_is_not_forgotten() {
    let now = clock::boottime_ns();
    let (mut collector, script) = start(Script {
        tasks: vec![seen(1, 1)],
        ..Script::default()
    });
    script.borrow_mut().during_walk.push_back(Event::Exec {
        time_ns: now,
        process: seen(10, now),
        image: crate::Image::new(crate::ImageSource::Exec, None, Box::default()),
    });
    collector.walk(&mut |_, _| ()).unwrap();
    assert!(collector.cache().needs_repair());
}

#[test]
fn an_observer_is_told_whose_pid_was_reused_and_nothing_twice() {
    let (mut collector, script) = start(Script {
        tasks: vec![seen(1, 1), seen(10, 2)],
        ..Script::default()
    });
    let fork = Event::Fork {
        time_ns: clock::boottime_ns(),
        child: seen(10, clock::boottime_ns()),
        forker: Some(seen(1, 1).key),
    };
    script.borrow_mut().pending = [fork.clone(), fork].into();
    let mut told = Vec::new();
    let observer =
        &mut |change: &Change, _: &Cache| told.push((change.what, change.key.start_ns == 2));
    collector.step(observer).unwrap();
    assert_eq!(told, [(What::Gone, true), (What::Forked, false)]);
}
