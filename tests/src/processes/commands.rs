//! The commands, in few words: what each of them prints.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{json, last_argument, list, nothing_lost, number};
use crate::Test;
use crate::run::{Process, pidlist, shell};

pub const TESTS: &[(&str, Test)] = &[
    (
        "processes: exit codes, signals and parents",
        exits_and_parents,
    ),
    ("processes: the tracked and their descendants", tracked),
    (
        "processes: a tree has its children below their parent",
        tree,
    ),
    ("processes: watch prints events as they happen", watch),
    (
        "processes: without BPF, /proc is polled and that is said",
        without_bpf,
    ),
    ("processes: the audit agrees with the kernel", audit),
    ("slabs: figures equal slabinfo", slabs_equal_slabinfo),
    ("doctor: everything is there", doctor),
];

fn exits_and_parents() -> Result<()> {
    // The orphan outlives its parent, and is still known as its child.
    let script = "sh -c 'exit 3' three; sh -c 'kill -9 $$' nine; \
                  sh -c 'sleep 0.3 & exit 0' middle; sleep 0.6; :";
    let document = json(&["ps", "--of-command", "--", "sh", "-c", script])?;
    nothing_lost(&document)?;
    let processes = list(&document, "processes")?;
    let find = |last: &str| {
        let found = processes.iter().find(|p| last_argument(p) == Some(last));
        found.with_context(|| format!("no process with {last}"))
    };
    let command = number(&document["summary"]["command"]["pid"])?;
    for last in ["three", "nine", "middle", "0.6"] {
        ensure!(
            find(last)?["parent_at_fork"]["pid"] == command,
            "{}",
            find(last)?
        );
    }
    ensure!(find("three")?["exit"]["code"] == 3);
    ensure!(find("nine")?["exit"]["signal_name"] == "SIGKILL");
    ensure!(find("nine")?["exit"]["code"].is_null());
    let orphan = find("0.3")?;
    ensure!(
        orphan["parent_at_fork"]["pid"] == find("middle")?["pid"],
        "{orphan}"
    );
    ensure!(number(&find("0.6")?["lifetime_ns"])? >= 600_000_000);
    Ok(())
}

fn tracked() -> Result<()> {
    pidlist(["clear"])?.expect(0)?;
    pidlist(["follow", "on"])?.expect(0)?;
    let (root, other) = (Process::shell("sleep 1000 & wait")?, Process::idle()?);
    pidlist(["add", &root.pid().to_string()])?.expect(0)?;
    let document = json(&["ps", "--tracked"])?;
    let pids: Vec<&Value> = list(&document, "processes")?
        .iter()
        .map(|p| &p["pid"])
        .collect();
    ensure!(pids.contains(&&root.pid().into()), "{pids:?}");
    ensure!(!pids.contains(&&other.pid().into()), "{pids:?}");
    let sleeps = shell(&format!(
        "kill $(cat /proc/{0}/task/{0}/children)",
        root.pid()
    ))?;
    sleeps.expect(0)?;
    pidlist(["clear"])?.expect(0)?;
    Ok(())
}

fn tree() -> Result<()> {
    let ran = pidlist([
        "tree",
        "--of-command",
        "--",
        "sh",
        "-c",
        "sh -c 'true; exit 4' below; :",
    ])?;
    let ran = ran.expect(0)?;
    let lines: Vec<&str> = ran.stdout.lines().collect();
    // The parent's line has the child's script in it, too.
    let child = lines.iter().find(|line| line.starts_with("└─"));
    let child = child.with_context(|| format!("no line for the child: {ran:#?}"))?;
    ensure!(child.contains("below") && child.contains("✝ 4"), "{child}");
    Ok(())
}

fn watch() -> Result<()> {
    let ran = pidlist(["--json", "watch", "--", "sh", "-c", "/bin/true seen; :"])?.expect(0)?;
    let mut kinds = Vec::new();
    let mut pid = None;
    for line in ran.stdout.lines() {
        let event: Value = serde_json::from_str(line).with_context(|| format!("line {line:?}"))?;
        if last_argument(&event["process"]) == Some("seen") && event["event"] == "exec" {
            pid = Some(event["process"]["pid"].clone());
        }
        kinds.push((event["event"].clone(), event["process"]["pid"].clone()));
    }
    let pid = pid.context("no exec of the command's child")?;
    let of_child: Vec<Value> = kinds
        .iter()
        .filter(|(_, p)| *p == pid)
        .map(|(kind, _)| kind.clone())
        .collect();
    ensure!(of_child == ["fork", "exec", "exit"], "{of_child:?}");
    Ok(())
}

fn without_bpf() -> Result<()> {
    let document = json(&["ps", "--source", "proc"])?;
    ensure!(
        document["summary"]["source"] == "proc",
        "{}",
        document["summary"]
    );
    let us = list(&document, "processes")?
        .iter()
        .find(|p| p["pid"] == std::process::id());
    ensure!(us.is_some(), "this process is not among them");
    // Without the right to use BPF: as another user.
    let ran = shell("su -s /bin/sh nobody -c 'pidlist ps' 2>&1")?;
    ensure!(
        ran.code == Some(0) && ran.stdout.contains("source: proc"),
        "{ran:#?}"
    );
    Ok(())
}

fn audit() -> Result<()> {
    pidlist(["audit"])?.expect(0)?;
    json(&["audit"]).map(drop)
}

fn slabs_equal_slabinfo() -> Result<()> {
    let document = json(&["slabs", "--top", "0"])?;
    ensure!(document["source"] == "bpf", "{document}");
    let mut compared = 0;
    for line in std::fs::read_to_string("/proc/slabinfo")?.lines().skip(2) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let cache = list(&document, "caches")?
            .iter()
            .find(|c| c["name"] == fields[0]);
        let cache = cache.with_context(|| format!("no cache {}", fields[0]))?;
        let size: u64 = fields[3].parse()?;
        let per_slab: u64 = fields[4].parse()?;
        let pages: u64 = fields[5].parse()?;
        ensure!(cache["size"] == size, "{line}: {cache}");
        ensure!(cache["objects_per_slab"] == per_slab, "{line}: {cache}");
        ensure!(cache["pages_per_slab"] == pages, "{line}: {cache}");
        compared += 1;
    }
    ensure!(compared > 100, "only {compared} caches were compared");
    Ok(())
}

fn doctor() -> Result<()> {
    let ran = pidlist(["doctor"])?;
    ensure!(ran.code == Some(0), "{ran:#?}");
    json(&["doctor"]).map(drop)
}
