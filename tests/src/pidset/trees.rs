//! Whole trees of processes at a time.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use pidlist_abi::pidset as abi;
use rustix::io::Errno;

use super::{State, gone, has_members, refused, start, start_following};
use crate::Test;
use crate::helper::Helper;
use crate::proc;
use crate::run::until;
use crate::sys::device::Device;
use crate::sys::task::Idle;

pub const TESTS: &[(&str, Test)] = &[
    ("trees: one is added and removed as a whole", a_whole_tree),
    (
        "trees: none is missed of one that grows meanwhile",
        one_that_grows_is_added,
    ),
    (
        "trees: none is left of one that grows meanwhile",
        one_that_grows_is_removed,
    ),
    (
        "trees: an orphan is no descendant any more",
        an_orphan_is_no_descendant,
    ),
    (
        "trees: one of more than a batch, and other large calls",
        a_crowd,
    ),
    (
        "batches: all of one are applied, or none",
        all_of_a_batch_or_none,
    ),
    ("batches: ranges mean who lives, or is a member", ranges),
    (
        "batches: members are read in pieces of any size",
        pieces_of_any_size,
    ),
];

/// Processes in a helper's bush of this depth, the helper included.
fn size(depth: u32) -> usize {
    (1 << (depth + 1)) - 1
}

fn bush(depth: u32) -> Result<Helper> {
    Helper::start(&["bush", &depth.to_string()])
}

/// Waits until a bush is grown; returns its processes.
fn grown(bush: &mut Helper, depth: u32) -> Result<BTreeSet<u32>> {
    bush.line()?;
    let mut tree = BTreeSet::new();
    // The helper says so when it has its two children; they go on.
    until("the tree is grown", || {
        tree = proc::tree(bush.pid())?;
        let idle = tree.iter().all(|&pid| proc::state(pid) == Some('S'));
        Ok(tree.len() == size(depth) && idle)
    })?;
    Ok(tree)
}

fn a_whole_tree() -> Result<()> {
    let device = start()?;
    let (mut first, mut second) = (bush(4)?, bush(2)?);
    first.tell("grow")?;
    second.tell("grow")?;
    let (tree, other) = (grown(&mut first, 4)?, grown(&mut second, 2)?);
    let stay = Idle::new()?;
    device.add(&[stay.pid()])?;
    device.add_trees(&[first.pid()])?;
    let mut expected = tree.clone();
    expected.insert(stay.pid());
    has_members(&device, expected.clone())?;
    // Two at a time, one of them a member, and one within another.
    let part = *tree.last().expect("it has some");
    device.add_trees(&[second.pid(), first.pid(), part])?;
    expected.extend(&other);
    has_members(&device, expected.clone())?;
    // A part of it.
    let child = *tree
        .iter()
        .find(|pid| **pid != first.pid())
        .expect("it has some");
    let branch = proc::tree(child)?;
    ensure!(branch.is_subset(&tree) && branch.len() < tree.len());
    device.remove_trees(&[child])?;
    expected.retain(|pid| !branch.contains(pid));
    has_members(&device, expected.clone())?;
    device.remove_trees(&[first.pid(), second.pid()])?;
    has_members(&device, [stay.pid()])?;
    // Nobody is missing where there is nobody, but nobody is added either.
    let state = State::of(&device)?;
    refused(
        "a gone tree",
        device.add_trees(&[first.pid(), gone()?]),
        Errno::SRCH,
    )?;
    state.is_kept(&device)?;
    device.remove_trees(&[gone()?])?;
    device.add_trees(&[])?;
    state.is_kept(&device)
}

/// Waits until there is some of the bush.
fn in_the_midst(bush: &Helper) -> Result<()> {
    until("the tree has begun to grow", || {
        Ok(proc::tree(bush.pid())?.len() > 4)
    })
}

const DEPTH: u32 = 7;
const TIMES: usize = 3;

fn one_that_grows_is_added() -> Result<()> {
    for _ in 0..TIMES {
        let device = start_following()?;
        let mut bush = bush(DEPTH)?;
        bush.tell("grow")?;
        in_the_midst(&bush)?;
        device.add_trees(&[bush.pid()])?;
        let tree = grown(&mut bush, DEPTH)?;
        until("those that ended at once have left", || {
            Ok(device.members()?.is_subset(&tree))
        })?;
        has_members(&device, tree)?;
    }
    Ok(())
}

fn one_that_grows_is_removed() -> Result<()> {
    for _ in 0..TIMES {
        let device = start_following()?;
        let mut bush = bush(DEPTH)?;
        device.add(&[bush.pid()])?;
        bush.tell("grow")?;
        in_the_midst(&bush)?;
        ensure!(device.members()?.len() > 4);
        device.remove_trees(&[bush.pid()])?;
        let now = device.members()?;
        let tree = grown(&mut bush, DEPTH)?;
        let left: BTreeSet<u32> = device.members()?.intersection(&tree).copied().collect();
        ensure!(
            left.is_empty(),
            "{left:?} are left; after the call it was {now:?}"
        );
    }
    Ok(())
}

fn an_orphan_is_no_descendant() -> Result<()> {
    let device = start()?;
    let mut root = Helper::start(&["namespace", "serve"])?;
    root.line()?;
    let inside: Vec<u32> = proc::tree(root.pid())?.into_iter().collect();
    ensure!(inside.len() == 2, "{inside:?}");
    device.add_trees(&[root.pid()])?;
    has_members(&device, inside)?;
    // A child whose parent has ended belongs to nobody's tree but that of who takes it in.
    let ran = crate::run::shell("(sleep 1000 >/dev/null 2>&1 & echo $!)")?.expect(0)?;
    let orphan: u32 = ran.stdout.trim().parse()?;
    device.add_trees(&[std::process::id()])?;
    let tree = proc::tree(std::process::id())?;
    let pid = rustix::process::Pid::from_raw(orphan.try_into()?).expect("no 0");
    let orphaned = !tree.contains(&orphan);
    let is_member = device.has(orphan)?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    ensure!(
        orphaned && !is_member,
        "orphaned: {orphaned}, member: {is_member}"
    );
    has_members(&device, tree)?;
    start().map(drop)
}

/// More processes than a batch has room for, all of them children of ours.
fn a_crowd() -> Result<()> {
    let device = start()?;
    let most = abi::BATCH_MAX as usize;
    let crowd = Idle::several(most + 100)?;
    let mut pids: Vec<u32> = crowd.iter().map(Idle::pid).collect();
    pids.sort_unstable();
    let everyone = [1, device.info()?.pid_max];
    let state = State::of(&device)?;
    refused("all at once", device.add(&pids), Errno::TOOBIG)?;
    refused(
        "all in a range",
        device.add_ranges(&[everyone]),
        Errno::TOOBIG,
    )?;
    let halves = [[pids[0], pids[2000]], [pids[2001], pids[pids.len() - 1]]];
    refused(
        "all in two ranges",
        device.add_ranges(&halves),
        Errno::TOOBIG,
    )?;
    let text = format!("1-{}\n", everyone[1]);
    refused("all in text", device.write(&text), Errno::TOOBIG)?;
    state.is_kept(&device)?;
    device.add_trees(&[std::process::id()])?;
    let expected: BTreeSet<u32> = pids.iter().copied().chain([std::process::id()]).collect();
    has_members(&device, expected.clone())?;
    // Another list, in batches of the most there may be.
    let list = device.create("crowd", 0)?;
    for batch in pids.chunks(most) {
        list.add(batch)?;
    }
    list.add(&[std::process::id()])?;
    has_members(&list, expected.clone())?;
    let lines: BTreeSet<u32> = list
        .read()?
        .lines()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    ensure!(lines == expected, "as text they are others");
    let mut all = BTreeSet::new();
    let mut cursor = 0;
    loop {
        let some = list.span(&mut cursor, most)?;
        if some.is_empty() {
            break;
        }
        ensure!(
            some.iter().all(|&pid| all.insert(pid)),
            "one was found twice"
        );
    }
    ensure!(all == expected);
    let removed = list.remove_ranges(&[everyone]);
    refused("removing all in a range", removed, Errno::TOOBIG)?;
    has_members(&list, expected)?;
    list.remove_ranges(&halves[..1])?;
    list.remove_ranges(&[everyone])?;
    has_members(&list, [])?;
    device.remove_trees(&[std::process::id()])?;
    has_members(&device, [])?;
    drop(crowd);
    until("all have left", || Ok(device.module()?.members == 0))
}

fn all_of_a_batch_or_none() -> Result<()> {
    let device = start()?;
    let idle = Idle::several(3)?;
    let pids: Vec<u32> = idle.iter().map(Idle::pid).collect();
    let gone = gone()?;
    device.add(&[pids[0]])?;
    let state = State::of(&device)?;
    let max = device.info()?.pid_max;
    for (wrong, errno) in [
        (gone, Errno::SRCH),
        (0, Errno::INVAL),
        (max + 1, Errno::INVAL),
    ] {
        for batch in [[wrong, pids[1], pids[2]], [pids[1], pids[2], wrong]] {
            refused(&format!("adding {batch:?}"), device.add(&batch), errno)?;
            if wrong != gone {
                refused(&format!("removing {batch:?}"), device.remove(&batch), errno)?;
                refused(
                    &format!("removing {batch:?}"),
                    device.remove_trees(&batch),
                    errno,
                )?;
            }
            refused(
                &format!("adding {batch:?}"),
                device.add_trees(&batch),
                errno,
            )?;
            state.is_kept(&device)?;
        }
    }
    // Who is named twice is added once; who is no member is passed over.
    device.add(&[pids[1], pids[1], pids[0]])?;
    has_members(&device, [pids[0], pids[1]])?;
    device.remove(&[gone, pids[2], pids[0], pids[0]])?;
    has_members(&device, [pids[1]])?;
    device.add(&[])?;
    device.remove(&[])?;
    has_members(&device, [pids[1]])
}

fn ranges() -> Result<()> {
    let device = start()?;
    let mut idle = Idle::several(6)?;
    idle.sort_by_key(Idle::pid);
    let pids: Vec<u32> = idle.iter().map(Idle::pid).collect();
    let one = |i: usize| [pids[i], pids[i]];
    device.add_ranges(&[one(0), one(3), one(3)])?;
    has_members(&device, [pids[0], pids[3]])?;
    device.add_ranges(&[])?;
    let gone = gone()?;
    device.add_ranges(&[[gone, gone]])?;
    has_members(&device, [pids[0], pids[3]])?;
    device.add_ranges(&[[pids[1], pids[5]]])?;
    ensure!(
        device
            .members()?
            .is_superset(&pids.iter().copied().collect())
    );
    device.remove_ranges(&[[1, pids[2]], one(4), [pids[5] + 1, device.info()?.pid_max]])?;
    let left: BTreeSet<u32> = device.members()?;
    ensure!(left.contains(&pids[3]) && left.contains(&pids[5]) && !left.contains(&pids[4]));
    ensure!(left.range(..=pids[2]).next().is_none() && left.range(pids[5] + 1..).next().is_none());
    let state = State::of(&device)?;
    let max = device.info()?.pid_max;
    for wrong in [
        [0, 1],
        [0, 0],
        [1, 0],
        [pids[1], pids[0]],
        [1, max + 1],
        [max + 1, max + 2],
        [u32::MAX, u32::MAX],
    ] {
        let batch = [one(1), wrong];
        refused(
            &format!("adding {batch:?}"),
            device.add_ranges(&batch),
            Errno::INVAL,
        )?;
        refused(
            &format!("removing {batch:?}"),
            device.remove_ranges(&batch),
            Errno::INVAL,
        )?;
    }
    state.is_kept(&device)
}

fn pieces_of_any_size() -> Result<()> {
    let device = start()?;
    let mut idle = Idle::several(50)?;
    let pids: Vec<u32> = idle.iter().map(Idle::pid).collect();
    device.add(&pids)?;
    let mut expected = pids;
    expected.sort_unstable();
    for room in [1, 2, 7, 49, 50, 51, abi::BATCH_MAX as usize] {
        let (mut cursor, mut all) = (0, Vec::new());
        loop {
            let some = device.span(&mut cursor, room)?;
            if some.is_empty() {
                break;
            }
            all.extend(some);
        }
        ensure!(all == expected, "pieces of {room}: {all:?}");
        let again = device.span(&mut cursor, room)?;
        ensure!(again.is_empty(), "after the end: {again:?}");
        let with_ids: Vec<u32> = device.ids()?.into_keys().collect();
        ensure!(with_ids == expected, "ids: {with_ids:?}");
    }
    // Members that come and go do not move a cursor from those that stay.
    let mut cursor = 0;
    let head = device.span(&mut cursor, 20)?;
    ensure!(head == expected[..20]);
    let kept = idle.split_off(25);
    idle.clear();
    until("half of them have left", || {
        Ok(device.stats()?.members == kept.len() as u64)
    })?;
    let rest = device.span(&mut cursor, 100)?;
    let staying: Vec<u32> = kept
        .iter()
        .map(Idle::pid)
        .filter(|pid| !head.contains(pid))
        .collect();
    ensure!(
        staying
            .iter()
            .all(|pid| rest.iter().filter(|found| *found == pid).count() == 1),
        "of {staying:?} there were {rest:?}"
    );
    let nothing = Device::open()?.span(&mut 0, 0)?;
    ensure!(nothing.is_empty());
    Ok(())
}
