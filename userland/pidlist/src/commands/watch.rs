//! `pidlist watch`.

use std::io::Write;

use pidlist_daemon::{Filter, Told};
use pidlist_process_cache::{Change, Key, Process, Selection, What, clock};
use serde::Serialize;

use super::set;
use crate::cli::{Wanted, Watch};
use crate::filter::{self, Circumstances};
use crate::link::{Link, News};
use crate::names::Names;
use crate::output::{self, Answer};
use crate::session::Session;
use crate::view::{self, Now, ProcessView, Summary};

/// A line of `watch --json`.
#[derive(Serialize)]
struct Line<'a> {
    /// `fork`, `exec`, `exit`; `found`, `gone`, `revived` if a walk noticed.
    event: &'static str,
    time_ns: u64,
    time_at: String,
    process: ProcessView<'a>,
}

/// A line of `watch --json` where changes are missing.
#[derive(Serialize)]
struct Lost {
    /// `lost`
    event: &'static str,
    changes: u64,
}

/// The last line of `watch --json`.
#[derive(Serialize)]
struct End {
    event: &'static str,
    summary: Summary,
}

pub fn run(watch: &Watch, json: bool) -> anyhow::Result<Answer> {
    let Wanted {
        filters,
        of_command,
        observe,
        ask,
    } = &watch.wanted;
    let list = filters.tracked.as_deref();
    let besides = Circumstances {
        tracked: list.map(set::members).transpose()?,
        started_since_ns: of_command.of_command.then(clock::boottime_ns),
        // Whatever is not wanted is to be filtered out: this is a log.
        json: true,
    };
    let mut printer = Printer {
        out: output::stdout(),
        selection: Selection::default(),
        names: Names::default(),
        began_ns: clock::boottime_ns(),
        now: Now::read(),
        json,
    };
    let link = Link::open(ask, observe.source)?;
    let summary = match link.filter(|link| link.stats.has_events || ask.daemon) {
        Some(mut link) => {
            let heard = link.observe(
                Filter::default(),
                observe,
                json,
                true,
                &mut |news| match news {
                    News::Began(snapshot) => {
                        printer.selection = filter::selection(filters, snapshot, &besides);
                        Ok(())
                    }
                    News::Told(Told::Lost(changes)) => printer.lost(*changes),
                    News::Told(Told::Change(change, process)) => {
                        printer.change(change, process, process.seen.parent)
                    }
                },
            )?;
            heard.summary
        }
        None => {
            let mut session = Session::open(observe.source, true)?;
            let snapshot = session.collector.reader().snapshot();
            printer.selection = filter::selection(filters, &snapshot, &besides);
            drop(snapshot);
            let mut lost = 0;
            session.observe(observe, json, true, &mut |change, cache| {
                let all = cache.counters().lost();
                if all > lost {
                    printer.lost(all - lost)?;
                    lost = all;
                }
                match cache.get(change.key) {
                    Some(process) => printer.change(change, process, cache.parent(process)),
                    None => Ok(()),
                }
            })?;
            Summary::new(&session)
        }
    };
    printer.end(summary)?;
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

struct Printer<W> {
    out: W,
    selection: Selection,
    names: Names,
    began_ns: u64,
    now: Now,
    json: bool,
}

impl<W: Write> Printer<W> {
    fn change(
        &mut self,
        change: &Change,
        process: &Process,
        parent: Option<Key>,
    ) -> anyhow::Result<()> {
        self.selection.follow(process);
        let (selection, names) = (&self.selection, &mut self.names);
        let admitted = selection.admits(process, change.time_ns, &mut |id| names.cgroup(id));
        self.selection.forget(change.what, change.key);
        if !admitted {
            return Ok(());
        }
        if self.json {
            let line = Line {
                event: name(change.what),
                time_ns: change.time_ns,
                time_at: self.now.wall(change.time_ns),
                process: ProcessView::new(
                    process,
                    parent,
                    self.now.at(change.time_ns),
                    &mut self.names,
                ),
            };
            self.json_line(&line)
        } else {
            self.text_line(change, process)
        }
    }

    fn lost(&mut self, changes: u64) -> anyhow::Result<()> {
        if self.json {
            return self.json_line(&Lost {
                event: "lost",
                changes,
            });
        }
        writeln!(self.out, "{:>11} {changes} changes lost here", "")?;
        self.out.flush()?;
        Ok(())
    }

    fn json_line(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        writeln!(self.out)?;
        // Whoever follows the stream wants each line now.
        self.out.flush()?;
        Ok(())
    }

    fn text_line(&mut self, change: &Change, process: &Process) -> anyhow::Result<()> {
        let since_ns = change.time_ns.saturating_sub(self.began_ns);
        let (seconds, micros) = (since_ns / 1_000_000_000, since_ns / 1_000 % 1_000_000);
        write!(
            self.out,
            "{seconds:>4}.{micros:06} {:<7} {:>7} ",
            name(change.what),
            process.pid()
        )?;
        match change.what {
            What::Exited | What::Gone => {
                let age = process
                    .lifetime_ns(change.time_ns)
                    .map_or("?".into(), output::span);
                write!(self.out, "{} after {age}: ", view::exit(process))?;
            }
            What::Forked => {
                if let Some(parent) = process.parent_at_fork {
                    write!(self.out, "of {}: ", parent.tgid)?;
                }
            }
            What::Executed | What::Found | What::Revived => {}
        }
        writeln!(self.out, "{}", view::command(process))?;
        self.out.flush()?;
        Ok(())
    }

    fn end(&mut self, summary: Summary) -> anyhow::Result<()> {
        if self.json {
            return self.json_line(&End {
                event: "end",
                summary,
            });
        }
        output::print_wrapped(&mut self.out, &summary.line())?;
        self.out.flush()?;
        Ok(())
    }
}
