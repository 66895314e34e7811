//! Taking samples.
//!
//! A sampler is a closure that yields one figure, of any unit: time per call ([`timed`]), bytes
//! ([`allocated`]), a rate, a count of instructions.

use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::time::{ClockId, clock_gettime};

pub use crate::host::allocated;

/// How long one timed sample takes at least: much longer than reading the clock, and shorter than
/// the turn a busy core gives a thread, so that most samples keep their caches.
const SAMPLE: Duration = Duration::from_millis(1);

/// Figures of both sides, a pair a round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Of what is measured.
    pub ours: Vec<f64>,
    /// Of what it is measured against.
    pub baseline: Vec<f64>,
}

/// Samples both sides in turns, `rounds` times.
///
/// # Errors
///
/// Those of the samplers.
pub fn in_turns(
    rounds: usize,
    mut ours: impl FnMut() -> anyhow::Result<f64>,
    mut baseline: impl FnMut() -> anyhow::Result<f64>,
) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..rounds {
        samples.ours.push(ours()?);
        samples.baseline.push(baseline()?);
    }
    Ok(samples)
}

/// A sampler of the CPU time that an operation takes, nanoseconds; `run` does `operations` of them.
///
/// It is the time of this thread: unlike the clock on the wall, it leaves out the turns that other
/// programs had on the core. It leaves out waiting, too, so this is not for what sleeps.
///
/// `run` has to hide its arguments and results from the optimizer ([`std::hint::black_box`]). It is
/// called now, to warm up and to find out how often it fits into a sample.
///
/// # Errors
///
/// Those of `run`; and if it takes no time at all.
pub fn timed(
    operations: usize,
    mut run: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<impl FnMut() -> anyhow::Result<f64>> {
    ensure!(operations > 0, "nothing to time");
    let mut time = move |repeats: u32| {
        let start = cpu_time();
        for _ in 0..repeats {
            run()?;
        }
        anyhow::Ok(cpu_time().saturating_sub(start))
    };
    let mut repeats: u32 = 1;
    while time(repeats)? < SAMPLE {
        repeats = repeats
            .checked_mul(2)
            .context("it takes no time: the optimizer has seen through it")?;
    }
    Ok(move || {
        let elapsed = time(repeats)?;
        Ok(elapsed.as_secs_f64() * 1e9 / f64::from(repeats) / operations as f64)
    })
}

/// What this thread has spent on a CPU.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The median: of an even number, the mean of the two in the middle; `None` of nothing.
#[must_use]
pub fn median(figures: &[f64]) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(sorted[sorted.len() / 2 - 1], upper))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_median_is_not_moved_by_outliers() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[3.0, 1.0, 1e9]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, -1e9]), Some(1.5));
    }

    #[test]
    fn both_sides_take_turns() {
        let turns = RefCell::new(String::new());
        let sampler = |side: char, figure: f64| {
            let turns = &turns;
            move || {
                turns.borrow_mut().push(side);
                Ok(figure)
            }
        };
        let samples = in_turns(3, sampler('A', 1.0), sampler('B', 2.0)).unwrap();
        assert_eq!(*turns.borrow(), "ABABAB");
        assert_eq!(samples.ours, [1.0; 3]);
        assert_eq!(samples.baseline, [2.0; 3]);
    }

    #[test]
    fn an_error_ends_it() {
        let mut left = 2;
        let failing = || {
            left -= 1;
            ensure!(left > 0, "gone");
            Ok(1.0)
        };
        let error = in_turns(5, failing, || Ok(1.0)).unwrap_err();
        assert_eq!(error.to_string(), "gone");
        assert!(timed(1, || anyhow::bail!("broken")).is_err());
    }

    #[test]
    fn time_is_per_operation() {
        let spin = Duration::from_millis(2);
        let mut sampler = timed(1000, || {
            let start = cpu_time();
            while cpu_time() - start < spin {}
            Ok(())
        })
        .unwrap();
        // Whatever else the machine does, it spins for as long as that.
        assert!(sampler().unwrap() >= 2000.0);
    }
}
