//! Threads, one on each processor and so on round.

use core::ffi::{c_int, c_uint, c_void};

use kernel::error::to_result;
use kernel::prelude::*;

extern "C" {
    fn pidlist_test_run(
        work: unsafe extern "C" fn(*const c_void, c_uint),
        shared: *const c_void,
        count: c_uint,
    ) -> c_int;
    fn pidlist_test_cpus() -> c_uint;
    fn pidlist_test_breathe();
}

/// What several threads work on.
pub(crate) trait Work: Sync {
    /// What the thread of that number does; it may sleep.
    fn work(&self, thread: u32);
}

/// Runs `count` threads; returns when all are through. May sleep.
pub(crate) fn run<T: Work>(shared: &T, count: u32) -> Result {
    /// # Safety
    ///
    /// `shared` is a `T`.
    unsafe extern "C" fn work<T: Work>(shared: *const c_void, thread: c_uint) {
        // SAFETY: The caller's promise.
        unsafe { &*shared.cast::<T>() }.work(thread);
    }
    let shared: *const T = shared;
    // SAFETY: The function returns when no thread uses `shared` any more.
    to_result(unsafe { pidlist_test_run(work::<T>, shared.cast(), count) })
}

/// Processors that are online.
pub(crate) fn cpus() -> u32 {
    // SAFETY: Anyone may ask.
    unsafe { pidlist_test_cpus() }
}

/// Lets others run. May sleep.
pub(crate) fn breathe() {
    // SAFETY: The callers hold no lock.
    unsafe { pidlist_test_breathe() };
}
