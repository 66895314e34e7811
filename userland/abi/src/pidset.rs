//! `/dev/pidlist`: what a program and the kernel module say to each other.
//!
//! The device speaks two languages. For a shell it is text: reading gives one pid a line in
//! ascending order, writing takes white-space separated `PID` (add) and `!PID` (remove), all of one
//! write or nothing. A descriptor cannot seek. For programs there are the ioctls below.
//!
//! # Errors
//!
//! | errno | meaning |
//! |---|---|
//! | `EINVAL` | a pid outside `1..=`[`Info::pid_max`], an unknown flag, more than [`BATCH_MAX`] pids, text that is not a pid, 4 KiB of text or more that may end within a pid |
//! | `E2BIG` | more than 128 KiB of text, or than [`BATCH_MAX`] pids, in one write |
//! | `EBADF` | a change through a descriptor that is open for reading only |
//! | `EINTR` | a signal came while a process to be added was still being made |
//! | `ESRCH` | no such process: a pid that does not live can be removed, never added |
//! | `EFAULT` | an address that cannot be read or written |
//! | `ENOMEM` | no chunk could be had: nothing was added |
//! | `ENOTTY` | an ioctl that this module does not know |
//!
//! A call that fails has changed nothing.

/// Version of this interface, in [`Info::version`]; it grows with every incompatible change.
pub const VERSION: u32 = 1;

/// Name of the device below `/dev`.
pub const DEVICE_NAME: &str = "pidlist";

/// Most pids in one [`Pids`] or [`Span`] call.
pub const BATCH_MAX: u32 = 4096;

/// Argument of [`INFO`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// The module's [`VERSION`].
    pub version: u32,
    /// The largest pid that a set can hold.
    pub pid_max: u32,
}

/// Argument of [`ADD`], [`REMOVE`]: `len` pids of type `u32` at user address `addr`.
///
/// All of them are applied, or none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pids {
    /// User address of an array of `u32`.
    pub addr: u64,
    /// Elements of the array, at most [`BATCH_MAX`].
    pub len: u32,
    /// Must be zero.
    pub flags: u32,
}

/// Argument of [`SPAN`]: the members from `from` on, in ascending order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// User address of an array of `u32` that receives the members.
    pub addr: u64,
    /// Room in the array, at most [`BATCH_MAX`].
    pub len: u32,
    /// The smallest pid wanted.
    pub from: u32,
}

/// Argument of [`RULES`]: how the set follows processes by itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// [`RULE_FOLLOW`] or zero.
    pub flags: u32,
}

/// In [`Rules::flags`]: children of members become members.
pub const RULE_FOLLOW: u32 = 1 << 0;

/// Argument of [`STATS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Members now.
    pub members: u64,
    /// Chunks that hold members or lead to them.
    pub chunks_used: u64,
    /// Chunks in the reserve.
    pub chunks_free: u64,
    /// Times the reserve was refilled.
    pub refills: u64,
    /// Children that could not be added when they were forked: no chunk was at hand.
    pub failed: u64,
    /// Children that were added later, by the repair that a failure starts.
    pub repaired: u64,
    /// Processes that came to the set by a fork.
    pub followed: u64,
    /// Members that left because their task was freed.
    pub left: u64,
    /// Bytes of memory held for the set.
    pub bytes: u64,
    /// The [`Rules::flags`] in force.
    pub rules: u64,
}

const MAGIC: u32 = 0xbd;
const WRITE: u32 = 1;
const READ: u32 = 2;

/// `_IOC()` of `include/uapi/asm-generic/ioctl.h`.
const fn ioc<T>(dir: u32, nr: u32) -> u32 {
    dir << 30 | (size_of::<T>() as u32) << 16 | MAGIC << 8 | nr
}

/// Reads [`Info`].
pub const INFO: u32 = ioc::<Info>(READ, 0);
/// Adds [`Pids`].
pub const ADD: u32 = ioc::<Pids>(WRITE, 1);
/// Removes [`Pids`]; one that is no member is passed over.
pub const REMOVE: u32 = ioc::<Pids>(WRITE, 2);
/// Takes the address of one pid (`u32`); returns 1 for a member, else 0.
pub const HAS: u32 = ioc::<u32>(WRITE, 3);
/// Reads members into a [`Span`]; returns how many, 0 at the end.
pub const SPAN: u32 = ioc::<Span>(WRITE, 4);
/// Removes every member.
pub const CLEAR: u32 = MAGIC << 8 | 5;
/// Sets [`Rules`].
pub const RULES: u32 = ioc::<Rules>(WRITE, 6);
/// Reads [`Stats`].
pub const STATS: u32 = ioc::<Stats>(READ, 7);
