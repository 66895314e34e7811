//! Allocations that fail. A debug kernel lets them; others have nothing to test here.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pidlist_abi::pidset as abi;
use rustix::io::Errno;

use super::{PidMax, State, apart, has_members, module, start};
use crate::Test;
use crate::ktap::Skip;
use crate::proc;
use crate::run::until;
use crate::sys;
use crate::sys::device::Device;
use crate::sys::task::Idle;

pub const TESTS: &[(&str, Test)] = &[
    (
        "faults: each allocation of each call may fail",
        each_allocation_may_fail,
    ),
    (
        "faults: each allocation of a fork may fail",
        each_allocation_of_a_fork_may_fail,
    ),
    (
        "faults: without memory children wait, and are members",
        children_wait_for_memory,
    ),
];

/// Fault injection, quiet: into slab allocations, of those that could wait, too, and into copies from and
/// to userland.
struct Faults {
    /// `fail-nth` of this thread.
    nth: File,
}

const FAILSLAB: &str = "/sys/kernel/debug/failslab";

impl Faults {
    fn new() -> Result<Self> {
        if !Path::new(FAILSLAB).exists() {
            return Err(Skip("this kernel has no fault injection").into());
        }
        for kind in ["failslab", "fail_page_alloc", "fail_usercopy"] {
            let verbose = format!("/sys/kernel/debug/{kind}/verbose");
            if Path::new(&verbose).exists() {
                fs::write(&verbose, "0").with_context(|| format!("silencing {kind}"))?;
            }
        }
        Self::set("ignore-gfp-wait", "N")?;
        // It dumps its stack when it gets nothing, which is not to be told from a complaint; for a fork,
        // it is called when no stack is left over from an earlier one.
        let vmalloc = symbol("__vmalloc_node_range_noprof")?;
        Self::set("reject-start", &vmalloc.start.to_string())?;
        Self::set("reject-end", &vmalloc.end.to_string())?;
        let nth = File::options()
            .read(true)
            .write(true)
            .open("/proc/thread-self/fail-nth")
            .context("opening fail-nth")?;
        Ok(Self { nth })
    }

    fn set(file: &str, value: &str) -> Result<()> {
        let path = format!("{FAILSLAB}/{file}");
        fs::write(&path, value).with_context(|| format!("writing {value} to {path}"))
    }

    /// Runs `f` with its `n`-th allocation or copy to fail; returns whether there was one.
    fn nth<T>(&self, n: u32, f: impl FnOnce() -> T) -> Result<(T, bool)> {
        self.nth.write_all_at(n.to_string().as_bytes(), 0)?;
        let result = f();
        let mut left = [0; 16];
        let asked = self.nth.read_at(&mut left, 0);
        // Copies count as well: the one to fail may have been of the question, or of this.
        if self.nth.write_all_at(b"0", 0).is_err() {
            self.nth.write_all_at(b"0", 0)?;
        }
        match asked.map_err(sys::errno) {
            Err(Errno::FAULT) => Ok((result, false)),
            count => {
                let left: u32 = std::str::from_utf8(&left[..count?])?.trim().parse()?;
                Ok((result, left == 0))
            }
        }
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        for (file, value) in [
            ("probability", "0"),
            ("times", "1"),
            ("cache-filter", "N"),
            ("reject-start", "0"),
            ("reject-end", "0"),
            ("ignore-gfp-wait", "Y"),
        ] {
            let _ = Self::set(file, value);
        }
    }
}

/// Where a function of the kernel lies: up to the next symbol.
fn symbol(name: &str) -> Result<Range<u64>> {
    let text = fs::read_to_string("/proc/kallsyms").context("reading the kernel's symbols")?;
    let symbols = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        Some((address, words.nth(1)?))
    });
    let start = symbols
        .clone()
        .find_map(|(address, other)| (other == name).then_some(address))
        .with_context(|| format!("the kernel has no {name}"))?;
    let end = symbols.filter_map(|(address, _)| (address > start).then_some(address));
    let end = end.min().context("it is the last symbol")?;
    Ok(start..end)
}

/// Lets each allocation and copy of `call` fail in turn, until it has no more. Then `undo` takes back what it
/// did. A call that fails has changed nothing.
fn in_turn<T>(
    faults: &Faults,
    device: &Device,
    what: &str,
    mut call: impl FnMut() -> sys::Result<T>,
    mut undo: impl FnMut() -> sys::Result<()>,
) -> Result<()> {
    let state = State::of(device)?;
    let mut refused = 0;
    for n in 1.. {
        let (result, failed) = faults.nth(n, &mut call)?;
        match result {
            Ok(value) => {
                // What it made ends before what it did is taken back.
                drop(value);
                undo().with_context(|| format!("{what}: taking it back"))?;
            }
            Err(error) => {
                ensure!(may_be(error), "{what}, allocation {n}: {error:?}");
                ensure!(failed, "{what}: {error:?} without a failure");
                refused += 1;
            }
        }
        state
            .is_kept(device)
            .with_context(|| format!("{what}, allocation {n}"))?;
        if !failed {
            println!("{what}: {} allocations, {refused} of them needed", n - 1);
            return Ok(());
        }
        ensure!(n < 5000, "{what} makes no end of allocations");
    }
    Ok(())
}

fn each_allocation_may_fail() -> Result<()> {
    let faults = Faults::new()?;
    // A list counts events from its first reader on: with one of an earlier test, what was done and taken
    // back would leave a trace.
    module::reload()?;
    let device = start()?;
    let _large = PidMax::set(PidMax::MOST)?;
    let near = Idle::several(3)?;
    let far: Vec<Idle> = (1..30)
        .map(|i| Idle::at(apart(i)))
        .collect::<sys::Result<_>>()?;
    let pids: Vec<u32> = far.iter().map(Idle::pid).collect();
    let ranges: Vec<[u32; 2]> = pids.iter().map(|&pid| [pid, pid + 5]).collect();
    let text: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
    let list = device.create("list", abi::RULE_FOLLOW)?;
    let threads = device.create("threads", abi::RULE_THREADS)?;
    list.add(&[near[0].pid(), near[1].pid()])?;
    let union = device.union()?;
    let nothing = || Ok(());
    let us = [std::process::id()];

    let each = |what: &str,
                call: &mut dyn FnMut() -> sys::Result<()>,
                undo: &mut dyn FnMut() -> sys::Result<()>| {
        in_turn(&faults, &device, what, call, undo)
    };
    each("open", &mut || Device::open().map(drop), &mut { nothing })?;
    each("INFO", &mut || device.info().map(drop), &mut { nothing })?;
    for list in [&device, &threads] {
        each("ADD", &mut || list.add(&pids), &mut || list.clear())?;
        each(
            "ADD of ranges",
            &mut || list.add_ranges(&ranges),
            &mut || list.clear(),
        )?;
        each("ADD of a tree", &mut || list.add_trees(&us), &mut || {
            list.clear()
        })?;
        each("text", &mut || list.write(&text), &mut || list.clear())?;
        list.add(&pids)?;
        each("REMOVE", &mut || list.remove(&pids), &mut || {
            list.add(&pids)
        })?;
        each(
            "REMOVE of ranges",
            &mut || list.remove_ranges(&ranges),
            &mut || list.add(&pids),
        )?;
        each(
            "REMOVE of a tree",
            &mut || list.remove_trees(&us),
            &mut || list.add(&pids),
        )?;
        each("CLEAR", &mut || list.clear(), &mut || list.add(&pids))?;
        list.clear()?;
    }
    for list in [&list, &threads, &union] {
        each("HAS", &mut || list.has(us[0]).map(drop), &mut { nothing })?;
        each("SPAN", &mut || list.ids().map(drop), &mut { nothing })?;
        each("MODULE", &mut || list.module().map(drop), &mut { nothing })?;
        each("LIST", &mut || list.next_list(1).map(drop), &mut {
            nothing
        })?;
        each("OPEN", &mut || list.list("list").map(drop), &mut {
            nothing
        })?;
        each("OPEN of the union", &mut || list.union().map(drop), &mut {
            nothing
        })?;
        each(
            "reading",
            &mut || list.list("list")?.read().map(drop),
            &mut { nothing },
        )?;
    }
    for list in [&list, &threads] {
        each("STATS", &mut || list.stats().map(drop), &mut { nothing })?;
    }
    each(
        "RULES",
        &mut || list.set_rules(abi::RULE_EXCLUDE, 0),
        &mut || list.set_rules(abi::RULE_FOLLOW, 0),
    )?;
    each(
        "making a list",
        &mut || device.create("new", abi::RULE_FOLLOW).map(drop),
        &mut || device.delete("new"),
    )?;
    each(
        "making a temporary list",
        &mut || {
            device
                .create_with("new", abi::OPEN_TEMPORARY, 0, abi::BYTES_MIN)
                .map(drop)
        },
        &mut { nothing },
    )?;
    // A list's first reader makes room for its events; each list has one first reader.
    each(
        "EVENTS",
        &mut || {
            let list = device.create_with("new", abi::OPEN_TEMPORARY, 0, abi::BYTES_MIN)?;
            list.events(0).map(drop)
        },
        &mut { nothing },
    )?;
    let events = list.events(0)?.nonblocking()?;
    each(
        "reading events",
        &mut || match events.read(4) {
            Err(Errno::AGAIN) => Ok(()),
            result => result.map(drop),
        },
        &mut { nothing },
    )?;
    // A list with members and readers; a removed one has to be made anew.
    let make = || {
        let list = device.create("new", abi::RULE_FOLLOW)?;
        list.add(&pids)
    };
    make()?;
    let state = State::of(&device)?;
    let (result, _) = faults.nth(1, || device.delete("new"))?;
    match result {
        Ok(()) => {}
        Err(error) => {
            ensure!(may_be(error), "DELETE: {error:?}");
            state.is_kept(&device)?;
            device.delete("new")?;
        }
    }
    has_members(&list, [near[0].pid(), near[1].pid()])
}

/// What a failure may lead to: of an allocation, or of a copy.
fn may_be(error: Errno) -> bool {
    error == Errno::NOMEM || error == Errno::FAULT
}

fn each_allocation_of_a_fork_may_fail() -> Result<()> {
    let faults = Faults::new()?;
    let device = start()?;
    let _large = PidMax::set(PidMax::MOST)?;
    let list = device.create("list", abi::RULE_FOLLOW)?;
    let threads = device.create("threads", abi::RULE_FOLLOW | abi::RULE_THREADS)?;
    let us = std::process::id();
    for list in [&list, &threads] {
        // The tests run in the first thread, which is the one that forks.
        list.add(&[us])?;
    }
    let mut expected = BTreeSet::from([us]);
    let mut children = Vec::new();
    for n in 1.. {
        // Each where the set has nothing yet, as long as there is such a place.
        let pid = apart(1 + n % 250) + n / 250;
        let (child, failed) = faults.nth(n, || Idle::at(pid))?;
        match child {
            Ok(child) => {
                expected.insert(pid);
                children.push(child);
            }
            Err(error) => ensure!(may_be(error) || error == Errno::AGAIN, "{error:?}"),
        }
        has_members(&list, expected.clone()).with_context(|| format!("allocation {n}"))?;
        if !failed {
            println!(
                "{} allocations of a fork, {} of them needed",
                n - 1,
                n as usize - children.len()
            );
            break;
        }
        ensure!(n < 5000, "a fork makes no end of allocations");
    }
    drop(children);
    until("the children have left", || {
        Ok(list.members()? == [us].into())
    })
}

/// The slab cache of the module's chunks, which alone is to have no memory.
fn chunk_cache() -> Result<String> {
    let entries = fs::read_dir("/sys/kernel/slab")?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut ours: Vec<String> = names.filter(|name| name.contains("pidlist")).collect();
    ensure!(ours.len() == 1, "the caches are {ours:?}");
    Ok(format!("/sys/kernel/slab/{}", ours.remove(0)))
}

fn children_wait_for_memory() -> Result<()> {
    let _faults = Faults::new()?;
    let device = start()?;
    let _large = PidMax::set(PidMax::MOST)?;
    let list = device.create("list", abi::RULE_FOLLOW)?;
    let us = std::process::id();
    list.add(&[us])?;
    // The default list may have chunks in reserve, of earlier tests.
    let fresh = device.create("fresh", 0)?;
    fs::write(format!("{}/failslab", chunk_cache()?), "1").context("choosing the cache")?;
    Faults::set("cache-filter", "Y")?;
    Faults::set("times", "-1")?;
    Faults::set("interval", "1")?;
    Faults::set("probability", "100")?;
    let mut children = Vec::new();
    for i in 1..40 {
        children.push(Idle::at(apart(i))?);
    }
    for i in 0..1500 {
        children.push(Idle::at(apart(100) + i)?);
    }
    let stats = list.stats()?;
    let some: Vec<u32> = children[..39].iter().map(Idle::pid).collect();
    let all_in = some
        .iter()
        .try_fold(true, |all, &pid| Ok::<_, Errno>(all && list.has(pid)?))?;
    let none_added = fresh.add(&some);
    Faults::set("probability", "0")?;
    println!("{} wait, {} failed", stats.waiting, stats.failed);
    ensure!(
        stats.failed >= 1500 && stats.waiting > 0 && all_in,
        "{stats:?}"
    );
    super::refused("adding without memory", none_added, Errno::NOMEM)?;
    let expected: BTreeSet<u32> = children.iter().map(Idle::pid).chain([us]).collect();
    until("all children are members", || {
        Ok(list.members()? == expected)
    })?;
    let stats = list.stats()?;
    ensure!(
        stats.waiting == 0
            && stats.overflowed > 0
            && stats.failed == stats.repaired + stats.overflowed
            && stats.found == stats.overflowed
            && stats.followed == 1539,
        "{stats:?}"
    );
    has_members(&device, [])?;
    ensure!(proc::processes()?.is_superset(&expected));
    drop(children);
    until("the children have left", || {
        Ok(list.members()? == [us].into())
    })
}
