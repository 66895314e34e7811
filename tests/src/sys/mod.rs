//! What no safe crate offers: every `unsafe` of the tests is here.

pub mod bpf;
pub mod device;
pub mod memory;
pub mod stall;
pub mod task;

use rustix::io::Errno;

pub type Result<T> = std::result::Result<T, Errno>;

/// What the kernel said.
pub fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// The result of a system call of libc's.
fn check(result: libc::c_long) -> Result<usize> {
    usize::try_from(result).map_err(|_| errno(std::io::Error::last_os_error()))
}
