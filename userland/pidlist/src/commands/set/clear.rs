//! `pidlist clear`.

use super::{done, open, refused};
use crate::cli::Clear;
use crate::output::Answer;

pub fn run(clear: &Clear, json: bool) -> anyhow::Result<Answer> {
    let list = &clear.on.list;
    open(list)?.clear().map_err(refused)?;
    done(json, &serde_json::json!({ "list": list, "cleared": true }))
}
