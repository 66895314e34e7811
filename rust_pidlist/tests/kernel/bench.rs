//! What ours and the kernel's own cost, side by side, through the same loops.
//!
//! Each row goes to the log as a line of JSON, which `tests/bench` picks up: a name, a unit, what
//! both sides took for so many calls. A row comes once a round; the sides take turns.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kernel::prelude::*;
use kernel::time::{Delta, Instant, Monotonic};

use crate::counter::{nothing, without_interrupts, Calls};
use crate::mainline::Mainline;
use crate::ours::{Followed, Ours};
use crate::random::Random;
use crate::threads::{self, Work};

const ROUNDS: usize = 5;

/// Pids that share a chunk of the lowest level, in both trees.
const RANGE: u32 = 1 << 14;

/// The largest pid that Linux gives out.
const PID_LAST: u32 = (1 << 22) - 1;

fn row(name: &str, unit: &str, calls: usize, ours: u64, mainline: u64) {
    pr_info!(
        "{{\"name\":\"{name}\",\"unit\":\"{unit}\",\"calls\":{calls},\
         \"ours\":{ours},\"mainline\":{mainline}}}\n"
    );
}

fn check(what: &str, right: bool) -> Result {
    if right {
        return Ok(());
    }
    pr_err!("bench: {what}\n");
    Err(EINVAL)
}

/// `N` pids, so far apart.
fn pids<const N: usize>(first: u32, step: u32) -> [u32; N] {
    core::array::from_fn(|i| first + i as u32 * step)
}

/// `N` pids anywhere in the first range, in no order.
fn anywhere<const N: usize>() -> [u32; N] {
    let mut random = Random::new(1);
    let mut pids = [0; N];
    for i in 0..N {
        pids[i] = loop {
            let pid = 1 + random.below(RANGE - 1);
            if !pids.contains(&pid) {
                break pid;
            }
        };
    }
    pids
}

/// What is counted on one side, `N` calls of it.
type Count<'a> = &'a dyn Fn(&Calls<'_>) -> Result<u64>;

/// Instructions of ours, of mainline's and of nothing, in turns.
fn instructions(mainline: Mainline, name: &str, calls: usize, count: Count<'_>) -> Result {
    for _ in 0..ROUNDS {
        let ours = Ours::new()?;
        let list = mainline.list()?;
        row(name, "instructions", calls, count(&ours.calls())?, count(&list.calls())?);
    }
    Ok(())
}

/// Counts instructions; weighs; counts what a burst loses. May sleep.
pub(crate) fn count() -> Result {
    let mainline = Mainline::find()?;
    let near: [u32; 64] = pids(1, 1);
    let far: [u32; 64] = pids(1, 251);
    let others: [u32; 64] = pids(5001, 1);
    let anywhere: [u32; 65] = anywhere();
    let (stays, leave) = (anywhere[64], &anywhere[..64]);

    for (name, pids) in [("pidset.loop", &near[..]), ("pidset.loop.once", &near[..1])] {
        for _ in 0..ROUNDS {
            let (ticks, _) = nothing().count_has(pids);
            pr_info!(
                "{{\"name\":\"{name}\",\"unit\":\"instructions\",\"calls\":{},\"ours\":{ticks}}}\n",
                pids.len()
            );
        }
    }

    instructions(mainline, "pidset.is_set.hit", 64, &|set| {
        set.count_add(&near);
        let (ticks, found) = set.count_has(&near);
        check("a member was not found", found == 64)?;
        Ok(ticks)
    })?;
    instructions(mainline, "pidset.is_set.miss", 64, &|set| {
        set.count_add(&near);
        let (ticks, found) = set.count_has(&others);
        check("one was found who is no member", found == 0)?;
        Ok(ticks)
    })?;
    instructions(mainline, "pidset.is_set.miss.no_chunk", 64, &|set| {
        set.add(RANGE);
        let (ticks, found) = set.count_has(&near);
        check("one was found who is no member", found == 0)?;
        Ok(ticks)
    })?;
    for (name, pids) in [("pidset.set", leave), ("pidset.set.near", &near)] {
        instructions(mainline, name, 64, &|set| {
            // The chunk is there.
            set.add(stays);
            let (ticks, failed) = set.count_add(pids);
            check("a pid could not be added", failed == 0)?;
            Ok(ticks)
        })?;
    }
    // To a scan it makes a difference where the chunk's other members are.
    for (name, stays, leave) in [
        ("pidset.clear", stays, leave),
        ("pidset.clear.near.other_first", 0, &near),
        ("pidset.clear.near.other_last", RANGE - 1, &near),
        ("pidset.clear.far.other_first", 0, &far),
        ("pidset.clear.far.other_last", RANGE - 1, &far),
    ] {
        instructions(mainline, name, 64, &|set| {
            set.add(stays);
            set.count_add(leave);
            let (ticks, _) = set.count_remove(leave);
            check("a wrong pid was removed", set.has(stays))?;
            check("a pid was not removed", leave.iter().all(|&pid| !set.has(pid)))?;
            Ok(ticks)
        })?;
    }
    instructions(mainline, "pidset.clear.last", 1, &|set| {
        set.add(1);
        let (ticks, _) = set.count_remove(&[1]);
        check("a pid was not removed", !set.has(1))?;
        Ok(ticks)
    })?;
    instructions(mainline, "pidset.clear.last.other_chunks", 1, &|set| {
        set.add(1);
        set.add(RANGE + 1);
        let (ticks, _) = set.count_remove(&[RANGE + 1]);
        check("a wrong pid was removed", set.has(1) && !set.has(RANGE + 1))?;
        Ok(ticks)
    })?;
    instructions(mainline, "pidset.next.sparse", 1, &|set| {
        set.add(1);
        set.add(PID_LAST);
        let (ticks, found) = set.count_next(&[2]);
        check("the last pid was not found", found == Some(PID_LAST))?;
        Ok(ticks)
    })?;
    instructions(mainline, "pidset.next.sparse.walk", 3, &|set| {
        set.add(1);
        set.add(PID_LAST);
        let (ticks, found) = set.count_next(&[0, 2, PID_LAST + 1]);
        check("the walk did not end", found.is_none())?;
        Ok(ticks)
    })?;
    instructions(mainline, "pidset.next.dense", 64, &|set| {
        set.count_add(&near);
        let (ticks, found) = set.count_next(&near);
        check("the last pid was not found", found == Some(64))?;
        Ok(ticks)
    })?;

    // Through a list, which may have members that wait for a chunk.
    for (name, pids, in_it) in
        [("pidset.list.has.hit", &near, 64), ("pidset.list.has.miss", &others, 0)]
    {
        for _ in 0..ROUNDS {
            let (ours, list) = (Followed::new()?, mainline.list()?);
            near.iter().for_each(|&pid| ours.fork(pid));
            list.calls().count_add(&near);
            let (ticks, found) = ours.calls().count_has(pids);
            let (mainline_ticks, mainline_found) = list.calls().count_has(pids);
            check("a look-up was wrong", (found, mainline_found) == (in_it, in_it))?;
            row(name, "instructions", 64, ticks, mainline_ticks);
        }
    }

    for (name, members, step) in [
        ("pidset.memory.1", 1, 1),
        ("pidset.memory.1000", 1000, 1),
        ("pidset.memory.100000", 100_000, 1),
        ("pidset.memory.spread.1000", 1000, 4181),
        ("pidset.memory.spread.100000", 100_000, 41),
    ] {
        weigh(mainline, name, members, step)?;
    }
    burst(mainline)
}

/// Bytes with so many members, so far apart.
fn weigh(mainline: Mainline, name: &str, members: u32, step: u32) -> Result {
    let ours = Followed::new()?;
    let mut list = mainline.list()?;
    for i in 0..members {
        // Beyond the pid of the current process, which is a member as well.
        let pid = 1000 + i * step;
        ours.fork(pid);
        check("mainline has no chunk", list.calls().add(pid))?;
    }
    check("members are missing", ours.stats().members == u64::from(members) + 1)?;
    row(name, "bytes", 1, ours.bytes(), list.bytes() as u64);
    Ok(())
}

/// Pids that are lost of 64, each in a range of its own, set while no refill can run.
fn burst(mainline: Mainline) -> Result {
    let far: [u32; 64] = pids(RANGE, RANGE);
    let ours = Followed::new()?;
    let list = mainline.list()?;
    without_interrupts(|| {
        for pid in far {
            list.calls().add(pid);
            ours.fork(pid);
        }
    });
    let lost = |has: &dyn Fn(u32) -> bool| far.iter().filter(|&&pid| !has(pid)).count() as u64;
    let theirs = list.calls();
    row("pidset.burst.lost", "pids", 1, lost(&|pid| ours.has(pid)), lost(&|pid| theirs.has(pid)));
    Ok(())
}

/// How long readers are watched at a time.
const TURN: Delta = Delta::from_millis(300);

/// A reader and, if `write`, a writer beside it that never stops.
struct Beside<'a> {
    set: Calls<'a>,
    write: bool,
    done: AtomicBool,
    reads: AtomicU64,
    nanoseconds: AtomicU64,
    writes: AtomicU64,
}

impl Work for Beside<'_> {
    fn work(&self, thread: u32) {
        if thread == 0 {
            let start = Instant::<Monotonic>::now();
            let mut reads = 0;
            while start.elapsed() < TURN {
                for _ in 0..1000 {
                    core::hint::black_box(self.set.has(1));
                }
                reads += 1000;
            }
            let elapsed = start.elapsed().as_nanos();
            self.reads.store(reads, Ordering::Relaxed);
            self.nanoseconds.store(elapsed as u64, Ordering::Relaxed);
            self.done.store(true, Ordering::Relaxed);
        } else if self.write {
            let mut writes = 0;
            while !self.done.load(Ordering::Relaxed) {
                for _ in 0..100 {
                    self.set.add(2);
                    self.set.remove(2);
                }
                writes += 200;
                threads::breathe();
            }
            self.writes.store(writes, Ordering::Relaxed);
        }
    }
}

/// Reads a second.
fn reads(set: Calls<'_>, write: bool) -> Result<u64> {
    let beside = Beside {
        set,
        write,
        done: AtomicBool::new(false),
        reads: AtomicU64::new(0),
        nanoseconds: AtomicU64::new(0),
        writes: AtomicU64::new(0),
    };
    threads::run(&beside, 2)?;
    let nanoseconds = beside.nanoseconds.load(Ordering::Relaxed);
    check(
        "the writer did not run",
        !write || beside.writes.load(Ordering::Relaxed) > 0,
    )?;
    let reads = beside.reads.load(Ordering::Relaxed);
    // Unlike `/` it has no way to panic, which objtool would not know to be one.
    Ok(reads.saturating_mul(1_000_000).checked_div(nanoseconds / 1000).unwrap_or(0))
}

/// Times readers, alone and beside a writer. May sleep.
pub(crate) fn time() -> Result {
    check("this takes two processors", threads::cpus() > 1)?;
    let mainline = Mainline::find()?;
    let ours = Ours::new()?;
    let list = mainline.list()?;
    ours.calls().add(1);
    list.calls().add(1);
    for _ in 0..ROUNDS {
        for (name, write) in [("pidset.reads.alone", false), ("pidset.reads.beside_writer", true)] {
            let (ours, theirs) = (reads(ours.calls(), write)?, reads(list.calls(), write)?);
            row(name, "reads/s", 1, ours, theirs);
        }
    }
    Ok(())
}
