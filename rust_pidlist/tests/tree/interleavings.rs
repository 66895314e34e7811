//! Every interleaving of a writer that puts chunks to new uses and readers that hold no lock.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p pidlist-tree --test tree`
//!
//! Under loom the tree is small: a leaf has 128 pids, an upper chunk two leaves, the root two.
//!
//! The reader is the spawned thread, the writer the first one, which loom runs ahead: it finds a
//! conflict when a load meets another thread's store, but not when a store meets another thread's
//! load behind a load of its own, and every store here comes behind one.

use crate::heap::{set_with, Set};
use loom::sync::Arc;
use loom::thread;

const LEAF: u32 = 128;
const UPPER: u32 = 256;

/// Explores `f` with up to three preemptions, as many as any of these races needs.
fn explore(f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(f);
}

/// Runs `read` beside `write`, in every order.
fn beside(set: Set, write: impl FnOnce(&Set), read: impl FnOnce(&Set) + 'static) {
    let set = Arc::new(set);
    let reader = {
        let set = Arc::clone(&set);
        thread::spawn(move || read(&set))
    };
    write(&set);
    reader.join().unwrap();
}

fn set(set: &Set, pid: u32) {
    set.write(|w, ()| w.set(pid)).unwrap();
}

fn clear(set: &Set, pid: u32) {
    assert!(set.write(|w, ()| w.clear(pid)));
}

/// The one leaf goes from the range of `old` to that of `new`, and with `back` to the old one
/// again, where it holds another pid: a reader must never take a bit of one use for another's.
fn reuse(old: u32, new: u32, back: Option<u32>, never: u32) {
    // There and back again by `next` is too much to explore; it reads words as `has` does.
    let ways: &[bool] = if back.is_none() {
        &[false, true]
    } else {
        &[false]
    };
    for &by_next in ways {
        reuse_read(old, new, back, never, by_next);
    }
}

fn reuse_read(old: u32, new: u32, back: Option<u32>, never: u32, by_next: bool) {
    explore(move || {
        let one = set_with(1);
        set(&one, old);
        beside(
            one,
            |s| {
                clear(s, old);
                set(s, new);
                if let Some(back) = back {
                    clear(s, new);
                    set(s, back);
                }
                assert!(!s.has(old));
                assert!(s.has(back.unwrap_or(new)));
            },
            move |s| {
                if by_next {
                    assert_ne!(s.next(never), Some(never), "{never} was never a member");
                } else {
                    assert!(!s.has(never), "{never} was never a member");
                }
            },
        );
    });
}

#[test]
fn a_leaf_for_another_range() {
    reuse(0, LEAF + 1, None, 1);
    reuse(0, LEAF + 1, None, LEAF);
}

#[test]
fn a_leaf_for_another_range_and_back() {
    reuse(0, LEAF + 1, Some(2), 1);
}

#[test]
fn an_upper_chunk_for_another_range() {
    reuse(0, UPPER + 1, None, 1);
    reuse(0, UPPER + 1, None, UPPER);
}

#[test]
fn a_member_is_found_while_others_come_and_go() {
    explore(|| {
        let two = set_with(2);
        set(&two, 5);
        beside(
            two,
            |s| {
                set(s, 6);
                set(s, LEAF + 5);
                clear(s, LEAF + 5);
                clear(s, 6);
            },
            |s| {
                assert!(s.has(5));
                assert_eq!(s.next(0), Some(5));
            },
        );
    });
}

#[test]
fn what_was_seen_stays() {
    explore(|| {
        beside(
            set_with(1),
            |s| set(s, LEAF),
            |s| {
                if s.has(LEAF) {
                    assert!(s.has(LEAF));
                    assert_eq!(s.next(0), Some(LEAF));
                }
            },
        );
    });
}
