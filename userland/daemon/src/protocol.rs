//! What is spoken on the socket.
//!
//! A stream socket (`SOCK_STREAM`) of the Unix domain carries frames both ways: four bytes of length, the
//! highest first, then so many bytes of JSON, one value. A request has at most [`MAX_REQUEST`] bytes, an
//! answer at most [`MAX_ANSWER`].
//!
//! A value is an object of one member, whose name says what it is: `{"get":{"pid":1}}`. Requests are in
//! [`Request`], answers in [`Answer`]; what has no members is written `{"stats":{}}`. Processes have the
//! members of [`Process`]. Text of foreign programs is a string where it is UTF-8, and else an array of its
//! bytes. Times are nanoseconds of `CLOCK_BOOTTIME`.
//!
//! | request | answers |
//! |---|---|
//! | `hello` | `hello` |
//! | `snapshot`, `get`, `ancestors`, `history` | `processes`, any number of times, then `done` |
//! | `stats` | `stats` |
//! | `preload` | `preloaded` |
//! | `config` | `config` |
//! | `subscribe` | `subscribed`, then `change` and `lost` until either side closes |
//!
//! - The first request is `hello`. If the server speaks another [`VERSION`], it says so in an error of
//!   the code `version`, and closes. A version adds members and kinds of requests; what a client does not
//!   know in an answer it passes over.
//! - Any request may be answered by `error` instead ([`Code`] says why). After `denied`, `version`,
//!   `garbled`, `idle`, `busy` and `stopping` the server closes; else the next request is welcome.
//! - Requests are answered one after the other, in their order; a client may send several at once.
//! - A client that asks nothing for a minute is let go, unless it has subscribed; so is one that does not
//!   read what it is sent for ten seconds.
//! - A subscriber that reads too slowly misses changes, and is told how many: `lost` stands where they
//!   would have been. A snapshot asked for on another connection brings it up to date.
//! - Who may ask is asked anew with each request, and before each change: `denied` may come at any time. No
//!   user but root and the daemon's own has more than a few connections, and few snapshots are sent at once:
//!   `busy` says so.
//! - A filter has at most [`MAX_FILTER`] members.
//! - Every answer of processes comes from one consistent snapshot, whose time and counters are in `done`.

use std::io::{self, Read, Write};
use std::sync::Arc;

use pidlist_config::Origin;
use pidlist_process_cache::{Counters, Process, What};
use serde::{Deserialize, Serialize};

pub use crate::request::{Filter, Kind, MAX_FILTER, MAX_REQUEST, Request};

/// The version of the protocol.
pub const VERSION: u32 = 1;
/// Most bytes of an answer.
pub const MAX_ANSWER: usize = 16 << 20;

/// What the server says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It speaks this version.
    Hello {
        /// [`VERSION`].
        protocol: u32,
        /// Name and version of the program.
        server: String,
        /// Its pid.
        pid: u32,
    },
    /// Some of the processes that were asked for; more may follow.
    Processes {
        /// In no order.
        processes: Vec<Arc<Process>>,
    },
    /// There are no more.
    Done {
        /// Of when the snapshot is.
        taken_ns: u64,
        /// What the cache had seen and done until then.
        counters: Counters,
    },
    /// How the daemon is.
    Stats(Box<Stats>),
    /// Changes follow.
    Subscribed {},
    /// Something happened.
    Change {
        /// When, or when it was found out.
        time_ns: u64,
        /// What.
        what: Kind,
        /// To whom, as it was right after it.
        process: Arc<Process>,
    },
    /// Changes were missed here.
    Lost {
        /// So many.
        changes: u64,
    },
    /// The process is in the cache.
    Preloaded {},
    /// The settings.
    Config {
        /// All of them.
        settings: Vec<SettingView>,
    },
    /// It is not to be.
    Error {
        /// Why, for programs.
        code: Code,
        /// Why, for people.
        message: String,
    },
}

/// Why a request was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The user of the client may not ask.
    Denied,
    /// The client speaks another version, or did not say which.
    Version,
    /// That was no request, or too long a one.
    Garbled,
    /// There are too many clients, or too many requests of this kind.
    Busy,
    /// The client said nothing for too long.
    Idle,
    /// There is no process of that pid.
    NoSuchProcess,
    /// The daemon is about to end.
    Stopping,
    /// A code of a later version.
    #[serde(other)]
    Other,
}

/// A setting, and where its value comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SettingView {
    /// Its name.
    pub key: String,
    /// As it would stand in the file.
    pub value: serde_json::Value,
    /// Where that comes from.
    pub from: Origin,
}

/// How the daemon is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stats {
    /// Where processes are learned of: `bpf` or `proc`.
    pub source: String,
    /// Why nothing better is used.
    pub refused: Option<String>,
    /// Whether events are told; else changes are found by walks alone.
    pub has_events: bool,
    /// When the daemon began.
    pub started_ns: u64,
    /// Processes alive.
    pub alive: u64,
    /// Processes kept that have exited.
    pub exited: u64,
    /// Memory for processes, bytes, by an estimate from above.
    pub bytes: u64,
    /// What was seen and done since the start.
    pub counters: Counters,
    /// Processes corrected by walks since the start.
    pub repaired: u64,
    /// How long the last walk took, nanoseconds.
    pub walk_ns: u64,
    /// How long the last batch of events took to apply, nanoseconds.
    pub apply_ns: u64,
    /// Processes that went while `/proc` was read.
    pub vanished: u64,
    /// Processes that `/proc` does not let the daemon read, as often as they were met.
    pub hidden: u64,
    /// When the processes were last looked after.
    pub stepped_ns: u64,
    /// Clients connected, subscribers included.
    pub clients: u64,
    /// Clients turned away or let go since the start: not allowed, garbled, slow, idle, too many.
    pub clients_refused: u64,
    /// Clients that are told of changes.
    pub subscribers: u64,
    /// Changes that subscribers missed.
    pub subscribers_lost: u64,
}

impl From<What> for Kind {
    fn from(what: What) -> Self {
        match what {
            What::Forked => Self::Fork,
            What::Executed => Self::Exec,
            What::Exited => Self::Exit,
            What::Found => Self::Found,
            What::Gone => Self::Gone,
            What::Revived => Self::Revived,
        }
    }
}

impl From<Kind> for What {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Fork => Self::Forked,
            Kind::Exec => Self::Executed,
            Kind::Exit => Self::Exited,
            Kind::Found => Self::Found,
            Kind::Gone => Self::Gone,
            Kind::Revived => Self::Revived,
        }
    }
}

impl Filter {
    /// Whether it is no larger than [`MAX_FILTER`] allows: every change is held against it.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.pids.len() + self.uids.len() + self.what.len() <= MAX_FILTER
            && self.name.len() <= MAX_FILTER
    }

    /// Whether a change is wanted.
    #[must_use]
    pub fn matches(&self, what: Kind, process: &Process) -> bool {
        let contains = |text: &[u8]| {
            let name = self.name.as_bytes();
            name.is_empty() || text.windows(name.len()).any(|window| window == name)
        };
        let path = process
            .image
            .as_ref()
            .and_then(|image| image.path.as_deref());
        (self.pids.is_empty() || self.pids.contains(&process.pid()))
            && (self.uids.is_empty() || self.uids.contains(&process.seen.ids.uid))
            && (self.what.is_empty() || self.what.contains(&what))
            && (contains(process.comm()) || path.is_some_and(contains))
    }
}

/// Writes a frame.
///
/// # Errors
///
/// The other end is gone, or it is too large for any frame.
pub fn write_frame(mut to: impl Write, json: &[u8]) -> io::Result<()> {
    let length = u32::try_from(json.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    to.write_all(&[&length.to_be_bytes(), json].concat())
}

/// Reads a frame.
///
/// # Errors
///
/// The other end is gone, or the frame has more than `most` bytes.
pub fn read_frame(mut from: impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > most {
        let error = format!("a frame of {length} bytes, more than {most}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    let mut json = vec![0; length];
    from.read_exact(&mut json)?;
    Ok(json)
}
