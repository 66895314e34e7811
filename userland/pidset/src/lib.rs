//! Client of `/dev/pidlist`, the PID set in the kernel.
//!
//! A set holds processes (thread group ids) and can follow forks. The kernel keeps it exact: members
//! leave when their process is gone, also when this client has long ended.
//!
//! ```no_run
//! # fn main() -> Result<(), pidlist_pidset::Error> {
//! let set = pidlist_pidset::PidSet::open()?;
//! set.add(&[std::process::id()])?;
//! set.set_follow(true)?;
//! let members: Vec<u32> = set.members()?;
//! # Ok(()) }
//! ```

mod ioctl;

use std::fs::File;
use std::path::{Path, PathBuf};

use pidlist_abi::pidset as abi;
use rustix::io::Errno;

pub use abi::{Info, Stats};

/// What went wrong with the set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device is not there.
    #[error(
        "{}: the kernel module is not loaded; load it with `make load`, or `modprobe rust_pidlist` \
         where it is installed", .0.display()
    )]
    NotLoaded(PathBuf),
    /// The device is for root.
    #[error("{}: permission denied; run as root", .0.display())]
    NotPermitted(PathBuf),
    /// The module speaks another version than this library.
    #[error("the kernel module speaks version {module}, this program {ours}; install both anew")]
    Version {
        /// The module's.
        module: u32,
        /// Ours.
        ours: u32,
    },
    /// No set can hold such a pid.
    #[error("{pid} is not a pid; they go from 1 to {max}")]
    OutOfRange {
        /// The number given.
        pid: u32,
        /// The largest pid.
        max: u32,
    },
    /// A process to be added is not there; nothing was added.
    #[error("no process has pid {}; nothing was added", list(.0))]
    NoSuchProcess(Vec<u32>),
    /// More pids in one call than the module takes.
    #[error("{0} pids are more than the {max} that one call takes", max = abi::BATCH_MAX)]
    TooMany(usize),
    /// Anything else.
    #[error("{doing}: {errno}")]
    Kernel {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

fn list(pids: &[u32]) -> String {
    pids.iter()
        .map(u32::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// An open PID set.
#[derive(Debug)]
pub struct PidSet {
    device: File,
    info: Info,
}

impl PidSet {
    /// Opens the default set.
    ///
    /// # Errors
    ///
    /// [`Error::NotLoaded`], [`Error::NotPermitted`], [`Error::Version`].
    pub fn open() -> Result<Self, Error> {
        Self::open_device(&Path::new("/dev").join(abi::DEVICE_NAME))
    }

    fn open_device(path: &Path) -> Result<Self, Error> {
        let device = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|error| match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NXIO | Errno::NODEV) => Error::NotLoaded(path.into()),
                Some(Errno::ACCESS | Errno::PERM) => Error::NotPermitted(path.into()),
                errno => Error::Kernel {
                    doing: "opening the PID set",
                    errno: errno.unwrap_or(Errno::IO),
                },
            })?;
        let info = ioctl::info(&device).map_err(kernel("asking for the module's version"))?;
        if info.version != abi::VERSION {
            return Err(Error::Version {
                module: info.version,
                ours: abi::VERSION,
            });
        }
        Ok(Self { device, info })
    }

    /// The module's version and limits.
    pub fn info(&self) -> Info {
        self.info
    }

    /// Adds processes: all of them, or none.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`], [`Error::TooMany`], [`Error::NoSuchProcess`] with the pids that are
    /// not there.
    pub fn add(&self, pids: &[u32]) -> Result<(), Error> {
        self.check(pids)?;
        ioctl::add(&self.device, pids).map_err(|errno| match errno {
            Errno::SRCH => Error::NoSuchProcess(missing(pids)),
            errno => Error::Kernel {
                doing: "adding to the PID set",
                errno,
            },
        })
    }

    /// Removes processes; those that are no members are passed over.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`], [`Error::TooMany`].
    pub fn remove(&self, pids: &[u32]) -> Result<(), Error> {
        self.check(pids)?;
        ioctl::remove(&self.device, pids).map_err(kernel("removing from the PID set"))
    }

    /// Whether a process is a member.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`].
    pub fn has(&self, pid: u32) -> Result<bool, Error> {
        self.check(&[pid])?;
        ioctl::has(&self.device, pid).map_err(kernel("asking the PID set"))
    }

    /// The members, in ascending order.
    ///
    /// Members that come or go during the call may be in it or not; all others are right.
    ///
    /// # Errors
    ///
    /// [`Error::Kernel`].
    pub fn members(&self) -> Result<Vec<u32>, Error> {
        let mut members = Vec::new();
        let mut buffer = vec![0; abi::BATCH_MAX as usize];
        let mut from = 0;
        loop {
            let count = ioctl::span(&self.device, from, &mut buffer)
                .map_err(kernel("reading the PID set"))?;
            members.extend_from_slice(&buffer[..count]);
            match buffer[..count].last() {
                Some(&last) if count == buffer.len() => from = last + 1,
                _ => return Ok(members),
            }
        }
    }

    /// Removes every member.
    ///
    /// # Errors
    ///
    /// [`Error::Kernel`].
    pub fn clear(&self) -> Result<(), Error> {
        ioctl::clear(&self.device).map_err(kernel("clearing the PID set"))
    }

    /// Whether children of members are to become members.
    ///
    /// # Errors
    ///
    /// [`Error::Kernel`].
    pub fn set_follow(&self, follow: bool) -> Result<(), Error> {
        let flags = if follow { abi::RULE_FOLLOW } else { 0 };
        ioctl::set_rules(&self.device, abi::Rules { flags })
            .map_err(kernel("setting whether the PID set follows forks"))
    }

    /// Whether children of members become members.
    ///
    /// # Errors
    ///
    /// [`Error::Kernel`].
    pub fn follows(&self) -> Result<bool, Error> {
        Ok(self.stats()?.rules & u64::from(abi::RULE_FOLLOW) != 0)
    }

    /// What the set holds and has done since the module was loaded.
    ///
    /// # Errors
    ///
    /// [`Error::Kernel`].
    pub fn stats(&self) -> Result<Stats, Error> {
        ioctl::stats(&self.device).map_err(kernel("reading the PID set's statistics"))
    }

    fn check(&self, pids: &[u32]) -> Result<(), Error> {
        let max = self.info.pid_max;
        if let Some(&pid) = pids.iter().find(|pid| !(1..=max).contains(*pid)) {
            return Err(Error::OutOfRange { pid, max });
        }
        if pids.len() > abi::BATCH_MAX as usize {
            return Err(Error::TooMany(pids.len()));
        }
        Ok(())
    }
}

fn kernel(doing: &'static str) -> impl FnOnce(Errno) -> Error {
    move |errno| Error::Kernel { doing, errno }
}

/// Those of `pids` that are no processes now: the kernel does not say which it missed.
fn missing(pids: &[u32]) -> Vec<u32> {
    let gone: Vec<u32> = pids
        .iter()
        .copied()
        .filter(|&pid| !is_process(pid))
        .collect();
    // All there by now: the pid was used again in between.
    if gone.is_empty() { pids.to_vec() } else { gone }
}

/// Whether `pid` is a process: /proc also answers for threads that are no leaders.
fn is_process(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .is_ok_and(|status| status.lines().any(|line| line == format!("Tgid:\t{pid}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_says_how_to_load_the_module() {
        let error = PidSet::open_device(Path::new("/dev/no-such-device")).unwrap_err();
        assert!(matches!(error, Error::NotLoaded(_)));
        assert!(error.to_string().contains("make load"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_set_is_refused() {
        let error = PidSet::open_device(Path::new("/dev/null")).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Kernel {
                    errno: Errno::NOTTY,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn only_processes_are_there() {
        assert!(is_process(std::process::id()));
        assert!(!is_process(u32::MAX));
        let thread = std::thread::spawn(|| rustix::thread::gettid().as_raw_nonzero().get());
        // A thread's id is no process, alive or not.
        assert!(!is_process(thread.join().unwrap().unsigned_abs()));
    }
}
