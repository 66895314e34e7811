//! The set against `BTreeSet`, and its bookkeeping against what it must be.

use std::collections::BTreeSet;

use crate::heap::{refill, set_with, Memory, Set};
use pidlist_tree::{Batch, Chunks, NoChunk, PID_LAST};
use proptest::prelude::*;

const LEAF: u32 = 1 << 14;
const UPPER: u32 = 1 << 22;

#[derive(Clone, Debug)]
enum Op {
    Set(u32),
    Clear(u32),
    Next(u32),
    ClearAll,
    SetMany(BTreeSet<u32>),
}

/// Few enough different pids to hit the same chunks again, at every edge there is.
fn pid() -> impl Strategy<Value = u32> {
    let base = prop_oneof![
        Just(0),
        Just(LEAF),
        Just(3 * LEAF),
        Just(UPPER - LEAF),
        Just(UPPER),
        Just(PID_LAST - LEAF + 1)
    ];
    let offset = prop_oneof![0..3u32, 62..66u32, 4094..4098u32, LEAF - 3..LEAF];
    (base, offset).prop_map(|(b, o)| b + o)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => pid().prop_map(Op::Set),
        4 => pid().prop_map(Op::Clear),
        2 => pid().prop_map(Op::Next),
        1 => Just(Op::ClearAll),
        1 => prop::collection::btree_set(pid(), 0..6).prop_map(Op::SetMany),
    ]
}

fn members(set: &Set) -> Vec<u32> {
    let mut all = Vec::new();
    let mut from = 0;
    while let Some(pid) = set.next(from) {
        all.push(pid);
        from = pid + 1;
    }
    all
}

/// The chunks that hold `model`. The first upper chunk is a fixture.
fn chunks_of(model: &BTreeSet<u32>) -> Chunks {
    let count = |pids: &mut dyn Iterator<Item = &u32>, per| {
        pids.map(|p| p / per).collect::<BTreeSet<_>>().len()
    };
    Chunks {
        uppers: count(&mut model.range(UPPER..), UPPER),
        leaves: count(&mut model.iter(), LEAF),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 512 }) })]

    #[test]
    fn agrees_with_btreeset(ops in prop::collection::vec(op(), 1..120)) {
        let set = set_with(2);
        let mut model = BTreeSet::new();
        let mut total = Chunks { uppers: 1, leaves: 2 };
        for op in ops {
            match op {
                Op::Set(pid) => {
                    let before = set.write(|w, ()| (w.free(), w.used()));
                    match set.write(|w, ()| w.set(pid)) {
                        Ok(new) => prop_assert_eq!(new, model.insert(pid)),
                        Err(NoChunk) => {
                            prop_assert_eq!(before, set.write(|w, ()| (w.free(), w.used())));
                            prop_assert!(!set.has(pid));
                            let need = set.write(|w, ()| w.need([pid].into_iter()));
                            let missing = set.write(|w, ()| w.free()).missing(need);
                            prop_assert!(missing.total() > 0);
                            refill(&set, missing);
                            total.uppers += missing.uppers;
                            total.leaves += missing.leaves;
                            prop_assert_eq!(set.write(|w, ()| w.set(pid)), Ok(true));
                            model.insert(pid);
                        }
                    }
                }
                Op::Clear(pid) => prop_assert_eq!(set.write(|w, ()| w.clear(pid)), model.remove(&pid)),
                Op::Next(pid) => prop_assert_eq!(set.next(pid), model.range(pid..).next().copied()),
                Op::ClearAll => {
                    set.write(|w, ()| w.clear_all());
                    model.clear();
                }
                Op::SetMany(pids) => {
                    // `need` is exact: with that much in reserve, every one goes in.
                    let need = set.write(|w, ()| w.need(pids.iter().copied()));
                    let missing = set.write(|w, ()| w.free()).missing(need);
                    refill(&set, missing);
                    total.uppers += missing.uppers;
                    total.leaves += missing.leaves;
                    let free = set.write(|w, ()| w.free());
                    for pid in pids {
                        prop_assert_eq!(set.write(|w, ()| w.set(pid)), Ok(model.insert(pid)));
                    }
                    let left = set.write(|w, ()| w.free());
                    prop_assert_eq!(free.uppers - left.uppers, need.uppers);
                    prop_assert_eq!(free.leaves - left.leaves, need.leaves);
                }
            }
            prop_assert_eq!(members(&set), model.iter().copied().collect::<Vec<_>>());
            let (used, free, count) = set.write(|w, ()| (w.used(), w.free(), w.members()));
            prop_assert_eq!(count, model.len() as u64);
            prop_assert_eq!(used, chunks_of(&model));
            prop_assert_eq!(used.uppers + free.uppers, total.uppers);
            prop_assert_eq!(used.leaves + free.leaves, total.leaves);
        }
    }
}

#[test]
fn a_pid_beyond_the_last_is_no_member() {
    let set = set_with(1);
    set.write(|w, ()| w.set(PID_LAST)).unwrap();
    assert!(set.has(PID_LAST));
    for pid in [PID_LAST + 1, u32::MAX] {
        assert!(!set.has(pid));
        assert_eq!(set.next(pid), None);
        assert!(!set.write(|w, ()| w.clear(pid)));
    }
}

#[test]
fn an_empty_reserve_changes_nothing() {
    let set = set_with(0);
    assert_eq!(set.write(|w, ()| w.set(1)), Err(NoChunk));
    assert_eq!(set.write(|w, ()| w.set(UPPER)), Err(NoChunk));
    // The upper chunk that was there has not been spent on a leaf that was not.
    assert_eq!(
        set.write(|w, ()| (w.used(), w.free().uppers)),
        (Chunks::default(), 1)
    );

    let (batch, whole) = Batch::alloc(
        Chunks {
            uppers: 0,
            leaves: 1,
        },
        Memory::Exhausted,
    );
    assert!(!whole);
    set.write(|w, ()| w.refill(batch));
    assert_eq!(set.write(|w, ()| w.set(1)), Err(NoChunk));
}

#[test]
fn a_chunk_of_the_reserve_answers_for_nothing() {
    let set = set_with(1);
    set.write(|w, ()| w.set(7)).unwrap();
    set.write(|w, ()| w.clear(7));
    // The same leaf, now for other pids.
    set.write(|w, ()| w.set(LEAF + 7)).unwrap();
    assert!(!set.has(7) && set.has(LEAF + 7));
}
