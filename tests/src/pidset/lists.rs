//! Lists by name: how they are made, ruled, seen together, and removed.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use pidlist_abi::pidset as abi;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{State, has_members, refused, start};
use crate::Test;
use crate::helper::Helper;
use crate::run::until;
use crate::sys::device::{Device, name, text_of};
use crate::sys::errno;
use crate::sys::task::Idle;

pub const TESTS: &[(&str, Test)] = &[
    (
        "lists: they are made, opened, told apart and removed",
        they_come_and_go,
    ),
    (
        "lists: two at once do not overwrite each other",
        two_do_not_overwrite_each_other,
    ),
    (
        "lists: each has its rules, which can be changed",
        each_has_its_rules,
    ),
    (
        "lists: what was removed answers no more",
        a_removed_list_is_gone,
    ),
    (
        "lists: the union shows members of included lists only",
        the_union_is_a_view,
    ),
    (
        "lists: the union follows the lists",
        the_union_follows_the_lists,
    ),
    ("lists: there are 256 at most", there_is_a_most),
    ("lists: any name of the allowed characters is a name", names),
    (
        "lists: a temporary one goes with its last descriptor",
        a_temporary_one_goes,
    ),
    (
        "lists: a temporary one goes when its client is killed",
        a_killed_client_leaves_nothing,
    ),
    (
        "lists: a descriptor has the access of the one it came from",
        access_is_inherited,
    ),
];

fn they_come_and_go() -> Result<()> {
    let device = start()?;
    let before = device.module()?;
    let default = device.next_list(0)?;
    ensure!(
        default.id == 0 && text_of(&default.name) == abi::DEFAULT_LIST,
        "{default:?}"
    );
    refused("an unknown list", device.list("a"), Errno::NOENT)?;
    refused("an unknown list's end", device.delete("a"), Errno::NOENT)?;
    let a = device.create("a", 0)?;
    let b = device.create("b", abi::RULE_FOLLOW)?;
    refused("a second a", device.create("a", 0), Errno::EXIST)?;
    refused(
        "a second default list",
        device.create(abi::DEFAULT_LIST, 0),
        Errno::EXIST,
    )?;
    let lists = device.lists()?;
    let names: Vec<&str> = lists.keys().map(String::as_str).collect();
    ensure!(names == ["a", "b", "default"], "{names:?}");
    let ids: BTreeSet<u32> = lists.values().map(|list| list.id).collect();
    ensure!(ids.len() == 3, "two lists of one id: {lists:?}");
    ensure!(
        lists
            .values()
            .all(|list| list.owner == 0 && list.flags == 0 && list.reserved == 0),
        "{lists:?}"
    );
    // Each way to a list leads to the same one.
    let process = Idle::new()?;
    a.add(&[process.pid()])?;
    has_members(&device.list("a")?, [process.pid()])?;
    has_members(&b.list("a")?, [process.pid()])?;
    has_members(&b.list(abi::DEFAULT_LIST)?, [])?;
    has_members(&device.union()?.list("a")?, [process.pid()])?;
    refused(
        "the default list's end",
        device.delete(abi::DEFAULT_LIST),
        Errno::BUSY,
    )?;
    a.delete("b")?;
    device.delete("a")?;
    refused("a list after its end", device.list("a"), Errno::NOENT)?;
    refused("a second end", device.delete("a"), Errno::NOENT)?;
    let (after, lists) = (device.module()?, device.lists()?);
    ensure!(lists.len() == 1, "{lists:?}");
    ensure!(
        after.lists == 1
            && after.created == before.created + 2
            && after.deleted == before.deleted + 2,
        "{before:?}, {after:?}"
    );
    Ok(())
}

fn two_do_not_overwrite_each_other() -> Result<()> {
    let device = start()?;
    let (a, b) = (
        device.create("a", abi::RULE_FOLLOW)?,
        device.create("b", 0)?,
    );
    let mut family = Helper::start(&["serve"])?;
    family.line()?;
    let other = Idle::new()?;
    a.add(&[family.pid()])?;
    b.add(&[family.pid(), other.pid()])?;
    let child = family.order_number("idle")?;
    has_members(&a, [family.pid(), child])?;
    has_members(&b, [family.pid(), other.pid()])?;
    has_members(&device, [])?;
    b.remove(&[family.pid()])?;
    b.add(&[child])?;
    a.remove(&[child])?;
    has_members(&a, [family.pid()])?;
    has_members(&b, [other.pid(), child])?;
    a.clear()?;
    has_members(&a, [])?;
    has_members(&b, [other.pid(), child])?;
    family.order("end")?.ok();
    drop(other);
    until("all have left", || Ok(b.members()?.is_empty()))
}

fn each_has_its_rules() -> Result<()> {
    let device = start()?;
    let process = Idle::new()?;
    let all = [
        0,
        abi::RULE_FOLLOW,
        abi::RULE_EXCLUDE,
        abi::RULE_FOLLOW | abi::RULE_EXCLUDE,
    ];
    for kind in [0, abi::RULE_THREADS] {
        for made in all {
            let list = device.create_with("ruled", 0, made | kind, abi::BYTES_MIN)?;
            list.add(&[process.pid()])?;
            let is = |flags: u32, bytes_max: u64| -> Result<()> {
                let (stats, listed) = (list.stats()?, device.lists()?["ruled"].stats);
                for stats in [stats, listed] {
                    ensure!(
                        stats.rules == u64::from(flags | kind) && stats.bytes_max == bytes_max,
                        "the rules should be {:#x} and {bytes_max}: {stats:?}",
                        flags | kind
                    );
                }
                has_members(&list, [process.pid()])
            };
            is(made, abi::BYTES_MIN)?;
            for changed in all {
                list.set_rules(changed | kind, 0)?;
                is(changed, abi::BYTES_MIN)?;
                let other_kind = changed | (kind ^ abi::RULE_THREADS);
                refused("another kind", list.set_rules(other_kind, 0), Errno::INVAL)?;
                is(changed, abi::BYTES_MIN)?;
            }
            list.set_rules(made | kind, abi::BYTES_DEFAULT)?;
            is(made, abi::BYTES_DEFAULT)?;
            device.delete("ruled")?;
        }
    }
    ensure!(
        device.stats()?.rules == 0,
        "the default list's rules have changed"
    );
    Ok(())
}

fn a_removed_list_is_gone() -> Result<()> {
    let device = start()?;
    let process = Idle::new()?;
    let list = device.create("gone", abi::RULE_FOLLOW)?;
    list.add(&[process.pid()])?;
    let before = list.stats()?;
    device.delete("gone")?;
    let answers_no_more = |what: &str| -> Result<()> {
        let nothing_more = |call: &str, result: crate::sys::Result<()>| {
            refused(&format!("{what}, {call}"), result, Errno::NODEV)
        };
        nothing_more("ADD", list.add(&[process.pid()]))?;
        nothing_more("ADD of nobody", list.add(&[]))?;
        nothing_more("REMOVE", list.remove(&[process.pid()]))?;
        nothing_more("HAS", list.has(process.pid()).map(drop))?;
        nothing_more("SPAN", list.span(&mut 0, 8).map(drop))?;
        nothing_more("CLEAR", list.clear())?;
        nothing_more("RULES", list.set_rules(0, 0))?;
        nothing_more("STATS", list.stats().map(drop))?;
        nothing_more("EVENTS", list.events(0).map(drop))?;
        nothing_more("writing", list.write("1\n"))?;
        nothing_more("reading", list.read().map(drop))
    };
    answers_no_more("removed")?;
    // Another of the same name is another list.
    let another = device.create("gone", 0)?;
    answers_no_more("made anew")?;
    has_members(&another, [])?;
    ensure!(another.stats()?.followed == 0 && before.members == 1);
    has_members(&device, [])
}

fn the_union_is_a_view() -> Result<()> {
    let device = start()?;
    let idle = Idle::several(5)?;
    let pids: Vec<u32> = idle.iter().map(Idle::pid).collect();
    let (a, b) = (device.create("a", 0)?, device.create("b", 0)?);
    let not = device.create("not", abi::RULE_EXCLUDE)?;
    let union = device.union()?;
    has_members(&union, [])?;
    a.add(&[pids[0], pids[1], pids[2]])?;
    b.add(&[pids[2], pids[3]])?;
    device.add(&[pids[4]])?;
    has_members(&union, pids.clone())?;
    not.add(&[pids[0], pids[2], pids[4]])?;
    has_members(&union, [pids[1], pids[3]])?;
    for &pid in &pids {
        let expected = [pids[1], pids[3]].contains(&pid);
        ensure!(union.has(pid)? == expected, "HAS of {pid}");
    }
    let text: String = union
        .members()?
        .iter()
        .map(|pid| format!("{pid}\n"))
        .collect();
    ensure!(union.read()? == text);
    // A list may change sides.
    not.set_rules(0, 0)?;
    has_members(&union, pids.clone())?;
    a.set_rules(abi::RULE_EXCLUDE, 0)?;
    has_members(&union, [pids[3], pids[4]])?;
    device.delete("a")?;
    has_members(&union, [pids[0], pids[2], pids[3], pids[4]])?;
    // It cannot be changed.
    let state = State::of(&device)?;
    let cannot = |what: &str, result| refused(what, result, Errno::OPNOTSUPP);
    cannot("ADD", union.add(&[pids[1]]))?;
    cannot("REMOVE", union.remove(&[pids[0]]))?;
    cannot("CLEAR", union.clear())?;
    cannot("RULES", union.set_rules(0, 0))?;
    cannot("EVENTS", union.events(0).map(drop))?;
    cannot("text", union.write(&format!("{}\n", pids[1])))?;
    state.is_kept(&device)
}

fn the_union_follows_the_lists() -> Result<()> {
    let device = start()?;
    device.set_rules(abi::RULE_FOLLOW, 0)?;
    let not = device.create("not", abi::RULE_FOLLOW | abi::RULE_EXCLUDE)?;
    let union = device.union()?;
    let mut family = Helper::start(&["serve"])?;
    family.line()?;
    device.add(&[family.pid()])?;
    let in_it = family.order_number("idle")?;
    has_members(&union, [family.pid(), in_it])?;
    // What is made from here on is taken out again.
    not.add(&[family.pid()])?;
    let out = family.order_number("idle")?;
    has_members(&device, [family.pid(), in_it, out])?;
    has_members(&not, [family.pid(), out])?;
    has_members(&union, [in_it])?;
    family.order("end")?.ok();
    until("the children have left", || Ok(union.members()?.is_empty()))?;
    family.finish()?;
    until("all have left", || {
        Ok(device.members()?.is_empty() && not.members()?.is_empty())
    })
}

fn there_is_a_most() -> Result<()> {
    let device = start()?;
    let before = device.module()?;
    let process = Idle::new()?;
    let mut lists = Vec::new();
    for i in 1..abi::LISTS_MAX {
        let list = device.create_with(&format!("many-{i}"), 0, abi::RULE_FOLLOW, abi::BYTES_MIN)?;
        list.add(&[process.pid()])?;
        lists.push(list);
    }
    let state = State::of(&device)?;
    refused("one more", device.create("more", 0), Errno::NOSPC)?;
    refused(
        "one more, a temporary one",
        device.create_with("more", abi::OPEN_TEMPORARY, 0, abi::BYTES_MIN),
        Errno::NOSPC,
    )?;
    state.is_kept(&device)?;
    device.delete("many-100")?;
    device.create("more", 0)?;
    refused("one more again", device.create("another", 0), Errno::NOSPC)?;
    drop(process);
    until("it has left every list", || {
        Ok(device.module()?.members == 0)
    })?;
    drop(lists);
    start()?;
    let after = device.module()?;
    ensure!(
        after.lists == 1 && after.bytes == before.bytes,
        "{before:?}, {after:?}"
    );
    Ok(())
}

fn names() -> Result<()> {
    let device = start()?;
    let longest = "a".repeat(abi::NAME_LEN - 1);
    let good = ["a", "Z", "0", "a.b_c-d:e@f+g", "9...", longest.as_str()];
    for good in good {
        device.create(good, 0)?;
        ensure!(device.lists()?.contains_key(good), "{good:?} is not listed");
        device.list(good)?;
        device.delete(good)?;
    }
    // A name is all of it, and its case counts.
    device.create("name", 0)?;
    for other in ["nam", "names", "Name"] {
        refused(other, device.list(other), Errno::NOENT)?;
        refused(other, device.delete(other), Errno::NOENT)?;
    }
    ensure!(name("name")[4..].iter().all(|&b| b == 0));
    Ok(())
}

fn a_temporary_one_goes() -> Result<()> {
    let device = start()?;
    let make = || device.create_with("brief", abi::OPEN_TEMPORARY, 0, abi::BYTES_MIN);
    let is_there = || Ok::<_, Errno>(device.lists()?.contains_key("brief"));
    let first = make()?;
    ensure!(device.lists()?["brief"].flags == abi::OPEN_TEMPORARY);
    // Each descriptor keeps it, whoever opened it, and be it one for its events.
    let second = device.list("brief")?;
    drop(first);
    ensure!(is_there()?, "it went with its maker's descriptor");
    let copy = Device(second.0.try_clone()?);
    drop(second);
    ensure!(is_there()?, "it went with a descriptor that had a copy");
    let events = copy.events(0)?;
    drop(copy);
    ensure!(is_there()?, "it went under a reader of its events");
    drop(events);
    ensure!(!is_there()?, "it outlived its descriptors");
    // It may be removed before.
    let list = make()?;
    device.delete("brief")?;
    let another = make()?;
    drop(list);
    ensure!(is_there()?, "another list went with an old descriptor");
    drop(another);
    ensure!(!is_there()?);
    Ok(())
}

fn a_killed_client_leaves_nothing() -> Result<()> {
    let device = start()?;
    let mut client = Helper::start(&["client", "theirs"])?;
    client.line()?;
    has_members(&device.list("theirs")?, [client.pid()])?;
    let mut other = Helper::start(&["serve"])?;
    other.line()?;
    other.order("open theirs")??;
    client.kill()?;
    let listed = device.lists()?;
    ensure!(
        listed
            .get("theirs")
            .is_some_and(|list| list.flags == abi::OPEN_TEMPORARY),
        "it went although it is open elsewhere: {listed:?}"
    );
    until("the client has left", || {
        Ok(device.list("theirs")?.members()?.is_empty())
    })?;
    other.kill()?;
    let listed = device.lists()?;
    ensure!(!listed.contains_key("theirs"), "{listed:?}");
    Ok(())
}

fn access_is_inherited() -> Result<()> {
    let device = start()?;
    let process = Idle::new()?;
    let pid = process.pid();
    device.create("a", 0)?.add(&[pid])?;
    let reader = Device::open_with(OFlags::RDONLY)?;
    let state = State::of(&device)?;
    for list in [&reader, &reader.list("a")?] {
        refused("ADD", list.add(&[pid]), Errno::BADF)?;
        refused("REMOVE", list.remove(&[pid]), Errno::BADF)?;
        refused("CLEAR", list.clear(), Errno::BADF)?;
        refused("RULES", list.set_rules(abi::RULE_FOLLOW, 0), Errno::BADF)?;
        refused("CREATE", list.create("b", 0), Errno::BADF)?;
        refused("DELETE", list.delete("a"), Errno::BADF)?;
        refused("text", list.write(&format!("!{pid}\n")), Errno::BADF)?;
        // Whoever may read may look at everything.
        list.stats()?;
        list.has(pid)?;
        list.events(0)?;
        ensure!(list.lists()?.len() == 2 && list.module()?.lists == 2);
    }
    state.is_kept(&device)?;
    let writer = Device::open_with(OFlags::WRONLY)?.list("a")?;
    refused("reading", writer.read(), Errno::BADF)?;
    writer.write(&format!("!{pid}\n"))?;
    has_members(&device.list("a")?, [])?;
    // None of them is left open for a program that is started.
    for fd in [&device.0, &device.list("a")?.0, &device.events(0)?.0] {
        let flags = rustix::io::fcntl_getfd(fd)?;
        ensure!(flags.contains(rustix::io::FdFlags::CLOEXEC), "{flags:?}");
    }
    let events = device.events(0)?;
    let written = std::io::Write::write(&mut &events.0, b"1\n").map_err(errno);
    refused("writing to events", written, Errno::BADF)
}
