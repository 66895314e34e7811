//! What following costs those who are followed.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};

use super::follower::{self, Follower};
use super::load::Program;
use crate::measure::Samples;
use crate::report::{Bound, Report, Row};

/// At most.
const PAIRS: usize = 20;
/// How long a loop takes at least, seconds.
const SECONDS: f64 = 0.5;

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    if let Err(reason) = follower::collector() {
        report.skip("cache.overhead", &reason);
        return Ok(());
    }
    let program = &Program::new()?;
    let mut count: u32 = 100;
    let mut elapsed = spawn(program, count)?;
    while elapsed < SECONDS / 2.0 {
        count *= 2;
        elapsed = spawn(program, count)?;
    }
    count = (f64::from(count) * SECONDS / elapsed).ceil() as u32;

    let mut samples = Samples::default();
    let (mut cpu_ns, mut exits) = (Vec::new(), 0);
    for round in 0..PAIRS.min(report.rounds) {
        let mut with = || {
            let follower = Follower::start()?;
            let before_ns = cpu(follower.pid())?;
            samples.ours.push(spawn(program, count)? * 1e9);
            cpu_ns.push((cpu(follower.pid())? - before_ns) / f64::from(count));
            let followed = follower.stop()?;
            ensure!(
                followed.exits >= count.into(),
                "the follower did not follow"
            );
            exits += followed.exits;
            anyhow::Ok(())
        };
        let mut without = || spawn(program, count).map(|time| samples.baseline.push(time * 1e9));
        // What comes first in a round may be better off.
        if round % 2 == 0 {
            with()?;
            without()?;
        } else {
            without()?;
            with()?;
        }
    }
    let row = Row::compared(super::time("cache.overhead"), "nobody follows", &samples)?;
    let pairs = row.runs;
    report.push(row.bound(Bound::ratio(1.05)));
    report.push(Row::alone(super::time("cache.overhead.cpu"), &cpu_ns)?);
    report.note(format!(
        "overhead: fork, exec and wait for a program without libraries, {count} times; on the wall, {pairs} \
         pairs; .cpu: of the following process, for each"
    ));
    Ok(())
}

/// Runs the program so often; seconds on the wall.
fn spawn(program: &Program, count: u32) -> anyhow::Result<f64> {
    let mut command = Command::new(program.path());
    command.arg("!").stdin(Stdio::null());
    let start = Instant::now();
    for _ in 0..count {
        command.status().context("cannot start the program")?;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// What a process has spent on a CPU, all its threads together, nanoseconds.
fn cpu(pid: u32) -> anyhow::Result<f64> {
    let pid = pid.cast_signed();
    let mut sum = 0;
    for task in procfs::process::Process::new(pid)?.tasks()? {
        let path = format!("/proc/{pid}/task/{}/schedstat", task?.tid);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let spent = text.split_ascii_whitespace().next();
        sum += spent
            .and_then(|spent| spent.parse::<u64>().ok())
            .context("no figure")?;
    }
    Ok(sum as f64)
}
