//! What `/proc` says of processes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};

/// The numbered entries of a directory.
fn numbers(directory: &str) -> Result<BTreeSet<u32>> {
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir(directory).with_context(|| format!("reading {directory}"))? {
        numbers.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok()),
        );
    }
    Ok(numbers)
}

/// The clock in which `stat` tells when a process was started, nanoseconds.
pub const TICK_NS: u64 = 10_000_000;

/// `PF_KTHREAD` of `include/linux/sched.h`.
const PF_KTHREAD: u64 = 0x0020_0000;

/// A process: its pid, and the tick of `CLOCK_BOOTTIME` in which it was started.
pub type Life = (u32, u64);

/// All processes.
pub fn processes() -> Result<BTreeSet<u32>> {
    numbers("/proc")
}

/// The threads of a process, the first one included.
pub fn threads(pid: u32) -> Result<BTreeSet<u32>> {
    numbers(&format!("/proc/{pid}/task"))
}

/// The fields of a process's `stat` behind its name: its state is the first, its parent the second.
fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// A process and all its descendants, as far as living parents lead to them.
pub fn tree(root: u32) -> Result<BTreeSet<u32>> {
    let mut children = BTreeMap::<u32, Vec<u32>>::new();
    for pid in processes()? {
        // It may have ended meanwhile.
        if let Some(parent) = stat(pid).and_then(|fields| fields[1].parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut tree, mut new) = (BTreeSet::new(), vec![root]);
    while let Some(pid) = new.pop() {
        tree.insert(pid);
        new.extend(children.remove(&pid).into_iter().flatten());
    }
    Ok(tree)
}

/// The state of a process as one letter, if there is such a process.
pub fn state(pid: u32) -> Option<char> {
    stat(pid)?[0].chars().next()
}

/// The parent of a process, if there is such a process.
pub fn parent(pid: u32) -> Option<u32> {
    stat(pid)?[1].parse().ok()
}

/// All processes that live: no kernel threads, no zombies, but those whose first thread is one.
pub fn lives() -> Result<BTreeSet<Life>> {
    let mut lives = BTreeSet::new();
    for pid in processes()? {
        let Some(fields) = stat(pid) else { continue };
        let number = |field: usize| fields[field].parse::<u64>();
        let (flags, threads, start) = (number(6)?, number(17)?, number(19)?);
        if flags & PF_KTHREAD == 0 && (fields[0] != "Z" || threads > 1) {
            lives.insert((pid, start));
        }
    }
    Ok(lives)
}
