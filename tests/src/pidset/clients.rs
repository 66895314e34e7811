//! Clients that are killed, whatever they are doing.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pidlist_abi::pidset as abi;
use rustix::io::Errno;

use super::{
    PidMax, State, apart, has_members, joined, refused, seed, sleeper, start, start_following,
};
use crate::Test;
use crate::helper::Helper;
use crate::ktap::Skip;
use crate::proc;
use crate::run::until;
use crate::sys;
use crate::sys::device::Device;
use crate::sys::stall::Stall;
use crate::sys::task::{Idle, interrupt, let_signals_interrupt};

pub const TESTS: &[(&str, Test)] = &[
    ("clients: 200 are killed in a call", two_hundred_are_killed),
    (
        "clients: who adds one that is still being made waits",
        one_that_is_still_being_made,
    ),
];

fn two_hundred_are_killed() -> Result<()> {
    const AT_ONCE: usize = 4;
    let device = start_following()?;
    let before = device.module()?;
    let seed = seed()?;
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..200 / AT_ONCE {
        let mut clients = Vec::new();
        for _ in 0..AT_ONCE {
            clients.push(Helper::start(&["victim", &random.u64(..).to_string()])?);
        }
        for client in &mut clients {
            let line = client.line()?;
            ensure!(line == "ready", "it said {line:?}, seed {seed}");
        }
        let names = device.lists()?;
        ensure!(names.len() == 1 + AT_ONCE, "{names:?}");
        for client in clients {
            thread::sleep(Duration::from_micros(random.u64(0..4000)));
            client.kill()?;
        }
        // A client's descriptors are closed before anybody can see its end, but a child that it had
        // just made has copies, and ends by itself.
        until("their lists are gone", || Ok(device.module()?.lists == 1))
            .with_context(|| format!("seed {seed}"))?;
    }
    // They added others to the default list, too, by a range.
    until("none of them is left", || {
        Ok(device.members()?.is_subset(&proc::processes()?))
    })?;
    device.clear()?;
    let (after, stats) = (device.module()?, device.stats()?);
    ensure!(
        after.lists == 1
            && after.members == 0
            && after.created == before.created + 200
            && after.deleted == before.deleted + 200
            && stats.event_readers == 0
            && stats.rules == u64::from(abi::RULE_FOLLOW),
        "{before:?}, {after:?}, {stats:?}"
    );
    start().map(drop)
}

fn one_that_is_still_being_made() -> Result<()> {
    let device = start()?;
    let_signals_interrupt()?;
    let stall = match Stall::new() {
        Err(Errno::NOSYS) => return Err(Skip("this kernel has no userfaultfd").into()),
        stall => stall?,
    };
    let _large = PidMax::set(PidMax::MOST)?;
    let pid = apart(3);
    let stay = Idle::new()?;
    let following = device.create("following", abi::RULE_FOLLOW)?;
    following.add(&[std::process::id()])?;
    type Add = fn(&Device, u32) -> sys::Result<()>;
    let ways: [(&str, Add); 4] = [
        ("ADD", |list, pid| list.add(&[pid])),
        ("ADD of a range", |list, pid| {
            list.add_ranges(&[[pid - 1, pid + 1]])
        }),
        ("ADD of a tree", |list, pid| list.add_trees(&[pid])),
        ("text", |list, pid| list.write(&format!("{pid}\n"))),
    ];
    let device = &device;
    thread::scope(|scope| {
        let (_, maker) = sleeper(scope, || Idle::stalled(pid, &stall))?;
        let waited = (|| {
            until("the process has a number", || {
                Ok(proc::processes()?.contains(&pid))
            })?;
            // Its parent is a member, and has made it.
            has_members(&following, [std::process::id(), pid])?;
            for (what, add) in ways {
                let (tid, adder) = sleeper(scope, move || add(device, pid))?;
                ensure!(
                    !adder.is_finished(),
                    "{what} did not wait: {:?}",
                    joined(adder)
                );
                // Nobody else has to wait.
                ensure!(!device.has(pid)? && device.members()?.is_empty());
                device.add(&[stay.pid()])?;
                device.remove(&[stay.pid(), pid])?;
                let state = State::of(device)?;
                until("the signal has ended the wait", || {
                    if !adder.is_finished() {
                        interrupt(tid)?;
                    }
                    Ok(adder.is_finished())
                })?;
                refused(what, joined(adder)?, Errno::INTR)?;
                state.is_kept(device).context(what)?;
            }
            let mut adders = Vec::new();
            for (_, add) in ways {
                adders.push(sleeper(scope, move || add(device, pid))?.1);
            }
            ensure!(
                adders.iter().all(|adder| !adder.is_finished()),
                "they did not wait"
            );
            Ok(adders)
        })();
        stall.release()?;
        let process = joined(maker)??;
        for adder in waited? {
            joined(adder)??;
        }
        has_members(device, [process.pid()])?;
        has_members(&following, [std::process::id(), process.pid()])
    })
}
