//! Waiting for something to happen.
//!
//! C header: [`include/linux/wait.h`](srctree/include/linux/wait.h)

use kernel::bindings;
use kernel::error::to_result;
use kernel::ffi::{c_int, c_void};
use kernel::prelude::*;
use kernel::types::Opaque;

extern "C" {
    fn pidlist_init_wait_queue(queue: *mut bindings::wait_queue_head);
    fn pidlist_wake_up(queue: *mut bindings::wait_queue_head);
    fn pidlist_wait_event(
        queue: *mut bindings::wait_queue_head,
        condition: unsafe extern "C" fn(*mut c_void) -> bool,
        argument: *mut c_void,
    ) -> c_int;
}

/// Tasks that wait.
#[pin_data]
pub(crate) struct WaitQueue {
    #[pin]
    queue: Opaque<bindings::wait_queue_head>,
}

// SAFETY: A wait queue may be used and dropped by any thread.
unsafe impl Send for WaitQueue {}
// SAFETY: It has a lock of its own.
unsafe impl Sync for WaitQueue {}

impl WaitQueue {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            // SAFETY: The slot is valid for writes, and stays where it is.
            queue <- Opaque::ffi_init(|queue| unsafe { pidlist_init_wait_queue(queue) }),
        })
    }

    /// Wakes those who wait, if anybody does. Any context but NMI, with no raw lock held.
    ///
    /// What they wait for must have been written before.
    pub(crate) fn wake(&self) {
        // SAFETY: The queue is initialized.
        unsafe { pidlist_wake_up(self.queue.get()) };
    }

    /// Waits until `condition` is true, which may look but not sleep. May sleep.
    ///
    /// # Errors
    ///
    /// `ERESTARTSYS` for a signal.
    pub(crate) fn wait_until<F: Fn() -> bool>(&self, condition: F) -> Result {
        /// # Safety
        ///
        /// `condition` is that of the call below.
        unsafe extern "C" fn holds<F: Fn() -> bool>(condition: *mut c_void) -> bool {
            // SAFETY: By the function's contract.
            unsafe { (*condition.cast::<F>())() }
        }

        // SAFETY: The queue is initialized; the condition outlives the call.
        to_result(unsafe {
            pidlist_wait_event(self.queue.get(), holds::<F>, (&raw const condition).cast_mut().cast())
        })
    }

    pub(super) fn as_raw(&self) -> *mut bindings::wait_queue_head {
        self.queue.get()
    }
}
