//! Where processes are learned of: what feeds a [`Collector`](crate::Collector).

use std::io;
use std::os::fd::BorrowedFd;

use crate::{Image, Key, ProcSource, Redact, Sighting, bpf_source};

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
    /// The kernel's numbers and times of processes, which BPF tells, are not those that programs see here.
    #[error(
        "this is a pid or time namespace of its own: BPF tells pids and times of the initial one"
    )]
    Namespace,
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

    /// Pids that the last walk met and could not read, because they are not for this user to see:
    /// nothing can be concluded from their absence.
    fn unread(&self) -> &[u32] {
        &[]
    }
}

/// Which source is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// BPF, and `/proc` where that is not to be had.
    Best,
    /// BPF or an error.
    Bpf,
    /// `/proc` alone.
    Proc,
}

/// What is recorded beyond what always is.
#[derive(Clone, Debug)]
pub struct Capture {
    /// The environment at each exec, without these values; `None`: no environment.
    pub environment: Option<Redact>,
    /// Most bytes kept of a process's arguments, up to [`ARGS_MAX`](pidlist_abi::record::ARGS_MAX).
    pub args_max: usize,
    /// Bytes of the ring that events come by, a power of two.
    pub ring_bytes: u32,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            environment: None,
            args_max: pidlist_abi::record::ARGS_MAX,
            ring_bytes: pidlist_bpf::Options::default().ring_bytes,
        }
    }
}

/// Which source is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The BPF programs.
    Bpf,
    /// `/proc`.
    Proc,
}

/// Sources for a [`Collector`](crate::Collector).
pub struct Sources {
    /// What they are.
    pub kind: Kind,
    /// Who is there.
    pub tasks: Box<dyn TaskSource>,
    /// What happens, attached already.
    pub events: Option<Box<dyn EventSource>>,
    /// `/proc`, for what the others leave out. It counts together with the `/proc` of
    /// [`tasks`](Self::tasks), if that is what they are.
    pub proc: ProcSource,
    /// Why a better source could not be had.
    pub refused: Option<SourceError>,
}

/// Opens the source that is wanted; `with_events` also attaches to what happens from now on.
///
/// # Errors
///
/// [`Want::Bpf`] is not to be had.
pub fn open(want: Want, with_events: bool) -> Result<Sources, SourceError> {
    open_with(want, with_events, &Capture::default())
}

/// Like [`open`], and says what is to be recorded.
///
/// # Errors
///
/// [`Want::Bpf`] is not to be had.
pub fn open_with(want: Want, with_events: bool, capture: &Capture) -> Result<Sources, SourceError> {
    let proc_source = ProcSource::default().capturing(capture.clone());
    let proc = |refused| Sources {
        kind: Kind::Proc,
        tasks: Box::new(proc_source.clone()),
        events: None,
        proc: proc_source.clone(),
        refused,
    };
    if want == Want::Proc {
        return Ok(proc(None));
    }
    match bpf_source::open(with_events, capture) {
        Ok((tasks, events)) => Ok(Sources {
            kind: Kind::Bpf,
            tasks,
            events,
            proc: proc_source,
            refused: None,
        }),
        Err(error) if want == Want::Best => Ok(proc(Some(error))),
        Err(error) => Err(error),
    }
}
