//! What a list remembers of its joins and leaves: the latest [`abi::EVENTS_KEPT`] of them.

use kernel::alloc::flags::GFP_KERNEL_ACCOUNT;
use kernel::prelude::*;

use crate::abi;

/// A change of the membership.
#[derive(Clone, Copy, Default)]
pub(crate) struct Record {
    pub(crate) time_ns: u64,
    pub(crate) id: u32,
    /// An `EVENT_` constant.
    pub(crate) kind: u32,
}

/// The latest records. Records are numbered from 1.
pub(crate) struct Log {
    ring: KVVec<Record>,
    /// The number of the next record.
    next: u64,
}

/// What a reader got.
pub(crate) struct Piece {
    /// The number of the first record.
    pub(crate) first: u64,
    /// Records.
    pub(crate) len: usize,
    /// How many that were wanted are no longer there.
    pub(crate) lost: u64,
}

impl Log {
    const KEPT: usize = abi::EVENTS_KEPT as usize;

    /// An empty log. May sleep.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { ring: KVVec::with_capacity(Self::KEPT, GFP_KERNEL_ACCOUNT)?, next: 1 })
    }

    /// Bytes of memory it takes.
    pub(crate) const fn bytes() -> usize {
        Self::KEPT * size_of::<Record>()
    }

    /// The number of the next record.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Adds a record, in place of the oldest if it is full. Allocates nothing.
    pub(crate) fn push(&mut self, record: Record) {
        let at = Self::index(self.next);
        match self.ring.get_mut(at) {
            Some(oldest) => *oldest = record,
            // There is room: the ring grows up to its capacity, in order.
            None => drop(self.ring.push_within_capacity(record)),
        }
        self.next += 1;
    }

    /// Copies records from number `from` on.
    pub(crate) fn read(&self, from: u64, to: &mut [Record]) -> Piece {
        let oldest = self.next - self.ring.len() as u64;
        let first = from.clamp(oldest, self.next);
        let len = to.len().min((self.next - first) as usize);
        for (number, slot) in (first..).zip(&mut to[..len]) {
            *slot = self.ring[Self::index(number)];
        }
        Piece { first, len, lost: first.saturating_sub(from) }
    }

    fn index(number: u64) -> usize {
        ((number - 1) % abi::EVENTS_KEPT) as usize
    }
}
