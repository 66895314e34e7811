//! `pidlist tree`.

use std::collections::{HashMap, HashSet};
use std::io::{self, Write};

use pidlist_process_cache::{Cache, Key, Process};

use super::ps::{self, Picture};
use crate::cli::Ps;
use crate::output::{self, Answer};
use crate::view::Now;

pub fn run(ps: &Ps, json: bool) -> anyhow::Result<Answer> {
    let picture = Picture::take(ps, json)?;
    let shown = picture.processes(ps);
    if json {
        return picture.json(&shown);
    }
    let mut out = output::stdout();
    draw(
        &mut out,
        picture.session.collector.cache(),
        &shown,
        picture.now,
    )?;
    writeln!(out, "{} shown of {}", shown.len(), picture.summary().line())?;
    out.flush()?;
    Ok(Answer::Yes)
}

/// Draws those processes, each below its parent at fork (or the first one known).
///
/// Whose parent is not among them stands at the left edge.
fn draw(out: &mut impl Write, cache: &Cache, shown: &[&Process], now: Now) -> io::Result<()> {
    let keys: HashSet<Key> = shown.iter().map(|process| process.key()).collect();
    let mut roots = Vec::new();
    let mut children: HashMap<Key, Vec<&Process>> = HashMap::new();
    for process in shown {
        match cache
            .lineage(process.key())
            .filter(|parent| keys.contains(parent))
        {
            Some(parent) => children.entry(parent).or_default().push(process),
            None => roots.push(*process),
        }
    }
    // A stack, not recursion: a chain of processes can be longer than ours is deep.
    let mut stack: Vec<(&Process, String, String)> = roots
        .into_iter()
        .rev()
        .map(|root| (root, String::new(), String::new()))
        .collect();
    while let Some((process, own, below)) = stack.pop() {
        writeln!(out, "{own}{}", label(process, now))?;
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

fn label(process: &Process, now: Now) -> String {
    let label = format!("{} {}", process.pid(), ps::command(process));
    if process.is_alive() {
        return label;
    }
    let age = process
        .lifetime_ns(now.boottime_ns)
        .map_or("?".into(), output::span);
    let exit = ps::exit(process);
    if output::is_coloured() {
        let colour = if exit == "0" { 32 } else { 31 };
        return format!("\x1b[2m{label}\x1b[0m \x1b[{colour}m✝ {exit}\x1b[0m {age}");
    }
    format!("{label} ✝ {exit} {age}")
}
