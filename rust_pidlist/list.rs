//! A list: a PID set that follows forks by itself, and remembers who came and went.
//!
//! # No child is lost in silence
//!
//! A fork may not wait for memory. If the reserve has no chunk for a child, one is asked for on the
//! spot; if there is none to be had, the child is counted as failed and put on a waiting list, from
//! which it moves into the set as soon as the reserve is filled. Waiting, it is a member like any
//! other. Only if that list overflows is a child no member for a while: it is counted as overflowed,
//! and a walk over the tasks adds the children of members made since. Such a walk guesses: it cannot
//! find a child whose parent has exited by then, and takes in who was forked before his parent was
//! added, or removed by a user in this while. So a list that has overflowed says so for ever; one
//! that has not has lost nobody.
//!
//! # Pids that are used again
//!
//! The kernel gives a pid to someone else before it reports that the old task was freed. So a fork
//! decides about its child either way, member or not, and a freed task's pid leaves only if no
//! task has that pid by then. An exec by a thread other than the leader gives its number up, too; if
//! another task gets that before either report of the exec came, the membership ends with it.
//!
//! # Locking
//!
//! One lock per list, the set's, covers membership, the waiting list and the events; whoever changes
//! one of them looks and acts under it in one go. Look-ups take it only while someone waits. The rules
//! change under it as well, but may be read without.

use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Relaxed, Release};

use crate::abi;
use crate::events::{Log, Piece, Record};
use crate::family::Family;
use crate::reserve::Reserve;
use crate::sys::chunks::{ChunkCache, Mode, Slab};
use crate::sys::clock::boottime_ns;
use crate::sys::deferred::{Deferred, Upkeep};
use crate::sys::raw_lock::RawSpinLock;
use crate::sys::task::{self, Kind, Presence, Task};
use crate::sys::wait_queue::WaitQueue;
use crate::tree::{leaf_of, Batch, Chunks, Guarded, NoChunk, PidSet, FIXTURES};

type Set = PidSet<Slab, RawSpinLock<Guarded<Slab, Beside>>, Beside>;
type Writer<'a> = crate::tree::Writer<'a, Slab>;

/// What one child can need.
const FOR_ONE: Chunks = Chunks { uppers: 1, leaves: 1 };

/// One thing to do to a list. Ids are pids of the initial namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Add(u32),
    /// Passes over one that does not live.
    AddIfThere(u32),
    Remove(u32),
    Nothing,
}

/// Why there are not enough chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    Memory,
    /// The list's own bound.
    Bound,
}

impl From<Lack> for Error {
    fn from(lack: Lack) -> Self {
        match lack {
            Lack::Memory => ENOMEM,
            Lack::Bound => ENOSPC,
        }
    }
}

/// A list that may ask for its own upkeep.
pub(crate) type List = Deferred<State>;

/// What a list is made of.
pub(crate) struct State {
    set: Set,
    kind: Kind,
    /// [`abi::Rules::flags`] but for the kind's; written under the lock.
    rules: Atomic<u32>,
    /// Written under the lock.
    bytes_max: Atomic<u64>,
    /// Members that wait for a chunk; written under the lock, after the set.
    waiting: Atomic<u32>,
    /// Nobody joins any more; written under the lock.
    removed: Atomic<bool>,
    /// The number of the next event; written under the lock.
    next_event: Atomic<u64>,
    event_readers: Atomic<u32>,
    event_queue: Pin<KBox<WaitQueue>>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    refills: Count,
    failed: Count,
    repaired: Count,
    overflowed: Count,
    found: Count,
    followed: Count,
    left: Count,
    events_lost: Count,
}

struct Count(Atomic<u64>);

impl Default for Count {
    fn default() -> Self {
        Self(Atomic::new(0))
    }
}

impl Count {
    fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What the lock protects besides the set. No pid is both waiting and in the set.
pub(crate) struct Beside {
    waiting: Waiting,
    execs: Execs,
    reserve: Reserve,
    /// When the first child was made for whom even the waiting list had no room, in nanoseconds of
    /// `CLOCK_BOOTTIME`.
    overflowed_ns: Option<u64>,
    /// From the first reader on.
    log: Option<Log>,
}

impl Beside {
    /// Takes note that who was made at `started_ns` is not even waiting. Forks are not reported in the
    /// order of these times.
    fn overflowed(&mut self, started_ns: u64) {
        let earliest = self.overflowed_ns.get_or_insert(started_ns);
        *earliest = started_ns.min(*earliest);
    }
}

/// Members that found no chunk, ascending: room for [`Waiting::MOST`], allocated beforehand.
struct Waiting(KVec<u32>);

impl Waiting {
    const MOST: usize = 512;

    fn new() -> Result<Self> {
        Ok(Self(KVec::with_capacity(Self::MOST, GFP_KERNEL_ACCOUNT)?))
    }

    fn has(&self, id: u32) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    /// The first one from `from` on.
    fn next(&self, from: u32) -> Option<u32> {
        self.0.get(self.0.partition_point(|&w| w < from)).copied()
    }

    /// Adds one that does not wait yet; returns whether there was room.
    fn push(&mut self, id: u32) -> bool {
        let at = self.0.partition_point(|&w| w < id);
        let fits = self.0.push_within_capacity(id).is_ok();
        if fits {
            self.0[at..].rotate_right(1);
        }
        fits
    }

    fn remove(&mut self, id: u32) -> bool {
        self.0.binary_search(&id).is_ok_and(|i| self.0.remove(i).is_ok())
    }
}

/// An exec by a thread other than the leader.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Exec {
    /// The number it had before, and has now: that of its group.
    old: u32,
    new: u32,
    /// That of the group.
    started_ns: u64,
}

/// Execs of members that were reported by the leader's end, and not yet by the thread itself.
struct Execs(KVec<Exec>);

impl Execs {
    /// The thread's own report follows when its program is loaded. No machine makes so many execs of
    /// this kind meanwhile.
    const MOST: usize = 256;

    fn new(kind: Kind) -> Result<Self> {
        let room = if kind == Kind::Thread { Self::MOST } else { 0 };
        Ok(Self(KVec::with_capacity(room, GFP_KERNEL_ACCOUNT)?))
    }

    /// Forgets the oldest one if there is no room. Allocates nothing.
    fn push(&mut self, exec: Exec) {
        if self.0.len() == Self::MOST {
            let _ = self.0.remove(0);
        }
        let _ = self.0.push_within_capacity(exec);
    }

    /// Forgets it; returns whether it was known.
    fn take(&mut self, exec: Exec) -> bool {
        let found = self.0.iter().position(|&known| known == exec);
        found.is_some_and(|i| self.0.remove(i).is_ok())
    }

    /// Forgets those of a group that is gone.
    fn forget(&mut self, new: u32, started_ns: u64) {
        self.0.retain(|exec| (exec.new, exec.started_ns) != (new, started_ns));
    }
}

/// An empty list with these rules, to be pinned. May sleep.
///
/// # Errors
///
/// As for [`State::set_rules`].
pub(crate) fn new(rules: u32, bytes_max: u64) -> Result<impl PinInit<List>> {
    let kind = if rules & abi::RULE_THREADS != 0 { Kind::Thread } else { Kind::Process };
    let beside = Beside {
        waiting: Waiting::new()?,
        execs: Execs::new(kind)?,
        reserve: Reserve::new(),
        overflowed_ns: None,
        log: None,
    };
    let state = State {
        set: Set::new(beside, RawSpinLock::new, Mode::Sleep).ok_or(ENOMEM)?,
        kind,
        rules: Atomic::new(0),
        bytes_max: Atomic::new(abi::BYTES_DEFAULT),
        waiting: Atomic::new(0),
        removed: Atomic::new(false),
        next_event: Atomic::new(1),
        event_readers: Atomic::new(0),
        event_queue: KBox::pin_init(WaitQueue::new(), GFP_KERNEL)?,
        counters: Counters::default(),
    };
    state.set_rules(rules, bytes_max)?;
    state.refill(Chunks { uppers: 1, leaves: Reserve::LEAST }, Mode::Sleep)?;
    Ok(Deferred::new(state))
}

// For users.
impl State {
    /// Whether `id` is a member. Any context but NMI.
    pub(crate) fn has(&self, id: u32) -> bool {
        // Pids only ever move from waiting to the set: who is not seen waiting is in the set by now.
        if self.waiting.load(Acquire) == 0 {
            self.set.has(id)
        } else {
            self.set.write(|_, beside| self.is_member(beside, id))
        }
    }

    /// The first member from `from` on. Any context but NMI.
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        if self.waiting.load(Acquire) == 0 {
            return self.set.next(from);
        }
        self.set.write(|_, beside| {
            [self.set.next(from), beside.waiting.next(from)].into_iter().flatten().min()
        })
    }

    /// What the list holds.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// [`abi::Rules::flags`] in force. Any context.
    pub(crate) fn rules(&self) -> u32 {
        let kind = match self.kind {
            Kind::Process => 0,
            Kind::Thread => abi::RULE_THREADS,
        };
        self.rules.load(Relaxed) | kind
    }

    /// Whether the list was removed. Any context.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Acquire)
    }

    /// Applies all of `changes`, in their order and in one step, or none; returns how many of them
    /// changed something. May sleep.
    ///
    /// There are at most [`abi::BATCH_MAX`] of them: interrupts are off meanwhile.
    ///
    /// # Errors
    ///
    /// `ESRCH` if a task to add is not there, `ENOMEM` if there is no memory for them all, `ENOSPC` if
    /// there may not be, `EINTR` for a signal, `ENODEV` for a removed list.
    pub(crate) fn apply(&self, changes: &mut [Change]) -> Result<usize> {
        // One pid of every leaf there has to be, ascending.
        let mut adds: KVec<u32> = KVec::new();
        for change in changes.iter_mut() {
            let (Change::Add(id) | Change::AddIfThere(id)) = *change else { continue };
            match (settle(self.kind, id), *change) {
                (Err(error), Change::AddIfThere(_)) if error == ESRCH => {
                    *change = Change::Nothing;
                    continue;
                }
                (result, _) => result?,
            }
            if let Err(i) = adds.binary_search_by_key(&leaf_of(id), |&a| leaf_of(a)) {
                adds.push(id, GFP_KERNEL)?;
                adds[i..].rotate_right(1);
            }
        }
        let mut changed = 0;
        loop {
            let applied = self.change(|set, beside| {
                if self.is_removed() {
                    return Err(ENODEV);
                }
                let missing = set.free().missing(set.need(adds.iter().copied()));
                if missing.total() > 0 {
                    return Ok(missing);
                }
                for change in changes.iter() {
                    match *change {
                        Change::Add(id) | Change::AddIfThere(id) => {
                            if !self.is_member(beside, id) {
                                // There are chunks for all of them; removals only give some back.
                                let _ = set.set(id);
                                self.record(beside, abi::EVENT_ADDED, id);
                                changed += 1;
                            }
                        }
                        Change::Remove(id) => {
                            if self.remove(set, beside, id) {
                                self.record(beside, abi::EVENT_REMOVED, id);
                                changed += 1;
                            }
                        }
                        Change::Nothing => {}
                    }
                }
                Ok(missing)
            });
            let missing = applied?;
            if missing.total() == 0 {
                break;
            }
            self.refill(missing, Mode::Sleep)?;
        }
        for change in changes.iter() {
            if let Change::Add(id) | Change::AddIfThere(id) = *change {
                // One that was freed between the look and the set had its event before it was in.
                if self.remove_if_gone(id) {
                    self.counters.left.add(1);
                }
            }
        }
        Ok(changed)
    }

    /// Adds, or removes, processes and all their descendants; of a list of threads, all their
    /// threads. May sleep.
    ///
    /// Up to [`abi::BATCH_MAX`] of them in one step; more, piece by piece. On a list that follows, those
    /// that are forked meanwhile come after that step.
    ///
    /// # Errors
    ///
    /// Those of [`Self::apply`]; `EAGAIN` if the tree grows faster than it is found.
    pub(crate) fn apply_tree(&self, roots: &[u32], adding: bool) -> Result {
        for &root in roots.iter().filter(|_| adding) {
            settle(Kind::Process, root)?;
        }
        let mut family = Family::of(roots)?;
        // A round finds those that were forked before the last one made a member of their parent.
        for _ in 0..32 {
            let mut changes = KVVec::new();
            for id in family.ids(self.kind)? {
                if self.has(id) != adding {
                    let change = if adding { Change::AddIfThere(id) } else { Change::Remove(id) };
                    changes.push(change, GFP_KERNEL)?;
                }
            }
            // Who was being made may have come in by his fork event by now.
            let mut changed = 0;
            for piece in changes.chunks_mut(abi::BATCH_MAX as usize) {
                changed += self.apply(piece)?;
            }
            if changed == 0 || self.rules() & abi::RULE_FOLLOW == 0 {
                return Ok(());
            }
            // On the spot, so that nobody forks again before; a round sees to whom it misses.
            family.grow(|process| {
                // One who is being made has his fork event still to come.
                if process.is_new() {
                    return;
                }
                self.change(|set, beside| {
                    let id = process.tgid();
                    if adding && task::has_id(process, self.kind, id) && !self.is_removed() {
                        if !self.is_member(beside, id) && set.set(id).is_ok() {
                            self.record(beside, abi::EVENT_ADDED, id);
                        }
                    } else if !adding && self.remove(set, beside, id) {
                        self.record(beside, abi::EVENT_REMOVED, id);
                    }
                });
            })?;
        }
        Err(EAGAIN)
    }

    /// Removes every member, in one step. Any context but NMI.
    ///
    /// # Errors
    ///
    /// `ENODEV` for a removed list.
    pub(crate) fn clear(&self) -> Result {
        self.change(|set, beside| {
            if self.is_removed() {
                return Err(ENODEV);
            }
            self.clear_locked(set, beside);
            self.record(beside, abi::EVENT_CLEARED, 0);
            Ok(())
        })
    }

    /// Ends the list: it is empty, stays empty, and tells its readers. May sleep.
    pub(crate) fn end(&self) {
        let log = self.change(|set, beside| {
            self.removed.store(true, Release);
            self.clear_locked(set, beside);
            // Readers may still read what there was.
            if self.event_readers.load(Relaxed) == 0 { beside.log.take() } else { None }
        });
        drop(log);
        self.event_queue.wake();
    }

    /// Sets [`abi::Rules`]; a bound of 0 leaves it as it is. Any context but NMI.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a flag that is not known, another kind, or too low a bound; `ENODEV` for a removed
    /// list.
    pub(crate) fn set_rules(&self, flags: u32, bytes_max: u64) -> Result {
        let changeable = abi::RULE_FOLLOW | abi::RULE_EXCLUDE;
        let same_kind = (flags ^ self.rules()) & abi::RULE_THREADS == 0;
        if flags & !(changeable | abi::RULE_THREADS) != 0 || !same_kind {
            return Err(EINVAL);
        }
        if bytes_max != 0 && bytes_max < abi::BYTES_MIN {
            return Err(EINVAL);
        }
        self.set.write(|_, beside| {
            if self.is_removed() {
                return Err(ENODEV);
            }
            self.rules.store(flags & changeable, Relaxed);
            if flags & abi::RULE_FOLLOW == 0 {
                beside.overflowed_ns = None;
            }
            if bytes_max != 0 {
                self.bytes_max.store(bytes_max, Relaxed);
            }
            Ok(())
        })
    }

    /// What the list has done and holds. Any context but NMI.
    pub(crate) fn stats(&self) -> abi::Stats {
        self.set.write(|set, beside| {
            let (used, free) = (set.used(), set.free());
            let log = if beside.log.is_some() { Log::bytes() } else { 0 };
            let execs = beside.execs.0.capacity() * size_of::<Exec>();
            let fixed = size_of::<List>() + Waiting::MOST * size_of::<u32>() + execs + log;
            abi::Stats {
                members: set.members() + beside.waiting.0.len() as u64,
                chunks_used: used.total() as u64,
                chunks_free: free.total() as u64,
                reserve: beside.reserve.full() as u64,
                refills: self.counters.refills.get(),
                failed: self.counters.failed.get(),
                repaired: self.counters.repaired.get(),
                overflowed: self.counters.overflowed.get(),
                found: self.counters.found.get(),
                waiting: beside.waiting.0.len() as u64,
                followed: self.counters.followed.get(),
                left: self.counters.left.get(),
                bytes: fixed as u64 + set_bytes(set),
                bytes_max: self.bytes_max.load(Relaxed),
                events: self.next_event.load(Relaxed) - 1,
                events_lost: self.counters.events_lost.get(),
                event_readers: u64::from(self.event_readers.load(Relaxed)),
                rules: u64::from(self.rules()),
            }
        })
    }
}

// For readers of events.
impl State {
    /// Counts a reader in who begins with event `from`, or if that is 0 with the next one there will be;
    /// returns its number. May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a number that no event had yet; `ENOMEM`, or `ENODEV` for a removed list.
    pub(crate) fn begin_reading(&self, from: u64) -> Result<u64> {
        let mut log = None;
        if self.set.write(|_, beside| beside.log.is_none()) {
            log = Some(Log::new()?);
        }
        // A log that another was faster to bring is dropped after the lock is released.
        self.set.write(|_, beside| {
            if self.is_removed() {
                return Err(ENODEV);
            }
            let next = self.next_event.load(Relaxed);
            if from > next {
                return Err(EINVAL);
            }
            if beside.log.is_none() {
                beside.log = log.take();
            }
            self.event_readers.fetch_add(1, Relaxed);
            Ok(if from == 0 { next } else { from })
        })
    }

    /// Counts a reader out. May sleep.
    pub(crate) fn end_reading(&self) {
        let log = self.set.write(|_, beside| {
            let last = self.event_readers.fetch_sub(1, Relaxed) == 1;
            if last && self.is_removed() { beside.log.take() } else { None }
        });
        drop(log);
    }

    /// Copies events from number `from` on. Any context but NMI.
    pub(crate) fn read_events(&self, from: u64, to: &mut [Record]) -> Piece {
        self.set.write(|_, beside| match &beside.log {
            Some(log) => log.read(from, to),
            None => Piece { first: from, len: 0, lost: 0 },
        })
    }

    /// Counts events that a reader missed. Any context.
    pub(crate) fn count_lost(&self, events: u64) {
        self.counters.events_lost.add(events);
    }

    /// Whether reading event `number` would not wait. Any context.
    pub(crate) fn is_readable(&self, number: u64) -> bool {
        number < self.next_event.load(Acquire) || self.is_removed()
    }

    /// Who waits for events, or for the list to be removed.
    pub(crate) fn event_queue(&self) -> &WaitQueue {
        &self.event_queue
    }
}

// With the lock held.
impl State {
    fn is_member(&self, beside: &Beside, id: u32) -> bool {
        self.set.has(id) || beside.waiting.has(id)
    }

    /// Removes `id`; returns whether it was a member.
    fn remove(&self, set: &mut Writer<'_>, beside: &mut Beside, id: u32) -> bool {
        if set.clear(id) {
            return true;
        }
        let waited = beside.waiting.remove(id);
        if waited {
            // It was a member until the end.
            self.counters.repaired.add(1);
            self.waiting.store(beside.waiting.0.len() as u32, Release);
        }
        waited
    }

    fn clear_locked(&self, set: &mut Writer<'_>, beside: &mut Beside) {
        set.clear_all();
        self.counters.repaired.add(beside.waiting.0.len() as u64);
        beside.waiting.0.clear();
        beside.overflowed_ns = None;
        self.waiting.store(0, Release);
    }

    /// Makes member `id` wait for a chunk; returns whether there was room.
    fn wait(&self, beside: &mut Beside, id: u32, started_ns: u64) -> bool {
        self.counters.failed.add(1);
        let fits = beside.waiting.push(id);
        if fits {
            self.waiting.store(beside.waiting.0.len() as u32, Release);
        } else {
            self.counters.overflowed.add(1);
            beside.overflowed(started_ns);
        }
        fits
    }

    fn record(&self, beside: &mut Beside, kind: u32, id: u32) {
        if let Some(log) = &mut beside.log {
            log.push(Record { time_ns: boottime_ns(), id, kind });
            self.next_event.store(log.next(), Release);
        }
    }

    /// Chunks that the list may still get.
    fn room(&self, set: &Writer<'_>) -> usize {
        let left = self.bytes_max.load(Relaxed).saturating_sub(set_bytes(set));
        left as usize / ChunkCache::object_size()
    }
}

// For the kernel's events.
impl State {
    /// Takes the lock to change the membership, then wakes those who want to know. Any context but
    /// NMI, with no raw lock held.
    fn change<R>(&self, f: impl FnOnce(&mut Writer<'_>, &mut Beside) -> R) -> R {
        let result = self.set.write(f);
        if self.event_readers.load(Relaxed) != 0 {
            self.event_queue.wake();
        }
        result
    }

    /// Removes `id` unless a task has it; returns whether it was a member.
    fn remove_if_gone(&self, id: u32) -> bool {
        self.change(|set, beside| {
            let removed =
                task::presence(self.kind, id) == Presence::Gone && self.remove(set, beside, id);
            if removed {
                self.record(beside, abi::EVENT_FREED, id);
            }
            removed
        })
    }

    /// Decides whether child `id` is a member, and makes it one if there is a chunk for it, or if it
    /// `may_wait` for one.
    fn decide(&self, parent: u32, id: u32, started_ns: u64, may_wait: bool) -> Result<Fork, NoChunk> {
        self.change(|set, beside| {
            let follow = self.rules.load(Relaxed) & abi::RULE_FOLLOW != 0 && !self.is_removed();
            let parent_is_in = self.is_member(beside, parent);
            // The pid's last owner may still be a member.
            if self.remove(set, beside, id) {
                self.counters.left.add(1);
                self.record(beside, abi::EVENT_FREED, id);
            }
            if !(follow && parent_is_in) {
                return Ok(Fork::NotFollowed);
            }
            let in_set = set.set(id);
            if in_set.is_err() && !may_wait {
                return Err(NoChunk);
            }
            if in_set.is_ok() || self.wait(beside, id, started_ns) {
                self.counters.followed.add(1);
                self.record(beside, abi::EVENT_FORKED, id);
            }
            let low = Chunks { uppers: 1, leaves: beside.reserve.low_water() };
            Ok(Fork::Followed { low: set.free().missing(low).total() > 0 })
        })
    }

    /// The reaction to a fork; returns whether the list wants its upkeep. Any context but NMI, with
    /// no raw lock held.
    pub(crate) fn forked(&self, parent: u32, id: u32, started_ns: u64) -> bool {
        // Most forks are none of this list's business; that takes no lock to see.
        if !(self.has(parent) || self.has(id)) {
            return false;
        }
        let decided = self.decide(parent, id, started_ns, false).or_else(|NoChunk| {
            let missing = self.set.write(|set, _| set.free().missing(set.need([id].into_iter())));
            let _ = self.refill(missing, Mode::Atomic);
            self.decide(parent, id, started_ns, true)
        });
        matches!(decided, Ok(Fork::Followed { low: true }))
    }

    /// Adds `missing` chunks to the reserve.
    fn refill(&self, missing: Chunks, mode: Mode) -> Result<(), Lack> {
        let wanted = missing.total();
        if wanted == 0 {
            return Ok(());
        }
        if self.set.write(|set, _| self.room(set)) < wanted {
            return Err(Lack::Bound);
        }
        let (batch, whole) = Batch::alloc(missing, mode);
        let refused = self.set.write(|set, _| {
            // Another may have been faster.
            if self.room(set) < wanted {
                return Some(batch);
            }
            set.refill(batch);
            None
        });
        if refused.is_some() {
            return Err(Lack::Bound);
        }
        self.counters.refills.add(1);
        if whole {
            Ok(())
        } else {
            Err(Lack::Memory)
        }
    }

    /// Fills the reserve up and moves waiting members into the set; returns whether that is done, as
    /// far as the list's bound allows.
    fn catch_up(&self, mode: Mode) -> bool {
        loop {
            let missing = self.set.write(|set, beside| {
                let free = set.free();
                let full = Chunks { uppers: 1, leaves: beside.reserve.full() };
                let (all, one) = (free.missing(full), free.missing(FOR_ONE));
                if all.total() > self.room(set) {
                    one
                } else {
                    all
                }
            });
            let filled = self.refill(missing, mode);
            let left = self.set.write(|set, beside| {
                let waiting = &mut beside.waiting.0;
                while waiting.last().is_some_and(|&id| set.set(id).is_ok()) {
                    waiting.pop();
                    self.counters.repaired.add(1);
                }
                self.waiting.store(waiting.len() as u32, Release);
                waiting.len()
            });
            match filled {
                Ok(()) if left > 0 => {}
                Ok(()) => return true,
                Err(Lack::Bound) => return left == 0,
                Err(Lack::Memory) => return false,
            }
        }
    }

    /// Adds the children that members have made since `since_ns`, after the waiting list has
    /// overflowed; returns whether that was all: there was a chunk for each, and each was made. May
    /// sleep.
    ///
    /// Which thread has made another is not known by now: the leader is taken for it.
    fn walk(&self, since_ns: u64) -> bool {
        loop {
            let (mut added, mut starved, mut unsettled) = (0, false, false);
            task::each(self.kind, |task| {
                if task.started_ns() < since_ns {
                    return true;
                }
                let id = task.id(self.kind);
                let parent =
                    if task.is_leader() { task.parent_id(self.kind) } else { task.tgid() };
                // One who is being made may have his fork event still to come, or be one who was not
                // even waiting: another walk will tell.
                if task.is_new() {
                    unsettled |= self.rules() & abi::RULE_FOLLOW != 0
                        && self.has(parent)
                        && !self.has(id);
                    return true;
                }
                self.change(|set, beside| {
                    // The task may be on its way out, and its pid another's.
                    let wanted = self.rules.load(Relaxed) & abi::RULE_FOLLOW != 0
                        && !self.is_removed()
                        && self.is_member(beside, parent)
                        && !self.is_member(beside, id)
                        && task::has_id(task, self.kind, id);
                    match wanted.then(|| set.set(id)) {
                        Some(Ok(_)) => {
                            added += 1;
                            self.record(beside, abi::EVENT_FORKED, id);
                        }
                        Some(Err(NoChunk)) => starved = true,
                        None => {}
                    }
                });
                !starved
            });
            self.counters.found.add(added);
            self.counters.followed.add(added);
            if starved && !(self.catch_up(Mode::Sleep) && self.set.write(|s, _| s.free().leaves > 0)) {
                return false;
            }
            // A child may stand before its parent on the list of tasks: until a pass finds nothing.
            if added == 0 && !starved {
                return !unsettled;
            }
        }
    }

    /// The reaction to the end of a task. Any context but NMI, with no raw lock held.
    pub(crate) fn freed(&self, task: Task<'_>) {
        let ours = self.kind == Kind::Thread || task.is_leader();
        let id = task.id(self.kind);
        if !(ours && self.has(id)) {
            return;
        }
        if self.kind == Kind::Thread && task.is_leader() {
            self.set.write(|_, beside| beside.execs.forget(id, task.started_ns()));
        }
        if self.remove_if_gone(id) {
            self.counters.left.add(1);
        }
    }

    /// The reaction to the end of a leader whose place another thread's exec has taken. Returns whether
    /// the list wants its upkeep. Any context but NMI, with no raw lock held.
    ///
    /// The thread itself reports its exec when its program is loaded. By then its old number may be
    /// another's, so who comes first makes the change.
    pub(crate) fn displaced(&self, leader: Task<'_>) -> bool {
        let exec =
            Exec { old: leader.tid(), new: leader.tgid(), started_ns: leader.started_ns() };
        if self.kind != Kind::Thread || !self.has(exec.old) {
            return false;
        }
        self.change(|set, beside| {
            let is_its_own = task::presence(self.kind, exec.old) == Presence::Gone;
            if !(is_its_own && self.is_member(beside, exec.old)) {
                return false;
            }
            beside.execs.push(exec);
            self.renumber(set, beside, exec)
        })
    }

    /// The reaction to an exec by a thread other than the leader, whose number was `old`. Returns
    /// whether the list wants its upkeep. Any context but NMI, with no raw lock held.
    pub(crate) fn executed(&self, old: u32, task: Task<'_>) -> bool {
        let exec = Exec { old, new: task.tgid(), started_ns: task.started_ns() };
        if self.kind != Kind::Thread || !(self.has(exec.old) || self.has(exec.new)) {
            return false;
        }
        self.change(|set, beside| {
            // If another has the number by now, his fork has ended what was known of it.
            if beside.execs.take(exec) || task::presence(self.kind, exec.old) != Presence::Gone {
                return false;
            }
            if self.is_member(beside, exec.old) {
                return self.renumber(set, beside, exec);
            }
            if self.remove(set, beside, exec.new) {
                self.counters.left.add(1);
                self.record(beside, abi::EVENT_FREED, exec.new);
            }
            false
        })
    }

    /// A member goes on under its new number, and the leader, whose number that was, is no more. With
    /// the lock held. Returns whether it waits for a chunk.
    fn renumber(&self, set: &mut Writer<'_>, beside: &mut Beside, exec: Exec) -> bool {
        let leader_was_in = self.is_member(beside, exec.new);
        if leader_was_in {
            self.counters.left.add(1);
        }
        self.remove(set, beside, exec.old);
        self.record(beside, abi::EVENT_FREED, exec.old);
        let in_set = leader_was_in || set.set(exec.new).is_ok();
        if in_set || self.wait(beside, exec.new, exec.started_ns) {
            self.record(beside, abi::EVENT_RENUMBERED, exec.new);
        }
        !in_set
    }
}

/// What a fork means for a list.
enum Fork {
    NotFollowed,
    Followed {
        /// The reserve should be refilled.
        low: bool,
    },
}

impl Upkeep for State {
    fn quick(&self) -> bool {
        self.set.write(|set, beside| beside.reserve.refilling(set.free().leaves, boottime_ns()));
        self.catch_up(Mode::Atomic) && self.set.write(|_, beside| beside.overflowed_ns.is_none())
    }

    fn thorough(&self) -> bool {
        if !self.catch_up(Mode::Sleep) {
            return false;
        }
        match self.set.write(|_, beside| beside.overflowed_ns.take()) {
            Some(since_ns) if !self.walk(since_ns) => {
                self.set.write(|_, beside| beside.overflowed(since_ns));
                false
            }
            _ => true,
        }
    }
}

/// Bytes of a set's chunks. With the lock held.
fn set_bytes(set: &Writer<'_>) -> u64 {
    ((FIXTURES + set.used().total() + set.free().total()) * ChunkCache::object_size()) as u64
}

/// Waits until task `id` had its fork event, if it is that young. May sleep.
///
/// # Errors
///
/// `ESRCH` if there is no such task, `EINTR` for a signal: someone's page fault may keep a task from
/// being finished for as long as he likes.
fn settle(kind: Kind, id: u32) -> Result {
    loop {
        match task::presence(kind, id) {
            Presence::There => return Ok(()),
            Presence::Gone => return Err(ESRCH),
            Presence::New => task::wait_a_moment()?,
        }
    }
}
