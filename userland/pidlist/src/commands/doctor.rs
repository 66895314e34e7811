//! `pidlist doctor`.

use std::io::Write as _;

use comfy_table::{Cell, Color};
use serde::Serialize;

use crate::machine::{self, Check, State};
use crate::output::{self, Answer};

/// What `doctor --json` prints.
#[derive(Serialize)]
struct Document {
    /// Nothing is `missing`.
    ok: bool,
    checks: Vec<Check>,
}

pub fn run(json: bool) -> anyhow::Result<Answer> {
    let checks = machine::examine();
    let missing = checks
        .iter()
        .filter(|check| check.state == State::Missing)
        .count();
    if json {
        output::json(&Document {
            ok: missing == 0,
            checks,
        })?;
        return Ok(Answer::from(missing == 0));
    }
    let mut table = output::table(["", "WHAT", "FOUND"]);
    for check in &checks {
        let state = match check.state {
            State::Ok => Cell::new("ok").fg(Color::Green),
            State::Missing => Cell::new("missing").fg(Color::Red),
            State::Off => Cell::new("off").fg(Color::Yellow),
        };
        let detail = check.detail.lines().next().unwrap_or_default();
        // Whole lines, even on a narrow terminal: what to do is the point of them.
        table.add_row(vec![state, Cell::new(check.name), Cell::new(detail)]);
        if let Some(hint) = &check.hint {
            table.add_row(vec![
                Cell::new(""),
                Cell::new(""),
                Cell::new(format!("→ {hint}")),
            ]);
        }
    }
    let mut out = output::stdout();
    output::print_table(&mut out, &table)?;
    match missing {
        0 => writeln!(out, "everything that pidlist needs is there")?,
        _ => writeln!(
            out,
            "{missing} missing: what needs them does not work, the rest does"
        )?,
    }
    out.flush()?;
    Ok(Answer::from(missing == 0))
}
