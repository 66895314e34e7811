//! The kinds of chunk: the [`Root`] leads to 256 upper chunks, an [`Upper`] to 256 leaves, a [`Leaf`]
//! holds 16,384 pids.

use super::link::{Chunk, Link};
use super::sync::{AtomicU64, Ordering};

/// Bits of a pid that pick a slot of the root, a slot of an upper chunk, and a bit of a leaf.
///
/// Linux never gives out a pid of more than 22 bits (`PID_MAX_LIMIT`); the tree takes 30.
#[cfg(not(loom))]
pub(super) const BITS: [u32; 3] = [8, 8, 14];
/// Small enough for loom to explore, with two of everything.
#[cfg(loom)]
pub(super) const BITS: [u32; 3] = [1, 1, 7];

pub(super) const ROOT_LEN: usize = 1 << BITS[0];
pub(super) const UPPER_LEN: usize = 1 << BITS[1];
pub(super) const LEAF_WORDS: usize = 1 << (BITS[2] - 6);

const fn words_for(bits: usize) -> usize {
    bits.div_ceil(64)
}

/// Which of a chunk's entries are in use: finding the next one reads no entry.
///
/// Written under the lock only, so a plain load and store make an update.
pub(super) struct Summary<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> Summary<WORDS> {
    pub(super) fn new() -> Self {
        Self(core::array::from_fn(|_| AtomicU64::new(0)))
    }

    pub(super) fn set(&self, i: usize) {
        let word = &self.0[i / 64];
        word.store(
            word.load(Ordering::Relaxed) | 1 << (i % 64),
            Ordering::Release,
        );
    }

    pub(super) fn clear(&self, i: usize) {
        let word = &self.0[i / 64];
        word.store(
            word.load(Ordering::Relaxed) & !(1 << (i % 64)),
            Ordering::Release,
        );
    }

    /// The first entry in use from `i` on.
    pub(super) fn next(&self, i: usize) -> Option<usize> {
        let mut mask = u64::MAX << (i % 64);
        for (w, word) in self.0.iter().enumerate().skip(i / 64) {
            let bits = word.load(Ordering::Acquire) & mask;
            if bits != 0 {
                return Some(w * 64 + bits.trailing_zeros() as usize);
            }
            mask = u64::MAX;
        }
        None
    }
}

/// The top level, of which every set has one.
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
    /// Leaves below; the owner of the lock keeps it.
    used: AtomicU64,
    pub(super) summary: Summary<{ words_for(UPPER_LEN) }>,
    pub(super) leaves: [Link<Leaf>; UPPER_LEN],
}

impl Chunk for Upper {
    fn new() -> Self {
        Self {
            next_free: Link::none(),
            used: AtomicU64::new(0),
            summary: Summary::new(),
            leaves: core::array::from_fn(|_| Link::none()),
        }
    }

    fn next_free(&self) -> &Link<Self> {
        &self.next_free
    }
}

impl Upper {
    /// Counts the leaf that was put into slot `i`.
    pub(super) fn linked(&self, i: usize) {
        self.summary.set(i);
        self.used
            .store(self.used.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Empties slot `i`; true if it was the last one in use.
    pub(super) fn unlink(&self, i: usize) -> bool {
        self.leaves[i].set(None);
        self.summary.clear(i);
        let used = self.used.load(Ordering::Relaxed) - 1;
        self.used.store(used, Ordering::Relaxed);
        used == 0
    }
}

/// The pids of one range: those that are equal but for their lowest 14 bits.
pub struct Leaf {
    next_free: Link<Leaf>,
    /// What the leaf stands for, and how many times it was put to use: [`Tag`].
    tag: AtomicU64,
    /// Bits set; the owner of the lock keeps it.
    used: AtomicU64,
    summary: Summary<{ words_for(LEAF_WORDS) }>,
    words: [AtomicU64; LEAF_WORDS],
}

/// A leaf's use: the range it stands for in the low 16 bits, the number of the use above them.
///
/// Numbers are odd in use and even in the reserve. They come round after 2^47 uses, months of doing
/// nothing else, by which time no reader is still between its two looks at a tag.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Tag(u64);

impl Tag {
    const RANGE: u64 = 0xffff;
    const USE: u64 = 1 << 16;

    fn is_for(self, range: u32) -> bool {
        self.0 & (Self::USE | Self::RANGE) == Self::USE | u64::from(range)
    }
}

impl Chunk for Leaf {
    fn new() -> Self {
        Self {
            next_free: Link::none(),
            tag: AtomicU64::new(0),
            used: AtomicU64::new(0),
            summary: Summary::new(),
            words: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    fn next_free(&self) -> &Link<Self> {
        &self.next_free
    }
}

// For readers, who hold no lock.
impl Leaf {
    /// Whether `bit` is set, as the bit of a pid of `range`.
    #[inline]
    pub(super) fn has(&self, range: u32, bit: usize) -> bool {
        let tag = self.tag();
        tag.is_for(range)
            && self
                .word(tag, bit / 64)
                .is_some_and(|w| w >> (bit % 64) & 1 != 0)
    }

    /// The first set bit from `bit` on, as long as the leaf stands for `range`.
    pub(super) fn next(&self, range: u32, bit: usize) -> Option<usize> {
        let tag = self.tag();
        if !tag.is_for(range) {
            return None;
        }
        let mut mask = u64::MAX << (bit % 64);
        let mut from = bit / 64;
        while from < LEAF_WORDS {
            let w = self.summary.next(from)?;
            if w != from {
                mask = u64::MAX;
            }
            let bits = self.word(tag, w)? & mask;
            if bits != 0 {
                return Some(w * 64 + bits.trailing_zeros() as usize);
            }
            mask = u64::MAX;
            from = w + 1;
        }
        None
    }

    fn tag(&self) -> Tag {
        Tag(self.tag.load(Ordering::Acquire))
    }

    /// Word `w`, if it is of the use that `tag` names.
    ///
    /// The first look at the tag is an acquire: words of earlier uses, all zero by then, are behind
    /// us. If the word is of a later use, its bits were stored with release after the tag of that
    /// use; having acquired them, the second look sees that tag or a still later one.
    #[inline]
    fn word(&self, tag: Tag, w: usize) -> Option<u64> {
        let word = self.words[w].load(Ordering::Acquire);
        (Tag(self.tag.load(Ordering::Relaxed)) == tag).then_some(word)
    }
}

// For the owner of the lock.
impl Leaf {
    /// Puts an empty leaf of the reserve to use, before it is linked.
    pub(super) fn begin(&self, range: u32) {
        let uses = (self.tag.load(Ordering::Relaxed) & !Tag::RANGE).wrapping_add(Tag::USE);
        self.tag.store(uses | u64::from(range), Ordering::Release);
    }

    /// Ends the use of an emptied leaf, after it was unlinked.
    pub(super) fn end(&self) {
        let uses = (self.tag.load(Ordering::Relaxed) & !Tag::RANGE).wrapping_add(Tag::USE);
        self.tag.store(uses, Ordering::Release);
    }

    /// Sets `bit`; false if it was set.
    #[inline]
    pub(super) fn set(&self, bit: usize) -> bool {
        let (w, mask) = (bit / 64, 1 << (bit % 64));
        let old = self.words[w].load(Ordering::Relaxed);
        if old & mask != 0 {
            return false;
        }
        // The summary first: who has seen the bit must find it by `next` as well.
        if old == 0 {
            self.summary.set(w);
        }
        self.words[w].store(old | mask, Ordering::Release);
        self.used
            .store(self.used.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        true
    }

    /// Clears `bit`; `None` if it was clear, else whether the leaf is now empty.
    #[inline]
    pub(super) fn clear(&self, bit: usize) -> Option<bool> {
        let (w, mask) = (bit / 64, 1 << (bit % 64));
        let old = self.words[w].load(Ordering::Relaxed);
        if old & mask == 0 {
            return None;
        }
        self.words[w].store(old & !mask, Ordering::Release);
        if old == mask {
            self.summary.clear(w);
        }
        let used = self.used.load(Ordering::Relaxed) - 1;
        self.used.store(used, Ordering::Relaxed);
        Some(used == 0)
    }

    /// Clears every bit; returns how many were set.
    pub(super) fn clear_all(&self) -> u64 {
        let mut from = 0;
        while let Some(w) = self.summary.next(from) {
            self.words[w].store(0, Ordering::Release);
            self.summary.clear(w);
            if w + 1 == LEAF_WORDS {
                break;
            }
            from = w + 1;
        }
        let used = self.used.load(Ordering::Relaxed);
        self.used.store(0, Ordering::Relaxed);
        used
    }
}
