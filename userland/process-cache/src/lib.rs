//! Every process: the living, and for a while those that have exited.
//!
//! [`Cache`] is the store. It does no I/O and reads no clock: whoever has events feeds it
//! ([`Cache::on_fork`], [`Cache::on_exec`], [`Cache::on_exit`], [`Cache::merge`]) and says what time
//! it is. [`Reader`]s on other threads see it by [`Snapshot`]s, and never wait; a [`Subscription`] has
//! every change. [`Collector`] feeds one from the best [`source`] that this machine allows, notices losses
//! and repairs them.
//!
//! Every time is in nanoseconds of `CLOCK_BOOTTIME`, the clock of `task_struct.start_boottime`.

mod audit;
mod bpf_source;
mod cache;
pub mod cgroup;
pub mod clock;
mod collector;
mod key;
mod pid_tree;
mod proc_source;
mod process;
mod redact;
mod select;
mod settings;
pub mod source;
mod subscription;
#[cfg(feature = "serde")]
mod text;
mod tracked;
mod view;

pub use audit::{Audit, Bound};
pub use cache::{Cache, Counters, Outcome, Repair};
pub use collector::{Collector, Observer, Slabs};
pub use key::{Key, Precision, TICK_NS};
pub use proc_source::ProcSource;
pub use process::{
    Capabilities, Credentials, Environment, Exe, Exit, Ids, Image, ImageSource, Nested, NsPid,
    Process, Sighting, State, Usage,
};
pub use redact::Redact;
pub use select::{CgroupPattern, Family, Selection};
pub use settings::{CollectorSettings, Mode, Settings};
pub use subscription::{Change, Closed, Subscription, What};
pub use tracked::{MEMBERSHIPS_MAX, Membership};
pub use view::{Reader, Snapshot};
