//! Who follows whom into a list, and when members leave.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use pidlist_abi::pidset as abi;
use rustix::io::Errno;

use super::{PidMax, has_members, refused, start, start_following};
use crate::Test;
use crate::helper::Helper;
use crate::proc;
use crate::run::{Process, until};
use crate::sys::device::Device;
use crate::sys::task::Idle;

pub const TESTS: &[(&str, Test)] = &[
    (
        "follow: children and grandchildren join",
        descendants_are_followed,
    ),
    ("follow: nobody joins when it is off", following_can_be_off),
    (
        "follow: a zombie is a member until it is reaped",
        a_zombie_is_a_member,
    ),
    ("follow: threads are no members", threads_are_no_members),
    (
        "follow: a pid that is used again is a new process",
        reused_pids_are_new,
    ),
    (
        "follow: a process goes on when its first thread has ended",
        the_first_thread_may_end_first,
    ),
    (
        "follow: readers and writers do not disturb each other",
        concurrent_use,
    ),
];

/// A shell that waits for a line and has a child and a grandchild then, which print their pids.
const FAMILY: &str = "read _; sh -c 'echo $$; sh -c \"echo \\$\\$; sleep 1000\" & sleep 1000' & \
                      wait";

fn read_pids(process: &mut Process, count: usize) -> Result<BTreeSet<u32>> {
    let mut pids = BTreeSet::new();
    let mut line = Vec::new();
    let stdout = process.0.stdout.as_mut().context("no pipe")?;
    let mut byte = [0];
    while pids.len() < count {
        stdout.read_exact(&mut byte)?;
        if byte == *b"\n" {
            pids.insert(std::str::from_utf8(&line)?.parse()?);
            line.clear();
        } else {
            line.push(byte[0]);
        }
    }
    Ok(pids)
}

fn go(process: &mut Process) -> Result<()> {
    Ok(process
        .0
        .stdin
        .as_mut()
        .context("no pipe")?
        .write_all(b"\n")?)
}

/// Kills processes that are not children of ours.
fn kill(pids: &BTreeSet<u32>) -> Result<()> {
    for &pid in pids {
        let pid = rustix::process::Pid::from_raw(pid.try_into()?).context("pid 0")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    }
    Ok(())
}

fn descendants_are_followed() -> Result<()> {
    let device = start_following()?;
    let mut family = Process::shell(FAMILY)?;
    device.add(&[family.pid()])?;
    go(&mut family)?;
    let mut all = read_pids(&mut family, 2)?;
    let descendants = all.clone();
    all.insert(family.pid());
    has_members(&device, all)?;
    // An orphan stays a member: the set follows forks, not today's parents.
    drop(family);
    until(
        "the shell has left",
        || Ok(device.members()? == descendants),
    )?;
    kill(&descendants)?;
    until("all have left", || Ok(device.members()?.is_empty()))
}

fn following_can_be_off() -> Result<()> {
    let device = start()?;
    let mut family = Process::shell(FAMILY)?;
    device.add(&[family.pid()])?;
    go(&mut family)?;
    let descendants = read_pids(&mut family, 2)?;
    has_members(&device, [family.pid()])?;
    kill(&descendants)
}

fn a_zombie_is_a_member() -> Result<()> {
    let device = start()?;
    let process = Idle::new()?;
    let pid = process.pid();
    device.add(&[pid])?;
    process.kill()?;
    until("it is a zombie", || Ok(proc::state(pid) == Some('Z')))?;
    has_members(&device, [pid])?;
    drop(process);
    until("it has left", || Ok(device.members()?.is_empty()))
}

fn threads_are_no_members() -> Result<()> {
    let device = start_following()?;
    let us = std::process::id();
    device.add(&[us])?;
    let thread = thread::spawn(|| {
        let tid = rustix::thread::gettid()
            .as_raw_nonzero()
            .get()
            .unsigned_abs();
        let device = Device::open()?;
        let seen = device.members()?;
        Ok::<_, Errno>((
            tid,
            device.add(&[tid]),
            device.add_ranges(&[[tid, tid]]),
            seen,
        ))
    });
    let (tid, added, range_added, seen) = thread.join().expect("it does not panic")?;
    refused(&format!("adding thread {tid}"), added, Errno::SRCH)?;
    ensure!(range_added.is_ok(), "a range of nobody: {range_added:?}");
    ensure!(
        seen == [us].into(),
        "with a thread {tid}, the members were {seen:?}"
    );
    has_members(&device, [us])?;
    start().map(drop)
}

/// Forks so often that pids come round, with some forks by a member and some by others.
fn reused_pids_are_new() -> Result<()> {
    const FORKS: u64 = 800;
    let device = start_following()?;
    let _few = PidMax::set(PidMax::FEW)?;
    let mut tracked = Helper::start(&["forks", &FORKS.to_string()])?;
    let mut other = Helper::start(&["forks", &FORKS.to_string()])?;
    for helper in [&mut tracked, &mut other] {
        helper.line()?;
    }
    device.add(&[tracked.pid()])?;
    let before = device.stats()?;
    tracked.tell("go")?;
    other.tell("go")?;
    until("the member has made its children", || {
        let members = device.members()?;
        ensure!(members.contains(&tracked.pid()) && !members.contains(&other.pid()));
        Ok(device.stats()?.followed - before.followed >= FORKS)
    })?;
    until("only the one that forks is left", || {
        Ok(device.members()? == [tracked.pid()].into())
    })?;
    let stats = device.stats()?;
    ensure!(
        stats.followed - before.followed == FORKS,
        "not only its children followed: {before:?}, {stats:?}"
    );
    ensure!(
        stats.failed == stats.repaired && stats.overflowed == 0,
        "a child was not repaired: {stats:?}"
    );
    Ok(())
}

fn the_first_thread_may_end_first() -> Result<()> {
    let device = start_following()?;
    let mut process = Helper::start(&["leader-exits"])?;
    let pid = process.pid();
    device.add(&[pid])?;
    process.tell("go")?;
    process.line()?;
    until("the first thread is a zombie", || {
        Ok(proc::state(pid) == Some('Z'))
    })?;
    has_members(&device, [pid])?;
    process.tell("fork")?;
    let child = process.number()?;
    has_members(&device, [pid, child])?;
    process.kill()?;
    until("both have left", || Ok(device.members()?.is_empty()))
}

fn concurrent_use() -> Result<()> {
    let device = start_following()?;
    let stay = Idle::new()?;
    device.add(&[stay.pid()])?;
    let mut storm = Helper::start(&["forks", "1000"])?;
    storm.line()?;
    device.add(&[storm.pid()])?;
    storm.tell("go")?;
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let device = Device::open()?;
            for _ in 0..300 {
                let process = Idle::new()?;
                device.write(&format!("{}\n", process.pid()))?;
                device.write(&format!("!{}\n", process.pid()))?;
            }
            anyhow::Ok(())
        });
        while !writer.is_finished() {
            let members = device.members()?;
            ensure!(
                members.contains(&stay.pid()) && members.contains(&storm.pid()),
                "a member was not listed: {members:?}"
            );
        }
        match writer.join() {
            Ok(result) => result,
            Err(_) => bail!("the writer panicked"),
        }
    })?;
    storm.line()?;
    storm.finish()?;
    until("only the one that stays is left", || {
        Ok(device.members()? == [stay.pid()].into())
    })?;
    ensure!(device.stats()?.rules == u64::from(abi::RULE_FOLLOW));
    Ok(())
}
