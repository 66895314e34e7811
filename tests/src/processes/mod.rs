//! The process cache, through the CLI.
//!
//! A number in a test's name is that of the trouble of users that it stands for: 1 a late fork makes a ghost,
//! 2 a lost exit leaves one, 3 the dead crowd out the living, 4 a wrong parent, 5 two clocks make two processes of
//! one, 6 a gap at the start, 7 losses nobody hears of, 8 arguments cut in silence, 9 a first thread that goes
//! first, 10 threads for processes, 11 room for one processor.

mod arguments;
mod clocks;
mod commands;
mod leftovers;
mod losses;
mod namespaces;
mod parents;
mod processors;
mod reuse;
mod start;
mod storms;
mod threads;
mod without_bpf;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::Test;
use crate::proc::{self, Life};
use crate::run::{pidlist, until};

pub const TESTS: &[&[(&str, Test)]] = &[
    commands::TESTS,
    storms::TESTS,
    losses::TESTS,
    parents::TESTS,
    clocks::TESTS,
    start::TESTS,
    arguments::TESTS,
    threads::TESTS,
    processors::TESTS,
    reuse::TESTS,
    namespaces::TESTS,
    without_bpf::TESTS,
    leftovers::TESTS,
];

/// Room for a few events: they are lost in any storm.
const TINY_RING: (&str, &str) = ("PIDLIST_RING_SIZE", "4096");

fn json(arguments: &[&str]) -> Result<Value> {
    let ran = pidlist(["--json"].iter().chain(arguments))?;
    ensure!(ran.code == Some(0), "{arguments:?}: {ran:#?}");
    serde_json::from_str(&ran.stdout).with_context(|| format!("the output of {arguments:?}"))
}

/// A `pidlist` that watches until it is told to stop; killed in the end.
struct Watching {
    child: Child,
    /// Its command waits for the end of this.
    hold: Option<ChildStdin>,
}

impl Watching {
    fn start(arguments: &[&str]) -> Result<Self> {
        Self::start_with(&[], arguments)
    }

    /// With these settings. When it returns, `pidlist` has attached to everything and walked once.
    fn start_with(settings: &[(&str, &str)], arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new("pidlist")
            .arg("--json")
            .args(arguments)
            .args(["--", "cat"])
            .envs(settings.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting pidlist")?;
        let hold = child.stdin.take();
        let mut this = Self { child, hold };
        until("pidlist has started its command", || {
            let ended = this.child.try_wait()?;
            ensure!(
                ended.is_none(),
                "pidlist {arguments:?} has ended: {ended:?}"
            );
            let pid = this.pid();
            Ok(!fs::read(format!("/proc/{pid}/task/{pid}/children"))?.is_empty())
        })?;
        Ok(this)
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes it read nothing for a while.
    fn stop(&self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::STOP)?;
        until("pidlist has stopped", || {
            Ok(proc::state(self.pid()) == Some('T'))
        })
    }

    fn go_on(&self) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::CONT)?)
    }

    /// What it prints, as it does.
    fn lines(&mut self) -> Result<Lines> {
        let out = BufReader::new(self.child.stdout.take().context("no pipe")?);
        let (line, lines) = mpsc::channel();
        thread::spawn(move || {
            out.lines()
                .map_while(Result::ok)
                .try_for_each(|l| line.send(l))
        });
        Ok(Lines(lines))
    }

    /// Tells it to stop; returns the document that it prints.
    fn finish(mut self) -> Result<Value> {
        drop(self.hold.take());
        let mut text = String::new();
        let mut out = self.child.stdout.take().context("no pipe")?;
        out.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "pidlist ended with {status}: {text}");
        serde_json::from_str(&text).with_context(|| format!("what pidlist printed: {text:?}"))
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines that `pidlist watch` prints.
struct Lines(mpsc::Receiver<String>);

impl Lines {
    /// Reads on until there has been an event of this kind for each of these processes.
    fn until_each(&self, kind: &str, pids: impl IntoIterator<Item = u32>) -> Result<()> {
        let mut missing: BTreeSet<u64> = pids.into_iter().map(u64::from).collect();
        while !missing.is_empty() {
            let line = self
                .0
                .recv_timeout(Duration::from_secs(60))
                .with_context(|| format!("no {kind} for {missing:?}"))?;
            let event: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            if event["event"] == kind {
                missing.remove(&number(&event["process"]["pid"])?);
            }
        }
        Ok(())
    }
}

fn list<'a>(document: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    document[name]
        .as_array()
        .with_context(|| format!("no list {name} in {document}"))
}

fn number(value: &Value) -> Result<u64> {
    value
        .as_u64()
        .with_context(|| format!("{value} is no number"))
}

/// The only process of that pid.
fn of_pid(document: &Value, pid: u32) -> Result<&Value> {
    let found: Vec<&Value> = list(document, "processes")?
        .iter()
        .filter(|process| process["pid"] == pid)
        .collect();
    ensure!(
        found.len() == 1,
        "{} processes have been {pid}: {found:#?}",
        found.len()
    );
    Ok(found[0])
}

/// Fails unless a process has exited with this code, and that was seen.
fn exited(process: &Value, code: u32) -> Result<()> {
    ensure!(
        process["exit"]["code"] == code && process["exit"]["observed"] == true,
        "it did not exit with {code}: {process:#}"
    );
    Ok(())
}

/// The last argument of a process.
fn last_argument(process: &Value) -> Option<&str> {
    process["args"].as_array()?.last()?.as_str()
}

/// How many events of any kind were lost.
fn lost(document: &Value) -> Result<u64> {
    let lost = &document["summary"]["lost"];
    let kinds = ["forks", "execs", "exits"];
    kinds.iter().map(|kind| number(&lost[kind])).sum()
}

fn nothing_lost(document: &Value) -> Result<()> {
    let summary = &document["summary"];
    ensure!(lost(document)? == 0, "events were lost: {summary}");
    ensure!(
        summary["repaired"] == 0,
        "there was something to repair: {summary}"
    );
    Ok(())
}

/// Fails unless no process is listed twice, and no pid has two that live.
fn nobody_twice(document: &Value) -> Result<()> {
    let mut ticks = BTreeMap::<Life, &Value>::new();
    let mut living = BTreeSet::new();
    for process in list(document, "processes")? {
        let twice = ticks.insert(life(process)?, process);
        // A pid may be reused within a tick, but then the start is known to the nanosecond.
        ensure!(
            twice.is_none_or(|other| other["start_ns"] != process["start_ns"]
                && process["start_precision_ns"] == 1
                && other["start_precision_ns"] == 1),
            "twice: {process:#} and {twice:#?}"
        );
        ensure!(
            process["state"] == "exited" || living.insert(number(&process["pid"])?),
            "two that live with one pid: {process:#}"
        );
    }
    Ok(())
}

fn life(process: &Value) -> Result<Life> {
    let ticks = number(&process["start_ns"])? / proc::TICK_NS;
    Ok((u32::try_from(number(&process["pid"])?)?, ticks))
}

/// Those who live according to a document, without kernel threads.
fn living(document: &Value) -> Result<BTreeSet<Life>> {
    let processes = list(document, "processes")?.iter();
    processes
        .filter(|process| process["state"] != "exited" && process["kernel_thread"] == false)
        .map(life)
        .collect()
}

/// Stops `watching`, and fails unless those who live in its document do so in /proc, and the other way
/// round. To be called while nothing else is starting processes.
fn true_picture(watching: Watching) -> Result<Value> {
    let (pid, before) = (watching.pid(), proc::lives()?);
    let document = watching.finish()?;
    let after = proc::lives()?;
    let living = living(&document)?;
    let ghosts: Vec<&Life> = living
        .difference(&after)
        .filter(|life| life.0 != pid)
        .collect();
    ensure!(
        ghosts.is_empty(),
        "ghosts: {ghosts:?}; {}",
        document["summary"]
    );
    let missing: Vec<&Life> = before
        .intersection(&after)
        .filter(|life| !living.contains(life))
        .collect();
    ensure!(
        missing.is_empty(),
        "not in the picture: {missing:?}; {}",
        document["summary"]
    );
    nobody_twice(&document)?;
    Ok(document)
}
