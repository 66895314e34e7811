//! The store against a kernel of a few lines, whose events are lost, repeated and late.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const INIT: Key = Key {
    start_ns: 1,
    tgid: 1,
};
const KEEP_NS: u64 = 50;

#[derive(Clone, Debug)]
enum Step {
    /// Somebody forks a child of that pid, if it is free.
    Fork {
        by: usize,
        pid: u32,
        lost: bool,
    },
    Exec {
        by: usize,
        lost: bool,
    },
    Exit {
        by: usize,
        lost: bool,
    },
    /// An event is told once more.
    Again {
        event: usize,
    },
    Walk,
    Pass {
        ns: u64,
    },
}

#[derive(Clone, Debug)]
enum Event {
    Fork(u64, Sighting, Key),
    Exec(u64, Sighting),
    Exit(u64, Sighting),
}

#[derive(Default)]
struct Kernel {
    now_ns: u64,
    parents: BTreeMap<Key, Key>,
    parents_at_fork: BTreeMap<Key, Key>,
    told: Vec<Event>,
    /// Those that the cache cannot have right before the next walk.
    unseen: BTreeSet<Key>,
}

impl Kernel {
    fn pick(&self, index: usize) -> Option<Key> {
        self.parents
            .keys()
            .nth(index % self.parents.len().max(1))
            .copied()
    }

    fn sighting(&self, key: Key) -> Sighting {
        Sighting {
            parent: self.parents.get(&key).copied().filter(|_| key != INIT),
            ..Sighting::new(key, Precision::Nanosecond)
        }
    }
}

fn tell(cache: &mut Cache, event: &Event) {
    match event {
        Event::Fork(time_ns, child, forker) => cache.on_fork(*time_ns, child, Some(*forker)),
        Event::Exec(time_ns, process) => cache.on_exec(
            *time_ns,
            process,
            Image::new(crate::ImageSource::Exec, None, Box::default()),
        ),
        Event::Exit(time_ns, process) => cache.on_exit(*time_ns, process),
    };
}

fn step() -> impl Strategy<Value = Step> {
    let lost = || prop::bool::weighted(0.15);
    prop_oneof![
        6 => (any::<usize>(), 2..8u32, lost()).prop_map(|(by, pid, lost)| Step::Fork { by, pid, lost }),
        2 => (any::<usize>(), lost()).prop_map(|(by, lost)| Step::Exec { by, lost }),
        5 => (any::<usize>(), lost()).prop_map(|(by, lost)| Step::Exit { by, lost }),
        3 => any::<usize>().prop_map(|event| Step::Again { event }),
        1 => Just(Step::Walk),
        1 => (0..60u64).prop_map(|ns| Step::Pass { ns }),
    ]
}

fn run(steps: &[Step], settings: Settings) -> Result<(), TestCaseError> {
    let mut kernel = Kernel {
        now_ns: 1,
        ..Kernel::default()
    };
    kernel.parents.insert(INIT, INIT);
    let mut cache = Cache::new(settings);
    cache.merge(&[kernel.sighting(INIT)], 2, 2);

    for step in steps {
        kernel.now_ns += 1;
        let now_ns = kernel.now_ns;
        let mut event = None;
        let mut is_lost = false;
        match step {
            Step::Fork { by, pid, lost } => {
                let free = kernel.parents.keys().all(|key| key.tgid != *pid);
                if let (true, Some(parent)) = (free, kernel.pick(*by)) {
                    let child = Key {
                        start_ns: now_ns,
                        tgid: *pid,
                    };
                    kernel.parents.insert(child, parent);
                    kernel.parents_at_fork.insert(child, parent);
                    event = Some(Event::Fork(now_ns, kernel.sighting(child), parent));
                    is_lost = *lost;
                    if *lost {
                        kernel.unseen.insert(child);
                    }
                }
            }
            Step::Exec { by, lost } => {
                if let Some(key) = kernel.pick(*by) {
                    event = Some(Event::Exec(now_ns, kernel.sighting(key)));
                    is_lost = *lost;
                }
            }
            Step::Exit { by, lost } => {
                if let Some(key) = kernel.pick(*by).filter(|key| *key != INIT) {
                    let dead = Sighting {
                        dead: true,
                        exit_status: Some(0),
                        ..kernel.sighting(key)
                    };
                    event = Some(Event::Exit(now_ns, dead));
                    is_lost = *lost;
                    kernel.parents.remove(&key);
                    for parent in kernel.parents.values_mut().filter(|parent| **parent == key) {
                        *parent = INIT;
                    }
                    if *lost {
                        kernel.unseen.insert(key);
                    }
                }
            }
            Step::Again { event } => {
                if !kernel.told.is_empty() {
                    let event = kernel.told[event % kernel.told.len()].clone();
                    tell(&mut cache, &event);
                }
            }
            Step::Walk => {
                let walk: Vec<Sighting> = kernel
                    .parents
                    .keys()
                    .map(|key| kernel.sighting(*key))
                    .collect();
                cache.merge(&walk, now_ns, now_ns);
                kernel.unseen.clear();
            }
            Step::Pass { ns } => kernel.now_ns += ns,
        }
        if let Some(event) = event.filter(|_| !is_lost) {
            tell(&mut cache, &event);
            kernel.told.push(event);
        }
        cache.expire(kernel.now_ns);

        if let Err(wrong) = cache.check() {
            return Err(TestCaseError::fail(wrong));
        }
        for process in cache.iter() {
            let key = process.key();
            if process.is_alive() {
                let lives = kernel.parents.contains_key(&key);
                prop_assert!(lives || kernel.unseen.contains(&key), "{key:?} is a ghost");
            }
            if let Some(parent) = process.parent_at_fork {
                prop_assert_eq!(Some(&parent), kernel.parents_at_fork.get(&key));
            }
            if let (Some(exit), Some(keep)) = (process.exit, settings.keep_exited_ns) {
                prop_assert!(
                    exit.noticed_ns + keep > kernel.now_ns,
                    "{key:?} was to be forgotten"
                );
            }
        }
        for key in kernel.parents.keys() {
            let lives = cache.get(*key).is_some_and(Process::is_alive);
            prop_assert!(lives || kernel.unseen.contains(key), "{key:?} is missing");
        }
        let dead = cache.len() - cache.alive();
        prop_assert!(dead == 0 || cache.len() <= settings.max_processes);
        prop_assert!(cache.tombs.len() <= settings.tombstones);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_kernel(steps in prop::collection::vec(step(), 0..200)) {
        run(&steps, Settings {
            keep_exited_ns: Some(KEEP_NS),
            keep_short_lived_ns: Some(KEEP_NS),
            ..Settings::default() })?;
    }

    #[test]
    fn agrees_under_tight_bounds(steps in prop::collection::vec(step(), 0..200)) {
        run(&steps, Settings {
            keep_exited_ns: None,
            keep_short_lived_ns: None,
            max_processes: 5,
            tombstones: 3,
            ..Settings::default()
        })?;
    }
}
