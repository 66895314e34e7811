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

use crate::pid_tree::PidTree;
use crate::subscription::{Change, What};
use crate::view::{Publisher, Reader, is_still_parent};
use crate::{Exit, Image, Key, Precision, Process, Settings, Sighting, TICK_NS};

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

new_key_type! { pub(crate) struct Slot; }

/// Bytes that the maps and queues, snapshots and the allocator's rounding take for a process, beside
/// its slot: from above, so that the bound holds for what `cache.churn.rss` measures.
const INDEX_BYTES: usize = 320;

/// Most changes that wait to be published.
const BATCH_MAX: usize = 4096;

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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
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
    /// Processes taken for dead that a walk or an exec showed living.
    pub revived: u64,
    /// Dead processes evicted because their time was over.
    pub expired: u64,
    /// Dead processes evicted before their time, because there were too many.
    pub evicted_by_number: u64,
    /// Dead processes evicted before their time, because they took too many bytes.
    pub evicted_by_bytes: u64,
    /// Audits that found something wrong.
    pub audits_failed: u64,
}

impl Counters {
    /// Events of any kind that are known to be lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.forks_lost + self.execs_lost + self.exits_lost
    }

    /// Dead processes evicted before their time.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted_by_number + self.evicted_by_bytes
    }
}

#[derive(Debug)]
struct Entry {
    /// The key of the process, and how well it is known: to be found without a look at the process.
    key: Key,
    precision: Precision,
    /// Readers may hold it, too: a change then makes a copy.
    process: Arc<Process>,
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
    /// It has changed since the last snapshot.
    dirty: bool,
    /// It is in the last snapshot.
    shown: bool,
    /// Its image is its own, not that of whom it was forked from.
    owns_image: bool,
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
    /// The newest process of each pid. In the order of pids, those that are told of together are in
    /// the CPU's cache together.
    by_pid: PidTree<Slot>,
    /// The youngest-listed child of each lineage.
    first_child: HashMap<Key, Slot>,
    dead: [Dead; 2],
    deaths: u64,
    alive: usize,
    bytes: usize,
    tombs: HashMap<Key, Tombstone>,
    tomb_order: VecDeque<Key>,
    /// Who died before this and is not here is not remembered at all.
    horizon_ns: u64,
    needs_repair: bool,
    /// Whose pid the last event showed reused.
    displaced: Option<Key>,
    counters: Counters,
    /// Nobody pays for snapshots before there is a reader.
    publisher: Option<Publisher>,
    /// Those to put into the next snapshot; some may be gone again.
    dirty: Vec<Slot>,
    /// Those to leave out of it.
    removed: Vec<Key>,
}

/// The dead of one class, in the order in which their exits were noticed: a slot, its death, and
/// when.
type Dead = VecDeque<(Slot, u64, u64)>;

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
            by_pid: PidTree::default(),
            first_child: HashMap::new(),
            dead: Default::default(),
            deaths: 0,
            alive: 0,
            bytes: 0,
            tombs: HashMap::new(),
            tomb_order: VecDeque::new(),
            horizon_ns: 0,
            needs_repair: false,
            displaced: None,
            counters: Counters::default(),
            publisher: None,
            dirty: Vec::new(),
            removed: Vec::new(),
        }
    }

    /// Other bounds from now on. They are kept from the next event or [`expire`](Self::expire) on.
    pub fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    // ---- events

    /// A process was made, at `time_ns`, by `forker`.
    pub fn on_fork(&mut self, time_ns: u64, child: &Sighting, forker: Option<Key>) -> Outcome {
        self.counters.forks += 1;
        self.displaced = None;
        let outcome = if let Some(slot) = self.find(child.key, child.precision) {
            self.rekey(slot, child);
            let process = &self.entries[slot].process;
            if process.parent_at_fork.is_some() || process.forker.is_some() {
                return Outcome::Known;
            }
            let process = self.change(slot);
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
            let process = self.change(slot);
            process.parent_at_fork = child.parent;
            process.forker = forker;
            process.image = image;
            self.account(slot);
            Outcome::Applied
        };
        self.changed(time_ns, What::Forked, child.key);
        outcome
    }

    /// A process began, at `time_ns`, to run `image`.
    pub fn on_exec(&mut self, time_ns: u64, process: &Sighting, image: Image) -> Outcome {
        self.counters.execs += 1;
        self.displaced = None;
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
        let known = &self.entries[slot].process;
        if known.exec_ns.is_some_and(|latest| latest >= time_ns) {
            return Outcome::Known;
        }
        if self.is_refuted(slot, time_ns) {
            self.revive(slot);
        }
        let known = self.change(slot);
        known.execs += 1;
        known.exec_ns = Some(time_ns);
        known.image = Some(Arc::new(image));
        self.entries[slot].owns_image = true;
        self.see(slot, process, time_ns);
        self.account(slot);
        self.changed(time_ns, What::Executed, process.key);
        Outcome::Applied
    }

    /// The last thread of a process exited at `time_ns`.
    pub fn on_exit(&mut self, time_ns: u64, process: &Sighting) -> Outcome {
        self.counters.exits += 1;
        self.displaced = None;
        let slot = match self.find(process.key, process.precision) {
            Some(slot) => {
                self.rekey(slot, process);
                slot
            }
            None if self.tomb(process).is_some() => return self.stale(),
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
        self.changed(time_ns, What::Exited, process.key);
        Outcome::Applied
    }

    /// A walk begins, to be merged: it will mend whatever is known by now to be wrong.
    pub fn begin_repair(&mut self) {
        self.needs_repair = false;
    }

    /// Something is known to be wrong: a walk should be merged.
    pub fn ask_for_repair(&mut self) {
        self.needs_repair = true;
    }

    /// An audit has found something wrong: a walk should be merged.
    pub fn on_audit_failed(&mut self) {
        self.counters.audits_failed += 1;
        self.needs_repair = true;
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
        self.displaced = None;
        self.take_in(seen, seen_ns, seen_ns, &mut repair);
        let key = seen.key;
        let changes = [
            (What::Found, repair.added),
            (What::Gone, repair.ended),
            (What::Revived, repair.revived),
        ];
        let Some((what, _)) = changes.iter().find(|(_, keys)| !keys.is_empty()) else {
            return Outcome::Known;
        };
        self.changed(seen_ns, *what, key);
        Outcome::Applied
    }

    /// Takes in a whole walk over all processes that began at `began_ns`; it is now `now_ns`.
    ///
    /// Every event that happened before `began_ns` should have been applied already, so drain the
    /// events between walking and merging. Whoever lived before the walk and is not in it has died
    /// unseen.
    pub fn merge(&mut self, walk: &[Sighting], began_ns: u64, now_ns: u64) -> Repair {
        self.merge_partial(walk, &[], began_ns, now_ns)
    }

    /// Like [`merge`](Self::merge), of a walk that met some pids and could not read them: nothing is
    /// concluded about those.
    pub fn merge_partial(
        &mut self,
        walk: &[Sighting],
        unread: &[u32],
        began_ns: u64,
        now_ns: u64,
    ) -> Repair {
        self.counters.walks += 1;
        let mut repair = Repair::default();
        for seen in walk {
            self.take_in(seen, began_ns, now_ns, &mut repair);
            repair.ended.extend(self.displaced.take());
        }
        for pid in unread {
            if let Some(slot) = self.by_pid.get(*pid) {
                self.entries[*slot].walk = self.counters.walks;
            }
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
                    && entry.key.start_ns < began_ns
                    // Its start is set a moment before it is on the list of tasks.
                    && entry.process.seen_ns < began_ns
            })
            .map(|(slot, _)| slot)
            .collect();
        for slot in gone {
            repair.ended.push(self.entries[slot].key);
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

    /// Says what a process was found to run when it was looked at from `looked_ns` on: one that was
    /// started before anybody watched, or whose exec was lost. An exec seen since knows better.
    pub fn set_image(&mut self, key: Key, image: Image, looked_ns: u64) {
        let Some(slot) = self.find(key, Precision::Nanosecond) else {
            return;
        };
        let process = &self.entries[slot].process;
        let is_older = process.exec_ns.is_none_or(|exec_ns| exec_ns < looked_ns);
        if is_older && process.image.as_deref() != Some(&image) {
            self.change(slot).image = Some(Arc::new(image));
            self.entries[slot].owns_image = true;
            self.account(slot);
            self.shrink();
        }
    }

    // ---- time

    /// Lets the dead go whose time is over at `now_ns`.
    pub fn expire(&mut self, now_ns: u64) {
        for class in 0..self.dead.len() {
            while let Some((slot, over_ns)) = self.first_dead(class)
                && over_ns <= now_ns
            {
                self.dead[class].pop_front();
                self.counters.expired += 1;
                self.evict(slot);
            }
        }
    }

    // ---- readers

    /// What reads this cache from other threads, by the snapshots that [`publish`](Self::publish)
    /// makes. The first call publishes one.
    pub fn reader(&mut self) -> Reader {
        if let Some(publisher) = &self.publisher {
            return publisher.reader();
        }
        let publisher = Publisher::default();
        let reader = publisher.reader();
        self.publisher = Some(publisher);
        for slot in self.entries.keys().collect::<Vec<_>>() {
            self.mark(slot);
        }
        self.publish(0);
        reader
    }

    /// Shows readers the cache as it is, at `now_ns`. Costs as much as has changed since the last
    /// time.
    ///
    /// Done unasked where much has changed, so that what changed takes bounded memory.
    pub fn publish(&mut self, now_ns: u64) {
        let Some(publisher) = &mut self.publisher else {
            return;
        };
        for key in self.removed.drain(..) {
            publisher.remove(key);
        }
        for slot in self.dirty.drain(..) {
            if let Some(entry) = self.entries.get_mut(slot) {
                entry.dirty = false;
                entry.shown = true;
                publisher.put(&entry.process);
            }
        }
        publisher.publish(self.alive, self.counters, now_ns);
    }

    /// Tells subscribers of what a walk has corrected.
    ///
    /// Events tell them on their own; a walk does not, because what the processes run has still to be
    /// read ([`set_image`](Self::set_image)).
    pub fn announce(&self, change: &Change) {
        if let Some(publisher) = &self.publisher
            && publisher.is_heard()
            && let Some(slot) = self.find(change.key, Precision::Nanosecond)
        {
            publisher.tell(change, &self.entries[slot].process);
        }
    }

    // ---- questions

    /// The process of that key.
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&Process> {
        self.find(key, Precision::Nanosecond)
            .map(|slot| &*self.entries[slot].process)
    }

    /// The newest process of that pid: the living one, if there is one.
    #[must_use]
    pub fn by_pid(&self, pid: u32) -> Option<&Process> {
        self.by_pid
            .get(pid)
            .map(|slot| &*self.entries[*slot].process)
    }

    /// The process that had that pid at `time_ns`, if it is known: what goes with an event that names
    /// but a pid.
    #[must_use]
    pub fn living_at(&self, pid: u32, time_ns: u64) -> Option<Key> {
        let newest = self.by_pid.get(pid).copied();
        std::iter::successors(newest, |slot| self.entries[*slot].older)
            .map(|slot| self.entries[slot].key)
            .find(|key| key.start_ns <= time_ns)
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
        is_still_parent(parent, process).then(|| parent.key())
    }

    /// Whose child a process is listed as: of its parent at fork, or else of the first parent seen.
    /// That process may be unknown.
    #[must_use]
    pub fn lineage(&self, key: Key) -> Option<Key> {
        self.get(key)?.lineage
    }

    /// The processes whose [lineage](Self::lineage) is `key`, known or not, the last found first.
    pub fn children(&self, key: Key) -> impl Iterator<Item = &Process> {
        let mut next = self.first_child.get(&key).copied();
        std::iter::from_fn(move || {
            let entry = &self.entries[next?];
            next = entry.next_sibling;
            Some(&*entry.process)
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
        self.entries.values().map(|entry| &*entry.process)
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

    pub(crate) fn process(&self, slot: Slot) -> &Process {
        &self.entries[slot].process
    }

    /// The entry of a key that may be known with another precision.
    pub(crate) fn find(&self, key: Key, precision: Precision) -> Option<Slot> {
        let mut next = self.by_pid.get(key.tgid).copied();
        while let Some(slot) = next {
            let entry = &self.entries[slot];
            if entry.key.same(entry.precision, key, precision) {
                return Some(slot);
            }
            if entry.key.start_ns.saturating_add(TICK_NS) <= key.start_ns {
                // The others are older still.
                return None;
            }
            next = entry.older;
        }
        None
    }

    /// The tombstone of a key that may be known with another precision.
    fn tomb(&self, seen: &Sighting) -> Option<&Tombstone> {
        let exact = self.tombs.get(&seen.key);
        if exact.is_some() || seen.precision == Precision::Nanosecond {
            return exact;
        }
        // Of whom only a tick is known, there are few where nanoseconds are known of others.
        let mut tombs = self.tombs.iter();
        let same = |key: &Key| key.same(Precision::Nanosecond, seen.key, seen.precision);
        tombs.find(|(key, _)| same(key)).map(|(_, tomb)| tomb)
    }

    fn stale(&mut self) -> Outcome {
        self.counters.stale += 1;
        Outcome::Stale
    }

    /// Whether what is not here must have died already, or cannot be told from it.
    ///
    /// In the second case a walk is asked for, which knows.
    fn is_gone(&mut self, seen: &Sighting, time_ns: u64) -> bool {
        let reused = self
            .by_pid
            .get(seen.key.tgid)
            .is_some_and(|slot| self.entries[*slot].key.start_ns > seen.key.start_ns);
        if reused || self.tomb(seen).is_some() {
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
            key,
            precision: seen.precision,
            process: Arc::new(Process::new(seen.clone(), seen_ns)),
            next_sibling: None,
            previous_sibling: None,
            older: None,
            newer: None,
            death: 0,
            walk: 0,
            ahead: false,
            ended_by_walk: false,
            dirty: false,
            shown: false,
            owns_image: false,
            bytes: 0,
        });
        self.alive += 1;

        // The chain of this pid, newest first.
        let mut newer = None;
        let mut older = self.by_pid.get(key.tgid).copied();
        while let Some(at) = older
            && self.entries[at].key.start_ns > key.start_ns
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
            let key = self.entries[ended].key;
            self.end(
                ended,
                Exit {
                    time_ns: None,
                    noticed_ns: seen_ns,
                    status: None,
                    observed: false,
                },
            );
            self.displaced = Some(key);
        }

        self.set_lineage(slot, seen.parent);
        self.account(slot);
        slot
    }

    fn count_ended(&mut self, slot: Slot) {
        self.counters.ended += 1;
        self.entries[slot].ended_by_walk = true;
    }

    /// Whether a process cannot be dead that was seen to live at `seen_ns`.
    fn is_refuted(&self, slot: Slot, seen_ns: u64) -> bool {
        let entry = &self.entries[slot];
        let exit = entry.process.exit;
        exit.is_some_and(|exit| !exit.observed && exit.noticed_ns < seen_ns)
            && entry.newer.is_none()
    }

    fn revive(&mut self, slot: Slot) {
        self.change(slot).exit = None;
        self.entries[slot].death = 0;
        self.entries[slot].ended_by_walk = false;
        self.alive += 1;
        self.counters.revived += 1;
    }

    fn take_in(&mut self, seen: &Sighting, seen_ns: u64, now_ns: u64, repair: &mut Repair) {
        let slot = match self.find(seen.key, seen.precision) {
            Some(slot) => {
                self.rekey(slot, seen);
                if !seen.dead && self.is_refuted(slot, seen_ns) {
                    self.revive(slot);
                    repair.revived.push(self.entries[slot].key);
                }
                slot
            }
            None => {
                // Died so long ago that it is not remembered; a zombie may stay for ever.
                if seen.dead && seen.key.start_ns < self.horizon_ns {
                    return;
                }
                let tomb = self.tomb(seen);
                if tomb.is_some_and(|tomb| tomb.observed || seen.dead || tomb.noticed_ns >= seen_ns)
                {
                    return;
                }
                let reused = self
                    .by_pid
                    .get(seen.key.tgid)
                    .is_some_and(|slot| self.entries[*slot].key.start_ns > seen.key.start_ns);
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
                    repair.ended.push(self.entries[slot].key);
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
        if self.entries[slot].process.seen_ns > seen_ns {
            return;
        }
        let process = self.change(slot);
        process.seen.renew(seen);
        process.seen_ns = seen_ns;
        // Whose child it is cannot become better known; most events end here.
        let settled = process.lineage.is_some() && process.lineage == process.parent_at_fork;
        if !(settled && seen.precision == Precision::Nanosecond) {
            self.adopt(slot, seen);
        }
    }

    /// Gives a process the parent that it is seen with, and a lineage if it has none.
    fn adopt(&mut self, slot: Slot, seen: &Sighting) {
        let Some(parent) = seen.parent else { return };
        let known = self
            .find(parent, seen.precision)
            .map(|slot| self.entries[slot].key);
        let parent = known.unwrap_or(parent);
        let process = &self.entries[slot].process;
        let guessed = process.parent_at_fork.is_none();
        let orphan = process.lineage.is_none() || (guessed && process.lineage == seen.parent);
        if process.seen.parent == seen.parent && seen.parent != Some(parent) {
            self.change(slot).seen.parent = Some(parent);
        }
        if orphan {
            self.set_lineage(slot, Some(parent));
        }
    }

    /// Learns the nanoseconds of a process that was known by a tick.
    fn rekey(&mut self, slot: Slot, seen: &Sighting) {
        let entry = &mut self.entries[slot];
        if seen.precision != Precision::Nanosecond
            || entry.process.seen.precision == Precision::Nanosecond
        {
            return;
        }
        let old = std::mem::replace(&mut entry.key, seen.key);
        entry.precision = seen.precision;
        if std::mem::take(&mut entry.shown) {
            self.removed.push(old);
        }
        let process = self.change(slot);
        process.seen.key = seen.key;
        process.seen.precision = Precision::Nanosecond;
        if old == seen.key {
            return;
        }
        let children: Vec<Slot> = self.child_slots(old);
        for child in children {
            let process = self.change(child);
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
        let lineage = lineage.filter(|key| *key != self.entries[slot].key);
        if self.entries[slot].process.lineage == lineage {
            return;
        }
        self.unlink_lineage(slot);
        self.change(slot).lineage = lineage;
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
        let Some(key) = entry.process.lineage else {
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
        let process = self.change(slot);
        let lived = process.exit.replace(exit).is_none();
        if lived {
            let class = usize::from(!self.is_short_lived(slot));
            self.alive -= 1;
            self.deaths += 1;
            self.entries[slot].death = self.deaths;
            self.dead[class].push_back((slot, self.deaths, exit.noticed_ns));
        }
    }

    /// Whom the last event or [`preload`](Self::preload) proved to be gone, because its pid has been
    /// reused. Subscribers have been told.
    pub fn take_displaced(&mut self) -> Option<Key> {
        self.displaced.take()
    }

    /// After an event: tells of it, and keeps to the bounds.
    fn changed(&mut self, time_ns: u64, what: What, key: Key) {
        if let Some(key) = self.displaced {
            let what = What::Gone;
            self.announce(&Change { time_ns, what, key });
        }
        self.announce(&Change { time_ns, what, key });
        self.shrink();
        if self.dirty.len() + self.removed.len() >= BATCH_MAX {
            self.publish(time_ns);
        }
    }

    /// Whether a dead process lived no longer than that is called.
    fn is_short_lived(&self, slot: Slot) -> bool {
        let process = &self.entries[slot].process;
        let died_ns = process
            .exit
            .map_or(u64::MAX, |exit| exit.time_ns.unwrap_or(exit.noticed_ns));
        died_ns.saturating_sub(process.key().start_ns) <= self.settings.short_lived_ns
    }

    /// A process, to be changed.
    pub(crate) fn change(&mut self, slot: Slot) -> &mut Process {
        self.mark(slot);
        Arc::make_mut(&mut self.entries[slot].process)
    }

    /// Has a process in the next snapshot.
    fn mark(&mut self, slot: Slot) {
        let dirty = &mut self.entries[slot].dirty;
        if self.publisher.is_some() && !std::mem::replace(dirty, true) {
            self.dirty.push(slot);
        }
    }

    /// Brings the count of bytes up to date with what the entry holds.
    pub(crate) fn account(&mut self, slot: Slot) {
        let entry = &mut self.entries[slot];
        let bytes = size_of::<Entry>()
            + INDEX_BYTES
            + size_of::<Process>()
            + entry.process.heap_bytes(entry.owns_image);
        self.bytes = self.bytes - entry.bytes + bytes;
        entry.bytes = bytes;
    }

    /// The first of the dead of a class, and when its time is over.
    fn first_dead(&mut self, class: usize) -> Option<(Slot, u64)> {
        let keep = match class {
            0 => self.settings.keep_short_lived_ns,
            _ => self.settings.keep_exited_ns,
        };
        while let Some(&(slot, death, noticed_ns)) = self.dead[class].front() {
            let entry = self.entries.get(slot);
            if entry.is_some_and(|entry| entry.death == death) {
                return Some((
                    slot,
                    keep.map_or(u64::MAX, |keep| noticed_ns.saturating_add(keep)),
                ));
            }
            // It lives again, or its place in the queue is another.
            self.dead[class].pop_front();
        }
        None
    }

    /// Evicts the dead, whose time is over first, until the bounds are kept or nobody dead is left.
    pub(crate) fn shrink(&mut self) {
        loop {
            let by_number = self.entries.len() > self.settings.max_processes;
            if !by_number && self.bytes <= self.settings.max_bytes {
                return;
            }
            let firsts = [self.first_dead(0), self.first_dead(1)];
            let first = (0..firsts.len())
                .filter_map(|class| firsts[class].map(|(slot, over_ns)| (over_ns, class, slot)))
                .min_by_key(|(over_ns, ..)| *over_ns);
            let Some((_, class, slot)) = first else {
                return;
            };
            self.dead[class].pop_front();
            if by_number {
                self.counters.evicted_by_number += 1;
            } else {
                self.counters.evicted_by_bytes += 1;
            }
            self.evict(slot);
        }
    }

    /// Forgets a dead process, all but its key.
    fn evict(&mut self, slot: Slot) {
        self.unlink_lineage(slot);
        let Some(entry) = self.entries.remove(slot) else {
            return;
        };
        let key = entry.key;
        self.bytes -= entry.bytes;
        if entry.shown {
            self.removed.push(key);
        }
        if let Some(older) = entry.older {
            self.entries[older].newer = entry.newer;
        }
        match (entry.newer, entry.older) {
            (Some(newer), older) => self.entries[newer].older = older,
            (None, Some(older)) => {
                self.by_pid.insert(key.tgid, older);
            }
            (None, None) => {
                self.by_pid.remove(key.tgid);
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
            if (entry.key, entry.precision) != (key, process.seen.precision) {
                return Err(format!("{key:?} is entered as {:?}", entry.key));
            }
            alive += usize::from(process.is_alive());
            bytes += entry.bytes;
            listed += usize::from(process.lineage.is_some());
            if self.find(key, Precision::Nanosecond) != Some(slot) {
                return Err(format!("{key:?} is not found by its key"));
            }
            if process.is_alive() && self.by_pid.get(key.tgid) != Some(&slot) {
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
            if process.lineage == Some(key) {
                return Err(format!("{key:?} is its own child"));
            }
            if let Some(lineage) = process.lineage
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
