//! Memory: where the tree's chunks come from here, and how much of it anything takes.

#![expect(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::ptr::NonNull;

use pidlist_tree::{Chunk, Supply};

/// Chunks from the heap.
pub struct Heap;

// SAFETY: A box is initialized, nobody else's, and valid at its address until it is dropped.
unsafe impl Supply for Heap {
    type Mode = ();

    fn alloc<T: Chunk>((): ()) -> Option<NonNull<T>> {
        NonNull::new(Box::into_raw(Box::new(T::new())))
    }

    unsafe fn free<T: Chunk>(chunk: NonNull<T>) {
        // SAFETY: The chunk came from `Box::into_raw` in `alloc`, and the caller gives it up.
        drop(unsafe { Box::from_raw(chunk.as_ptr()) });
    }
}

thread_local! {
    /// Bytes that this thread has allocated and not freed.
    static HELD: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator. It counts for each thread, so that others do not disturb; at the cost of
/// an addition, which all that is measured here pays alike.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: isize) {
    // A constant without a destructor: there is no moment at which it cannot be had.
    HELD.with(|held| held.set(held.get().wrapping_add(bytes)));
}

// SAFETY: Every call goes to the system's allocator as it came; counting allocates nothing and does
// not panic.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: The caller keeps to the contract of `alloc`.
        let memory = unsafe { System.alloc(layout) };
        if !memory.is_null() {
            count(layout.size().cast_signed());
        }
        memory
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: The caller keeps to the contract of `alloc_zeroed`.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if !memory.is_null() {
            count(layout.size().cast_signed());
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: The memory came from the system's allocator, by one of the other calls.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: As for `dealloc`; the caller keeps to the contract of `realloc`.
        let moved = unsafe { System.realloc(memory, layout, size) };
        if !moved.is_null() {
            count(size.cast_signed() - layout.size().cast_signed());
        }
        moved
    }
}

/// A sampler of the bytes that what `build` makes takes: itself, and what it holds on the heap, as
/// asked for (an allocator may round up).
pub fn allocated<T>(build: impl Fn() -> T) -> impl FnMut() -> anyhow::Result<f64> {
    move || {
        let before = HELD.get();
        let built = black_box(Box::new(build()));
        let bytes = HELD.get() - before;
        drop(built);
        Ok(bytes as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_and_what_was_freed_is_not() {
        let vec = || Vec::<u64>::with_capacity(10);
        assert_eq!(
            allocated(vec)().unwrap(),
            (size_of::<Vec<u64>>() + 80) as f64
        );
        let grown = || {
            let mut bytes = vec![0_u8; 100];
            bytes.reserve_exact(900);
            drop(vec![0_u8; 5000]);
            bytes.shrink_to(300);
            bytes
        };
        assert_eq!(
            allocated(grown)().unwrap(),
            (size_of::<Vec<u8>>() + 300) as f64
        );
    }
}
