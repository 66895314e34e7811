//! Which processes to show.

use std::collections::HashSet;

use pidlist_process_cache::{
    Cache, CgroupPattern, Family, Key, Process, Selection, Snapshot, TICK_NS,
};

use crate::cli::{Filters, KernelThreads};

/// What is to be known beside the filters themselves.
#[derive(Debug, Default)]
pub struct Circumstances {
    /// The members of the kernel's list.
    pub tracked: Option<HashSet<u32>>,
    /// Only what was started here since then, nanoseconds of `CLOCK_BOOTTIME`, and its descendants.
    pub started_since_ns: Option<u64>,
    /// For programs: leave nothing out that was not asked for.
    pub json: bool,
}

/// What those filters select, with the families they name looked up in `snapshot`.
pub fn selection(filters: &Filters, snapshot: &Snapshot, besides: &Circumstances) -> Selection {
    let mut families = Vec::new();
    if let Some(pid) = filters.under {
        families.push(Family::new(snapshot, move |process| process.pid() == pid));
    }
    if let Some(since_ns) = besides.started_since_ns {
        // In /proc, start times are cut to ticks.
        let since_ns = since_ns.saturating_sub(TICK_NS);
        families.push(Family::new(snapshot, move |process| {
            is_child(process) && process.key().start_ns >= since_ns
        }));
    }
    if let Some(tracked) = besides.tracked.clone() {
        families.push(Family::new(snapshot, move |process| {
            tracked.contains(&process.pid())
        }));
    }
    let ns = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Selection {
        alive: match (filters.alive, filters.exited) {
            (false, false) => None,
            (alive, _) => Some(alive),
        },
        name: filters.name.clone(),
        pids: filters.pids.clone(),
        uids: filters.users.clone(),
        states: filters
            .state
            .as_ref()
            .map_or_else(Vec::new, |states| states.0.clone()),
        cgroup: filters.cgroup.as_deref().map(CgroupPattern::new),
        min_age_ns: filters.min_age.map(ns),
        max_age_ns: filters.max_age.map(ns),
        kernel_thread: match filters.kthreads {
            Some(KernelThreads::Show) => None,
            Some(KernelThreads::Hide) => Some(false),
            Some(KernelThreads::Only) => Some(true),
            None => hides_kernel_threads(filters, besides.json).then_some(false),
        },
        lived_ns: None,
        families,
    }
}

/// The process of that pid which we started.
///
/// Its pid may have been reused since: the newest that was ours is the one.
pub fn started(cache: &Cache, pid: u32) -> Option<Key> {
    let is_ours = |process: &&Process| process.pid() == pid && is_child(process);
    cache.iter().filter(is_ours).map(Process::key).max()
}

/// Whether kernel threads are left out unasked: they are many, and seldom what is looked for.
pub fn hides_kernel_threads(filters: &Filters, json: bool) -> bool {
    let is_precise = filters.name.is_some()
        || !filters.pids.is_empty()
        || filters.under.is_some()
        || filters.state.is_some()
        || filters.tracked.is_some();
    !json && !is_precise && filters.kthreads.is_none()
}

/// Whether this program started it.
fn is_child(process: &Process) -> bool {
    let parent = process.parent_at_fork.or(process.seen.parent);
    parent.is_some_and(|parent| parent.tgid == std::process::id())
}
