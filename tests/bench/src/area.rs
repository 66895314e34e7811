//! What is measured: an area a module, an area a file of JSON.

mod cache;
mod pidset;
mod slabs;

use clap::ValueEnum;

use crate::report::Report;

pub use cache::{follow, spawn};

/// Something to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Area {
    /// The PID set: in a guest's kernel, against the kernel's own; and its tree on the host, against
    /// sets of the language and its libraries.
    Pidset,
    /// A snapshot of the slab caches, against `/proc/slabinfo`. Needs root and BPF.
    Slabs,
    /// The process cache: events, look-ups, memory; the walk, against `/proc`; and real processes,
    /// followed. The last two need root and BPF.
    Cache,
}

impl Area {
    /// All of them, in the order of running.
    pub const ALL: &[Self] = &[Self::Pidset, Self::Slabs, Self::Cache];

    /// The name, as on the command line and before the point of a row's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pidset => "pidset",
            Self::Slabs => "slabs",
            Self::Cache => "cache",
        }
    }

    /// Measures it.
    ///
    /// # Errors
    ///
    /// Something went wrong on the way; what is not to be had on this machine is skipped instead.
    pub fn run(self, report: &mut Report) -> anyhow::Result<()> {
        match self {
            _ if !report.wants(self.name()) => Ok(()),
            Self::Pidset => pidset::run(report),
            Self::Slabs => slabs::run(report),
            Self::Cache => cache::run(report),
        }
    }
}
