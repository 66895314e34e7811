//! The processes that /proc shows, to whom it does so.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{list, nobody_twice};
use crate::Test;
use crate::helper::Helper;
use crate::run::{pidlist, shell};
use crate::sys::task::Idle;

pub const TESTS: &[(&str, Test)] = &[
    (
        "lives: /proc: hidepid hides others, and that is no error",
        hidden,
    ),
    (
        "lives: /proc: who vanishes while being read is no error",
        vanishing,
    ),
];

fn hidden() -> Result<()> {
    // A mount of its own, so that nobody else is concerned.
    let within = |script: &str| {
        shell(&format!(
            "unshare -m sh -c \"mount -t proc -o hidepid=2 proc /proc; {script}\""
        ))
    };
    let other = Idle::new()?;
    let ran = within("su -s /bin/sh nobody -c 'pidlist --json ps --source proc'")?.expect(0)?;
    let document: Value = serde_json::from_str(&ran.stdout)?;
    let processes = list(&document, "processes")?;
    ensure!(
        processes.iter().all(|process| process["uid"] == 65534),
        "others are shown: {document:#}"
    );
    ensure!(
        processes.iter().any(|process| process["comm"] == "pidlist"),
        "its own are not: {document:#}"
    );
    ensure!(ran.stderr.is_empty(), "{}", ran.stderr);
    // BPF asks no /proc.
    let ran = within("pidlist --json ps --source bpf")?.expect(0)?;
    let document: Value = serde_json::from_str(&ran.stdout)?;
    super::of_pid(&document, other.pid())?;
    let doctor = within("pidlist doctor")?;
    ensure!(doctor.stdout.contains("hidepid="), "{doctor:#?}");
    Ok(())
}

fn vanishing() -> Result<()> {
    let stay = Idle::several(20)?;
    let mut storms = [
        Helper::start(&["churn", "30"])?,
        Helper::start(&["forks", "0", "families"])?,
    ];
    for storm in &mut storms {
        storm.line()?;
    }
    storms[1].tell("go")?;
    thread::sleep(Duration::from_millis(50));
    let arguments = ["--json", "ps", "--source", "proc", "--for", "3s"];
    let ran = pidlist(arguments)?.expect(0)?;
    ensure!(ran.stderr.is_empty(), "{}", ran.stderr);
    let document: Value = serde_json::from_str(&ran.stdout).context("the document")?;
    nobody_twice(&document)?;
    for process in &stay {
        let process = super::of_pid(&document, process.pid())?;
        ensure!(process["state"] == "alive", "{process:#}");
    }
    let summary = &document["summary"];
    ensure!(summary["source"] == "proc", "{summary}");
    // Walks alone, and they have found what changed.
    ensure!(super::number(&summary["repaired"])? > 0, "{summary}");
    Ok(())
}
