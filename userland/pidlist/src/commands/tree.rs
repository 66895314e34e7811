//! `pidlist tree`.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};
use std::sync::Arc;

use pidlist_process_cache::{Key, Process, Snapshot};

use crate::cli::Tree;
use crate::output::{self, Answer};
use crate::picture::Picture;
use crate::view::{self, Now};

pub fn run(tree: &Tree, json: bool) -> anyhow::Result<Answer> {
    let (mut picture, selection) = Picture::take(&tree.wanted, json)?;
    let shown = picture.select(&selection);
    if json {
        picture.json(&shown)?;
    } else {
        let mut out = output::stdout();
        draw(&mut out, &picture.snapshot, &shown, picture.now)?;
        picture.end(&mut out, &shown, &selection)?;
    }
    Ok(Answer::from(
        tree.wanted.filters.pids.is_empty() || !shown.is_empty(),
    ))
}

/// Draws those processes, each below its parent at fork (or the first one known).
///
/// Whose parent is not among them stands at the left edge.
fn draw(
    out: &mut impl Write,
    snapshot: &Snapshot,
    shown: &[Arc<Process>],
    now: Now,
) -> io::Result<()> {
    let keys: HashSet<Key> = shown.iter().map(|process| process.key()).collect();
    let mut roots = Vec::new();
    let mut children: HashMap<Key, Vec<&Process>> = HashMap::new();
    for process in shown {
        match snapshot
            .lineage(process.key())
            .filter(|parent| keys.contains(parent))
        {
            Some(parent) => children.entry(parent).or_default().push(process),
            None => roots.push(&**process),
        }
    }
    // A stack, not recursion: a chain of processes can be longer than ours is deep.
    let mut stack: Vec<(&Process, String, String)> = roots
        .into_iter()
        .rev()
        .map(|root| (root, String::new(), String::new()))
        .collect();
    while let Some((process, own, below)) = stack.pop() {
        writeln!(out, "{}", line(&own, process, now))?;
        let below_it = children.get(&process.key()).map_or(&[][..], Vec::as_slice);
        for (place, child) in below_it.iter().enumerate().rev() {
            let (branch, line) = if place + 1 == below_it.len() {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            stack.push((child, format!("{below}{branch}"), format!("{below}{line}")));
        }
    }
    Ok(())
}

fn line(branch: &str, process: &Process, now: Now) -> String {
    let label = format!("{branch}{} {}", process.pid(), view::command(process));
    if process.is_alive() {
        return output::cut(&label, 0);
    }
    let age = process
        .lifetime_ns(now.boottime_ns)
        .map_or("?".into(), output::span);
    let exit = view::exit(process);
    let end = format!(" ✝ {exit} {age}");
    let label = output::cut(&label, output::width_of(&end));
    if output::is_coloured() {
        let colour = if exit == "0" { 32 } else { 31 };
        return format!("\x1b[2m{label}\x1b[0m \x1b[{colour}m✝ {exit}\x1b[0m {age}");
    }
    format!("{label}{end}")
}
