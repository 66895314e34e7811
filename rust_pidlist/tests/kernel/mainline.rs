//! The running kernel's own `trace_pid_list`.
//!
//! C source: [`kernel/trace/pid_list.c`](srctree/kernel/trace/pid_list.c)

use core::ffi::{c_int, c_void};
use core::marker::PhantomData;
use core::mem::transmute;
use core::ptr::NonNull;

use kernel::prelude::*;
use kernel::str::CStr;

use crate::counter::Calls;

extern "C" {
    fn pidlist_test_symbol(name: *const kernel::ffi::c_char) -> *mut c_void;
    fn pidlist_test_weigh(list: *mut c_void) -> usize;
}

/// The functions, as this kernel has them.
#[derive(Clone, Copy)]
pub(crate) struct Mainline {
    alloc: unsafe extern "C" fn() -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
    has: unsafe extern "C" fn(*mut c_void, u32) -> bool,
    add: unsafe extern "C" fn(*mut c_void, u32) -> c_int,
    remove: unsafe extern "C" fn(*mut c_void, u32) -> c_int,
    next: unsafe extern "C" fn(*mut c_void, u32, *mut u32) -> c_int,
}

fn symbol(name: &CStr) -> Result<NonNull<c_void>> {
    // SAFETY: The name is a string.
    let address = unsafe { pidlist_test_symbol(name.as_char_ptr()) };
    NonNull::new(address).ok_or_else(|| {
        pr_err!("this kernel has no {} that a probe could find\n", name);
        ENOENT
    })
}

impl Mainline {
    /// Finds them. May sleep.
    pub(crate) fn find() -> Result<Self> {
        // SAFETY: The types are those of the functions in pid_list.h.
        unsafe {
            Ok(Self {
                alloc: transmute(symbol(c"trace_pid_list_alloc")?),
                free: transmute(symbol(c"trace_pid_list_free")?),
                has: transmute(symbol(c"trace_pid_list_is_set")?),
                add: transmute(symbol(c"trace_pid_list_set")?),
                remove: transmute(symbol(c"trace_pid_list_clear")?),
                next: transmute(symbol(c"trace_pid_list_next")?),
            })
        }
    }

    /// Makes an empty list. May sleep.
    pub(crate) fn list(self) -> Result<List> {
        // SAFETY: It may be called by anyone who may sleep.
        let list = NonNull::new(unsafe { (self.alloc)() }).ok_or(ENOMEM)?;
        Ok(List { list, mainline: self })
    }
}

/// A list of the kernel's own kind.
pub(crate) struct List {
    list: NonNull<c_void>,
    mainline: Mainline,
}

impl List {
    pub(crate) fn calls(&self) -> Calls<'_> {
        // INVARIANT: The list lives as long as `self`, and these are its functions.
        Calls {
            set: self.list.as_ptr(),
            has: self.mainline.has,
            add: self.mainline.add,
            remove: self.mainline.remove,
            next: self.mainline.next,
            of: PhantomData,
        }
    }

    /// Bytes of it and its chunks, as the allocator accounts them.
    pub(crate) fn bytes(&mut self) -> usize {
        // SAFETY: The list is alive, and nobody else uses it.
        unsafe { pidlist_test_weigh(self.list.as_ptr()) }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: The list is ours, and nobody uses it any more.
        unsafe { (self.mainline.free)(self.list.as_ptr()) };
    }
}
