//! The atomics of the tree: `core`'s, or loom's when it explores their orderings.

#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

#[cfg(not(loom))]
pub(super) use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
