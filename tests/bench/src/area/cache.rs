//! The process cache: how fast it takes in events and answers, and how much memory it holds; the walk
//! over all processes that it starts from; and real processes, followed. A module a family of rows.

mod apply;
mod bootstrap;
mod bytes;
mod capture;
mod churn;
mod churn_real;
mod follower;
mod get;
mod lives;
mod load;
mod overhead;
mod peers;
mod readers;
mod repair;
mod walk;

pub use follower::follow;
pub use load::spawn;

use anyhow::Context;

use crate::report::{Better, Figure, Report};

const fn time(name: &str) -> Figure<'_> {
    Figure {
        name,
        unit: "ns",
        better: Better::Lower,
    }
}

const fn rate<'a>(name: &'a str, unit: &'a str) -> Figure<'a> {
    Figure {
        name,
        unit,
        better: Better::Higher,
    }
}

const fn size(name: &str) -> Figure<'_> {
    Figure {
        name,
        unit: "bytes",
        better: Better::Lower,
    }
}

/// What can be measured alone: how its rows begin.
type Family = (&'static str, fn(&mut Report) -> anyhow::Result<()>);

const FAMILIES: &[Family] = &[
    // First, while this process holds nothing else.
    ("cache.churn", churn::run),
    ("cache.bytes", bytes::run),
    ("cache.apply", apply::run),
    ("cache.get", get::run),
    ("cache.readers", readers::run),
    ("cache.walk", walk::run),
    ("cache.capture", capture::run),
    ("cache.overhead", overhead::run),
    ("cache.bootstrap", bootstrap::run),
    ("cache.repair", repair::run),
    ("cache.churn.real", churn_real::run),
];

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    for (name, run) in FAMILIES {
        if report.wants(name) {
            run(report).with_context(|| (*name).to_owned())?;
        }
    }
    Ok(())
}
