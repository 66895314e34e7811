//! One leaf for three ranges, put to a new use all the time under the eyes of readers.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kernel::prelude::*;

use crate::sys::chunks::{Mode, Slab};
use crate::sys::raw_lock::RawSpinLock;
use crate::threads::{self, Work};
use crate::tree::{Batch, Chunks, Guarded, PidSet};

/// Of the first pids of three ranges, two below the first upper chunk, one below another.
const FIRST: [u32; 3] = [0, 1 << 14, 1 << 22];

struct Shared {
    set: PidSet<Slab, RawSpinLock<Guarded<Slab, ()>>>,
    uses: u64,
    done: AtomicBool,
    failed: AtomicBool,
    looks: AtomicU64,
}

impl Shared {
    fn wrong(&self, what: core::fmt::Arguments<'_>) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            pr_err!("reuse: {what}\n");
        }
    }

    /// Only pid `i` of range `i` is ever set.
    fn write(&self) {
        for (round, i) in (0..self.uses).zip((0..3).cycle()) {
            let pid = FIRST[i] + i as u32;
            let right = self.set.write(|w, ()| w.set(pid) == Ok(true))
                && self.set.write(|w, ()| w.clear(pid));
            if !right || self.failed.load(Ordering::Relaxed) {
                self.wrong(format_args!("{pid} could not be set and cleared"));
                break;
            }
            if round % 100 == 0 {
                threads::breathe();
            }
        }
        self.done.store(true, Ordering::Relaxed);
    }

    fn read(&self) {
        let mut looks = 0;
        while !self.done.load(Ordering::Relaxed) {
            for (i, &first) in FIRST.iter().enumerate() {
                for other in [(i + 1) % 3, (i + 2) % 3] {
                    let pid = first + other as u32;
                    if self.set.has(pid) {
                        self.wrong(format_args!("{pid} is never a member, and was one"));
                    }
                }
                match self.set.next(first) {
                    Some(pid) if !FIRST.iter().zip(0..).any(|(&first, i)| pid == first + i) => {
                        self.wrong(format_args!("from {first} came {pid}, who is never a member"));
                    }
                    _ => {}
                }
            }
            looks += 1;
            threads::breathe();
        }
        self.looks.fetch_add(looks, Ordering::Relaxed);
    }
}

impl Work for Shared {
    fn work(&self, thread: u32) {
        if thread == 0 {
            self.write();
        } else {
            self.read();
        }
    }
}

/// Puts the leaf to use so many times, beside a reader on each processor. May sleep.
pub(crate) fn run(uses: u64) -> Result {
    let set = PidSet::new((), RawSpinLock::new, Mode::Sleep).ok_or(ENOMEM)?;
    let (batch, whole) = Batch::alloc(Chunks { uppers: 1, leaves: 1 }, Mode::Sleep);
    set.write(|w, ()| w.refill(batch));
    if !whole {
        return Err(ENOMEM);
    }
    let shared = Shared {
        set,
        uses,
        done: AtomicBool::new(false),
        failed: AtomicBool::new(false),
        looks: AtomicU64::new(0),
    };
    threads::run(&shared, 1 + threads::cpus())?;
    if shared.failed.load(Ordering::Relaxed) {
        return Err(EINVAL);
    }
    let looks = shared.looks.load(Ordering::Relaxed);
    pr_info!("reuse: a leaf for three ranges, {uses} times, {looks} looks at each meanwhile\n");
    Ok(())
}
