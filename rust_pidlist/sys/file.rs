//! Open files of the module: what a descriptor does, and descriptors without a path.
//!
//! C headers: [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/anon_inodes.h`](srctree/include/linux/anon_inodes.h)

use core::marker::PhantomData;

use kernel::bindings;
use kernel::error::{from_err_ptr, from_result};
use kernel::ffi::{c_char, c_int, c_long, c_uint, c_ulong};
use kernel::fs::file::{flags, File, FileDescriptorReservation};
use kernel::iov::IovIterSource;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::aref::ARef;
use kernel::uaccess::{UserPtr, UserSlice, UserSliceWriter};

use super::cred::User;
use super::wait_queue::WaitQueue;

#[expect(improper_ctypes, reason = "the pointers only pass through")]
extern "C" {
    /// This module; the kernel crates of 7.2 and 7.3 do not agree on how to name it.
    static __this_module: bindings::module;

    fn pidlist_anon_inode_getfile(
        name: *const c_char,
        operations: *const bindings::file_operations,
        private: *mut kernel::ffi::c_void,
        flags: c_int,
        opener: *const bindings::file,
    ) -> *mut bindings::file;
}

/// What an open file does. Every function but `poll` may sleep; several may run at once.
pub(crate) trait Operations: Send + Sync + Sized + 'static {
    /// Fills `to`; returns the number of bytes, 0 at the end.
    fn read(&self, file: Opened<'_>, to: UserSliceWriter) -> Result<usize>;

    /// Takes all of `from`.
    fn write(&self, file: Opened<'_>, from: &mut IovIterSource<'_>) -> Result;

    /// Answers ioctl `cmd`.
    fn ioctl(&self, file: Opened<'_>, cmd: u32, arg: UserPtr) -> Result<u32>;

    /// The `EPOLL` bits that hold, after [`Poll::wait_for`] was told what changes them.
    fn poll(&self, poll: Poll<'_>) -> u32;
}

/// The open file that an operation is called for.
#[derive(Clone, Copy)]
pub(crate) struct Opened<'a>(&'a File);

impl Opened<'_> {
    /// Whether it is open for writing.
    pub(crate) fn is_writable(self) -> bool {
        self.access_mode() != flags::O_RDONLY
    }

    /// Whether operations should fail rather than wait.
    pub(crate) fn is_nonblocking(self) -> bool {
        self.0.flags() & flags::O_NONBLOCK != 0
    }

    /// `O_RDONLY`, `O_WRONLY` or `O_RDWR`.
    pub(crate) fn access_mode(self) -> u32 {
        self.0.flags() & flags::O_ACCMODE
    }

    /// Who opened it.
    pub(crate) fn opener(&self) -> User<'_> {
        User::opener(self.0)
    }
}

/// A call of `poll`, which may want to hear of changes.
pub(crate) struct Poll<'a> {
    file: *mut bindings::file,
    table: *mut bindings::poll_table_struct,
    _call: PhantomData<&'a ()>,
}

impl Poll<'_> {
    /// Has the caller woken with `queue`.
    ///
    /// The queue must belong to what the file keeps alive, which is true of what [`Operations`] owns.
    pub(crate) fn wait_for(&self, queue: &WaitQueue) {
        // SAFETY: `poll` was called with these; the file, which outlives its pollers, owns the queue.
        unsafe { bindings::poll_wait(self.file, queue.as_raw(), self.table) };
    }
}

/// The kernel's table of functions for files that own a `T`.
pub(crate) struct Table<T>(PhantomData<T>);

impl<T: Operations> Table<T> {
    /// For files whose `private_data` is a `KBox<T>`, set up once and by [`Self::release`] dropped.
    ///
    /// It holds the module while a file is open.
    pub(super) const FILE_OPERATIONS: bindings::file_operations = bindings::file_operations {
        owner: (&raw const __this_module).cast_mut(),
        release: Some(Self::release),
        read: Some(Self::read),
        // One call for all segments of a writev: a word may span two of them.
        write_iter: Some(Self::write_iter),
        unlocked_ioctl: Some(Self::ioctl),
        compat_ioctl: bindings::compat_ptr_ioctl,
        poll: Some(Self::poll),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `file` is an open file of this table, and outlives the borrows.
    unsafe fn parts<'a>(file: *mut bindings::file) -> (&'a T, Opened<'a>) {
        // SAFETY: Whoever made the file stored a `KBox<T>` that `release` takes back. Positions are
        // not used, so nothing depends on how the caller got hold of the file.
        unsafe { (&*(*file).private_data.cast::<T>(), Opened(File::from_raw_file(file))) }
    }

    /// # Safety
    ///
    /// Only the kernel calls it, once, for a file of this table that nobody uses any more.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: Whoever made the file gave it this box.
        drop(unsafe { KBox::from_raw((*file).private_data.cast::<T>()) });
        0
    }

    /// # Safety
    ///
    /// Only the kernel calls it, for an open file of this table.
    unsafe extern "C" fn read(
        file: *mut bindings::file,
        buffer: *mut c_char,
        len: usize,
        _pos: *mut bindings::loff_t,
    ) -> isize {
        from_result(|| {
            let to = UserSlice::new(UserPtr::from_ptr(buffer.cast()), len).writer();
            // SAFETY: The kernel calls us with a file of ours.
            let (operations, opened) = unsafe { Self::parts(file) };
            Ok(operations.read(opened, to)? as isize)
        })
    }

    /// # Safety
    ///
    /// Only the kernel calls it, for an open file of this table.
    unsafe extern "C" fn write_iter(
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        from_result(|| {
            // SAFETY: The kernel calls us with a file of ours, and an iterator over what to write.
            let ((operations, opened), from) =
                unsafe { (Self::parts((*kiocb).ki_filp), IovIterSource::from_raw(iter)) };
            let len = from.len();
            operations.write(opened, from)?;
            Ok(len as isize)
        })
    }

    /// # Safety
    ///
    /// Only the kernel calls it, for an open file of this table.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        from_result(|| {
            // SAFETY: The kernel calls us with a file of ours.
            let (operations, opened) = unsafe { Self::parts(file) };
            Ok(operations.ioctl(opened, cmd, UserPtr::from_addr(arg as usize))? as isize)
        }) as c_long
    }

    /// # Safety
    ///
    /// Only the kernel calls it, for an open file of this table.
    unsafe extern "C" fn poll(
        file: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) -> bindings::__poll_t {
        // SAFETY: The kernel calls us with a file of ours.
        let (operations, _) = unsafe { Self::parts(file) };
        operations.poll(Poll { file, table, _call: PhantomData })
    }
}

/// Gives the current process a descriptor of a new file without a path, close-on-exec, with the rights
/// of who opened `from`.
///
/// `mode` is `O_RDONLY` or the like, `name` what /proc shows. May sleep.
///
/// # Errors
///
/// `EMFILE`, `ENFILE`, `ENOMEM`: then `operations` was dropped.
pub(crate) fn anonymous<T: Operations>(
    from: Opened<'_>,
    name: &'static CStr,
    operations: T,
    mode: u32,
) -> Result<u32> {
    let reservation = FileDescriptorReservation::get_unused_fd_flags(bindings::O_CLOEXEC)?;
    let private = KBox::into_raw(KBox::new(operations, GFP_KERNEL)?);
    // SAFETY: The name and the table live as long as the module, which the file holds. `from` is
    // open during this call.
    let file = from_err_ptr(unsafe {
        pidlist_anon_inode_getfile(
            name.as_char_ptr(),
            &raw const *Table::<T>::STATIC,
            private.cast(),
            mode as c_int,
            from.0.as_ptr(),
        )
    })
    .inspect_err(|_| {
        // SAFETY: No file took it.
        drop(unsafe { KBox::from_raw(private) });
    })?;
    let fd = reservation.reserved_fd();
    // SAFETY: The file is new and its reference ours; nobody is in an fdget_pos of it.
    let file = unsafe { ARef::from_raw(core::ptr::NonNull::new_unchecked(file.cast::<File>())) };
    reservation.fd_install(file);
    Ok(fd)
}

impl<T: Operations> Table<T> {
    const STATIC: &'static bindings::file_operations = &Self::FILE_OPERATIONS;
}
