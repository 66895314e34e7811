//! A look-up of one process, as any thread does it while the cache is being fed.

use std::fs::File;
use std::hint::black_box;
use std::io::Read;

use anyhow::Context;
use pidlist_process_cache::{Cache, Key, Reader};

use super::lives::Lives;
use crate::measure::{in_turns, timed};
use crate::report::{Bound, Report, Row};

/// Processes in the cache.
const ENTRIES: u32 = 10_000;

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    let lives = Lives::new(ENTRIES, 1);
    let reader = full(&lives);
    let mut keys: Vec<Key> = lives.residents().to_vec();
    // Not in the order in which they lie in memory.
    fastrand::Rng::with_seed(1).shuffle(&mut keys);
    let stat = format!("/proc/{}/stat", std::process::id());

    for (name, is_by_pid) in [("cache.get", false), ("cache.get.by_pid", true)] {
        let look_up = timed(keys.len(), || {
            for key in black_box(&keys) {
                let process = if is_by_pid {
                    reader.by_pid(key.tgid)
                } else {
                    reader.get(*key)
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
        let row = Row::compared(super::time(name), against, &samples)?;
        report.push(row.clone().bound(Bound::ours(100.0)));
        report.push(row.bound(Bound::ratio(0.01)));
    }
    report.note(format!(
        "get: {ENTRIES} processes, looked up in random order by a reader"
    ));
    Ok(())
}

fn full(lives: &Lives) -> Reader {
    let mut cache = Cache::default();
    let reader = cache.reader();
    lives.enter(&mut cache);
    cache.publish(0);
    reader
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_holds_everybody() {
        let lives = Lives::new(ENTRIES, 1);
        let reader = full(&lives);
        assert_eq!(reader.snapshot().len(), ENTRIES as usize);
        assert!(
            lives
                .residents()
                .iter()
                .all(|key| reader.get(*key).is_some())
        );
    }
}
