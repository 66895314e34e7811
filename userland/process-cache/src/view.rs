//! What readers see: a [`Snapshot`] that never changes, and the one that is current ([`Reader`]).
//!
//! The writer publishes a snapshot a batch. A snapshot shares with the one before it all that has not
//! changed; nobody waits for anybody, and whoever holds an old one holds little memory.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use imbl::OrdMap;

use crate::audit::{Bound, Population, bounds};
use crate::pid_tree::PidTree;
use crate::subscription::{Change, Hub, Subscription};
use crate::{Counters, Key, Precision, Process, TICK_NS};

/// A [`Key`], in the order of pids, and of generations of a pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    tgid: u32,
    start_ns: u64,
}

impl From<Key> for Id {
    fn from(key: Key) -> Self {
        Self {
            tgid: key.tgid,
            start_ns: key.start_ns,
        }
    }
}

/// The processes of a snapshot.
#[derive(Clone, Debug, Default)]
struct Processes {
    newest: PidTree<Arc<Process>>,
    /// Dead ones whose pid was used again: few, where pids do not run short.
    older: OrdMap<Id, Arc<Process>>,
}

impl Processes {
    fn get(&self, key: Key) -> Option<&Arc<Process>> {
        let newest = self.newest.get(key.tgid)?;
        if newest.key() == key {
            return Some(newest);
        }
        self.older.get(&Id::from(key))
    }

    fn put(&mut self, process: &Arc<Process>) {
        let key = process.key();
        match self.newest.get(key.tgid) {
            Some(newest) if newest.key().start_ns > key.start_ns => {
                self.older.insert(key.into(), Arc::clone(process));
            }
            _ => {
                let before = self.newest.insert(key.tgid, Arc::clone(process));
                if let Some(before) = before.filter(|before| before.key() != key) {
                    self.older.insert(before.key().into(), before);
                }
            }
        }
    }

    fn remove(&mut self, key: Key) {
        if self.older.remove(&Id::from(key)).is_some()
            || self
                .newest
                .get(key.tgid)
                .is_none_or(|newest| newest.key() != key)
        {
            return;
        }
        // The one before it, if there is one, is the newest now.
        match self.last_older(key.tgid, u64::MAX).cloned() {
            Some(last) => {
                self.older.remove(&Id::from(last.key()));
                self.newest.insert(key.tgid, last);
            }
            None => {
                self.newest.remove(key.tgid);
            }
        }
    }

    /// Of those whose pid was used again, the newest that started by then.
    fn last_older(&self, pid: u32, start_ns: u64) -> Option<&Arc<Process>> {
        let id = Id {
            tgid: pid,
            start_ns,
        };
        self.older
            .get_prev(&id)
            .filter(|(id, _)| id.tgid == pid)
            .map(|(_, process)| process)
    }
}

/// All processes at one moment, with whatever the cache knew of them.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    processes: Processes,
    alive: usize,
    counters: Counters,
    taken_ns: u64,
    /// Made for the first who asks: most readers look up one process.
    children: OnceLock<HashMap<Key, Vec<Key>>>,
}

impl Snapshot {
    /// One of these processes, as a client has them that was sent them.
    pub fn from_processes(
        processes: impl IntoIterator<Item = Process>,
        counters: Counters,
        taken_ns: u64,
    ) -> Self {
        let mut snapshot = Self {
            counters,
            taken_ns,
            ..Self::default()
        };
        for process in processes {
            snapshot.processes.put(&Arc::new(process));
        }
        let alive = snapshot.iter().filter(|process| process.is_alive());
        snapshot.alive = alive.count();
        snapshot
    }

    /// When it was taken, nanoseconds of `CLOCK_BOOTTIME`.
    #[must_use]
    pub fn taken_ns(&self) -> u64 {
        self.taken_ns
    }

    /// What the cache had seen and done until then.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many processes there are, living and dead.
    #[must_use]
    pub fn len(&self) -> usize {
        self.processes.newest.len() + self.processes.older.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many live.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.alive
    }

    /// The process of that key.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&Arc<Process>> {
        self.processes.get(key)
    }

    /// The newest process of that pid: the living one, if there is one.
    #[must_use]
    pub fn by_pid(&self, pid: u32) -> Option<&Arc<Process>> {
        self.processes.newest.get(pid)
    }

    /// Every process, living and dead: the newest of each pid in the order of pids, and then those
    /// whose pid was used again, likewise.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Process>> {
        let Processes { newest, older } = &self.processes;
        newest.values().chain(older.values())
    }

    /// The parent that a process has at that moment, or had when it exited; `None` if that is not
    /// known.
    ///
    /// A parent that has exited in the meantime is none: the kernel has found another, and no event
    /// says which.
    #[must_use]
    pub fn parent(&self, process: &Process) -> Option<Key> {
        let parent = self.find(process.seen.parent?, process.seen.precision)?;
        is_still_parent(parent, process).then(|| parent.key())
    }

    /// Whose child a process is listed as: of its parent at fork, or else of the first parent seen.
    /// That process may be unknown.
    #[must_use]
    pub fn lineage(&self, key: Key) -> Option<Key> {
        self.get(key)?.lineage
    }

    /// Those whose [lineage](Self::lineage) is `key`, known or not, in the order of their start.
    ///
    /// The first one to ask a snapshot sorts all of it, which takes about a millisecond for 10,000
    /// processes.
    pub fn children(&self, key: Key) -> impl Iterator<Item = Key> {
        let children = self.children.get_or_init(|| {
            let mut children: HashMap<Key, Vec<Key>> = HashMap::new();
            for process in self.iter() {
                if let Some(lineage) = process.lineage {
                    children.entry(lineage).or_default().push(process.key());
                }
            }
            for siblings in children.values_mut() {
                siblings.sort_unstable();
            }
            children
        });
        children.get(&key).into_iter().flatten().copied()
    }

    /// Its lineage, the lineage of that, and so on until nobody is known. The last one may be unknown.
    pub fn ancestors(&self, key: Key) -> impl Iterator<Item = Key> {
        // Nobody starts before its parent; but what a client was sent might say so.
        std::iter::successors(self.lineage(key), |key| self.lineage(*key)).take(self.len())
    }

    /// The bounds that slab caches, as (name, objects they have room for), set to those who live.
    ///
    /// Both were looked at one after the other, so a bound may be missed by a few who came or went.
    #[must_use]
    pub fn bounds(&self, slabs: &[(String, u64)]) -> Vec<Bound> {
        let living = self.iter().filter(|process| process.is_alive());
        let population = Population {
            processes: self.alive as u64,
            threads: living.map(|process| u64::from(process.seen.threads)).sum(),
        };
        bounds(population, slabs)
    }

    /// The process of a key that may be known with another precision.
    fn find(&self, key: Key, precision: Precision) -> Option<&Arc<Process>> {
        if precision == Precision::Nanosecond
            && let Some(process) = self.get(key)
        {
            return Some(process);
        }
        let is_it = |process: &&Arc<Process>| {
            let seen = &process.seen;
            seen.key.same(seen.precision, key, precision)
        };
        let end_ns = (key.start_ns / TICK_NS + 1).saturating_mul(TICK_NS) - 1;
        let older = || self.processes.last_older(key.tgid, end_ns);
        self.by_pid(key.tgid)
            .filter(is_it)
            .or_else(|| older().filter(is_it))
    }
}

/// Whether `parent`, whose child `process` was when last seen, was so until the end of either.
pub(crate) fn is_still_parent(parent: &Process, process: &Process) -> bool {
    match (parent.exit, process.exit) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(parent), Some(own)) => {
            parent.time_ns.unwrap_or(parent.noticed_ns) >= own.time_ns.unwrap_or(own.noticed_ns)
        }
    }
}

/// Asks for what is current. Cheap to clone; for any number of threads, none of which ever waits.
#[derive(Clone, Debug)]
pub struct Reader(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    current: ArcSwap<Snapshot>,
    hub: Hub,
}

impl Reader {
    /// The current snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.0.current.load_full()
    }

    /// The newest process of that pid: the living one, if there is one.
    #[must_use]
    pub fn by_pid(&self, pid: u32) -> Option<Arc<Process>> {
        self.0.current.load().by_pid(pid).cloned()
    }

    /// The process of that key.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<Arc<Process>> {
        self.0.current.load().get(key).cloned()
    }

    /// Has every change from now on, of which up to `capacity` may wait.
    #[must_use]
    pub fn subscribe(&self, capacity: usize) -> Subscription {
        self.0.hub.subscribe(capacity)
    }
}

/// The writer's side: what is to be in the next snapshot.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    next: Processes,
    shared: Arc<Shared>,
}

impl Publisher {
    pub(crate) fn reader(&self) -> Reader {
        Reader(Arc::clone(&self.shared))
    }

    pub(crate) fn put(&mut self, process: &Arc<Process>) {
        self.next.put(process);
    }

    pub(crate) fn remove(&mut self, key: Key) {
        self.next.remove(key);
    }

    pub(crate) fn publish(&self, alive: usize, counters: Counters, taken_ns: u64) {
        self.shared.current.store(Arc::new(Snapshot {
            processes: self.next.clone(),
            alive,
            counters,
            taken_ns,
            children: OnceLock::new(),
        }));
    }

    /// Whether there are subscribers.
    pub(crate) fn is_heard(&self) -> bool {
        !self.shared.hub.is_empty()
    }

    pub(crate) fn tell(&self, change: &Change, process: &Arc<Process>) {
        self.shared.hub.tell(change, process);
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.hub.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cache, Sighting};

    #[test]
    fn readers_see_whole_batches_while_the_writer_writes() {
        let mut cache = Cache::default();
        let reader = cache.reader();
        let stop = std::sync::atomic::AtomicBool::new(false);
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        std::thread::scope(|scope| {
            let seen = scope.spawn(|| {
                let mut last_ns = 0;
                let mut seen = 0;
                while !stop.load(relaxed) {
                    let snapshot = reader.snapshot();
                    assert!(snapshot.taken_ns() >= last_ns);
                    seen += u32::from(snapshot.taken_ns() > last_ns);
                    last_ns = snapshot.taken_ns();
                    // Every batch makes twins, and ends those of the one before.
                    let living = snapshot.iter().filter(|process| process.is_alive());
                    assert_eq!(living.count(), snapshot.alive());
                    assert_eq!(snapshot.alive(), if last_ns == 0 { 0 } else { 2 });
                    assert_eq!(snapshot.counters().forks, 2 * last_ns);
                    assert_eq!(snapshot.counters().exits, 2 * last_ns.saturating_sub(1));
                }
                seen
            });
            let twins = |batch: u64| {
                [0, 1].map(|twin| Key {
                    start_ns: batch,
                    tgid: 1 + (batch as u32 * 2 + twin) % 1000,
                })
            };
            let sighting = |key| Sighting::new(key, Precision::Nanosecond);
            for batch in 1..=20_000 {
                for key in twins(batch) {
                    cache.on_fork(batch, &sighting(key), None);
                }
                for key in twins(batch - 1).into_iter().filter(|_| batch > 1) {
                    cache.on_exit(batch, &sighting(key));
                }
                cache.expire(batch + 4_999_999_000);
                cache.publish(batch);
            }
            stop.store(true, relaxed);
            assert!(seen.join().unwrap() > 0);
        });
    }

    #[test]
    fn who_asks_later_sees_what_was_there_before() {
        let mut cache = Cache::default();
        let key = |tgid| Key { start_ns: 1, tgid };
        let child = Sighting {
            parent: Some(key(1)),
            ..Sighting::new(key(2), Precision::Nanosecond)
        };
        cache.on_fork(1, &child, Some(key(1)));
        let reader = cache.reader();
        assert!(reader.by_pid(2).is_some());
        let snapshot = reader.snapshot();
        assert!(snapshot.children(key(1)).eq([key(2)]));
        assert!(snapshot.ancestors(key(2)).eq([key(1)]));
        assert_eq!(
            snapshot.parent(&reader.get(key(2)).unwrap()),
            None,
            "it is not known"
        );
        assert_eq!((reader.by_pid(1), reader.get(key(3))), (None, None));
    }

    #[test]
    fn a_circle_of_ancestors_ends() {
        let key = |tgid| Key { start_ns: 1, tgid };
        let process = |tgid, parent| {
            let mut process = Process::new(Sighting::new(key(tgid), Precision::Nanosecond), 1);
            process.lineage = Some(key(parent));
            process
        };
        let processes = [process(1, 2), process(2, 1)];
        let snapshot = Snapshot::from_processes(processes, Counters::default(), 1);
        assert!(snapshot.ancestors(key(1)).count() <= 2);
    }
}
