//! Client of `/dev/pidlist`: sets of pids in the kernel, called lists.
//!
//! A list holds processes (thread group ids), or threads if it was made so, and can follow forks. The
//! kernel keeps it exact: members leave when their task is gone, also when this client has long ended.
//!
//! ```no_run
//! # fn main() -> Result<(), pidlist_pidset::Error> {
//! use pidlist_pidset::{Create, Mirror, PidSet};
//!
//! let web = PidSet::create("web", &Create { follow: true, ..Create::default() })?;
//! web.add(&[std::process::id()])?;
//! assert!(web.has(std::process::id())?);
//! let members: Vec<u32> = web.members()?;
//!
//! // An exact copy of the membership, kept so by the list's events.
//! let mut mirror = Mirror::of(web)?;
//! mirror.step()?;
//! # Ok(()) }
//! ```
//!
//! Pids are those of this process's pid namespace. Every call that changes pids changes all or
//! none; `pidlist_abi::pidset` says more, and is the reference.

mod device;
mod error;
mod events;
mod ioctl;
mod mirror;
mod name;
mod rules;
mod set;
mod words;

pub use device::{ListInfo, delete, lists, module};
pub use error::{Act, Error, Which};
pub use events::{Batch, Event, Events, Kind};
pub use mirror::Mirror;
pub use name::{BadName, WhyBadName, check_name};
pub use pidlist_abi::pidset::{
    BATCH_MAX, BYTES_DEFAULT, BYTES_MIN, DEFAULT_LIST, EVENTS_KEPT, Info, Module, Stats,
};
pub use rules::{ChangeRules, Create, Rules};
pub use set::{Member, PidSet};
pub use words::{Pids, Word};
