//! The bound of a list's memory, and children that find none.

use std::collections::BTreeSet;
use std::thread;

use anyhow::{Result, ensure};
use pidlist_abi::pidset as abi;
use rustix::io::Errno;

use super::{PidMax, State, apart, has_members, joined, refused, sleeper, start};
use crate::Test;
use crate::ktap::Skip;
use crate::run::until;
use crate::sys::device::Device;
use crate::sys::stall::Stall;
use crate::sys::task::Idle;

pub const TESTS: &[(&str, Test)] = &[
    (
        "memory: a list does not grow beyond its bound",
        a_list_does_not_grow,
    ),
    (
        "memory: children beyond the bound wait, and are members",
        children_wait,
    ),
    (
        "memory: more children than can wait are found later",
        more_than_can_wait,
    ),
    (
        "memory: one that is still being made is found, too",
        one_that_is_being_made,
    ),
];

/// Processes whose pids are far apart.
fn processes(numbers: std::ops::Range<u32>) -> Result<Vec<Idle>> {
    numbers.map(|i| Ok(Idle::at(apart(i))?)).collect()
}

/// What a list takes that is not its set, at most: the bound is for the set. With a log of events it
/// takes more.
const BESIDE: u64 = 4096;

fn within_bound(list: &Device) -> Result<abi::Stats> {
    let stats = list.stats()?;
    ensure!(stats.bytes <= stats.bytes_max + BESIDE, "{stats:?}");
    Ok(stats)
}

fn a_list_does_not_grow() -> Result<()> {
    let device = start()?;
    let _pids = PidMax::set(PidMax::MOST)?;
    let idle = processes(1..41)?;
    let pids: Vec<u32> = idle.iter().map(Idle::pid).collect();
    let list = device.create_with("bounded", 0, 0, abi::BYTES_MIN)?;
    within_bound(&list)?;
    let state = State::of(&device)?;
    refused("all at once", list.add(&pids), Errno::NOSPC)?;
    let text: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
    refused("all as text", list.write(&text), Errno::NOSPC)?;
    let range = [[pids[0], pids[pids.len() - 1]]];
    refused("all in a range", list.add_ranges(&range), Errno::NOSPC)?;
    state.is_kept(&device)?;
    within_bound(&list)?;
    let mut fit = Vec::new();
    for &pid in &pids {
        match list.add(&[pid]) {
            Ok(()) => fit.push(pid),
            Err(error) => {
                refused("one more", Err::<(), _>(error), Errno::NOSPC)?;
                break;
            }
        }
        within_bound(&list)?;
    }
    println!("{} far apart fit into {} bytes", fit.len(), abi::BYTES_MIN);
    ensure!(
        fit.len() >= 2 && fit.len() < pids.len(),
        "{} fit",
        fit.len()
    );
    has_members(&list, fit.clone())?;
    let more = pids[fit.len()];
    refused(
        "one beyond, with members",
        list.add(&[fit[0], more]),
        Errno::NOSPC,
    )?;
    list.add(&fit)?;
    // Beside a member there is room.
    let beside = Idle::at(fit[0] + 1)?;
    list.add(&[beside.pid()])?;
    // What one gives back another may take.
    list.remove(&[fit[1]])?;
    list.add(&[more])?;
    list.remove(&[more])?;
    list.add(&[fit[1]])?;
    let mut expected: BTreeSet<u32> = fit.iter().copied().collect();
    expected.insert(beside.pid());
    has_members(&list, expected.clone())?;
    // Other lists have bounds of their own.
    device.add(&pids)?;
    let lower = list.set_rules(0, abi::BYTES_MIN - 1);
    refused("a bound below the least", lower, Errno::INVAL)?;
    refused("the bound is as it was", list.add(&[more]), Errno::NOSPC)?;
    list.set_rules(0, abi::BYTES_DEFAULT)?;
    list.add(&pids)?;
    expected.extend(&pids);
    has_members(&list, expected.clone())?;
    // A bound below what is in use stops growth only.
    list.set_rules(0, abi::BYTES_MIN)?;
    has_members(&list, expected.clone())?;
    let another = Idle::at(apart(50))?;
    refused("growth", list.add(&[another.pid()]), Errno::NOSPC)?;
    list.add(&pids)?;
    has_members(&list, expected)?;
    list.clear()?;
    list.add(&[another.pid()])?;
    has_members(&list, [another.pid()])
}

/// A list that follows us, full up to its bound, and the children that filled it.
fn full_list(device: &Device) -> Result<(Device, Vec<Idle>)> {
    let list = device.create_with("bounded", 0, abi::RULE_FOLLOW, abi::BYTES_MIN)?;
    list.add(&[std::process::id()])?;
    let mut children = Vec::new();
    for i in 1..60 {
        children.push(Idle::at(apart(i))?);
    }
    Ok((list, children))
}

fn children_wait() -> Result<()> {
    let device = start()?;
    let _pids = PidMax::set(PidMax::MOST)?;
    let list = device.create_with("bounded", 0, abi::RULE_FOLLOW, abi::BYTES_MIN)?;
    let events = list.events(0)?.nonblocking()?;
    list.add(&[std::process::id()])?;
    let mut children = processes(1..60)?;
    let everyone = |children: &[Idle]| -> BTreeSet<u32> {
        let us = [std::process::id()];
        children.iter().map(Idle::pid).chain(us).collect()
    };
    let stats = list.stats()?;
    ensure!(
        stats.waiting > 0 && stats.failed >= stats.waiting && stats.members == 60,
        "{stats:?}"
    );
    has_members(&list, everyone(&children))?;
    for child in &children {
        ensure!(list.has(child.pid())?, "{} does not wait", child.pid());
    }
    let lines = list.read()?.lines().count();
    ensure!(lines == 60, "{lines} lines");
    // They leave, are removed, and are added like others, as far as there is room.
    children.pop();
    until("the last one has left", || {
        Ok(list.members()? == everyone(&children))
    })?;
    let removed = children.remove(50);
    list.remove(&[removed.pid()])?;
    has_members(&list, everyone(&children))?;
    let waiting = children[children.len() - 1].pid();
    refused(
        "one who waits",
        list.add(&[waiting, removed.pid()]),
        Errno::NOSPC,
    )?;
    has_members(&list, everyone(&children))?;
    list.set_rules(abi::RULE_FOLLOW, abi::BYTES_DEFAULT)?;
    until("nobody waits", || Ok(list.stats()?.waiting == 0))?;
    let stats = list.stats()?;
    ensure!(stats.repaired > 0, "{stats:?}");
    has_members(&list, everyone(&children))?;
    // The events told of each at once, and of none twice.
    let told = events.ready()?;
    let forked: Vec<u32> = told
        .iter()
        .filter(|event| event.kind == abi::EVENT_FORKED)
        .map(|event| event.pid)
        .collect();
    let expected: Vec<u32> = (1..60).map(apart).collect();
    ensure!(forked == expected, "{forked:?}");
    let left: Vec<_> = told[60..]
        .iter()
        .map(|event| (event.kind, event.pid))
        .collect();
    let expected = [
        (abi::EVENT_FREED, apart(59)),
        (abi::EVENT_REMOVED, removed.pid()),
    ];
    ensure!(left == expected, "{left:?}");
    drop(children);
    until("all children have left", || {
        Ok(list.members()? == [std::process::id()].into())
    })
}

fn more_than_can_wait() -> Result<()> {
    let device = start()?;
    let _pids = PidMax::set(PidMax::MOST)?;
    let (list, mut children) = full_list(&device)?;
    let before = list.stats()?;
    ensure!(before.waiting > 0, "{before:?}");
    for i in 0..1500 {
        children.push(Idle::at(apart(200) + i)?);
    }
    let stats = within_bound(&list)?;
    println!("{} wait, {} failed", stats.waiting, stats.failed);
    ensure!(stats.failed - before.failed >= 1500, "{stats:?}");
    list.set_rules(abi::RULE_FOLLOW, abi::BYTES_DEFAULT)?;
    let expected: BTreeSet<u32> = children
        .iter()
        .map(Idle::pid)
        .chain([std::process::id()])
        .collect();
    until("all children are members", || {
        Ok(list.members()? == expected)
    })?;
    let stats = within_bound(&list)?;
    ensure!(
        stats.waiting == 0
            && stats.overflowed > 0
            && stats.failed == stats.repaired + stats.overflowed
            && stats.found == stats.overflowed
            && stats.followed == 59 + 1500,
        "{stats:?}"
    );
    drop(children);
    until("all children have left", || {
        Ok(list.members()? == [std::process::id()].into())
    })
}

fn one_that_is_being_made() -> Result<()> {
    let device = start()?;
    let stall = match Stall::new() {
        Err(Errno::NOSYS) => return Err(Skip("this kernel has no userfaultfd").into()),
        stall => stall?,
    };
    let _pids = PidMax::set(PidMax::MOST)?;
    let (list, mut children) = full_list(&device)?;
    let mut number = apart(200);
    while list.stats()?.overflowed == 0 {
        children.push(Idle::at(number)?);
        number += 1;
    }
    thread::scope(|scope| {
        let (_, maker) = sleeper(scope, || Idle::stalled(number, &stall))?;
        let meanwhile = (|| {
            until("it has no place to wait in", || {
                Ok(list.stats()?.overflowed == 2)
            })?;
            list.set_rules(abi::RULE_FOLLOW, abi::BYTES_DEFAULT)?;
            until("the other one is found", || Ok(list.stats()?.found == 1))?;
            ensure!(!list.has(number)?, "it was found before it was made");
            Ok(())
        })();
        stall.release()?;
        children.push(joined(maker)??);
        meanwhile?;
        until("it is found", || list.has(number).map_err(Into::into))
    })?;
    let stats = list.stats()?;
    ensure!(
        stats.failed == stats.repaired + stats.overflowed && stats.found == 2,
        "{stats:?}"
    );
    drop(children);
    until("all children have left", || {
        Ok(list.members()? == [std::process::id()].into())
    })
}
