//! Waiting for several things at once, signals among them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// A signal, as something to poll.
pub struct Caught {
    pipe: UnixStream,
    id: signal_hook::SigId,
}

impl Caught {
    pub fn new(signal: i32) -> io::Result<Self> {
        let (pipe, sender) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let id = signal_hook::low_level::pipe::register(signal, sender)?;
        Ok(Self { pipe, id })
    }

    pub fn clear(&self) {
        let mut buffer = [0; 64];
        while io::Read::read(&mut &self.pipe, &mut buffer).is_ok_and(|length| length != 0) {}
    }
}

impl AsFd for Caught {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        signal_hook::low_level::unregister(self.id);
    }
}

/// To wait until it can be read, or its other end is gone.
pub fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::from_borrowed_fd(fd, PollFlags::IN)
}

/// To wait until its other end is gone.
pub fn hung_up(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::from_borrowed_fd(fd, PollFlags::empty())
}

/// Waits until one of them is ready, for ever without a timeout; says which are. A signal ends it as
/// well.
pub fn wait<const N: usize>(
    fds: [Option<PollFd<'_>>; N],
    timeout_ns: Option<u64>,
) -> io::Result<[bool; N]> {
    let mut ready = [false; N];
    let mut places = Vec::with_capacity(N);
    let mut polled = Vec::with_capacity(N);
    for (place, fd) in fds.into_iter().enumerate() {
        if let Some(fd) = fd {
            places.push(place);
            polled.push(fd);
        }
    }
    let timeout = timeout_ns.and_then(|ns| Timespec::try_from(Duration::from_nanos(ns)).ok());
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(ready),
        Err(errno) => return Err(errno.into()),
    }
    for (place, fd) in places.into_iter().zip(&polled) {
        ready[place] = !fd.revents().is_empty();
    }
    Ok(ready)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_who_is_ready() {
        let (empty, _writer) = io::pipe().unwrap();
        let (closed, writer) = io::pipe().unwrap();
        drop(writer);
        let (quiet, over) = (readable(empty.as_fd()), hung_up(closed.as_fd()));
        let ready = wait([Some(quiet), None, Some(over)], None).unwrap();
        assert_eq!(ready, [false, false, true]);
        let ready = wait([Some(hung_up(empty.as_fd()))], Some(1)).unwrap();
        assert_eq!(ready, [false]);
    }
}
