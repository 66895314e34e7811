//! Processes and all their descendants.

use kernel::prelude::*;

use crate::sys::task::{self, Kind, Task};

/// Roots, and the processes found to descend from them by living ancestors.
pub(crate) struct Family {
    /// Thread group ids, ascending.
    tgids: KVVec<u32>,
}

impl Family {
    /// More passes find new descendants only in a fork bomb.
    const PASSES_MAX: usize = 64;

    /// The family of processes `roots` now. May sleep.
    pub(crate) fn of(roots: &[u32]) -> Result<Self> {
        let mut this = Self { tgids: KVVec::new() };
        this.make_room(roots.len())?;
        for &root in roots {
            this.insert(root);
        }
        this.grow(|_| {})?;
        Ok(this)
    }

    /// Calls `f`, which must not sleep, with every descendant that is new. May sleep itself.
    ///
    /// Children stand behind their parents on the list of tasks. So if `f` sees to it that a process
    /// makes no more new descendants, one pass finds all there are, but for those of processes that
    /// have exited.
    pub(crate) fn grow(&mut self, mut f: impl FnMut(Task<'_>)) -> Result {
        for _ in 0..Self::PASSES_MAX {
            self.make_room(self.tgids.len().max(64))?;
            let (mut found, mut cut) = (false, false);
            task::each(Kind::Process, |process| {
                let tgid = process.tgid();
                if !self.has(tgid) && self.has(process.parent_id(Kind::Process)) {
                    found = true;
                    cut = !self.insert(tgid);
                    if !cut {
                        f(process);
                    }
                }
                !cut
            });
            if !found {
                break;
            }
        }
        Ok(())
    }

    /// The ids of all its tasks of `kind`. May sleep.
    pub(crate) fn ids(&self, kind: Kind) -> Result<KVVec<u32>> {
        let mut room = self.tgids.len();
        loop {
            room += room / 4 + 64;
            let mut ids = KVVec::with_capacity(room, GFP_KERNEL)?;
            let mut cut = false;
            task::each(kind, |task| {
                if self.has(task.tgid()) {
                    cut = ids.push_within_capacity(task.id(kind)).is_err();
                }
                !cut
            });
            if !cut {
                return Ok(ids);
            }
        }
    }

    fn has(&self, tgid: u32) -> bool {
        self.tgids.binary_search(&tgid).is_ok()
    }

    fn make_room(&mut self, count: usize) -> Result {
        Ok(self.tgids.reserve(count, GFP_KERNEL)?)
    }

    /// Returns whether there was room. Allocates nothing.
    fn insert(&mut self, tgid: u32) -> bool {
        let Err(at) = self.tgids.binary_search(&tgid) else {
            return true;
        };
        let fits = self.tgids.push_within_capacity(tgid).is_ok();
        if fits {
            self.tgids[at..].rotate_right(1);
        }
        fits
    }
}
