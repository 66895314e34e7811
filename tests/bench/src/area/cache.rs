//! A walk over all processes, and a look-up of one.

use std::fs::File;
use std::hint::black_box;
use std::io::Read;

use anyhow::Context;
use pidlist_process_cache::source::{SourceError, Sources, Want, open};
use pidlist_process_cache::{Cache, Key, Precision, Sighting};

use crate::measure::{in_turns, timed};
use crate::report::{Better, Figure, Report, Row};

/// Processes in the cache when one is looked up.
const ENTRIES: u32 = 10_000;

const fn time(name: &str) -> Figure<'_> {
    Figure {
        name,
        unit: "ns",
        better: Better::Lower,
    }
}

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    walk(report)?;
    get(report)
}

fn walk(report: &mut Report) -> anyhow::Result<()> {
    let figure = time("cache.walk");
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

fn get(report: &mut Report) -> anyhow::Result<()> {
    let cache = full();
    let mut keys: Vec<Key> = (1..=ENTRIES).map(key).collect();
    // Not in the order in which they lie in memory.
    fastrand::Rng::with_seed(1).shuffle(&mut keys);
    let stat = format!("/proc/{}/stat", std::process::id());

    for (name, is_by_pid) in [("cache.get", false), ("cache.get.by_pid", true)] {
        let look_up = timed(keys.len(), || {
            for key in black_box(&keys) {
                let process = if is_by_pid {
                    cache.by_pid(key.tgid)
                } else {
                    cache.get(*key)
                };
                let process = process.context("the cache has lost a process")?;
                // What it says has to come from memory, too.
                black_box((process.seen.parent, process.seen.usage, process.exit));
            }
            Ok(())
        })?;
        let read = timed(1, || {
            let mut buffer = [0; 1024];
            let length = File::open(&stat)?.read(&mut buffer)?;
            black_box(&buffer[..length]);
            Ok(())
        })?;
        let samples = in_turns(report.rounds, look_up, read)?;
        let against = "/proc/PID/stat, read and not parsed";
        report.push(Row::compared(time(name), against, &samples)?);
    }
    report.note(format!(
        "get: {ENTRIES} processes, looked up in random order"
    ));
    Ok(())
}

fn key(tgid: u32) -> Key {
    Key {
        start_ns: u64::from(tgid) * 1_000_000,
        tgid,
    }
}

fn full() -> Cache {
    let mut cache = Cache::default();
    for tgid in 1..=ENTRIES {
        let parent = (tgid > 1).then(|| key(tgid / 2));
        let child = Sighting {
            parent,
            ..Sighting::new(key(tgid), Precision::Nanosecond)
        };
        cache.on_fork(child.key.start_ns, &child, parent);
    }
    cache
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_holds_everybody() {
        let cache = full();
        assert_eq!(cache.len(), ENTRIES as usize);
        assert!((1..=ENTRIES).all(|tgid| cache.get(key(tgid)).is_some()));
    }

    #[test]
    fn a_scan_sees_this_process() {
        let own = std::process::id().cast_signed();
        assert!(scan().unwrap().iter().any(|(stat, _)| stat.pid == own));
    }
}
