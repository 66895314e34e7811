//! The ioctls of `/dev/pidlist`, one function each.
//!
//! A descriptor given here is the module's: `INFO` answered on it, or it came from `OPEN`.

#![expect(unsafe_code)]

use std::os::fd::{AsFd, FromRawFd as _, OwnedFd, RawFd};

use pidlist_abi::pidset as abi;
use rustix::io::{Errno, Result, retry_on_intr};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};

/// An ioctl that takes the address of a `T` and returns a number.
struct Call<'a, T, const OPCODE: Opcode>(&'a mut T);

// SAFETY: The kernel reads or writes no more than a `T` at the address, for the pairs of type and
// opcode below; what lies behind addresses within the `T` is each caller's matter.
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

/// What to do with [`pids`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Add,
    Remove,
}

pub(crate) fn info(device: impl AsFd) -> Result<abi::Info> {
    let mut info = abi::Info::default();
    // SAFETY: INFO writes an `Info`.
    unsafe { ioctl(device, Call::<_, { abi::INFO }>(&mut info)) }?;
    Ok(info)
}

/// Adds or removes pids, and with `tree` their descendants.
pub(crate) fn pids(list: impl AsFd, change: Change, pids: &[u32], tree: bool) -> Result<()> {
    let flags = if tree { abi::PIDS_TREE } else { 0 };
    apply(list, change, pids, flags)
}

/// Adds or removes those of the ranges that there are.
pub(crate) fn ranges(list: impl AsFd, change: Change, ranges: &[[u32; 2]]) -> Result<()> {
    apply(list, change, ranges, abi::PIDS_RANGES)
}

fn apply<T>(list: impl AsFd, change: Change, elements: &[T], flags: u32) -> Result<()> {
    let mut pids = abi::Pids {
        addr: elements.as_ptr() as u64,
        len: length(elements),
        flags,
    };
    // Nothing has changed when a signal interrupts this.
    retry_on_intr(|| match change {
        // SAFETY: ADD reads a `Pids`, and the elements that it leads to.
        Change::Add => unsafe { ioctl(list.as_fd(), Call::<_, { abi::ADD }>(&mut pids)) },
        // SAFETY: REMOVE reads a `Pids`, and the elements that it leads to.
        Change::Remove => unsafe { ioctl(list.as_fd(), Call::<_, { abi::REMOVE }>(&mut pids)) },
    })
    .map(drop)
}

pub(crate) fn has(list: impl AsFd, mut pid: u32) -> Result<bool> {
    // SAFETY: HAS reads a `u32`.
    Ok(unsafe { ioctl(list, Call::<_, { abi::HAS }>(&mut pid)) }? != 0)
}

/// Fills `to` with members from `cursor` on; returns how many there were.
pub(crate) fn span(list: impl AsFd, cursor: &mut u64, to: &mut [u32]) -> Result<usize> {
    span_of(list, cursor, to, 0)
}

/// Like [`span`], with the number of each in the initial pid namespace behind it.
pub(crate) fn span_ids(list: impl AsFd, cursor: &mut u64, to: &mut [[u32; 2]]) -> Result<usize> {
    span_of(list, cursor, to, abi::SPAN_IDS)
}

/// `T` is what `flags` say.
fn span_of<T>(list: impl AsFd, cursor: &mut u64, to: &mut [T], flags: u32) -> Result<usize> {
    let mut span = abi::Span {
        addr: to.as_mut_ptr() as u64,
        len: length(to),
        flags,
        cursor: *cursor,
    };
    // SAFETY: SPAN reads and writes a `Span`, and writes up to `len` elements to where it points,
    // which `to` lends us; both callers have it hold what their `flags` ask for, plain integers.
    let count = unsafe { ioctl(list, Call::<_, { abi::SPAN }>(&mut span)) }?;
    *cursor = span.cursor;
    Ok(count as usize)
}

pub(crate) fn clear(list: impl AsFd) -> Result<()> {
    // SAFETY: CLEAR takes no argument.
    unsafe { ioctl(list, Call::<_, { abi::CLEAR }>(&mut ())) }.map(drop)
}

pub(crate) fn set_rules(list: impl AsFd, mut rules: abi::Rules) -> Result<()> {
    // SAFETY: RULES reads a `Rules`.
    unsafe { ioctl(list, Call::<_, { abi::RULES }>(&mut rules)) }.map(drop)
}

pub(crate) fn stats(list: impl AsFd) -> Result<abi::Stats> {
    let mut stats = abi::Stats::default();
    // SAFETY: STATS writes a `Stats`.
    unsafe { ioctl(list, Call::<_, { abi::STATS }>(&mut stats)) }?;
    Ok(stats)
}

pub(crate) fn open(device: impl AsFd, mut open: abi::Open) -> Result<OwnedFd> {
    // SAFETY: OPEN reads an `Open`.
    let fd = unsafe { ioctl(device, Call::<_, { abi::OPEN }>(&mut open)) }?;
    // SAFETY: OPEN returns a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(raw(fd)?) })
}

pub(crate) fn delete(device: impl AsFd, mut name: abi::Name) -> Result<()> {
    // SAFETY: DELETE reads a `Name`.
    unsafe { ioctl(device, Call::<_, { abi::DELETE }>(&mut name)) }.map(drop)
}

/// The list with the least id that is not below `id`.
pub(crate) fn list(device: impl AsFd, id: u32) -> Result<abi::List> {
    let mut list = abi::List {
        name: [0; abi::NAME_LEN],
        id,
        owner: 0,
        flags: 0,
        reserved: 0,
        stats: abi::Stats::default(),
    };
    // SAFETY: LIST reads and writes a `List`.
    unsafe { ioctl(device, Call::<_, { abi::LIST }>(&mut list)) }?;
    Ok(list)
}

pub(crate) fn module(device: impl AsFd) -> Result<abi::Module> {
    let mut module = abi::Module::default();
    // SAFETY: MODULE writes a `Module`.
    unsafe { ioctl(device, Call::<_, { abi::MODULE }>(&mut module)) }?;
    Ok(module)
}

pub(crate) fn events(list: impl AsFd, from: u64) -> Result<OwnedFd> {
    let mut events = abi::Events { from, flags: 0 };
    // SAFETY: EVENTS reads an `Events`.
    let fd = unsafe { ioctl(list, Call::<_, { abi::EVENTS }>(&mut events)) }?;
    // SAFETY: EVENTS returns a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(raw(fd)?) })
}

fn raw(fd: u32) -> Result<RawFd> {
    RawFd::try_from(fd).map_err(|_| Errno::OVERFLOW)
}

/// The module refuses more than `BATCH_MAX`, so a length cut off here is refused, too.
fn length<T>(elements: &[T]) -> u32 {
    u32::try_from(elements.len()).unwrap_or(u32::MAX)
}
