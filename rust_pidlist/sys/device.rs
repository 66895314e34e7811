//! A character device below `/dev`, mode 0600.
//!
//! Unlike the kernel crate's `miscdevice` of 7.2 it holds the module while a descriptor is open.
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h)

use core::marker::PhantomPinned;

use kernel::bindings;
use kernel::error::{from_result, to_result};
use kernel::ffi::{c_char, c_int, c_long, c_uint, c_ulong};
use kernel::fs::file::flags;
use kernel::iov::IovIterSource;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::Arc;
use kernel::types::Opaque;
use kernel::uaccess::{UserPtr, UserSlice, UserSliceWriter};

/// What a device does. Every function may sleep; several may run at once.
pub(crate) trait Operations: Send + Sync + 'static {
    /// Fills `to` from position `pos` on, which it moves; returns the number of bytes.
    fn read(&self, to: UserSliceWriter, pos: &mut u64) -> Result<usize>;

    /// Takes all of `from`.
    fn write(&self, from: &mut IovIterSource<'_>) -> Result;

    /// Answers ioctl `cmd`, from a descriptor that is open for writing or is not.
    fn ioctl(&self, cmd: u32, arg: UserPtr, writable: bool) -> Result<u32>;
}

/// A device that is there until it is dropped.
///
/// # Invariants
///
/// `misc` is registered, with the operations of this type.
#[pin_data(PinnedDrop)]
pub(crate) struct Device<T: Operations> {
    operations: Arc<T>,
    #[pin]
    misc: Opaque<bindings::miscdevice>,
    #[pin]
    _pin: PhantomPinned,
}

// SAFETY: `misc_deregister` may run in any thread, and `T` is `Send` and `Sync`.
unsafe impl<T: Operations> Send for Device<T> {}
// SAFETY: A shared device offers nothing.
unsafe impl<T: Operations> Sync for Device<T> {}

impl<T: Operations> Device<T> {
    const FILE_OPERATIONS: bindings::file_operations = bindings::file_operations {
        open: Some(Self::open),
        release: Some(Self::release),
        read: Some(Self::read),
        // One call for all segments of a writev: a word may span two of them.
        write_iter: Some(Self::write_iter),
        unlocked_ioctl: Some(Self::ioctl),
        compat_ioctl: bindings::compat_ptr_ioctl,
        ..pin_init::zeroed()
    };

    /// Makes the device appear as `/dev/<name>`. May sleep.
    ///
    /// `module` cannot be unloaded while a descriptor is open.
    pub(crate) fn register(
        name: &'static CStr,
        module: &'static ThisModule,
        operations: Arc<T>,
    ) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // First, as `open` may be called from here on.
            operations,
            misc <- Opaque::try_ffi_init(move |slot: *mut bindings::miscdevice| {
                let fops = KBox::new(
                    bindings::file_operations { owner: module.as_ptr(), ..Self::FILE_OPERATIONS },
                    GFP_KERNEL,
                )?;
                let misc = bindings::miscdevice {
                    minor: bindings::MISC_DYNAMIC_MINOR as c_int,
                    name: name.as_char_ptr(),
                    fops: KBox::into_raw(fops),
                    mode: 0o600,
                    ..pin_init::zeroed()
                };
                // SAFETY: The slot is valid for writes.
                unsafe { slot.write(misc) };
                // SAFETY: The slot is initialized and stays where it is until `drop`, which
                // deregisters it.
                let registered = to_result(unsafe { bindings::misc_register(slot) });
                if registered.is_err() {
                    // SAFETY: The slot was written above; nobody knows of it.
                    drop(unsafe { KBox::from_raw((*slot).fops.cast_mut()) });
                }
                registered
            }),
            _pin: PhantomPinned,
        })
    }

    /// # Safety
    ///
    /// `file` is an open file of a `Device<T>`, and outlives the borrow.
    unsafe fn operations<'a>(file: *mut bindings::file) -> &'a T {
        // SAFETY: `open` stored an `Arc<T>` that `release` takes back.
        unsafe { &*(*file).private_data.cast::<T>() }
    }

    /// # Safety
    ///
    /// Only the kernel calls it, for a file of this device that is being opened.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: `misc_open` set `private_data` to the registered miscdevice, and keeps it
        // registered during this call.
        let misc = unsafe { (*file).private_data.cast::<bindings::miscdevice>() };
        let misc = Opaque::cast_from(misc).cast_mut();
        // SAFETY: By the type invariant it is the field of a `Device<T>`.
        let this = unsafe { &*kernel::container_of!(misc, Self, misc) };
        let operations = Arc::as_ptr(&this.operations);
        core::mem::forget(this.operations.clone());
        // SAFETY: The file is ours to set up; `release` undoes this.
        unsafe { (*file).private_data = operations.cast_mut().cast() };
        // A position is not a count of bytes, so there is nothing to seek to; a shell that could
        // seek would lose lines.
        // SAFETY: The kernel passes the inode and the file that is being opened.
        unsafe { bindings::nonseekable_open(inode, file) }
    }

    /// # Safety
    ///
    /// Only the kernel calls it, once, for a file that [`Self::open`] set up and nobody uses any more.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: `open` leaked this reference; nobody uses the file any more.
        drop(unsafe { Arc::from_raw((*file).private_data.cast::<T>()) });
        0
    }

    /// # Safety
    ///
    /// Only the kernel calls it, for an open file of this device.
    unsafe extern "C" fn read(
        file: *mut bindings::file,
        buffer: *mut c_char,
        len: usize,
        pos: *mut bindings::loff_t,
    ) -> isize {
        from_result(|| {
            let to = UserSlice::new(UserPtr::from_ptr(buffer.cast()), len).writer();
            // SAFETY: The kernel calls us with a file of ours and a valid position.
            let (operations, pos) = unsafe { (Self::operations(file), &mut *pos) };
            let mut at = u64::try_from(*pos).map_err(|_| EINVAL)?;
            let count = operations.read(to, &mut at)?;
            *pos = at as bindings::loff_t;
            Ok(count as isize)
        })
    }

    /// # Safety
    ///
    /// Only the kernel calls it, for an open file of this device.
    unsafe extern "C" fn write_iter(
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        from_result(|| {
            // SAFETY: The kernel calls us with a file of ours, and an iterator over what to write.
            let (operations, from) =
                unsafe { (Self::operations((*kiocb).ki_filp), IovIterSource::from_raw(iter)) };
            let len = from.len();
            operations.write(from)?;
            Ok(len as isize)
        })
    }

    /// # Safety
    ///
    /// Only the kernel calls it, for an open file of this device.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        from_result(|| {
            // SAFETY: The kernel calls us with a file of ours.
            let (operations, flags) = unsafe { (Self::operations(file), (*file).f_flags) };
            let writable = flags & flags::O_ACCMODE != flags::O_RDONLY;
            Ok(operations.ioctl(cmd, UserPtr::from_addr(arg as usize), writable)? as isize)
        }) as c_long
    }
}

#[pinned_drop]
impl<T: Operations> PinnedDrop for Device<T> {
    // May sleep.
    fn drop(self: Pin<&mut Self>) {
        let misc = self.misc.get();
        // SAFETY: By the type invariant it is registered. An open file holds the module, whose
        // unloading is what drops us, so the operations are not in use and were made by `register`.
        unsafe {
            bindings::misc_deregister(misc);
            drop(KBox::from_raw((*misc).fops.cast_mut()));
        }
    }
}
