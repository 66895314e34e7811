//! Every process: the living, and for a while those that have exited.
//!
//! [`Cache`] is the store. It does no I/O and reads no clock: whoever has events feeds it
//! ([`Cache::on_fork`], [`Cache::on_exec`], [`Cache::on_exit`], [`Cache::merge`]) and says what time
//! it is. [`Collector`] feeds one from the best [`source`] that this machine allows, notices losses
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
mod proc_source;
mod process;
mod redact;
pub mod source;
#[cfg(feature = "serde")]
mod text;

pub use audit::{Audit, Bound};
pub use cache::{Cache, Counters, Outcome, Repair, Settings};
pub use collector::{Change, Collector, Observer, What};
pub use key::{Key, Precision, TICK_NS};
pub use proc_source::ProcSource;
pub use process::{
    Capabilities, Credentials, Environment, Exe, Exit, Ids, Image, ImageSource, Nested, NsPid,
    Process, Sighting, State, Usage,
};
pub use redact::Redact;
