//! Lists of threads.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use pidlist_abi::pidset as abi;
use rustix::io::Errno;

use super::{State, has_members, refused, start};
use crate::Test;
use crate::helper::Helper;
use crate::ktap::Skip;
use crate::proc;
use crate::run::until;
use crate::sys::device::{Device, Events};
use crate::sys::task::Poller;

pub const TESTS: &[(&str, Test)] = &[
    ("threads: each is a member by itself", each_is_a_member),
    (
        "threads: those that a member makes join",
        those_that_a_member_makes,
    ),
    (
        "threads: those that the kernel makes for a member join",
        those_that_the_kernel_makes,
    ),
    (
        "threads: a tree is all threads of all its processes",
        a_tree_has_all_threads,
    ),
    ("threads: ranges and text mean threads", ranges_mean_threads),
    (
        "threads: a first thread that has ended stays until it is freed",
        a_first_thread_that_has_ended,
    ),
    (
        "threads: an exec moves the membership to the new number",
        an_exec_moves_the_membership,
    ),
    (
        "threads: an exec by a thread leaves a list of processes alone",
        an_exec_leaves_processes_alone,
    ),
    (
        "threads: the union shows them by their numbers",
        the_union_shows_them,
    ),
];

/// A process with so many threads beside its first, and their numbers, that of the first in front.
fn process(count: usize) -> Result<(Helper, Vec<u32>)> {
    let mut helper = Helper::start(&["threads", &count.to_string()])?;
    let mut tids = vec![helper.pid()];
    for _ in 0..count {
        tids.push(helper.number()?);
    }
    Ok((helper, tids))
}

/// Tells a helper to do something that makes a task; returns its number.
fn make(helper: &mut Helper, order: &str) -> Result<u32> {
    let answer = helper.ask(order)?;
    answer
        .parse()
        .with_context(|| format!("{order}: {answer:?}"))
}

fn list(device: &Device, rules: u32) -> Result<Device> {
    Ok(device.create("threads", abi::RULE_THREADS | rules)?)
}

fn each_is_a_member() -> Result<()> {
    let device = start()?;
    let list = list(&device, 0)?;
    let (mut helper, tids) = process(3)?;
    let state = State::of(&device)?;
    // In a list of processes there is nobody of these numbers.
    refused("a thread as a process", device.add(&[tids[1]]), Errno::SRCH)?;
    let both = [tids[0], tids[1]];
    refused("a thread among processes", device.add(&both), Errno::SRCH)?;
    state.is_kept(&device)?;
    list.add(&[tids[0], tids[2]])?;
    has_members(&list, [tids[0], tids[2]])?;
    for (i, &tid) in tids.iter().enumerate() {
        ensure!(list.has(tid)? == (i == 0 || i == 2), "HAS of thread {i}");
    }
    list.remove(&[tids[0]])?;
    list.add(&[tids[3]])?;
    has_members(&list, [tids[2], tids[3]])?;
    has_members(&device, [])?;
    // One that ends leaves; the process goes on.
    helper.ask("end 2").ok();
    until("the thread has left", || {
        Ok(list.members()? == [tids[3]].into())
    })?;
    refused("a thread that is gone", list.add(&[tids[2]]), Errno::SRCH)?;
    helper.kill()?;
    until("the last one has left", || Ok(list.members()?.is_empty()))
}

fn those_that_the_kernel_makes() -> Result<()> {
    let device = start()?;
    let list = list(&device, abi::RULE_FOLLOW)?;
    let us = std::process::id();
    // The tests run in the first thread, which is the one that asks for another.
    list.add(&[us])?;
    let before = proc::threads(us)?;
    let poller = match Poller::new() {
        Err(Errno::NOSYS) => return Err(Skip("this kernel has no io_uring").into()),
        poller => poller?,
    };
    let now = proc::threads(us)?;
    let made: Vec<u32> = now.difference(&before).copied().collect();
    ensure!(made.len() == 1, "{before:?}, {now:?}");
    has_members(&list, [us, made[0]])?;
    drop(poller);
    until("the thread has left", || Ok(list.members()? == [us].into()))
}

fn those_that_a_member_makes() -> Result<()> {
    let device = start()?;
    let list = list(&device, abi::RULE_FOLLOW)?;
    let events = list.events(0)?.nonblocking()?;
    let (mut helper, tids) = process(2)?;
    list.add(&[tids[1]])?;
    let thread = make(&mut helper, "spawn 1")?;
    let others = make(&mut helper, "spawn 2")?;
    has_members(&list, [tids[1], thread])?;
    let child = make(&mut helper, "fork 1")?;
    make(&mut helper, "fork 2")?;
    make(&mut helper, "fork 0")?;
    has_members(&list, [tids[1], thread, child])?;
    let grandchild = make(&mut helper, "spawn 3")?;
    has_members(&list, [tids[1], thread, child, grandchild])?;
    list.set_rules(abi::RULE_THREADS, 0)?;
    make(&mut helper, "spawn 1")?;
    has_members(&list, [tids[1], thread, child, grandchild])?;
    let told: Vec<_> = events
        .ready()?
        .iter()
        .map(|e| (e.kind, e.pid, e.id))
        .collect();
    let expected = [
        (abi::EVENT_ADDED, tids[1], tids[1]),
        (abi::EVENT_FORKED, thread, thread),
        (abi::EVENT_FORKED, child, child),
        (abi::EVENT_FORKED, grandchild, grandchild),
    ];
    ensure!(told == expected, "{told:?}, not {expected:?}");
    ensure!(!list.has(others)?);
    helper.kill()?;
    until("all have left", || Ok(list.members()?.is_empty()))
}

fn a_tree_has_all_threads() -> Result<()> {
    let device = start()?;
    let list = list(&device, 0)?;
    let (mut helper, mut tids) = process(40)?;
    let child = make(&mut helper, "fork 3")?;
    let (_other, others) = process(2)?;
    list.add(&[others[1]])?;
    list.add_trees(&[helper.pid()])?;
    tids.extend([child, others[1]]);
    has_members(&list, tids.clone())?;
    // A thread stands for itself: it has no descendants but its process's.
    list.remove_trees(&[helper.pid()])?;
    has_members(&list, [others[1]])
}

fn ranges_mean_threads() -> Result<()> {
    let device = start()?;
    let list = list(&device, 0)?;
    let (_helper, tids) = process(5)?;
    let (first, last) = (
        *tids.iter().min().context("none")?,
        *tids.iter().max().context("none")?,
    );
    list.add_ranges(&[[first, last]])?;
    let members = list.members()?;
    ensure!(
        members.is_superset(&tids.iter().copied().collect()),
        "{members:?}"
    );
    ensure!(members.range(..first).next().is_none() && members.range(last + 1..).next().is_none());
    list.clear()?;
    list.write(&format!("{}-{last} !{}\n", first, tids[2]))?;
    let expected: BTreeSet<u32> = members.into_iter().filter(|&tid| tid != tids[2]).collect();
    let now = list.members()?;
    let ours: Vec<u32> = tids.iter().copied().filter(|tid| *tid != tids[2]).collect();
    ensure!(
        ours.iter().all(|tid| now.contains(tid)) && !now.contains(&tids[2]),
        "{now:?}"
    );
    ensure!(expected.is_superset(&ours.into_iter().collect()));
    let lines: BTreeSet<u32> = list
        .read()?
        .lines()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    ensure!(lines == list.members()?);
    // In the same range, a list of processes has only one of them.
    device.add_ranges(&[[first, last]])?;
    let processes = device.members()?;
    ensure!(
        tids.iter()
            .filter(|tid| processes.contains(tid))
            .eq([&tids[0]]),
        "{processes:?}"
    );
    Ok(())
}

fn a_first_thread_that_has_ended() -> Result<()> {
    let device = start()?;
    let list = list(&device, abi::RULE_FOLLOW)?;
    let mut process = Helper::start(&["leader-exits"])?;
    let pid = process.pid();
    list.add(&[pid])?;
    process.tell("go")?;
    let second = process.number()?;
    until("the first thread is a zombie", || {
        Ok(proc::state(pid) == Some('Z'))
    })?;
    // It was a member when it made the second thread, or it was not: only itself was added.
    ensure!(
        list.members()?.contains(&pid),
        "a zombie is a member until it is reaped"
    );
    list.add(&[pid, second])?;
    has_members(&list, [pid, second])?;
    process.tell("fork")?;
    let child = process.number()?;
    has_members(&list, [pid, second, child])?;
    process.kill()?;
    until("all have left", || Ok(list.members()?.is_empty()))
}

/// Runs a process of which a second thread, a member or not, executes a program.
fn exec(
    list: &Device,
    first_is_in: bool,
    second_is_in: bool,
) -> Result<(u32, u32, Events, Helper)> {
    list.clear()?;
    let mut process = Helper::start(&["exec-from-thread"])?;
    let (first, second) = (process.pid(), process.number()?);
    let ins = [(first, first_is_in), (second, second_is_in)];
    let ins: Vec<u32> = ins
        .into_iter()
        .filter_map(|(tid, is_in)| is_in.then_some(tid))
        .collect();
    list.add(&ins)?;
    let events = list.events(0)?.nonblocking()?;
    process.tell("exec")?;
    let line = process.line()?;
    ensure!(line == "ready", "the program said {line:?}");
    ensure!(
        proc::threads(first)? == [first].into(),
        "it has one thread now"
    );
    Ok((first, second, events, process))
}

fn an_exec_moves_the_membership() -> Result<()> {
    let device = start()?;
    let list = list(&device, abi::RULE_FOLLOW)?;
    for (first_is_in, second_is_in) in [(false, true), (true, true), (true, false), (false, false)]
    {
        let what = format!("first {first_is_in}, second {second_is_in}");
        let left_before = list.stats()?.left;
        let (first, second, events, mut process) = exec(&list, first_is_in, second_is_in)?;
        // It is the second thread that goes on, under the first one's number.
        let expected = if second_is_in { vec![first] } else { vec![] };
        until(&format!("{what}: the members are {expected:?}"), || {
            Ok(list.sequence()? == expected)
        })?;
        let told = events.ready()?;
        let kinds: Vec<_> = told.iter().map(|e| (e.kind, e.id)).collect();
        let renumbered = kinds
            .iter()
            .filter(|(kind, _)| *kind == abi::EVENT_RENUMBERED)
            .count();
        ensure!(renumbered == usize::from(second_is_in), "{what}: {kinds:?}");
        if let Some(at) = kinds
            .iter()
            .position(|(kind, _)| *kind == abi::EVENT_RENUMBERED)
        {
            ensure!(kinds[at].1 == first, "{what}: {kinds:?}");
            ensure!(
                at > 0 && kinds[at - 1].1 == second,
                "its old number has not left just before: {what}: {kinds:?}"
            );
        }
        // Whoever applies the events to what was there knows what is there.
        let mut mirror = BTreeSet::new();
        mirror.extend(first_is_in.then_some(first));
        mirror.extend(second_is_in.then_some(second));
        for event in &told {
            match event.kind {
                // Its first thread may have been a member, which is no more without an event.
                abi::EVENT_RENUMBERED => drop(mirror.insert(event.id)),
                abi::EVENT_ADDED | abi::EVENT_FORKED => {
                    ensure!(mirror.insert(event.id), "{what}: joined twice: {kinds:?}");
                }
                _ => ensure!(mirror.remove(&event.id), "{what}: left twice: {kinds:?}"),
            }
        }
        ensure!(mirror == list.members()?, "{what}: {kinds:?}");
        let left = list.stats()?.left - left_before;
        ensure!(left == u64::from(first_is_in), "{what}: {left} have left");
        // It is still a member for all that follows: its children join.
        process.tell("go")?;
        process.line()?;
        process.finish()?;
        let forked = events
            .ready()?
            .iter()
            .filter(|e| e.kind == abi::EVENT_FORKED)
            .count();
        ensure!(
            forked == usize::from(second_is_in),
            "{what}: {forked} children joined"
        );
        until("all have left", || Ok(list.members()?.is_empty()))?;
    }
    Ok(())
}

fn an_exec_leaves_processes_alone() -> Result<()> {
    let device = start()?;
    let mut process = Helper::start(&["exec-from-thread"])?;
    process.line()?;
    device.add(&[process.pid()])?;
    let events = device.events(0)?.nonblocking()?;
    process.tell("exec")?;
    process.line()?;
    has_members(&device, [process.pid()])?;
    ensure!(
        events.ready()?.is_empty(),
        "a process that execs is the same process"
    );
    process.kill()?;
    until("it has left", || Ok(device.members()?.is_empty()))
}

fn the_union_shows_them() -> Result<()> {
    let device = start()?;
    let list = list(&device, 0)?;
    let (helper, tids) = process(2)?;
    device.add(&[helper.pid()])?;
    list.add(&[tids[1]])?;
    let union = device.union()?;
    has_members(&union, [tids[0], tids[1]])?;
    list.set_rules(abi::RULE_THREADS | abi::RULE_EXCLUDE, 0)?;
    has_members(&union, [tids[0]])
}
