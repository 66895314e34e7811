//! A list: a PID set that follows forks by itself.
//!
//! # No child is lost in silence
//!
//! A fork may not wait for memory. If the reserve has no chunk for a child, one is asked for on the
//! spot; if there is none to be had, the child is counted as failed and put on a waiting list, from
//! which it moves into the set as soon as the reserve is filled. Waiting, it is a member like any
//! other. Only if that list overflows is a child no member for a while: then a walk over the tasks
//! adds the children of members made since. What the walk cannot find (a child whose parent has
//! exited by then) stays visible as the difference of failed and repaired.
//!
//! # Pids that are used again
//!
//! The kernel gives a pid to someone else before it reports that the old task was freed. So a fork
//! decides about its child either way, member or not, and a freed task's pid leaves only if no
//! process has that pid by then.
//!
//! # Locking
//!
//! One lock per list, the set's, covers membership, the waiting list and the rules; whoever changes
//! one of them looks and acts under it in one go. Look-ups take it only while someone waits.

use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Relaxed, Release};
use kernel::sync::Arc;

use crate::abi;
use crate::sys::chunks::{ChunkCache, Mode, Slab};
use crate::sys::deferred::{Deferred, Upkeep};
use crate::sys::raw_lock::RawSpinLock;
use crate::sys::task::{self, Presence, Task};
use crate::sys::tracepoint::TaskEvents;
use crate::tree::{leaf_of, Batch, Chunks, Guarded, NoChunk, PidSet};

type Set = PidSet<Slab, RawSpinLock<Guarded<Slab, Beside>>, Beside>;
type Writer<'a> = crate::tree::Writer<'a, Slab>;

/// What the reserve is filled up to, and the mark below which it is refilled.
const RESERVE: Chunks = Chunks { uppers: 1, leaves: 8 };
const LOW_WATER: Chunks = Chunks { uppers: 1, leaves: 4 };
/// What one child can need.
const FOR_ONE: Chunks = Chunks { uppers: 1, leaves: 1 };

/// One thing to do to a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Add(u32),
    Remove(u32),
}

/// A list that may ask for its own upkeep.
pub(crate) type List = Deferred<State>;

/// What a list is made of.
pub(crate) struct State {
    set: Set,
    /// Members that wait for a chunk; written under the lock, after the set.
    waiting: Atomic<u32>,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    refills: Count,
    failed: Count,
    repaired: Count,
    followed: Count,
    left: Count,
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
struct Beside {
    waiting: Waiting,
    follow: bool,
    /// When the first child was made for whom even the waiting list had no room, in nanoseconds of
    /// `CLOCK_BOOTTIME`.
    overflowed_ns: Option<u64>,
}

/// Members that found no chunk: room for [`Waiting::MOST`], allocated beforehand.
struct Waiting(KVec<u32>);

impl Waiting {
    const MOST: usize = 512;

    fn new() -> Result<Self> {
        Ok(Self(KVec::with_capacity(Self::MOST, GFP_KERNEL)?))
    }

    /// Returns whether there was room.
    fn push(&mut self, pid: u32) -> bool {
        self.0.push_within_capacity(pid).is_ok()
    }

    fn remove(&mut self, pid: u32) -> bool {
        self.0.iter().position(|&p| p == pid).is_some_and(|i| self.0.remove(i).is_ok())
    }
}

/// Makes an empty list that follows no forks. May sleep.
pub(crate) fn new() -> Result<Arc<List>> {
    let beside = Beside { waiting: Waiting::new()?, follow: false, overflowed_ns: None };
    let state = State {
        set: Set::new(beside, RawSpinLock::new, Mode::Sleep).ok_or(ENOMEM)?,
        waiting: Atomic::new(0),
        counters: Counters::default(),
    };
    let list = Arc::pin_init(Deferred::new(state), GFP_KERNEL)?;
    if !list.refill(RESERVE, Mode::Sleep) {
        return Err(ENOMEM);
    }
    Ok(list)
}

impl State {
    /// Whether process `pid` is a member. Any context but NMI.
    pub(crate) fn has(&self, pid: u32) -> bool {
        // Pids only ever move from waiting to the set: who is not seen waiting is in the set by now.
        if self.waiting.load(Acquire) == 0 {
            self.set.has(pid)
        } else {
            self.set.write(|_, beside| self.set.has(pid) || beside.waiting.0.contains(&pid))
        }
    }

    /// The first member from `from` on. Any context but NMI.
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        if self.waiting.load(Acquire) == 0 {
            return self.set.next(from);
        }
        self.set.write(|_, beside| {
            let waiting = beside.waiting.0.iter().copied().filter(|&pid| pid >= from).min();
            let set = self.set.next(from);
            waiting.map_or(set, |w| Some(set.map_or(w, |s| s.min(w))))
        })
    }

    /// Applies all of `changes`, in their order, or none. May sleep.
    ///
    /// There are at most [`abi::BATCH_MAX`] of them: interrupts are off meanwhile.
    ///
    /// # Errors
    ///
    /// `ESRCH` if a process to add is not there, `ENOMEM` if there is no memory for them all,
    /// `EINTR` for a signal.
    pub(crate) fn apply(&self, changes: &[Change]) -> Result {
        // One pid of every leaf there has to be, ascending.
        let mut adds: KVec<u32> = KVec::new();
        for change in changes {
            if let Change::Add(pid) = *change {
                settle(pid)?;
                if let Err(i) = adds.binary_search_by_key(&leaf_of(pid), |&p| leaf_of(p)) {
                    adds.push(pid, GFP_KERNEL)?;
                    adds[i..].rotate_right(1);
                }
            }
        }
        loop {
            let applied = self.set.write(|set, beside| {
                let missing = set.free().missing(set.need(adds.iter().copied()));
                if missing.total() > 0 {
                    return Err(missing);
                }
                for change in changes {
                    match *change {
                        Change::Add(pid) => {
                            // There are chunks for all of them; removals only give some back.
                            let _ = set.set(pid);
                            self.stop_waiting(beside, pid);
                        }
                        Change::Remove(pid) => {
                            self.remove(set, beside, pid);
                        }
                    }
                }
                Ok(())
            });
            let Err(missing) = applied else { break };
            if !self.refill(missing, Mode::Sleep) {
                return Err(ENOMEM);
            }
        }
        for change in changes {
            if let Change::Add(pid) = *change {
                // One that was freed between the look and the set had its event before it was in.
                self.remove_if_gone(pid);
            }
        }
        Ok(())
    }

    /// Removes every member, in one step. Any context but NMI.
    pub(crate) fn clear(&self) {
        self.set.write(|set, beside| {
            set.clear_all();
            beside.waiting.0.clear();
            beside.overflowed_ns = None;
            self.waiting.store(0, Release);
        });
    }

    /// Sets [`abi::Rules::flags`]. Any context but NMI.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a flag that is not known.
    pub(crate) fn set_rules(&self, flags: u32) -> Result {
        if flags & !abi::RULE_FOLLOW != 0 {
            return Err(EINVAL);
        }
        self.set.write(|_, beside| beside.follow = flags & abi::RULE_FOLLOW != 0);
        Ok(())
    }

    /// What the list has done and holds. Any context but NMI.
    pub(crate) fn stats(&self) -> abi::Stats {
        self.set.write(|set, beside| {
            let (used, free) = (set.used(), set.free());
            // The root of the set is an object of the cache, too.
            let chunks = 1 + used.total() + free.total();
            abi::Stats {
                members: set.members() + beside.waiting.0.len() as u64,
                chunks_used: used.total() as u64,
                chunks_free: free.total() as u64,
                refills: self.counters.refills.get(),
                failed: self.counters.failed.get(),
                repaired: self.counters.repaired.get(),
                followed: self.counters.followed.get(),
                left: self.counters.left.get(),
                bytes: (size_of::<List>()
                    + Waiting::MOST * size_of::<u32>()
                    + chunks * ChunkCache::object_size()) as u64,
                rules: if beside.follow { u64::from(abi::RULE_FOLLOW) } else { 0 },
            }
        })
    }

    /// Removes `pid`; returns whether it was a member. With the lock held.
    fn remove(&self, set: &mut Writer<'_>, beside: &mut Beside, pid: u32) -> bool {
        set.clear(pid) || self.stop_waiting(beside, pid)
    }

    /// Takes `pid` off the waiting list; returns whether it was there. With the lock held.
    fn stop_waiting(&self, beside: &mut Beside, pid: u32) -> bool {
        let waited = beside.waiting.remove(pid);
        if waited {
            self.waiting.store(beside.waiting.0.len() as u32, Release);
        }
        waited
    }

    /// Removes `pid` unless a process has it; returns whether it was a member.
    fn remove_if_gone(&self, pid: u32) -> bool {
        self.set.write(|set, beside| {
            task::presence(pid) == Presence::Gone && self.remove(set, beside, pid)
        })
    }

    /// Decides whether child `pid` is a member, and makes it one if there is a chunk for it.
    fn decide(&self, parent: u32, pid: u32) -> Result<Fork, NoChunk> {
        self.set.write(|set, beside| {
            let parent_is_in = self.set.has(parent) || beside.waiting.0.contains(&parent);
            // The pid's last owner may still be a member.
            self.remove(set, beside, pid);
            if !(beside.follow && parent_is_in) {
                return Ok(Fork::NotFollowed);
            }
            set.set(pid)?;
            Ok(Fork::Followed { low: set.free().missing(LOW_WATER).total() > 0 })
        })
    }

    /// Makes child `pid` wait for a chunk.
    fn wait(&self, pid: u32, started_ns: u64) {
        self.set.write(|_, beside| {
            if beside.waiting.push(pid) {
                self.waiting.store(beside.waiting.0.len() as u32, Release);
                self.counters.followed.add(1);
            } else {
                beside.overflowed_ns.get_or_insert(started_ns);
            }
        });
    }

    /// Adds `missing` chunks to the reserve; returns whether all of them were to be had.
    fn refill(&self, missing: Chunks, mode: Mode) -> bool {
        if missing.total() == 0 {
            return true;
        }
        let (batch, whole) = Batch::alloc(missing, mode);
        self.set.write(|set, _| set.refill(batch));
        self.counters.refills.add(1);
        whole
    }

    /// Fills the reserve up and moves waiting members into the set; returns whether that is done.
    fn catch_up(&self, mode: Mode) -> bool {
        loop {
            let missing = self.set.write(|set, _| set.free().missing(RESERVE));
            let full = self.refill(missing, mode);
            let left = self.set.write(|set, beside| {
                let waiting = &mut beside.waiting.0;
                while waiting.last().is_some_and(|&pid| set.set(pid).is_ok()) {
                    waiting.pop();
                    self.counters.repaired.add(1);
                }
                self.waiting.store(waiting.len() as u32, Release);
                waiting.len()
            });
            if !full || left == 0 {
                return full && left == 0;
            }
        }
    }

    /// Adds the children that members have made since `since_ns`, after the waiting list has
    /// overflowed; returns whether there was a chunk for each. May sleep.
    fn walk(&self, since_ns: u64) -> bool {
        loop {
            let (mut added, mut starved) = (0, false);
            task::each_process(|process| {
                if process.started_ns() < since_ns {
                    return true;
                }
                let (pid, parent) = (process.tgid(), process.parent_tgid());
                self.set.write(|set, beside| {
                    // The task may be on its way out, and its pid another's.
                    let wanted = beside.follow
                        && self.set.has(parent)
                        && !self.set.has(pid)
                        && task::is_process(pid, process);
                    match wanted.then(|| set.set(pid)) {
                        Some(Ok(_)) => added += 1,
                        Some(Err(NoChunk)) => starved = true,
                        None => {}
                    }
                });
                !starved
            });
            self.counters.repaired.add(added);
            self.counters.followed.add(added);
            if starved && !self.catch_up(Mode::Sleep) {
                return false;
            }
            // A child may stand before its parent on the list of tasks: until a pass finds nothing.
            if added == 0 && !starved {
                return true;
            }
        }
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
        self.catch_up(Mode::Atomic) && self.set.write(|_, beside| beside.overflowed_ns.is_none())
    }

    fn thorough(&self) -> bool {
        if !self.catch_up(Mode::Sleep) {
            return false;
        }
        match self.set.write(|_, beside| beside.overflowed_ns.take()) {
            Some(since_ns) if !self.walk(since_ns) => {
                self.set.write(|_, beside| beside.overflowed_ns = Some(since_ns));
                false
            }
            _ => true,
        }
    }
}

impl TaskEvents for List {
    fn forked(&self, parent: Task<'_>, child: Task<'_>) {
        let (ppid, pid) = (parent.tgid(), child.tgid());
        // Most forks are none of this list's business; that takes no lock to see.
        if !child.is_leader() || !(self.has(ppid) || self.has(pid)) {
            return;
        }
        let mut decided = self.decide(ppid, pid);
        if decided.is_err() {
            self.refill(FOR_ONE, Mode::Atomic);
            decided = self.decide(ppid, pid);
        }
        match decided {
            Ok(Fork::NotFollowed) => {}
            Ok(Fork::Followed { low }) => {
                self.counters.followed.add(1);
                if low {
                    self.request();
                }
            }
            Err(NoChunk) => {
                self.counters.failed.add(1);
                self.wait(pid, child.started_ns());
                self.request();
            }
        }
    }

    fn freed(&self, task: Task<'_>) {
        let pid = task.tgid();
        if task.is_leader() && self.has(pid) && self.remove_if_gone(pid) {
            self.counters.left.add(1);
        }
    }
}

/// Waits until process `pid` had its fork event, if it is that young. May sleep.
///
/// # Errors
///
/// `ESRCH` if there is no such process, `EINTR` for a signal: someone's page fault may keep a
/// process from being finished for as long as he likes.
fn settle(pid: u32) -> Result {
    loop {
        match task::presence(pid) {
            Presence::There => return Ok(()),
            Presence::Gone => return Err(ESRCH),
            Presence::New => task::wait_a_moment()?,
        }
    }
}
