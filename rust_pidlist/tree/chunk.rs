//! The kinds of chunk: a [`Root`] leads to 256 upper chunks, an [`Upper`] to 256 leaves, a [`Leaf`]
//! holds 16,384 pids.
//!
//! # Orderings
//!
//! Writers are ordered by the lock, so what they load is relaxed. What a reader sees of them:
//!
//! - **Links** are put with release and followed with acquire: a fresh chunk is seen whole. Cutting
//!   one publishes nothing, and is relaxed.
//! - **A bit is of the range that the tag named before and after.** A leaf has no bit set when it is
//!   put to a new use. (1) The tag of a use is stored with release and looked at with acquire: from
//!   then on, the reader sees no word of an earlier use but zeros. (2) Words with bits are stored with
//!   release and loaded with acquire: if the bit is of a later use, the second look at the tag sees
//!   that use's, or a still later one. Tags never come back (they count), so if both looks see the
//!   same one, the bit is of its use, and its range is the one that was asked for.
//! - **A bit that is not set proves itself.** Either it is the pid's own, or the leaf had another use
//!   by then: it was cut off, when it was empty, since the reader came by the link.
//! - **Summaries** are relaxed. The one that leads to a bit is stored before the bit is, so who has
//!   acquired the bit finds it by `next` as well. Where a reader sees too much or too little in a
//!   summary, it is of a pid that comes or goes meanwhile.
//!
//! On x86 all of these are plain loads and stores; in the kernel's memory model they are
//! `smp_load_acquire`, `smp_store_release`, `READ_ONCE` and `WRITE_ONCE`.
//! `tests/tree/interleavings.rs` fails if any of them is weakened.

use super::link::{Chunk, Link};
use super::sync::{AtomicU64, Ordering};

/// Bits of a pid that pick a slot of the root, a slot of an upper chunk, and a bit of a leaf.
#[cfg(not(loom))]
pub(super) const BITS: [u32; 3] = [8, 8, 14];
/// Small enough for loom to explore.
#[cfg(loom)]
pub(super) const BITS: [u32; 3] = [2, 1, 8];

/// Words of a leaf that share a bit of its summary, which so fits into a word. A power of two.
#[cfg(not(loom))]
const GROUP: usize = LEAF_WORDS / 64;
#[cfg(loom)]
const GROUP: usize = 2;

pub(super) const ROOT_LEN: usize = 1 << BITS[0];
pub(super) const UPPER_LEN: usize = 1 << BITS[1];
const LEAF_WORDS: usize = 1 << (BITS[2] - 6);

const fn words_for(bits: usize) -> usize {
    bits.div_ceil(64)
}

/// Which of a chunk's links are in use: finding the next one, or that there is none, reads no link.
///
/// Written under the lock only, so a plain load and store make an update.
pub(super) struct Summary<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> Summary<WORDS> {
    fn new() -> Self {
        Self(core::array::from_fn(|_| AtomicU64::new(0)))
    }

    #[inline]
    pub(super) fn set(&self, i: usize) {
        let word = &self.0[i / 64];
        word.store(
            word.load(Ordering::Relaxed) | 1 << (i % 64),
            Ordering::Relaxed,
        );
    }

    /// Returns whether no link is in use any more.
    #[inline]
    pub(super) fn clear(&self, i: usize) -> bool {
        let word = &self.0[i / 64];
        let left = word.load(Ordering::Relaxed) & !(1 << (i % 64));
        word.store(left, Ordering::Relaxed);
        left == 0 && self.0.iter().all(|w| w.load(Ordering::Relaxed) == 0)
    }

    /// The first link in use from `i` on.
    #[inline]
    pub(super) fn next(&self, i: usize) -> Option<usize> {
        let mut w = i / 64;
        let mut bits = self.0.get(w)?.load(Ordering::Relaxed) & (u64::MAX << (i % 64));
        while bits == 0 {
            w += 1;
            bits = self.0.get(w)?.load(Ordering::Relaxed);
        }
        Some(w * 64 + bits.trailing_zeros() as usize)
    }
}

/// The top level, for pids that are beyond one upper chunk.
pub struct Root {
    next_free: Link<Root>,
    pub(super) summary: Summary<{ words_for(ROOT_LEN) }>,
    pub(super) uppers: [Link<Upper>; ROOT_LEN],
}

impl Chunk for Root {
    fn new() -> Self {
        Self {
            next_free: Link::none(),
            summary: Summary::new(),
            uppers: core::array::from_fn(|_| Link::none()),
        }
    }

    fn next_free(&self) -> &Link<Self> {
        &self.next_free
    }
}

/// A chunk of the middle level.
///
/// A reader needs no tag here: whatever an upper chunk in reuse leads it to, the leaf's tag tells.
pub struct Upper {
    next_free: Link<Upper>,
    pub(super) summary: Summary<{ words_for(UPPER_LEN) }>,
    pub(super) leaves: [Link<Leaf>; UPPER_LEN],
}

impl Chunk for Upper {
    fn new() -> Self {
        Self {
            next_free: Link::none(),
            summary: Summary::new(),
            leaves: core::array::from_fn(|_| Link::none()),
        }
    }

    fn next_free(&self) -> &Link<Self> {
        &self.next_free
    }
}

/// The pids of one range: those that are equal but for their lowest 14 bits.
pub struct Leaf {
    next_free: Link<Leaf>,
    /// What the leaf stands for, and how many times it was put to use: [`Tag`].
    tag: AtomicU64,
    /// Which groups of words have a bit set.
    summary: AtomicU64,
    words: [AtomicU64; LEAF_WORDS],
}

/// A leaf's use: the range it stands for in the low 16 bits, the number of the use above them.
///
/// It stays in the reserve, where the leaf has no bits that could be taken for the range's. Numbers
/// come round after 2^48 uses, months of doing nothing else, by which time no reader is still
/// between its two looks at a tag.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Tag(u64);

impl Tag {
    fn range(self) -> u16 {
        self.0 as u16
    }

    /// That of the next use, for `range`.
    fn next(self, range: u16) -> Self {
        Self(((self.0 >> 16).wrapping_add(1) << 16) | u64::from(range))
    }
}

impl Chunk for Leaf {
    fn new() -> Self {
        Self {
            next_free: Link::none(),
            tag: AtomicU64::new(0),
            summary: AtomicU64::new(0),
            words: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    fn next_free(&self) -> &Link<Self> {
        &self.next_free
    }
}

/// The word of a leaf that has `pid`'s bit.
#[inline]
fn word_of(pid: u32) -> usize {
    (pid >> 6) as usize % LEAF_WORDS
}

// For readers, who hold no lock.
impl Leaf {
    /// Whether `pid` is set, as one of `range`.
    #[inline]
    pub(super) fn has(&self, range: u16, pid: u32) -> bool {
        let tag = self.tag();
        if tag.range() != range {
            return false;
        }
        let word = self.words[word_of(pid)].load(Ordering::Acquire);
        // A bit that is not set needs no second look.
        word >> (pid % 64) & 1 != 0 && self.is_still(tag)
    }

    /// The first set bit from `bit` on, as long as the leaf stands for `range`.
    #[inline]
    pub(super) fn next(&self, range: u16, bit: usize) -> Option<usize> {
        let tag = self.tag();
        if tag.range() != range {
            return None;
        }
        let mut w = bit / 64;
        let mut bits = self.words.get(w)?.load(Ordering::Acquire) & (u64::MAX << (bit % 64));
        while bits == 0 {
            w += 1;
            if w & (GROUP - 1) == 0 {
                w = self.next_group(w / GROUP)? * GROUP;
            }
            bits = self.words.get(w)?.load(Ordering::Acquire);
        }
        let bit = w * 64 + bits.trailing_zeros() as usize;
        self.is_still(tag).then_some(bit)
    }

    /// The first group in use from `group` on.
    #[inline]
    fn next_group(&self, group: usize) -> Option<usize> {
        let groups = self.summary.load(Ordering::Relaxed) & u64::MAX.checked_shl(group as u32)?;
        (groups != 0).then_some(groups.trailing_zeros() as usize)
    }

    /// The words of a group; an empty one where there is none of that number.
    #[inline]
    fn group(&self, group: usize) -> &[AtomicU64] {
        let first = group * GROUP;
        self.words.get(first..first + GROUP).unwrap_or_default()
    }

    #[inline]
    fn tag(&self) -> Tag {
        Tag(self.tag.load(Ordering::Acquire))
    }

    /// Whether a bit that was acquired after `tag` was is of its use.
    #[inline]
    fn is_still(&self, tag: Tag) -> bool {
        Tag(self.tag.load(Ordering::Relaxed)) == tag
    }
}

// For the owner of the lock.
impl Leaf {
    /// Puts an empty leaf of the reserve to use, before it is linked.
    pub(super) fn begin(&self, range: u16) {
        let tag = Tag(self.tag.load(Ordering::Relaxed)).next(range);
        self.tag.store(tag.0, Ordering::Release);
    }

    /// Sets `pid`; false if it was set.
    #[inline]
    pub(super) fn set(&self, pid: u32) -> bool {
        let w = word_of(pid);
        let old = self.words[w].load(Ordering::Relaxed);
        let new = old | 1 << (pid % 64);
        if new == old {
            return false;
        }
        // The summary first: who has seen the bit must find it by `next` as well.
        if old == 0 {
            let groups = self.summary.load(Ordering::Relaxed) | 1 << (w / GROUP);
            self.summary.store(groups, Ordering::Relaxed);
        }
        self.words[w].store(new, Ordering::Release);
        true
    }

    /// Clears `pid`; `None` if it was clear, else whether the leaf is now empty.
    #[inline]
    pub(super) fn clear(&self, pid: u32) -> Option<bool> {
        let w = word_of(pid);
        let old = self.words[w].load(Ordering::Relaxed);
        let new = old & !(1 << (pid % 64));
        if new == old {
            return None;
        }
        self.words[w].store(new, Ordering::Release);
        Some(new == 0 && self.close(w / GROUP))
    }

    /// Takes `group` out of the summary if it is empty; returns whether the leaf is.
    #[inline]
    fn close(&self, group: usize) -> bool {
        let words = self.group(group).iter();
        if words.fold(0, |all, word| all | word.load(Ordering::Relaxed)) != 0 {
            return false;
        }
        let groups = self.summary.load(Ordering::Relaxed) & !(1 << group);
        self.summary.store(groups, Ordering::Relaxed);
        groups == 0
    }

    /// Clears every bit; returns how many were set.
    pub(super) fn clear_all(&self) -> u64 {
        let mut cleared = 0;
        while let Some(group) = self.next_group(0) {
            for word in self.group(group) {
                cleared += u64::from(word.load(Ordering::Relaxed).count_ones());
                word.store(0, Ordering::Relaxed);
            }
            self.close(group);
        }
        cleared
    }
}
