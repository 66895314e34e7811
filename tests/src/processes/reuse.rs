//! Pids that come round again.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{TINY_RING, Watching, list, lost, nothing_lost, number, of_pid, true_picture};
use crate::Test;
use crate::pidset::{PidMax, apart};
use crate::sys::task::{Idle, brief_child_with};

pub const TESTS: &[(&str, Test)] = &[
    (
        "lives: reused pids: every life is one of its own, and so is its exit",
        every_life,
    ),
    (
        "lives: reused pids: with losses, nobody gets another's exit",
        with_losses,
    ),
    (
        "lives: reused pids: the dead are let go, and no living ones with them",
        with_few_kept,
    ),
    (
        "lives: pids beyond those there were at the start",
        larger_than_before,
    ),
];

/// A child that ended at once: its pid and its exit code.
type Brief = (u32, u64);

/// So many children, one after the other, of pids that come round every few hundred.
fn lives(count: usize) -> Result<Vec<Brief>> {
    (1..=250_u8)
        .cycle()
        .take(count)
        .map(|code| Ok((brief_child_with(code)?, code.into())))
        .collect()
}

/// Our children that ran no other program, in the order of their starts: pid, exit code if it is known,
/// and start.
fn children(document: &Value) -> Result<Vec<(u32, Option<u64>, u64)>> {
    let us = std::process::id();
    let mut children = Vec::new();
    for process in list(document, "processes")? {
        let parent = &process["parent_at_fork"]["pid"];
        if *parent == us && process["execs"] == 0 {
            children.push((
                u32::try_from(number(&process["pid"])?)?,
                process["exit"]["code"].as_u64(),
                number(&process["start_ns"])?,
            ));
        }
    }
    children.sort_unstable_by_key(|child| child.2);
    Ok(children)
}

fn every_life() -> Result<()> {
    let _few = PidMax::set(PidMax::FEW)?;
    let watching = Watching::start(&["ps"])?;
    let expected = lives(3000)?;
    let document = true_picture(watching)?;
    nothing_lost(&document)?;
    let shown = children(&document)?;
    ensure!(
        shown.len() == expected.len(),
        "{} lives are shown",
        shown.len()
    );
    for (number, ((pid, code, _), expected)) in shown.iter().zip(&expected).enumerate() {
        ensure!(
            (*pid, *code) == (expected.0, Some(expected.1)),
            "life {number}: {pid} exited with {code:?}, expected {expected:?}"
        );
    }
    let mut pids: Vec<u32> = expected.iter().map(|life| life.0).collect();
    pids.sort_unstable();
    pids.dedup();
    ensure!(
        pids.len() < 450,
        "{} pids: they were not reused",
        pids.len()
    );
    Ok(())
}

fn with_losses() -> Result<()> {
    let _few = PidMax::set(PidMax::FEW)?;
    let watching = Watching::start_with(&[TINY_RING], &["ps"])?;
    let mut expected = lives(500)?;
    watching.stop()?;
    expected.extend(lives(1000)?);
    watching.go_on()?;
    expected.extend(lives(500)?);
    let stay = Idle::several(10)?;
    let document = true_picture(watching)?;
    ensure!(lost(&document)? > 0, "{}", document["summary"]);
    for process in &stay {
        ensure!(of_pid_alive(&document, process.pid())?, "{}", process.pid());
    }
    // What is shown is a part of what there was, in the same order.
    let mut all = expected.iter();
    let mut known = 0;
    for (pid, code, start_ns) in children(&document)? {
        if let Some(code) = code {
            ensure!(
                all.any(|life| *life == (pid, code)),
                "{pid}, of {start_ns}, did not exit with {code}"
            );
            known += 1;
        }
    }
    ensure!(known > 0, "no exit is known");
    Ok(())
}

/// Whether the newest process of that pid lives.
fn of_pid_alive(document: &Value, pid: u32) -> Result<bool> {
    let newest = list(document, "processes")?
        .iter()
        .filter(|process| process["pid"] == pid)
        .max_by_key(|process| process["start_ns"].as_u64())
        .with_context(|| format!("{pid} is not there"))?;
    Ok(newest["state"] == "alive")
}

fn with_few_kept() -> Result<()> {
    let _few = PidMax::set(PidMax::FEW)?;
    let stay = Idle::several(20)?;
    let watching = Watching::start_with(&[("PIDLIST_MAX_PROCESSES", "80")], &["ps"])?;
    lives(2000)?;
    let document = true_picture(watching)?;
    nothing_lost(&document)?;
    for process in &stay {
        let process = of_pid(&document, process.pid())?;
        ensure!(process["state"] == "alive", "{process:#}");
    }
    let summary = &document["summary"];
    ensure!(number(&summary["evicted"])? >= 1900, "{summary}");
    Ok(())
}

fn larger_than_before() -> Result<()> {
    let few = PidMax::set(PidMax::FEW)?;
    let watching = Watching::start(&["ps"])?;
    drop(few);
    let _many = PidMax::set(PidMax::MOST)?;
    let (stays, ends) = (Idle::at(apart(2))?, Idle::at(apart(200))?);
    let ended = ends.pid();
    drop(ends);
    let document = true_picture(watching)?;
    nothing_lost(&document)?;
    for (pid, lives) in [(stays.pid(), true), (ended, false)] {
        let process = of_pid(&document, pid)?;
        ensure!(
            process["exit"].is_null() == lives
                && process["parent_at_fork"]["pid"] == std::process::id(),
            "{process:#}"
        );
    }
    Ok(())
}
