//! A list: a PID set that follows forks by itself.
//!
//! # No child is lost in silence
//!
//! A fork may not wait for memory. If the reserve has no chunk for a child, the child is put on a
//! short waiting list, counted, and moved into the set as soon as the reserve is filled; meanwhile
//! it counts as a member. Should even that be full, the set is completed by a walk over all tasks.
//!
//! # Pids that are used again
//!
//! The kernel gives a pid to someone else before it reports that the old task was freed. So a fork
//! decides about its child either way, member or not, and a freed task's pid leaves the set only if
//! no process has that pid by then; both under the set's lock, so that one sees the other.

use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::Arc;

use crate::abi;
use crate::sys::chunks::{ChunkCache, Mode, Slab};
use crate::sys::deferred::{Deferred, Upkeep};
use crate::sys::raw_lock::RawSpinLock;
use crate::sys::task::{self, Presence, Task};
use crate::sys::tracepoint::TaskEvents;
use crate::tree::{leaf_of, Batch, Chunks, Lock, NoChunk, PidSet, Reserve};

type Set = PidSet<Slab, RawSpinLock<Reserve<Slab>>>;
type Writer<'a> = crate::tree::Writer<'a, Slab>;

/// What the reserve is filled up to, and the mark below which it is refilled.
const RESERVE: Chunks = Chunks { uppers: 1, leaves: 8 };
const LOW_WATER: Chunks = Chunks { uppers: 1, leaves: 4 };

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
    waiting: RawSpinLock<Waiting>,
    /// [`Waiting::len`], to be read without the lock.
    waiting_len: Atomic<u32>,
    rules: Atomic<u32>,
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

/// Children that found no chunk.
struct Waiting {
    pids: [u32; 64],
    len: usize,
    /// More came than there was room for.
    overflow: bool,
}

impl Waiting {
    fn contains(&self, pid: u32) -> bool {
        self.pids[..self.len].contains(&pid)
    }

    fn push(&mut self, pid: u32) {
        match self.pids.get_mut(self.len) {
            Some(slot) => {
                *slot = pid;
                self.len += 1;
            }
            None => self.overflow = true,
        }
    }

    fn remove(&mut self, pid: u32) -> bool {
        match self.pids[..self.len].iter().position(|&p| p == pid) {
            Some(i) => {
                self.len -= 1;
                self.pids[i] = self.pids[self.len];
                true
            }
            None => false,
        }
    }
}

/// Makes an empty list that follows no forks. May sleep.
pub(crate) fn new() -> Result<Arc<List>> {
    let state = State {
        set: Set::new(RawSpinLock::new),
        waiting: RawSpinLock::new(Waiting { pids: [0; 64], len: 0, overflow: false }),
        waiting_len: Atomic::new(0),
        rules: Atomic::new(0),
        counters: Counters::default(),
    };
    let list = Arc::pin_init(Deferred::new(state), GFP_KERNEL)?;
    if !list.refill(Mode::Sleep) {
        return Err(ENOMEM);
    }
    Ok(list)
}

impl State {
    /// Whether process `pid` is a member. Any context but NMI.
    pub(crate) fn has(&self, pid: u32) -> bool {
        self.set.has(pid)
            || (self.waiting_len.load(Relaxed) != 0 && self.waiting.with(|w| w.contains(pid)))
    }

    /// The first member from `from` on. Any context.
    pub(crate) fn next(&self, from: u32) -> Option<u32> {
        self.set.next(from)
    }

    /// Applies all of `changes`, in their order, or none. May sleep.
    ///
    /// # Errors
    ///
    /// `ESRCH` if a process to add is not there, `ENOMEM` if there is no memory for them all.
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
            let applied = self.set.write(|set| {
                let missing = set.free().missing(set.need(adds.iter().copied()));
                if missing.total() > 0 {
                    return Err(missing);
                }
                for change in changes {
                    match *change {
                        // There are chunks for all of them; a removal only gives more back.
                        Change::Add(pid) => drop(set.set(pid)),
                        Change::Remove(pid) => drop(set.clear(pid)),
                    }
                }
                Ok(())
            });
            let Err(missing) = applied else { break };
            let (batch, whole) = Batch::alloc(missing, Mode::Sleep);
            self.set.write(|set| set.refill(batch));
            if !whole {
                return Err(ENOMEM);
            }
        }
        for change in changes {
            match *change {
                // One that was freed between the look and the set had its event before it was in.
                Change::Add(pid) => drop(self.clear_if_gone(pid)),
                Change::Remove(pid) => drop(self.stop_waiting(pid)),
            }
        }
        Ok(())
    }

    /// Removes every member. May sleep.
    pub(crate) fn clear(&self) {
        self.waiting.with(|w| {
            w.len = 0;
            w.overflow = false;
            self.waiting_len.store(0, Relaxed);
        });
        let mut from = Some(0);
        // A leaf at a time, to let interrupts in.
        while let Some(pid) = from {
            from = self.set.write(|set| set.clear_from(pid));
        }
    }

    /// Sets [`abi::Rules::flags`].
    ///
    /// # Errors
    ///
    /// `EINVAL` for a flag that is not known.
    pub(crate) fn set_rules(&self, flags: u32) -> Result {
        if flags & !abi::RULE_FOLLOW != 0 {
            return Err(EINVAL);
        }
        self.rules.store(flags, Relaxed);
        Ok(())
    }

    /// What the list has done and holds.
    pub(crate) fn stats(&self) -> abi::Stats {
        let (members, used, free) = self.set.write(|set| (set.members(), set.used(), set.free()));
        let chunks = used.total() + free.total();
        abi::Stats {
            members: members + u64::from(self.waiting_len.load(Relaxed)),
            chunks_used: used.total() as u64,
            chunks_free: free.total() as u64,
            refills: self.counters.refills.get(),
            failed: self.counters.failed.get(),
            repaired: self.counters.repaired.get(),
            followed: self.counters.followed.get(),
            left: self.counters.left.get(),
            bytes: (size_of::<List>() + chunks * ChunkCache::object_size()) as u64,
            rules: u64::from(self.rules.load(Relaxed)),
        }
    }

    /// Removes `pid` unless a process has it.
    fn clear_if_gone(&self, pid: u32) -> bool {
        let gone = |set: &mut Writer<'_>| task::presence(pid) == Presence::Gone && set.clear(pid);
        self.set.write(gone)
    }

    fn stop_waiting(&self, pid: u32) -> bool {
        self.waiting_len.load(Relaxed) != 0
            && self.waiting.with(|w| {
                let was = w.remove(pid);
                self.waiting_len.store(w.len as u32, Relaxed);
                was
            })
    }

    /// Fills the reserve up; returns whether it is full.
    fn refill(&self, mode: Mode) -> bool {
        let missing = self.set.write(|set| set.free().missing(RESERVE));
        if missing.total() == 0 {
            return true;
        }
        let (batch, whole) = Batch::alloc(missing, mode);
        self.set.write(|set| set.refill(batch));
        self.counters.refills.add(1);
        whole
    }

    /// Moves waiting children into the set; returns whether all of them found a chunk.
    fn admit(&self) -> bool {
        // Lock order: waiting, set.
        self.waiting.with(|w| {
            self.set.write(|set| {
                while w.len > 0 && set.set(w.pids[w.len - 1]).is_ok() {
                    w.len -= 1;
                    self.counters.repaired.add(1);
                }
            });
            self.waiting_len.store(w.len as u32, Relaxed);
            w.len == 0
        })
    }

    /// Adds the children of members that are none, for the case that too many had to wait. May
    /// sleep.
    fn walk(&self) {
        loop {
            let (mut added, mut starved) = (0, false);
            task::each_process(|pid, parent| {
                if self.has(parent) && !self.has(pid) {
                    match self.set.write(|set| set.set(pid)) {
                        Ok(_) => added += 1,
                        Err(NoChunk) => starved = true,
                    }
                }
                !starved
            });
            self.counters.repaired.add(added);
            if starved && !self.refill(Mode::Sleep) {
                pr_err!("no memory to complete the list of processes; it is tried again\n");
                self.waiting.with(|w| w.overflow = true);
                return;
            }
            // A child may stand before its parent on the list of tasks: until a pass finds nothing.
            if added == 0 && !starved {
                return;
            }
        }
    }
}

impl Upkeep for State {
    fn quick(&self) -> bool {
        let full = self.refill(Mode::Atomic);
        let admitted = self.admit();
        !(full && admitted) || self.waiting.with(|w| w.overflow)
    }

    fn thorough(&self) {
        while self.refill(Mode::Sleep) && !self.admit() {}
        if self.waiting.with(|w| core::mem::take(&mut w.overflow)) {
            self.walk();
        }
    }
}

impl TaskEvents for List {
    fn forked(&self, parent: Task<'_>, child: Task<'_>) {
        if !child.is_leader() {
            return;
        }
        let pid = child.tgid();
        let follow = self.rules.load(Relaxed) & abi::RULE_FOLLOW != 0;
        if !follow || !self.has(parent.tgid()) {
            // The pid's last owner may still be a member.
            if self.has(pid) {
                self.stop_waiting(pid);
                self.set.write(|set| set.clear(pid));
            }
            return;
        }
        self.counters.followed.add(1);
        let (added, low) = self.set.write(|set| {
            let added = set.set(pid);
            (added, set.free().missing(LOW_WATER).total() > 0)
        });
        if added == Err(NoChunk) {
            self.counters.failed.add(1);
            self.waiting.with(|w| {
                w.push(pid);
                self.waiting_len.store(w.len as u32, Relaxed);
            });
        }
        if low || added.is_err() {
            self.request();
        }
    }

    fn freed(&self, task: Task<'_>) {
        let pid = task.tgid();
        if task.is_leader() && self.has(pid) && (self.stop_waiting(pid) || self.clear_if_gone(pid)) {
            self.counters.left.add(1);
        }
    }
}

/// Waits until process `pid` had its fork event, if it is that young. May sleep.
///
/// # Errors
///
/// `ESRCH` if there is no such process.
fn settle(pid: u32) -> Result {
    loop {
        match task::presence(pid) {
            Presence::There => return Ok(()),
            Presence::Gone => return Err(ESRCH),
            Presence::New => task::wait_a_moment(),
        }
    }
}
