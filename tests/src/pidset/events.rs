//! A list's changes, as its readers learn of them.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use pidlist_abi::pidset as abi;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;

use super::mirror::Mirror;
use super::{has_members, joined, refused, sleeper, start, start_following};
use crate::Test;
use crate::helper::Helper;
use crate::run::until;
use crate::sys;
use crate::sys::device::{Device, Events};
use crate::sys::task::{Idle, interrupt, let_signals_interrupt};

pub const TESTS: &[(&str, Test)] = &[
    ("events: each change is one, in order", each_change_is_one),
    ("events: what changes nothing is none", no_change_is_none),
    ("events: reads give whole ones", reads_give_whole_ones),
    (
        "events: a reader waits, or is told that there are none",
        a_reader_waits,
    ),
    ("events: a signal ends the wait", a_signal_ends_the_wait),
    ("events: poll and epoll tell of them", poll_and_epoll),
    (
        "events: a list that is removed ends its readers",
        a_removed_list_ends_readers,
    ),
    (
        "events: who comes back reads on where he was",
        who_comes_back_reads_on,
    ),
    (
        "events: who never reads is told how many he missed",
        who_never_reads,
    ),
    (
        "events: each reader has its own place",
        each_reader_has_its_place,
    ),
    (
        "events: readers of one descriptor share them",
        readers_share_a_descriptor,
    ),
    (
        "events: a mirror equals its list in a storm",
        a_mirror_in_a_storm,
    ),
    (
        "events: a mirror that lost some is repaired by a snapshot",
        a_mirror_is_repaired,
    ),
];

fn kinds(events: &[abi::Event]) -> Vec<(u32, u32)> {
    events.iter().map(|event| (event.kind, event.pid)).collect()
}

fn each_change_is_one() -> Result<()> {
    let device = start_following()?;
    let events = device.events(0)?.nonblocking()?;
    let mut family = Helper::start(&["serve"])?;
    family.line()?;
    let us = family.pid();
    device.add(&[us])?;
    let child = family.order_number("idle")?;
    device.remove(&[us])?;
    device.write(&format!("{us} !{us} {us}\n"))?;
    family.order("end")??;
    until("the child has left", || Ok(!device.has(child)?))?;
    device.clear()?;
    device.add_trees(&[us])?;
    device.add_ranges(&[[us, us]])?;
    device.remove_trees(&[us])?;
    let told = events.ready()?;
    let expected = [
        (abi::EVENT_ADDED, us),
        (abi::EVENT_FORKED, child),
        (abi::EVENT_REMOVED, us),
        (abi::EVENT_ADDED, us),
        (abi::EVENT_REMOVED, us),
        (abi::EVENT_ADDED, us),
        (abi::EVENT_FREED, child),
        (abi::EVENT_CLEARED, 0),
        (abi::EVENT_ADDED, us),
        (abi::EVENT_REMOVED, us),
    ];
    ensure!(kinds(&told) == expected, "{told:#?}, not {expected:?}");
    ensure!(
        told.iter().all(|e| e.lost == 0 && e.id == e.pid),
        "{told:#?}"
    );
    ensure!(told.is_sorted_by(|a, b| b.seq == a.seq + 1), "{told:#?}");
    ensure!(told.is_sorted_by_key(|e| e.time_ns), "{told:#?}");
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs();
    let first = told[0].time_ns;
    ensure!(
        first <= now && now - first < 3600 * 1_000_000_000,
        "it is {now} now, the first was at {first}"
    );
    let stats = device.stats()?;
    ensure!(
        stats.events == told[told.len() - 1].seq
            && stats.events_lost == 0
            && stats.event_readers == 1,
        "{stats:?}"
    );
    drop(events);
    ensure!(device.stats()?.event_readers == 0);
    Ok(())
}

fn no_change_is_none() -> Result<()> {
    let device = start_following()?;
    let (a, b) = (Idle::new()?, Idle::new()?);
    let list = device.create("other", 0)?;
    device.add(&[a.pid()])?;
    let events = device.events(0)?.nonblocking()?;
    device.add(&[a.pid(), a.pid()])?;
    device.write(&format!("{}\n", a.pid()))?;
    device.remove(&[b.pid()])?;
    device.remove_ranges(&[[b.pid(), b.pid()]])?;
    refused(
        "a gone pid",
        device.add(&[b.pid(), super::gone()?]),
        Errno::SRCH,
    )?;
    device.set_rules(0, 0)?;
    list.add(&[b.pid()])?;
    drop(b);
    until("the other has left", || Ok(list.members()?.is_empty()))?;
    let told = events.ready()?;
    ensure!(told.is_empty(), "{told:?}");
    Ok(())
}

const EVENT: usize = size_of::<abi::Event>();

fn reads_give_whole_ones() -> Result<()> {
    let device = start()?;
    let idle = Idle::several(5)?;
    let pids: Vec<u32> = idle.iter().map(Idle::pid).collect();
    let events = device.events(0)?.nonblocking()?;
    device.add(&pids)?;
    let read = |len: usize| rustix::io::read(&events, &mut vec![0; len]);
    for len in [0, 1, EVENT - 1] {
        refused(&format!("a read of {len}"), read(len), Errno::INVAL)?;
    }
    for len in [EVENT, 2 * EVENT - 1] {
        let count = read(len)?;
        ensure!(count == EVENT, "a read of {len} gave {count}");
    }
    let rest = events.read(100)?;
    let rest: Vec<u32> = rest.iter().map(|event| event.pid).collect();
    ensure!(rest == pids[2..], "{rest:?} after two of {pids:?}");
    refused("one more", read(EVENT), Errno::AGAIN)?;
    // Also where there is nothing to read.
    refused("a short read", read(EVENT - 1), Errno::INVAL)
}

fn a_reader_waits() -> Result<()> {
    let device = start()?;
    let process = Idle::new()?;
    let events = device.events(0)?;
    thread::scope(|scope| {
        let (_, reader) = sleeper(scope, || events.read(8))?;
        ensure!(
            !reader.is_finished(),
            "it did not wait: {:?}",
            joined(reader)
        );
        device.add(&[process.pid()])?;
        let told = joined(reader)??;
        ensure!(
            kinds(&told) == [(abi::EVENT_ADDED, process.pid())],
            "{told:?}"
        );
        Ok(())
    })?;
    let events = events.nonblocking()?;
    refused("nothing to read", events.read(1), Errno::AGAIN)
}

fn a_signal_ends_the_wait() -> Result<()> {
    let device = start()?;
    let_signals_interrupt()?;
    let process = Idle::new()?;
    let events = device.events(0)?;
    thread::scope(|scope| {
        let (tid, reader) = sleeper(scope, || events.read(8))?;
        // The thread may be on its way to sleep yet.
        until("the signal has ended the wait", || {
            if !reader.is_finished() {
                interrupt(tid)?;
            }
            Ok(reader.is_finished())
        })?;
        refused("the read", joined(reader)?, Errno::INTR)
    })?;
    device.add(&[process.pid()])?;
    let told = events.read(8)?;
    ensure!(told.len() == 1 && told[0].lost == 0, "{told:?}");
    Ok(())
}

/// What poll says of a descriptor at this moment.
fn polled(events: &Events) -> sys::Result<PollFlags> {
    let mut fds = [PollFd::new(events, PollFlags::IN | PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec::default()))?;
    Ok(fds[0].revents())
}

fn poll_and_epoll() -> Result<()> {
    let device = start()?;
    let (a, b) = (Idle::new()?, Idle::new()?);
    let list = device.create("polled", 0)?;
    let events = list.events(0)?;
    let none = PollFlags::empty();
    let is = |expected: PollFlags| -> Result<()> {
        let polled = polled(&events)?;
        ensure!(polled == expected, "poll says {polled:?}, not {expected:?}");
        Ok(())
    };
    is(none)?;
    device.add(&[a.pid()])?;
    is(none)?;
    list.add(&[a.pid(), b.pid()])?;
    is(PollFlags::IN)?;
    events.read(1)?;
    is(PollFlags::IN)?;
    events.read(1)?;
    is(none)?;
    // By level, by edge; and both wake one who waits.
    for flags in [
        epoll::EventFlags::IN,
        epoll::EventFlags::IN | epoll::EventFlags::ET,
    ] {
        let by_edge = flags.contains(epoll::EventFlags::ET);
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&set, &events, epoll::EventData::new_u64(7), flags)?;
        let ready = |wait: bool| -> sys::Result<usize> {
            let mut buffer = Vec::with_capacity(8);
            let timeout = (!wait).then(Timespec::default);
            epoll::wait(
                &set,
                rustix::buffer::spare_capacity(&mut buffer),
                timeout.as_ref(),
            )
        };
        ensure!(ready(false)? == 0, "there is nothing yet");
        thread::scope(|scope| {
            let (_, waiter) = sleeper(scope, || ready(true))?;
            ensure!(!waiter.is_finished(), "it did not wait");
            list.remove(&[a.pid()])?;
            let count = joined(waiter)??;
            ensure!(count == 1, "{count} descriptors are ready");
            Ok(())
        })?;
        ensure!(
            ready(false)? == usize::from(!by_edge),
            "the same event, again"
        );
        list.add(&[a.pid()])?;
        ensure!(ready(false)? == 1, "another event");
        events.read(8)?;
        ensure!(ready(false)? == 0, "all is read");
    }
    // Members that leave by themselves wake a waiter, too.
    thread::scope(|scope| {
        let (_, waiter) = sleeper(scope, || {
            let mut fds = [PollFd::new(&events, PollFlags::IN)];
            poll(&mut fds, None)?;
            Ok::<_, Errno>(fds[0].revents())
        })?;
        drop(b);
        let polled = joined(waiter)??;
        ensure!(polled == PollFlags::IN, "{polled:?}");
        Ok(())
    })?;
    events.read(1)?;
    device.delete("polled")?;
    is(PollFlags::IN | PollFlags::HUP)
}

fn a_removed_list_ends_readers() -> Result<()> {
    let device = start()?;
    let process = Idle::new()?;
    let list = device.create("brief", 0)?;
    let (late, early) = (list.events(0)?, list.events(0)?);
    thread::scope(|scope| {
        list.add(&[process.pid()])?;
        early.read(8)?;
        let (_, reader) = sleeper(scope, || early.read(8))?;
        let (_, poller) = sleeper(scope, || {
            let mut fds = [PollFd::new(&early, PollFlags::IN)];
            poll(&mut fds, None)?;
            Ok::<_, Errno>(fds[0].revents())
        })?;
        ensure!(
            !reader.is_finished() && !poller.is_finished(),
            "they did not wait"
        );
        device.delete("brief")?;
        let told = joined(reader)??;
        ensure!(told.is_empty(), "the one who waited got {told:?}");
        let polled = joined(poller)??;
        ensure!(
            polled.contains(PollFlags::HUP),
            "the one who polled got {polled:?}"
        );
        Ok(())
    })?;
    // What is left, then nothing, again and again.
    let told = late.read(8)?;
    ensure!(
        kinds(&told) == [(abi::EVENT_ADDED, process.pid())],
        "{told:?}"
    );
    for events in [&late, &early, &late] {
        ensure!(events.read(8)?.is_empty());
        let polled = polled(events)?;
        ensure!(polled == PollFlags::IN | PollFlags::HUP, "{polled:?}");
    }
    // The new list of that name has its own.
    let list = device.create("brief", 0)?;
    let events = list.events(0)?.nonblocking()?;
    list.add(&[process.pid()])?;
    ensure!(events.ready()?.len() == 1 && late.read(8)?.is_empty());
    Ok(())
}

fn who_comes_back_reads_on() -> Result<()> {
    let device = start()?;
    let idle = Idle::several(4)?;
    let pids: Vec<u32> = idle.iter().map(Idle::pid).collect();
    let events = device.events(0)?.nonblocking()?;
    device.add(&pids[..2])?;
    let last = events.ready()?[1].seq;
    drop(events);
    // Nobody reads now.
    device.add(&pids[2..])?;
    let events = device.events(last + 1)?.nonblocking()?;
    let told = events.ready()?;
    ensure!(
        kinds(&told) == [(abi::EVENT_ADDED, pids[2]), (abi::EVENT_ADDED, pids[3])]
            && told[0].seq == last + 1
            && told[0].lost == 0,
        "after {last}: {told:?}"
    );
    // From the middle, from what has not come about yet, and from now on.
    let again = device.events(last)?.nonblocking()?.ready()?;
    ensure!(
        again.len() == 3 && again[0].pid == pids[1] && again[0].lost == 0,
        "{again:?}"
    );
    let now = device.events(0)?.nonblocking()?;
    let next = device.events(last + 3)?.nonblocking()?;
    ensure!(now.ready()?.is_empty() && next.ready()?.is_empty());
    device.remove(&pids[..1])?;
    for events in [events, now, next] {
        let told = events.ready()?;
        ensure!(
            kinds(&told) == [(abi::EVENT_REMOVED, pids[0])]
                && told[0].seq == last + 3
                && told[0].lost == 0,
            "{told:?}"
        );
    }
    Ok(())
}

/// Makes `count` events, an even number, that leave the list as it was.
fn make_events(list: &Device, process: &Idle, count: u64) -> Result<()> {
    ensure!(!list.has(process.pid())? && count.is_multiple_of(2));
    let pair = format!("{0} !{0}\n", process.pid());
    let mut left = count / 2;
    while left > 0 {
        let pairs = left.min(u64::from(abi::BATCH_MAX) / 2);
        list.write(&pair.repeat(pairs as usize))?;
        left -= pairs;
    }
    Ok(())
}

fn who_never_reads() -> Result<()> {
    let device = start()?;
    let process = Idle::new()?;
    let sleepy = device.events(0)?.nonblocking()?;
    let first = device.stats()?.events + 1;
    // All that are kept: nothing is missed.
    make_events(&device, &process, abi::EVENTS_KEPT)?;
    let told = device.events(first)?.nonblocking()?.ready()?;
    ensure!(
        told.len() as u64 == abi::EVENTS_KEPT && told[0].seq == first && told[0].lost == 0,
        "{} were kept, the first {:?}",
        told.len(),
        told.first()
    );
    let lost_before = device.stats()?.events_lost;
    make_events(&device, &process, 4000)?;
    make_events(&device, &process, 100_000)?;
    let told = sleepy.ready()?;
    ensure!(
        told.len() as u64 == abi::EVENTS_KEPT
            && u64::from(told[0].lost) == 104_000
            && told[0].seq == first + 104_000,
        "{} were kept, the first {:?}",
        told.len(),
        told.first()
    );
    ensure!(told[1..].iter().all(|event| event.lost == 0));
    ensure!(told.is_sorted_by(|a, b| b.seq == a.seq + 1));
    let stats = device.stats()?;
    ensure!(
        stats.events == first + abi::EVENTS_KEPT + 104_000 - 1
            && stats.events_lost - lost_before == 104_000,
        "{stats:?}"
    );
    // Who comes back too late is told likewise.
    let told = device.events(first)?.nonblocking()?.read(1)?;
    ensure!(u64::from(told[0].lost) == 104_000, "{told:?}");
    has_members(&device, [])
}

fn each_reader_has_its_place() -> Result<()> {
    let device = start()?;
    let idle = Idle::several(20)?;
    let quick = device.events(0)?.nonblocking()?;
    let slow = device.events(0)?.nonblocking()?;
    let mut quick_told = Vec::new();
    for process in &idle {
        device.add(&[process.pid()])?;
        quick_told.extend(quick.ready()?);
    }
    ensure!(device.stats()?.event_readers == 2);
    let slow_told = slow.ready()?;
    ensure!(quick_told == slow_told && slow_told.len() == idle.len());
    // Copies of one descriptor share their place.
    let copy = Events(slow.0.try_clone()?);
    device.remove(&[idle[0].pid(), idle[1].pid()])?;
    ensure!(copy.read(1)?[0].pid == idle[0].pid() && slow.read(1)?[0].pid == idle[1].pid());
    ensure!(slow.ready()?.is_empty() && quick.ready()?.len() == 2);
    Ok(())
}

fn readers_share_a_descriptor() -> Result<()> {
    const EVENTS: u64 = 4000;
    let device = start()?;
    let process = Idle::new()?;
    let list = device.create("shared", 0)?;
    let events = list.events(0)?;
    let mut seen = thread::scope(|scope| {
        let readers: Vec<_> = (1..5)
            .map(|room| {
                let events = &events;
                scope.spawn(move || {
                    let mut seen = Vec::new();
                    loop {
                        let told = events.read(room)?;
                        if told.is_empty() {
                            return Ok::<_, Errno>(seen);
                        }
                        seen.extend(told.iter().map(|event| (event.seq, event.lost)));
                    }
                })
            })
            .collect();
        let made = (0..EVENTS / 100).try_for_each(|_| make_events(&list, &process, 100));
        // The readers wait for this.
        device.delete("shared")?;
        made?;
        let mut all = Vec::new();
        for reader in readers {
            all.extend(joined(reader)??);
        }
        anyhow::Ok(all)
    })?;
    seen.sort_unstable();
    let expected = (1..=EVENTS).map(|seq| (seq, 0));
    ensure!(
        seen.iter().copied().eq(expected),
        "{} were seen: {seen:?}",
        seen.len()
    );
    Ok(())
}

fn a_mirror_in_a_storm() -> Result<()> {
    let device = start_following()?;
    let before = device.stats()?;
    let mut storms = [
        Helper::start(&["forks", "800"])?,
        Helper::start(&["forks", "400", "families"])?,
    ];
    for storm in &mut storms {
        storm.line()?;
    }
    let mut mirror = Mirror::new(&device)?;
    device.add(&[storms[0].pid(), storms[1].pid()])?;
    for storm in &mut storms {
        storm.tell("go")?;
    }
    let (mut compared, mut seen) = (0, 0);
    loop {
        let stats = device.stats()?;
        if stats.followed - before.followed == 800 + 2 * 400 {
            break;
        }
        if stats.events - seen > 100 {
            seen = stats.events;
            mirror.equals(&device)?;
            compared += 1;
        } else {
            // An emulated machine has something better to do than to ask again and again.
            thread::sleep(Duration::from_millis(5));
        }
    }
    for mut storm in storms {
        storm.line()?;
        storm.finish()?;
    }
    until("all have left", || Ok(device.members()?.is_empty()))?;
    mirror.equals(&device)?;
    println!("compared {compared} times in a storm");
    ensure!(compared > 3, "it was compared {compared} times only");
    // Each of them came and went: nobody was told twice, nobody forgotten.
    let expected = 2 * (800 + 2 * 400 + 2);
    ensure!(
        mirror.applied == expected,
        "{} events, not {expected}",
        mirror.applied
    );
    Ok(())
}

fn a_mirror_is_repaired() -> Result<()> {
    let device = start_following()?;
    let process = Idle::new()?;
    let mut storm = Helper::start(&["forks", "0"])?;
    storm.line()?;
    device.add(&[storm.pid()])?;
    let mut mirror = Mirror::new(&device)?;
    storm.tell("go")?;
    mirror.equals(&device)?;
    // The client sleeps.
    make_events(&device, &process, 4 * abi::EVENTS_KEPT)?;
    let lost = mirror.repair(&device)?;
    ensure!(lost > 0, "nothing was lost");
    for _ in 0..5 {
        mirror.equals(&device)?;
    }
    storm.kill()?;
    until("all have left", || Ok(device.members()?.is_empty()))?;
    mirror.equals(&device)
}
