//! `/dev/pidlist`: what a program and the kernel module say to each other.
//!
//! # Lists
//!
//! A list is a set of pids with [`Rules`]. The list [`DEFAULT_LIST`] is always there; others are
//! made ([`OPEN`] with [`OPEN_CREATE`]) and removed ([`DELETE`]) by name. A descriptor answers for one
//! list: `/dev/pidlist` itself for the default one, those that [`OPEN`] returns for the list named.
//! It keeps its list in memory; once the list is removed, every call about it fails with `ENODEV`.
//!
//! A list holds processes (thread group ids), or with [`RULE_THREADS`] threads. Members leave when
//! their task is freed, which is after a zombie was reaped. With [`RULE_FOLLOW`], children of
//! members become members.
//!
//! The *union* ([`OPEN_UNION`]) is a view: who is a member of some list without [`RULE_EXCLUDE`], and
//! of none with it.
//!
//! # Text
//!
//! For a shell, reading a descriptor gives one pid a line; writing takes white-space separated words,
//! all of one write or nothing:
//!
//! | word | meaning |
//! |---|---|
//! | `PID` | add it |
//! | `FIRST-LAST` | add those that live now, none perhaps |
//! | `!PID`, `!FIRST-LAST` | remove |
//!
//! A descriptor cannot seek, and a read after the last line gives nothing.
//!
//! # Pid namespaces
//!
//! Pids are taken and given as the caller's active pid namespace numbers them. Who has no number
//! there cannot be added, is removed by [`CLEAR`] only, and is not shown. Lists are read in the order of the initial
//! namespace's numbers, so elsewhere pids need not ascend.
//!
//! # Rights
//!
//! They are those of the opener, at the time of the open. Whoever may open the device may look. With
//! `CAP_SYS_ADMIN` in the initial user namespace one may do everything. Without it, one may make up
//! to [`LISTS_MAX_PER_USER`] lists, and change and remove lists of the same effective uid; the
//! default list belongs to uid 0. A change takes a descriptor that is open for writing.
//!
//! # Errors
//!
//! | errno | meaning |
//! |---|---|
//! | `EINVAL` | a pid outside `1..=`[`Info::pid_max`], a range that ends before it begins, an unknown flag, a list's kind ([`RULE_THREADS`]) to be changed, a name with other characters than [`name_is_valid`] takes, a bound below [`BYTES_MIN`], an event number that no event had yet, text that is not as above, 4 KiB of text or more that may end within a word |
//! | `ENAMETOOLONG` | a name that does not end within [`NAME_LEN`] bytes |
//! | `E2BIG` | more than [`BATCH_MAX`] pids (ranges counted by who is there), or than 128 KiB of text |
//! | `EBADF` | a change through a descriptor that is open for reading only |
//! | `EPERM` | a change to another's list without the capability |
//! | `EINTR` | a signal came while waiting: for an event, for a process that is still being made |
//! | `EAGAIN` | no event, on a descriptor with `O_NONBLOCK`; a tree that grows faster than it is found |
//! | `ESRCH` | no such process (or thread): who does not live can be removed, never added |
//! | `ENOENT` | no list of that name; no more lists ([`LIST`]) |
//! | `EEXIST` | there is a list of that name |
//! | `EBUSY` | the default list cannot be removed |
//! | `ENODEV` | the list was removed |
//! | `ENOSPC` | [`LISTS_MAX`], [`LISTS_MAX_PER_USER`] or the list's [`Rules::bytes_max`] is reached |
//! | `EOPNOTSUPP` | what the union, a view, cannot do: be changed, be waited for, have rules |
//! | `EFAULT` | an address that cannot be read or written |
//! | `ENOMEM` | no memory could be had |
//! | `EMFILE`, `ENFILE` | no descriptor could be had |
//! | `ENOTTY` | an ioctl that this descriptor does not know |
//!
//! A call that fails has changed nothing, but for a tree ([`PIDS_TREE`]) of more than [`BATCH_MAX`]
//! members, or on a list that follows one that grows meanwhile: these are added piece by piece, and
//! the same call once more goes on.

/// Version of this interface, in [`Info::version`]; it grows with every incompatible change.
pub const VERSION: u32 = 2;

/// Name of the device below `/dev`.
pub const DEVICE_NAME: &str = "pidlist";

/// Name of the list that is always there.
pub const DEFAULT_LIST: &str = "default";

/// Most pids in one [`Pids`] or [`Span`] call.
pub const BATCH_MAX: u32 = 4096;

/// Most lists at a time, the default one included.
pub const LISTS_MAX: u32 = 256;

/// Most lists that one user without `CAP_SYS_ADMIN` may have.
pub const LISTS_MAX_PER_USER: u32 = 16;

/// The least [`Rules::bytes_max`]: enough for the pids of a machine with the usual `pid_max` of 32,768.
pub const BYTES_MIN: u64 = 32 << 10;

/// [`Rules::bytes_max`] unless set: enough for every pid that Linux can give out (4,194,304).
pub const BYTES_DEFAULT: u64 = 1 << 20;

/// Events that a list remembers for its readers, the latest ones.
pub const EVENTS_KEPT: u64 = 8192;

/// Room for a list's name, with at least one NUL behind it.
pub const NAME_LEN: usize = 64;

/// A list's name, NUL-terminated, zero to the end.
pub type Name = [u8; NAME_LEN];

/// Whether a list may be called so: 1 to 63 of `A-Z a-z 0-9 . _ - : @ +`, the first a letter or digit.
#[must_use]
pub fn name_is_valid(name: &[u8]) -> bool {
    let fits = (1..NAME_LEN).contains(&name.len());
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._-:@+".contains(b);
    fits && name[0].is_ascii_alphanumeric() && name.iter().all(plain)
}

/// Argument of [`INFO`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// The module's [`VERSION`].
    pub version: u32,
    /// The largest pid that a set can hold.
    pub pid_max: u32,
}

/// Argument of [`OPEN`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// The list; all zero for the union.
    pub name: Name,
    /// `OPEN_` flags.
    pub flags: u32,
    /// Rules of a new list; zero without [`OPEN_CREATE`].
    pub rules: u32,
    /// [`Rules::bytes_max`] of a new list; zero without [`OPEN_CREATE`].
    pub bytes_max: u64,
}

/// In [`Open::flags`]: make the list, which must not exist.
pub const OPEN_CREATE: u32 = 1 << 0;
/// In [`Open::flags`], with [`OPEN_CREATE`]: remove the list when the last descriptor of it is
/// closed, so that a client that is killed leaves nothing.
pub const OPEN_TEMPORARY: u32 = 1 << 1;
/// In [`Open::flags`], alone: open the union of all lists.
pub const OPEN_UNION: u32 = 1 << 2;

/// Argument of [`ADD`], [`REMOVE`]: `len` elements at user address `addr`.
///
/// All of them are applied in one step, or none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pids {
    /// User address of an array of `u32`, or of `[u32; 2]` with [`PIDS_RANGES`].
    pub addr: u64,
    /// Elements of the array, at most [`BATCH_MAX`].
    pub len: u32,
    /// `PIDS_` flags.
    pub flags: u32,
}

/// In [`Pids::flags`]: each element is the first and the last pid of a range, of which those are
/// meant that live (to add) or are members (to remove).
pub const PIDS_RANGES: u32 = 1 << 0;
/// In [`Pids::flags`]: each pid stands for itself and all its descendants, on a list of threads for
/// all their threads. Not with [`PIDS_RANGES`].
///
/// Descendants are found by their living ancestors. With [`RULE_FOLLOW`] none is missed that is made
/// during the call.
pub const PIDS_TREE: u32 = 1 << 1;

/// Argument of [`SPAN`]: members from a cursor on.
///
/// A member that stays is found exactly once by a loop from cursor 0 until the call returns 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// User address of an array of `u32` that receives pids, or of `[u32; 2]` with [`SPAN_IDS`].
    pub addr: u64,
    /// Room in the array, in elements, at most [`BATCH_MAX`].
    pub len: u32,
    /// [`SPAN_IDS`] or zero.
    pub flags: u32,
    /// Where to go on: 0 at first, then what the call left here.
    pub cursor: u64,
}

/// In [`Span::flags`]: each pid is followed by its number in the initial pid namespace, [`Event::id`].
pub const SPAN_IDS: u32 = 1 << 0;

/// Argument of [`RULES`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// `RULE_` flags; [`RULE_THREADS`] must be as it is.
    pub flags: u32,
    /// Must be zero.
    pub reserved: u32,
    /// Most bytes of memory for the set, or zero to leave the bound as it is. A bound below what is
    /// in use stops growth only.
    pub bytes_max: u64,
}

/// In [`Rules::flags`]: children of members become members.
pub const RULE_FOLLOW: u32 = 1 << 0;
/// In [`Rules::flags`]: the list takes its members out of the union.
pub const RULE_EXCLUDE: u32 = 1 << 1;
/// In [`Rules::flags`]: the list holds threads, not processes. Set when it is made, for good.
pub const RULE_THREADS: u32 = 1 << 2;

/// Argument of [`STATS`]: a list, since it was made.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Members now.
    pub members: u64,
    /// Chunks that hold members or lead to them.
    pub chunks_used: u64,
    /// Chunks in the reserve.
    pub chunks_free: u64,
    /// Leaves that the reserve is filled up to; grows with the rate at which forks use them up.
    pub reserve: u64,
    /// Times the reserve was refilled.
    pub refills: u64,
    /// Children that could not be added when they were forked: no chunk was at hand.
    pub failed: u64,
    /// Of these, how many have got their chunk, or left before.
    pub repaired: u64,
    /// Of these, how many wait for a chunk now. They are members in every other respect.
    pub waiting: u64,
    /// Of these, how many found no place to wait in, and were not even members for a while. As long as
    /// it is 0, the list has lost nobody.
    pub overflowed: u64,
    /// Children that a walk over the tasks has added after that. It cannot find one whose parent has
    /// exited, and may add one that nobody missed.
    pub found: u64,
    /// Tasks that came to the list by a fork.
    pub followed: u64,
    /// Members that left because their task was freed.
    pub left: u64,
    /// Bytes of memory held for the list, its events included.
    pub bytes: u64,
    /// [`Rules::bytes_max`] in force.
    pub bytes_max: u64,
    /// Events so far, as of the first reader: the last [`Event::seq`].
    pub events: u64,
    /// Events that readers missed: they came after [`EVENTS_KEPT`] others.
    pub events_lost: u64,
    /// Descriptors that read events now.
    pub event_readers: u64,
    /// [`Rules::flags`] in force.
    pub rules: u64,
}

/// Argument of [`LIST`]: the list with the least `id` that is not below the one given.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    /// Its name.
    pub name: Name,
    /// A number that no other list has now. 0 is the default list.
    pub id: u32,
    /// Effective uid of who made it, as the caller's user namespace numbers it.
    pub owner: u32,
    /// [`OPEN_TEMPORARY`] or zero.
    pub flags: u32,
    /// Always zero.
    pub reserved: u32,
    /// Its statistics, rules included.
    pub stats: Stats,
}

/// Argument of [`MODULE`]: all lists together, since the module was loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// Lists now.
    pub lists: u64,
    /// Lists made, the default one included.
    pub created: u64,
    /// Lists removed.
    pub deleted: u64,
    /// Bytes of memory held for all lists.
    pub bytes: u64,
    /// Members of all lists.
    pub members: u64,
    /// [`Stats::failed`] of all lists, removed ones left out; likewise below.
    pub failed: u64,
    /// [`Stats::repaired`].
    pub repaired: u64,
    /// [`Stats::overflowed`].
    pub overflowed: u64,
    /// [`Stats::found`].
    pub found: u64,
    /// [`Stats::followed`].
    pub followed: u64,
    /// [`Stats::left`].
    pub left: u64,
    /// [`Stats::refills`].
    pub refills: u64,
}

/// Argument of [`EVENTS`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// The first [`Event::seq`] wanted: the one after the last that was read, to resume. 0: those from
    /// now on.
    pub from: u64,
    /// Must be zero.
    pub flags: u64,
}

/// One element of what a descriptor of [`EVENTS`] gives: a change of the membership.
///
/// A read gives whole events, at least one; it waits for one unless `O_NONBLOCK` is set. A read with
/// less room than one takes is `EINVAL`; one after the list was removed gives what is left, then
/// nothing. `poll` says `POLLIN`, and `POLLHUP` once the list was removed.
///
/// Membership and events change under one lock. So a client that begins to read events, and then
/// reads the members, knows the list exactly by applying all events since to these members, in
/// order; to repair a loss it does the same again. (In a pid namespace below the initial one, who was
/// reaped is not shown any more a moment before the event comes.)
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Counts a list's events.
    pub seq: u64,
    /// When it came about, in nanoseconds of `CLOCK_BOOTTIME`.
    pub time_ns: u64,
    /// The task, as the reader's pid namespace numbers it at the time of the read; 0 if it does not
    /// (any more), which cannot be in the initial one.
    pub pid: u32,
    /// The task, as the initial pid namespace numbers it: matches a leave to a join.
    pub id: u32,
    /// An `EVENT_` constant.
    pub kind: u32,
    /// Events that the reader missed between the one before and this one.
    pub lost: u32,
}

/// In [`Event::kind`]: a user added the task.
pub const EVENT_ADDED: u32 = 1;
/// In [`Event::kind`]: a member forked the task.
pub const EVENT_FORKED: u32 = 2;
/// In [`Event::kind`]: a user removed the task.
pub const EVENT_REMOVED: u32 = 3;
/// In [`Event::kind`]: the task was freed.
pub const EVENT_FREED: u32 = 4;
/// In [`Event::kind`]: everybody was removed; `pid` and `id` are 0.
pub const EVENT_CLEARED: u32 = 5;
/// In [`Event::kind`]: a member of a list of threads went on under this number, by an exec; its old
/// number left just before. The leader, whose number it was, is no more; it may have been a member.
pub const EVENT_RENUMBERED: u32 = 6;

const MAGIC: u32 = 0xbd;
const NONE: u32 = 0;
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
pub const SPAN: u32 = ioc::<Span>(READ | WRITE, 4);
/// Removes every member.
pub const CLEAR: u32 = ioc::<()>(NONE, 5);
/// Sets [`Rules`].
pub const RULES: u32 = ioc::<Rules>(WRITE, 6);
/// Reads [`Stats`].
pub const STATS: u32 = ioc::<Stats>(READ, 7);
/// Returns a descriptor for a list ([`Open`]), close-on-exec, with the access mode of this one.
pub const OPEN: u32 = ioc::<Open>(WRITE, 8);
/// Removes the list called [`Name`].
pub const DELETE: u32 = ioc::<Name>(WRITE, 9);
/// Reads one [`List`].
pub const LIST: u32 = ioc::<List>(READ | WRITE, 10);
/// Reads [`Module`].
pub const MODULE: u32 = ioc::<Module>(READ, 11);
/// Returns a descriptor that reads the list's events ([`Events`]), close-on-exec.
pub const EVENTS: u32 = ioc::<Events>(WRITE, 12);
