//! `pidlist stats -l LIST` and `--all`.

use std::io::{self, Write};

use super::view::{Document, ListView, ModuleView, OneDocument, StatsView};
use super::{on_or_off, open, refused};
use crate::output::{self, Answer};

/// Of one list, or of each.
pub fn run(list: Option<&str>, json: bool) -> anyhow::Result<Answer> {
    let mut out = output::stdout();
    let Some(list) = list else {
        let lists = pidlist_pidset::lists().map_err(refused)?;
        let module = ModuleView::from(&pidlist_pidset::module().map_err(refused)?);
        if json {
            let lists = lists.iter().map(ListView::from).collect();
            return output::json(&Document { lists, module });
        }
        for list in &lists {
            print_list(&mut out, &list.name, &(&list.stats).into())?;
            writeln!(out)?;
        }
        print_module(&mut out, &module)?;
        out.flush()?;
        return Ok(Answer::Yes);
    };
    let stats = StatsView::from(&open(list)?.stats().map_err(refused)?);
    let module = ModuleView::from(&pidlist_pidset::module().map_err(refused)?);
    if json {
        return output::json(&OneDocument {
            list,
            stats,
            module,
        });
    }
    print_list(&mut out, list, &stats)?;
    writeln!(out)?;
    print_module(&mut out, &module)?;
    out.flush()?;
    Ok(Answer::Yes)
}

fn print_list(out: &mut impl Write, name: &str, stats: &StatsView) -> io::Result<()> {
    print(
        out,
        &[
            ("list", name.into()),
            ("holds", holds(stats).into()),
            ("members", stats.members.to_string()),
            ("follow", on_or_off(stats.follow).into()),
            ("exclude", on_or_off(stats.exclude).into()),
            ("came by fork", stats.followed.to_string()),
            ("left by exit", stats.left.to_string()),
            ("could not be added", stats.failed.to_string()),
            ("got a chunk later", stats.repaired.to_string()),
            ("wait for a chunk", stats.waiting.to_string()),
            ("could not even wait", stats.overflowed.to_string()),
            ("found by a walk", stats.found.to_string()),
            ("chunks in use", stats.chunks_used.to_string()),
            ("chunks in reserve", stats.chunks_free.to_string()),
            ("leaves to reserve", stats.reserve.to_string()),
            ("refills", stats.refills.to_string()),
            ("memory", output::bytes(stats.bytes)),
            ("bound of the set", output::bytes(stats.bytes_max)),
            ("events", stats.events.to_string()),
            ("events missed", stats.events_lost.to_string()),
            ("event readers", stats.event_readers.to_string()),
        ],
    )
}

fn holds(stats: &StatsView) -> &'static str {
    if stats.threads {
        "threads"
    } else {
        "processes"
    }
}

/// Prints the figures of the module.
pub fn print_module(out: &mut impl Write, module: &ModuleView) -> io::Result<()> {
    print(
        out,
        &[
            ("lists", module.lists.to_string()),
            ("lists made", module.created.to_string()),
            ("lists deleted", module.deleted.to_string()),
            ("members", module.members.to_string()),
            ("came by fork", module.followed.to_string()),
            ("left by exit", module.left.to_string()),
            ("could not be added", module.failed.to_string()),
            ("got a chunk later", module.repaired.to_string()),
            ("could not even wait", module.overflowed.to_string()),
            ("found by a walk", module.found.to_string()),
            ("refills", module.refills.to_string()),
            ("memory", output::bytes(module.bytes)),
        ],
    )
}

/// Prints figures, one a line.
pub fn print(out: &mut impl Write, figures: &[(&str, String)]) -> io::Result<()> {
    for (name, value) in figures {
        writeln!(out, "{name:<19} {value}")?;
    }
    Ok(())
}
