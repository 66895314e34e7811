//! The store: processes by key, their children, and the rules by which they come and go.
//!
//! # Invariants
//!
//! - Of all processes of one pid, at most one lives, and it is the newest.
//! - A process whose exit was seen never lives again, whatever comes late: its key is remembered
//!   after its eviction ([`Settings::tombstones`]), and beyond that its time of death is.
//! - A process is in the list of children of its lineage: its parent at fork, or else the first
//!   parent that anybody saw. The list outlives the parent's entry, so no order of arrival matters.
//! - Only the dead are evicted.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry as MapEntry;
use slotmap::{SlotMap, new_key_type};

use crate::{Exit, Image, Key, Precision, Process, Sighting};

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

new_key_type! { struct Slot; }

/// Bytes that the maps and queues hold for a process, beside its slot: an estimate from above.
const INDEX_BYTES: usize = 160;

/// Bounds of a [`Cache`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a process stays after its exit, nanoseconds; `None` for as long as the other bounds
    /// allow.
    pub keep_exited_ns: Option<u64>,
    /// Most processes, living and dead. The living are kept even beyond it.
    pub max_processes: usize,
    /// Most bytes, by an estimate that counts shared arguments once for each sharer. The living are
    /// kept even beyond it.
    pub max_bytes: usize,
    /// Most keys remembered of processes that were evicted, 40 bytes each.
    pub tombstones: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keep_exited_ns: Some(5_000_000_000),
            max_processes: 1 << 18,
            max_bytes: 48 << 20,
            tombstones: 1 << 16,
        }
    }
}

/// What an event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It told something new.
    Applied,
    /// All of it was known.
    Known,
    /// It came too late: its process is dead and gone. Nothing changed.
    Stale,
}

/// What a walk over all tasks corrected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Processes of which the cache did not know.
    pub added: Vec<Key>,
    /// Processes that the cache held for living.
    pub ended: Vec<Key>,
    /// Processes that the cache held for dead.
    pub revived: Vec<Key>,
}

impl Repair {
    /// How many processes were corrected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.added.len() + self.ended.len() + self.revived.len()
    }

    /// Whether the cache was right.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a [`Cache`] has seen and done. They only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Forks told.
    pub forks: u64,
    /// Execs told.
    pub execs: u64,
    /// Exits told.
    pub exits: u64,
    /// Forks that are known to be lost.
    pub forks_lost: u64,
    /// Execs that are known to be lost.
    pub execs_lost: u64,
    /// Exits that are known to be lost.
    pub exits_lost: u64,
    /// Events that came after their process was dead and gone.
    pub stale: u64,
    /// Walks merged.
    pub walks: u64,
    /// Processes that a walk found and no event had told.
    ///
    /// One whose fork event comes later was not missed, and is taken off again.
    pub added: u64,
    /// Processes that a walk found gone and no event had told, reuse of their pid included.
    ///
    /// One whose exit event comes later was not missed, and is taken off again.
    pub ended: u64,
    /// Processes taken for dead that a walk found living.
    pub revived: u64,
    /// Dead processes evicted because their time was over.
    pub expired: u64,
    /// Dead processes evicted before their time, because a bound was reached.
    pub evicted: u64,
}

impl Counters {
    /// Events of any kind that are known to be lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.forks_lost + self.execs_lost + self.exits_lost
    }
}

#[derive(Debug)]
struct Entry {
    process: Process,
    /// Whose child it is listed as.
    lineage: Option<Key>,
    next_sibling: Option<Slot>,
    previous_sibling: Option<Slot>,
    /// Processes that had this pid before and after.
    older: Option<Slot>,
    newer: Option<Slot>,
    /// Which place in the queue of the dead is its own; 0 while it lives.
    death: u64,
    /// The last walk that showed it.
    walk: u64,
    /// A repairing walk added it, and its fork event may still come: a task is on the list of tasks
    /// a moment before it is told of.
    ahead: bool,
    /// A walk ended it, and its exit event may still come: a process has no thread left a moment
    /// before it is told of.
    ended_by_walk: bool,
    /// Its share of [`Cache::bytes`].
    bytes: usize,
}

#[derive(Clone, Copy, Debug)]
struct Tombstone {
    noticed_ns: u64,
    observed: bool,
}

/// Every process that is known, by key and by pid. See the [module](self) for what always holds.
#[derive(Debug)]
pub struct Cache {
    settings: Settings,
    entries: SlotMap<Slot, Entry>,
    by_key: HashMap<Key, Slot>,
    /// The newest process of each pid.
    by_pid: HashMap<u32, Slot>,
    /// The youngest-listed child of each lineage.
    first_child: HashMap<Key, Slot>,
    /// The dead, in the order in which their exits were noticed: a slot, its death, and when.
    dead: VecDeque<(Slot, u64, u64)>,
    deaths: u64,
    alive: usize,
    bytes: usize,
    tombs: HashMap<Key, Tombstone>,
    tomb_order: VecDeque<Key>,
    /// Who died before this and is not here is not remembered at all.
    horizon_ns: u64,
    needs_repair: bool,
    counters: Counters,
}

impl Default for Cache {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            entries: SlotMap::with_key(),
            by_key: HashMap::new(),
            by_pid: HashMap::new(),
            first_child: HashMap::new(),
            dead: VecDeque::new(),
            deaths: 0,
            alive: 0,
            bytes: 0,
            tombs: HashMap::new(),
            tomb_order: VecDeque::new(),
            horizon_ns: 0,
            needs_repair: false,
            counters: Counters::default(),
        }
    }

    // ---- events

    /// A process was made, at `time_ns`, by `forker`.
    pub fn on_fork(&mut self, time_ns: u64, child: &Sighting, forker: Option<Key>) -> Outcome {
        self.counters.forks += 1;
        let outcome = if let Some(slot) = self.find(child.key, child.precision) {
            self.rekey(slot, child);
            let process = &mut self.entries[slot].process;
            if process.parent_at_fork.is_some() || process.forker.is_some() {
                return Outcome::Known;
            }
            process.parent_at_fork = child.parent;
            process.forker = forker;
            if std::mem::take(&mut self.entries[slot].ahead) {
                // Nothing was missed: the walk was ahead of the event.
                self.counters.added -= 1;
            }
            if child.parent.is_some() {
                self.set_lineage(slot, child.parent);
            }
            Outcome::Applied
        } else if self.is_gone(child, time_ns) {
            return self.stale();
        } else {
            let image = forker
                .and_then(|key| self.find(key, child.precision))
                .and_then(|slot| self.entries[slot].process.image.clone());
            let slot = self.insert(child, time_ns);
            let process = &mut self.entries[slot].process;
            process.parent_at_fork = child.parent;
            process.forker = forker;
            process.image = image;
            self.account(slot);
            Outcome::Applied
        };
        self.shrink();
        outcome
    }

    /// A process began, at `time_ns`, to run `image`.
    pub fn on_exec(&mut self, time_ns: u64, process: &Sighting, image: Image) -> Outcome {
        self.counters.execs += 1;
        let slot = match self.find(process.key, process.precision) {
            Some(slot) => {
                self.rekey(slot, process);
                slot
            }
            None if self.is_gone(process, time_ns) => return self.stale(),
            None => {
                self.needs_repair = true;
                self.insert(process, time_ns)
            }
        };
        let known = &mut self.entries[slot].process;
        if known.exec_ns.is_some_and(|latest| latest >= time_ns) {
            return Outcome::Known;
        }
        known.execs += 1;
        known.exec_ns = Some(time_ns);
        known.image = Some(Arc::new(image));
        self.see(slot, process, time_ns);
        self.account(slot);
        self.shrink();
        Outcome::Applied
    }

    /// The last thread of a process exited at `time_ns`.
    pub fn on_exit(&mut self, time_ns: u64, process: &Sighting) -> Outcome {
        self.counters.exits += 1;
        let slot = match self.find(process.key, process.precision) {
            Some(slot) => {
                self.rekey(slot, process);
                slot
            }
            None if self.tombs.contains_key(&process.key) => return self.stale(),
            None => self.insert(process, time_ns),
        };
        match self.entries[slot].process.exit {
            Some(exit) if exit.observed => return Outcome::Known,
            earlier => {
                if std::mem::take(&mut self.entries[slot].ended_by_walk) {
                    // Nothing was missed: the walk was ahead of the event.
                    self.counters.ended -= 1;
                }
                self.see(slot, process, time_ns);
                let noticed_ns = earlier.map_or(time_ns, |exit| exit.noticed_ns);
                self.end(
                    slot,
                    Exit {
                        time_ns: Some(time_ns),
                        noticed_ns,
                        status: process.exit_status,
                        observed: true,
                    },
                );
            }
        }
        self.shrink();
        Outcome::Applied
    }

    /// So many events of each kind are known to be lost.
    pub fn on_lost(&mut self, forks: u64, execs: u64, exits: u64) {
        self.counters.forks_lost += forks;
        self.counters.execs_lost += execs;
        self.counters.exits_lost += exits;
        self.needs_repair |= forks + execs + exits != 0;
    }

    // ---- walks

    /// Takes in one process that somebody saw at `seen_ns`, without concluding anything about others.
    ///
    /// Tells whether it was new, or known and taken for dead.
    pub fn preload(&mut self, seen: &Sighting, seen_ns: u64) -> Outcome {
        let mut repair = Repair::default();
        self.take_in(seen, seen_ns, seen_ns, &mut repair);
        self.shrink();
        if repair.is_empty() {
            Outcome::Known
        } else {
            Outcome::Applied
        }
    }

    /// Takes in a whole walk over all processes that began at `began_ns`; it is now `now_ns`.
    ///
    /// Every event that happened before `began_ns` should have been applied already, so drain the
    /// events between walking and merging. Whoever lived before the walk and is not in it has died
    /// unseen.
    pub fn merge(&mut self, walk: &[Sighting], began_ns: u64, now_ns: u64) -> Repair {
        self.counters.walks += 1;
        self.needs_repair = false;
        let mut repair = Repair::default();
        for seen in walk {
            self.take_in(seen, began_ns, now_ns, &mut repair);
        }
        // Parents last: a walk need not show them before their children.
        for seen in walk {
            if let Some(slot) = self.find(seen.key, seen.precision) {
                self.adopt(slot, seen);
            }
        }
        let walk = self.counters.walks;
        let gone: Vec<Slot> = self
            .entries
            .iter()
            .filter(|(_, entry)| {
                entry.process.is_alive()
                    && entry.walk != walk
                    && entry.process.key().start_ns < began_ns
                    // Its start is set a moment before it is on the list of tasks.
                    && entry.process.seen_ns < began_ns
            })
            .map(|(slot, _)| slot)
            .collect();
        for slot in gone {
            repair.ended.push(self.entries[slot].process.key());
            self.count_ended(slot);
            self.end(
                slot,
                Exit {
                    time_ns: None,
                    noticed_ns: now_ns,
                    status: None,
                    observed: false,
                },
            );
        }
        self.shrink();
        repair
    }

    /// Says what a process runs that was started before anybody watched; an exec seen knows better.
    pub fn set_image(&mut self, key: Key, image: Image) {
        let Some(slot) = self.find(key, Precision::Nanosecond) else {
            return;
        };
        let process = &mut self.entries[slot].process;
        if process.execs == 0 && process.image.as_deref() != Some(&image) {
            process.image = Some(Arc::new(image));
            self.account(slot);
            self.shrink();
        }
    }

    // ---- time

    /// Lets the dead go whose time is over at `now_ns`.
    pub fn expire(&mut self, now_ns: u64) {
        let Some(keep) = self.settings.keep_exited_ns else {
            return;
        };
        while let Some(&(slot, death, noticed_ns)) = self.dead.front() {
            let valid = self
                .entries
                .get(slot)
                .is_some_and(|entry| entry.death == death);
            if valid && noticed_ns.saturating_add(keep) > now_ns {
                break;
            }
            self.dead.pop_front();
            if valid {
                self.counters.expired += 1;
                self.evict(slot);
            }
        }
    }

    // ---- questions

    /// The process of that key.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&Process> {
        self.by_key
            .get(&key)
            .map(|slot| &self.entries[*slot].process)
    }

    /// The newest process of that pid: the living one, if there is one.
    #[must_use]
    pub fn by_pid(&self, pid: u32) -> Option<&Process> {
        self.by_pid
            .get(&pid)
            .map(|slot| &self.entries[*slot].process)
    }

    /// The parent that a process has now, or had when it exited; `None` if that is not known.
    ///
    /// A parent that has exited in the meantime is none: the kernel has found another, and no event
    /// says which.
    #[must_use]
    pub fn parent(&self, process: &Process) -> Option<Key> {
        let key = process.seen.parent?;
        let slot = self.find(key, process.seen.precision)?;
        let parent = &self.entries[slot].process;
        let still = match (parent.exit, process.exit) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(parent), Some(own)) => {
                parent.time_ns.unwrap_or(parent.noticed_ns) >= own.time_ns.unwrap_or(own.noticed_ns)
            }
        };
        still.then(|| parent.key())
    }

    /// Whose child a process is listed as: of its parent at fork, or else of the first parent seen.
    /// That process may be unknown.
    #[must_use]
    pub fn lineage(&self, key: Key) -> Option<Key> {
        self.by_key
            .get(&key)
            .and_then(|slot| self.entries[*slot].lineage)
    }

    /// The processes whose [lineage](Self::lineage) is `key`, known or not, the last found first.
    pub fn children(&self, key: Key) -> impl Iterator<Item = &Process> {
        let mut next = self.first_child.get(&key).copied();
        std::iter::from_fn(move || {
            let entry = &self.entries[next?];
            next = entry.next_sibling;
            Some(&entry.process)
        })
    }

    /// Everybody who descends from `key`, without itself, in no particular order.
    #[must_use]
    pub fn descendants(&self, key: Key) -> Vec<Key> {
        let mut found: Vec<Key> = self.children(key).map(Process::key).collect();
        let mut next = 0;
        while next < found.len() {
            let parent = found[next];
            found.extend(self.children(parent).map(Process::key));
            next += 1;
        }
        found
    }

    /// Every process, living and dead, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Process> {
        self.entries.values().map(|entry| &entry.process)
    }

    /// How many there are, living and dead.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many live.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.alive
    }

    /// Bytes in use, estimated from above.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What was seen and done.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether something is known to be missing, so that a walk should be merged.
    #[must_use]
    pub fn needs_repair(&self) -> bool {
        self.needs_repair
    }

    // ---- inside

    /// The entry of a key that may be known with another precision.
    fn find(&self, key: Key, precision: Precision) -> Option<Slot> {
        if precision == Precision::Nanosecond
            && let Some(slot) = self.by_key.get(&key)
        {
            return Some(*slot);
        }
        let mut next = self.by_pid.get(&key.tgid).copied();
        while let Some(slot) = next {
            let entry = &self.entries[slot];
            if entry
                .process
                .key()
                .same(entry.process.seen.precision, key, precision)
            {
                return Some(slot);
            }
            next = entry.older;
        }
        None
    }

    fn stale(&mut self) -> Outcome {
        self.counters.stale += 1;
        Outcome::Stale
    }

    /// Whether what is not here must have died already, or cannot be told from it.
    ///
    /// In the second case a walk is asked for, which knows.
    fn is_gone(&mut self, seen: &Sighting, time_ns: u64) -> bool {
        let reused = self.by_pid.get(&seen.key.tgid).is_some_and(|slot| {
            let newest = &self.entries[*slot].process;
            newest.key().start_ns > seen.key.start_ns
        });
        if reused || self.tombs.contains_key(&seen.key) {
            return true;
        }
        let forgotten = time_ns < self.horizon_ns;
        self.needs_repair |= forgotten;
        forgotten
    }

    /// Enters a living process; whoever had its pid has died unseen.
    fn insert(&mut self, seen: &Sighting, seen_ns: u64) -> Slot {
        let key = seen.key;
        let slot = self.entries.insert(Entry {
            process: Process::new(seen.clone(), seen_ns),
            lineage: None,
            next_sibling: None,
            previous_sibling: None,
            older: None,
            newer: None,
            death: 0,
            walk: 0,
            ahead: false,
            ended_by_walk: false,
            bytes: 0,
        });
        self.alive += 1;
        self.by_key.insert(key, slot);

        // The chain of this pid, newest first.
        let mut newer = None;
        let mut older = self.by_pid.get(&key.tgid).copied();
        while let Some(at) = older
            && self.entries[at].process.key().start_ns > key.start_ns
        {
            newer = older;
            older = self.entries[at].older;
        }
        self.entries[slot].older = older;
        self.entries[slot].newer = newer;
        if let Some(older) = older {
            self.entries[older].newer = Some(slot);
        }
        match newer {
            Some(newer) => self.entries[newer].older = Some(slot),
            None => {
                self.by_pid.insert(key.tgid, slot);
            }
        }
        // At most one lives, and it is the newest. (Only an exit enters an older one.)
        if let Some(ended) = older
            && self.entries[ended].process.is_alive()
        {
            self.count_ended(ended);
            self.end(
                ended,
                Exit {
                    time_ns: None,
                    noticed_ns: seen_ns,
                    status: None,
                    observed: false,
                },
            );
        }

        self.set_lineage(slot, seen.parent);
        self.account(slot);
        slot
    }

    fn count_ended(&mut self, slot: Slot) {
        self.counters.ended += 1;
        self.entries[slot].ended_by_walk = true;
    }

    fn take_in(&mut self, seen: &Sighting, seen_ns: u64, now_ns: u64, repair: &mut Repair) {
        let slot = match self.find(seen.key, seen.precision) {
            Some(slot) => {
                self.rekey(slot, seen);
                let entry = &self.entries[slot];
                let is_newest = entry.newer.is_none();
                if let Some(exit) = entry.process.exit
                    && !seen.dead
                    && !exit.observed
                    && exit.noticed_ns < seen_ns
                    && is_newest
                {
                    self.entries[slot].process.exit = None;
                    self.entries[slot].death = 0;
                    self.entries[slot].ended_by_walk = false;
                    self.alive += 1;
                    self.counters.revived += 1;
                    repair.revived.push(self.entries[slot].process.key());
                }
                slot
            }
            None => {
                let tomb = self.tombs.get(&seen.key);
                if tomb.is_some_and(|tomb| tomb.observed || seen.dead || tomb.noticed_ns >= seen_ns)
                {
                    return;
                }
                let reused = self.by_pid.get(&seen.key.tgid).is_some_and(|slot| {
                    self.entries[*slot].process.key().start_ns > seen.key.start_ns
                });
                if reused {
                    // The walk saw it, and it made room for a newer process before the merge.
                    return;
                }
                self.counters.added += 1;
                repair.added.push(seen.key);
                let slot = self.insert(seen, seen_ns);
                // The first walk comes before anything can be missed.
                self.entries[slot].ahead = self.counters.walks > 1;
                slot
            }
        };
        self.entries[slot].walk = self.counters.walks;
        if self.entries[slot].process.is_alive() {
            self.see(slot, seen, seen_ns);
            if seen.dead {
                if repair.added.last() != Some(&seen.key) {
                    self.count_ended(slot);
                    repair.ended.push(self.entries[slot].process.key());
                }
                self.end(
                    slot,
                    Exit {
                        time_ns: None,
                        noticed_ns: now_ns,
                        status: seen.exit_status,
                        observed: false,
                    },
                );
            }
        }
    }

    /// Updates what is known of a process, unless something newer is.
    fn see(&mut self, slot: Slot, seen: &Sighting, seen_ns: u64) {
        let process = &mut self.entries[slot].process;
        if process.seen_ns > seen_ns {
            return;
        }
        process.seen.renew(seen);
        process.seen_ns = seen_ns;
        self.adopt(slot, seen);
    }

    /// Gives a process the parent that it is seen with, and a lineage if it has none.
    fn adopt(&mut self, slot: Slot, seen: &Sighting) {
        let Some(parent) = seen.parent else { return };
        let known = self
            .find(parent, seen.precision)
            .map(|slot| self.entries[slot].process.key());
        let parent = known.unwrap_or(parent);
        let entry = &mut self.entries[slot];
        if entry.process.seen.parent == seen.parent {
            entry.process.seen.parent = Some(parent);
        }
        let guessed = entry.process.parent_at_fork.is_none();
        if entry.lineage.is_none() || (guessed && entry.lineage == seen.parent) {
            self.set_lineage(slot, Some(parent));
        }
    }

    /// Learns the nanoseconds of a process that was known by a tick.
    fn rekey(&mut self, slot: Slot, seen: &Sighting) {
        let process = &mut self.entries[slot].process;
        if seen.precision != Precision::Nanosecond
            || process.seen.precision == Precision::Nanosecond
        {
            return;
        }
        let old = process.key();
        process.seen.key = seen.key;
        process.seen.precision = Precision::Nanosecond;
        if old == seen.key {
            return;
        }
        self.by_key.remove(&old);
        self.by_key.insert(seen.key, slot);
        let children: Vec<Slot> = self.child_slots(old);
        for child in children {
            let process = &mut self.entries[child].process;
            if process.seen.parent == Some(old) {
                process.seen.parent = Some(seen.key);
            }
            if process.parent_at_fork == Some(old) {
                process.parent_at_fork = Some(seen.key);
            }
            self.set_lineage(child, Some(seen.key));
        }
    }

    fn child_slots(&self, key: Key) -> Vec<Slot> {
        let first = self.first_child.get(&key).copied();
        std::iter::successors(first, |slot| self.entries[*slot].next_sibling).collect()
    }

    /// Moves a process to the children of `lineage`.
    fn set_lineage(&mut self, slot: Slot, lineage: Option<Key>) {
        let lineage = lineage.filter(|key| *key != self.entries[slot].process.key());
        if self.entries[slot].lineage == lineage {
            return;
        }
        self.unlink_lineage(slot);
        self.entries[slot].lineage = lineage;
        if let Some(key) = lineage {
            match self.first_child.entry(key) {
                MapEntry::Occupied(mut first) => {
                    let next = first.insert(slot);
                    self.entries[slot].next_sibling = Some(next);
                    self.entries[next].previous_sibling = Some(slot);
                }
                MapEntry::Vacant(vacant) => {
                    vacant.insert(slot);
                }
            }
        }
    }

    fn unlink_lineage(&mut self, slot: Slot) {
        let entry = &mut self.entries[slot];
        let Some(key) = entry.lineage.take() else {
            return;
        };
        let (previous, next) = (entry.previous_sibling.take(), entry.next_sibling.take());
        if let Some(next) = next {
            self.entries[next].previous_sibling = previous;
        }
        match (previous, next) {
            (Some(previous), _) => self.entries[previous].next_sibling = next,
            (None, Some(next)) => {
                self.first_child.insert(key, next);
            }
            (None, None) => {
                self.first_child.remove(&key);
            }
        }
    }

    /// Marks a process as dead, or corrects how it died.
    fn end(&mut self, slot: Slot, exit: Exit) {
        let entry = &mut self.entries[slot];
        let lived = entry.process.exit.replace(exit).is_none();
        if lived {
            self.alive -= 1;
            self.deaths += 1;
            entry.death = self.deaths;
            self.dead.push_back((slot, self.deaths, exit.noticed_ns));
        }
    }

    /// Brings the count of bytes up to date with what the entry holds.
    fn account(&mut self, slot: Slot) {
        let entry = &mut self.entries[slot];
        let bytes = size_of::<Entry>() + INDEX_BYTES + entry.process.heap_bytes();
        self.bytes = self.bytes - entry.bytes + bytes;
        entry.bytes = bytes;
    }

    /// Evicts the dead, the first to die first, until the bounds are kept or nobody dead is left.
    fn shrink(&mut self) {
        while self.entries.len() > self.settings.max_processes
            || self.bytes > self.settings.max_bytes
        {
            let Some((slot, death, _)) = self.dead.pop_front() else {
                return;
            };
            if self
                .entries
                .get(slot)
                .is_some_and(|entry| entry.death == death)
            {
                self.counters.evicted += 1;
                self.evict(slot);
            }
        }
    }

    /// Forgets a dead process, all but its key.
    fn evict(&mut self, slot: Slot) {
        self.unlink_lineage(slot);
        let Some(entry) = self.entries.remove(slot) else {
            return;
        };
        let key = entry.process.key();
        self.bytes -= entry.bytes;
        self.by_key.remove(&key);
        if let Some(older) = entry.older {
            self.entries[older].newer = entry.newer;
        }
        match (entry.newer, entry.older) {
            (Some(newer), older) => self.entries[newer].older = older,
            (None, Some(older)) => {
                self.by_pid.insert(key.tgid, older);
            }
            (None, None) => {
                self.by_pid.remove(&key.tgid);
            }
        }
        if let Some(exit) = entry.process.exit {
            self.bury(key, exit);
        }
    }

    fn bury(&mut self, key: Key, exit: Exit) {
        let tomb = Tombstone {
            noticed_ns: exit.noticed_ns,
            observed: exit.observed,
        };
        if self.tombs.insert(key, tomb).is_none() {
            self.tomb_order.push_back(key);
        }
        while self.tomb_order.len() > self.settings.tombstones {
            let Some(oldest) = self.tomb_order.pop_front() else {
                return;
            };
            if let Some(tomb) = self.tombs.remove(&oldest) {
                self.horizon_ns = self.horizon_ns.max(tomb.noticed_ns);
            }
        }
    }

    /// What is wrong with the indexes; for tests.
    #[cfg(test)]
    fn check(&self) -> Result<(), String> {
        let mut alive = 0;
        let mut bytes = 0;
        let mut listed = 0;
        for (slot, entry) in &self.entries {
            let process = &entry.process;
            let key = process.key();
            alive += usize::from(process.is_alive());
            bytes += entry.bytes;
            listed += usize::from(entry.lineage.is_some());
            if self.by_key.get(&key) != Some(&slot) {
                return Err(format!("{key:?} is not found by its key"));
            }
            if process.is_alive() && self.by_pid.get(&key.tgid) != Some(&slot) {
                return Err(format!("{key:?} lives and is not the newest of its pid"));
            }
            if process.is_alive() != (entry.death == 0) {
                return Err(format!("{key:?} has a wrong place among the dead"));
            }
            if entry
                .older
                .is_some_and(|older| self.entries[older].newer != Some(slot))
            {
                return Err(format!("{key:?} is not the successor of its predecessor"));
            }
            if entry.lineage == Some(key) {
                return Err(format!("{key:?} is its own child"));
            }
            if let Some(lineage) = entry.lineage
                && !self.child_slots(lineage).contains(&slot)
            {
                return Err(format!("{key:?} is not among the children of {lineage:?}"));
            }
        }
        let children: usize = self
            .first_child
            .keys()
            .map(|key| self.child_slots(*key).len())
            .sum();
        let chained: usize = self
            .by_pid
            .values()
            .map(|slot| {
                std::iter::successors(Some(*slot), |slot| self.entries[*slot].older).count()
            })
            .sum();
        for (name, found, wanted) in [
            ("alive", alive, self.alive),
            ("bytes", bytes, self.bytes),
            ("children", children, listed),
            ("by key", self.by_key.len(), self.entries.len()),
            ("by pid", chained, self.entries.len()),
            ("tombs", self.tombs.len(), self.tomb_order.len()),
        ] {
            if found != wanted {
                return Err(format!("{name}: {found} counted, {wanted} kept"));
            }
        }
        Ok(())
    }
}
