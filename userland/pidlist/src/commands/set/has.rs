//! `pidlist has`.

use super::{done, name, refused, select};
use crate::cli::Has;
use crate::output::Answer;

pub fn run(has: &Has, json: bool) -> anyhow::Result<Answer> {
    let Has { pid, of } = has;
    let member = select(of)?.has(*pid).map_err(refused)?;
    done(
        json,
        &serde_json::json!({ "list": name(of), "union": of.union, "pid": pid, "member": member }),
    )?;
    Ok(Answer::from(member))
}
