//! One process has one start, whichever source tells it: /proc in ticks, BPF in nanoseconds.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Watching, json, list, living, nobody_twice, nothing_lost, of_pid};
use crate::Test;
use crate::helper::Helper;
use crate::proc::{Life, lives};
use crate::run::Process;
use crate::sys::task::Idle;

pub const TESTS: &[(&str, Test)] = &[
    (
        "lives: 5, one clock: both sources show the same lives",
        the_same_lives,
    ),
    (
        "lives: 5, one clock: who is known from before is not made twice by its events",
        known_from_before,
    ),
    (
        "lives: 5, one clock: a clock that is ahead in a time namespace",
        a_clock_that_is_ahead,
    ),
];

fn the_same_lives() -> Result<()> {
    let _some = Idle::several(30)?;
    let before = lives()?;
    let shown = [
        living(&json(&["ps", "--source", "bpf"])?)?,
        living(&json(&["ps", "--source", "proc"])?)?,
    ];
    let after = lives()?;
    let there: BTreeSet<Life> = before.intersection(&after).copied().collect();
    ensure!(there.len() > 30);
    for (source, shown) in ["bpf", "proc"].iter().zip(&shown) {
        let missing: Vec<&Life> = there.difference(shown).collect();
        ensure!(
            missing.is_empty(),
            "by {source}, these are missing: {missing:?}"
        );
    }
    Ok(())
}

fn known_from_before() -> Result<()> {
    // Its first exec is over when it says so.
    let mut old = Helper::start(&["exec-chain", "3"])?;
    old.line()?;
    let killed = Process::idle()?;
    let killed_pid = killed.pid();
    let watching = Watching::start(&["ps"])?;
    ensure!(old.ask("go")? == "done");
    drop(killed);
    let old_pid = old.pid();
    old.finish()?;
    let document = watching.finish()?;
    nobody_twice(&document)?;
    nothing_lost(&document)?;
    let old = of_pid(&document, old_pid)?;
    ensure!(
        old["execs"] == 3 && old["exit"]["code"] == 0 && old["args_from"] == "exec",
        "{old:#}"
    );
    let killed = of_pid(&document, killed_pid)?;
    // Its arguments were read in /proc, by a start in ticks; its exit came with one in nanoseconds.
    ensure!(
        killed["exit"]["signal_name"] == "SIGKILL"
            && killed["exit"]["observed"] == true
            && killed["args_from"] == "proc"
            && killed["args"][1] == "1000",
        "{killed:#}"
    );
    Ok(())
}

fn a_clock_that_is_ahead() -> Result<()> {
    if !fs::exists("/proc/self/ns/time")? {
        return Err(crate::ktap::Skip("this kernel has no time namespaces").into());
    }
    let old = Process::idle()?;
    // In there, the clock and /proc are ahead, and the kernel's own times are as ever.
    let output = Command::new(std::env::current_exe()?)
        .args(["helper", "shifted-clock", "100000", "pidlist", "--json"])
        .args(["ps", "--", "sh", "-c", "sleep 0.2; exit 3"])
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).context("the document")?;
    nobody_twice(&document)?;
    let summary = &document["summary"];
    ensure!(
        summary["command"]["code"] == 3 && summary["source"] == "proc",
        "{summary}"
    );
    let old = of_pid(&document, old.pid())?;
    ensure!(
        old["state"] == "alive" && old["args"][1] == "1000",
        "{old:#}"
    );
    for process in list(&document, "processes")? {
        // Of those who were found to be gone, nobody knows.
        let lived = process["lifetime_ns"].as_u64().unwrap_or(0);
        ensure!(lived < 90_000 * 1_000_000_000, "it is too old: {process:#}");
    }
    Ok(())
}
