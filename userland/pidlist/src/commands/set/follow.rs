//! `pidlist follow`.

use std::io::Write as _;

use super::{is_on, on_or_off, open, refused};
use crate::cli::Follow;
use crate::output::{self, Answer};

pub fn run(follow: &Follow, json: bool) -> anyhow::Result<Answer> {
    let list = &follow.on.list;
    let set = open(list)?;
    if let Some(switch) = follow.switch {
        set.set_follow(is_on(switch)).map_err(refused)?;
    }
    let follow = set.follows().map_err(refused)?;
    if json {
        return output::json(&serde_json::json!({ "list": list, "follow": follow }));
    }
    let mut out = output::stdout();
    writeln!(out, "{}", on_or_off(follow))?;
    out.flush()?;
    Ok(Answer::Yes)
}
