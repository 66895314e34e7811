//! Figures: three ways to read them, which agree.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use pidlist_abi::pidset as abi;

use super::start;
use crate::Test;
use crate::helper::Helper;
use crate::run::until;
use crate::sys::device::Device;
use crate::sys::task::Idle;

pub const TESTS: &[(&str, Test)] = &[
    (
        "statistics: a list and the module agree",
        a_list_and_the_module_agree,
    ),
    ("statistics: debugfs shows the same", debugfs_shows_the_same),
];

/// Lists in which something has happened.
fn some_lists() -> Result<(Device, Vec<Device>, Vec<Idle>)> {
    let device = start()?;
    let idle = Idle::several(5)?;
    let pids: Vec<u32> = idle.iter().map(Idle::pid).collect();
    let lists = vec![
        device.create("follows", abi::RULE_FOLLOW)?,
        device.create("threads", abi::RULE_THREADS | abi::RULE_FOLLOW)?,
        device.create_with(
            "excludes",
            abi::OPEN_TEMPORARY,
            abi::RULE_EXCLUDE,
            abi::BYTES_MIN,
        )?,
    ];
    let mut storm = Helper::start(&["forks", "50"])?;
    storm.line()?;
    for list in &lists[..2] {
        list.add(&[storm.pid()])?;
    }
    storm.tell("go")?;
    storm.line()?;
    storm.finish()?;
    until("all have left", || {
        Ok(lists.iter().try_fold(0, |n, list| {
            Ok::<_, anyhow::Error>(n + list.stats()?.members)
        })? == 0)
    })?;
    device.add(&pids)?;
    lists[0].add(&pids[..3])?;
    lists[1].add(&pids[..2])?;
    lists[2].add(&pids[..1])?;
    Ok((device, lists, idle))
}

/// What `f` reads, and what LIST said both before and after: a reserve may be refilled at any time.
fn at_rest<T>(
    device: &Device,
    f: impl Fn() -> Result<T>,
) -> Result<(BTreeMap<String, abi::List>, T)> {
    loop {
        let (before, read, after) = (device.lists()?, f()?, device.lists()?);
        if before == after {
            return Ok((after, read));
        }
    }
}

fn a_list_and_the_module_agree() -> Result<()> {
    let (device, lists, _idle) = some_lists()?;
    let _events = lists[0].events(0)?;
    let (listed, (stats_of, module)) = at_rest(&device, || {
        let mut stats_of = BTreeMap::new();
        for name in device.lists()?.into_keys() {
            let stats = device.list(&name)?.stats()?;
            stats_of.insert(name, stats);
        }
        Ok((stats_of, device.module()?))
    })?;
    ensure!(listed.len() == 4);
    for (name, members, followed, rules) in [
        (abi::DEFAULT_LIST, 5, None, 0),
        ("follows", 3, Some(50), abi::RULE_FOLLOW),
        ("threads", 2, Some(50), abi::RULE_FOLLOW | abi::RULE_THREADS),
        ("excludes", 1, Some(0), abi::RULE_EXCLUDE),
    ] {
        let stats = stats_of[name];
        ensure!(stats == listed[name].stats, "{name}: {stats:?}, {listed:?}");
        ensure!(
            stats.members == members
                && stats.rules == u64::from(rules)
                && stats.waiting == 0
                && stats.bytes > 0
                && stats.bytes <= stats.bytes_max,
            "{name}: {stats:?}"
        );
        // The default list has been there for all other tests.
        if let Some(followed) = followed {
            ensure!(
                stats.followed == followed
                    && stats.left == followed + u64::from(followed > 0)
                    && stats.failed == 0
                    && stats.repaired == 0
                    && stats.chunks_used > 0
                    && stats.event_readers == u64::from(name == "follows"),
                "{name}: {stats:?}"
            );
        }
    }
    let sum = |figure: fn(&abi::Stats) -> u64| {
        listed.values().map(|list| figure(&list.stats)).sum::<u64>()
    };
    ensure!(
        module.lists == 4
            && module.created - module.deleted == 4
            && module.members == sum(|s| s.members)
            && module.bytes >= sum(|s| s.bytes)
            && module.failed == sum(|s| s.failed)
            && module.repaired == sum(|s| s.repaired)
            && module.followed == sum(|s| s.followed)
            && module.left == sum(|s| s.left)
            && module.refills == sum(|s| s.refills),
        "{module:?}, {listed:?}"
    );
    Ok(())
}

const DEBUGFS: &str = "/sys/kernel/debug/pidlist";

fn debugfs_shows_the_same() -> Result<()> {
    let (device, lists, _idle) = some_lists()?;
    let _events = lists[0].events(0)?;
    let (listed, (text, module_text, m)) = at_rest(&device, || {
        let read = |file: &str| fs::read_to_string(format!("{DEBUGFS}/{file}"));
        Ok((read("lists")?, read("module")?, device.module()?))
    })?;
    let mut lines = text
        .lines()
        .map(|line| line.split(' ').collect::<Vec<&str>>());
    let columns = lines.next().context("no line")?;
    let mut rows: BTreeMap<&str, Vec<&str>> = lines.map(|row| (row[0], row)).collect();
    for (name, list) in listed {
        let row = rows
            .remove(name.as_str())
            .with_context(|| format!("no {name} in {text}"))?;
        ensure!(row.len() == columns.len(), "{text}");
        let of = |column: &str| -> Result<&str> {
            let at = columns.iter().position(|c| *c == column);
            Ok(row[at.with_context(|| format!("no column {column} in {text}"))?])
        };
        let s = list.stats;
        for (column, figure) in [
            ("owner", u64::from(list.owner)),
            ("members", s.members),
            ("waiting", s.waiting),
            ("followed", s.followed),
            ("left", s.left),
            ("failed", s.failed),
            ("repaired", s.repaired),
            ("overflowed", s.overflowed),
            ("found", s.found),
            ("chunks_used", s.chunks_used),
            ("chunks_free", s.chunks_free),
            ("reserve", s.reserve),
            ("refills", s.refills),
            ("bytes", s.bytes),
            ("bytes_max", s.bytes_max),
            ("events", s.events),
            ("events_lost", s.events_lost),
            ("event_readers", s.event_readers),
        ] {
            ensure!(
                of(column)? == figure.to_string(),
                "{name}: {column} is not {figure} in {text}"
            );
        }
        let rules: Vec<&str> = of("rules")?.split(',').collect();
        for (flag, word) in [
            (abi::RULE_FOLLOW, "follow"),
            (abi::RULE_EXCLUDE, "exclude"),
            (abi::RULE_THREADS, "threads"),
        ] {
            let is_set = s.rules & u64::from(flag) != 0;
            ensure!(rules.contains(&word) == is_set, "{name}: {word} in {text}");
        }
    }
    ensure!(rows.is_empty(), "{rows:?} are no lists");
    let figures: BTreeMap<&str, &str> = module_text
        .lines()
        .map(|line| line.split_once(' ').context("no figure"))
        .collect::<Result<_>>()?;
    let expected = BTreeMap::from([
        ("version", u64::from(abi::VERSION)),
        ("lists", m.lists),
        ("created", m.created),
        ("deleted", m.deleted),
        ("members", m.members),
        ("bytes", m.bytes),
        ("followed", m.followed),
        ("left", m.left),
        ("failed", m.failed),
        ("repaired", m.repaired),
        ("overflowed", m.overflowed),
        ("found", m.found),
        ("refills", m.refills),
    ]);
    ensure!(
        figures.len() == expected.len()
            && expected
                .iter()
                .all(|(name, figure)| figures.get(name) == Some(&figure.to_string().as_str())),
        "{module_text} is not {m:?}"
    );
    Ok(())
}
