//! Asks a daemon.
//!
//! What comes back are the library's own types: a [`Snapshot`] of a daemon is printed by the same code
//! as one of a [`Collector`](pidlist_process_cache::Collector) in this process.
//!
//! ```no_run
//! use std::path::Path;
//! use pidlist_daemon::{Client, ClientError, Filter, Told};
//!
//! # fn main() -> Result<(), ClientError> {
//! let socket = Path::new("/run/pidlist/pidlist.sock");
//! let mut client = match Client::connect(socket, "example 1.0") {
//!     Ok(client) => client,
//!     // Do without: open a session of our own.
//!     Err(ClientError::NotRunning { .. } | ClientError::Forbidden { .. }) => return Ok(()),
//!     Err(error) => return Err(error),
//! };
//! let snapshot = client.snapshot()?;
//! for process in snapshot.iter() {
//!     println!("{} child of {:?}", process.pid(), snapshot.parent(process));
//! }
//! for told in client.subscribe(Filter::default())? {
//!     match told? {
//!         Told::Change(change, process) => println!("{:?} {}", change.what, process.pid()),
//!         Told::Lost(changes) => println!("{changes} missed"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```

use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pidlist_process_cache::{Change, Process, Snapshot};

use crate::protocol::{
    Answer, Code, Filter, MAX_ANSWER, Request, SettingView, Stats, VERSION, read_frame, write_frame,
};

/// The daemon answers within this time, or not at all.
const PATIENCE: Duration = Duration::from_secs(15);

/// A daemon cannot be asked, or did not grant what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is none.
    #[error("no daemon serves {}", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What connecting to it said.
        #[source]
        source: io::Error,
    },
    /// There may be one, but the mode of the socket, or of a directory on the way, keeps this user out: nobody
    /// was asked. Do without, as if there were none.
    #[error("this user may not connect to {}", path.display())]
    Forbidden {
        /// The socket.
        path: PathBuf,
        /// What connecting to it said.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("talking to the daemon at {}", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// How.
        #[source]
        source: io::Error,
    },
    /// It said no.
    #[error("the daemon at {}: {message}", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// Why, for programs.
        code: Code,
        /// Why, for people.
        message: String,
    },
}

impl ClientError {
    /// Why the daemon refused, if it did.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

/// What a subscriber is told.
#[derive(Clone, Debug)]
pub enum Told {
    /// Something happened to a process, which was like this right after it.
    Change(Change, Arc<Process>),
    /// So many changes were missed here.
    Lost(u64),
}

impl Client {
    /// Connects, and says who this is, for the daemon's log.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotRunning`] if there is no daemon, [`ClientError::Forbidden`] if it is for others: do
    /// without it. Any other error is worth telling.
    pub fn connect(path: &Path, name: &str) -> Result<Self, ClientError> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(source) => {
                let path = path.into();
                return Err(match source.kind() {
                    // A daemon that was killed leaves its socket behind.
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                        ClientError::NotRunning { path, source }
                    }
                    io::ErrorKind::PermissionDenied => ClientError::Forbidden { path, source },
                    _ => ClientError::Broken { path, source },
                });
            }
        };
        let mut client = Self {
            path: path.into(),
            stream: BufReader::new(stream),
        };
        client.set_patience(Some(PATIENCE))?;
        let hello = Request::Hello {
            protocol: VERSION,
            client: name.into(),
        };
        match client.ask(&hello)? {
            Answer::Hello { .. } => Ok(client),
            other => Err(client.unexpected(&other)),
        }
    }

    /// Every process, the exited ones included.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn snapshot(&mut self) -> Result<Snapshot, ClientError> {
        self.processes(&Request::Snapshot { alive: false })
            .map(|(_, snapshot)| snapshot)
    }

    /// The living alone.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn living(&mut self) -> Result<Snapshot, ClientError> {
        self.processes(&Request::Snapshot { alive: true })
            .map(|(_, snapshot)| snapshot)
    }

    /// The newest process of that pid; `None` if none is known.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn get(&mut self, pid: u32) -> Result<Option<Arc<Process>>, ClientError> {
        let found = self.processes_of(&Request::Get { pid })?;
        Ok(found.and_then(|(line, _)| line.into_iter().next()))
    }

    /// The newest process of that pid, its parent, and so on; `None` if none is known.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn ancestors(&mut self, pid: u32) -> Result<Option<Vec<Arc<Process>>>, ClientError> {
        let found = self.processes_of(&Request::Ancestors { pid })?;
        Ok(found.map(|(line, _)| line))
    }

    /// Those that lived at some time since `since_ns`, of `CLOCK_BOOTTIME`.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn history(&mut self, since_ns: u64) -> Result<Snapshot, ClientError> {
        self.processes(&Request::History { since_ns })
            .map(|(_, snapshot)| snapshot)
    }

    /// How the daemon is.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn stats(&mut self) -> Result<Stats, ClientError> {
        match self.ask(&Request::Stats {})? {
            Answer::Stats(stats) => Ok(*stats),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The daemon's settings.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn config(&mut self) -> Result<Vec<SettingView>, ClientError> {
        match self.ask(&Request::Config {})? {
            Answer::Config { settings } => Ok(settings),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Has the daemon take in a process at once; returns whether there is one.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn preload(&mut self, pid: u32) -> Result<bool, ClientError> {
        match self.ask(&Request::Preload { pid }) {
            Ok(Answer::Preloaded {}) => Ok(true),
            Err(error) if error.code() == Some(Code::NoSuchProcess) => Ok(false),
            Ok(other) => Err(self.unexpected(&other)),
            Err(error) => Err(error),
        }
    }

    /// Every change from now on. The iterator waits for the next one, and ends with the daemon.
    ///
    /// # Errors
    ///
    /// See [`ClientError`].
    pub fn subscribe(mut self, filter: Filter) -> Result<Changes, ClientError> {
        match self.ask(&Request::Subscribe { filter })? {
            Answer::Subscribed {} => {
                self.set_patience(None)?;
                Ok(Changes(self))
            }
            other => Err(self.unexpected(&other)),
        }
    }

    fn processes_of(&mut self, request: &Request) -> Result<Option<Answered>, ClientError> {
        match self.processes(request) {
            Ok(answered) => Ok(Some(answered)),
            Err(error) if error.code() == Some(Code::NoSuchProcess) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The processes in the order they came, and as a snapshot.
    fn processes(&mut self, request: &Request) -> Result<Answered, ClientError> {
        let mut all = Vec::new();
        let mut answer = self.ask(request)?;
        loop {
            match answer {
                Answer::Processes { processes } => all.extend(processes),
                Answer::Done { taken_ns, counters } => {
                    let each = all
                        .iter()
                        .map(|process: &Arc<Process>| Process::clone(process));
                    let snapshot = Snapshot::from_processes(each, counters, taken_ns);
                    return Ok((all, snapshot));
                }
                other => return Err(self.unexpected(&other)),
            }
            answer = self.next()?;
        }
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, ClientError> {
        let sent = serde_json::to_vec(request)
            .map_err(io::Error::from)
            .and_then(|json| write_frame(self.stream.get_mut(), &json));
        match sent {
            Ok(()) => self.next(),
            // It has closed, and may have said why.
            Err(error) => match self.next() {
                Err(refused @ ClientError::Refused { .. }) => Err(refused),
                _ => Err(self.broken(error)),
            },
        }
    }

    fn next(&mut self) -> Result<Answer, ClientError> {
        let frame = read_frame(&mut self.stream, MAX_ANSWER).map_err(|error| self.broken(error))?;
        match serde_json::from_slice(&frame) {
            Ok(Answer::Error { code, message }) => Err(ClientError::Refused {
                path: self.path.clone(),
                code,
                message,
            }),
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.broken(error.into())),
        }
    }

    fn set_patience(&self, patience: Option<Duration>) -> Result<(), ClientError> {
        let set = self.stream.get_ref().set_read_timeout(patience);
        set.map_err(|error| self.broken(error))
    }

    fn broken(&self, source: io::Error) -> ClientError {
        ClientError::Broken {
            path: self.path.clone(),
            source,
        }
    }

    fn unexpected(&self, answer: &Answer) -> ClientError {
        let mut answer = format!("{answer:?}");
        answer.truncate(answer.find(['(', '{']).unwrap_or(answer.len()));
        self.broken(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("an unexpected answer: {answer}"),
        ))
    }
}

type Answered = (Vec<Arc<Process>>, Snapshot);

/// What happens, see [`Client::subscribe`].
#[derive(Debug)]
pub struct Changes(Client);

impl Changes {
    /// The connection: readable when there may be something to read.
    #[must_use]
    pub fn stream(&self) -> &UnixStream {
        self.0.stream.get_ref()
    }

    /// Whether something was received already: then [`next`](Iterator::next) need not wait for all of it.
    #[must_use]
    pub fn has_more(&self) -> bool {
        !self.0.stream.buffer().is_empty()
    }
}

impl Iterator for Changes {
    type Item = Result<Told, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.next() {
            Ok(Answer::Change {
                time_ns,
                what,
                process,
            }) => {
                let change = Change {
                    time_ns,
                    what: what.into(),
                    key: process.key(),
                };
                Some(Ok(Told::Change(change, process)))
            }
            Ok(Answer::Lost { changes }) => Some(Ok(Told::Lost(changes))),
            Ok(other) => Some(Err(self.0.unexpected(&other))),
            Err(error) if error.code() == Some(Code::Stopping) => None,
            Err(error) => Some(Err(error)),
        }
    }
}
