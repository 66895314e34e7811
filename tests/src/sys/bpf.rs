//! What BPF objects the kernel has.
//!
//! Source: `include/uapi/linux/bpf.h`.

#![expect(unsafe_code)]

use std::mem;

use rustix::io::Errno;

use super::{Result, check};

/// `BPF_…_GET_NEXT_ID`
const PROGRAM_NEXT: u32 = 11;
const MAP_NEXT: u32 = 12;
const LINK_NEXT: u32 = 31;

/// How many there are on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub programs: usize,
    pub maps: usize,
    pub links: usize,
}

impl Count {
    pub fn now() -> Result<Self> {
        Ok(Self {
            programs: count(PROGRAM_NEXT)?,
            maps: count(MAP_NEXT)?,
            links: count(LINK_NEXT)?,
        })
    }
}

/// The part of `union bpf_attr` for these commands.
#[repr(C)]
struct Next {
    start: u32,
    next: u32,
    flags: u32,
}

fn count(command: u32) -> Result<usize> {
    let mut ids = Next {
        start: 0,
        next: 0,
        flags: 0,
    };
    for number in 0.. {
        // SAFETY: The kernel reads and writes `size_of::<Next>()` bytes.
        let done =
            unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut ids, mem::size_of::<Next>()) };
        match check(done) {
            Ok(_) => ids.start = ids.next,
            Err(Errno::NOENT) => return Ok(number),
            Err(error) => return Err(error),
        }
    }
    unreachable!("ids are of 32 bits")
}
