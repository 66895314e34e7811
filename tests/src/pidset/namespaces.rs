//! Pid namespaces: who is numbered otherwise, and who has no number.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use pidlist_abi::pidset as abi;
use rustix::io::Errno;

use super::{State, gone, has_members, refused, start};
use crate::Test;
use crate::helper::Helper;
use crate::proc;
use crate::run::until;
use crate::sys::device::Device;
use crate::sys::task::Idle;

pub const TESTS: &[(&str, Test)] = &[
    (
        "namespaces: pids are taken and given as they are inside",
        pids_are_as_inside,
    ),
    (
        "namespaces: who is outside is neither there nor shown",
        who_is_outside,
    ),
    (
        "namespaces: trees and ranges reach those inside",
        trees_and_ranges,
    ),
    (
        "namespaces: events carry both numbers",
        events_carry_both_numbers,
    ),
    (
        "namespaces: a member's children in a new one follow it",
        a_new_namespace_is_followed,
    ),
    ("namespaces: one within another", one_within_another),
];

/// A helper that serves as pid 1 of a namespace, and its pid outside.
struct Inside {
    helper: Helper,
    pid: u32,
}

impl Inside {
    fn start() -> Result<Self> {
        let mut helper = Helper::start(&["namespace", "serve"])?;
        helper.line()?;
        let outer = helper.pid();
        let tree = proc::tree(outer)?;
        let pid = tree.into_iter().find(|&pid| pid != outer);
        let mut this = Self {
            helper,
            pid: pid.context("nobody is inside")?,
        };
        ensure!(this.number("pid")? == 1, "it is not the first inside");
        Ok(this)
    }

    fn order(&mut self, line: &str) -> Result<String> {
        self.helper.order(line)?.with_context(|| line.to_owned())
    }

    fn number(&mut self, line: &str) -> Result<u32> {
        self.helper.order_number(line)
    }

    /// Makes a process inside; its pids inside and outside.
    fn idle(&mut self) -> Result<(u32, u32)> {
        let before = proc::tree(self.pid)?;
        let inner = self.number("idle")?;
        let after = proc::tree(self.pid)?;
        let outer = after.difference(&before).copied().next();
        Ok((inner, outer.context("it is not there")?))
    }

    /// Fails unless this is what the members look like from inside.
    fn sees(&mut self, expected: &[u32]) -> Result<()> {
        let expected = format!("{expected:?}");
        let members = self.order("members")?;
        ensure!(
            members == expected,
            "inside, the members are {members}, not {expected}"
        );
        Ok(())
    }
}

fn pids_are_as_inside() -> Result<()> {
    let device = start()?;
    let mut inside = Inside::start()?;
    let ((a, outer_a), (b, outer_b)) = (inside.idle()?, inside.idle()?);
    ensure!((a, b) == (2, 3), "the first pids inside are {a} and {b}");
    inside.order("add 1")?;
    inside.order("add 3")?;
    has_members(&device, [inside.pid, outer_b])?;
    inside.sees(&[1, 3])?;
    inside.order("write 2")?;
    has_members(&device, [inside.pid, outer_a, outer_b])?;
    let ids = inside.order("ids")?;
    let expected = device
        .ids()?
        .keys()
        .zip(1..)
        .map(|(id, pid)| (*id, pid))
        .collect::<std::collections::BTreeMap<u32, u32>>();
    ensure!(ids == format!("{expected:?}"), "ids inside: {ids}");
    ensure!(inside.order("text")? == format!("{:?}", "1\n2\n3\n"));
    for (pid, expected) in [(1, "true"), (2, "true"), (3, "true"), (4, "false")] {
        let has = inside.order(&format!("has {pid}"))?;
        ensure!(has == expected, "HAS of {pid} inside: {has}");
    }
    inside.order("remove 2")?;
    inside.order("write !3")?;
    has_members(&device, [inside.pid])?;
    inside.sees(&[1])?;
    // Outside the same members are other numbers.
    device.add(&[outer_a])?;
    inside.sees(&[1, 2])?;
    device.remove(&[inside.pid])?;
    inside.sees(&[2])?;
    inside.order("end")?;
    until("the child has left", || Ok(device.members()?.is_empty()))
}

fn who_is_outside() -> Result<()> {
    let device = start()?;
    let mut inside = Inside::start()?;
    let mut another = Inside::start()?;
    let (_, outer) = inside.idle()?;
    // The other namespace has a process of the same number, which is another one.
    let (_, theirs) = another.idle()?;
    let stay = Idle::new()?;
    device.add(&[stay.pid(), outer, theirs, std::process::id()])?;
    inside.sees(&[2])?;
    another.sees(&[2])?;
    ensure!(inside.order("text")? == format!("{:?}", "2\n"));
    let state = State::of(&device)?;
    let has = inside.order(&format!("has {}", stay.pid()))?;
    ensure!(has == "false", "HAS of one who has no number: {has}");
    for order in ["add", "add-tree", "write"] {
        let answer = inside.helper.order(&format!("{order} {}", stay.pid()))?;
        refused(order, answer, Errno::SRCH)?;
    }
    // There is nothing to remove.
    inside.order(&format!("remove {}", stay.pid()))?;
    inside.order(&format!("write !{}", stay.pid()))?;
    inside.order(&format!("write !3-{}", device.info()?.pid_max))?;
    state.is_kept(&device)?;
    inside.order("remove 2")?;
    has_members(&device, [stay.pid(), theirs, std::process::id()])?;
    inside.sees(&[])?;
    // Everyone is everyone: a list is one list.
    inside.order("clear")?;
    has_members(&device, [])
}

fn trees_and_ranges() -> Result<()> {
    let device = start()?;
    let mut inside = Inside::start()?;
    let outer: Vec<u32> = vec![inside.idle()?.1, inside.idle()?.1, inside.idle()?.1];
    inside.order("add-range 1 1000000")?;
    let mut everyone: BTreeSet<u32> = outer.iter().copied().collect();
    everyone.insert(inside.pid);
    has_members(&device, everyone.clone())?;
    inside.order("write !2-3")?;
    has_members(&device, [inside.pid, outer[2]])?;
    device.clear()?;
    inside.order("add-tree 1")?;
    has_members(&device, everyone.clone())?;
    device.clear()?;
    // From outside, the helper that made the namespace is the root of it all.
    device.add_trees(&[inside.helper.pid()])?;
    everyone.insert(inside.helper.pid());
    has_members(&device, everyone)?;
    inside.sees(&[1, 2, 3, 4])
}

fn events_carry_both_numbers() -> Result<()> {
    let device = start()?;
    device.set_rules(abi::RULE_FOLLOW, 0)?;
    let mut inside = Inside::start()?;
    let events = device.events(0)?.nonblocking()?;
    inside.order("watch")?;
    inside.order("add 1")?;
    let (inner, outer) = inside.idle()?;
    let stay = Idle::new()?;
    device.add(&[stay.pid()])?;
    device.remove(&[outer])?;
    let told: Vec<_> = events
        .ready()?
        .iter()
        .map(|e| (e.kind, e.pid, e.id))
        .collect();
    let expected = [
        (abi::EVENT_ADDED, inside.pid, inside.pid),
        (abi::EVENT_FORKED, outer, outer),
        (abi::EVENT_ADDED, stay.pid(), stay.pid()),
        (abi::EVENT_REMOVED, outer, outer),
    ];
    ensure!(told == expected, "outside: {told:?}, not {expected:?}");
    let expected = format!(
        "{:?}",
        [
            (abi::EVENT_ADDED, 1, inside.pid),
            (abi::EVENT_FORKED, inner, outer),
            (abi::EVENT_ADDED, 0, stay.pid()),
            (abi::EVENT_REMOVED, inner, outer),
        ]
    );
    let told = inside.order("events")?;
    ensure!(told == expected, "inside: {told}, not {expected}");
    // A number that nobody has any more at the time of the read is 0; the other one stays.
    inside.order(&format!("add {inner}"))?;
    inside.order("end")?;
    until("the child has left", || Ok(!device.has(outer)?))?;
    let told = inside.order("events")?;
    let expected = format!(
        "{:?}",
        [(abi::EVENT_ADDED, 0, outer), (abi::EVENT_FREED, 0, outer)]
    );
    ensure!(
        told == expected,
        "inside, in the end: {told}, not {expected}"
    );
    let told: Vec<_> = events
        .ready()?
        .iter()
        .map(|e| (e.kind, e.pid, e.id))
        .collect();
    let expected = [
        (abi::EVENT_ADDED, outer, outer),
        (abi::EVENT_FREED, outer, outer),
    ];
    ensure!(
        told == expected,
        "outside, in the end: {told:?}, not {expected:?}"
    );
    Ok(())
}

fn a_new_namespace_is_followed() -> Result<()> {
    let device = start()?;
    device.set_rules(abi::RULE_FOLLOW, 0)?;
    // We fork the helper, which forks into the namespace.
    device.add(&[std::process::id()])?;
    let mut inside = Inside::start()?;
    let (_, outer) = inside.idle()?;
    let us = [std::process::id(), inside.helper.pid(), inside.pid, outer];
    has_members(&device, us)?;
    inside.sees(&[1, 2])?;
    device.remove(&[std::process::id()])?;
    // Pid 1 takes everyone along.
    drop(inside);
    until("all have left", || Ok(device.members()?.is_empty()))
}

fn one_within_another() -> Result<()> {
    let device = start()?;
    let mut helper = Helper::start(&["namespace", "namespace", "serve"])?;
    helper.line()?;
    // The two helpers that made a namespace each, and the one that serves.
    let chain: Vec<u32> = proc::tree(helper.pid())?.into_iter().collect();
    ensure!(chain.len() == 3, "{chain:?}");
    device.add(&chain)?;
    let serving = *chain.last().context("nobody")?;
    ensure!(
        helper.order("members")?? == "[1]",
        "inmost, there is only the first"
    );
    ensure!(helper.order("ids")?? == format!("{{{serving}: 1}}"));
    helper.order("remove 1")??;
    has_members(&device, chain.iter().copied().take(2))?;
    refused("adding a gone pid", helper.order("add 77")?, Errno::SRCH)?;
    let gone = gone()?;
    ensure!(!Device::open()?.has(gone)?);
    helper.finish().map(drop)
}
