//! `pidlist lists`.

use std::io::Write as _;

use comfy_table::{Cell, CellAlignment};
use pidlist_pidset::ListInfo;

use super::refused;
use super::view::{Document, ListView};
use crate::output::{self, Answer};

pub fn run(json: bool) -> anyhow::Result<Answer> {
    let lists = pidlist_pidset::lists().map_err(refused)?;
    let module = pidlist_pidset::module().map_err(refused)?;
    if json {
        return output::json(&Document {
            lists: lists.iter().map(ListView::from).collect(),
            module: (&module).into(),
        });
    }
    let mut table = output::table([
        "NAME", "MEMBERS", "RULES", "OWNER", "MEMORY", "FOLLOWED", "LEFT", "FAILED", "REPAIRED",
        "BOUND",
    ]);
    for column in [1, 3, 4, 5, 6, 7, 8, 9] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for list in &lists {
        let stats = &list.stats;
        table.add_row(output::row([
            Cell::new(output::text(list.name.as_bytes())),
            Cell::new(stats.members),
            Cell::new(rules(list)),
            Cell::new(list.owner),
            Cell::new(output::bytes(stats.bytes)),
            Cell::new(stats.followed),
            Cell::new(stats.left),
            Cell::new(stats.failed),
            Cell::new(stats.repaired),
            Cell::new(output::bytes(stats.bytes_max)),
        ]));
    }
    output::hide_what_does_not_fit(&mut table);
    let mut out = output::stdout();
    output::print_table(&mut out, &table)?;
    writeln!(
        out,
        "lists: {} now, {} made, {} deleted; in all {} members, {}",
        module.lists,
        module.created,
        module.deleted,
        module.members,
        output::bytes(module.bytes),
    )?;
    out.flush()?;
    Ok(Answer::Yes)
}

/// In a few words; `-` where there is nothing to say.
fn rules(list: &ListInfo) -> String {
    let rules: Vec<&str> = [
        (list.rules.follow, "follow"),
        (list.rules.exclude, "exclude"),
        (list.rules.threads, "threads"),
        (list.temporary, "temporary"),
    ]
    .into_iter()
    .filter_map(|(is_so, name)| is_so.then_some(name))
    .collect();
    if rules.is_empty() {
        "-".into()
    } else {
        rules.join(",")
    }
}
