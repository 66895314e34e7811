//! What a living process takes: its entry, the indexes and what readers see, all that was allocated.

use pidlist_process_cache::Cache;

use super::lives::{ARGS, Lives};
use crate::measure::allocated;
use crate::report::{Bound, Report, Row};

/// Hash tables double: so many that they have just done so, and as many that they are about to.
const COUNTS: [u32; 3] = [10_000, 14_500, 28_500];

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    let mut worst = 0.0_f64;
    for count in COUNTS {
        let mut sample = allocated(|| {
            let mut cache = Cache::default();
            let reader = cache.reader();
            Lives::new(count, 1).enter(&mut cache);
            cache.publish(0);
            (cache, reader)
        });
        worst = worst.max(sample()? / f64::from(count));
    }
    let row = Row::alone(super::size("cache.bytes"), &[worst])?;
    report.push(row.bound(Bound::ours(1024.0)));
    report.note(format!(
        "bytes: per living process with {ARGS} bytes of arguments, the worst of {COUNTS:?} processes"
    ));
    Ok(())
}
