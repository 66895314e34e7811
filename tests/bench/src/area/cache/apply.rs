//! Events taken in by one thread, and shown to readers.

use pidlist_process_cache::source::Event;
use pidlist_process_cache::{Cache, CollectorSettings};

use super::lives::{Lives, tell};
use crate::measure::cpu_time;
use crate::report::{Bound, Report, Row};

/// Lives a sample: three events each.
const LIVES: usize = 50_000;
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
        let mut events = Vec::with_capacity(3 * LIVES);
        for _ in 0..LIVES {
            lives.live(&mut |event| events.push(event));
        }
        let count = events.len();
        let start = cpu_time();
        for event in events {
            let time_ns = time_of(&event);
            tell(&mut cache, event);
            if time_ns >= published_ns + interval_ns {
                cache.expire(time_ns);
                cache.publish(time_ns);
                published_ns = time_ns;
            }
        }
        count as f64 / (cpu_time() - start).as_secs_f64()
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
