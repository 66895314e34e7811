//! `pidlist list`.

use std::io::Write as _;

use super::{name, refused, select};
use crate::cli::List;
use crate::output::{self, Answer};

pub fn run(list: &List, json: bool) -> anyhow::Result<Answer> {
    let of = &list.of;
    let members = select(of)?.members().map_err(refused)?;
    if json {
        let document =
            serde_json::json!({ "list": name(of), "union": of.union, "members": members });
        return output::json(&document);
    }
    let mut out = output::stdout();
    for pid in members {
        writeln!(out, "{pid}")?;
    }
    out.flush()?;
    Ok(Answer::Yes)
}
