//! A supply of heap memory and a lock of the host's, to run the tree on.

#![expect(unsafe_code)]

use std::ptr::NonNull;

use pidlist_tree::{Batch, Chunk, Chunks, Guarded, Lock, PidSet, Supply};

/// What the next allocation meets.
#[derive(Clone, Copy)]
pub enum Memory {
    Plenty,
    #[cfg_attr(loom, expect(dead_code, reason = "the model tests it"))]
    Exhausted,
}

pub struct Heap;

// SAFETY: A box is valid and unaliased until it is dropped.
unsafe impl Supply for Heap {
    type Mode = Memory;

    fn alloc<T: Chunk>(memory: Memory) -> Option<NonNull<T>> {
        match memory {
            Memory::Plenty => NonNull::new(Box::into_raw(Box::new(T::new()))),
            Memory::Exhausted => None,
        }
    }

    unsafe fn free<T: Chunk>(chunk: NonNull<T>) {
        // SAFETY: The chunk came from `Box::into_raw` in `alloc`.
        drop(unsafe { Box::from_raw(chunk.as_ptr()) });
    }
}

#[cfg(not(loom))]
pub struct HostLock<T>(std::sync::Mutex<T>);
#[cfg(loom)]
pub struct HostLock<T>(loom::sync::Mutex<T>);

impl<T> HostLock<T> {
    fn new(value: T) -> Self {
        #[cfg(not(loom))]
        return Self(std::sync::Mutex::new(value));
        #[cfg(loom)]
        return Self(loom::sync::Mutex::new(value));
    }
}

impl<T> Lock<T> for HostLock<T> {
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }
}

pub type Set = PidSet<Heap, HostLock<Guarded<Heap, ()>>>;

/// A set with `leaves` leaves and one upper chunk in reserve.
pub fn set_with(leaves: usize) -> Set {
    let set = Set::new((), HostLock::new, Memory::Plenty).unwrap();
    refill(&set, Chunks { uppers: 1, leaves });
    set
}

/// Tops the reserve up by `want`.
pub fn refill(set: &Set, want: Chunks) {
    let (batch, whole) = Batch::alloc(want, Memory::Plenty);
    assert!(whole);
    set.write(|w, ()| w.refill(batch));
}
