//! `pidlist ancestors`.

use std::io::Write as _;
use std::sync::Arc;

use pidlist_process_cache::{Key, Process};
use serde::Serialize;

use super::get;
use crate::cli::OneProcess;
use crate::output::{self, Answer};
use crate::picture::{Picture, Wish};
use crate::view::{self, KeyView, ProcessView, Summary};

/// What `ancestors --json` prints.
#[derive(Serialize)]
struct Document<'a> {
    /// The process, its parent at fork (or the first one known), and so on.
    line: Vec<ProcessView<'a>>,
    /// Whose child the last of them is, if that one is not known.
    unknown: Option<KeyView>,
    summary: Summary,
}

pub fn run(ancestors: &OneProcess, json: bool) -> anyhow::Result<Answer> {
    let mut picture = Picture::look(&ancestors.ask, ancestors.source, Wish::Pid(ancestors.pid))?;
    let Some(process) = picture.snapshot.by_pid(ancestors.pid).cloned() else {
        if json {
            output::json(&Document {
                line: Vec::new(),
                unknown: None,
                summary: picture.summary.clone(),
            })?;
        } else {
            get::unknown(ancestors.pid, &picture);
        }
        return Ok(Answer::No);
    };
    let keys: Vec<Key> = picture.snapshot.ancestors(process.key()).collect();
    let mut line: Vec<Arc<Process>> = vec![process];
    line.extend(
        keys.iter()
            .filter_map(|key| picture.snapshot.get(*key).cloned()),
    );
    let unknown = keys
        .last()
        .filter(|key| picture.snapshot.get(**key).is_none());
    if json {
        let line = line.iter().map(|process| picture.view(process)).collect();
        return output::json(&Document {
            line,
            unknown: unknown.copied().map(Into::into),
            summary: picture.summary.clone(),
        });
    }
    let mut out = output::stdout();
    for process in &line {
        writeln!(out, "{}", describe(process, &picture))?;
    }
    if let Some(key) = unknown {
        writeln!(out, "{} (not known)", key.tgid)?;
    }
    output::print_wrapped(&mut out, &picture.summary.line())?;
    out.flush()?;
    Ok(Answer::Yes)
}

fn describe(process: &Process, picture: &Picture) -> String {
    let mut end = String::new();
    if !process.is_alive() {
        let age = process
            .lifetime_ns(picture.now.boottime_ns)
            .map_or("?".into(), output::span);
        end.push_str(&format!(" ✝ {} {age}", view::exit(process)));
    }
    let now = picture.snapshot.parent(process);
    if let Some(now) = now.filter(|now| Some(*now) != process.lineage) {
        end.push_str(&format!(" (parent now: {})", get::relative(now, picture)));
    }
    let label = format!("{} {}", process.pid(), view::command(process));
    format!("{}{end}", output::cut(&label, output::width_of(&end)))
}
