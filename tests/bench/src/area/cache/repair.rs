//! How long the cache is wrong after events were lost.
//!
//! They are, if nobody reads for a while: more happens than the ring has room for.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use pidlist_process_cache::source::{TaskSource, Want, open};
use pidlist_process_cache::{Collector, Key, Process, clock};

use super::follower;
use super::load::{Crowd, Program};
use crate::report::{Bound, Report, Row};

const ROUNDS: usize = 9;
/// Those that fill the ring, of which one half lives on.
const BURST: usize = 1000;
/// Bytes of arguments of each: so many fill the default ring of 8 MiB.
const ARGUMENT: usize = 16_000;
/// When to give up.
const PATIENCE: Duration = Duration::from_secs(10);

const BOUND_NS: f64 = 1e9;

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    let mut collector = match follower::collector() {
        Ok(collector) => collector,
        Err(reason) => {
            report.skip("cache.repair", &reason);
            return Ok(());
        }
    };
    let _reader = collector.reader();
    let program = &Program::new()?;
    let mut walker = open(Want::Bpf, false)?.tasks;
    let (mut times, mut lost) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS.min(report.rounds) {
        let before = collector.cache().counters().lost();
        let argument = [b'x'; ARGUMENT];
        let mut crowd = Crowd::gather(program, BURST / 2, &argument)?;
        // Known, and then gone without a word: of these the exits are lost, or the forks.
        drop(std::mem::replace(
            &mut crowd,
            Crowd::gather(program, BURST / 2, &argument)?,
        ));

        let start = Instant::now();
        while !agrees(&mut collector, &mut *walker)? {
            ensure!(
                start.elapsed() < PATIENCE,
                "the cache is still wrong after {PATIENCE:?}"
            );
            follower::wait(&collector, None, PATIENCE)?;
        }
        times.push(start.elapsed().as_secs_f64() * 1e9);
        lost.push(collector.cache().counters().lost() - before);
        ensure!(lost.iter().all(|lost| *lost > 0), "nothing was lost");
    }
    let row = Row::alone(super::time("cache.repair"), &times)?;
    report.push(row.bound(Bound::ours(BOUND_NS)));
    let worst = times.iter().copied().fold(0.0, f64::max);
    let row = Row::alone(super::time("cache.repair.worst"), &[worst])?;
    report.push(row.bound(Bound::ours(BOUND_NS)));
    report.note(format!(
        "repair: nobody reads while {BURST} processes come, and half of them go; {} to {} events are lost; from \
         the moment on at which reading goes on",
        lost.iter().min().unwrap_or(&0),
        lost.iter().max().unwrap_or(&0)
    ));
    Ok(())
}

/// Takes a step, and tells whether the cache then knew exactly those who lived.
///
/// Others come and go meanwhile: who is in the walk before and in the one after it, lived in between;
/// and who is older than both and in neither, did not.
fn agrees(collector: &mut Collector, walker: &mut dyn TaskSource) -> anyhow::Result<bool> {
    let began_ns = clock::boottime_ns();
    let before = living(walker)?;
    collector.step(&mut |_, _| ())?;
    let after = living(walker)?;
    let cache = collector.cache();
    let stayed = before.keys().filter(|key| after.contains_key(key));
    let all_known = { stayed }.all(|key| cache.get(*key).is_some_and(Process::is_alive));
    let no_ghosts = cache
        .iter()
        .filter(|process| process.is_alive())
        .all(|process| {
            let key = process.key();
            key.start_ns >= began_ns || before.contains_key(&key) || after.contains_key(&key)
        });
    Ok(all_known && no_ghosts)
}

fn living(walker: &mut dyn TaskSource) -> anyhow::Result<HashMap<Key, ()>> {
    let walk = walker.walk()?;
    Ok(walk
        .iter()
        .filter(|seen| !seen.dead)
        .map(|seen| (seen.key, ()))
        .collect())
}
