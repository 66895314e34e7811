//! Counts the instructions of a function that is called through a pointer.
//!
//! Under qemu's `-icount shift=0` the time stamp counter advances by one with each instruction.

use core::arch::x86_64::_rdtsc;
use core::ffi::{c_int, c_void};
use core::hint::black_box;

extern "C" {
    fn pidlist_test_irq_save() -> c_ulong;
    fn pidlist_test_irq_restore(flags: c_ulong);
}
use core::ffi::c_ulong;

/// Runs `f` with interrupts off.
pub(crate) fn without_interrupts<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: The flags are given back below, on the same processor.
    let flags = unsafe { pidlist_test_irq_save() };
    let result = f();
    // SAFETY: They are those of the call above.
    unsafe { pidlist_test_irq_restore(flags) };
    result
}

/// A set behind the functions that the kernel's own is used through.
///
/// # Invariants
///
/// The functions can be called with `set`, as long as the borrow `'a` lasts, in any context.
pub(crate) struct Calls<'a> {
    pub(crate) set: *mut c_void,
    pub(crate) has: unsafe extern "C" fn(*mut c_void, u32) -> bool,
    pub(crate) add: unsafe extern "C" fn(*mut c_void, u32) -> c_int,
    pub(crate) remove: unsafe extern "C" fn(*mut c_void, u32) -> c_int,
    pub(crate) next: unsafe extern "C" fn(*mut c_void, u32, *mut u32) -> c_int,
    pub(crate) of: core::marker::PhantomData<&'a ()>,
}

/// Nothing behind the same functions: what is counted then is the loop and the call.
pub(crate) fn nothing() -> Calls<'static> {
    unsafe extern "C" fn has(_set: *mut c_void, _pid: u32) -> bool {
        false
    }
    unsafe extern "C" fn change(_set: *mut c_void, _pid: u32) -> c_int {
        0
    }
    unsafe extern "C" fn next(_set: *mut c_void, _pid: u32, _next: *mut u32) -> c_int {
        -1
    }
    // INVARIANT: They do not look at the set.
    Calls {
        set: core::ptr::null_mut(),
        has,
        add: change,
        remove: change,
        next,
        of: core::marker::PhantomData,
    }
}

impl Calls<'_> {
    /// Instructions of looking each of `pids` up; and how many were in.
    #[inline(never)]
    pub(crate) fn count_has(&self, pids: &[u32]) -> (u64, usize) {
        let (set, has, pids) = black_box((self.set, self.has, pids));
        let mut found = 0;
        let ticks = ticks(|| {
            for &pid in pids {
                // SAFETY: By the type invariant.
                found += usize::from(unsafe { has(set, pid) });
            }
        });
        (ticks, found)
    }

    /// Instructions of adding each of `pids`; and how many could not be.
    pub(crate) fn count_add(&self, pids: &[u32]) -> (u64, usize) {
        self.count_change(self.add, pids)
    }

    /// Instructions of removing each of `pids`; and how many could not be.
    pub(crate) fn count_remove(&self, pids: &[u32]) -> (u64, usize) {
        self.count_change(self.remove, pids)
    }

    #[inline(never)]
    fn count_change(
        &self,
        change: unsafe extern "C" fn(*mut c_void, u32) -> c_int,
        pids: &[u32],
    ) -> (u64, usize) {
        let (set, change, pids) = black_box((self.set, change, pids));
        let mut failed = 0;
        let ticks = ticks(|| {
            for &pid in pids {
                // SAFETY: By the type invariant.
                failed += usize::from(unsafe { change(set, pid) } < 0);
            }
        });
        (ticks, failed)
    }

    /// Instructions of finding the first member from each of `pids` on; and the last one found.
    #[inline(never)]
    pub(crate) fn count_next(&self, pids: &[u32]) -> (u64, Option<u32>) {
        let (set, next, pids) = black_box((self.set, self.next, pids));
        let (mut found, mut last) = (0, -1);
        let ticks = ticks(|| {
            for &pid in pids {
                // SAFETY: By the type invariant; `found` can be written to.
                last = unsafe { next(set, pid, &mut found) };
            }
        });
        (ticks, (last == 0).then_some(found))
    }

    pub(crate) fn has(&self, pid: u32) -> bool {
        // SAFETY: By the type invariant.
        unsafe { (self.has)(self.set, pid) }
    }

    /// Returns whether there was memory.
    pub(crate) fn add(&self, pid: u32) -> bool {
        // SAFETY: By the type invariant.
        unsafe { (self.add)(self.set, pid) == 0 }
    }

    pub(crate) fn remove(&self, pid: u32) {
        // SAFETY: By the type invariant.
        unsafe { (self.remove)(self.set, pid) };
    }
}

// SAFETY: The functions may be called from any thread.
unsafe impl Sync for Calls<'_> {}

fn ticks(f: impl FnOnce()) -> u64 {
    without_interrupts(|| {
        // SAFETY: Every x86_64 processor has the instruction.
        let start = unsafe { _rdtsc() };
        f();
        // SAFETY: As above.
        let end = unsafe { _rdtsc() };
        end - start
    })
}
