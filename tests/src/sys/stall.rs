//! A page whose first touch waits.
//!
//! Source: <https://docs.kernel.org/admin-guide/mm/userfaultfd.html>

#![expect(unsafe_code)]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use super::{Result, check};

const PAGE: usize = 4096;
const UFFD_API: u64 = 0xaa;
const MODE_MISSING: u64 = 1;

/// `struct uffdio_api`.
#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`, `struct uffdio_zeropage`.
#[repr(C)]
struct Range {
    start: u64,
    len: u64,
    mode: u64,
    result: u64,
}

/// `_IOWR(0xaa, nr, T)`.
const fn iowr<T>(nr: u32) -> u32 {
    3 << 30 | (size_of::<T>() as u32) << 16 | 0xaa << 8 | nr
}

/// A page that is not there until it is released: whoever touches it, the kernel in his name
/// included, sleeps until then.
pub struct Stall {
    fd: OwnedFd,
    page: usize,
}

impl Stall {
    /// # Errors
    ///
    /// `ENOSYS` if the kernel knows no such thing.
    pub fn new() -> Result<Self> {
        // SAFETY: Makes a descriptor.
        let fd = check(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) })?;
        // SAFETY: The kernel has just made it for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        // SAFETY: A new mapping, where the kernel likes: it replaces none.
        let page = unsafe {
            libc::mmap(
                ptr::null_mut(),
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let page = check(page as libc::c_long)?;
        let this = Self { fd, page };
        let mut api = Api {
            api: UFFD_API,
            features: 0,
            ioctls: 0,
        };
        this.ioctl(iowr::<Api>(0x3f), &mut api)?;
        this.ioctl(iowr::<Range>(0), &mut this.range(MODE_MISSING))?;
        Ok(this)
    }

    fn range(&self, mode: u64) -> Range {
        Range {
            start: self.page as u64,
            len: PAGE as u64,
            mode,
            result: 0,
        }
    }

    fn ioctl<T>(&self, opcode: u32, argument: &mut T) -> Result<()> {
        // SAFETY: Of the right type, by the callers in this file; it speaks of our page alone.
        let result = unsafe {
            libc::syscall(
                libc::SYS_ioctl,
                self.fd.as_raw_fd(),
                opcode,
                ptr::from_mut(argument),
            )
        };
        check(result).map(drop)
    }

    /// Where the page is.
    pub fn address(&self) -> u64 {
        self.page as u64
    }

    /// Lets everyone go on.
    pub fn release(&self) -> Result<()> {
        self.ioctl(iowr::<Range>(4), &mut self.range(0))
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        // SAFETY: Mapped in `new`; nothing in the tests refers to it.
        unsafe { libc::munmap(self.page as *mut libc::c_void, PAGE) };
    }
}
