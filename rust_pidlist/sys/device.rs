//! A character device below `/dev`, mode 0600.
//!
//! Unlike the kernel crate's `miscdevice` of 7.2 it holds the module while a descriptor is open.
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h)

use core::marker::PhantomPinned;

use kernel::bindings;
use kernel::error::{from_result, to_result};
use kernel::ffi::c_int;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::Arc;
use kernel::types::Opaque;

use super::file::{Operations, Table};

/// What opening a device leads to.
pub(crate) trait Open: Send + Sync + 'static {
    /// What a descriptor does.
    type File: Operations;

    /// Makes the file for a new descriptor. May sleep.
    fn open(&self) -> Result<Self::File>;
}

/// A device that is there until it is dropped.
///
/// # Invariants
///
/// `misc` is registered, with the operations of this type.
#[pin_data(PinnedDrop)]
pub(crate) struct Device<T: Open> {
    opens: Arc<T>,
    #[pin]
    misc: Opaque<bindings::miscdevice>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: `misc_deregister` may run in any thread, and `T` is `Send` and `Sync`.
unsafe impl<T: Open> Send for Device<T> {}
// SAFETY: A shared device offers nothing.
unsafe impl<T: Open> Sync for Device<T> {}

impl<T: Open> Device<T> {
    const FILE_OPERATIONS: &'static bindings::file_operations = &bindings::file_operations {
        open: Some(Self::open),
        ..Table::<T::File>::FILE_OPERATIONS
    };

    /// Makes the device appear as `/dev/<name>`. May sleep.
    pub(crate) fn register(name: &'static CStr, opens: Arc<T>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // First, as `open` may be called from here on.
            opens,
            misc <- Opaque::try_ffi_init(move |slot: *mut bindings::miscdevice| {
                let misc = bindings::miscdevice {
                    minor: bindings::MISC_DYNAMIC_MINOR as c_int,
                    name: name.as_char_ptr(),
                    fops: &raw const *Self::FILE_OPERATIONS,
                    mode: 0o600,
                    ..pin_init::zeroed()
                };
                // SAFETY: The slot is valid for writes.
                unsafe { slot.write(misc) };
                // SAFETY: The slot is initialized and stays where it is until `drop`, which
                // deregisters it.
                to_result(unsafe { bindings::misc_register(slot) })
            }),
            _pin: PhantomPinned,
        })
    }

    /// # Safety
    ///
    /// Only the kernel calls it, for a file of this device that is being opened.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            // SAFETY: `misc_open` set `private_data` to the registered miscdevice, and keeps it
            // registered during this call.
            let misc = unsafe { (*file).private_data.cast::<bindings::miscdevice>() };
            let misc = Opaque::cast_from(misc).cast_mut();
            // SAFETY: By the type invariant it is the field of a `Device<T>`.
            let this = unsafe { &*kernel::container_of!(misc, Self, misc) };
            let private = KBox::new(this.opens.open()?, GFP_KERNEL)?;
            // SAFETY: The file is ours to set up; `Table::release` takes the box back.
            unsafe { (*file).private_data = KBox::into_raw(private).cast() };
            // A shell that could seek would lose lines.
            // SAFETY: The kernel passes the inode and the file that is being opened.
            to_result(unsafe { bindings::nonseekable_open(inode, file) }).map(|()| 0)
        })
    }
}

#[pinned_drop]
impl<T: Open> PinnedDrop for Device<T> {
    // May sleep. Open descriptors hold the module, so on unload there are none.
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant it is registered.
        unsafe { bindings::misc_deregister(self.misc.get()) };
    }
}
