//! `pidlist ps`.

use std::io::Write as _;
use std::sync::Arc;

use comfy_table::{Attribute, Cell, CellAlignment, Color};
use pidlist_process_cache::Process;

use crate::cli::{Ps, Shape};
use crate::columns::{self, Columns, Row};
use crate::output::{self, Answer};
use crate::picture::Picture;

pub fn run(ps: &Ps, json: bool) -> anyhow::Result<Answer> {
    if asks_for_help(&ps.shape) {
        return help();
    }
    let (mut picture, selection) = Picture::take(&ps.wanted, json)?;
    let mut shown = picture.select(&selection);
    arrange(&ps.shape, &mut picture, &mut shown);
    if json {
        picture.json(&shown)?;
    } else {
        let mut out = output::stdout();
        print(&mut out, &ps.shape, &mut picture, &shown)?;
        picture.end(&mut out, &shown, &selection)?;
    }
    Ok(Answer::from(
        ps.wanted.filters.pids.is_empty() || !shown.is_empty(),
    ))
}

/// `-o help`.
pub fn asks_for_help(shape: &Shape) -> bool {
    let columns = shape.columns.as_ref();
    columns.is_some_and(|columns| columns.0.is_empty())
}

/// Lists the columns.
pub fn help() -> anyhow::Result<Answer> {
    let mut out = output::stdout();
    out.write_all(columns::help().as_bytes())?;
    out.flush()?;
    Ok(Answer::Yes)
}

/// Sorts as asked.
pub fn arrange(shape: &Shape, picture: &mut Picture, shown: &mut Vec<Arc<Process>>) {
    if let Some(order) = shape.sort {
        let mut sorted: Vec<&Process> = shown.iter().map(|process| &**process).collect();
        order.sort(
            &mut sorted,
            &picture.snapshot,
            picture.now,
            &mut picture.names,
        );
        let keys: Vec<_> = sorted.iter().map(|process| process.key()).collect();
        *shown = keys
            .into_iter()
            .filter_map(|key| picture.snapshot.get(key).cloned())
            .collect();
    }
}

/// Prints the table.
pub fn print(
    out: &mut impl std::io::Write,
    shape: &Shape,
    picture: &mut Picture,
    shown: &[Arc<Process>],
) -> std::io::Result<()> {
    let columns = shape.columns.clone().unwrap_or_else(|| {
        let has_exited = shown.iter().any(|process| !process.is_alive());
        let Columns(mut columns) = Columns::default();
        columns.retain(|column| column.name != "exit" || has_exited);
        Columns(columns)
    });
    let mut table = output::table(columns.0.iter().map(|column| column.header));
    for (at, column) in columns.0.iter().enumerate() {
        if let Some(place) = table.column_mut(at)
            && column.is_figure
        {
            place.set_cell_alignment(CellAlignment::Right);
        }
    }
    for process in shown {
        let mut row = Row {
            process,
            snapshot: &picture.snapshot,
            now: picture.now,
            names: &mut picture.names,
        };
        table.add_row(output::row(columns.0.iter().map(|column| {
            let cell = Cell::new(column.value(&mut row).text);
            match (column.name, process.exit.map(|exit| exit.status)) {
                (_, None) => cell,
                ("exit", Some(Some(0))) => cell.fg(Color::Green),
                ("exit", Some(Some(_))) => cell.fg(Color::Red),
                ("exit", Some(None)) => cell.fg(Color::Yellow),
                ("command" | "name", Some(_)) => cell.add_attribute(Attribute::Dim),
                _ => cell,
            }
        })));
    }
    output::fit_last(&mut table);
    output::print_table(out, &table)
}
