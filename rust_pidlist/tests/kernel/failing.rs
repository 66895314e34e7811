//! Every allocation of a set fails in turn, and the set is none the worse for it.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicI64, Ordering};

use kernel::prelude::*;

use crate::sys::chunks::{Mode, Slab};
use crate::sys::raw_lock::RawSpinLock;
use crate::tree::{Batch, Chunk, Guarded, NoChunk, PidSet, Supply, PID_LAST};

/// Allocations that still succeed.
static LEFT: AtomicI64 = AtomicI64::new(0);
/// Chunks that are not back yet.
static LIVE: AtomicI64 = AtomicI64::new(0);

/// The module's supply; it fails when [`LEFT`] is used up.
struct Failing;

// SAFETY: It passes on what `Slab` does, or nothing.
unsafe impl Supply for Failing {
    type Mode = Mode;

    fn alloc<T: Chunk>(mode: Mode) -> Option<NonNull<T>> {
        if LEFT.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return None;
        }
        let chunk = Slab::alloc(mode)?;
        LIVE.fetch_add(1, Ordering::Relaxed);
        Some(chunk)
    }

    unsafe fn free<T: Chunk>(chunk: NonNull<T>) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: The caller's promise.
        unsafe { Slab::free(chunk) };
    }
}

type Set = PidSet<Failing, RawSpinLock<Guarded<Failing, ()>>>;

/// In many chunks, some more than one in a chunk.
const PIDS: [u32; 9] =
    [1, 2, 1 << 14, (1 << 22) - 1, 1 << 22, (1 << 22) + 1, 3 << 22, 1 << 29, PID_LAST];

fn check(what: &str, right: bool, succeeding: i64) -> Result {
    if right {
        return Ok(());
    }
    pr_err!("failing: after {succeeding} allocations: {what}\n");
    Err(EINVAL)
}

/// Lets the first allocation fail, then the second, and so on, until none does. May sleep.
pub(crate) fn run() -> Result {
    for succeeding in 0..1000 {
        LEFT.store(succeeding, Ordering::Relaxed);
        let failed = fill(succeeding)?;
        let live = LIVE.load(Ordering::Relaxed);
        check("chunks are not back", live == 0, succeeding)?;
        if !failed {
            pr_info!("failing: each of {succeeding} allocations failed once\n");
            return check("that are too few", succeeding > 10, succeeding);
        }
    }
    check("there is no end", false, 1000)
}

/// Adds all pids, chunk by chunk; returns whether an allocation failed.
fn fill(succeeding: i64) -> Result<bool> {
    let right = |what, right| check(what, right, succeeding);
    let Some(set) = Set::new((), RawSpinLock::new, Mode::Sleep) else {
        return Ok(true);
    };
    for (i, &pid) in PIDS.iter().enumerate() {
        let before = set.write(|w, ()| (w.used(), w.free(), w.members()));
        if set.write(|w, ()| w.set(pid)) == Err(NoChunk) {
            let after = set.write(|w, ()| (w.used(), w.free(), w.members()));
            right("a pid without a chunk has changed the set", before == after)?;
            let need = set.write(|w, ()| w.need([pid].into_iter()));
            let missing = set.write(|w, ()| w.free()).missing(need);
            right("no chunk was missing", missing.total() > 0)?;
            let (batch, whole) = Batch::alloc(missing, Mode::Atomic);
            set.write(|w, ()| w.refill(batch));
            let added = set.write(|w, ()| w.set(pid));
            if !whole {
                right("a pid without a chunk was added", added == Err(NoChunk) && !set.has(pid))?;
                return all_there(&set, &PIDS[..i], succeeding).map(|()| true);
            }
            right("a pid was not added", added == Ok(true))?;
        }
    }
    all_there(&set, &PIDS, succeeding)?;
    Ok(false)
}

/// The members are just these, and go when they are removed, one by one or all.
fn all_there(set: &Set, pids: &[u32], succeeding: i64) -> Result {
    let right = |what, right| check(what, right, succeeding);
    let mut from = 0;
    for &pid in pids {
        right("a member is not found", set.has(pid) && set.next(from) == Some(pid))?;
        from = pid + 1;
    }
    right("one too many is found", set.next(from).is_none())?;
    let all = set.write(|w, ()| w.used().total() + w.free().total());
    if let Some((&first, rest)) = pids.split_first() {
        right("a member was not removed", set.write(|w, ()| w.clear(first)))?;
        right("a wrong member was removed", rest.iter().all(|&pid| set.has(pid)))?;
    }
    set.write(|w, ()| w.clear_all());
    right("the set is not empty", set.next(0).is_none())?;
    let left = set.write(|w, ()| (w.used().total(), w.free().total(), w.members()));
    right("chunks are lost", left == (0, all, 0))
}
