//! The scenarios of the field: each is something that such caches got wrong.

use super::*;
use crate::{ImageSource, TICK_NS};

const SECOND: u64 = 1_000_000_000;

fn key(tgid: u32, start_ns: u64) -> Key {
    Key { start_ns, tgid }
}

fn seen(key: Key, parent: Option<Key>) -> Sighting {
    Sighting {
        parent,
        ..Sighting::new(key, Precision::Nanosecond)
    }
}

fn image(block: &[u8]) -> Image {
    Image::new(ImageSource::Exec, Some((*b"/bin/x").into()), block.into())
}

/// A cache with init (1) and a shell (10) whose parent it is.
fn shell() -> (Cache, Key, Key) {
    let mut cache = Cache::default();
    let (init, shell) = (key(1, 5), key(10, 100));
    cache.merge(&[seen(init, None), seen(shell, Some(init))], 200, 201);
    (cache, init, shell)
}

fn exited(key: Key, parent: Option<Key>, status: u32) -> Sighting {
    Sighting {
        dead: true,
        exit_status: Some(status),
        ..seen(key, parent)
    }
}

#[test]
fn a_short_life_is_kept_whole() {
    let (mut cache, _, shell) = shell();
    let child = key(11, 1000);
    assert_eq!(
        cache.on_fork(1000, &seen(child, Some(shell)), Some(shell)),
        Outcome::Applied
    );
    cache.on_exec(1100, &seen(child, Some(shell)), image(b"true\0arg\0"));
    cache.on_exit(2000, &exited(child, Some(shell), 3 << 8));
    let process = cache.get(child).unwrap();
    assert_eq!(process.exit.unwrap().code(), Some(3));
    assert_eq!(process.lifetime_ns(9999), Some(1000));
    assert_eq!(process.parent_at_fork, Some(shell));
    assert_eq!(cache.parent(process), Some(shell));
    let args: Vec<&[u8]> = process.image.as_ref().unwrap().args().collect();
    assert_eq!(args, [b"true".as_slice(), b"arg"]);
    assert_eq!((cache.alive(), cache.len()), (2, 3));
    cache.check().unwrap();
}

#[test]
fn late_fork_makes_no_ghost() {
    let (mut cache, _, shell) = shell();
    let child = key(11, 1000);
    cache.on_exit(2000, &exited(child, None, 0));
    // While the dead is here, the fork tells whose child it was.
    assert_eq!(
        cache.on_fork(1000, &seen(child, Some(shell)), Some(shell)),
        Outcome::Applied
    );
    assert!(!cache.get(child).unwrap().is_alive());
    assert_eq!(cache.get(child).unwrap().parent_at_fork, Some(shell));
    // And when it is gone, it stays gone.
    cache.expire(2000 + 5 * SECOND);
    assert_eq!(cache.get(child), None);
    assert_eq!(
        cache.on_fork(1000, &seen(child, Some(shell)), Some(shell)),
        Outcome::Stale
    );
    assert_eq!(
        cache.on_exec(1001, &seen(child, Some(shell)), image(b"")),
        Outcome::Stale
    );
    assert_eq!(cache.on_exit(2000, &exited(child, None, 0)), Outcome::Stale);
    assert_eq!(
        cache.preload(&seen(child, Some(shell)), 1500),
        Outcome::Known
    );
    assert_eq!((cache.get(child), cache.alive()), (None, 2));
    cache.check().unwrap();
}

#[test]
fn late_fork_makes_no_ghost_when_its_tombstone_is_gone() {
    let mut cache = Cache::new(Settings {
        tombstones: 1,
        ..Settings::default()
    });
    for pid in 1..=3 {
        let child = key(pid, 1000);
        cache.on_fork(1000, &seen(child, None), None);
        cache.on_exit(2000 + u64::from(pid), &exited(child, None, 0));
    }
    cache.expire(100 * SECOND);
    assert_eq!(
        cache.on_fork(1000, &seen(key(1, 1000), None), None),
        Outcome::Stale
    );
    assert!(
        cache.needs_repair(),
        "what cannot be told is left to a walk"
    );
    cache.check().unwrap();
}

#[test]
fn lost_exit_is_noticed_by_the_walk() {
    let (mut cache, init, shell) = shell();
    let child = key(11, 1000);
    cache.on_fork(1000, &seen(child, Some(shell)), Some(shell));
    let repair = cache.merge(&[seen(init, None), seen(shell, Some(init))], 3000, 3100);
    assert_eq!(repair.ended, [child]);
    let exit = cache.get(child).unwrap().exit.unwrap();
    assert_eq!(
        (exit.time_ns, exit.status, exit.observed),
        (None, None, false)
    );
    // The event comes after all, and knows more.
    cache.on_exit(2500, &exited(child, Some(shell), 9));
    let exit = cache.get(child).unwrap().exit.unwrap();
    assert_eq!((exit.time_ns, exit.signal()), (Some(2500), Some(9)));
    cache.check().unwrap();
}

#[test]
fn a_process_younger_than_the_walk_outlives_it() {
    let (mut cache, init, shell) = shell();
    let child = key(11, 3050);
    cache.on_fork(3050, &seen(child, Some(shell)), Some(shell));
    let repair = cache.merge(&[seen(init, None), seen(shell, Some(init))], 3000, 3100);
    assert!(repair.is_empty());
    assert!(cache.get(child).unwrap().is_alive());
}

#[test]
fn a_walk_older_than_the_exit_revives_nobody() {
    let (mut cache, init, shell) = shell();
    let child = key(11, 1000);
    cache.on_fork(1000, &seen(child, Some(shell)), Some(shell));
    cache.on_exit(3050, &exited(child, Some(shell), 0));
    let walk = [
        seen(init, None),
        seen(shell, Some(init)),
        seen(child, Some(shell)),
    ];
    assert!(cache.merge(&walk, 3000, 3100).is_empty());
    // Nor does a later one that sees it between its exit and its end as a zombie.
    assert!(cache.merge(&walk, 4000, 4100).is_empty());
    assert!(!cache.get(child).unwrap().is_alive());
}

#[test]
fn a_wrong_conclusion_is_taken_back() {
    let (mut cache, init, shell) = shell();
    cache.merge(&[seen(init, None)], 3000, 3100);
    assert!(!cache.get(shell).unwrap().is_alive());
    let repair = cache.merge(&[seen(init, None), seen(shell, Some(init))], 4000, 4100);
    assert_eq!(repair.revived, [shell]);
    assert_eq!(cache.alive(), 2);
    cache.check().unwrap();
    // Its old place among the dead must not take it away.
    cache.expire(100 * SECOND);
    assert!(cache.get(shell).unwrap().is_alive());
    cache.check().unwrap();
}

#[test]
fn retention_is_bounded_and_never_refuses_the_living() {
    let mut cache = Cache::new(Settings {
        keep_exited_ns: None,
        keep_short_lived_ns: None,
        max_processes: 100,
        ..Settings::default()
    });
    for pid in 1..=1000 {
        let child = key(pid, u64::from(pid));
        cache.on_fork(u64::from(pid), &seen(child, None), None);
        cache.on_exit(u64::from(pid), &exited(child, None, 0));
    }
    assert_eq!(cache.len(), 100);
    assert_eq!(cache.counters().evicted(), 900);
    assert!(
        cache.get(key(1000, 1000)).is_some(),
        "the first to die go first"
    );
    for pid in 2001..=2200 {
        let child = key(pid, u64::from(pid));
        cache.on_fork(u64::from(pid), &seen(child, None), None);
    }
    assert_eq!((cache.len(), cache.alive()), (200, 200));
    cache.check().unwrap();
}

#[test]
fn bytes_are_bounded() {
    let bound = 1 << 20;
    let mut cache = Cache::new(Settings {
        keep_exited_ns: None,
        keep_short_lived_ns: None,
        max_bytes: bound,
        ..Settings::default()
    });
    for pid in 1..=10_000 {
        let child = key(pid, u64::from(pid));
        cache.on_fork(u64::from(pid), &seen(child, None), None);
        cache.on_exec(u64::from(pid), &seen(child, None), image(&[b'x'; 10_000]));
        cache.on_exit(u64::from(pid), &exited(child, None, 0));
        assert!(cache.bytes() <= bound);
    }
    cache.check().unwrap();
}

#[test]
fn parents_are_never_invented() {
    let (mut cache, init, shell) = shell();
    let child = key(11, 1000);
    cache.on_exec(1100, &seen(child, None), image(b""));
    let process = cache.get(child).unwrap();
    assert_eq!(
        (process.parent_at_fork, cache.parent(process)),
        (None, None)
    );
    assert_eq!(cache.lineage(child), None);
    // Reparenting changes the parent of now, and not the one at fork.
    let child = key(12, 2000);
    cache.on_fork(2000, &seen(child, Some(shell)), Some(shell));
    cache.on_exit(2100, &exited(shell, Some(init), 0));
    let process = cache.get(child).unwrap();
    assert_eq!(
        cache.parent(process),
        None,
        "whom the kernel chose is not known yet"
    );
    cache.on_exec(2200, &seen(child, Some(init)), image(b""));
    let process = cache.get(child).unwrap();
    assert_eq!(
        (process.parent_at_fork, cache.parent(process)),
        (Some(shell), Some(init))
    );
    assert_eq!(cache.lineage(child), Some(shell));
    cache.check().unwrap();
}

#[test]
fn clone_parent_keeps_forker_and_parent_apart() {
    let (mut cache, init, shell) = shell();
    let child = key(11, 1000);
    cache.on_fork(1000, &seen(child, Some(init)), Some(shell));
    let process = cache.get(child).unwrap();
    assert_eq!(
        (process.parent_at_fork, process.forker),
        (Some(init), Some(shell))
    );
}

#[test]
fn a_reused_pid_is_a_new_process() {
    let (mut cache, _, shell) = shell();
    let (first, second) = (key(11, 1000), key(11, 2000));
    cache.on_fork(1000, &seen(first, Some(shell)), Some(shell));
    // The exit of the first is lost: the second proves it.
    cache.on_fork(2000, &seen(second, Some(shell)), Some(shell));
    assert!(!cache.get(first).unwrap().is_alive());
    assert_eq!(cache.counters().ended, 1);
    assert_eq!(cache.by_pid(11).unwrap().key(), second);
    // A late fork of the first changes nothing, a late exit says how it ended.
    cache.on_fork(1000, &seen(first, Some(shell)), Some(shell));
    cache.on_exit(1500, &exited(first, Some(shell), 7 << 8));
    assert_eq!(cache.get(first).unwrap().exit.unwrap().code(), Some(7));
    assert!(cache.get(second).unwrap().is_alive());
    cache.check().unwrap();
    cache.on_exit(2500, &exited(second, Some(shell), 0));
    cache.expire(2000 + 6 * SECOND);
    assert_eq!(cache.by_pid(11), None);
    cache.check().unwrap();
}

#[test]
fn two_clocks_do_not_make_two_processes() {
    let exact = key(11, 123 * TICK_NS + 4567);
    let tick = Key {
        start_ns: 123 * TICK_NS,
        ..exact
    };
    let by_tick = Sighting::new(tick, Precision::Tick);

    // First the event, then /proc.
    let mut cache = Cache::default();
    cache.on_fork(exact.start_ns, &seen(exact, None), None);
    assert_eq!(cache.preload(&by_tick, exact.start_ns + 1), Outcome::Known);
    assert_eq!((cache.len(), cache.by_pid(11).unwrap().key()), (1, exact));

    // First /proc, then the event; the children follow to the better key.
    let mut cache = Cache::default();
    let child = Key {
        start_ns: 200 * TICK_NS,
        tgid: 12,
    };
    let parent = Some(tick);
    let walk = [
        Sighting {
            parent,
            ..Sighting::new(child, Precision::Tick)
        },
        by_tick,
    ];
    cache.merge(&walk, 300 * TICK_NS, 300 * TICK_NS);
    cache.on_exec(400 * TICK_NS, &seen(exact, None), image(b""));
    assert_eq!((cache.len(), cache.by_pid(11).unwrap().key()), (2, exact));
    assert_eq!(
        cache.children(exact).map(Process::pid).collect::<Vec<_>>(),
        [12]
    );
    assert_eq!(cache.parent(cache.by_pid(12).unwrap()), Some(exact));
    // And stay one under the next walk.
    assert!(cache.merge(&walk, 500 * TICK_NS, 500 * TICK_NS).is_empty());
    assert_eq!(cache.parent(cache.by_pid(12).unwrap()), Some(exact));
    cache.check().unwrap();
}

#[test]
fn start_up_neither_loses_nor_doubles() {
    // Attached at 1000, walked at 2000: events of the meantime are drained before the merge.
    let mut cache = Cache::default();
    let (init, early, late, brief) = (key(1, 5), key(20, 1500), key(21, 2500), key(22, 1200));
    cache.on_fork(1200, &seen(brief, Some(init)), Some(init));
    cache.on_fork(1500, &seen(early, Some(init)), Some(init));
    cache.on_exit(2100, &exited(brief, Some(init), 0));
    cache.on_fork(2500, &seen(late, Some(init)), Some(init));
    let walk = [
        seen(init, None),
        seen(early, Some(init)),
        seen(brief, Some(init)),
    ];
    let repair = cache.merge(&walk, 2000, 2600);
    assert_eq!(
        repair,
        Repair {
            added: vec![init],
            ..Repair::default()
        }
    );
    assert_eq!((cache.alive(), cache.len()), (3, 4));
    assert_eq!(cache.children(init).count(), 3);
    cache.check().unwrap();
}

#[test]
fn a_walk_ahead_of_a_fork_event_repairs_nothing() {
    let mut cache = Cache::default();
    let (init, early, missed) = (key(1, 5), key(20, 1900), key(21, 1800));
    cache.merge(&[seen(init, None)], 1000, 1000);
    let walk = [
        seen(init, None),
        seen(early, Some(init)),
        seen(missed, Some(init)),
    ];
    cache.merge(&walk, 2000, 2000);
    assert_eq!(cache.counters().added, 3);
    // Its task was on the list before it was told of; the other one is never told of.
    cache.on_fork(2010, &seen(early, Some(init)), Some(init));
    assert_eq!(cache.counters().added, 2);
    cache.on_fork(2010, &seen(early, Some(init)), Some(init));
    assert_eq!(cache.counters().added, 2);
    // What the first walk finds was there before anybody watched.
    cache.on_fork(2020, &seen(init, None), None);
    assert_eq!(cache.counters().added, 2);
    cache.check().unwrap();
}

#[test]
fn a_walk_ahead_of_an_exit_event_repairs_nothing() {
    let mut cache = Cache::default();
    let (init, child) = (key(1, 5), key(20, 1500));
    cache.merge(&[seen(init, None)], 1000, 1000);
    cache.on_fork(1510, &seen(child, Some(init)), Some(init));
    let dying = Sighting {
        dead: true,
        ..seen(child, Some(init))
    };
    cache.merge(&[seen(init, None), dying], 2000, 2000);
    assert_eq!(cache.counters().ended, 1);
    cache.on_exit(2010, &exited(child, Some(init), 0));
    assert_eq!(cache.counters().ended, 0);
    cache.check().unwrap();
}

#[test]
fn a_walk_does_not_judge_whom_an_event_showed_since_it_began() {
    // The start was set before the walk began, but the task was put on the list behind its back.
    let mut cache = Cache::default();
    let (init, child) = (key(1, 5), key(20, 1990));
    cache.merge(&[seen(init, None)], 1000, 1000);
    cache.on_fork(2010, &seen(child, Some(init)), Some(init));
    assert!(cache.merge(&[seen(init, None)], 2000, 2050).is_empty());
    assert_eq!(cache.alive(), 2);
    // The next walk does.
    assert_eq!(cache.merge(&[seen(init, None)], 3000, 3000).ended, [child]);
    cache.check().unwrap();
}

#[test]
fn a_leader_that_exits_first_leaves_a_living_process() {
    let (mut cache, init, shell) = shell();
    let walk = [
        seen(init, None),
        Sighting {
            leader_exited: true,
            threads: 3,
            ..seen(shell, Some(init))
        },
    ];
    assert!(cache.merge(&walk, 3000, 3000).is_empty());
    let process = cache.get(shell).unwrap();
    assert!(process.is_alive() && process.seen.leader_exited);
}

#[test]
fn a_zombie_is_dead_and_says_how() {
    let (mut cache, init, shell) = shell();
    let child = key(11, 1000);
    cache.on_fork(1000, &seen(child, Some(shell)), Some(shell));
    let walk = [
        seen(init, None),
        seen(shell, Some(init)),
        exited(child, Some(shell), 4 << 8),
    ];
    assert_eq!(cache.merge(&walk, 3000, 3000).ended, [child]);
    assert_eq!(cache.get(child).unwrap().exit.unwrap().code(), Some(4));
    // It is forgotten in time, though it is still there.
    cache.expire(3000 + 5 * SECOND);
    assert!(cache.merge(&walk, 6 * SECOND, 6 * SECOND).is_empty());
    assert_eq!(cache.get(child), None);
    cache.check().unwrap();
}

#[test]
fn a_forked_child_runs_its_forkers_program() {
    let (mut cache, _, shell) = shell();
    cache.set_image(shell, image(b"sh\0"), 300);
    let child = key(11, 1000);
    cache.on_fork(1000, &seen(child, Some(shell)), Some(shell));
    assert_eq!(
        cache.get(child).unwrap().image,
        cache.get(shell).unwrap().image
    );
    assert_eq!(cache.get(child).unwrap().execs, 0);
}

#[test]
fn losses_ask_for_a_walk() {
    let (mut cache, init, shell) = shell();
    assert!(!cache.needs_repair());
    cache.on_lost(1, 0, 2);
    assert!(cache.needs_repair());
    assert_eq!(cache.counters().lost(), 3);
    cache.begin_repair();
    cache.merge(&[seen(init, None), seen(shell, Some(init))], 3000, 3000);
    assert!(!cache.needs_repair());
}

#[test]
fn the_short_lived_go_first() {
    let mut cache = Cache::default();
    let (brief, long) = (key(1, 1), key(2, 2));
    for child in [brief, long] {
        cache.on_fork(child.start_ns, &seen(child, None), None);
    }
    cache.on_exit(SECOND, &exited(brief, None, 0));
    cache.on_exit(2 * SECOND, &exited(long, None, 0));
    cache.expire(6 * SECOND - 1);
    assert_eq!(cache.len(), 2);
    cache.expire(6 * SECOND);
    assert!(cache.get(brief).is_none() && cache.get(long).is_some());
    cache.expire(62 * SECOND);
    assert!(cache.is_empty());
    assert_eq!(
        (cache.counters().expired, cache.counters().evicted()),
        (2, 0)
    );
}

#[test]
fn a_storm_of_short_lives_does_not_drive_out_the_others() {
    let mut cache = Cache::new(Settings {
        max_processes: 100,
        ..Settings::default()
    });
    let long = key(1, 1);
    cache.on_fork(1, &seen(long, None), None);
    let start_ns = 10 * SECOND;
    cache.on_exit(start_ns, &exited(long, None, 0));
    for pid in 2..1000 {
        let child = key(pid, start_ns + u64::from(pid));
        cache.on_fork(child.start_ns, &seen(child, None), None);
        cache.on_exit(child.start_ns, &exited(child, None, 0));
    }
    assert_eq!(cache.len(), 100);
    assert!(cache.get(long).is_some(), "its time is over last");
    let counters = cache.counters();
    assert_eq!(
        (counters.evicted_by_number, counters.evicted_by_bytes),
        (899, 0)
    );
    cache.check().unwrap();
}

#[test]
fn what_is_evicted_is_counted_by_reason() {
    let mut cache = Cache::new(Settings {
        max_bytes: 1,
        ..Settings::default()
    });
    let child = key(1, 1);
    cache.on_fork(1, &seen(child, None), None);
    assert_eq!(cache.len(), 1, "the living are never refused");
    cache.on_exit(2, &exited(child, None, 0));
    let counters = cache.counters();
    assert_eq!(
        (counters.evicted_by_number, counters.evicted_by_bytes),
        (0, 1)
    );
}

#[test]
fn an_exec_by_another_thread_goes_on_as_the_leader() {
    let (mut cache, init, shell) = shell();
    let leaderless = Sighting {
        leader_exited: true,
        threads: 2,
        ..seen(shell, Some(init))
    };
    cache.merge(&[seen(init, None), leaderless], 3000, 3000);
    // The kernel gives the thread the pid and the start of the leader.
    assert_eq!(
        cache.on_exec(3500, &seen(shell, Some(init)), image(b"new\0")),
        Outcome::Applied
    );
    let process = cache.get(shell).unwrap();
    assert!(process.is_alive() && !process.seen.leader_exited);
    assert_eq!(
        (process.seen.threads, process.execs, cache.len()),
        (1, 1, 2)
    );
}

#[test]
fn one_process_is_taken_in_and_nothing_concluded_of_others() {
    let (mut cache, init, shell) = shell();
    let child = key(11, 1000);
    assert_eq!(
        cache.preload(&seen(child, Some(shell)), 2000),
        Outcome::Applied
    );
    assert_eq!(
        cache.preload(&seen(child, Some(shell)), 2001),
        Outcome::Known
    );
    assert_eq!(cache.lineage(child), Some(shell));
    assert!(cache.get(init).unwrap().is_alive());
    // It has the pid of one whose exit was lost.
    let next = key(11, 3000);
    assert_eq!(
        cache.preload(&seen(next, Some(init)), 4000),
        Outcome::Applied
    );
    assert!(!cache.get(child).unwrap().is_alive());
    assert_eq!(cache.living_at(11, 2500), Some(child));
    assert_eq!(cache.living_at(11, 3500), Some(next));
    assert_eq!(cache.living_at(11, 500), None);
    cache.check().unwrap();
}

#[test]
fn memory_stays_bounded_in_300_000_lives() {
    let settings = Settings {
        max_bytes: 4 << 20,
        tombstones: 1000,
        ..Settings::default()
    };
    let mut cache = Cache::new(settings);
    let reader = cache.reader();
    let mut most = 0;
    for life in 0..300_000_u64 {
        let child = key(2 + life as u32 % 30_000, 1 + life * 10_000);
        let parent = Some(key(1, 0));
        cache.on_fork(child.start_ns, &seen(child, parent), parent);
        cache.on_exec(
            child.start_ns + 1,
            &seen(child, parent),
            image(&[b'x'; 200]),
        );
        cache.on_exit(child.start_ns + 2, &exited(child, parent, 0));
        if life % 50 == 0 {
            cache.publish(child.start_ns);
        }
        let dead: usize = cache.dead.iter().map(VecDeque::len).sum();
        let waiting = cache.dirty.len() + cache.removed.len();
        most = most.max(cache.entries.capacity() + dead + waiting + cache.tomb_order.len());
        assert!(cache.bytes() <= settings.max_bytes);
    }
    assert!(most < 16_000, "{most} things kept");
    assert!(reader.snapshot().len() < 5000);
    let counters = cache.counters();
    assert_eq!(
        counters.expired + counters.evicted() + cache.len() as u64,
        300_000
    );
    assert_eq!(cache.children(key(1, 0)).count(), cache.len());
    cache.check().unwrap();
}

#[test]
fn a_walk_ends_nobody_whom_it_could_not_read() {
    let (mut cache, init, shell) = shell();
    let walk = [seen(init, None)];
    assert!(cache.merge_partial(&walk, &[10], 3000, 3000).is_empty());
    assert_eq!(cache.merge(&walk, 4000, 4000).ended, [shell]);
}

#[test]
fn an_exec_refutes_a_walk_and_not_an_exit() {
    let (mut cache, init, shell) = shell();
    assert_eq!(cache.merge(&[seen(init, None)], 3000, 3000).ended, [shell]);
    let exec = |cache: &mut Cache, time_ns| {
        cache.on_exec(time_ns, &seen(shell, Some(init)), image(b"a\0"))
    };
    exec(&mut cache, 2900);
    assert_eq!((cache.alive(), cache.counters().revived), (1, 0));
    exec(&mut cache, 3100);
    assert_eq!((cache.alive(), cache.counters().revived), (2, 1));
    cache.on_exit(3200, &exited(shell, Some(init), 0));
    exec(&mut cache, 3300);
    assert_eq!(cache.alive(), 1);
    cache.check().unwrap();
}

#[test]
fn a_zombie_that_is_not_even_remembered_does_not_come_back() {
    let mut cache = Cache::new(Settings {
        tombstones: 1,
        ..Settings::default()
    });
    let init = key(1, 5);
    cache.merge(&[seen(init, None)], 10, 10);
    let zombies = [key(20, 2 * SECOND), key(21, 2 * SECOND + 1)];
    for zombie in zombies {
        cache.on_exit(3 * SECOND, &exited(zombie, Some(init), 0));
    }
    cache.expire(100 * SECOND);
    let walk = [
        seen(init, None),
        exited(zombies[0], Some(init), 0),
        exited(zombies[1], Some(init), 0),
    ];
    assert!(cache.merge(&walk, 101 * SECOND, 101 * SECOND).is_empty());
    // What /proc says of the one that is remembered.
    let by_tick = Sighting {
        dead: true,
        ..Sighting::new(key(21, 2 * SECOND), Precision::Tick)
    };
    assert_eq!(cache.preload(&by_tick, 102 * SECOND), Outcome::Known);
    assert_eq!((cache.len(), cache.counters().added), (1, 1));
    cache.check().unwrap();
}

#[test]
fn a_fork_does_not_pay_for_what_it_shares() {
    let (mut cache, _, shell) = shell();
    cache.on_exec(300, &seen(shell, None), image(&[b'x'; 100_000]));
    let before = cache.bytes();
    for pid in 100..200 {
        let child = key(pid, 1000 + u64::from(pid));
        cache.on_fork(child.start_ns, &seen(child, Some(shell)), Some(shell));
    }
    assert!(cache.bytes() - before < 100_000 * 2);
    cache.check().unwrap();
}

#[test]
fn who_made_room_for_a_pid_is_told_once() {
    let (mut cache, init, shell) = shell();
    let next = key(10, 5000);
    cache.on_fork(5000, &seen(next, Some(init)), Some(init));
    assert_eq!(cache.take_displaced(), Some(shell));
    assert_eq!(cache.take_displaced(), None);
    let last = key(10, 6000);
    let repair = cache.merge(&[seen(init, None), seen(last, Some(init))], 7000, 7000);
    assert_eq!((repair.added, repair.ended), (vec![last], vec![next]));
    assert_eq!(cache.take_displaced(), None);
}
