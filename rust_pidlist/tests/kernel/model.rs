//! Random operations on one set from every processor, each answer predicted.
//!
//! A pid has one owner among the writers, so that the owner knows at any time whether it is a
//! member, while the others set and clear their bits of the same words and chunks. Someone empties
//! the whole set now and then; that is an epoch, which changes under the set's lock. An answer that
//! was given within one epoch can be predicted.
//!
//! Some pids are members always (whoever empties the set puts them back before he gives up the
//! lock) and some never. Two kinds of reader take part: the writers themselves, and threads that
//! only read.

use core::sync::atomic::{fence, AtomicBool, AtomicU32, AtomicU64, Ordering};

use kernel::prelude::*;

use crate::random::Random;
use crate::sys::chunks::{Mode, Slab};
use crate::sys::raw_lock::RawSpinLock;
use crate::threads::{self, Work};
use crate::tree::{Batch, Chunks, Guarded, NoChunk, PidSet, Writer};

/// Of the lowest level; three of the upper level, whose numbers are these by 256.
const LEAVES: [u32; 12] = [0, 1, 2, 3, 255, 256, 257, 300, 511, 65_280, 65_534, 65_535];
/// Where pids are in a leaf: each owner has the one of his number from there on.
const OFFSETS: [u32; 8] = [0, 56, 64, 1024, 4090, 8192, 16_320, 16_376];
/// As many fit in between.
const MOST_OWNERS: u32 = 8;
const SLOTS: usize = LEAVES.len() * OFFSETS.len();

const PERMANENT: [u32; 2] = [pid_at(LEAVES[2], 20), pid_at(LEAVES[10], 20)];
/// In each leaf, in a word that others use.
const NEVER: u32 = 21;

const fn pid_at(leaf: u32, offset: u32) -> u32 {
    leaf << 14 | offset
}

/// Pid number `slot` of `owner`; ascending by slot.
fn pid_of(owner: u32, slot: usize) -> u32 {
    pid_at(LEAVES[slot / OFFSETS.len()], OFFSETS[slot % OFFSETS.len()] + owner)
}

/// What a pid is to the test.
#[derive(PartialEq, Eq)]
enum Kind {
    Owned { by: u32, slot: usize },
    Permanent,
    Never,
}

fn kind(pid: u32, owners: u32) -> Kind {
    if PERMANENT.contains(&pid) {
        return Kind::Permanent;
    }
    let Some(leaf) = LEAVES.iter().position(|&leaf| leaf == pid >> 14) else {
        return Kind::Never;
    };
    let offset = pid & 0x3fff;
    let at = OFFSETS.iter().position(|&first| (first..first + owners).contains(&offset));
    at.map_or(Kind::Never, |at| Kind::Owned {
        by: offset - OFFSETS[at],
        slot: leaf * OFFSETS.len() + at,
    })
}

type Set = PidSet<Slab, RawSpinLock<Guarded<Slab, ()>>>;

struct Shared {
    set: Set,
    /// How many times the set was emptied, by two; odd while that is under way. Changes under the
    /// lock.
    epoch: AtomicU64,
    owners: u32,
    /// Operations of each owner.
    operations: u64,
    seed: u64,
    /// What each owner has left as members, a bit a slot, and the epoch of that.
    left: [[AtomicU64; SLOTS.div_ceil(64)]; MOST_OWNERS as usize],
    left_in: [AtomicU64; MOST_OWNERS as usize],
    /// Owners at work.
    busy: AtomicU32,
    failed: AtomicBool,
    /// Chunks that were made for the set.
    chunks: AtomicU64,
    looks: AtomicU64,
    emptied: AtomicU64,
    reused: AtomicU64,
}

/// What one owner believes.
struct Owner<'a> {
    shared: &'a Shared,
    number: u32,
    random: Random,
    members: [bool; SLOTS],
    epoch: u64,
    operation: u64,
}

impl Shared {
    /// Calls `read`; returns what it said and the epoch it was said in, if it was one.
    fn within_epoch<R>(&self, read: impl FnOnce() -> R) -> Option<(R, u64)> {
        let before = self.epoch.load(Ordering::Acquire);
        let result = read();
        fence(Ordering::Acquire);
        let after = self.epoch.load(Ordering::Relaxed);
        (before == after && before % 2 == 0).then_some((result, before))
    }

    /// Says what is wrong, the first time.
    fn wrong(&self, what: core::fmt::Arguments<'_>) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            pr_err!("model: {what}; seed {}, {} owners\n", self.seed, self.owners);
        }
    }

    fn permanent(&self, w: &mut Writer<'_, Slab>) {
        for pid in PERMANENT {
            if w.set(pid) != Ok(true) {
                self.wrong(format_args!("{pid} could not be put back into the empty set"));
            }
        }
    }

    /// Adds the chunks that `pid` needs.
    fn refill(&self, pid: u32) {
        let missing = self.set.write(|w, ()| w.free().missing(w.need([pid].into_iter())));
        let (batch, whole) = Batch::alloc(missing, Mode::Sleep);
        self.set.write(|w, ()| w.refill(batch));
        self.chunks.fetch_add(missing.total() as u64, Ordering::Relaxed);
        if !whole {
            self.wrong(format_args!("there is no memory"));
        }
    }

    /// A reader that only reads.
    fn look(&self, thread: u32) {
        let mut random = Random::new(self.seed ^ u64::from(thread) << 32);
        let mut looks = 0;
        while self.busy.load(Ordering::Acquire) != 0 && !self.failed.load(Ordering::Relaxed) {
            for _ in 0..100 {
                self.look_once(&mut random);
            }
            looks += 100;
            threads::breathe();
        }
        self.looks.fetch_add(looks, Ordering::Relaxed);
    }

    fn look_once(&self, random: &mut Random) {
        let permanent = PERMANENT[random.below(PERMANENT.len() as u32) as usize];
        if let Some((false, epoch)) = self.within_epoch(|| self.set.has(permanent)) {
            self.wrong(format_args!("{permanent} is always a member, but not in epoch {epoch}"));
        }
        let never = pid_at(LEAVES[random.below(LEAVES.len() as u32) as usize], NEVER);
        if self.set.has(never) {
            self.wrong(format_args!("{never} is never a member, and was one"));
        }
        let from = pid_of(random.below(self.owners), random.below(SLOTS as u32) as usize);
        let first = PERMANENT.iter().copied().find(|&pid| pid >= from);
        if let Some((next, epoch)) = self.within_epoch(|| self.set.next(from)) {
            if first.is_some_and(|first| next.is_none_or(|next| next > first)) {
                self.wrong(format_args!("from {from} came {next:?}, past {first:?}, in {epoch}"));
            }
        }
        match self.set.next(from) {
            Some(next) if next < from => self.wrong(format_args!("from {from} came {next}")),
            Some(next) if kind(next, self.owners) == Kind::Never => {
                self.wrong(format_args!("from {from} came {next}, who is never a member"));
            }
            _ => {}
        }
    }
}

impl Owner<'_> {
    /// The set was emptied since: so are all beliefs.
    fn catch_up(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.members = [false; SLOTS];
        }
    }

    fn wrong(&self, what: core::fmt::Arguments<'_>) {
        let (number, operation) = (self.number, self.operation);
        self.shared.wrong(format_args!("owner {number}, operation {operation}: {what}"));
    }

    fn step(&mut self) {
        let slot = self.random.below(SLOTS as u32) as usize;
        // Few are in at a time: a chunk gets empty, and another range's, all the time.
        match self.random.below(4096) {
            0 => self.clear_all(),
            1..600 => self.set(slot),
            600..2600 => self.clear(slot),
            2600..3400 => self.has(slot),
            _ => self.next(slot),
        }
    }

    fn set(&mut self, slot: usize) {
        let (shared, pid) = (self.shared, pid_of(self.number, slot));
        loop {
            let set = shared.set.write(|w, ()| {
                let before = (w.used(), w.free(), w.members());
                let set = w.set(pid);
                let after = (w.used(), w.free(), w.members());
                if before.0.leaves < after.0.leaves {
                    shared.reused.fetch_add(1, Ordering::Relaxed);
                }
                (set, before == after, shared.epoch.load(Ordering::Relaxed))
            });
            match set {
                (Ok(new), same, epoch) => {
                    self.catch_up(epoch);
                    if new == self.members[slot] || new == same {
                        self.wrong(format_args!("set({pid}) was new: {new}, unchanged: {same}"));
                    }
                    self.members[slot] = true;
                    return;
                }
                (Err(NoChunk), same, _) => {
                    if !same {
                        self.wrong(format_args!("set({pid}) found no chunk and changed the set"));
                    }
                    shared.refill(pid);
                }
            }
            if shared.failed.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn clear(&mut self, slot: usize) {
        let (shared, pid) = (self.shared, pid_of(self.number, slot));
        let (was, epoch) =
            shared.set.write(|w, ()| (w.clear(pid), shared.epoch.load(Ordering::Relaxed)));
        self.catch_up(epoch);
        if was != self.members[slot] {
            self.wrong(format_args!("clear({pid}) said {was}"));
        }
        self.members[slot] = false;
    }

    fn has(&mut self, slot: usize) {
        let (shared, pid) = (self.shared, pid_of(self.number, slot));
        if let Some((has, epoch)) = shared.within_epoch(|| shared.set.has(pid)) {
            self.catch_up(epoch);
            if has != self.members[slot] {
                self.wrong(format_args!("has({pid}) said {has} in epoch {epoch}"));
            }
        }
    }

    fn next(&mut self, slot: usize) {
        let (shared, from) = (self.shared, pid_of(self.number, slot));
        let Some((next, epoch)) = shared.within_epoch(|| shared.set.next(from)) else { return };
        self.catch_up(epoch);
        let mine = (slot..SLOTS).find(|&i| self.members[i]).map(|i| pid_of(self.number, i));
        let permanent = PERMANENT.iter().copied().find(|&pid| pid >= from);
        let most = [permanent, mine].into_iter().flatten().min();
        let past = match (next, most) {
            (Some(next), Some(most)) => next > most,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        let stranger = next.is_some_and(|next| match kind(next, shared.owners) {
            Kind::Owned { by, slot } => by == self.number && !self.members[slot],
            Kind::Permanent => false,
            Kind::Never => true,
        });
        if past || stranger || next.is_some_and(|next| next < from) {
            self.wrong(format_args!("next({from}) said {next:?}, and {most:?} is a member"));
        }
    }

    fn clear_all(&mut self) {
        let shared = self.shared;
        shared.set.write(|w, ()| {
            let epoch = shared.epoch.load(Ordering::Relaxed);
            shared.epoch.store(epoch + 1, Ordering::Release);
            w.clear_all();
            if w.members() != 0 || w.used().total() != 0 || shared.set.next(0).is_some() {
                shared.wrong(format_args!("the set is not empty after epoch {epoch}"));
            }
            shared.permanent(w);
            shared.epoch.store(epoch + 2, Ordering::Release);
        });
        shared.emptied.fetch_add(1, Ordering::Relaxed);
    }
}

impl Work for Shared {
    fn work(&self, thread: u32) {
        if thread >= self.owners {
            return self.look(thread);
        }
        let mut owner = Owner {
            shared: self,
            number: thread,
            random: Random::new(self.seed ^ u64::from(thread)),
            members: [false; SLOTS],
            epoch: 0,
            operation: 0,
        };
        while owner.operation < self.operations && !self.failed.load(Ordering::Relaxed) {
            owner.step();
            owner.operation += 1;
            if owner.operation % 100 == 0 {
                threads::breathe();
            }
        }
        let left = &self.left[thread as usize];
        for slot in (0..SLOTS).filter(|&slot| owner.members[slot]) {
            left[slot / 64].fetch_or(1 << (slot % 64), Ordering::Relaxed);
        }
        self.left_in[thread as usize].store(owner.epoch, Ordering::Relaxed);
        self.busy.fetch_sub(1, Ordering::Release);
    }
}

impl Shared {
    /// Whether owner `by` has left its pid `slot` in the set, and nobody has emptied that since.
    fn is_left(&self, by: u32, slot: usize) -> bool {
        let by = by as usize;
        self.left_in[by].load(Ordering::Relaxed) == self.epoch.load(Ordering::Relaxed)
            && self.left[by][slot / 64].load(Ordering::Relaxed) >> (slot % 64) & 1 != 0
    }

    /// Compares the whole set, after all is over.
    fn compare(&self) {
        let (mut members, mut leaves) = (PERMANENT.len() as u64, 0);
        for (l, &leaf) in LEAVES.iter().enumerate() {
            let mut used = PERMANENT.iter().any(|&pid| pid >> 14 == leaf);
            for slot in l * OFFSETS.len()..(l + 1) * OFFSETS.len() {
                for by in 0..self.owners {
                    let (pid, left) = (pid_of(by, slot), self.is_left(by, slot));
                    if self.set.has(pid) != left {
                        self.wrong(format_args!("at the end: {pid} should be a member: {left}"));
                    }
                    members += u64::from(left);
                    used |= left;
                }
            }
            leaves += usize::from(used);
        }
        let (mut found, mut from) = (0, 0);
        while let Some(pid) = self.set.next(from) {
            let right = match kind(pid, self.owners) {
                Kind::Owned { by, slot } => self.is_left(by, slot),
                Kind::Permanent => true,
                Kind::Never => false,
            };
            if pid < from || !right {
                self.wrong(format_args!("at the end: next({from}) said {pid}"));
                break;
            }
            found += 1;
            from = pid + 1;
        }
        let (counted, used, free) = self.set.write(|w, ()| (w.members(), w.used(), w.free()));
        if (counted, found) != (members, members) {
            self.wrong(format_args!("at the end: {members} in, {found} found, {counted} counted"));
        }
        if used.leaves != leaves {
            self.wrong(format_args!("at the end: {} leaves instead of {leaves}", used.leaves));
        }
        let made = self.chunks.load(Ordering::Relaxed);
        if (used.total() + free.total()) as u64 != made {
            self.wrong(format_args!("at the end: {used:?} and {free:?} are not {made}"));
        }
    }
}

/// Does `operations` of them on all processors together, with at least two writers. May sleep.
pub(crate) fn run(operations: u64, seed: u64) -> Result {
    let owners = threads::cpus().clamp(2, MOST_OWNERS);
    let set = Set::new((), RawSpinLock::new, Mode::Sleep).ok_or(ENOMEM)?;
    let shared = Shared {
        set,
        epoch: AtomicU64::new(0),
        owners,
        operations: operations.div_ceil(u64::from(owners)),
        seed,
        left: [const { [const { AtomicU64::new(0) }; SLOTS.div_ceil(64)] }; MOST_OWNERS as usize],
        left_in: [const { AtomicU64::new(0) }; MOST_OWNERS as usize],
        busy: AtomicU32::new(owners),
        failed: AtomicBool::new(false),
        chunks: AtomicU64::new(0),
        looks: AtomicU64::new(0),
        emptied: AtomicU64::new(0),
        reused: AtomicU64::new(0),
    };
    // Just what the permanent members need, so that there is a lack of chunks at first.
    let need = shared.set.write(|w, ()| w.need(PERMANENT.into_iter()));
    let (batch, _) = Batch::alloc(need, Mode::Sleep);
    shared.chunks.store(need.total() as u64, Ordering::Relaxed);
    shared.set.write(|w, ()| {
        w.refill(batch);
        shared.permanent(w);
    });
    threads::run(&shared, owners + owners.div_ceil(2))?;
    if !shared.failed.load(Ordering::Relaxed) {
        shared.compare();
    }
    if shared.failed.load(Ordering::Relaxed) {
        return Err(EINVAL);
    }
    shared.set.write(|w, ()| w.clear_all());
    if shared.set.write(|w, ()| w.used()) != Chunks::default() {
        pr_err!("model: the set is not empty at the end\n");
        return Err(EINVAL);
    }
    pr_info!(
        "model: {} operations by {} owners as predicted, {} looks beside them; emptied {} times, \
         {} times a chunk put to use\n",
        shared.operations * u64::from(owners),
        owners,
        shared.looks.load(Ordering::Relaxed),
        shared.emptied.load(Ordering::Relaxed),
        shared.reused.load(Ordering::Relaxed),
    );
    Ok(())
}
