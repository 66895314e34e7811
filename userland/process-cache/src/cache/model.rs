//! The store, and what readers see of it, against a kernel of a few lines, whose events are lost,
//! repeated and late.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::Snapshot;

const INIT: Key = Key {
    start_ns: 1,
    tgid: 1,
};
const SHORT_LIVED_NS: u64 = 20;
const KEEP_SHORT_LIVED_NS: u64 = 30;
const KEEP_NS: u64 = 50;
const LISTS: [&str; 2] = ["one", "two"];

#[derive(Clone, Debug)]
enum Step {
    /// Somebody forks a child of that pid, if it is free.
    Fork {
        by: usize,
        pid: u32,
        lost: bool,
        /// Its parent is to be that of the forker: `CLONE_PARENT`.
        sibling: bool,
    },
    /// Any thread of it may call exec: it goes on as the leader.
    Exec {
        by: usize,
        lost: bool,
    },
    /// The leader exits, and other threads go on.
    LeaderExit {
        by: usize,
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
    /// One process is looked at.
    Look {
        at: usize,
    },
    Join {
        who: usize,
        list: usize,
    },
    Leave {
        who: usize,
        list: usize,
    },
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
    forkers: BTreeMap<Key, Key>,
    leaderless: BTreeSet<Key>,
    /// Whose fork event was told while it was known to live: on which lists it is.
    lists: BTreeMap<Key, BTreeSet<usize>>,
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
            leader_exited: self.leaderless.contains(&key),
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
        6 => (any::<usize>(), 2..8u32, lost(), prop::bool::weighted(0.2))
            .prop_map(|(by, pid, lost, sibling)| Step::Fork { by, pid, lost, sibling }),
        2 => (any::<usize>(), lost()).prop_map(|(by, lost)| Step::Exec { by, lost }),
        5 => (any::<usize>(), lost()).prop_map(|(by, lost)| Step::Exit { by, lost }),
        1 => any::<usize>().prop_map(|by| Step::LeaderExit { by }),
        3 => any::<usize>().prop_map(|event| Step::Again { event }),
        1 => any::<usize>().prop_map(|at| Step::Look { at }),
        1 => (any::<usize>(), 0..LISTS.len()).prop_map(|(who, list)| Step::Join { who, list }),
        1 => (any::<usize>(), 0..LISTS.len()).prop_map(|(who, list)| Step::Leave { who, list }),
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
    let reader = cache.reader();
    let mut past: Option<(Arc<Snapshot>, Vec<Process>)> = None;

    for step in steps {
        kernel.now_ns += 1;
        let now_ns = kernel.now_ns;
        let mut event = None;
        let mut is_lost = false;
        match step {
            Step::Fork {
                by,
                pid,
                lost,
                sibling,
            } => {
                let free = kernel.parents.keys().all(|key| key.tgid != *pid);
                if let (true, Some(forker)) = (free, kernel.pick(*by)) {
                    // init cannot say so.
                    let parent = if *sibling {
                        kernel.parents[&forker]
                    } else {
                        forker
                    };
                    let child = Key {
                        start_ns: now_ns,
                        tgid: *pid,
                    };
                    kernel.parents.insert(child, parent);
                    kernel.parents_at_fork.insert(child, parent);
                    kernel.forkers.insert(child, forker);
                    event = Some(Event::Fork(now_ns, kernel.sighting(child), forker));
                    is_lost = *lost;
                    if *lost {
                        kernel.unseen.insert(child);
                    }
                }
            }
            Step::Exec { by, lost } => {
                if let Some(key) = kernel.pick(*by) {
                    kernel.leaderless.remove(&key);
                    event = Some(Event::Exec(now_ns, kernel.sighting(key)));
                    is_lost = *lost;
                }
            }
            Step::LeaderExit { by } => {
                let key = kernel.pick(*by).filter(|key| *key != INIT);
                kernel.leaderless.extend(key);
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
                    kernel.leaderless.remove(&key);
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
            Step::Look { at } => {
                if let Some(key) = kernel.pick(*at) {
                    cache.preload(&kernel.sighting(key), now_ns);
                    kernel.unseen.remove(&key);
                }
            }
            Step::Join { who, list } => {
                if let Some(key) = kernel.pick(*who)
                    && cache.on_join(key, LISTS[*list], now_ns) != Outcome::Stale
                {
                    kernel.lists.entry(key).or_default().insert(*list);
                }
            }
            Step::Leave { who, list } => {
                if let Some(key) = kernel.pick(*who)
                    && cache.on_leave(key, LISTS[*list], now_ns) != Outcome::Stale
                {
                    kernel.lists.entry(key).or_default().remove(list);
                }
            }
            Step::Pass { ns } => kernel.now_ns += ns,
        }
        if let Some(event) = event.filter(|_| !is_lost) {
            tell(&mut cache, &event);
            kernel.told.push(event);
        }
        cache.expire(kernel.now_ns);
        // Who was evicted while it lived, for it was taken for dead, comes back as it is then.
        kernel.lists.retain(|key, _| cache.get(*key).is_some());

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
            if let Some(forker) = process.forker {
                prop_assert_eq!(Some(&forker), kernel.forkers.get(&key));
            }
            if let Some(exit) = process.exit {
                // How it died may have become known after it was put among the dead.
                let latest_ns = exit.noticed_ns.max(exit.time_ns.unwrap_or(0));
                let keep = if latest_ns - key.start_ns <= settings.short_lived_ns {
                    settings.keep_short_lived_ns
                } else {
                    settings.keep_exited_ns
                };
                prop_assert!(
                    keep.is_none_or(|keep| latest_ns + keep > kernel.now_ns),
                    "{key:?} was to be forgotten"
                );
            }
            let lists: BTreeSet<&str> = kernel
                .lists
                .get(&key)
                .into_iter()
                .flatten()
                .map(|list| LISTS[*list])
                .collect();
            prop_assert_eq!(process.lists().collect::<BTreeSet<_>>(), lists);
        }
        for key in kernel.parents.keys() {
            let lives = cache.get(*key).is_some_and(Process::is_alive);
            prop_assert!(lives || kernel.unseen.contains(key), "{key:?} is missing");
        }
        let dead = cache.len() - cache.alive();
        prop_assert!(dead == 0 || cache.len() <= settings.max_processes);
        prop_assert!(cache.tombs.len() <= settings.tombstones);

        if let Some((snapshot, processes)) = past {
            let now: Vec<Process> = snapshot.iter().map(|process| (**process).clone()).collect();
            prop_assert_eq!(now, processes, "a snapshot has changed");
        }
        cache.publish(kernel.now_ns);
        let snapshot = reader.snapshot();
        agree(&cache, &snapshot)?;
        let processes: Vec<Process> = snapshot.iter().map(|process| (**process).clone()).collect();
        let rebuilt = Snapshot::from_processes(processes.clone(), cache.counters(), 0);
        agree(&cache, &rebuilt)?;
        past = Some((snapshot, processes));
    }
    Ok(())
}

/// Whether a snapshot says what the cache says.
fn agree(cache: &Cache, snapshot: &Snapshot) -> Result<(), TestCaseError> {
    prop_assert_eq!(snapshot.len(), cache.len());
    prop_assert_eq!(snapshot.alive(), cache.alive());
    prop_assert_eq!(*snapshot.counters(), cache.counters());
    prop_assert_eq!(snapshot.iter().count(), cache.len());
    for process in cache.iter() {
        let key = process.key();
        prop_assert_eq!(snapshot.get(key).map(|process| &**process), Some(process));
        prop_assert_eq!(
            snapshot.by_pid(key.tgid).map(|process| process.key()),
            cache.by_pid(key.tgid).map(Process::key)
        );
        prop_assert_eq!(snapshot.parent(process), cache.parent(process));
        prop_assert_eq!(snapshot.lineage(key), cache.lineage(key));
        for key in std::iter::once(key).chain(process.lineage) {
            let children: BTreeSet<Key> = cache.children(key).map(Process::key).collect();
            prop_assert!(snapshot.children(key).eq(children), "children of {:?}", key);
        }
        // Up to somebody who has no parent, or is unknown.
        let top = snapshot.ancestors(key).last().unwrap_or(key);
        prop_assert_eq!(snapshot.lineage(top), None);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_kernel(steps in prop::collection::vec(step(), 0..200)) {
        run(&steps, Settings {
            keep_exited_ns: Some(KEEP_NS),
            short_lived_ns: SHORT_LIVED_NS,
            keep_short_lived_ns: Some(KEEP_SHORT_LIVED_NS),
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
