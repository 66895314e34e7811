//! A sparse bitmap of pids in three levels, with a lock for writers and none for readers.
//!
//! The root leads to upper chunks, an upper chunk to leaves, a leaf holds 16,384 pids. It is plain
//! `core` Rust: the same files run in the kernel, under `cargo test`, loom, Miri and sanitizers.
//!
//! # Writers
//!
//! They hold the lock the set was made with. Chunks come from a reserve that is filled outside of
//! the lock ([`Batch`]); a writer that finds it empty changes nothing and says so ([`NoChunk`]).
//! No operation looks at more than the entries in use: every chunk counts and summarizes them.
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
//! - If both looks agree, the word belongs to the range ([`chunk`] has the orderings).
//!
//! All orderings are acquire and release, on x86 plain loads and stores: what `smp_load_acquire`
//! and `smp_store_release` are in the kernel's memory model.

#![cfg_attr(not(MODULE), no_std)]

mod chunk;
mod link;
mod sync;

use chunk::BITS;
use link::{Owned, Stack};

pub use chunk::{Leaf, Root, Upper};
pub use link::{Chunk, Supply};

/// The largest pid a set can hold; 0 is none.
pub const PID_LAST: u32 = (1 << (BITS[0] + BITS[1] + BITS[2])) - 1;

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
    uppers_used: usize,
    leaves_used: usize,
}

/// A lock around `T`.
pub trait Lock<T> {
    /// Runs `f` with the lock held.
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R;
}

/// A set of pids; its lock protects an `E` of the owner's as well, so that both change in one step.
pub struct PidSet<S: Supply, L: Lock<Guarded<S, E>>, E = ()> {
    lock: L,
    root: Owned<Root, S>,
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

/// Where a pid lives in the tree.
#[derive(Clone, Copy)]
struct Place {
    root: usize,
    upper: usize,
    bit: usize,
    /// All but the leaf's bits.
    range: u32,
}

impl Place {
    #[inline]
    fn of(pid: u32) -> Self {
        let range = leaf_of(pid);
        Self {
            root: (range >> BITS[1]) as usize,
            upper: (range & ((1 << BITS[1]) - 1)) as usize,
            bit: (pid & ((1 << BITS[2]) - 1)) as usize,
            range,
        }
    }
}

/// The number of the leaf that `pid` is in, if it is in a set: pids of one leaf share a chunk.
#[must_use]
pub const fn leaf_of(pid: u32) -> u32 {
    pid >> BITS[2]
}

/// The first pid of leaf `upper` below `root`; one past the last leaf is the next root's first.
const fn first_of(root: usize, upper: usize) -> u32 {
    (((root as u32) << BITS[1]) + upper as u32) << BITS[2]
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
            uppers_used: 0,
            leaves_used: 0,
        };
        Some(Self {
            lock: lock(Guarded { reserve, beside }),
            root: Owned::alloc(mode)?,
            guarded: core::marker::PhantomData,
        })
    }

    /// Whether `pid` is a member. Takes no lock, any context.
    #[inline]
    pub fn has(&self, pid: u32) -> bool {
        if pid > PID_LAST {
            return false;
        }
        let at = Place::of(pid);
        let Some(upper) = self.root.uppers[at.root].get() else {
            return false;
        };
        let Some(leaf) = upper.leaves[at.upper].get() else {
            return false;
        };
        leaf.has(at.range, at.bit)
    }

    /// The first member from `from` on. Takes no lock, any context.
    ///
    /// It was a member at some moment of the call; no pid in between was one during all of it.
    pub fn next(&self, from: u32) -> Option<u32> {
        // `at` only grows, so readers get to the end whatever writers do.
        let mut at = from;
        while at <= PID_LAST {
            let place = Place::of(at);
            let root = self.root.summary.next(place.root)?;
            let start = if root == place.root { place.upper } else { 0 };
            let upper = self.root.uppers[root]
                .get()
                .and_then(|u| u.summary.next(start).map(|i| (i, &u.leaves[i])));
            let Some((i, leaf)) = upper else {
                at = first_of(root + 1, 0);
                continue;
            };
            let start = if (root, i) == (place.root, place.upper) {
                place.bit
            } else {
                0
            };
            let first = first_of(root, i);
            let range = leaf_of(first);
            if let Some(bit) = leaf.get().and_then(|l| l.next(range, start)) {
                return Some(first + bit as u32);
            }
            at = first_of(root, i + 1);
        }
        None
    }

    /// Takes the lock to change the set.
    pub fn write<R>(&self, f: impl FnOnce(&mut Writer<'_, S>, &mut E) -> R) -> R {
        self.lock.with(|guarded| {
            f(
                &mut Writer {
                    root: &self.root,
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

/// The right to change a set: its lock is held.
pub struct Writer<'a, S: Supply> {
    root: &'a Root,
    reserve: &'a mut Reserve<S>,
}

impl<S: Supply> Writer<'_, S> {
    /// Adds `pid`; false if it was a member.
    ///
    /// # Panics
    ///
    /// If `pid` is beyond [`PID_LAST`]; callers check what users give them.
    pub fn set(&mut self, pid: u32) -> Result<bool, NoChunk> {
        let at = Place::of(pid);
        let upper = match self.root.uppers[at.root].get() {
            Some(upper) => upper,
            None => {
                // Both or neither: an upper chunk without a leaf would lead nowhere.
                if self.reserve.leaves.len() == 0 {
                    return Err(NoChunk);
                }
                let upper = self.reserve.uppers.pop().ok_or(NoChunk)?;
                self.reserve.uppers_used += 1;
                let upper = self.root.uppers[at.root].put(upper);
                self.root.summary.set(at.root);
                upper
            }
        };
        let leaf = match upper.leaves[at.upper].get() {
            Some(leaf) => leaf,
            None => {
                let leaf = self.reserve.leaves.pop().ok_or(NoChunk)?;
                self.reserve.leaves_used += 1;
                leaf.begin(at.range);
                let leaf = upper.leaves[at.upper].put(leaf);
                upper.linked(at.upper);
                leaf
            }
        };
        let new = leaf.set(at.bit);
        self.reserve.members += u64::from(new);
        Ok(new)
    }

    /// Removes `pid`; false if it was no member.
    pub fn clear(&mut self, pid: u32) -> bool {
        if pid > PID_LAST {
            return false;
        }
        let at = Place::of(pid);
        let Some(upper) = self.root.uppers[at.root].get() else {
            return false;
        };
        let Some(leaf) = upper.leaves[at.upper].get() else {
            return false;
        };
        let Some(empty) = leaf.clear(at.bit) else {
            return false;
        };
        self.reserve.members -= 1;
        if empty {
            self.cut(at, upper, leaf);
        }
        true
    }

    /// Removes every member.
    ///
    /// It takes a store for each word in use, and so at most 65,536 with pids of 22 bits.
    pub fn clear_all(&mut self) {
        // Under the lock a summary is exact: what it names is there.
        while let Some(root) = self.root.summary.next(0) {
            let Some(upper) = self.root.uppers[root].get() else {
                return;
            };
            while let Some(i) = upper.summary.next(0) {
                let Some(leaf) = upper.leaves[i].get() else {
                    return;
                };
                self.reserve.members -= leaf.clear_all();
                self.cut(Place::of(first_of(root, i)), upper, leaf);
            }
        }
    }

    /// Returns an emptied leaf to the reserve, and its upper chunk if that was the last one.
    fn cut(&mut self, at: Place, upper: &Upper, leaf: &Leaf) {
        let last = upper.unlink(at.upper);
        leaf.end();
        self.reserve.leaves.push(leaf);
        self.reserve.leaves_used -= 1;
        if last {
            self.root.uppers[at.root].set(None);
            self.root.summary.clear(at.root);
            self.reserve.uppers.push(upper);
            self.reserve.uppers_used -= 1;
        }
    }

    /// Chunks that adding `pids` (ascending) takes from the reserve.
    pub fn need(&self, pids: impl Iterator<Item = u32>) -> Chunks {
        let mut need = Chunks::default();
        let mut last: Option<Place> = None;
        for at in pids.map(Place::of) {
            let new_root = last.is_none_or(|l| l.root != at.root);
            let new_range = last.is_none_or(|l| l.range != at.range);
            let upper = self.root.uppers[at.root].get();
            need.uppers += usize::from(new_root && upper.is_none());
            let no_leaf = upper.is_none_or(|u| u.leaves[at.upper].get().is_none());
            need.leaves += usize::from(new_range && no_leaf);
            last = Some(at);
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

    /// Chunks in the tree.
    pub fn used(&self) -> Chunks {
        Chunks {
            uppers: self.reserve.uppers_used,
            leaves: self.reserve.leaves_used,
        }
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
