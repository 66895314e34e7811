//! A day of churn: memory has to stay bounded, and flat.

use anyhow::Context;
use pidlist_process_cache::Cache;

use super::lives::{Lives, tell};
use crate::report::{Bound, Report, Row};

const LIVES: u64 = 10_000_000;
/// Processes that live all the time.
const RESIDENTS: u32 = 1000;
/// A build on many cores: more dies within the retention time than there is room for.
const EVENTS_PER_SECOND: u64 = 60_000;
/// Lives between two publications, and between two looks at the memory.
const BATCH: u64 = 100;
const LOOK: u64 = 50_000;

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    let mut cache = Cache::default();
    let _reader = cache.reader();
    let mut lives = Lives::new(RESIDENTS, EVENTS_PER_SECOND);
    lives.enter(&mut cache);
    let (mut first_half, mut last_half) = (0, 0);
    for life in 0..LIVES {
        lives.live(&mut |event| tell(&mut cache, event));
        if life % BATCH == 0 {
            cache.expire(lives.now_ns());
            cache.publish(lives.now_ns());
        }
        if life % LOOK == 0 {
            let half = if life < LIVES / 2 {
                &mut first_half
            } else {
                &mut last_half
            };
            *half = rss()?.max(*half);
        }
    }
    let peak = first_half.max(last_half) as f64;
    let row = Row::alone(super::size("cache.churn.rss"), &[peak])?;
    report.push(row.bound(Bound::ours(f64::from(64 << 20))));
    let samples = crate::measure::Samples {
        ours: vec![last_half as f64],
        baseline: vec![first_half as f64],
    };
    let growth = Row::compared(
        super::size("cache.churn.growth"),
        "the first half",
        &samples,
    )?;
    report.push(growth.bound(Bound::ratio(1.01)));
    let counters = cache.counters();
    report.note(format!(
        "churn: {LIVES} lives, peak RSS of this process; {} expired, {} evicted early",
        counters.expired,
        counters.evicted()
    ));
    Ok(())
}

/// Resident memory of this process, bytes.
fn rss() -> anyhow::Result<u64> {
    let statm = procfs::process::Process::myself()
        .and_then(|process| process.statm())
        .context("cannot read /proc/self/statm")?;
    Ok(statm.resident * procfs::page_size())
}
