//! Where processes are learned of: what feeds a [`Collector`](crate::Collector).

use std::io;
use std::os::fd::BorrowedFd;

use crate::{Image, Key, Sighting};

/// A source failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file of `/proc` could not be read.
    #[error("cannot read {path}")]
    Proc {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The BPF programs could not be loaded, or stopped to work.
    #[error("{what}")]
    Bpf {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Something that happened to a process; times are nanoseconds of `CLOCK_BOOTTIME`.
#[derive(Clone, Debug)]
pub enum Event {
    /// It was made.
    Fork {
        /// When.
        time_ns: u64,
        /// The new process.
        child: Sighting,
        /// Who called fork.
        forker: Option<Key>,
    },
    /// It runs a new program.
    Exec {
        /// When.
        time_ns: u64,
        /// The process.
        process: Sighting,
        /// The program.
        image: Image,
    },
    /// Its last thread has exited.
    Exit {
        /// When.
        time_ns: u64,
        /// The process, with its exit status.
        process: Sighting,
    },
}

/// How many events of each kind a source had to drop since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Forks.
    pub forks: u64,
    /// Execs.
    pub execs: u64,
    /// Exits.
    pub exits: u64,
}

/// Tells what happens, in the kernel's order.
pub trait EventSource {
    /// Hands over everything that has happened since the last call; returns at once.
    ///
    /// # Errors
    ///
    /// The source is broken, and will stay so.
    fn drain(&mut self, apply: &mut dyn FnMut(Event)) -> Result<(), SourceError>;

    /// What was dropped since the source began.
    ///
    /// # Errors
    ///
    /// The source is broken, and will stay so.
    fn lost(&mut self) -> Result<Lost, SourceError>;

    /// Becomes readable when there is something to [`drain`](Self::drain).
    fn as_fd(&self) -> BorrowedFd<'_>;
}

/// Tells who is there.
pub trait TaskSource {
    /// Every process: whoever lives through the whole walk is in it exactly once.
    ///
    /// # Errors
    ///
    /// The walk could not be finished.
    fn walk(&mut self) -> Result<Vec<Sighting>, SourceError>;
}
