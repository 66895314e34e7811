//! Lists that come and go while processes do.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use pidlist_abi::pidset as abi;
use rustix::io::Errno;

use super::mirror::Mirror;
use super::{PidMax, has_members, soak, start, start_following};
use crate::Test;
use crate::helper::Helper;
use crate::proc;
use crate::run::until;
use crate::sys::device::Device;
use crate::sys::task::{Idle, brief_child};

pub const TESTS: &[(&str, Test)] = &[
    (
        "storms: lists come and go while processes fork",
        lists_come_and_go,
    ),
    (
        "storms: a list is removed under its readers and writers",
        a_list_is_removed_in_use,
    ),
    ("storms: each of many lists has every child", many_lists),
    (
        "storms: who is added while he ends leaves no ghost",
        no_ghosts,
    ),
    (
        "storms: a thread that execs again and again stays a member",
        chains_of_execs,
    ),
    (
        "storms: the same, while tasks are freed late",
        chains_of_execs_with_late_frees,
    ),
];

fn rounds(usual: usize) -> usize {
    if soak() { 20 * usual } else { usual }
}

/// What goes on until a flag says that all is done.
type Part<'a> = &'a (dyn Fn(&AtomicBool) -> Result<()> + Sync);

/// Runs every part at once until the first is done; an error of any is one of all.
fn at_once(parts: &[Part<'_>]) -> Result<()> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let threads: Vec<_> = parts
            .iter()
            .map(|part| scope.spawn(|| part(&done)))
            .collect();
        let mut result = Ok(());
        for thread in threads {
            let ended = thread
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a thread panicked")));
            done.store(true, Ordering::Relaxed);
            result = result.and(ended);
        }
        result
    })
}

/// Forks until all is done.
fn fork(done: &AtomicBool) -> Result<()> {
    while !done.load(Ordering::Relaxed) {
        brief_child()?;
    }
    Ok(())
}

fn lists_come_and_go() -> Result<()> {
    let device = start_following()?;
    let before = device.module()?;
    let rounds = rounds(60);
    // This process forks, and is a member of everything.
    let us = [std::process::id()];
    device.add(&us)?;
    let come_and_go = |name: &'static str, rules: u32| {
        move |done: &AtomicBool| -> Result<()> {
            let device = Device::open()?;
            let mut round = 0;
            while round < rounds && !done.load(Ordering::Relaxed) {
                let list = device.create(name, abi::RULE_FOLLOW | rules)?;
                let mut mirror = Mirror::new(&list)?;
                list.add(&us)?;
                mirror.equals(&list)?;
                thread::yield_now();
                mirror.equals(&list)?;
                ensure!(list.has(us[0])?);
                device.delete(name)?;
                round += 1;
            }
            Ok(())
        }
    };
    at_once(&[
        &come_and_go("first", 0),
        &come_and_go("second", abi::RULE_EXCLUDE),
        &come_and_go("third", abi::RULE_THREADS),
        &fork,
        &|done| {
            let (device, union) = (Device::open()?, Device::open()?.union()?);
            while !done.load(Ordering::Relaxed) {
                union.members()?;
                // Each list that is listed has a name and an id of its own.
                ensure!(device.lists()?.len() <= 4);
                device.module()?;
            }
            Ok(())
        },
    ])?;
    until("only we are left", || Ok(device.members()? == us.into()))?;
    let after = device.module()?;
    ensure!(after.lists == 1 && after.members == 1, "{after:?}");
    ensure!(
        after.created - before.created == after.deleted - before.deleted,
        "{before:?}, {after:?}"
    );
    start().map(drop)
}

fn a_list_is_removed_in_use() -> Result<()> {
    let device = start()?;
    let rounds = rounds(60);
    let us = [std::process::id()];
    // Whoever finds it gone tries again.
    let gone = |error: Errno| matches!(error, Errno::NOENT | Errno::NODEV);
    let user = |part: fn(&Device) -> crate::sys::Result<()>| {
        move |done: &AtomicBool| -> Result<()> {
            let device = Device::open()?;
            while !done.load(Ordering::Relaxed) {
                match device.list("used").and_then(|list| part(&list)) {
                    Ok(()) => {}
                    Err(error) if gone(error) => thread::yield_now(),
                    Err(error) => return Err(error).context("using it"),
                }
            }
            Ok(())
        }
    };
    at_once(&[
        &|_| {
            (0..rounds).try_for_each(|round| {
                let list = device.create("used", abi::RULE_FOLLOW)?;
                list.add(&us)?;
                let used = until("it was used", || Ok(list.stats()?.events > 4));
                // Whatever happened: the reader waits for this.
                device.delete("used")?;
                used.with_context(|| format!("round {round}"))
            })
        },
        &user(|list| list.add(&[std::process::id()])),
        &user(|list| {
            // Ends when the list does: after the last event there is nothing.
            let events = list.events(0)?;
            while !events.read(16)?.is_empty() {}
            Ok(())
        }),
        &user(|list| {
            list.write(&format!("{0} !{0}\n", std::process::id()))?;
            list.read()?;
            list.add(&[std::process::id()])
        }),
        &user(|list| list.members().map(drop)),
        &fork,
    ])?;
    let module = device.module()?;
    ensure!(module.lists == 1 && module.members == 0, "{module:?}");
    Ok(())
}

fn many_lists() -> Result<()> {
    const FORKS: u64 = 300;
    let device = start()?;
    let mut storm = Helper::start(&["forks", &FORKS.to_string()])?;
    storm.line()?;
    let mut lists = Vec::new();
    for i in 0..100 {
        let threads = if i % 3 == 0 { abi::RULE_THREADS } else { 0 };
        let list = device.create(&format!("many-{i}"), abi::RULE_FOLLOW | threads)?;
        list.add(&[storm.pid()])?;
        lists.push(list);
    }
    storm.tell("go")?;
    storm.line()?;
    storm.finish()?;
    until("all have left", || Ok(device.module()?.members == 0))?;
    for (i, list) in lists.iter().enumerate() {
        let stats = list.stats()?;
        ensure!(
            stats.followed == FORKS
                && stats.left == FORKS + 1
                && stats.failed == stats.repaired
                && stats.overflowed == 0,
            "list {i}: {stats:?}"
        );
    }
    start().map(drop)
}

fn no_ghosts() -> Result<()> {
    let device = start_following()?;
    let _few = PidMax::set(PidMax::FEW)?;
    let rounds = rounds(400);
    let threads = device.create("threads", abi::RULE_FOLLOW | abi::RULE_THREADS)?;
    let still = device.create("still", 0)?;
    let lists = [&device, &threads, &still];
    let mut mirrors = lists
        .map(Mirror::new)
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let everyone = [[1, PidMax::FEW]];
    at_once(&[
        &|_| {
            for _ in 0..rounds {
                for list in lists {
                    list.add_ranges(&everyone)?;
                    list.remove_ranges(&everyone)?;
                }
                threads.add_trees(&[std::process::id()])?;
            }
            Ok(())
        },
        &|done| {
            // Just made, and on its way out.
            while !done.load(Ordering::Relaxed) {
                let child = Idle::new()?;
                child.kill()?;
                for list in lists {
                    match list.add(&[child.pid()]) {
                        Ok(()) | Err(Errno::SRCH) => {}
                        Err(error) => return Err(error).context("adding a zombie"),
                    }
                }
            }
            Ok(())
        },
        &|done| {
            // Perhaps gone, perhaps another by now.
            while !done.load(Ordering::Relaxed) {
                let gone = brief_child()?;
                for list in lists {
                    match list.add(&[gone]) {
                        Ok(()) | Err(Errno::SRCH) => {}
                        Err(error) => return Err(error).context("adding a gone pid"),
                    }
                }
            }
            Ok(())
        },
        &fork,
        &fork,
    ])?;
    for (list, mirror) in lists.into_iter().zip(&mut mirrors) {
        until("only the living are members", || {
            let mut living = BTreeSet::new();
            for pid in proc::processes()? {
                // It may have ended meanwhile.
                living.extend(proc::threads(pid).unwrap_or_default());
            }
            Ok(list.members()?.is_subset(&living))
        })?;
        // Events came faster than a mirror that nobody looked at could hold.
        mirror.repair(list)?;
        mirror.equals(list)?;
    }
    start().map(drop)
}

/// Lets the kernel wait long until it frees a task, as a busy machine may: so an exec can come before
/// the end of the leader that the one before has replaced.
struct LateFrees(Vec<(String, String)>);

impl LateFrees {
    fn new() -> Result<Self> {
        let mut this = Self(Vec::new());
        for name in ["jiffies_till_first_fqs", "jiffies_till_next_fqs"] {
            let path = format!("/sys/module/rcutree/parameters/{name}");
            let before = fs::read_to_string(&path)?;
            fs::write(&path, "100").with_context(|| format!("writing {path}"))?;
            this.0.push((path, before));
        }
        Ok(this)
    }
}

impl Drop for LateFrees {
    fn drop(&mut self) {
        for (path, before) in &self.0 {
            let _ = fs::write(path, before);
        }
    }
}

fn chains_of_execs() -> Result<()> {
    chains()
}

fn chains_of_execs_with_late_frees() -> Result<()> {
    let _late = LateFrees::new()?;
    chains()
}

fn chains() -> Result<()> {
    const CHAINS: usize = 4;
    let times = rounds(12);
    let device = start()?;
    let rules = abi::RULE_THREADS | abi::RULE_FOLLOW;
    let (threads, first_only) = (
        device.create("threads", rules)?,
        device.create("first", abi::RULE_THREADS)?,
    );
    let mut chains = Vec::new();
    for _ in 0..CHAINS {
        let mut chain = Helper::start(&["exec-chain", &times.to_string()])?;
        chain.line()?;
        chains.push(chain);
    }
    let pids: BTreeSet<u32> = chains.iter().map(Helper::pid).collect();
    let mut mirror = Mirror::new(&threads)?;
    for list in [&device, &threads, &first_only] {
        list.add(&pids.iter().copied().collect::<Vec<_>>())?;
    }
    for chain in &mut chains {
        chain.tell("go")?;
    }
    for chain in &mut chains {
        let line = chain.line()?;
        ensure!(line == "done", "a chain said {line:?}");
    }
    // The thread that a member makes is one, and takes over; alone, the first thread has no heir.
    until("each of them is a member by its number", || {
        Ok(threads.members()? == pids)
    })
    .with_context(|| format!("the members are {:?}, not {pids:?}", threads.members()))?;
    until("none of the first threads is left", || {
        Ok(first_only.members()?.is_empty())
    })?;
    has_members(&device, pids)?;
    mirror.equals(&threads)?;
    for chain in chains {
        chain.kill()?;
    }
    until("all have left", || Ok(device.module()?.members == 0))?;
    mirror.equals(&threads)
}
