//! A descriptor that reads the joins and leaves of a list.

use kernel::bindings;
use kernel::iov::IovIterSource;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{new_mutex, Mutex};
use kernel::uaccess::{UserPtr, UserSliceWriter};

use crate::abi;
use crate::events::Record;
use crate::lists::Handle;
use crate::sys::file::{Opened, Operations, Poll};
use crate::sys::pid::Namespace;

/// Reads events of one list.
pub(crate) struct EventFile {
    list: Handle,
    /// The number of the next event to read; written by who has the turn.
    next: Atomic<u64>,
    turn: Pin<KBox<Mutex<()>>>,
}

impl EventFile {
    /// Begins with event `from`, or if that is 0 with the next one there will be. May sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a number that no event had yet; `ENODEV`, `ENOMEM`.
    pub(crate) fn new(list: Handle, from: u64) -> Result<Self> {
        let turn = KBox::pin_init(new_mutex!(()), GFP_KERNEL)?;
        let next = list.begin_reading(from)?;
        // From here on, its drop counts the reader out.
        Ok(Self { list, next: Atomic::new(next), turn })
    }

    /// Who it is to the reader. The id of one who was freed may be another's by now.
    fn number(&self, namespace: Namespace<'_>, record: &Record) -> u32 {
        if record.kind == abi::EVENT_FREED && !namespace.is_initial() {
            return 0;
        }
        namespace.number_of(record.id).unwrap_or(0)
    }

    fn is_readable(&self) -> bool {
        self.list.is_readable(self.next.load(Relaxed))
    }
}

impl Drop for EventFile {
    fn drop(&mut self) {
        self.list.end_reading();
    }
}

impl Operations for EventFile {
    fn read(&self, file: Opened<'_>, mut to: UserSliceWriter) -> Result<usize> {
        let room = to.len() / size_of::<abi::Event>();
        if room == 0 {
            return Err(EINVAL);
        }
        let current = kernel::current!();
        let namespace = Namespace::of(&current)?;
        let turn = loop {
            if !self.is_readable() {
                if file.is_nonblocking() {
                    return Err(EAGAIN);
                }
                self.list.event_queue().wait_until(|| self.is_readable())?;
            }
            // Another reader of this descriptor may have been faster. Nobody waits for events with the
            // turn; only memory that is slow to be written keeps the others waiting.
            let turn = self.turn.lock();
            if self.is_readable() {
                break turn;
            }
        };
        let mut count = 0;
        let mut records = [Record::default(); 32];
        while count < room {
            let some = records.len().min(room - count);
            let piece = self.list.read_events(self.next.load(Relaxed), &mut records[..some]);
            let mut lost = piece.lost;
            for (seq, record) in (piece.first..).zip(&records[..piece.len]) {
                let event = abi::Event {
                    seq,
                    time_ns: record.time_ns,
                    pid: self.number(namespace, record),
                    id: record.id,
                    kind: record.kind,
                    lost: lost.try_into().unwrap_or(u32::MAX),
                };
                match to.write(&event) {
                    // What was read is read: the error is the next call's.
                    Err(_) if count > 0 => return Ok(count * size_of::<abi::Event>()),
                    result => result?,
                }
                self.list.count_lost(core::mem::take(&mut lost));
                self.next.store(seq + 1, Relaxed);
                count += 1;
            }
            if piece.len < some {
                break;
            }
        }
        drop(turn);
        Ok(count * size_of::<abi::Event>())
    }

    fn write(&self, _file: Opened<'_>, _from: &mut IovIterSource<'_>) -> Result {
        Err(EBADF)
    }

    fn ioctl(&self, _file: Opened<'_>, _cmd: u32, _arg: UserPtr) -> Result<u32> {
        Err(ENOTTY)
    }

    fn poll(&self, poll: Poll<'_>) -> u32 {
        poll.wait_for(self.list.event_queue());
        let mut ready = 0;
        if self.is_readable() {
            ready |= bindings::POLLIN | bindings::POLLRDNORM;
        }
        if self.list.is_removed() {
            ready |= bindings::POLLHUP;
        }
        ready
    }
}
