//! `pidlist events`.

use std::io::{self, Write};
use std::os::fd::AsFd as _;

use anyhow::Context as _;
use pidlist_pidset::{Batch, Event, Kind};
use pidlist_process_cache::clock;
use serde::Serialize;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{open, refused};
use crate::cli;
use crate::output::{self, Answer};
use crate::view::Now;
use crate::wait::{Caught, hung_up, readable, wait};

/// A line of `events --json`.
#[derive(Serialize)]
struct Line {
    /// `added`, `forked`, `removed`, `freed`, `cleared`, `renumbered`.
    event: &'static str,
    seq: u64,
    time_ns: u64,
    time_at: String,
    /// `null` for a task that our pid namespace does not number (any more), and for `cleared`.
    pid: Option<u32>,
    /// The task's number in the initial pid namespace; 0 for `cleared`.
    id: u32,
    /// Events that were missed just before this one.
    lost: u32,
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Reason {
    /// The list was deleted.
    Deleted,
    /// Somebody wanted an end.
    Interrupted,
    /// As many as were wanted have come.
    Count,
}

/// The last line of `events --json`.
#[derive(Serialize)]
struct End {
    event: &'static str,
    reason: Reason,
    events: u64,
    lost: u64,
    /// What to give to `--from` to go on; `null` if no event came.
    resume_from: Option<u64>,
}

pub fn run(events: &cli::Events, json: bool) -> anyhow::Result<Answer> {
    // First of all: a Ctrl-C while the list is opened is meant as well.
    let interrupt = Caught::new(SIGINT).context("setting up signals")?;
    let terminate = Caught::new(SIGTERM).context("setting up signals")?;
    let set = open(&events.of.list)?;
    let mut subscription = set.events(events.from).map_err(refused)?;
    subscription.set_nonblocking(true).map_err(refused)?;
    let now = Now::read();
    let began_ns = clock::boottime_ns();
    let stdout = io::stdout();
    let mut out = output::stdout();
    let (mut seen, mut lost) = (0, 0);
    let most = events.count.unwrap_or(u64::MAX);
    let mut resume_from = None;
    let reason = 'over: loop {
        // Before each batch: where events never cease, a Ctrl-C still counts.
        let fds = [
            Some(readable(subscription.as_fd())),
            Some(readable(interrupt.as_fd())),
            Some(readable(terminate.as_fd())),
            Some(hung_up(stdout.as_fd())),
        ];
        let [_, interrupted, terminated, unread] = wait(fds, None).context("waiting for events")?;
        if interrupted || terminated {
            break Reason::Interrupted;
        }
        if unread {
            return Ok(Answer::Yes);
        }
        let batch = match subscription.read().map_err(refused)? {
            Batch::Events(batch) => batch,
            Batch::Nothing => continue,
            Batch::End => break Reason::Deleted,
        };
        for event in batch {
            seen += 1;
            lost += u64::from(event.lost);
            resume_from = Some(event.seq + 1);
            if json {
                write_json(&mut out, event, now)?;
            } else {
                write_line(&mut out, event, began_ns)?;
            }
            if seen == most {
                break 'over Reason::Count;
            }
        }
        // Whoever follows the stream wants each line now.
        out.flush()?;
    };
    if json {
        let end = End {
            event: "end",
            reason,
            events: seen,
            lost,
            resume_from,
        };
        serde_json::to_writer(&mut out, &end)?;
        writeln!(out)?;
    } else {
        write!(out, "events: {seen}; lost: {lost}")?;
        match (reason, resume_from) {
            (Reason::Deleted, _) => writeln!(out, "; the list was deleted")?,
            (_, Some(seq)) => writeln!(out, "; to go on: --from {seq}")?,
            (_, None) => writeln!(out)?,
        }
    }
    out.flush()?;
    Ok(Answer::Yes)
}

fn write_json(out: &mut impl Write, event: &Event, now: Now) -> anyhow::Result<()> {
    let line = Line {
        event: event.kind.name(),
        seq: event.seq,
        time_ns: event.time_ns,
        time_at: now.wall(event.time_ns),
        pid: event.pid,
        id: event.id,
        lost: event.lost,
    };
    serde_json::to_writer(&mut *out, &line)?;
    writeln!(out)?;
    Ok(())
}

/// `+` who joins, `-` who leaves, with the time since we began.
fn write_line(out: &mut impl Write, event: &Event, began_ns: u64) -> io::Result<()> {
    if event.lost != 0 {
        writeln!(out, "{:>11} lost: {} events", "", event.lost)?;
    }
    let sign = if event.kind.is_join() { '+' } else { '-' };
    let pid = match (event.kind, event.pid) {
        (Kind::Cleared, _) => "all".into(),
        (_, Some(pid)) => pid.to_string(),
        (_, None) => format!("? (id {})", event.id),
    };
    writeln!(
        out,
        "{:>11} {sign} {:<10} {pid:>7}",
        since(event.time_ns, began_ns),
        event.kind.name()
    )
}

/// Seconds, negative for what was remembered.
fn since(time_ns: u64, began_ns: u64) -> String {
    let ns = time_ns.abs_diff(began_ns);
    let minus = if time_ns < began_ns { "-" } else { "" };
    let (seconds, micros) = (ns / 1_000_000_000, ns / 1_000 % 1_000_000);
    format!("{minus}{seconds}.{micros:06}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: &Event) -> String {
        let mut out = Vec::new();
        write_line(&mut out, event, 2_000_000_000).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_say_who_and_when() {
        let event = Event {
            seq: 1,
            time_ns: 3_000_500_000,
            pid: Some(42),
            id: 42,
            kind: Kind::Forked,
            lost: 0,
        };
        assert_eq!(line(&event), "   1.000500 + forked          42\n");
        let gone = Event {
            time_ns: 1_500_000_000,
            pid: None,
            kind: Kind::Freed,
            lost: 7,
            ..event
        };
        assert_eq!(
            line(&gone),
            "            lost: 7 events\n  -0.500000 - freed      ? (id 42)\n"
        );
        let cleared = Event {
            pid: None,
            kind: Kind::Cleared,
            ..event
        };
        assert_eq!(line(&cleared), "   1.000500 - cleared        all\n");
    }
}
