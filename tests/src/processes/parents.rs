//! Whose child a process is: at its fork, and now.

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json as value};

use super::{Watching, exited, json, list, nothing_lost, of_pid};
use crate::Test;
use crate::helper::Helper;
use crate::proc;
use crate::run::until;
use crate::sys::task::{Idle, brief_child_with, vfork_child};

pub const TESTS: &[(&str, Test)] = &[
    ("lives: 4, the right parent: a double fork", a_double_fork),
    ("lives: 4, the right parent: it is killed", a_killed_parent),
    (
        "lives: 4, the right parent: a subreaper takes over",
        a_subreaper,
    ),
    (
        "lives: 4, the right parent: a dead one's pid is reused",
        a_reused_parent,
    ),
    (
        "lives: 4, the right parent: that of now, as /proc has it",
        that_of_now,
    ),
    ("lives: 4, the right parent: CLONE_PARENT", clone_parent),
    ("lives: vfork", vfork),
    ("lives: kernel threads are called so", kernel_threads),
];

/// A helper that makes a child when told to.
fn family() -> Result<(Helper, u32)> {
    let mut parent = Helper::start(&["threads", "0"])?;
    let child = fork(&mut parent)?;
    Ok((parent, child))
}

fn fork(parent: &mut Helper) -> Result<u32> {
    parent.tell("fork 0")?;
    parent.number()
}

/// Waits until an orphan has another parent, and returns that.
fn adopted(orphan: u32, before: u32) -> Result<u32> {
    until("the orphan is adopted", || {
        Ok(proc::parent(orphan).is_some_and(|parent| parent != before))
    })?;
    proc::parent(orphan).context("it has ended")
}

/// Fails unless a process that was forked by `parent` is shown as that, and as the child of `now` or nobody.
fn is_orphan(document: &Value, orphan: u32, parent: u32, now: u32) -> Result<()> {
    let orphan = of_pid(document, orphan)?;
    let parent = of_pid(document, parent)?;
    ensure!(
        orphan["parent_at_fork"]["pid"] == parent["pid"]
            && orphan["parent_at_fork"]["start_ns"] == parent["start_ns"],
        "{orphan:#}, its parent was {parent:#}"
    );
    ensure!(
        orphan["parent"].is_null() || orphan["parent"]["pid"] == now,
        "its parent is {now}: {orphan:#}"
    );
    Ok(())
}

/// Fails unless a fresh look shows this parent, and knows of none before.
fn is_child_of(pid: u32, parent: u32) -> Result<()> {
    for source in ["bpf", "proc"] {
        let document = json(&["ps", "--source", source])?;
        let process = of_pid(&document, pid)?;
        ensure!(
            process["parent"]["pid"] == parent && process["parent_at_fork"].is_null(),
            "by {source}, its parent is {parent}: {process:#}"
        );
        let start = &of_pid(&document, parent)?["start_ns"];
        ensure!(process["parent"]["start_ns"] == *start, "{process:#}");
    }
    Ok(())
}

fn a_double_fork() -> Result<()> {
    let watching = Watching::start(&["ps"])?;
    let (mut parent, orphan) = family()?;
    parent.leave()?;
    let reaper = adopted(orphan, parent.pid())?;
    is_child_of(orphan, reaper)?;
    let document = watching.finish()?;
    nothing_lost(&document)?;
    is_orphan(&document, orphan, parent.pid(), reaper)?;
    exited(of_pid(&document, parent.pid())?, 0)
}

fn a_killed_parent() -> Result<()> {
    let watching = Watching::start(&["ps"])?;
    let (parent, orphan) = family()?;
    let pid = Pid::from_raw(parent.pid().cast_signed()).context("0")?;
    kill_process(pid, Signal::KILL)?;
    let reaper = adopted(orphan, parent.pid())?;
    // The dead one is still there, unreaped.
    is_child_of(orphan, reaper)?;
    let document = watching.finish()?;
    nothing_lost(&document)?;
    is_orphan(&document, orphan, parent.pid(), reaper)?;
    let parent = of_pid(&document, parent.pid())?;
    ensure!(parent["exit"]["signal_name"] == "SIGKILL", "{parent:#}");
    Ok(())
}

fn a_subreaper() -> Result<()> {
    let watching = Watching::start(&["ps"])?;
    let mut reaper = Helper::start(&["subreaper", "threads", "0"])?;
    let orphan = fork(&mut reaper)?;
    let parent = proc::parent(orphan).context("it has ended")?;
    kill_process(
        Pid::from_raw(parent.cast_signed()).context("0")?,
        Signal::KILL,
    )?;
    ensure!(reaper.line()? == "alone");
    ensure!(adopted(orphan, parent)? == reaper.pid());
    is_child_of(orphan, reaper.pid())?;
    let document = watching.finish()?;
    nothing_lost(&document)?;
    is_orphan(&document, orphan, parent, reaper.pid())
}

fn a_reused_parent() -> Result<()> {
    let watching = Watching::start(&["ps"])?;
    // The parent leads no group: as long as anybody is in one, nobody gets its leader's number.
    let mut reaper = Helper::start(&["subreaper", "threads", "0"])?;
    let orphan = fork(&mut reaper)?;
    let parent = proc::parent(orphan).context("it has ended")?;
    reaper.tell("end 0")?;
    ensure!(reaper.line()? == "alone");
    let reaper = reaper.pid();
    let another = Idle::at(parent)?;
    is_child_of(orphan, reaper)?;
    let document = watching.finish()?;
    nothing_lost(&document)?;
    let of_this_pid: Vec<&Value> = list(&document, "processes")?
        .iter()
        .filter(|process| process["pid"] == another.pid())
        .collect();
    let [old, new] = of_this_pid[..] else {
        anyhow::bail!("not two: {of_this_pid:#?}");
    };
    let (old, new) = if old["exit"].is_null() {
        (new, old)
    } else {
        (old, new)
    };
    exited(old, 0)?;
    ensure!(new["state"] == "alive", "{new:#}");
    let orphan = of_pid(&document, orphan)?;
    ensure!(
        orphan["parent_at_fork"]["start_ns"] == old["start_ns"]
            && (orphan["parent"].is_null() || orphan["parent"]["pid"] == reaper),
        "{orphan:#}"
    );
    Ok(())
}

fn that_of_now() -> Result<()> {
    let (_family, child) = family()?;
    for source in ["bpf", "proc"] {
        let document = json(&["ps", "--source", source])?;
        let mut compared = 0;
        for process in list(&document, "processes")? {
            let pid = process["pid"].as_u64().context("no pid")?;
            // Whoever has ended meanwhile is not compared.
            let Some(parent) = proc::parent(u32::try_from(pid)?) else {
                continue;
            };
            // Nobody's child has no parent, in particular not the process 0.
            let expected = if parent == 0 {
                Value::Null
            } else {
                value!(parent)
            };
            ensure!(
                process["parent"]["pid"] == expected,
                "by {source}, not the child of {parent}: {process:#}"
            );
            compared += usize::from(parent != 0);
        }
        ensure!(compared > 10, "only {compared} were compared");
        of_pid(&document, child)?;
    }
    Ok(())
}

fn clone_parent() -> Result<()> {
    let watching = Watching::start(&["ps"])?;
    let mut forker = Helper::start(&["sibling"])?;
    forker.tell("go")?;
    let sibling = Idle::adopt(forker.number()?);
    is_child_of(sibling.pid(), std::process::id())?;
    let document = watching.finish()?;
    nothing_lost(&document)?;
    let process = of_pid(&document, sibling.pid())?;
    let us = std::process::id();
    ensure!(
        process["forker"]["pid"] == forker.pid()
            && process["parent_at_fork"]["pid"] == us
            && process["parent"]["pid"] == us,
        "{process:#}"
    );
    Ok(())
}

fn vfork() -> Result<()> {
    let watching = Watching::start(&["ps"])?;
    let (vforked, forked) = (vfork_child(7)?, brief_child_with(8)?);
    let document = watching.finish()?;
    nothing_lost(&document)?;
    for (pid, code) in [(vforked, 7), (forked, 8)] {
        let process = of_pid(&document, pid)?;
        exited(process, code)?;
        ensure!(
            process["parent_at_fork"]["pid"] == std::process::id() && process["execs"] == 0,
            "{process:#}"
        );
    }
    Ok(())
}

fn kernel_threads() -> Result<()> {
    for source in ["bpf", "proc"] {
        let document = json(&["ps", "--source", source])?;
        let mut threads = 0;
        for process in list(&document, "processes")? {
            // They are kthreadd, and its children.
            let expected = process["pid"] == 2 || process["parent"]["pid"] == 2;
            ensure!(
                process["kernel_thread"] == expected,
                "by {source}: {process:#}"
            );
            ensure!(
                !expected || process["args"].is_null(),
                "by {source}: {process:#}"
            );
            threads += usize::from(expected);
        }
        ensure!(threads > 5, "by {source}, {threads} kernel threads");
    }
    Ok(())
}
