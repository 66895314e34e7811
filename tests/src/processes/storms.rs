//! Many short lives: each is seen, and what is kept of them is bounded.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    Watching, exited, json, last_argument, list, nothing_lost, number, of_pid, true_picture,
};
use crate::Test;
use crate::sys::task::{Idle, brief_child};

pub const TESTS: &[(&str, Test)] = &[
    (
        "processes: 5,000 short lives, one after the other",
        five_thousand_lives,
    ),
    ("processes: four storms at once", four_storms_at_once),
    (
        "lives: 1, forks of those long dead and forgotten make no ghosts",
        no_ghosts_of_the_forgotten,
    ),
    (
        "lives: 3, a cache full of the dead takes in the living and keeps them",
        full_of_the_dead,
    ),
    ("lives: 3, memory is bounded in a storm", memory_is_bounded),
];

/// Every one of the `count` lives of every one of the `storms` is there, exactly once.
pub fn all_lives(document: &Value, storms: usize, count: usize) -> Result<()> {
    nothing_lost(document)?;
    let mut seen = BTreeMap::<&str, usize>::new();
    for process in list(document, "processes")? {
        let Some(argument) = last_argument(process).filter(|a| a.starts_with("storm-")) else {
            continue;
        };
        if process["comm"] == "guest-tests" {
            continue;
        }
        *seen.entry(argument).or_default() += 1;
        exited(process, 0)?;
        ensure!(
            process["parent_at_fork"]["pid"].is_u64(),
            "no parent: {process}"
        );
    }
    ensure!(
        seen.len() == count,
        "{} different lives of {count} were seen",
        seen.len()
    );
    let wrong = seen.iter().find(|(_, times)| **times != storms);
    ensure!(
        wrong.is_none(),
        "this one was seen a wrong number of times: {wrong:?}"
    );
    Ok(())
}

fn five_thousand_lives() -> Result<()> {
    let document = json(&[
        "ps",
        "--of-command",
        "--exited",
        "--",
        "guest-tests",
        "storm",
        "5000",
    ])?;
    all_lives(&document, 1, 5000)?;
    let seen = &document["summary"]["seen"];
    for kind in ["forks", "execs", "exits"] {
        ensure!(number(&seen[kind])? >= 5000, "{kind}: {seen}");
    }
    Ok(())
}

fn four_storms_at_once() -> Result<()> {
    let storms = "for i in 1 2 3 4; do guest-tests storm 500 >/dev/null & done; wait";
    let document = json(&["ps", "--of-command", "--exited", "--", "sh", "-c", storms])?;
    all_lives(&document, 4, 500)
}

/// Room for hardly anybody but the living.
const FEW: (&str, &str) = ("PIDLIST_MAX_PROCESSES", "100");

fn no_ghosts_of_the_forgotten() -> Result<()> {
    let watching = Watching::start_with(&[FEW], &["ps"])?;
    for _ in 0..2000 {
        brief_child()?;
    }
    let document = true_picture(watching)?;
    nothing_lost(&document)?;
    let summary = &document["summary"];
    ensure!(number(&summary["evicted"])? >= 1800, "{summary}");
    ensure!(number(&summary["exited"])? <= 100, "{summary}");
    Ok(())
}

fn full_of_the_dead() -> Result<()> {
    let mut living = Idle::several(80)?;
    let watching = Watching::start_with(&[FEW], &["ps"])?;
    for _ in 0..100 {
        for _ in 0..10 {
            brief_child()?;
        }
        // More than there is room for: the living stay all the same.
        living.push(Idle::new()?);
    }
    let document = true_picture(watching)?;
    nothing_lost(&document)?;
    for process in &living {
        let process = of_pid(&document, process.pid())?;
        ensure!(process["state"] == "alive", "{process:#}");
    }
    let summary = &document["summary"];
    ensure!(number(&summary["evicted"])? >= 900, "{summary}");
    ensure!(number(&summary["exited"])? <= 1, "{summary}");
    Ok(())
}

/// Most memory of its own that a process has had, KiB.
fn peak_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib
        .with_context(|| format!("no VmHWM in {status}"))?
        .parse()?)
}

fn memory_is_bounded() -> Result<()> {
    let watching = Watching::start_with(&[("PIDLIST_MAX_BYTES", "256K")], &["ps"])?;
    let mut peaks = Vec::new();
    for _ in 0..4 {
        for _ in 0..1000 {
            brief_child()?;
        }
        peaks.push(peak_kib(watching.pid())?);
    }
    let document = watching.finish()?;
    nothing_lost(&document)?;
    let evicted = number(&document["summary"]["evicted"])?;
    ensure!(evicted >= 3000, "{}", document["summary"]);
    // The allocator may take a little more at times; 3,000 lives would be more than 1,000 KiB.
    ensure!(
        peaks[3] <= peaks[0] + 256,
        "it grows with the storm, KiB: {peaks:?}"
    );
    Ok(())
}
