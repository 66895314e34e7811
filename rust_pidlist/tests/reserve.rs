//! How the reserve adapts, as the module compiles it.

#[path = "../reserve.rs"]
mod reserve;

use proptest::prelude::*;
use reserve::Reserve;

const SECOND: u64 = 1_000_000_000;

#[test]
fn it_starts_small_and_stays_so_where_little_happens() {
    let mut reserve = Reserve::new();
    for minute in 1..100 {
        // One leaf was taken since the last refill, so nobody was in a hurry.
        reserve.refilling(reserve.full() - 1, minute * 60 * SECOND);
        assert_eq!(reserve.full(), Reserve::LEAST);
    }
}

#[test]
fn it_doubles_while_forks_use_it_up_faster_than_it_is_refilled() {
    let mut reserve = Reserve::new();
    let mut sizes = vec![];
    for ms in 1..10 {
        reserve.refilling(0, ms * SECOND / 1000);
        sizes.push(reserve.full());
    }
    assert_eq!(sizes, [4, 8, 16, 32, 64, 64, 64, 64, 64]);
}

#[test]
fn it_shrinks_again_after_the_storm() {
    let mut reserve = Reserve::new();
    for _ in 0..8 {
        reserve.refilling(0, SECOND);
    }
    let mut now = SECOND;
    let mut sizes = vec![];
    while reserve.full() > Reserve::LEAST {
        now += Reserve::QUIET_NS + 1;
        reserve.refilling(reserve.low_water() - 1, now);
        sizes.push(reserve.full());
    }
    assert_eq!(sizes, [32, 16, 8, 4, 2]);
}

proptest! {
    #[test]
    fn it_always_keeps_its_bounds(refills in prop::collection::vec((0usize..80, 0u64..1 << 40), 0..200)) {
        let mut reserve = Reserve::new();
        for (free, now) in refills {
            reserve.refilling(free, now);
            prop_assert!((Reserve::LEAST..=Reserve::MOST).contains(&reserve.full()));
            prop_assert!((1..=reserve.full()).contains(&reserve.low_water()));
        }
    }
}
