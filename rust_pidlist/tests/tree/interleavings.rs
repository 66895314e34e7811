//! Every interleaving of a writer that puts chunks to new uses and readers that hold no lock.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p pidlist-tree --test tree`
//!
//! Under loom the tree is small: a leaf has 256 pids in two groups, an upper chunk two leaves, the
//! root four upper chunks.
//!
//! The reader is the spawned thread, the writer the first one, which loom runs ahead: it finds a
//! conflict when a load meets another thread's store, but not when a store meets another thread's
//! load behind a load of its own, and every store here comes behind one.

use crate::heap::{refill, set_with, Set};
use loom::sync::Arc;
use loom::thread;
use pidlist_tree::Chunks;

const WORD: u32 = 64;
const GROUP: u32 = 128;
const LEAF: u32 = 256;
const UPPER: u32 = 512;

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

fn clear_all(set: &Set) {
    set.write(|w, ()| w.clear_all());
}

/// How a reader asks.
#[derive(Clone, Copy)]
enum By {
    Has,
    /// From the pid on.
    Next,
    /// From the first pid of its leaf on.
    NextOfLeaf,
}

impl By {
    fn finds(self, set: &Set, pid: u32) -> bool {
        match self {
            Self::Has => set.has(pid),
            Self::Next => set.next(pid) == Some(pid),
            Self::NextOfLeaf => set.next(pid / LEAF * LEAF) == Some(pid),
        }
    }
}

/// `pid` is a member at no time of `write`: a reader must never take a bit of one use of a chunk for
/// another's.
fn never(pid: u32, by: By, before: &'static [u32], write: fn(&Set)) {
    explore(move || {
        let one = set_with(1);
        before.iter().for_each(|&pid| set(&one, pid));
        beside(one, write, move |s| {
            assert!(!by.finds(s, pid), "{pid} was never a member");
        });
    });
}

#[test]
fn a_leaf_for_another_range() {
    for by in [By::Has, By::Next] {
        for pid in [1, LEAF] {
            never(pid, by, &[0], |s| {
                clear(s, 0);
                set(s, LEAF + 1);
                assert!(!s.has(0) && s.has(LEAF + 1));
            });
        }
    }
}

#[test]
fn a_leaf_for_another_range_by_its_further_words() {
    // In the same group as the word that the reader starts with, and in another.
    never(WORD + 1, By::NextOfLeaf, &[WORD], |s| {
        clear(s, WORD);
        set(s, LEAF + WORD + 1);
    });
    never(GROUP + 1, By::NextOfLeaf, &[GROUP], |s| {
        clear(s, GROUP);
        set(s, LEAF + GROUP + 1);
    });
}

#[test]
fn a_leaf_for_another_range_and_back() {
    // By `next` this is too much to explore; it reads a word as `has` does.
    never(1, By::Has, &[0], |s| {
        clear(s, 0);
        set(s, LEAF + 1);
        clear(s, LEAF + 1);
        set(s, 2);
        assert!(!s.has(LEAF + 1) && s.has(2));
    });
}

#[test]
fn a_leaf_whose_next_use_has_lost_a_pid_again() {
    // The word that the reader meets was stored by a removal.
    for by in [By::Has, By::Next] {
        never(1, by, &[0], |s| {
            clear(s, 0);
            set(s, LEAF + 1);
            set(s, LEAF + 2);
            clear(s, LEAF + 2);
        });
    }
}

#[test]
fn a_leaf_that_was_emptied_at_once() {
    for by in [By::Has, By::Next] {
        for pid in [2, LEAF] {
            never(pid, by, &[0, 1, WORD, GROUP], |s| {
                clear_all(s);
                set(s, LEAF + 2);
                assert!(!s.has(0) && !s.has(WORD) && !s.has(GROUP) && s.has(LEAF + 2));
            });
        }
    }
}

#[test]
fn a_leaf_for_a_range_far_out() {
    for by in [By::Has, By::Next] {
        for pid in [1, UPPER] {
            never(pid, by, &[0], |s| {
                clear(s, 0);
                set(s, UPPER + 1);
            });
        }
    }
}

#[test]
fn an_upper_chunk_for_another_range() {
    for by in [By::Has, By::Next] {
        for pid in [UPPER + 1, 2 * UPPER] {
            never(pid, by, &[UPPER], |s| {
                clear(s, UPPER);
                set(s, 2 * UPPER + 1);
                assert!(!s.has(UPPER) && s.has(2 * UPPER + 1));
            });
        }
    }
}

#[test]
fn an_upper_chunk_that_was_emptied_at_once() {
    never(UPPER + 1, By::Has, &[UPPER], |s| {
        clear_all(s);
        set(s, 2 * UPPER + 1);
    });
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
fn a_member_is_found_behind_those_that_come_and_go() {
    explore(|| {
        let two = set_with(2);
        set(&two, 5);
        set(&two, LEAF + 5);
        beside(
            two,
            |s| {
                clear(s, 5);
                set(s, 6);
            },
            |s| {
                assert!([5, 6, LEAF + 5].map(Some).contains(&s.next(0)));
                assert_eq!(s.next(7), Some(LEAF + 5));
            },
        );
    });
}

#[test]
fn a_member_far_out_is_found_while_its_neighbours_go() {
    explore(|| {
        let three = set_with(3);
        refill(
            &three,
            Chunks {
                uppers: 1,
                leaves: 0,
            },
        );
        set(&three, UPPER);
        set(&three, 2 * UPPER);
        beside(
            three,
            |s| clear(s, UPPER),
            |s| {
                assert!(s.has(2 * UPPER));
                assert_eq!(s.next(UPPER + 1), Some(2 * UPPER));
            },
        );
    });
}

#[test]
fn what_was_seen_stays() {
    for pid in [LEAF, LEAF + WORD, LEAF + GROUP, UPPER] {
        explore(move || {
            beside(
                set_with(1),
                move |s| set(s, pid),
                move |s| {
                    if s.has(pid) {
                        assert!(s.has(pid));
                        assert_eq!(s.next(0), Some(pid));
                    }
                },
            );
        });
        explore(move || {
            beside(
                set_with(1),
                move |s| set(s, pid),
                move |s| {
                    if s.next(0) == Some(pid) {
                        assert!(s.has(pid));
                    }
                },
            );
        });
    }
}

#[test]
fn what_was_seen_stays_beside_one_that_goes() {
    explore(|| {
        let one = set_with(1);
        set(&one, GROUP);
        beside(
            one,
            |s| {
                set(s, GROUP + 1);
                clear(s, GROUP);
            },
            |s| {
                if s.has(GROUP + 1) {
                    assert!(s.has(GROUP + 1));
                    assert!([GROUP, GROUP + 1].map(Some).contains(&s.next(0)));
                }
            },
        );
    });
}

#[test]
fn a_fresh_chunk_is_seen_whole() {
    for pid in [3, UPPER + 3] {
        explore(move || {
            beside(
                set_with(0),
                move |s| {
                    // Made while the reader runs.
                    refill(
                        s,
                        Chunks {
                            uppers: 1,
                            leaves: 1,
                        },
                    );
                    set(s, pid);
                },
                move |s| {
                    s.has(pid);
                    assert!([None, Some(pid)].contains(&s.next(0)));
                },
            );
        });
    }
}

#[test]
fn two_writers_and_a_reader() {
    explore(|| {
        let two = set_with(2);
        set(&two, 5);
        let shared = Arc::new(two);
        let other = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                set(&shared, LEAF);
                clear(&shared, LEAF);
            })
        };
        set(&shared, 6);
        assert!(shared.has(5) && shared.has(6) && !shared.has(7));
        other.join().unwrap();
        assert_eq!(shared.write(|w, ()| (w.members(), w.used().leaves)), (2, 1));
        assert_eq!(
            (shared.next(0), shared.next(6), shared.next(7)),
            (Some(5), Some(6), None)
        );
    });
}
