//! `/dev/pidlist`: text for a shell, ioctls for programs. [`crate::abi`] is its reference.

use core::fmt::Write;

use kernel::iov::IovIterSource;
use kernel::prelude::*;
use kernel::str::Formatter;
use kernel::sync::Arc;
use kernel::uaccess::{UserPtr, UserSlice, UserSliceReader, UserSliceWriter};

use crate::abi;
use crate::list::{Change, List};
use crate::sys::device::Operations;
use crate::text;
use crate::tree::PID_LAST;

/// Longest text in one write, bytes; `cat` writes as much at a time.
const WRITE_MAX: usize = 128 << 10;
/// A write of at least this much may be a piece of more, and so must not end within a word.
const PIECE: usize = 4096;
/// A line with the longest pid.
const LINE_MAX: usize = "1073741823\n".len();

/// Answers for one list.
pub(crate) struct Endpoint(pub(crate) Arc<List>);

impl Operations for Endpoint {
    /// One member a line, in pieces of any size.
    ///
    /// The position is a pid and how much of its line was read: see [`Endpoint::lines`].
    fn read(&self, mut to: UserSliceWriter, pos: &mut u64) -> Result<usize> {
        let mut count = 0;
        let mut piece = [0; 512];
        loop {
            let room = to.len().min(piece.len());
            let (len, next) = self.lines(&mut piece[..room], *pos)?;
            if len == 0 {
                return Ok(count);
            }
            to.write_slice(&piece[..len])?;
            count += len;
            *pos = next;
        }
    }

    /// Applies the words of the text, all or none.
    ///
    /// # Errors
    ///
    /// `E2BIG` beyond 128 KiB or [`abi::BATCH_MAX`] words, `EINVAL` for a word that is no pid, else
    /// those of [`crate::list::State::apply`].
    fn write(&self, from: &mut IovIterSource<'_>) -> Result {
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
        let mut changes = KVVec::new();
        for word in text::words(&bytes, PID_LAST) {
            if changes.len() == abi::BATCH_MAX as usize {
                return Err(E2BIG);
            }
            let change = match word {
                Ok(text::Word::Add(pid)) => Change::Add(pid),
                Ok(text::Word::Remove(pid)) => Change::Remove(pid),
                Err(text::NotAPid) => return Err(EINVAL),
            };
            changes.push(change, GFP_KERNEL)?;
        }
        self.0.apply(&changes)
    }

    fn ioctl(&self, cmd: u32, arg: UserPtr, writable: bool) -> Result<u32> {
        if matches!(cmd, abi::ADD | abi::REMOVE | abi::CLEAR | abi::RULES) && !writable {
            return Err(EBADF);
        }
        match cmd {
            abi::INFO => put(arg, &[abi::VERSION, PID_LAST]),
            abi::ADD => self.change(arg, Change::Add),
            abi::REMOVE => self.change(arg, Change::Remove),
            abi::HAS => {
                let pid = checked(reader(arg, size_of::<u32>()).read()?)?;
                Ok(u32::from(self.0.has(pid)))
            }
            abi::SPAN => self.span(arg),
            abi::CLEAR => {
                self.0.clear();
                Ok(0)
            }
            abi::RULES => {
                self.0.set_rules(reader(arg, size_of::<abi::Rules>()).read()?)?;
                Ok(0)
            }
            abi::STATS => {
                let s = self.0.stats();
                put(
                    arg,
                    &[
                        s.members,
                        s.chunks_used,
                        s.chunks_free,
                        s.refills,
                        s.failed,
                        s.repaired,
                        s.followed,
                        s.left,
                        s.bytes,
                        s.rules,
                    ],
                )
            }
            _ => Err(ENOTTY),
        }
    }
}

impl Endpoint {
    /// Fills `to` with lines from `pos` on; returns how much that was and where it ended.
    ///
    /// A position is the smallest pid still to come, shifted by four bits that count the bytes of its
    /// line that are out already. A line that was begun is finished even if its pid has left.
    fn lines(&self, to: &mut [u8], pos: u64) -> Result<(usize, u64)> {
        let mut pid = u32::try_from(pos >> 4).map_err(|_| EINVAL)?;
        if pid > PID_LAST {
            return Ok((0, pos));
        }
        let mut begun = (pos & 0xf) as usize;
        let mut len = 0;
        while len < to.len() {
            if begun == 0 {
                match self.0.next(pid) {
                    Some(next) => pid = next,
                    None => break,
                }
            }
            let mut line = [0; LINE_MAX];
            let mut formatter = Formatter::new(&mut line);
            writeln!(formatter, "{pid}").map_err(|_| EINVAL)?;
            let whole = formatter.bytes_written();
            let rest = line.get(begun..whole).ok_or(EINVAL)?;
            let fits = rest.len().min(to.len() - len);
            to[len..len + fits].copy_from_slice(&rest[..fits]);
            len += fits;
            begun += fits;
            if begun == whole {
                (pid, begun) = (pid + 1, 0);
            }
        }
        Ok((len, u64::from(pid) << 4 | begun as u64))
    }

    fn change(&self, arg: UserPtr, change: fn(u32) -> Change) -> Result<u32> {
        let mut arg = reader(arg, size_of::<abi::Pids>());
        let (addr, len, flags) = (arg.read::<u64>()?, arg.read::<u32>()?, arg.read::<u32>()?);
        if flags != 0 || len > abi::BATCH_MAX {
            return Err(EINVAL);
        }
        let mut pids = reader(UserPtr::from_addr(addr as usize), len as usize * size_of::<u32>());
        let mut changes = KVVec::with_capacity(len as usize, GFP_KERNEL)?;
        for _ in 0..len {
            changes.push(change(checked(pids.read()?)?), GFP_KERNEL)?;
        }
        self.0.apply(&changes)?;
        Ok(0)
    }

    fn span(&self, arg: UserPtr) -> Result<u32> {
        let mut arg = reader(arg, size_of::<abi::Span>());
        let (addr, len, mut from) = (arg.read::<u64>()?, arg.read::<u32>()?, arg.read::<u32>()?);
        if len > abi::BATCH_MAX {
            return Err(EINVAL);
        }
        let bytes = len as usize * size_of::<u32>();
        let mut to = UserSlice::new(UserPtr::from_addr(addr as usize), bytes).writer();
        let mut count = 0;
        while count < len {
            let Some(pid) = self.0.next(from) else { break };
            to.write(&pid)?;
            count += 1;
            from = pid + 1;
        }
        Ok(count)
    }
}

fn reader(addr: UserPtr, len: usize) -> UserSliceReader {
    UserSlice::new(addr, len).reader()
}

/// Writes the fields of an argument, which are all of one type.
fn put<T: kernel::transmute::AsBytes>(to: UserPtr, fields: &[T]) -> Result<u32> {
    let mut to = UserSlice::new(to, size_of_val(fields)).writer();
    for field in fields {
        to.write(field)?;
    }
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
