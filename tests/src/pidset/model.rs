//! The lists against a model of them, step by step.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use pidlist_abi::pidset as abi;

use super::mirror::Mirror;
use super::{PidMax, apart, seed, soak, start};
use crate::Test;
use crate::proc;
use crate::sys::device::Device;
use crate::sys::task::Idle;

pub const TESTS: &[(&str, Test)] = &[
    (
        "model: lists of its own answer a thread as a set would",
        lists_of_its_own,
    ),
    (
        "model: pids of its own answer a thread as a set would",
        pids_of_its_own,
    ),
];

const THREADS: usize = 4;

fn steps() -> usize {
    if soak() { 100_000 } else { 1500 }
}

/// Some processes whose pids are close, and some whose pids are far apart.
fn processes() -> Result<(PidMax, Vec<Idle>)> {
    let pids = PidMax::set(PidMax::MOST)?;
    let mut idle = Idle::several(60)?;
    for i in 1..20 {
        idle.push(Idle::at(apart(i))?);
        idle.push(Idle::at(apart(i) + 1)?);
    }
    Ok((pids, idle))
}

/// Runs `f` in some threads at once, each with a number and a source of random numbers.
fn in_threads(f: impl Fn(usize, &mut fastrand::Rng) -> Result<()> + Sync) -> Result<()> {
    let seed = seed()?;
    let f = &f;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|i| {
                scope.spawn(move || {
                    f(
                        i,
                        &mut fastrand::Rng::with_seed(seed.wrapping_add(i as u64)),
                    )
                })
            })
            .collect();
        for thread in threads {
            let result = thread
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a thread panicked")));
            result.with_context(|| format!("seed {seed}"))?;
        }
        Ok(())
    })
}

/// One random change or question, of pids that are this thread's; `alone`: the list is, too.
fn step(
    random: &mut fastrand::Rng,
    list: &Device,
    model: &mut BTreeSet<u32>,
    pids: &[u32],
    alone: bool,
) -> Result<()> {
    let some = |random: &mut fastrand::Rng| -> Vec<u32> {
        let most = if random.u32(0..10) == 0 { 40 } else { 4 };
        (0..random.usize(0..most))
            .map(|_| pids[random.usize(..pids.len())])
            .collect()
    };
    match random.u32(0..if alone { 14 } else { 8 }) {
        0 | 1 => {
            let some = some(random);
            list.add(&some)?;
            model.extend(some);
        }
        2 | 3 => {
            let some = some(random);
            list.remove(&some)?;
            model.retain(|pid| !some.contains(pid));
        }
        4 => {
            let mut text = String::new();
            for pid in some(random) {
                if random.bool() {
                    text.push_str(&format!("{pid} "));
                    model.insert(pid);
                } else {
                    text.push_str(&format!("!{pid}\n"));
                    model.remove(&pid);
                }
            }
            list.write(&text)?;
        }
        5 => {
            let ranges: Vec<[u32; 2]> = some(random).iter().map(|&pid| [pid, pid]).collect();
            if random.bool() {
                list.add_ranges(&ranges)?;
                model.extend(ranges.iter().map(|range| range[0]));
            } else {
                list.remove_ranges(&ranges)?;
                model.retain(|pid| !ranges.contains(&[*pid, *pid]));
            }
        }
        6 => {
            for pid in some(random) {
                ensure!(list.has(pid)? == model.contains(&pid), "HAS of {pid}");
            }
        }
        7 => {
            // Those of others may be among them.
            let ours: BTreeSet<u32> = list
                .members()?
                .into_iter()
                .filter(|pid| pids.contains(pid))
                .collect();
            ensure!(ours == *model, "the members are {ours:?}, not {model:?}");
        }
        8 => {
            let expected: Vec<u32> = model.iter().copied().collect();
            ensure!(list.sequence()? == expected, "not in their order");
        }
        9 => {
            let room = random.usize(1..30);
            let (mut cursor, mut all) = (0, Vec::new());
            loop {
                let some = list.span(&mut cursor, room)?;
                ensure!(some.len() <= room);
                if some.is_empty() {
                    break;
                }
                all.extend(some);
            }
            ensure!(all.iter().eq(model.iter()), "in pieces of {room}: {all:?}");
        }
        10 => {
            let (first, last) = (
                pids[random.usize(..pids.len())],
                pids[random.usize(..pids.len())],
            );
            let (first, last) = (first.min(last), first.max(last));
            list.remove_ranges(&[[first, last]])?;
            model.retain(|pid| !(first..=last).contains(pid));
        }
        11 => {
            // A tree of one, as all of these are.
            let pid = pids[random.usize(..pids.len())];
            if random.bool() {
                list.add_trees(&[pid])?;
                model.insert(pid);
            } else {
                list.remove_trees(&[pid])?;
                model.remove(&pid);
            }
        }
        12 => {
            ensure!(list.stats()?.members == model.len() as u64);
        }
        _ => {
            if random.u32(0..4) == 0 {
                list.clear()?;
                model.clear();
            }
        }
    }
    Ok(())
}

fn lists_of_its_own() -> Result<()> {
    let device = start()?;
    let (_large, idle) = processes()?;
    let pids: Vec<u32> = idle.iter().map(Idle::pid).collect();
    in_threads(|i, random| {
        let device = Device::open()?;
        let mut lists = BTreeMap::new();
        for _ in 0..steps() {
            let name = format!("model-{i}-{}", random.u32(0..5));
            if random.u32(0..50) == 0
                && let Some((list, _, flags)) = lists.remove(&name)
            {
                drop(list);
                if flags == 0 {
                    device.delete(&name)?;
                }
                continue;
            }
            let (list, model, _) = match lists.entry(name.clone()) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    // Some go with their descriptor, some do not.
                    let flags = if random.bool() {
                        abi::OPEN_TEMPORARY
                    } else {
                        0
                    };
                    let rules = if random.bool() { abi::RULE_THREADS } else { 0 };
                    let list = device.create_with(&name, flags, rules, abi::BYTES_DEFAULT)?;
                    entry.insert((list, BTreeSet::new(), flags))
                }
            };
            step(random, list, model, &pids, true).context(name)?;
        }
        for (name, (list, model, _)) in lists {
            ensure!(list.members()? == model, "in the end: {name}");
        }
        Ok(())
    })?;
    start().map(drop).and_then(|()| {
        let module = device.module()?;
        ensure!(module.lists == 1 && module.members == 0, "{module:?}");
        Ok(())
    })
}

fn pids_of_its_own() -> Result<()> {
    let device = start()?;
    let (_large, idle) = processes()?;
    let pids: Vec<u32> = idle.iter().map(Idle::pid).collect();
    let mirror = Mutex::new(Mirror::new(&device)?);
    in_threads(|i, random| {
        let device = Device::open()?;
        // Neighbours in a word of the set belong to different threads.
        let ours: Vec<u32> = pids.iter().copied().skip(i).step_by(THREADS).collect();
        let mut model = BTreeSet::new();
        for _ in 0..steps() {
            step(random, &device, &mut model, &ours, false)?;
            if let Ok(mut mirror) = mirror.try_lock()
                && random.u32(0..50) == 0
            {
                mirror.equals(&device)?;
            }
        }
        device.remove(&ours)?;
        device.add(&ours)?;
        Ok(())
    })?;
    let mut mirror = mirror
        .into_inner()
        .map_err(|_| anyhow!("a thread panicked"))?;
    mirror.equals(&device)?;
    let members = device.members()?;
    ensure!(members == pids.into_iter().collect(), "{members:?}");
    ensure!(members.is_subset(&proc::processes()?));
    Ok(())
}
