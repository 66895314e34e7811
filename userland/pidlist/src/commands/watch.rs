//! `pidlist watch`.

use std::io::Write as _;

use pidlist_process_cache::{Cache, Change, What, clock};
use serde::Serialize;

use super::ps;
use crate::cli::Watch;
use crate::output::{self, Answer};
use crate::session::Session;
use crate::view::{Now, ProcessView, Summary};

/// A line of `watch --json`.
#[derive(Serialize)]
struct Line<'a> {
    /// `fork`, `exec`, `exit`; `found`, `gone`, `revived` if a walk noticed.
    event: &'static str,
    time_ns: u64,
    time_at: String,
    process: ProcessView<'a>,
}

/// The last line of `watch --json`.
#[derive(Serialize)]
struct End {
    event: &'static str,
    summary: Summary,
}

pub fn run(watch: &Watch, json: bool) -> anyhow::Result<Answer> {
    let mut session = Session::open(watch.observe.source, true)?;
    let began_ns = clock::boottime_ns();
    let now = Now::read();
    let mut out = output::stdout();
    session.observe(&watch.observe, json, true, &mut |change, cache| {
        if json {
            write_json(&mut out, change, cache, now)?;
        } else {
            write_line(&mut out, change, cache, began_ns)?;
        }
        // Whoever follows the stream wants each line now.
        out.flush()?;
        Ok(())
    })?;
    let summary = Summary::new(&session);
    if json {
        serde_json::to_writer(
            &mut out,
            &End {
                event: "end",
                summary,
            },
        )?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}", summary.line())?;
    }
    out.flush()?;
    Ok(Answer::Yes)
}

fn name(what: What) -> &'static str {
    match what {
        What::Forked => "fork",
        What::Executed => "exec",
        What::Exited => "exit",
        What::Found => "found",
        What::Gone => "gone",
        What::Revived => "revived",
    }
}

fn write_json(
    out: &mut impl std::io::Write,
    change: &Change,
    cache: &Cache,
    now: Now,
) -> anyhow::Result<()> {
    let Some(process) = cache.get(change.key) else {
        return Ok(());
    };
    let line = Line {
        event: name(change.what),
        time_ns: change.time_ns,
        time_at: now.wall(change.time_ns),
        process: ProcessView::new(cache, process, now.at(change.time_ns)),
    };
    serde_json::to_writer(&mut *out, &line)?;
    writeln!(out)?;
    Ok(())
}

fn write_line(
    out: &mut impl std::io::Write,
    change: &Change,
    cache: &Cache,
    began_ns: u64,
) -> anyhow::Result<()> {
    let Some(process) = cache.get(change.key) else {
        return Ok(());
    };
    let since_ns = change.time_ns.saturating_sub(began_ns);
    let (seconds, micros) = (since_ns / 1_000_000_000, since_ns / 1_000 % 1_000_000);
    write!(
        out,
        "{seconds:>4}.{micros:06} {:<7} {:>7} ",
        name(change.what),
        process.pid()
    )?;
    match change.what {
        What::Exited | What::Gone => {
            let age = process
                .lifetime_ns(change.time_ns)
                .map_or("?".into(), output::span);
            write!(out, "{} after {age}: ", ps::exit(process))?;
        }
        What::Forked => {
            if let Some(parent) = process.parent_at_fork {
                write!(out, "of {}: ", parent.tgid)?;
            }
        }
        What::Executed | What::Found | What::Revived => {}
    }
    writeln!(out, "{}", ps::command(process))?;
    Ok(())
}
