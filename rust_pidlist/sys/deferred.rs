//! Work put off from a context that may do nothing to one that may: irq_work, then a work queue.
//!
//! C headers: [`include/linux/irq_work.h`](srctree/include/linux/irq_work.h),
//! [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use core::ops::Deref;

use kernel::bindings;
use kernel::prelude::*;
use kernel::types::Opaque;

#[expect(improper_ctypes, reason = "the pointers only pass through")]
extern "C" {
    fn pidlist_init_irq_work(
        work: *mut bindings::irq_work,
        func: unsafe extern "C" fn(*mut bindings::irq_work),
    );
    fn pidlist_init_work(
        work: *mut bindings::delayed_work,
        func: unsafe extern "C" fn(*mut bindings::work_struct),
    );
    fn pidlist_schedule_work(work: *mut bindings::delayed_work, delay_ms: u32);
}

/// How long to leave the kernel to find some memory.
const RETRY_MS: u32 = 100;

/// What there is to do later.
pub(crate) trait Upkeep: Sync + 'static {
    /// The part that needs no sleep: runs in interrupt context (on PREEMPT_RT in a thread).
    /// Returns whether that was all; if not, [`Upkeep::thorough`] comes next.
    fn quick(&self) -> bool;

    /// The part that may sleep: runs on the system's work queue. Returns whether that was all; if
    /// not, it is tried again after a while.
    fn thorough(&self) -> bool;
}

/// A value that can ask for its own upkeep.
#[pin_data(PinnedDrop)]
pub(crate) struct Deferred<T: Upkeep> {
    #[pin]
    irq_work: Opaque<bindings::irq_work>,
    #[pin]
    work: Opaque<bindings::delayed_work>,
    value: T,
}

// SAFETY: irq_work and work items may be queued and run on any CPU.
unsafe impl<T: Upkeep + Send> Send for Deferred<T> {}
// SAFETY: Queueing is safe against itself, and `T` is `Sync`.
unsafe impl<T: Upkeep> Sync for Deferred<T> {}

impl<T: Upkeep> Deferred<T> {
    pub(crate) fn new(value: T) -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: The slots are valid for writes, and stay where they are.
            irq_work <- Opaque::ffi_init(|work| unsafe {
                pidlist_init_irq_work(work, Self::run_irq_work)
            }),
            // SAFETY: As above.
            work <- Opaque::ffi_init(|work| unsafe { pidlist_init_work(work, Self::run_work) }),
            value,
        })
    }

    /// Asks for [`Upkeep::quick`], once, however often it is called before that runs.
    ///
    /// Any context, with any lock held.
    pub(crate) fn request(&self) {
        // SAFETY: The irq_work is initialized; `drop` waits for it.
        unsafe { bindings::irq_work_queue(self.irq_work.get()) };
    }

    /// # Safety
    ///
    /// `irq_work` is that of a live `Self`: only [`Self::request`] queues it.
    unsafe extern "C" fn run_irq_work(irq_work: *mut bindings::irq_work) {
        let this = Opaque::cast_from(irq_work);
        // SAFETY: Only `request` queues this irq_work: it is the field of a live `Self`, whose drop
        // waits for us.
        let this = unsafe { &*kernel::container_of!(this, Self, irq_work) };
        if !this.value.quick() {
            // SAFETY: The work is initialized; `drop` waits for it.
            unsafe { pidlist_schedule_work(this.work.get(), 0) };
        }
    }

    /// # Safety
    ///
    /// `work` is that of a live `Self`: only `Self` queues it.
    unsafe extern "C" fn run_work(work: *mut bindings::work_struct) {
        const { assert!(core::mem::offset_of!(bindings::delayed_work, work) == 0) };
        let this = Opaque::cast_from(work.cast::<bindings::delayed_work>());
        // SAFETY: As in `run_irq_work`.
        let this = unsafe { &*kernel::container_of!(this.cast_mut(), Self, work) };
        if !this.value.thorough() {
            // SAFETY: The work is initialized; `drop` waits for it, though it queues itself.
            unsafe { pidlist_schedule_work(this.work.get(), RETRY_MS) };
        }
    }
}

impl<T: Upkeep> Deref for Deferred<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

#[pinned_drop]
impl<T: Upkeep> PinnedDrop for Deferred<T> {
    // May sleep.
    fn drop(self: Pin<&mut Self>) {
        // Nobody else has a reference, so nobody requests any more. The order matters: the irq_work
        // may schedule the work.
        // SAFETY: Both are initialized.
        unsafe {
            bindings::irq_work_sync(self.irq_work.get());
            bindings::cancel_delayed_work_sync(self.work.get());
        }
    }
}
