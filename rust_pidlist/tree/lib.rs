//! A sparse bitmap of pids in three levels, with a lock for writers and none for readers.
//!
//! The root leads to upper chunks, an upper chunk to leaves, a leaf holds 16,384 pids. Linux never
//! gives out a pid of more than 22 bits (`PID_MAX_LIMIT`), which is what one upper chunk covers: the
//! first of them is a fixture, and found without the root. The tree takes pids of 30 bits.
//!
//! It is plain `core` Rust: the same files run in the kernel, under `cargo test`, loom, Miri and
//! sanitizers.
//!
//! # Writers
//!
//! They hold the lock the set was made with. Chunks come from a reserve that is filled outside of
//! the lock ([`Batch`]); a writer that finds it empty changes nothing and says so ([`NoChunk`]).
//! No operation looks at more than the entries in use: every chunk has a summary of them.
//!
//! # Readers
//!
//! [`PidSet::has`] and [`PidSet::next`] take no lock, never wait and never retry, so they are right
//! in any context, NMI included. They follow links that a writer may cut meanwhile. What they meet
//! then is still a chunk (chunks are not freed while the set lives), but perhaps one that stands
//! for other pids by now. A leaf's tag tells: it is looked at before and after the word of bits.
//!
//! - A pid that is a member during the whole call keeps its leaf in place, hence is found.
//! - If the tag is not that of the pid's range, the leaf was cut off after the reader found the
//!   link to it, and a leaf is cut off only when it is empty: at that moment, which lies within the
//!   call, the pid was no member, and that is the answer. There is nothing to retry.
//! - If the bit is set and both looks agree, it is the pid's.
//!
//! [`chunk`] says which orderings that takes, and why they are enough.

#![cfg_attr(not(MODULE), no_std)]

mod chunk;
mod link;
mod sync;

use chunk::{BITS, UPPER_LEN};
use link::{Owned, Stack};

pub use chunk::{Leaf, Root, Upper};
pub use link::{Chunk, Supply};

/// The largest pid a set can hold; 0 is none.
pub const PID_LAST: u32 = (1 << (BITS[0] + BITS[1] + BITS[2])) - 1;

/// Chunks that each set has from the start, apart from [`Writer::used`] and [`Writer::free`].
pub const FIXTURES: usize = 2;

/// What the lock protects: the set's books, and what its owner keeps beside them.
pub struct Guarded<S: Supply, E> {
    reserve: Reserve<S>,
    beside: E,
}

/// What writers need to have to themselves.
struct Reserve<S: Supply> {
    uppers: Stack<Upper, S>,
    leaves: Stack<Leaf, S>,
    members: u64,
    used: Chunks,
}

/// Where all chunks hang.
struct Top<S: Supply> {
    /// What the first slot of the root would lead to; that slot stays empty.
    low: Owned<Upper, S>,
    root: Owned<Root, S>,
}

impl<S: Supply> Top<S> {
    /// The leaf of `range`, if it is there and not far out.
    #[inline]
    fn low_leaf(&self, range: u32) -> Option<&Leaf> {
        self.low.leaves.get(range as usize)?.get()
    }

    /// The leaf of `range`, if it is there.
    #[cold]
    fn leaf(&self, range: u32) -> Option<&Leaf> {
        let (root, i) = slots_of(range);
        self.upper(root)?.leaves[i].get()
    }

    /// The upper chunk that slot `root` leads to.
    fn upper(&self, root: usize) -> Option<&Upper> {
        match root {
            0 => Some(&self.low),
            _ => self.root.uppers.get(root)?.get(),
        }
    }

    /// The first slot from `root` on that leads to an upper chunk.
    fn next_upper(&self, root: usize) -> Option<usize> {
        match root {
            0 => Some(0),
            _ => self.root.summary.next(root),
        }
    }
}

/// A lock around `T`.
pub trait Lock<T> {
    /// Runs `f` with the lock held.
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R;
}

/// A set of pids; its lock protects an `E` of the owner's as well, so that both change in one step.
pub struct PidSet<S: Supply, L: Lock<Guarded<S, E>>, E = ()> {
    lock: L,
    top: Top<S>,
    guarded: core::marker::PhantomData<fn() -> (S, E)>,
}

/// No chunk was at hand: nothing was changed. Add a [`Batch`] and try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoChunk;

/// Chunks in number: of a reserve, of a set, or of what is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    /// Upper chunks.
    pub uppers: usize,
    /// Leaves.
    pub leaves: usize,
}

impl Chunks {
    /// How many of `want` are missing here.
    #[must_use]
    pub fn missing(self, want: Self) -> Self {
        Self {
            uppers: want.uppers.saturating_sub(self.uppers),
            leaves: want.leaves.saturating_sub(self.leaves),
        }
    }

    /// Uppers and leaves together.
    #[must_use]
    pub fn total(self) -> usize {
        self.uppers + self.leaves
    }
}

/// Fresh chunks on their way to a reserve.
pub struct Batch<S: Supply> {
    uppers: Stack<Upper, S>,
    leaves: Stack<Leaf, S>,
}

impl<S: Supply> Batch<S> {
    /// Allocates up to `want` chunks; the second value says whether these are all.
    ///
    /// Call it without a lock. What it may do to get memory (sleep, for one) is up to `mode`.
    pub fn alloc(want: Chunks, mode: S::Mode) -> (Self, bool) {
        let mut batch = Self {
            uppers: Stack::new(),
            leaves: Stack::new(),
        };
        while batch.uppers.len() < want.uppers {
            let Some(chunk) = Owned::alloc(mode) else {
                return (batch, false);
            };
            batch.uppers.push_owned(chunk);
        }
        while batch.leaves.len() < want.leaves {
            let Some(chunk) = Owned::alloc(mode) else {
                return (batch, false);
            };
            batch.leaves.push_owned(chunk);
        }
        (batch, true)
    }
}

/// The number of the leaf that `pid` is in, if it is in a set: pids of one leaf share a chunk.
#[must_use]
pub const fn leaf_of(pid: u32) -> u32 {
    pid >> BITS[2]
}

/// The first pid of leaf `range`.
const fn first_of(range: u32) -> u32 {
    range << BITS[2]
}

/// The slots of the root and of the upper chunk that lead to leaf `range`.
const fn slots_of(range: u32) -> (usize, usize) {
    let range = range as usize;
    (range / UPPER_LEN, range % UPPER_LEN)
}

/// The leaf that these slots lead to.
const fn range_of(root: usize, i: usize) -> u32 {
    (root * UPPER_LEN + i) as u32
}

impl<S: Supply, L: Lock<Guarded<S, E>>, E> PidSet<S, L, E> {
    /// An empty set with an empty reserve; `lock` wraps the value it is given.
    ///
    /// `None` if there is no memory for it. As with [`Batch::alloc`], what this may do is up to `mode`.
    pub fn new(beside: E, lock: impl FnOnce(Guarded<S, E>) -> L, mode: S::Mode) -> Option<Self> {
        let reserve = Reserve {
            uppers: Stack::new(),
            leaves: Stack::new(),
            members: 0,
            used: Chunks::default(),
        };
        let top = Top {
            low: Owned::alloc(mode)?,
            root: Owned::alloc(mode)?,
        };
        Some(Self {
            lock: lock(Guarded { reserve, beside }),
            top,
            guarded: core::marker::PhantomData,
        })
    }

    /// Whether `pid` is a member. Takes no lock, any context.
    #[inline]
    pub fn has(&self, pid: u32) -> bool {
        let range = leaf_of(pid);
        match self.top.low.leaves.get(range as usize) {
            Some(link) => link.get().is_some_and(|leaf| leaf.has(range as u16, pid)),
            None => self.has_far(pid),
        }
    }

    #[cold]
    #[inline(never)]
    fn has_far(&self, pid: u32) -> bool {
        let range = leaf_of(pid);
        let leaf = self.top.leaf(range);
        leaf.is_some_and(|leaf| leaf.has(range as u16, pid))
    }

    /// The first member from `from` on. Takes no lock, any context.
    ///
    /// It was a member at some moment of the call; no pid in between was one during all of it.
    pub fn next(&self, from: u32) -> Option<u32> {
        if from > PID_LAST {
            return None;
        }
        let range = leaf_of(from);
        let leaf = match self.top.low_leaf(range) {
            Some(leaf) => Some(leaf),
            None => self.top.leaf(range),
        };
        let bit = (from - first_of(range)) as usize;
        match leaf.and_then(|leaf| leaf.next(range as u16, bit)) {
            Some(bit) => Some(first_of(range) + bit as u32),
            None => self.first_from(range + 1),
        }
    }

    /// The first member in leaf `range` and those behind it.
    fn first_from(&self, range: u32) -> Option<u32> {
        // Slots only grow, so readers get to the end whatever writers do.
        let (mut root, mut i) = slots_of(range);
        while let Some(r) = self.top.next_upper(root) {
            if r != root {
                (root, i) = (r, 0);
            }
            if let Some(upper) = self.top.upper(root) {
                while let Some(at) = upper.summary.next(i) {
                    let range = range_of(root, at);
                    let leaf = upper.leaves[at].get();
                    if let Some(bit) = leaf.and_then(|leaf| leaf.next(range as u16, 0)) {
                        return Some(first_of(range) + bit as u32);
                    }
                    i = at + 1;
                }
            }
            (root, i) = (root + 1, 0);
        }
        None
    }

    /// Takes the lock to change the set.
    pub fn write<R>(&self, f: impl FnOnce(&mut Writer<'_, S>, &mut E) -> R) -> R {
        self.lock.with(|guarded| {
            f(
                &mut Writer {
                    top: &self.top,
                    reserve: &mut guarded.reserve,
                },
                &mut guarded.beside,
            )
        })
    }
}

impl<S: Supply, L: Lock<Guarded<S, E>>, E> Drop for PidSet<S, L, E> {
    fn drop(&mut self) {
        // All chunks go to the reserve, which frees them.
        self.write(|w, _| w.clear_all());
    }
}

impl<S: Supply> Reserve<S> {
    /// The leaf of `range`, put to use now if there is none.
    #[cold]
    #[inline(never)]
    fn leaf<'t>(&mut self, top: &'t Top<S>, range: u32) -> Result<&'t Leaf, NoChunk> {
        if let Some(leaf) = top.leaf(range) {
            return Ok(leaf);
        }
        // An upper chunk and a leaf or neither: without a leaf it would lead nowhere.
        if self.leaves.len() == 0 {
            return Err(NoChunk);
        }
        let (root, i) = slots_of(range);
        let upper = match top.upper(root) {
            Some(upper) => upper,
            None => {
                let upper = self.uppers.pop().ok_or(NoChunk)?;
                self.used.uppers += 1;
                let upper = top.root.uppers[root].put(upper);
                top.root.summary.set(root);
                upper
            }
        };
        let leaf = self.leaves.pop().ok_or(NoChunk)?;
        self.used.leaves += 1;
        leaf.begin(range as u16);
        let leaf = upper.leaves[i].put(leaf);
        upper.summary.set(i);
        Ok(leaf)
    }

    /// Takes back an emptied leaf, and its upper chunk if that was the last one.
    #[cold]
    #[inline(never)]
    fn cut(&mut self, top: &Top<S>, range: u32, leaf: &Leaf) {
        let (root, i) = slots_of(range);
        let Some(upper) = top.upper(root) else {
            return;
        };
        upper.leaves[i].cut();
        let last = upper.summary.clear(i);
        self.leaves.push(leaf);
        self.used.leaves -= 1;
        if last && root != 0 {
            top.root.uppers[root].cut();
            top.root.summary.clear(root);
            self.uppers.push(upper);
            self.used.uppers -= 1;
        }
    }

    /// Counts a member more or less; there are as many as there are pids at most.
    #[inline]
    fn count(&mut self, change: i64) {
        self.members = self.members.wrapping_add_signed(change);
    }
}

/// The right to change a set: its lock is held.
pub struct Writer<'a, S: Supply> {
    top: &'a Top<S>,
    reserve: &'a mut Reserve<S>,
}

impl<S: Supply> Writer<'_, S> {
    /// Adds `pid`; false if it was a member.
    ///
    /// # Panics
    ///
    /// If `pid` is beyond [`PID_LAST`]; callers check what users give them.
    #[inline]
    pub fn set(&mut self, pid: u32) -> Result<bool, NoChunk> {
        let range = leaf_of(pid);
        let leaf = match self.top.low_leaf(range) {
            Some(leaf) => leaf,
            None => self.reserve.leaf(self.top, range)?,
        };
        let new = leaf.set(pid);
        if new {
            self.reserve.count(1);
        }
        Ok(new)
    }

    /// Removes `pid`; false if it was no member.
    #[inline]
    pub fn clear(&mut self, pid: u32) -> bool {
        let range = leaf_of(pid);
        let found = self.top.low_leaf(range).or_else(|| self.top.leaf(range));
        let Some((leaf, empty)) = found.and_then(|leaf| Some((leaf, leaf.clear(pid)?))) else {
            return false;
        };
        self.reserve.count(-1);
        if empty {
            self.reserve.cut(self.top, range, leaf);
        }
        true
    }

    /// Removes every member.
    ///
    /// It takes a store for each word in use, and so at most 65,536 with pids of 22 bits.
    pub fn clear_all(&mut self) {
        // Under the lock a summary is exact: what it names is there.
        let mut root = 0;
        while let Some(r) = self.top.next_upper(root) {
            let Some(upper) = self.top.upper(r) else {
                return;
            };
            while let Some(i) = upper.summary.next(0) {
                let Some(leaf) = upper.leaves[i].get() else {
                    return;
                };
                self.reserve.members -= leaf.clear_all();
                self.reserve.cut(self.top, range_of(r, i), leaf);
            }
            root = r + 1;
        }
    }

    /// Chunks that adding `pids` (ascending) takes from the reserve.
    pub fn need(&self, pids: impl Iterator<Item = u32>) -> Chunks {
        let mut need = Chunks::default();
        let mut last = None;
        for range in pids.map(leaf_of) {
            let (root, i) = slots_of(range);
            let new_root = last.is_none_or(|l| slots_of(l).0 != root);
            let upper = self.top.upper(root);
            need.uppers += usize::from(new_root && upper.is_none());
            let no_leaf = upper.is_none_or(|u| u.leaves[i].get().is_none());
            need.leaves += usize::from(last != Some(range) && no_leaf);
            last = Some(range);
        }
        need
    }

    /// Adds `batch` to the reserve.
    pub fn refill(&mut self, mut batch: Batch<S>) {
        while let Some(chunk) = batch.uppers.pop() {
            self.reserve.uppers.push_owned(chunk);
        }
        while let Some(chunk) = batch.leaves.pop() {
            self.reserve.leaves.push_owned(chunk);
        }
    }

    /// Chunks in the reserve.
    pub fn free(&self) -> Chunks {
        Chunks {
            uppers: self.reserve.uppers.len(),
            leaves: self.reserve.leaves.len(),
        }
    }

    /// Chunks in the tree, not counting [`FIXTURES`].
    pub fn used(&self) -> Chunks {
        self.reserve.used
    }

    /// Members.
    pub fn members(&self) -> u64 {
        self.reserve.members
    }
}

/// Bytes of the largest kind of chunk.
pub const CHUNK_BYTES: usize = {
    let (root, upper, leaf) = (size_of::<Root>(), size_of::<Upper>(), size_of::<Leaf>());
    let most = if root > upper { root } else { upper };
    if most > leaf {
        most
    } else {
        leaf
    }
};
