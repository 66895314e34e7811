//! A table whose readers take no lock.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)

use core::mem::ManuallyDrop;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use kernel::bindings;
use kernel::sync::{rcu, Arc, ArcBorrow};

/// Up to `N` shared values, each at an index of its own.
///
/// # Invariants
///
/// An entry is null or came from [`Arc::into_raw`]; its reference is dropped an RCU grace period after
/// the entry was emptied. `end` is beyond every entry that is not null.
pub(crate) struct Published<T: Send + Sync + 'static, const N: usize> {
    entries: [AtomicPtr<T>; N],
    end: AtomicUsize,
}

impl<T: Send + Sync + 'static, const N: usize> Published<T, N> {
    pub(crate) const fn new() -> Self {
        Self { entries: [const { AtomicPtr::new(ptr::null_mut()) }; N], end: AtomicUsize::new(0) }
    }

    /// The values there are, by index, with [`Self::publish`] and [`Self::withdraw`] going on.
    /// Any context but NMI. The RCU read lock keeps what it yields.
    pub(crate) fn iter<'a>(
        &'a self,
        _rcu: &'a rcu::Guard,
    ) -> impl Iterator<Item = (usize, ArcBorrow<'a, T>)> {
        let end = self.end.load(Ordering::Acquire);
        self.entries[..end].iter().enumerate().filter_map(|(i, entry)| {
            let value = entry.load(Ordering::Acquire);
            // SAFETY: By the type invariant, whoever is in an RCU read section since before the load
            // has a reference at least until its end.
            (!value.is_null()).then(|| (i, unsafe { ArcBorrow::from_raw(value) }))
        })
    }

    /// Puts `value` at `index`, which is empty. Callers exclude each other.
    pub(crate) fn publish(&self, index: usize, value: Arc<T>) {
        // INVARIANT: It came from `into_raw`; `end` follows, so that nobody looks beyond it in vain.
        let old = self.entries[index].swap(Arc::into_raw(value).cast_mut(), Ordering::AcqRel);
        debug_assert!(old.is_null());
        self.end.fetch_max(index + 1, Ordering::Release);
    }

    /// Empties `index`. Callers exclude each other.
    pub(crate) fn withdraw(&self, index: usize) -> Option<Withdrawn<T>> {
        let value = self.entries[index].swap(ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: It came from `into_raw`, and the entry gives its reference to us.
        (!value.is_null()).then(|| Withdrawn(unsafe { ManuallyDrop::new(Arc::from_raw(value)) }))
    }
}

/// A value that nobody finds any more, though some may still look at it.
///
/// Drop it where you may sleep: that waits for them.
#[must_use]
pub(crate) struct Withdrawn<T: Send + Sync + 'static>(ManuallyDrop<Arc<T>>);

impl<T: Send + Sync + 'static> Drop for Withdrawn<T> {
    fn drop(&mut self) {
        // SAFETY: May sleep here.
        unsafe { bindings::synchronize_rcu() };
        // SAFETY: It is not used afterwards.
        unsafe { ManuallyDrop::drop(&mut self.0) };
    }
}

impl<T: Send + Sync + 'static, const N: usize> Drop for Published<T, N> {
    // May sleep. Nobody else has a reference, hence nobody reads.
    fn drop(&mut self) {
        for entry in &mut self.entries {
            let value = *entry.get_mut();
            if !value.is_null() {
                // SAFETY: It came from `into_raw`, and the entry's reference is ours.
                drop(unsafe { Arc::from_raw(value) });
            }
        }
    }
}
