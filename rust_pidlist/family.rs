//! Processes and all their descendants.

use kernel::prelude::*;

use crate::sys::task::{self, Kind, Task};

/// Roots, and the processes found to descend from them by living ancestors.
pub(crate) struct Family {
    /// A bit for each thread group id that Linux can give out.
    tgids: KVVec<u64>,
}

impl Family {
    /// `PID_MAX_LIMIT` of `include/linux/threads.h`.
    const TGIDS: usize = 4 << 20;
    /// More passes find new descendants only in a fork bomb.
    const PASSES_MAX: usize = 64;

    /// The family of processes `roots` now. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; those of [`Self::grow`].
    pub(crate) fn of(roots: &[u32]) -> Result<Self> {
        let mut this = Self { tgids: KVVec::from_elem(0, Self::TGIDS / 64, GFP_KERNEL)? };
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
    ///
    /// # Errors
    ///
    /// `EAGAIN` if they become more in every pass; those of [`task::breathe`].
    pub(crate) fn grow(&mut self, mut f: impl FnMut(Task<'_>)) -> Result {
        for _ in 0..Self::PASSES_MAX {
            let mut found = false;
            task::each(Kind::Process, |process| {
                let tgid = process.tgid();
                if !self.has(tgid) && self.has(process.parent_id(Kind::Process)) {
                    found = true;
                    self.insert(tgid);
                    f(process);
                }
                true
            });
            if !found {
                return Ok(());
            }
            task::breathe()?;
        }
        Err(EAGAIN)
    }

    /// The ids of all its tasks of `kind`. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn ids(&self, kind: Kind) -> Result<KVVec<u32>> {
        let mut room = 64;
        loop {
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
            room *= 4;
        }
    }

    fn has(&self, tgid: u32) -> bool {
        let word = self.tgids.get(tgid as usize / 64);
        word.is_some_and(|word| word >> (tgid % 64) & 1 != 0)
    }

    fn insert(&mut self, tgid: u32) {
        if let Some(word) = self.tgids.get_mut(tgid as usize / 64) {
            *word |= 1 << (tgid % 64);
        }
    }
}
