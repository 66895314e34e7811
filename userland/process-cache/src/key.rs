//! What names a process for ever.

use pidlist_abi::record;

/// Length of a tick of `/proc/PID/stat`, nanoseconds.
///
/// `USER_HZ` is 100 on every architecture that Linux adds in this century; the kernel rounds down
/// (`nsec_to_clock_t` in `fs/proc/array.c`).
pub const TICK_NS: u64 = 10_000_000;

/// Names a process for as long as this boot lasts: pids are reused, a pid with its start time is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Key {
    /// Start of the thread group, nanoseconds of `CLOCK_BOOTTIME`.
    pub start_ns: u64,
    /// Thread group id in the initial pid namespace: the pid of userland.
    pub tgid: u32,
}

/// How well a [`Key::start_ns`] is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Precision {
    /// As the kernel holds it.
    Nanosecond,
    /// Rounded down to [`TICK_NS`], as `/proc` tells it.
    Tick,
}

impl Key {
    /// The key of a record; `None` for the zero that stands for "no process".
    #[must_use]
    pub fn from_record(key: record::Key) -> Option<Self> {
        (key.tgid != 0).then_some(Self {
            start_ns: key.start_ns,
            tgid: key.tgid,
        })
    }

    /// Whether both name the same process, as far as the precisions can tell.
    #[must_use]
    pub fn same(self, precision: Precision, other: Self, other_precision: Precision) -> bool {
        if self.tgid != other.tgid {
            return false;
        }
        match (precision, other_precision) {
            (Precision::Nanosecond, Precision::Nanosecond) => self.start_ns == other.start_ns,
            _ => self.start_ns / TICK_NS == other.start_ns / TICK_NS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_process() {
        assert_eq!(Key::from_record(record::Key::default()), None);
    }

    #[test]
    fn ticks_match_the_nanoseconds_they_were_rounded_from() {
        let exact = Key {
            start_ns: 1_239_999_999,
            tgid: 7,
        };
        let tick = Key {
            start_ns: 1_230_000_000,
            tgid: 7,
        };
        let next = Key {
            start_ns: 1_240_000_000,
            tgid: 7,
        };
        assert!(exact.same(Precision::Nanosecond, tick, Precision::Tick));
        assert!(!exact.same(Precision::Nanosecond, next, Precision::Tick));
        assert!(!exact.same(Precision::Nanosecond, tick, Precision::Nanosecond));
        assert!(!exact.same(
            Precision::Nanosecond,
            Key { tgid: 8, ..tick },
            Precision::Tick
        ));
    }
}
