//! Readers and writers on real threads, for the sanitizers and Miri to watch.
//!
//! Readers are joined, though the scope would wait for them: ThreadSanitizer sees a join, but not
//! what a standard library that was built without it does to wait.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::heap::{refill, set_with};
use pidlist_tree::Chunks;

const LEAF: u32 = 1 << 14;
const UPPER: u32 = 1 << 22;
const ROUNDS: u32 = if cfg!(miri) { 50 } else { 200_000 };

#[test]
fn readers_meet_no_pid_of_another_range() {
    // One leaf for three ranges: it is put to a new use in every round.
    let set = set_with(1);
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        let readers = [(), ()].map(|()| {
            s.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for range in 0..3 {
                        // Only bit `range` is ever set in a range.
                        let base = range * LEAF;
                        assert!(!set.has(base + (range + 1) % 3));
                        if let Some(pid) = set.next(0) {
                            assert_eq!(pid % LEAF, pid / LEAF);
                        }
                    }
                }
            })
        });
        for i in 0..ROUNDS {
            let pid = i % 3 * (LEAF + 1);
            set.write(|w, ()| w.set(pid)).unwrap();
            set.write(|w, ()| w.clear(pid));
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn a_member_stays_while_all_others_change() {
    let set = set_with(2);
    set.write(|w, ()| w.set(1)).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|s| {
        let reader = s.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(set.has(1));
                assert_eq!(set.next(0), Some(1));
            }
        });
        for i in 0..ROUNDS {
            let pid = 2 + i % (2 * LEAF - 2);
            set.write(|w, ()| w.set(pid)).unwrap();
            set.write(|w, ()| w.clear(pid));
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn a_fresh_chunk_is_seen_whole() {
    // Chunks are made while a reader runs: it must find them initialized.
    for i in 0..ROUNDS.min(50) {
        let set = set_with(0);
        let pid = i % 2 * UPPER + i * LEAF + i;
        thread::scope(|s| {
            let reader = s.spawn(|| while set.next(0) != Some(pid) {});
            refill(
                &set,
                Chunks {
                    uppers: 1,
                    leaves: 1,
                },
            );
            set.write(|w, ()| w.set(pid)).unwrap();
            reader.join().unwrap();
        });
    }
}
