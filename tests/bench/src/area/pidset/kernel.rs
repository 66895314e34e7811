//! The PID set in a running kernel beside the kernel's own, `trace_pid_list`.
//!
//! `rust_pidlist/tests/kernel` measures both, in one guest, through the same loops, and writes rows to
//! the kernel's log; `guest-tests latency` reads of joins. Where qemu counts instructions (`-icount`) a figure is the same in every run. What
//! it says includes the loop and the call: `pidset.loop` of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;

use crate::measure::Samples;
use crate::report::{Better, Bound, Figure, Report, Row};

/// What has to be kept to, so that the set is ahead of the kernel's own.
const BOUNDS: &[(&str, Bound)] = &[
    ("pidset.is_set.hit", Bound::ratio(0.6)),
    ("pidset.is_set.miss", Bound::ratio(0.6)),
    ("pidset.set", Bound::ratio(1.0)),
    ("pidset.clear", Bound::ratio(0.6)),
    ("pidset.clear.last", Bound::ratio(0.05)),
    ("pidset.next.sparse", Bound::ratio(0.05)),
    ("pidset.memory.1", Bound::ratio(1.0)),
    ("pidset.memory.1000", Bound::ratio(1.0)),
    ("pidset.memory.100000", Bound::ratio(1.0)),
    ("pidset.burst.lost", Bound::ours(0.0)),
];

const AGAINST: &str = "mainline";

const NOTES: &[&str] = &[
    "instructions: by qemu -icount, the same in every run, of them pidset.loop for loop and call \
     (pidset.loop.once where there is one call: clear.last, next.sparse)",
    "pidset.clear: 64 of 65 pids, anywhere in a chunk, go in any order; mainline scans for the next \
     one left, at best one word (other_first), at worst the whole chunk (other_last)",
    "pidset.reads: by two processors, one of which writes to the same word",
    "pidset.memory: pids 1 to N, or spread over 2^22; the set, its chunks, its reserve",
    "pidset.burst.lost: 64 children, their pids in different ranges, forked with interrupts off",
    "pidset.event.latency: from a fork to a waiting reader that has read of it, on one processor that \
     takes a nanosecond for an instruction",
];

/// A line of the kernel's log.
#[derive(Debug, Deserialize)]
struct Line {
    name: String,
    unit: String,
    /// The figures are for so many calls.
    calls: u32,
    ours: u64,
    mainline: Option<u64>,
}

/// Runs both guests, and reports what they measured.
pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    if !Path::new("qemu/guest.sh").exists() {
        report.note("pidset in the kernel is SKIPPED: this is not a checkout of pidlist");
        return Ok(());
    }
    let module = output(Command::new("qemu/build-module.sh").arg("rust_pidlist/tests/kernel"))?;
    let module = module.lines().last().context("no module was built")?;
    let counted = rows(&guest("bench-pidset", module, "bench=1", &["--icount"])?)?;
    for (name, _) in BOUNDS {
        let measured = counted.iter().any(|row| row.name == *name);
        ensure!(measured, "{name} was not measured");
    }
    let timed = rows(&guest(
        "bench-pidset-time",
        module,
        "bench=2",
        &["--smp=2"],
    )?)?;
    let kept = kept(&timed)?;
    let latency = rows(&latency()?)?;
    for row in counted
        .into_iter()
        .chain(timed)
        .chain([kept])
        .chain(latency)
    {
        report.push(row);
    }
    for note in NOTES {
        report.note(*note);
    }
    Ok(())
}

/// What a writer beside them leaves of the reads.
fn kept(timed: &[Row]) -> anyhow::Result<Row> {
    let find = |name| {
        let row = timed.iter().find(|row| row.name == name);
        row.with_context(|| format!("{name} was not measured"))
    };
    let alone = find("pidset.reads.alone")?;
    let beside = find("pidset.reads.beside_writer")?;
    let baselines = beside.baseline.zip(alone.baseline);
    let (baseline_beside, baseline_alone) = baselines.context("mainline was not measured")?;
    let samples = Samples {
        ours: vec![beside.ours / alone.ours],
        baseline: vec![baseline_beside / baseline_alone],
    };
    let figure = Figure {
        name: "pidset.reads.kept",
        unit: "of alone",
        better: Better::Higher,
    };
    Ok(Row {
        runs: beside.runs,
        ..Row::compared(figure, AGAINST, &samples)?
    })
}

/// Loads the module in a guest; returns what it wrote to the log.
fn guest(name: &str, module: &str, parameter: &str, options: &[&str]) -> anyhow::Result<String> {
    let run = "insmod /kernel_tests.ko \"$0\"; status=$?; dmesg; exit $status";
    output(
        Command::new("qemu/guest.sh")
            .env("GUEST_MODULE", "")
            .args([name, "--timeout=600", "--show"])
            .arg(format!("--file={module}:/kernel_tests.ko"))
            .args(options)
            .args(["--", "sh", "-c", run, parameter]),
    )
}

/// Has a reader wait for joins in a guest; returns what it wrote.
fn latency() -> anyhow::Result<String> {
    let run = [
        "--show",
        "--timeout=600",
        "--icount",
        "--",
        "guest-tests",
        "latency",
        "200",
    ];
    output(
        Command::new("qemu/guest.sh")
            .arg("bench-pidset-latency")
            .args(run),
    )
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_owned();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let end: Vec<_> = text.lines().rev().take(20).collect();
        for line in end.iter().rev() {
            eprintln!("{line}");
        }
        bail!("{} failed: {}", program.display(), output.status);
    }
    Ok(text)
}

/// The rows of a log, in its order, the rounds of each joined.
fn rows(log: &str) -> anyhow::Result<Vec<Row>> {
    let mut order = Vec::new();
    let mut lines: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for (_, json) in log.lines().filter_map(|l| l.split_once("tests: {")) {
        let line: Line = serde_json::from_str(&format!("{{{json}"))
            .with_context(|| format!("not a row: {{{json}"))?;
        if !lines.contains_key(&line.name) {
            order.push(line.name.clone());
        }
        lines.entry(line.name.clone()).or_default().push(line);
    }
    order.iter().map(|name| row(&lines[name])).collect()
}

/// The row of one name.
fn row(rounds: &[Line]) -> anyhow::Result<Row> {
    let first = rounds.first().context("no rounds")?;
    let figure = Figure {
        name: &first.name,
        unit: &first.unit,
        better: if first.unit == "reads/s" {
            Better::Higher
        } else {
            Better::Lower
        },
    };
    let each = |line: &Line, figure: u64| figure as f64 / f64::from(line.calls);
    let samples = Samples {
        ours: rounds.iter().map(|l| each(l, l.ours)).collect(),
        baseline: rounds
            .iter()
            .filter_map(|l| Some(each(l, l.mainline?)))
            .collect(),
    };
    if samples.baseline.is_empty() {
        return Row::alone(figure, &samples.ours);
    }
    let bound = BOUNDS.iter().find(|(name, _)| *name == first.name);
    let row = Row::compared(figure, AGAINST, &samples)?;
    Ok(match bound {
        Some((_, bound)) => row.bound(*bound),
        None => row,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = r#"
[    1.0] pidlist_kernel_tests: {"name":"pidset.loop","unit":"instructions","calls":64,"ours":1152}
[    1.1] pidlist_kernel_tests: {"name":"pidset.set","unit":"instructions","calls":2,"ours":160,"mainline":200}
[    1.1] something else: {"name": 1}
[    1.2] pidlist_kernel_tests: {"name":"pidset.set","unit":"instructions","calls":2,"ours":180,"mainline":200}
[    1.3] pidlist_kernel_tests: {"name":"pidset.set","unit":"instructions","calls":2,"ours":160,"mainline":200}
[    1.4] pidlist_kernel_tests: {"name":"pidset.burst.lost","unit":"pids","calls":1,"ours":1,"mainline":58}
"#;

    #[test]
    fn the_rounds_of_a_name_make_a_row() {
        let rows = rows(LOG).unwrap();
        let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["pidset.loop", "pidset.set", "pidset.burst.lost"]);
        assert_eq!((rows[0].ours, rows[0].baseline), (18.0, None));
        assert_eq!((rows[1].ours, rows[1].baseline), (80.0, Some(100.0)));
        assert_eq!((rows[1].ratio, rows[1].runs), (Some(0.8), 3));
        assert!(!rows[1].is_beyond() && rows[2].is_beyond());
    }

    #[test]
    fn what_readers_keep_is_for_each_side() {
        let line = |name: &str, ours, mainline| Line {
            name: format!("pidset.reads.{name}"),
            unit: "reads/s".to_owned(),
            calls: 1,
            ours,
            mainline: Some(mainline),
        };
        let timed = [
            row(&[line("alone", 100, 80)]).unwrap(),
            row(&[line("beside_writer", 50, 20)]).unwrap(),
        ];
        let kept = kept(&timed).unwrap();
        assert_eq!((kept.ours, kept.baseline), (0.5, Some(0.25)));
        assert!(super::kept(&timed[..1]).is_err());
    }

    #[test]
    fn a_row_that_was_cut_short_is_no_row() {
        let error = rows("pidlist_kernel_tests: {\"name\":\"pid").unwrap_err();
        assert_eq!(error.to_string(), "not a row: {\"name\":\"pid");
    }
}
