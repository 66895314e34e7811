//! The one clock of this crate.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_BOOTTIME`, now.
#[must_use]
pub fn boottime_ns() -> u64 {
    nanoseconds(ClockId::Boottime)
}

/// What to add to a `CLOCK_BOOTTIME` time to have nanoseconds since the Unix epoch.
///
/// True now; it moves whenever somebody sets the wall clock.
#[must_use]
pub fn epoch_offset_ns() -> u64 {
    nanoseconds(ClockId::Realtime).saturating_sub(boottime_ns())
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanoseconds
}
