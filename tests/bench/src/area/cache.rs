//! The process cache: how fast it takes in events and answers, and how much memory it holds; and the
//! walk over all processes that it starts from. A module a family of rows.

mod apply;
mod bytes;
mod churn;
mod get;
mod lives;
mod readers;
mod walk;

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

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    // First, while this process holds nothing else.
    churn::run(report)?;
    bytes::run(report)?;
    apply::run(report)?;
    get::run(report)?;
    readers::run(report)?;
    walk::run(report)
}
