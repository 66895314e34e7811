//! The ioctls of `/dev/pidlist`, one function each.

#![expect(unsafe_code)]

use std::fs::File;

use pidlist_abi::pidset as abi;
use rustix::io::{Errno, Result};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};

/// An ioctl that takes the address of a `T` and returns a number.
struct Call<'a, T, const OPCODE: Opcode>(&'a mut T);

// SAFETY: The kernel reads or writes no more than a `T` at the address, for the pairs of type and
// opcode below.
unsafe impl<T, const OPCODE: Opcode> Ioctl for Call<'_, T, OPCODE> {
    type Output = u32;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        OPCODE
    }

    fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
        (&raw mut *self.0).cast()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut rustix::ffi::c_void) -> Result<u32> {
        u32::try_from(output).map_err(|_| Errno::OVERFLOW)
    }
}

pub(crate) fn info(device: &File) -> Result<abi::Info> {
    let mut info = abi::Info::default();
    // SAFETY: INFO writes an `Info`.
    unsafe { ioctl(device, Call::<_, { abi::INFO }>(&mut info)) }?;
    Ok(info)
}

pub(crate) fn add(device: &File, pids: &[u32]) -> Result<()> {
    // SAFETY: ADD reads a `Pids` and the pids it leads to.
    unsafe { ioctl(device, Call::<_, { abi::ADD }>(&mut list(pids))) }.map(drop)
}

pub(crate) fn remove(device: &File, pids: &[u32]) -> Result<()> {
    // SAFETY: REMOVE reads a `Pids` and the pids it leads to.
    unsafe { ioctl(device, Call::<_, { abi::REMOVE }>(&mut list(pids))) }.map(drop)
}

pub(crate) fn has(device: &File, mut pid: u32) -> Result<bool> {
    // SAFETY: HAS reads a `u32`.
    Ok(unsafe { ioctl(device, Call::<_, { abi::HAS }>(&mut pid)) }? != 0)
}

/// Fills `to` with members from `from` on; returns how many there were.
pub(crate) fn span(device: &File, from: u32, to: &mut [u32]) -> Result<usize> {
    let mut span = abi::Span {
        addr: to.as_mut_ptr() as u64,
        len: length(to),
        from,
    };
    // SAFETY: SPAN reads a `Span` and writes pids to where it points, which `to` lends us.
    Ok(unsafe { ioctl(device, Call::<_, { abi::SPAN }>(&mut span)) }? as usize)
}

pub(crate) fn clear(device: &File) -> Result<()> {
    // SAFETY: CLEAR takes no argument.
    unsafe { ioctl(device, Call::<_, { abi::CLEAR }>(&mut ())) }.map(drop)
}

pub(crate) fn set_rules(device: &File, mut rules: abi::Rules) -> Result<()> {
    // SAFETY: RULES reads a `Rules`.
    unsafe { ioctl(device, Call::<_, { abi::RULES }>(&mut rules)) }.map(drop)
}

pub(crate) fn stats(device: &File) -> Result<abi::Stats> {
    let mut stats = abi::Stats::default();
    // SAFETY: STATS writes a `Stats`.
    unsafe { ioctl(device, Call::<_, { abi::STATS }>(&mut stats)) }?;
    Ok(stats)
}

fn list(pids: &[u32]) -> abi::Pids {
    abi::Pids {
        addr: pids.as_ptr() as u64,
        len: length(pids),
        flags: 0,
    }
}

/// The module refuses more than `BATCH_MAX`, so a length cut off here is refused, too.
fn length(pids: &[u32]) -> u32 {
    u32::try_from(pids.len()).unwrap_or(u32::MAX)
}
