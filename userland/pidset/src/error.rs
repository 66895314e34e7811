//! What can go wrong, and what to do about it.

use std::fmt;
use std::path::PathBuf;

use pidlist_abi::pidset as abi;
use rustix::io::Errno;

use crate::name::BadName;

/// The list that a call was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// One list.
    Named(String),
    /// The union of lists.
    Union,
    /// No list in particular.
    All,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "list {name}"),
            Self::Union => f.write_str("the union of lists"),
            Self::All => f.write_str("all lists"),
        }
    }
}

/// What was being done, to which list: `adding to list web`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// `adding to`.
    pub doing: &'static str,
    /// The list.
    pub list: Which,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.doing, self.list)
    }
}

/// What went wrong with a list.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device is not there.
    #[error(
        "{}: the kernel module is not loaded; load it with `make load`, or `modprobe rust_pidlist` \
         where it is installed", .0.display()
    )]
    NotLoaded(PathBuf),
    /// The device may not even be read.
    #[error("{}: permission denied; run as root, or have root open the device to others", .0.display())]
    NotPermitted(PathBuf),
    /// The module speaks another version than this library.
    #[error("the kernel module speaks version {module}, this program {ours}; install both anew")]
    Version {
        /// The module's.
        module: u32,
        /// Ours.
        ours: u32,
    },
    /// No list can be called so.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// There is no list of that name.
    #[error("{0}: no list has that name; see which there are, or create it")]
    NoSuchList(Act),
    /// There is a list of that name.
    #[error("{0}: there is one already; open it, or choose another name")]
    ListExists(Act),
    /// The list was removed while it was open.
    #[error("{0}: the list was deleted; create it anew, and open it again")]
    ListGone(Act),
    /// The default list cannot be removed.
    #[error("{0}: the default list stays; clear it instead")]
    DefaultStays(Act),
    /// No more lists can be made.
    #[error(
        "{0}: there are as many lists as there may be, {all} in all and {own} of one user without \
         CAP_SYS_ADMIN; delete one first", all = abi::LISTS_MAX, own = abi::LISTS_MAX_PER_USER
    )]
    TooManyLists(Act),
    /// The list may use no more memory. Nothing was changed, but for a tree of many.
    #[error("{0}: its memory is at its bound; raise the bound, or remove members")]
    Full(Act),
    /// The list is somebody else's.
    #[error("{0}: it is another user's; only its owner and CAP_SYS_ADMIN may")]
    NotOwner(Act),
    /// The device may be read by this user, not written.
    #[error("{0}: /dev/{device} may only be read by this user; run as root", device = abi::DEVICE_NAME)]
    ReadOnly(Act),
    /// The union is a view.
    #[error("{0}: it is a view of all lists, and cannot; name a list")]
    NotForUnion(Act),
    /// More pids in one call than the module takes. Nothing was changed.
    #[error("{0}: more than {max} pids in one call; give them in several", max = abi::BATCH_MAX)]
    TooMany(Act),
    /// No set can hold such a pid.
    #[error("{pid} is not a pid; they go from 1 to {max}")]
    OutOfRange {
        /// The number given.
        pid: u32,
        /// The largest pid.
        max: u32,
    },
    /// The range ends before it begins.
    #[error("{first}-{last} is no range; write the smaller pid first")]
    Backwards {
        /// Its first pid.
        first: u32,
        /// Its last pid.
        last: u32,
    },
    /// No list works with so little memory.
    #[error("a bound of {0} bytes is too low; the least is {min}", min = abi::BYTES_MIN)]
    BoundTooLow(u64),
    /// A process (on a list of threads, a thread) to be added is not there. Nothing was changed.
    #[error("{act}: no {what} has pid {}; nothing was changed", join(.pids), what = if *.threads { "thread" } else { "process" })]
    NoSuchProcess {
        /// What was being done.
        act: Act,
        /// Those that are not there, as far as can be told.
        pids: Vec<u32>,
        /// The list is one of threads.
        threads: bool,
    },
    /// The list has not had so many events: the number is not one of this list, or of its time.
    #[error("{act}: there was no event {from} yet, the last is {last}; begin with an earlier one")]
    NoSuchEvent {
        /// What was being done.
        act: Act,
        /// The event wanted.
        from: u64,
        /// The last one so far.
        last: u64,
    },
    /// An event of a kind that this library does not know.
    #[error("{act}: an event of kind {kind}, which this program does not know; install both anew")]
    UnknownEvent {
        /// What was being done.
        act: Act,
        /// The number of the kind.
        kind: u32,
    },
    /// Anything else.
    #[error("{act}: {errno}")]
    Kernel {
        /// What was being done.
        act: Act,
        /// What the kernel said.
        errno: Errno,
    },
}

impl Act {
    pub(crate) fn new(doing: &'static str, list: &Which) -> Self {
        Self {
            doing,
            list: list.clone(),
        }
    }

    /// What the kernel meant by refusing this.
    pub(crate) fn failed(self, errno: Errno) -> Error {
        match errno {
            Errno::NOENT => Error::NoSuchList(self),
            Errno::EXIST => Error::ListExists(self),
            Errno::NODEV => Error::ListGone(self),
            Errno::BUSY => Error::DefaultStays(self),
            Errno::NOSPC => Error::Full(self),
            Errno::PERM => Error::NotOwner(self),
            Errno::BADF => Error::ReadOnly(self),
            Errno::OPNOTSUPP => Error::NotForUnion(self),
            Errno::TOOBIG => Error::TooMany(self),
            errno => Error::Kernel { act: self, errno },
        }
    }
}

fn join(pids: &[u32]) -> String {
    let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
    pids.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_act_and_the_list() {
        let act = Act::new("adding to", &Which::Named("web".into()));
        let error = act.clone().failed(Errno::NOSPC).to_string();
        assert!(
            error.starts_with("adding to list web: its memory"),
            "{error}"
        );
        let error = act.failed(Errno::NOMEM).to_string();
        assert!(error.starts_with("adding to list web: "), "{error}");
        let error = Error::NoSuchProcess {
            act: Act::new("adding to", &Which::Named("web".into())),
            pids: vec![5, 7],
            threads: true,
        };
        assert_eq!(
            error.to_string(),
            "adding to list web: no thread has pid 5, 7; nothing was changed"
        );
    }
}
