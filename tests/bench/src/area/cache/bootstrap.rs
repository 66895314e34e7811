//! How a cache comes to know everybody who is already there.

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;

use anyhow::{Context, ensure};
use pidlist_process_cache::source::{SourceError, TaskSource, Want, open};
use pidlist_process_cache::{Collector, CollectorSettings, Mode, ProcSource, Sighting};
use procfs::process::{Process, all_processes};

use super::load::{Crowd, Program};
use crate::measure::{in_turns, timed};
use crate::report::{Bound, Report, Row};

const PROCESSES: usize = 5000;
/// A scan takes hundreds of milliseconds.
const ROUNDS: usize = 9;

const AGAINST: &str = "procfs crate: stat, status, cmdline, exe and cgroup of every process";

pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    let sources = match open(Want::Bpf, false) {
        Ok(sources) => sources,
        Err(reason) => {
            report.skip("cache.bootstrap", &reason);
            return Ok(());
        }
    };
    let tasks = Shared(Rc::new(RefCell::new(sources.tasks)));
    let program = Program::new()?;
    let crowd = Crowd::gather(&program, PROCESSES, b"!")?;
    let mut walked = tasks.clone();
    let walk = walked.walk()?;
    let found: std::collections::HashSet<u32> = walk.iter().map(|seen| seen.key.tgid).collect();
    ensure!(
        crowd.pids().all(|pid| found.contains(&pid)),
        "the walk has missed somebody"
    );

    let iterator = timed(1, || {
        black_box(walked.walk()?);
        Ok(())
    })?;
    let whole = timed(1, || {
        let settings = CollectorSettings {
            mode: Mode::Poll,
            ..CollectorSettings::default()
        };
        let tasks = Box::new(tasks.clone());
        black_box(Collector::start(
            settings,
            tasks,
            None,
            ProcSource::default(),
        )?);
        Ok(())
    })?;
    let rounds = ROUNDS.min(report.rounds);
    let samples = in_turns(rounds, iterator, timed(1, scan)?)?;
    let row = Row::compared(super::time("cache.bootstrap"), AGAINST, &samples)?;
    report.push(row.bound(Bound::ratio(0.1)));
    let samples = in_turns(rounds, whole, timed(1, scan)?)?;
    report.push(Row::compared(
        super::time("cache.bootstrap.filled"),
        AGAINST,
        &samples,
    )?);
    report.note(format!(
        "bootstrap: {} processes; .filled: until the cache has them, with what they run, which is read in /proc",
        walk.len()
    ));
    Ok(())
}

/// One iterator for many collectors.
#[derive(Clone)]
struct Shared(Rc<RefCell<Box<dyn TaskSource>>>);

impl TaskSource for Shared {
    fn walk(&mut self) -> Result<Vec<Sighting>, SourceError> {
        self.0.borrow_mut().walk()
    }
}

/// What a program would read to know as much as the cache. Who vanishes is left out.
fn scan() -> anyhow::Result<()> {
    let read = |process: &Process| {
        black_box(process.stat()?);
        black_box(process.status()?);
        black_box(process.cmdline()?);
        black_box(process.cgroups()?);
        // A kernel thread has none.
        black_box(process.exe().ok());
        Ok::<_, procfs::ProcError>(())
    };
    let mut processes = 0;
    for process in all_processes().context("cannot read /proc")? {
        processes += usize::from(process.is_ok_and(|process| read(&process).is_ok()));
    }
    ensure!(processes > 1, "/proc shows nobody");
    Ok(())
}
