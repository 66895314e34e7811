//! What can go wrong, and what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use pidlist_process_cache::source::SourceError;

/// The daemon cannot be, or cannot be any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings are bad.
    #[error(transparent)]
    Config(#[from] pidlist_config::Error),
    /// Another daemon has the socket.
    #[error(
        "{}: another daemon (process {pid}) serves this socket; stop it, or choose another with --socket",
        path.display()
    )]
    InUse {
        /// The socket.
        path: PathBuf,
        /// Who has it.
        pid: String,
    },
    /// The socket cannot be made.
    #[error("cannot serve the socket {}; --socket chooses another", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The address of the metrics cannot be had.
    #[error("cannot serve metrics at {address}; --metrics chooses another address")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The processes cannot be followed.
    #[error("cannot follow the processes; `pidlist doctor` says what is missing")]
    Source(#[from] SourceError),
    /// The system refuses what every program takes.
    #[error("{what}")]
    System {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}
