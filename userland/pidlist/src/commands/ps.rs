//! `pidlist ps`.

use std::collections::HashSet;
use std::io::Write as _;

use comfy_table::{Attribute, Cell, CellAlignment, Color};
use pidlist_process_cache::{Cache, Process};
use serde::Serialize;

use super::set;
use crate::cli::Ps;
use crate::filter::Filter;
use crate::output::{self, Answer};
use crate::session::Session;
use crate::view::{Now, ProcessView, Summary, signal_name};

/// What `ps --json` and `tree --json` print; `tree` nests nothing: `parent_at_fork` tells.
#[derive(Serialize)]
struct Document<'a> {
    processes: Vec<ProcessView<'a>>,
    summary: Summary,
}

/// A session that is over, and who is to be shown of it.
pub struct Picture {
    pub session: Session,
    pub now: Now,
    tracked: Option<HashSet<u32>>,
}

impl Picture {
    /// Watches as `ps` and `tree` ask.
    pub fn take(ps: &Ps, json: bool) -> anyhow::Result<Self> {
        // Members leave when they die: whoever was one at either end counts.
        let list = ps.filters.tracked.as_deref();
        let mut tracked = list.map(set::members).transpose()?;
        let observe = &ps.observe;
        let with_events =
            observe.length.is_some() || observe.until_exit.is_some() || !observe.command.is_empty();
        let mut session = Session::open(observe.source, with_events)?;
        if with_events {
            session.observe(observe, json, false, &mut |_, _| Ok(()))?;
            if let (Some(list), Some(tracked)) = (list, &mut tracked) {
                tracked.extend(set::members(list)?);
            }
        }
        Ok(Self {
            session,
            now: Now::read(),
            tracked,
        })
    }

    /// Those to show, the oldest first.
    pub fn processes<'a>(&'a self, ps: &Ps) -> Vec<&'a Process> {
        let cache = self.session.collector.cache();
        let command = self.session.command.as_ref().map(|command| command.pid);
        let filter = Filter::new(
            &ps.filters,
            cache,
            self.now.boottime_ns,
            self.tracked.as_ref(),
            command,
        );
        let mut shown: Vec<&Process> = cache
            .iter()
            .filter(|process| filter.admits(process))
            .collect();
        shown.sort_unstable_by_key(|process| process.key());
        shown
    }

    pub fn summary(&self) -> Summary {
        Summary::new(&self.session)
    }

    /// Prints the JSON document of those processes.
    pub fn json(&self, shown: &[&Process]) -> anyhow::Result<Answer> {
        let cache = self.session.collector.cache();
        output::json(&Document {
            processes: shown
                .iter()
                .map(|process| ProcessView::new(cache, process, self.now))
                .collect(),
            summary: self.summary(),
        })
    }
}

pub fn run(ps: &Ps, json: bool) -> anyhow::Result<Answer> {
    let picture = Picture::take(ps, json)?;
    let shown = picture.processes(ps);
    if json {
        return picture.json(&shown);
    }
    let cache = picture.session.collector.cache();
    let mut table = output::table(["PID", "PPID", "UID", "AGE", "EXIT", "COMMAND"]);
    for column in 0..4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for process in &shown {
        let age = process
            .lifetime_ns(picture.now.boottime_ns)
            .map_or("?".into(), output::span);
        let command = command(process);
        let (exit, command) = match process.exit {
            None => (Cell::new(""), Cell::new(command)),
            Some(_) => (
                exit_cell(process),
                Cell::new(command).add_attribute(Attribute::Dim),
            ),
        };
        table.add_row(output::row([
            Cell::new(process.pid()),
            Cell::new(parent(cache, process)),
            Cell::new(process.seen.ids.uid),
            Cell::new(age),
            exit,
            command,
        ]));
    }
    let mut out = output::stdout();
    output::print_table(&mut out, &table)?;
    writeln!(out, "{} shown of {}", shown.len(), picture.summary().line())?;
    out.flush()?;
    Ok(Answer::Yes)
}

/// The parent of now, or else the one at fork; `?` if neither is known.
fn parent(cache: &Cache, process: &Process) -> String {
    let parent = cache.parent(process).or(process.parent_at_fork);
    match parent {
        Some(parent) => parent.tgid.to_string(),
        // Init and kthreadd have none.
        None if process.pid() <= 2 => "-".into(),
        None => "?".into(),
    }
}

fn exit_cell(process: &Process) -> Cell {
    let cell = Cell::new(exit(process));
    match process.exit.and_then(|exit| exit.status) {
        Some(0) => cell.fg(Color::Green),
        Some(_) => cell.fg(Color::Red),
        None => cell.fg(Color::Yellow),
    }
}

/// How it exited: a code, a signal, or `gone` if nobody saw it.
pub fn exit(process: &Process) -> String {
    let Some(exit) = process.exit else {
        return String::new();
    };
    match (exit.code(), exit.signal()) {
        (Some(code), _) => code.to_string(),
        (None, Some(signal)) => {
            signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
        }
        (None, None) => "gone".into(),
    }
}

/// Arguments as far as known; a kernel thread in brackets, a bare name in parentheses.
pub fn command(process: &Process) -> String {
    let comm = || output::text(process.comm());
    if process.seen.kthread {
        return format!("[{}]", comm());
    }
    let Some(image) = process
        .image
        .as_deref()
        .filter(|image| !image.block.is_empty())
    else {
        return format!("({})", comm());
    };
    let mut line = String::new();
    for arg in image.args() {
        if !line.is_empty() {
            line.push(' ');
        }
        if arg.is_empty() || arg.contains(&b' ') {
            line.push('\'');
            line.push_str(&output::text(arg));
            line.push('\'');
        } else {
            line.push_str(&output::text(arg));
        }
    }
    if image.args_truncated || image.args_unreadable {
        line.push_str(" …");
    }
    line
}
