//! Ours, behind the functions that the kernel's own is used through: the bare set, and a list.

use core::ffi::{c_int, c_void};
use core::marker::PhantomData;

use kernel::bindings;
use kernel::prelude::*;

use crate::abi;
use crate::counter::{nothing, Calls};
use crate::list::{self, Change, List};
use crate::sys::chunks::{Mode, Slab};
use crate::sys::clock::boottime_ns;
use crate::sys::raw_lock::RawSpinLock;
use crate::tree::{Batch, Chunks, Guarded, PidSet};

/// Enough for what is counted.
const RESERVE: Chunks = Chunks { uppers: 1, leaves: 8 };

type Set = PidSet<Slab, RawSpinLock<Guarded<Slab, ()>>>;

/// A bare set with a reserve.
pub(crate) struct Ours(KBox<Set>);

impl Ours {
    /// Makes an empty one. May sleep.
    pub(crate) fn new() -> Result<Self> {
        let set = Set::new((), RawSpinLock::new, Mode::Sleep).ok_or(ENOMEM)?;
        let (batch, whole) = Batch::alloc(RESERVE, Mode::Sleep);
        set.write(|w, ()| w.refill(batch));
        if whole {
            Ok(Self(KBox::new(set, GFP_KERNEL)?))
        } else {
            Err(ENOMEM)
        }
    }

    pub(crate) fn calls(&self) -> Calls<'_> {
        // INVARIANT: The functions take a `Set`, which lives as long as `self`.
        Calls {
            set: core::ptr::from_ref::<Set>(&self.0).cast_mut().cast(),
            has,
            add,
            remove,
            next,
            of: PhantomData,
        }
    }
}

/// A list as the module makes it, of which the current process is a member.
pub(crate) struct Followed {
    list: Pin<KBox<List>>,
    parent: u32,
}

impl Followed {
    /// May sleep.
    pub(crate) fn new() -> Result<Self> {
        let list = KBox::pin_init(list::new(abi::RULE_FOLLOW, 0)?, GFP_KERNEL)?;
        let parent = kernel::current!().group_leader().pid() as u32;
        list.apply(&mut [Change::Add(parent)])?;
        Ok(Self { list, parent })
    }

    /// Does what a fork of the current process does, to a child `pid`. Any context but NMI.
    pub(crate) fn fork(&self, pid: u32) {
        if self.list.forked(self.parent, pid, boottime_ns()) {
            self.list.request();
        }
    }

    pub(crate) fn has(&self, pid: u32) -> bool {
        self.list.has(pid)
    }

    /// Looks a pid up, and does nothing else.
    pub(crate) fn calls(&self) -> Calls<'_> {
        /// # Safety
        ///
        /// `list` is a [`List`].
        unsafe extern "C" fn has(list: *mut c_void, pid: u32) -> bool {
            // SAFETY: The caller's promise.
            unsafe { &*list.cast::<List>() }.has(pid)
        }
        // INVARIANT: The function takes a `List`, which lives as long as `self`.
        Calls {
            set: core::ptr::from_ref::<List>(&self.list).cast_mut().cast(),
            has,
            ..nothing()
        }
    }

    pub(crate) fn stats(&self) -> abi::Stats {
        self.list.stats()
    }

    /// Bytes of it and its chunks, as the allocator accounts them.
    pub(crate) fn bytes(&self) -> u64 {
        let list: *const List = &*self.list;
        // SAFETY: The list is an object of a slab.
        let own = unsafe { bindings::ksize(list.cast()) };
        self.stats().bytes - size_of::<List>() as u64 + own as u64
    }
}

/// # Safety
///
/// `set` is a [`Set`]; so it is for all of these.
unsafe extern "C" fn has(set: *mut c_void, pid: u32) -> bool {
    // SAFETY: The caller's promise.
    unsafe { &*set.cast::<Set>() }.has(pid)
}

/// # Safety
///
/// As for [`has`].
unsafe extern "C" fn add(set: *mut c_void, pid: u32) -> c_int {
    // SAFETY: The caller's promise.
    let set = unsafe { &*set.cast::<Set>() };
    if set.write(|w, ()| w.set(pid)).is_ok() { 0 } else { -1 }
}

/// # Safety
///
/// As for [`has`].
unsafe extern "C" fn remove(set: *mut c_void, pid: u32) -> c_int {
    // SAFETY: The caller's promise.
    let set = unsafe { &*set.cast::<Set>() };
    set.write(|w, ()| w.clear(pid));
    0
}

/// # Safety
///
/// As for [`has`], and `found` can be written to.
unsafe extern "C" fn next(set: *mut c_void, pid: u32, found: *mut u32) -> c_int {
    // SAFETY: The caller's promise.
    match unsafe { &*set.cast::<Set>() }.next(pid) {
        Some(pid) => {
            // SAFETY: The caller's promise.
            unsafe { *found = pid };
            0
        }
        None => -1,
    }
}
