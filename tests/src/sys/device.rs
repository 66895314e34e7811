//! `/dev/pidlist`, one function a call: [`abi`] says what each does.

#![expect(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use pidlist_abi::pidset as abi;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};

use super::{Result, errno};

pub const PATH: &str = "/dev/pidlist";

/// An ioctl that takes the address of a `T` and returns a number.
struct Call<'a, T>(Opcode, &'a mut T);

// SAFETY: `call` makes these for a `T` of the size that the opcode states, and the module reads or
// writes no more at the address.
unsafe impl<T> Ioctl for Call<'_, T> {
    type Output = u32;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        self.0
    }

    fn as_ptr(&mut self) -> *mut rustix::ffi::c_void {
        (&raw mut *self.1).cast()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut rustix::ffi::c_void) -> Result<u32> {
        u32::try_from(output).map_err(|_| Errno::OVERFLOW)
    }
}

/// # Safety
///
/// Where `argument` holds addresses, they lead to what the module may read or write there.
unsafe fn call<T>(fd: BorrowedFd<'_>, opcode: Opcode, argument: &mut T) -> Result<u32> {
    assert_eq!(
        opcode >> 16 & 0x3fff,
        size_of::<T>() as u32,
        "{opcode:#x} takes another type"
    );
    // SAFETY: Any `T` of this size is integers here; the caller vouches for addresses in it.
    unsafe { rustix::ioctl::ioctl(fd, Call(opcode, argument)) }
}

/// A list's name as the module takes it.
pub fn name(text: &str) -> abi::Name {
    let mut name = [0; abi::NAME_LEN];
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

/// A list's name as text.
pub fn text_of(name: &abi::Name) -> String {
    let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
    String::from_utf8_lossy(&name[..end]).into_owned()
}

/// Members, by their number in the initial pid namespace: the number in the caller's.
pub type Ids = BTreeMap<u32, u32>;

/// A descriptor that answers for a list, or for the union.
#[derive(Debug)]
pub struct Device(pub File);

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Device {
    /// The default list, for reading and writing.
    pub fn open() -> Result<Self> {
        Self::open_with(OFlags::RDWR)
    }

    pub fn open_with(flags: OFlags) -> Result<Self> {
        let fd = rustix::fs::open(PATH, flags | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self(fd.into()))
    }

    fn call<T>(&self, opcode: Opcode, mut argument: T) -> Result<T> {
        // SAFETY: Only for arguments without addresses, as its callers know.
        unsafe { call(self.as_fd(), opcode, &mut argument) }?;
        Ok(argument)
    }

    pub fn info(&self) -> Result<abi::Info> {
        self.call(abi::INFO, abi::Info::default())
    }

    fn change<T>(&self, opcode: Opcode, elements: &[T], flags: u32) -> Result<()> {
        let mut pids = abi::Pids {
            addr: elements.as_ptr() as u64,
            len: elements.len() as u32,
            flags,
        };
        // SAFETY: The module only reads there, and stays within its array even where it is not ours.
        unsafe { call(self.as_fd(), opcode, &mut pids) }.map(drop)
    }

    pub fn add(&self, pids: &[u32]) -> Result<()> {
        self.change(abi::ADD, pids, 0)
    }

    pub fn remove(&self, pids: &[u32]) -> Result<()> {
        self.change(abi::REMOVE, pids, 0)
    }

    pub fn add_ranges(&self, ranges: &[[u32; 2]]) -> Result<()> {
        self.change(abi::ADD, ranges, abi::PIDS_RANGES)
    }

    pub fn remove_ranges(&self, ranges: &[[u32; 2]]) -> Result<()> {
        self.change(abi::REMOVE, ranges, abi::PIDS_RANGES)
    }

    pub fn add_trees(&self, pids: &[u32]) -> Result<()> {
        self.change(abi::ADD, pids, abi::PIDS_TREE)
    }

    pub fn remove_trees(&self, pids: &[u32]) -> Result<()> {
        self.change(abi::REMOVE, pids, abi::PIDS_TREE)
    }

    pub fn has(&self, mut pid: u32) -> Result<bool> {
        // SAFETY: A pid is no address.
        Ok(unsafe { call(self.as_fd(), abi::HAS, &mut pid) }? != 0)
    }

    fn elements<T: Copy + Default>(
        &self,
        cursor: &mut u64,
        room: usize,
        flags: u32,
    ) -> Result<Vec<T>> {
        let mut elements = vec![T::default(); room];
        let mut span = abi::Span {
            addr: elements.as_mut_ptr() as u64,
            len: room as u32,
            flags,
            cursor: *cursor,
        };
        // SAFETY: The module writes to the array, which is ours alone and has as much room as the
        // argument says: both callers match the type to the flags.
        let count = unsafe { call(self.as_fd(), abi::SPAN, &mut span) }?;
        *cursor = span.cursor;
        elements.truncate(count as usize);
        Ok(elements)
    }

    /// The next members from a cursor on, at most `room`.
    pub fn span(&self, cursor: &mut u64, room: usize) -> Result<Vec<u32>> {
        self.elements(cursor, room, 0)
    }

    /// As [`Device::span`], with the numbers in the initial pid namespace behind.
    pub fn span_ids(&self, cursor: &mut u64, room: usize) -> Result<Vec<[u32; 2]>> {
        self.elements(cursor, room, abi::SPAN_IDS)
    }

    /// All members, in the module's order.
    pub fn sequence(&self) -> Result<Vec<u32>> {
        let (mut cursor, mut all) = (0, Vec::new());
        loop {
            let some = self.span(&mut cursor, 1000)?;
            if some.is_empty() {
                return Ok(all);
            }
            all.extend(some);
        }
    }

    pub fn members(&self) -> Result<BTreeSet<u32>> {
        Ok(self.sequence()?.into_iter().collect())
    }

    pub fn ids(&self) -> Result<Ids> {
        let (mut cursor, mut all) = (0, Ids::new());
        loop {
            let some = self.span_ids(&mut cursor, 1000)?;
            if some.is_empty() {
                return Ok(all);
            }
            all.extend(some.into_iter().map(|[pid, id]| (id, pid)));
        }
    }

    pub fn clear(&self) -> Result<()> {
        self.call(abi::CLEAR, ())
    }

    /// Sets `RULE_` flags, and the bound unless it is 0.
    pub fn set_rules(&self, flags: u32, bytes_max: u64) -> Result<()> {
        let rules = abi::Rules {
            flags,
            reserved: 0,
            bytes_max,
        };
        self.call(abi::RULES, rules).map(drop)
    }

    pub fn stats(&self) -> Result<abi::Stats> {
        self.call(abi::STATS, abi::Stats::default())
    }

    pub fn open_list(&self, open: abi::Open) -> Result<Self> {
        // SAFETY: OPEN takes no address.
        unsafe { self.descriptor(abi::OPEN, open) }.map(Self)
    }

    /// The list of this name.
    pub fn list(&self, list: &str) -> Result<Self> {
        self.open_list(abi::Open {
            name: name(list),
            flags: 0,
            rules: 0,
            bytes_max: 0,
        })
    }

    /// A new list, with `RULE_` flags and the usual bound.
    pub fn create(&self, list: &str, rules: u32) -> Result<Self> {
        self.create_with(list, 0, rules, abi::BYTES_DEFAULT)
    }

    /// A new list; `flags` are [`abi::OPEN_TEMPORARY`] or 0.
    pub fn create_with(&self, list: &str, flags: u32, rules: u32, bytes_max: u64) -> Result<Self> {
        self.open_list(abi::Open {
            name: name(list),
            flags: abi::OPEN_CREATE | flags,
            rules,
            bytes_max,
        })
    }

    pub fn union(&self) -> Result<Self> {
        self.open_list(abi::Open {
            name: [0; abi::NAME_LEN],
            flags: abi::OPEN_UNION,
            rules: 0,
            bytes_max: 0,
        })
    }

    pub fn delete(&self, list: &str) -> Result<()> {
        self.call(abi::DELETE, name(list)).map(drop)
    }

    /// The list with the least id from `id` on.
    pub fn next_list(&self, id: u32) -> Result<abi::List> {
        let list = abi::List {
            name: [0; abi::NAME_LEN],
            id,
            owner: 0,
            flags: 0,
            reserved: 0,
            stats: abi::Stats::default(),
        };
        self.call(abi::LIST, list)
    }

    /// All lists, by name.
    pub fn lists(&self) -> Result<BTreeMap<String, abi::List>> {
        let (mut id, mut lists) = (0, BTreeMap::new());
        loop {
            match self.next_list(id) {
                Ok(list) => {
                    id = list.id + 1;
                    lists.insert(text_of(&list.name), list);
                }
                Err(Errno::NOENT) => return Ok(lists),
                Err(error) => return Err(error),
            }
        }
    }

    pub fn module(&self) -> Result<abi::Module> {
        self.call(abi::MODULE, abi::Module::default())
    }

    /// The list's events from sequence number `from` on, 0 for those from now on.
    pub fn events(&self, from: u64) -> Result<Events> {
        // SAFETY: EVENTS takes no address.
        unsafe { self.descriptor(abi::EVENTS, abi::Events { from, flags: 0 }) }.map(Events)
    }

    /// # Safety
    ///
    /// As for [`call`], with an opcode that returns a descriptor.
    unsafe fn descriptor<T>(&self, opcode: Opcode, mut argument: T) -> Result<File> {
        // SAFETY: By this function's contract.
        let fd = unsafe { call(self.as_fd(), opcode, &mut argument) }?;
        // SAFETY: The module has just made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }.into())
    }

    /// Writes text to the list, in one call: it takes all of it or nothing.
    pub fn write(&self, text: &str) -> Result<()> {
        let count = rustix::io::write(&self.0, text.as_bytes())?;
        assert_eq!(count, text.len(), "a part of the text was taken");
        Ok(())
    }

    /// What is left to read as text.
    pub fn read(&self) -> Result<String> {
        let mut text = String::new();
        (&self.0).read_to_string(&mut text).map_err(errno)?;
        Ok(text)
    }
}

/// A descriptor of a list's events.
#[derive(Debug)]
pub struct Events(pub File);

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Events {
    /// At most `room` events; waits for one, unless [`Events::nonblocking`].
    pub fn read(&self, room: usize) -> Result<Vec<abi::Event>> {
        let mut bytes = vec![0; room * size_of::<abi::Event>()];
        let count = (&self.0).read(&mut bytes).map_err(errno)?;
        let (events, cut) = bytes[..count].as_chunks::<{ size_of::<abi::Event>() }>();
        assert!(cut.is_empty(), "{count} bytes are no whole events");
        Ok(events.iter().map(event).collect())
    }

    pub fn nonblocking(self) -> Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&self.0)?;
        rustix::fs::fcntl_setfl(&self.0, flags | OFlags::NONBLOCK)?;
        Ok(self)
    }

    /// What there is now. Only after [`Events::nonblocking`]; a removed list has nothing any more.
    pub fn ready(&self) -> Result<Vec<abi::Event>> {
        let mut all = Vec::new();
        loop {
            match self.read(256) {
                Ok(events) if events.is_empty() => return Ok(all),
                Ok(events) => all.extend(events),
                Err(Errno::AGAIN) => return Ok(all),
                Err(error) => return Err(error),
            }
        }
    }
}

fn event(bytes: &[u8; size_of::<abi::Event>()]) -> abi::Event {
    let half = |at: usize| u32::from_ne_bytes(*bytes[at..].first_chunk().expect("in the event"));
    let whole = |at: usize| u64::from_ne_bytes(*bytes[at..].first_chunk().expect("in the event"));
    abi::Event {
        seq: whole(0),
        time_ns: whole(8),
        pid: half(16),
        id: half(20),
        kind: half(24),
        lost: half(28),
    }
}
