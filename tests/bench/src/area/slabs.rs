//! A snapshot of all slab caches.
//!
//! Reading `/proc/slabinfo` swings between runs, in CPU time as on the wall: 0.8 to 2.2 ms were seen
//! on one machine within minutes. Compare ratios of several runs before concluding from one.

use std::hint::black_box;

use pidlist_bpf::Programs;
use pidlist_slabs::{Error, Snapshot};

use crate::measure::{in_turns, timed};
use crate::report::{Better, Figure, Report, Row};

const WALK: Figure<'_> = Figure {
    name: "slabs.walk",
    unit: "ns",
    better: Better::Lower,
};

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    let (programs, caches) = match both() {
        Ok(both) => both,
        Err(reason) => {
            report.skip(WALK.name, &reason);
            return Ok(());
        }
    };
    let bpf = timed(1, || {
        black_box(Snapshot::from_bpf(&programs)?);
        Ok(())
    })?;
    let slabinfo = timed(1, || {
        black_box(Snapshot::from_slabinfo()?);
        Ok(())
    })?;
    let samples = in_turns(report.rounds, bpf, slabinfo)?;
    report.push(Row::compared(
        WALK,
        "/proc/slabinfo, read and parsed",
        &samples,
    )?);
    report.note(format!("{caches} caches"));
    Ok(())
}

/// Loads the program; both ways work here, and list so many caches.
fn both() -> Result<(Programs, usize), Error> {
    let programs = Programs::open()?;
    Snapshot::from_bpf(&programs)?;
    let caches = Snapshot::from_slabinfo()?.caches.len();
    Ok((programs, caches))
}
