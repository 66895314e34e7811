//! Pid namespaces: every process has the pid of each it is in.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Watching, exited, json, list, nothing_lost, of_pid};
use crate::Test;
use crate::helper::Helper;
use crate::proc;
use crate::run::shell;

pub const TESTS: &[(&str, Test)] = &[
    ("lives: pid namespaces: both pids of a process", both_pids),
    (
        "lives: pid namespaces: one within another",
        one_within_another,
    ),
    (
        "lives: pid namespaces: who watches within one sees those in it",
        watched_from_within,
    ),
];

/// Inode number of the pid namespace of a process.
fn namespace(pid: u32) -> Result<u64> {
    let link = fs::read_link(format!("/proc/{pid}/ns/pid"))?;
    let name = link.to_str().context("no text")?;
    let inode = name.strip_prefix("pid:[").and_then(|n| n.strip_suffix(']'));
    Ok(inode.with_context(|| name.to_owned())?.parse()?)
}

/// The first process in `depth` namespaces, one in another, and the helper to talk to.
fn inside(depth: usize) -> Result<(Helper, u32)> {
    let mut words = vec!["namespace"; depth];
    words.push("serve");
    let mut helper = Helper::start(&words)?;
    helper.line()?;
    // Each is the only child of the one outside.
    let mut first = helper.pid();
    for _ in 0..depth {
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children"))?;
        first = children.trim().parse().with_context(|| children.clone())?;
    }
    Ok((helper, first))
}

fn has_pids(process: &Value, inner: u32) -> Result<()> {
    let pid = u32::try_from(super::number(&process["pid"])?)?;
    ensure!(
        process["ns_pid"] == inner && process["pid_ns"] == namespace(pid)?,
        "{inner} in {}: {process:#}",
        namespace(pid)?
    );
    Ok(())
}

fn both_pids() -> Result<()> {
    let watching = Watching::start(&["ps"])?;
    let (mut helper, first) = inside(1)?;
    let inner = helper.order_number("idle")?;
    let outer = proc::tree(first)?.into_iter().find(|pid| *pid != first);
    let outer = outer.context("nobody is there")?;
    let watched = {
        // The look is taken while they live, for the namespace's number.
        let look = json(&["ps", "--source", "bpf"])?;
        has_pids(of_pid(&look, first)?, 1)?;
        has_pids(of_pid(&look, outer)?, inner)?;
        watching.finish()?
    };
    nothing_lost(&watched)?;
    has_pids(of_pid(&watched, first)?, 1)?;
    let process = of_pid(&watched, outer)?;
    has_pids(process, inner)?;
    ensure!(process["parent_at_fork"]["pid"] == first, "{process:#}");
    ensure!(namespace(first)? != namespace(std::process::id())?);
    has_pids(of_pid(&watched, std::process::id())?, std::process::id())
}

fn one_within_another() -> Result<()> {
    let watching = Watching::start(&["ps"])?;
    let (helper, first) = inside(3)?;
    has_pids(of_pid(&json(&["ps", "--source", "bpf"])?, first)?, 1)?;
    // When the first of a namespace ends, so do all in it.
    let outer = helper.pid();
    helper.finish()?;
    let document = watching.finish()?;
    nothing_lost(&document)?;
    for pid in [first, outer] {
        exited(of_pid(&document, pid)?, 0)?;
    }
    ensure!(of_pid(&document, first)?["ns_pid"] == 1);
    Ok(())
}

fn watched_from_within() -> Result<()> {
    let within = |command: &str| {
        let script = format!("mount -t proc proc /proc; sleep 1000 & {command}; kill $!");
        let script = script.replace('$', "\\$");
        shell(&format!("unshare -m -p -f sh -c \"{script}\""))
    };
    // BPF would tell numbers that mean nothing in there.
    let ran = within("pidlist --json ps -- sh -c 'sleep 0.3; exit 4'")?.expect(0)?;
    let document: Value = serde_json::from_str(&ran.stdout)?;
    let summary = &document["summary"];
    ensure!(
        summary["command"]["code"] == 4
            && summary["source"] == "proc"
            && summary["missing"][0]["why"]
                .to_string()
                .contains("namespace"),
        "{summary}"
    );
    let processes = list(&document, "processes")?;
    let mut pids: Vec<u64> = Vec::new();
    for process in processes {
        pids.push(super::number(&process["pid"])?);
    }
    ensure!(
        pids.contains(&1) && pids.iter().all(|pid| *pid < 20),
        "{pids:?}"
    );
    let sleeps: Vec<&Value> = processes
        .iter()
        .filter(|process| super::last_argument(process) == Some("1000"))
        .collect();
    ensure!(
        sleeps.len() == 1 && sleeps[0]["state"] == "alive",
        "{sleeps:#?}"
    );
    let refused = within("pidlist ps --source bpf; echo $?")?.expect(0)?;
    ensure!(
        refused.stdout.trim() == "2" && refused.stderr.contains("namespace"),
        "{refused:#?}"
    );
    Ok(())
}
