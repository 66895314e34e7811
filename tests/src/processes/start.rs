//! Start-up, while others start up and end.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;

use super::{Watching, json, list, nobody_twice, nothing_lost, of_pid, true_picture};
use crate::Test;
use crate::helper::Helper;
use crate::ktap::Skip;
use crate::pidset::{joined, sleeper};
use crate::proc;
use crate::run::until;
use crate::sys::stall::Stall;
use crate::sys::task::{Idle, brief_child};

pub const TESTS: &[(&str, Test)] = &[
    (
        "lives: 6, a start within a storm loses nobody and doubles nobody",
        within_a_storm,
    ),
    (
        "lives: 6, a single look within a storm has all who stay",
        a_look_within_a_storm,
    ),
    (
        "lives: 1 and 6, a fork that is told after the walk has shown its child",
        told_after_the_walk,
    ),
];

fn within_a_storm() -> Result<()> {
    for round in 0..2 {
        let mut storm = Helper::start(&["churn", "40"])?;
        storm.line()?;
        // Another moment of the storm each time.
        thread::sleep(Duration::from_millis(50 * round));
        let parent = storm.pid().to_string();
        let watching = Watching::start(&["ps", "--alive", "--under", &parent])?;
        thread::sleep(Duration::from_millis(100));
        let left = storm.ask("stop")?;
        let document = watching.finish()?;
        nothing_lost(&document)?;
        nobody_twice(&document)?;
        let mut expected = left
            .split(' ')
            .map(|pid| Ok(pid.parse()?))
            .collect::<Result<BTreeSet<u32>>>()
            .with_context(|| left.clone())?;
        expected.insert(storm.pid());
        let shown: BTreeSet<u32> = list(&document, "processes")?
            .iter()
            .map(|process| Ok(u32::try_from(super::number(&process["pid"])?)?))
            .collect::<Result<_>>()?;
        ensure!(
            shown == expected,
            "round {round}: missing {:?}, ghosts {:?}; {}",
            expected.difference(&shown).collect::<Vec<_>>(),
            shown.difference(&expected).collect::<Vec<_>>(),
            document["summary"]
        );
    }
    Ok(())
}

fn a_look_within_a_storm() -> Result<()> {
    let stay = Idle::several(50)?;
    let mut storm = Helper::start(&["forks", "0", "families"])?;
    storm.line()?;
    storm.tell("go")?;
    for source in ["bpf", "proc"] {
        let document = json(&["ps", "--source", source])?;
        nobody_twice(&document)?;
        for process in &stay {
            let process = of_pid(&document, process.pid())?;
            ensure!(
                process["state"] == "alive" && process["parent"]["pid"] == std::process::id(),
                "by {source}: {process:#}"
            );
        }
    }
    storm.kill()
}

fn told_after_the_walk() -> Result<()> {
    let stall = match Stall::new() {
        Err(Errno::NOSYS) => return Err(Skip("this kernel has no userfaultfd").into()),
        stall => stall?,
    };
    // Nobody has it, and its turn comes when all others have been given.
    let pid = brief_child()?;
    thread::scope(|scope| {
        let (_, maker) = sleeper(scope, || Idle::stalled(pid, &stall))?;
        let watching = (|| {
            until("the process has a number", || {
                Ok(proc::processes()?.contains(&pid))
            })?;
            // The walk at the start shows it; it does not run, and nobody has told of its fork.
            Watching::start(&["ps"])
        })();
        stall.release()?;
        let child = joined(maker)??;
        let watching = watching?;
        drop(child);
        let document = true_picture(watching)?;
        nothing_lost(&document)?;
        let child = of_pid(&document, pid)?;
        ensure!(
            child["parent_at_fork"]["pid"] == std::process::id()
                && child["exit"]["signal_name"] == "SIGKILL",
            "{child:#}"
        );
        Ok(())
    })
}
