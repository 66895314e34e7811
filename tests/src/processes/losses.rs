//! Events that were lost: counted, repaired, and not at any price.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{TINY_RING, Watching, list, lost, number, of_pid, true_picture};
use crate::Test;
use crate::helper::Helper;
use crate::run::until;
use crate::sys::task::{Idle, brief_child};

pub const TESTS: &[(&str, Test)] = &[
    (
        "lives: 2, lost exits are noticed and ended by a repair",
        lost_exits,
    ),
    (
        "lives: 2, the lost exits of a storm leave no ghosts",
        no_ghosts_of_a_storm,
    ),
    (
        "lives: 7, what is lost in a storm is counted, and walks stay rare",
        walks_stay_rare,
    ),
    (
        "lives: 7, after losses the cache equals the task walk",
        the_audit_agrees,
    ),
];

/// Fills a tiny ring that nobody reads.
fn fill() -> Result<()> {
    for _ in 0..100 {
        brief_child()?;
    }
    Ok(())
}

fn lost_exits() -> Result<()> {
    let doomed = Idle::several(20)?;
    let pids: Vec<u32> = doomed.iter().map(Idle::pid).collect();
    let mut watching = Watching::start_with(&[TINY_RING], &["watch"])?;
    let lines = watching.lines()?;
    watching.stop()?;
    fill()?;
    drop(doomed);
    watching.go_on()?;
    lines.until_each("gone", pids)
}

fn no_ghosts_of_a_storm() -> Result<()> {
    let doomed = Idle::several(20)?;
    let watching = Watching::start_with(&[TINY_RING], &["ps"])?;
    watching.stop()?;
    fill()?;
    let pids: Vec<u32> = doomed.iter().map(Idle::pid).collect();
    drop(doomed);
    // Nobody has heard of their forks.
    let unheard = Idle::several(20)?;
    watching.go_on()?;
    let document = true_picture(watching)?;
    let summary = &document["summary"];
    for kind in ["forks", "exits"] {
        ensure!(number(&summary["lost"][kind])? >= 20, "{kind}: {summary}");
    }
    ensure!(number(&summary["repaired"])? >= 40, "{summary}");
    for pid in pids {
        let process = of_pid(&document, pid)?;
        // What is not known is not made up.
        ensure!(
            process["state"] == "exited"
                && process["exit"]["observed"] == false
                && process["exit"]["code"].is_null()
                && process["exit"]["time_ns"].is_null(),
            "{process:#}"
        );
    }
    for process in &unheard {
        let process = of_pid(&document, process.pid())?;
        ensure!(
            process["parent_at_fork"].is_null() && process["parent"]["pid"] == std::process::id(),
            "{process:#}"
        );
    }
    Ok(())
}

fn walks_stay_rare() -> Result<()> {
    // Two that fork for ever, and a ring that is full in no time.
    let mut storms = [
        Helper::start(&["forks", "0"])?,
        Helper::start(&["forks", "0"])?,
    ];
    let watching = Watching::start_with(&[TINY_RING], &["ps"])?;
    for storm in &mut storms {
        storm.line()?;
        storm.tell("go")?;
    }
    std::thread::sleep(std::time::Duration::from_secs(3));
    for storm in storms {
        storm.kill()?;
    }
    let document = true_picture(watching)?;
    let summary = &document["summary"];
    ensure!(lost(&document)? > 0, "nothing was lost: {summary}");
    let (walks, watched_ns) = (number(&summary["walks"])?, number(&summary["watched_ns"])?);
    // One at the start, one in the end, and between them no more than the interval allows.
    let most = 2 + watched_ns / 100_000_000;
    ensure!((2..=most).contains(&walks), "{walks} walks: {summary}");
    Ok(())
}

/// Whether `pidlist` has attached to forks, execs and exits.
fn is_attached(pid: u32) -> Result<bool> {
    let mut links = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // It may be closed meanwhile.
        let target = entry.and_then(|entry| fs::read_link(entry.path()));
        links += usize::from(target.is_ok_and(|to| to.to_string_lossy().contains("bpf_link")));
    }
    Ok(links >= 3)
}

fn the_audit_agrees() -> Result<()> {
    let mut audit = Command::new("pidlist")
        .args(["--json", "audit", "--for", "6s"])
        .envs([TINY_RING])
        .stdout(Stdio::piped())
        .spawn()?;
    until("the audit watches", || {
        ensure!(audit.try_wait()?.is_none(), "it has ended");
        is_attached(audit.id())
    })?;
    let mut storm = Helper::start(&["forks", "0", "families"])?;
    storm.line()?;
    storm.tell("go")?;
    let (stay, doomed) = (Idle::several(50)?, Idle::several(50)?);
    std::thread::sleep(std::time::Duration::from_secs(2));
    drop(doomed);
    storm.kill()?;
    let output = audit.wait_with_output()?;
    let document: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(lost(&document)? > 0, "nothing was lost: {document:#}");
    ensure!(document["agrees"] == true, "{document:#}");
    ensure!(output.status.success(), "{}", output.status);
    for kind in ["missing", "ghosts", "taken_for_dead"] {
        ensure!(list(&document, kind)?.is_empty(), "{document:#}");
    }
    drop(stay);
    Ok(())
}
