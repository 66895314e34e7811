//! Events taken in by one thread, and shown to readers.

use std::time::Duration;

use pidlist_process_cache::source::Event;
use pidlist_process_cache::{Cache, CollectorSettings};

use super::lives::{Lives, tell};
use crate::measure::cpu_time;
use crate::report::{Bound, Report, Row};

/// Lives a batch, three events each: as from a ring, they have just been made when they are applied.
const LIVES: usize = 500;
/// Batches a sample.
const BATCHES: usize = 100;
/// Processes that live all the time.
const RESIDENTS: u32 = 2000;
/// As many events a second as the cache has to keep up with.
const RATE: u64 = 1_000_000;

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    let mut cache = Cache::default();
    let _reader = cache.reader();
    let mut lives = Lives::new(RESIDENTS, RATE);
    lives.enter(&mut cache);
    let interval_ns = CollectorSettings::default().publish_interval_ns;
    let mut published_ns = 0;
    let mut sample = || {
        let (mut count, mut spent) = (0, Duration::ZERO);
        let mut events = Vec::with_capacity(3 * LIVES);
        for _ in 0..BATCHES {
            for _ in 0..LIVES {
                lives.live(&mut |event| events.push(event));
            }
            count += events.len();
            let start = cpu_time();
            for event in events.drain(..) {
                let time_ns = time_of(&event);
                tell(&mut cache, event);
                if time_ns >= published_ns + interval_ns {
                    cache.expire(time_ns);
                    cache.publish(time_ns);
                    published_ns = time_ns;
                }
            }
            spent += cpu_time() - start;
        }
        count as f64 / spent.as_secs_f64()
    };
    // Until the first are evicted.
    for _ in 0..4 {
        sample();
    }
    let samples: Vec<f64> = (0..report.rounds).map(|_| sample()).collect();
    let row = Row::alone(super::rate("cache.apply", "events/s"), &samples)?;
    report.push(row.bound(Bound::ours_at_least(1e6)));
    report.note(format!(
        "apply: forks, execs with {} bytes of arguments, exits; {} kept, published every {} ms",
        super::lives::ARGS,
        cache.len(),
        interval_ns / 1_000_000
    ));
    Ok(())
}

fn time_of(event: &Event) -> u64 {
    match event {
        Event::Fork { time_ns, .. } | Event::Exec { time_ns, .. } | Event::Exit { time_ns, .. } => {
            *time_ns
        }
    }
}
