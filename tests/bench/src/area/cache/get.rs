//! A look-up of one process, as any thread does it while the cache is being fed.

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::sync::Arc;

use anyhow::Context;
use pidlist_process_cache::{Cache, Key, Process, Reader};

use super::lives::Lives;
use crate::measure::{in_turns, timed};
use crate::report::{Bound, Report, Row};

type LookUp<'a> = dyn Fn(Key) -> Option<()> + 'a;

/// Processes in the cache.
const ENTRIES: u32 = 10_000;

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    let lives = Lives::new(ENTRIES, 1);
    let reader = full(&lives);
    let mut keys: Vec<Key> = lives.residents().to_vec();
    // Not in the order in which they lie in memory.
    fastrand::Rng::with_seed(1).shuffle(&mut keys);
    let stat = format!("/proc/{}/stat", std::process::id());

    let snapshot = reader.snapshot();
    let in_snapshot = |key: Key| snapshot.get(key).map(use_it);
    let by_pid = |key: Key| snapshot.by_pid(key.tgid).map(use_it);
    let current = |key: Key| reader.get(key).as_ref().map(use_it);
    let current_by_pid = |key: Key| reader.by_pid(key.tgid).as_ref().map(use_it);
    let rows: [(&str, &LookUp<'_>, Option<Bound>); 4] = [
        ("cache.get", &in_snapshot, Some(Bound::ratio(0.01))),
        ("cache.get.by_pid", &by_pid, Some(Bound::ratio(0.01))),
        ("cache.get.current", &current, None),
        ("cache.get.current.by_pid", &current_by_pid, None),
    ];
    for (name, look_up, ratio) in rows {
        let look_up = timed(keys.len(), || {
            for key in black_box(&keys) {
                look_up(*key).context("the cache has lost a process")?;
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
        if let Some(bound) = ratio {
            report.push(row.clone().bound(bound));
        }
        report.push(row.bound(Bound::ours(100.0)));
    }
    report.note(format!(
        "get: {ENTRIES} processes, looked up in random order in a snapshot; current: in the one that is \
         current at each look-up, and with a share of the process to keep"
    ));
    Ok(())
}

/// What a process says has to come from memory, too.
fn use_it(process: &Arc<Process>) {
    black_box((process.seen.parent, process.seen.usage, process.exit));
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
