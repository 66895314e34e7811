//! `/dev/pidlist`: text for a shell, ioctls for programs. [`crate::abi`] is its reference.

use core::fmt::Write;

use kernel::bindings;
use kernel::iov::IovIterSource;
use kernel::prelude::*;
use kernel::str::Formatter;
use kernel::sync::{new_mutex, Arc, Mutex};
use kernel::transmute::{AsBytes, FromBytes};
use kernel::uaccess::{UserPtr, UserSlice, UserSliceReader, UserSliceWriter};

use crate::abi;
use crate::event_file::EventFile;
use crate::list::Change;
use crate::lists::{Handle, Lists};
use crate::sys::device::Open;
use crate::sys::file::{self, Opened, Operations, Poll};
use crate::sys::pid::Namespace;
use crate::sys::task::{self, Presence};
use crate::text::{self, Word};
use crate::tree::PID_LAST;

/// Longest text in one write, bytes; `cat` writes as much at a time.
const WRITE_MAX: usize = 128 << 10;
/// A write of at least this much may be a piece of more, and so must not end within a word.
const PIECE: usize = 4096;
/// Steps of a loop between two looks at what else there is to do.
const STEPS: u32 = 1024;
/// A line with the longest pid.
const LINE_MAX: usize = "1073741823\n".len();

/// Opens the default list.
pub(crate) struct Endpoint(pub(crate) Arc<Lists>);

impl Open for Endpoint {
    type File = ListFile;

    fn open(&self) -> Result<ListFile> {
        Ok(ListFile { view: View::List(self.0.open_default()?), text: Reading::start()? })
    }
}

/// What a descriptor answers for.
enum View {
    List(Handle),
    Union(Arc<Lists>),
}

impl View {
    fn lists(&self) -> &Arc<Lists> {
        match self {
            Self::List(list) => list.lists(),
            Self::Union(lists) => lists,
        }
    }

    /// # Errors
    ///
    /// `EOPNOTSUPP` for the union, `ENODEV` for a removed list.
    fn list(&self) -> Result<&Handle> {
        let Self::List(list) = self else {
            return Err(errno(bindings::EOPNOTSUPP));
        };
        if list.is_removed() {
            return Err(ENODEV);
        }
        Ok(list)
    }

    /// The list, to be changed through this descriptor.
    ///
    /// # Errors
    ///
    /// `EBADF`, `EPERM`, those of [`Self::list`].
    fn list_to_change(&self, file: Opened<'_>) -> Result<&Handle> {
        if !file.is_writable() {
            return Err(EBADF);
        }
        let list = self.list()?;
        list.check_owner(&file.opener())?;
        Ok(list)
    }

    fn has(&self, id: u32) -> Result<bool> {
        match self {
            Self::List(_) => Ok(self.list()?.has(id)),
            Self::Union(lists) => Ok(lists.union_has(id)),
        }
    }

    fn next(&self, from: u32) -> Result<Option<u32>> {
        match self {
            Self::List(_) => Ok(self.list()?.next(from)),
            Self::Union(lists) => {
                let mut from = from;
                loop {
                    match lists.union_next(from) {
                        Ok(next) => return Ok(next),
                        Err(go_on) => from = go_on,
                    }
                    task::breathe()?;
                }
            }
        }
    }
}

/// An open list, or the union.
pub(crate) struct ListFile {
    view: View,
    /// How far the text was read.
    text: Pin<KBox<Mutex<Reading>>>,
}

/// How far a text was read.
#[derive(Default)]
struct Reading {
    /// The least member still to come.
    from: u32,
    /// The line that was begun: a small read may end within it.
    line: [u8; LINE_MAX],
    done: usize,
    len: usize,
}

impl Reading {
    /// Begins the line of `pid`.
    fn begin(&mut self, pid: u32) -> Result {
        let mut formatter = Formatter::new(&mut self.line);
        writeln!(formatter, "{pid}").map_err(|_| EINVAL)?;
        (self.done, self.len) = (0, formatter.bytes_written());
        Ok(())
    }

    /// At the beginning. May sleep.
    fn start() -> Result<Pin<KBox<Mutex<Self>>>> {
        Ok(KBox::pin_init(new_mutex!(Self::default()), GFP_KERNEL)?)
    }
}

impl Operations for ListFile {
    /// One member a line, in pieces of any size. A line that was begun is finished even if its pid
    /// has left.
    fn read(&self, _file: Opened<'_>, mut to: UserSliceWriter) -> Result<usize> {
        let current = kernel::current!();
        let namespace = Namespace::of(&current)?;
        let mut at = self.text.lock();
        let mut count = 0;
        while to.len() > 0 {
            match self.read_piece(&mut at, namespace, &mut to) {
                Ok(0) => break,
                Ok(bytes) => count += bytes,
                // What was read is read: the error is the next call's.
                Err(_) if count > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// Applies the words of the text, all or none.
    fn write(&self, file: Opened<'_>, from: &mut IovIterSource<'_>) -> Result {
        let list = self.view.list_to_change(file)?;
        let len = from.len();
        if len > WRITE_MAX {
            return Err(E2BIG);
        }
        let mut bytes = KVVec::new();
        if from.copy_from_iter_vec(&mut bytes, GFP_KERNEL)? != len {
            return Err(EFAULT);
        }
        if bytes.len() >= PIECE && text::is_cut(&bytes) {
            return Err(EINVAL);
        }
        let current = kernel::current!();
        let mut changes = Changes::new(list, Namespace::of(&current)?);
        for word in text::words(&bytes, PID_LAST) {
            match word.map_err(|text::NotAPid| EINVAL)? {
                Word::Add(pid) => changes.add(pid)?,
                Word::Remove(pid) => changes.remove(pid)?,
                Word::AddRange(first, last) => changes.add_range(first, last)?,
                Word::RemoveRange(first, last) => changes.remove_range(first, last)?,
            }
        }
        list.apply(&mut changes.list).map(drop)
    }

    fn ioctl(&self, file: Opened<'_>, cmd: u32, arg: UserPtr) -> Result<u32> {
        match cmd {
            abi::INFO => put(arg, &abi::Info { version: abi::VERSION, pid_max: PID_LAST }),
            abi::ADD => self.change(file, arg, true),
            abi::REMOVE => self.change(file, arg, false),
            abi::HAS => {
                let current = kernel::current!();
                let pid = checked(get(arg)?)?;
                match Namespace::of(&current)?.id_of(pid) {
                    Some(id) => Ok(u32::from(self.view.has(id)?)),
                    None => self.view.has(0).map(|_| 0),
                }
            }
            abi::SPAN => self.span(arg),
            abi::CLEAR => {
                self.view.list_to_change(file)?.clear()?;
                Ok(0)
            }
            abi::RULES => {
                let list = self.view.list_to_change(file)?;
                let rules: abi::Rules = get(arg)?;
                if rules.reserved != 0 {
                    return Err(EINVAL);
                }
                list.set_rules(rules.flags, rules.bytes_max)?;
                Ok(0)
            }
            abi::STATS => put(arg, &self.view.list()?.stats()),
            abi::OPEN => self.open(file, arg),
            abi::DELETE => {
                if !file.is_writable() {
                    return Err(EBADF);
                }
                let name = checked_name(get(arg)?)?;
                self.view.lists().delete(&name, &file.opener())?;
                Ok(0)
            }
            abi::LIST => {
                let wanted: abi::List = get(arg)?;
                let lists = self.view.lists();
                let (index, named) = lists.nth(wanted.id as usize).ok_or(ENOENT)?;
                put(arg, &lists.describe(index, &named))
            }
            abi::MODULE => put(arg, &self.view.lists().totals()),
            abi::EVENTS => {
                let wanted: abi::Events = get(arg)?;
                if wanted.flags != 0 {
                    return Err(EINVAL);
                }
                let events = EventFile::new(self.view.list()?.another(), wanted.from)?;
                file::anonymous(file, c"[pidlist-events]", events, kernel::fs::file::flags::O_RDONLY)
            }
            _ => Err(ENOTTY),
        }
    }

    fn poll(&self, poll: Poll<'_>) -> u32 {
        // Neither reading nor writing waits.
        let ready = bindings::POLLIN | bindings::POLLOUT;
        let View::List(list) = &self.view else {
            return ready;
        };
        poll.wait_for(list.event_queue());
        if list.is_removed() {
            ready | bindings::POLLHUP
        } else {
            ready
        }
    }
}

impl ListFile {
    /// Reads what fits of one line; returns how much, 0 at the end of all lines.
    fn read_piece(
        &self,
        at: &mut Reading,
        namespace: Namespace<'_>,
        to: &mut UserSliceWriter,
    ) -> Result<usize> {
        while at.done == at.len {
            let Some(id) = self.view.next(at.from)? else { return Ok(0) };
            at.from = id + 1;
            match namespace.number_of(id) {
                Some(pid) => at.begin(pid)?,
                None => task::breathe()?,
            }
        }
        let rest = &at.line[at.done..at.len];
        let fits = rest.len().min(to.len());
        to.write_slice(&rest[..fits])?;
        at.done += fits;
        Ok(fits)
    }

    fn change(&self, file: Opened<'_>, arg: UserPtr, adding: bool) -> Result<u32> {
        let list = self.view.list_to_change(file)?;
        let arg: abi::Pids = get(arg)?;
        let of_two = arg.flags & abi::PIDS_RANGES != 0;
        let of_trees = arg.flags & abi::PIDS_TREE != 0;
        let unknown = arg.flags & !(abi::PIDS_RANGES | abi::PIDS_TREE) != 0;
        if unknown || (of_two && of_trees) {
            return Err(EINVAL);
        }
        if arg.len > abi::BATCH_MAX {
            return Err(E2BIG);
        }
        let current = kernel::current!();
        let namespace = Namespace::of(&current)?;
        let bytes = arg.len as usize * size_of::<u32>() * if of_two { 2 } else { 1 };
        let mut pids = reader(UserPtr::from_addr(arg.addr as usize), bytes);
        if of_trees {
            let mut roots = KVVec::new();
            while !pids.is_empty() {
                match namespace.id_of(checked(pids.read()?)?) {
                    Some(id) => roots.push(id, GFP_KERNEL)?,
                    None if adding => return Err(ESRCH),
                    None => {}
                }
            }
            list.apply_tree(&roots, adding)?;
            return Ok(0);
        }
        let mut changes = Changes::new(list, namespace);
        while !pids.is_empty() {
            let first = checked(pids.read()?)?;
            let last = if of_two { checked(pids.read()?)? } else { first };
            match (of_two, adding) {
                (true, _) if first > last => return Err(EINVAL),
                (true, true) => changes.add_range(first, last)?,
                (true, false) => changes.remove_range(first, last)?,
                (false, true) => changes.add(first)?,
                (false, false) => changes.remove(first)?,
            }
        }
        list.apply(&mut changes.list)?;
        Ok(0)
    }

    fn span(&self, user: UserPtr) -> Result<u32> {
        let mut arg: abi::Span = get(user)?;
        let mut from = u32::try_from(arg.cursor).map_err(|_| EINVAL)?;
        if arg.flags & !abi::SPAN_IDS != 0 {
            return Err(EINVAL);
        }
        if arg.len > abi::BATCH_MAX {
            return Err(E2BIG);
        }
        let current = kernel::current!();
        let namespace = Namespace::of(&current)?;
        let with_ids = arg.flags & abi::SPAN_IDS != 0;
        let bytes = arg.len as usize * size_of::<u32>() * if with_ids { 2 } else { 1 };
        let mut to = UserSlice::new(UserPtr::from_addr(arg.addr as usize), bytes).writer();
        let mut count = 0;
        while count < arg.len {
            let Some(id) = self.view.next(from)? else { break };
            from = id + 1;
            let Some(pid) = namespace.number_of(id) else {
                task::breathe()?;
                continue;
            };
            to.write(&pid)?;
            if with_ids {
                to.write(&id)?;
            }
            count += 1;
        }
        arg.cursor = u64::from(from);
        put(user, &arg)?;
        Ok(count)
    }

    fn open(&self, file: Opened<'_>, arg: UserPtr) -> Result<u32> {
        let arg: abi::Open = get(arg)?;
        let lists = self.view.lists();
        let fresh = arg.flags & abi::OPEN_CREATE != 0;
        // Before a list is made, that would have to be taken back.
        let text = Reading::start()?;
        let view = match arg.flags {
            _ if !fresh && (arg.rules != 0 || arg.bytes_max != 0) => return Err(EINVAL),
            abi::OPEN_UNION if arg.name == [0; abi::NAME_LEN] => View::Union(lists.clone()),
            0 => View::List(lists.open(&checked_name(arg.name)?)?),
            flags if flags & !abi::OPEN_TEMPORARY == abi::OPEN_CREATE => {
                let name = checked_name(arg.name)?;
                if !file.is_writable() {
                    return Err(EBADF);
                }
                let temporary = flags & abi::OPEN_TEMPORARY != 0;
                View::List(lists.create(name, temporary, arg.rules, arg.bytes_max, &file.opener())?)
            }
            _ => return Err(EINVAL),
        };
        let created = match (&view, fresh) {
            (View::List(list), true) => Some(list.another()),
            _ => None,
        };
        let fd =
            file::anonymous(file, c"[pidlist]", ListFile { view, text }, file.access_mode());
        if let (Err(_), Some(list)) = (&fd, created) {
            list.remove();
        }
        fd
    }
}

/// Changes on their way from a caller's pids to ids, at most [`abi::BATCH_MAX`].
struct Changes<'a> {
    of: &'a Handle,
    namespace: Namespace<'a>,
    list: KVVec<Change>,
    steps: u32,
}

impl<'a> Changes<'a> {
    fn new(of: &'a Handle, namespace: Namespace<'a>) -> Self {
        Self { of, namespace, list: KVVec::new(), steps: 0 }
    }

    fn push(&mut self, change: Change) -> Result {
        if self.list.len() == abi::BATCH_MAX as usize {
            return Err(E2BIG);
        }
        Ok(self.list.push(change, GFP_KERNEL)?)
    }

    /// Ranges may be long, and yet change little: lets others run now and then, and signals in.
    fn step(&mut self) -> Result {
        self.steps = self.steps.wrapping_add(1);
        if self.steps % STEPS == 0 {
            task::breathe()?;
        }
        Ok(())
    }

    fn add(&mut self, pid: u32) -> Result {
        let id = self.namespace.id_of(pid).ok_or(ESRCH)?;
        self.push(Change::Add(id))
    }

    fn remove(&mut self, pid: u32) -> Result {
        match self.namespace.id_of(pid) {
            Some(id) => self.push(Change::Remove(id)),
            None => Ok(()),
        }
    }

    fn add_range(&mut self, first: u32, last: u32) -> Result {
        let mut from = first;
        while let Some((pid, id)) = self.namespace.next(from).filter(|&(pid, _)| pid <= last) {
            self.step()?;
            // A number may also stand for a thread, or for a group whose leader is gone.
            if task::presence(self.of.kind(), id) != Presence::Gone {
                self.push(Change::AddIfThere(id))?;
            }
            from = pid + 1;
        }
        Ok(())
    }

    fn remove_range(&mut self, first: u32, last: u32) -> Result {
        let mut from = if self.namespace.is_initial() { first } else { 0 };
        while let Some(id) = self.of.next(from) {
            self.step()?;
            from = id + 1;
            match self.namespace.number_of(id) {
                Some(pid) if (first..=last).contains(&pid) => self.push(Change::Remove(id))?,
                Some(pid) if pid > last && self.namespace.is_initial() => break,
                _ => {}
            }
        }
        Ok(())
    }
}

fn reader(addr: UserPtr, len: usize) -> UserSliceReader {
    UserSlice::new(addr, len).reader()
}

/// Reads an argument.
fn get<T: FromBytes>(from: UserPtr) -> Result<T> {
    reader(from, size_of::<T>()).read()
}

/// Writes an argument.
pub(crate) fn put<T: AsBytes>(to: UserPtr, value: &T) -> Result<u32> {
    UserSlice::new(to, size_of::<T>()).writer().write(value)?;
    Ok(0)
}

/// A pid that userland gave, if a set can hold it.
fn checked(pid: u32) -> Result<u32> {
    if (1..=PID_LAST).contains(&pid) {
        Ok(pid)
    } else {
        Err(EINVAL)
    }
}

/// An error that the kernel crate has no name for.
fn errno(number: u32) -> Error {
    Error::from_errno(-(number as i32))
}

/// A name that userland gave, if a list may be called so.
fn checked_name(name: abi::Name) -> Result<abi::Name> {
    let len = name.iter().position(|&b| b == 0).ok_or(errno(bindings::ENAMETOOLONG))?;
    if abi::name_is_valid(&name[..len]) && name[len..].iter().all(|&b| b == 0) {
        Ok(name)
    } else {
        Err(EINVAL)
    }
}
