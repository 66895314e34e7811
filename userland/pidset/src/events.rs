//! Changes of a list's membership, as they come.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pidlist_abi::pidset as abi;
use rustix::io::Errno;

use crate::error::{Act, Error, Which};

/// Bytes of an [`abi::Event`].
const SIZE: usize = size_of::<abi::Event>();
/// Events that one read takes at most.
const BATCH: usize = 1024;

/// What happened to a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A user added it.
    Added,
    /// A member forked it.
    Forked,
    /// A user removed it.
    Removed,
    /// It was freed: it is gone, and was reaped.
    Freed,
    /// Everybody was removed.
    Cleared,
    /// On a list of threads: by an exec, it goes on under this number; its old one left just before.
    Renumbered,
}

impl Kind {
    fn of(number: u32) -> Option<Self> {
        Some(match number {
            abi::EVENT_ADDED => Self::Added,
            abi::EVENT_FORKED => Self::Forked,
            abi::EVENT_REMOVED => Self::Removed,
            abi::EVENT_FREED => Self::Freed,
            abi::EVENT_CLEARED => Self::Cleared,
            abi::EVENT_RENUMBERED => Self::Renumbered,
            _ => return None,
        })
    }

    /// Whether somebody came by it.
    #[must_use]
    pub fn is_join(self) -> bool {
        matches!(self, Self::Added | Self::Forked | Self::Renumbered)
    }

    /// Its name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Forked => "forked",
            Self::Removed => "removed",
            Self::Freed => "freed",
            Self::Cleared => "cleared",
            Self::Renumbered => "renumbered",
        }
    }
}

/// A change of the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Counts a list's events.
    pub seq: u64,
    /// When it came about, in nanoseconds of `CLOCK_BOOTTIME`.
    pub time_ns: u64,
    /// The task, as our pid namespace numbers it; `None` if it does not, or does not any more, and
    /// for [`Kind::Cleared`].
    pub pid: Option<u32>,
    /// The task, as the initial pid namespace numbers it: matches a leave to a join.
    pub id: u32,
    /// What happened.
    pub kind: Kind,
    /// Events that were missed between the one before and this one.
    pub lost: u32,
}

/// What a read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch<'a> {
    /// At least one event.
    Events(&'a [Event]),
    /// No event now: the subscription does not wait, or a signal came.
    Nothing,
    /// No event any more: the list was deleted.
    End,
}

/// A subscription to a list's events. It can be polled for reading.
#[derive(Debug)]
pub struct Events {
    fd: OwnedFd,
    list: Which,
    bytes: Box<[u8]>,
    batch: Vec<Event>,
    last: Option<u64>,
}

impl Events {
    pub(crate) fn new(fd: OwnedFd, list: Which) -> Self {
        Self {
            fd,
            list,
            bytes: vec![0; BATCH * SIZE].into(),
            batch: Vec::with_capacity(BATCH),
            last: None,
        }
    }

    /// Whether [`read`](Self::read) waits for an event; at first it does.
    ///
    /// # Errors
    ///
    /// [`Error::Kernel`].
    pub fn set_nonblocking(&self, nonblocking: bool) -> Result<(), Error> {
        rustix::io::ioctl_fionbio(&self.fd, nonblocking).map_err(|errno| self.act().failed(errno))
    }

    /// Takes the events there are; waits for one if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownEvent`], [`Error::Kernel`].
    pub fn read(&mut self) -> Result<Batch<'_>, Error> {
        let count = match rustix::io::read(&self.fd, &mut self.bytes[..]) {
            Ok(0) => return Ok(Batch::End),
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Batch::Nothing),
            Err(errno) => return Err(self.act().failed(errno)),
        };
        self.batch.clear();
        for bytes in self.bytes[..count].chunks_exact(SIZE) {
            let event = decode(bytes).map_err(|kind| Error::UnknownEvent {
                act: self.act(),
                kind,
            })?;
            self.batch.push(event);
        }
        self.last = self.batch.last().map(|event| event.seq).or(self.last);
        Ok(Batch::Events(&self.batch))
    }

    /// The events of the last [`read`](Self::read) that gave some.
    pub(crate) fn batch(&self) -> &[Event] {
        &self.batch
    }

    /// What to give to [`PidSet::events`](crate::PidSet::events) to go on behind the last event that
    /// was read; `None` before the first.
    #[must_use]
    pub fn resume_from(&self) -> Option<u64> {
        self.last.map(|seq| seq + 1)
    }

    fn act(&self) -> Act {
        Act::new("reading the events of", &self.list)
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Takes an [`abi::Event`] apart; an error is a kind that is not known.
fn decode(bytes: &[u8]) -> Result<Event, u32> {
    let long = |at: usize| {
        let mut value = [0; 8];
        value.copy_from_slice(&bytes[at..at + 8]);
        u64::from_ne_bytes(value)
    };
    let word = |at: usize| {
        let mut value = [0; 4];
        value.copy_from_slice(&bytes[at..at + 4]);
        u32::from_ne_bytes(value)
    };
    let pid = word(std::mem::offset_of!(abi::Event, pid));
    let kind = word(std::mem::offset_of!(abi::Event, kind));
    Ok(Event {
        seq: long(std::mem::offset_of!(abi::Event, seq)),
        time_ns: long(std::mem::offset_of!(abi::Event, time_ns)),
        pid: (pid != 0).then_some(pid),
        id: word(std::mem::offset_of!(abi::Event, id)),
        kind: Kind::of(kind).ok_or(kind)?,
        lost: word(std::mem::offset_of!(abi::Event, lost)),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn encode(seq: u64, pid: u32, id: u32, kind: u32, lost: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(seq.to_ne_bytes());
        bytes.extend((seq * 100).to_ne_bytes());
        for word in [pid, id, kind, lost] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }

    /// A subscription to what is written to the other side.
    fn pipe() -> (std::io::PipeWriter, Events) {
        let (reader, writer) = std::io::pipe().unwrap();
        let events = Events::new(reader.into(), Which::Named("web".into()));
        (writer, events)
    }

    #[test]
    fn events_are_taken_apart() {
        let (mut writer, mut events) = pipe();
        assert_eq!(events.resume_from(), None);
        let bytes = [encode(7, 0, 12, 4, 3), encode(8, 5, 13, 2, 0)].concat();
        writer.write_all(&bytes).unwrap();
        let wanted = [
            Event {
                seq: 7,
                time_ns: 700,
                pid: None,
                id: 12,
                kind: Kind::Freed,
                lost: 3,
            },
            Event {
                seq: 8,
                time_ns: 800,
                pid: Some(5),
                id: 13,
                kind: Kind::Forked,
                lost: 0,
            },
        ];
        assert_eq!(events.read().unwrap(), Batch::Events(&wanted));
        assert_eq!(events.resume_from(), Some(9));
        events.set_nonblocking(true).unwrap();
        assert_eq!(events.read().unwrap(), Batch::Nothing);
        drop(writer);
        assert_eq!(events.read().unwrap(), Batch::End);
        assert_eq!(events.resume_from(), Some(9));
    }

    #[test]
    fn an_unknown_event_is_an_error() {
        let (mut writer, mut events) = pipe();
        writer.write_all(&encode(1, 1, 1, 99, 0)).unwrap();
        let error = events.read().unwrap_err();
        assert!(
            matches!(error, Error::UnknownEvent { kind: 99, .. }),
            "{error}"
        );
    }

    #[test]
    fn every_kind_has_a_name() {
        let names: Vec<_> = (0..8).filter_map(Kind::of).map(Kind::name).collect();
        assert_eq!(names.len(), 6);
    }
}
