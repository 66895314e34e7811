//! A spinlock that is one on PREEMPT_RT, too, held with interrupts off.
//!
//! C header: [`include/linux/spinlock.h`](srctree/include/linux/spinlock.h)

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

use kernel::bindings;
use kernel::types::Opaque;

use crate::tree::Lock;

extern "C" {
    fn pidlist_raw_spin_lock_init(lock: *mut bindings::raw_spinlock_t);
}

/// A value behind a `raw_spinlock_t`.
///
/// It may be taken in any context but NMI; what runs under it must not sleep or allocate.
pub(crate) struct RawSpinLock<T> {
    lock: Opaque<bindings::raw_spinlock_t>,
    value: UnsafeCell<T>,
}

// SAFETY: The lock can be used from any thread, and sends the value along.
unsafe impl<T: Send> Send for RawSpinLock<T> {}
// SAFETY: The lock gives the value to one thread at a time.
unsafe impl<T: Send> Sync for RawSpinLock<T> {}

impl<T> RawSpinLock<T> {
    /// Makes an unlocked lock. May be called in any context.
    ///
    /// The lock may be moved as long as nobody holds it: it has no address of its own in it, and
    /// lockdep's class key is a static of the shim.
    pub(crate) fn new(value: T) -> Self {
        let mut lock = MaybeUninit::uninit();
        // SAFETY: The pointer is valid for writes; the function initializes the lock.
        let lock = unsafe {
            pidlist_raw_spin_lock_init(lock.as_mut_ptr());
            lock.assume_init()
        };
        Self { lock: Opaque::new(lock), value: UnsafeCell::new(value) }
    }
}

impl<T> Lock<T> for RawSpinLock<T> {
    #[inline]
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: `new` initialized the lock.
        let flags = unsafe { bindings::_raw_spin_lock_irqsave(self.lock.get()) };
        // SAFETY: We hold the lock, and give the borrow back before we release it.
        let result = f(unsafe { &mut *self.value.get() });
        // SAFETY: This thread took the lock above.
        unsafe { bindings::_raw_spin_unlock_irqrestore(self.lock.get(), flags) };
        result
    }
}
