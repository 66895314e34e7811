//! What can be set. Times are in nanoseconds.

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLISECOND;

/// Bounds of a [`Cache`](crate::Cache).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who lived no longer than this is short-lived.
    pub short_lived_ns: u64,
    /// How long a short-lived process stays after its exit; `None` for as long as the other bounds
    /// allow.
    pub keep_short_lived_ns: Option<u64>,
    /// How long another process stays after its exit; `None` for as long as the other bounds allow.
    pub keep_exited_ns: Option<u64>,
    /// Most processes, living and dead. The living are kept even beyond it.
    pub max_processes: usize,
    /// Most bytes, by an estimate that counts shared arguments for the process that was started with
    /// them: a fork is no way to drive out others. The living are kept even beyond it.
    pub max_bytes: usize,
    /// Most keys remembered of processes that were evicted, about 64 bytes each.
    pub tombstones: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            short_lived_ns: SECOND,
            keep_short_lived_ns: Some(5 * SECOND),
            keep_exited_ns: Some(60 * SECOND),
            max_processes: 1 << 18,
            max_bytes: 40 << 20,
            tombstones: 1 << 14,
        }
    }
}

/// How a [`Collector`](crate::Collector) learns of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// By events, and every so often by a walk that makes sure.
    #[default]
    Both,
    /// By events, with walks only to repair.
    Events,
    /// By walks alone.
    Poll,
}

/// How a [`Collector`](crate::Collector) goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectorSettings {
    /// What the cache keeps.
    pub cache: Settings,
    /// Where changes come from.
    pub mode: Mode,
    /// How far apart walks are that merely make sure, where events are told.
    pub poll_interval_ns: u64,
    /// How far apart walks are where no events are told.
    pub poll_interval_alone_ns: u64,
    /// How far apart walks are at least that repair.
    pub repair_interval_ns: u64,
    /// How far apart comparisons with the slab caches are.
    pub audit_interval_ns: u64,
    /// How old what readers see may become under load.
    pub publish_interval_ns: u64,
}

impl Default for CollectorSettings {
    fn default() -> Self {
        Self {
            cache: Settings::default(),
            mode: Mode::Both,
            poll_interval_ns: 10 * SECOND,
            poll_interval_alone_ns: SECOND,
            repair_interval_ns: 100 * MILLISECOND,
            audit_interval_ns: 10 * SECOND,
            publish_interval_ns: 5 * MILLISECOND,
        }
    }
}
