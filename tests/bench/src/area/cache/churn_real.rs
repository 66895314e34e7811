//! Memory of a process that follows real ones: bounded, and flat.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::follower::{self, Follower};
use super::load::{Program, Spawners};
use crate::measure::Samples;
use crate::report::{Bound, Report, Row};

const LIVES: usize = 200_000;
const SPAWNERS: usize = 2;
/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    if let Err(reason) = follower::collector() {
        report.skip("cache.churn.real", &reason);
        return Ok(());
    }
    let program = Program::new()?;
    let follower = Follower::start()?;
    let spawners = Spawners::start(&program, SPAWNERS, LIVES / SPAWNERS)?;
    let mut looks = Vec::new();
    while !spawners.are_done() {
        looks.push(resident(follower.pid())?);
        std::thread::sleep(LOOK);
    }
    spawners.join()?;
    let followed = follower.stop()?;
    ensure!(
        followed.exits >= LIVES as u64,
        "only {} exits were seen",
        followed.exits
    );
    ensure!(looks.len() >= 8, "it was over too soon");

    let peak = |looks: &[u64]| looks.iter().copied().max().unwrap_or(0) as f64;
    let row = Row::alone(super::size("cache.churn.real.rss"), &[peak(&looks)])?;
    report.push(row.bound(Bound::ours(f64::from(64 << 20))));
    let (_, last_half) = looks.split_at(looks.len() / 2);
    let (third, fourth) = last_half.split_at(last_half.len() / 2);
    let samples = Samples {
        ours: vec![peak(fourth)],
        baseline: vec![peak(third)],
    };
    let figure = super::size("cache.churn.real.growth");
    let row = Row::compared(figure, "the third quarter", &samples)?;
    report.push(row.bound(Bound::ratio(1.05)));
    report.note(format!(
        "churn.real: {LIVES} lives, peak RSS of the following process, its ring included; {} events lost; \
         growth: the fourth quarter; as many dead are kept as die in some seconds, so it goes by the rate",
        followed.lost
    ));
    Ok(())
}

/// Resident memory of a process, bytes.
fn resident(pid: u32) -> anyhow::Result<u64> {
    let statm = procfs::process::Process::new(pid.cast_signed())
        .and_then(|process| process.statm())
        .context("cannot read the follower's memory")?;
    Ok(statm.resident * procfs::page_size())
}
