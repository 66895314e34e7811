//! The kernel's PID set: in the kernel, beside the kernel's own ([`kernel`]), and here the tree of it,
//! compiled for the host, against other sets of `u32`.
//!
//! Here it is one thread, and nobody locks: neither the tree's writers nor the sets that would need a lock
//! even to be read while somebody writes. In the kernel is another world; these figures say what
//! the data structure costs.

mod kernel;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::hint::black_box;

use anyhow::{Context, ensure};
use pidlist_tree::{Batch, Guarded, Lock, PidSet};
use roaring::RoaringBitmap;

use crate::host::Heap;
use crate::measure::{allocated, in_turns, timed};
use crate::report::{Better, Figure, Report, Row};

/// The largest pid that Linux gives out, `PID_MAX_LIMIT - 1`.
const PID_LAST: u32 = (1 << 22) - 1;

/// Pids that share a leaf of the tree.
const RANGE: u32 = 1 << 14;

/// Members when times are measured.
const MEMBERS: usize = 1000;

/// What every set here can do.
trait Set: Default {
    const NAME: &str;
    fn has(&self, pid: u32) -> bool;
    /// Whether it was none.
    fn set(&mut self, pid: u32) -> bool;
    /// Whether it was one.
    fn clear(&mut self, pid: u32) -> bool;
    /// The first member from `from` on.
    fn next(&self, from: u32) -> Option<u32>;

    fn of(pids: &[u32]) -> Self {
        let mut set = Self::default();
        for pid in pids {
            set.set(*pid);
        }
        set
    }
}

struct NoLock<T>(RefCell<T>);

impl<T> Lock<T> for NoLock<T> {
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }
}

struct Tree(PidSet<Heap, NoLock<Guarded<Heap, ()>>>);

impl Default for Tree {
    fn default() -> Self {
        Self(
            PidSet::new((), |guarded| NoLock(RefCell::new(guarded)), ())
                .expect("the heap is not exhausted"),
        )
    }
}

impl Tree {
    /// Takes from the heap what the pid needs, and no reserve.
    #[cold]
    fn refill(&self, pid: u32) {
        let need = self.0.write(|w, ()| w.need([pid].into_iter()));
        let want = self.0.write(|w, ()| w.free()).missing(need);
        let (batch, _) = Batch::alloc(want, ());
        self.0.write(|w, ()| w.refill(batch));
    }
}

impl Set for Tree {
    const NAME: &str = "ours";

    fn has(&self, pid: u32) -> bool {
        self.0.has(pid)
    }

    fn set(&mut self, pid: u32) -> bool {
        loop {
            if let Ok(new) = self.0.write(|w, ()| w.set(pid)) {
                return new;
            }
            self.refill(pid);
        }
    }

    fn clear(&mut self, pid: u32) -> bool {
        self.0.write(|w, ()| w.clear(pid))
    }

    fn next(&self, from: u32) -> Option<u32> {
        self.0.next(from)
    }
}

impl Set for HashSet<u32> {
    const NAME: &str = "HashSet<u32>";

    fn has(&self, pid: u32) -> bool {
        self.contains(&pid)
    }

    fn set(&mut self, pid: u32) -> bool {
        self.insert(pid)
    }

    fn clear(&mut self, pid: u32) -> bool {
        self.remove(&pid)
    }

    fn next(&self, from: u32) -> Option<u32> {
        // It has no order: a look at each.
        self.iter().copied().filter(|pid| *pid >= from).min()
    }
}

impl Set for BTreeSet<u32> {
    const NAME: &str = "BTreeSet<u32>";

    fn has(&self, pid: u32) -> bool {
        self.contains(&pid)
    }

    fn set(&mut self, pid: u32) -> bool {
        self.insert(pid)
    }

    fn clear(&mut self, pid: u32) -> bool {
        self.remove(&pid)
    }

    fn next(&self, from: u32) -> Option<u32> {
        self.range(from..).next().copied()
    }
}

impl Set for RoaringBitmap {
    const NAME: &str = "roaring";

    fn has(&self, pid: u32) -> bool {
        self.contains(pid)
    }

    fn set(&mut self, pid: u32) -> bool {
        self.insert(pid)
    }

    fn clear(&mut self, pid: u32) -> bool {
        self.remove(pid)
    }

    fn next(&self, from: u32) -> Option<u32> {
        self.range(from..).next()
    }
}

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    kernel::run(report)?;
    let pids = Pids::new();
    against::<HashSet<u32>>(&pids, report)?;
    against::<BTreeSet<u32>>(&pids, report)?;
    against::<RoaringBitmap>(&pids, report)?;
    report.note(format!(
        "pidset.tree: on this machine; {MEMBERS} members anywhere among 2^22 pids; next: one member in each 16,384 pids"
    ));
    report.note("pidset.tree.memory: spread over 2^22 pids, or pids 1 to N in a row; no reserve");
    Ok(())
}

/// The pids of all comparisons, the same in every run.
struct Pids {
    /// Each once.
    members: Vec<u32>,
    /// Some of those that are no members, though each has one in its range.
    others: Vec<u32>,
    /// One in each range.
    sparse: Vec<u32>,
    /// Those that memory is measured with: what they are called, and which.
    sets: Vec<(&'static str, Vec<u32>)>,
}

impl Pids {
    fn new() -> Self {
        let mut random = fastrand::Rng::with_seed(0x70_6964);
        let mut spread = |count: usize| -> Vec<u32> {
            let mut seen = BTreeSet::new();
            let pids = std::iter::repeat_with(|| random.u32(1..=PID_LAST));
            pids.filter(|pid| seen.insert(*pid)).take(count).collect()
        };
        let sets = vec![
            ("pidset.tree.memory.1", vec![1]),
            ("pidset.tree.memory.row.1000", (1..=1000).collect()),
            ("pidset.tree.memory.row.100000", (1..=100_000).collect()),
            ("pidset.tree.memory.spread.1000", spread(1000)),
            ("pidset.tree.memory.spread.100000", spread(100_000)),
        ];
        let members = spread(MEMBERS);
        let used: BTreeSet<u32> = members.iter().map(|pid| pid / RANGE).collect();
        let others = spread(4 * MEMBERS)
            .into_iter()
            .filter(|pid| used.contains(&(pid / RANGE)) && !members.contains(pid))
            .take(MEMBERS)
            .collect();
        let sparse = (0..=PID_LAST / RANGE)
            .map(|range| range * RANGE + random.u32(1..RANGE))
            .collect();
        Self {
            members,
            others,
            sparse,
            sets,
        }
    }
}

const fn time(name: &str) -> Figure<'_> {
    Figure {
        name,
        unit: "ns",
        better: Better::Lower,
    }
}

fn against<B: Set>(pids: &Pids, report: &mut Report) -> anyhow::Result<()> {
    let rounds = report.rounds;
    let (mut tree, mut other) = (Tree::of(&pids.members), B::of(&pids.members));

    for (name, wanted, probes) in [
        ("pidset.tree.has.hit", true, &pids.members),
        ("pidset.tree.has.miss", false, &pids.others),
    ] {
        let samples = in_turns(
            rounds,
            has(&tree, probes, wanted)?,
            has(&other, probes, wanted)?,
        )?;
        report.push(Row::compared(time(name), B::NAME, &samples)?);
    }

    let set_clear = time("pidset.tree.set+clear");
    let samples = in_turns(
        rounds,
        set_and_clear(&mut tree, &pids.others)?,
        set_and_clear(&mut other, &pids.others)?,
    )?;
    report.push(Row::compared(set_clear, B::NAME, &samples)?);

    let (tree, other) = (Tree::of(&pids.sparse), B::of(&pids.sparse));
    let samples = in_turns(
        rounds,
        walk(&tree, &pids.sparse)?,
        walk(&other, &pids.sparse)?,
    )?;
    report.push(Row::compared(
        time("pidset.tree.next.sparse"),
        B::NAME,
        &samples,
    )?);

    for (name, pids) in &pids.sets {
        let figure = Figure {
            name,
            unit: "bytes",
            better: Better::Lower,
        };
        // Bytes are the same in each round.
        let samples = in_turns(1, allocated(|| Tree::of(pids)), allocated(|| B::of(pids)))?;
        report.push(Row::compared(figure, B::NAME, &samples)?);
    }
    Ok(())
}

fn has<S: Set>(
    set: &S,
    probes: &[u32],
    wanted: bool,
) -> anyhow::Result<impl FnMut() -> anyhow::Result<f64>> {
    ensure!(
        probes.iter().all(|pid| set.has(*pid) == wanted),
        "{} does not know its members",
        S::NAME
    );
    timed(probes.len(), move || {
        let found = black_box(probes).iter().filter(|pid| set.has(**pid));
        black_box(found.count());
        Ok(())
    })
}

fn set_and_clear<S: Set>(
    set: &mut S,
    pids: &[u32],
) -> anyhow::Result<impl FnMut() -> anyhow::Result<f64>> {
    timed(pids.len(), move || {
        for pid in black_box(pids) {
            black_box(set.set(*pid));
            black_box(set.clear(*pid));
        }
        Ok(())
    })
}

/// Each member by a call of its own, as a reader goes through a set that others write to.
fn walk<S: Set>(set: &S, members: &[u32]) -> anyhow::Result<impl FnMut() -> anyhow::Result<f64>> {
    let (first, last) = members.first().zip(members.last()).context("no members")?;
    ensure!(set.next(0) == Some(*first) && set.next(last + 1).is_none());
    timed(members.len(), move || {
        let set = black_box(set);
        let mut from = 0;
        while let Some(pid) = set.next(from) {
            from = pid + 1;
        }
        black_box(from);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use pidlist_tree::Chunks;

    use super::*;
    use pidlist_tree::{Leaf, Root, Upper};

    fn agrees<B: Set>(pids: &Pids) {
        let (mut tree, mut other) = (Tree::of(&pids.members), B::of(&pids.members));
        for pid in pids.others.iter().chain(&pids.members) {
            assert_eq!(tree.has(*pid), other.has(*pid));
            assert_eq!(tree.next(*pid), other.next(*pid));
            assert_eq!(tree.set(*pid), other.set(*pid));
            assert_eq!(tree.set(*pid), other.set(*pid));
            assert_eq!(tree.next(*pid + 1), other.next(*pid + 1));
            assert_eq!(tree.clear(*pid), other.clear(*pid));
            assert_eq!(tree.clear(*pid), other.clear(*pid));
        }
        assert_eq!(other.next(0), None);
    }

    #[test]
    fn all_sets_answer_alike() {
        let pids = Pids::new();
        agrees::<HashSet<u32>>(&pids);
        agrees::<BTreeSet<u32>>(&pids);
        agrees::<RoaringBitmap>(&pids);
    }

    #[test]
    fn pids_are_what_they_are_called() {
        let pids = Pids::new();
        assert_eq!((pids.members.len(), pids.others.len()), (MEMBERS, MEMBERS));
        assert!(pids.others.iter().all(|pid| !pids.members.contains(pid)));
        // A set goes into a chunk that is there.
        let tree = Tree::of(&pids.members);
        let need = tree.0.write(|w, ()| {
            let others: BTreeSet<u32> = pids.others.iter().copied().collect();
            w.need(others.into_iter())
        });
        assert_eq!(need, Chunks::default());
        let tree = Tree::of(&pids.sparse);
        assert_eq!(tree.0.write(|w, ()| w.used()).leaves, pids.sparse.len());
        assert!(pids.sparse.is_sorted());
    }

    #[test]
    fn the_tree_takes_no_reserve() {
        let tree = Tree::of(&[1, 2, PID_LAST]);
        assert_eq!(tree.0.write(|w, ()| w.free()), Chunks::default());
        let chunks = size_of::<Root>() + size_of::<Upper>() + 2 * size_of::<Leaf>();
        assert_eq!(
            allocated(|| Tree::of(&[1, 2, PID_LAST]))().unwrap(),
            (size_of::<Tree>() + chunks) as f64
        );
    }
}
