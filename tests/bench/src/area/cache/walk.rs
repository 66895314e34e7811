//! A walk over all processes, against reading them in `/proc`.

use std::hint::black_box;

use anyhow::Context;
use pidlist_process_cache::source::{SourceError, Sources, Want, open};

use crate::measure::{in_turns, timed};
use crate::report::{Report, Row};

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    let figure = super::time("cache.walk");
    let (mut sources, processes) = match iterator() {
        Ok(both) => both,
        Err(reason) => {
            report.skip(figure.name, &reason);
            return Ok(());
        }
    };
    let iterator = timed(1, || {
        black_box(sources.tasks.walk()?);
        Ok(())
    })?;
    let scan = timed(1, || {
        black_box(scan()?);
        Ok(())
    })?;
    let samples = in_turns(report.rounds, iterator, scan)?;
    let against = "procfs crate: stat and status of every process";
    report.push(Row::compared(figure, against, &samples)?);
    report.note(format!("walk: {processes} processes"));
    Ok(())
}

/// The iterator works here, and lists so many processes.
fn iterator() -> Result<(Sources, usize), SourceError> {
    let mut sources = open(Want::Bpf, false)?;
    let processes = sources.tasks.walk()?.len();
    Ok((sources, processes))
}

/// What tells as much as the iterator; who vanishes is left out.
fn scan() -> anyhow::Result<Vec<(procfs::process::Stat, procfs::process::Status)>> {
    let processes = procfs::process::all_processes().context("cannot read /proc")?;
    Ok(processes
        .filter_map(|process| {
            let process = process.ok()?;
            Some((process.stat().ok()?, process.status().ok()?))
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_sees_this_process() {
        let own = std::process::id().cast_signed();
        assert!(scan().unwrap().iter().any(|(stat, _)| stat.pid == own));
    }
}
