//! What a reader gets done while the cache is being fed, against what it gets done while it is not.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use pidlist_process_cache::{Cache, CollectorSettings, Key, Reader};

use super::lives::{Lives, tell};
use crate::measure::in_turns;
use crate::report::{Bound, Report, Row};

const ENTRIES: u32 = 10_000;
const EVENTS_PER_SECOND: u64 = 100_000;
/// How long a reader reads at a time.
const SAMPLE: Duration = Duration::from_millis(50);
/// How long the writer sleeps at a time.
const NAP: Duration = Duration::from_millis(1);

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    let mut cache = Cache::default();
    let reader = cache.reader();
    let mut lives = Lives::new(ENTRIES, EVENTS_PER_SECOND);
    lives.enter(&mut cache);
    cache.publish(lives.now_ns());
    let mut keys: Vec<Key> = lives.residents().to_vec();
    fastrand::Rng::with_seed(1).shuffle(&mut keys);

    let (busy, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut fed = Vec::new();
    let samples = std::thread::scope(|scope| {
        let writer = scope.spawn(|| feed(&mut cache, &mut lives, &busy, &stop));
        let samples = in_turns(
            report.rounds,
            || {
                busy.store(true, Ordering::Relaxed);
                let figure = read(&reader, &keys);
                busy.store(false, Ordering::Relaxed);
                figure
            },
            || read(&reader, &keys),
        );
        stop.store(true, Ordering::Relaxed);
        fed.push(writer.join());
        samples
    })?;
    let fed = fed
        .pop()
        .and_then(Result::ok)
        .context("the writer has failed")?;
    if fed < 0.9 * EVENTS_PER_SECOND as f64 {
        let reason =
            anyhow!("the writer got but {fed:.0} events a second done, the machine is busy");
        report.skip("cache.readers", reason.as_ref());
        return Ok(());
    }
    let row = Row::compared(
        super::rate("cache.readers", "reads/s"),
        "nobody writes",
        &samples,
    )?;
    report.push(row.bound(Bound::ratio_at_least(0.8)));
    report.note(format!(
        "readers: one, {ENTRIES} processes in random order, while {fed:.0} events a second are applied"
    ));
    Ok(())
}

/// Look-ups a second.
fn read(reader: &Reader, keys: &[Key]) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut reads = 0;
    while start.elapsed() < SAMPLE {
        for key in keys.iter().take(1000) {
            black_box(reader.get(*key).context("the cache has lost a process")?);
        }
        reads += 1000;
    }
    Ok(f64::from(reads) / start.elapsed().as_secs_f64())
}

/// Feeds the cache as fast as wanted while it is to be busy; returns how many events a second that
/// were.
fn feed(cache: &mut Cache, lives: &mut Lives, busy: &AtomicBool, stop: &AtomicBool) -> f64 {
    let interval = Duration::from_nanos(CollectorSettings::default().publish_interval_ns);
    let (mut events, mut spent) = (0_u64, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let (start, mut told, mut published) = (Instant::now(), 0, Instant::now());
        while busy.load(Ordering::Relaxed) {
            let due = start.elapsed().as_secs_f64() * EVENTS_PER_SECOND as f64;
            while (told as f64) < due {
                lives.live(&mut |event| {
                    told += 1;
                    tell(cache, event);
                });
            }
            if published.elapsed() >= interval {
                cache.expire(lives.now_ns());
                cache.publish(lives.now_ns());
                published = Instant::now();
            }
            std::thread::sleep(NAP);
        }
        if told != 0 {
            events += told;
            spent += start.elapsed();
        }
        std::thread::sleep(NAP);
    }
    events as f64 / spent.as_secs_f64()
}
