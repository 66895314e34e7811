//! `pidlist delete`.

use pidlist_pidset::Error;

use super::{done, refused};
use crate::cli::Delete;
use crate::output::{self, Answer};

/// Deletes those it can; each of the others is an error.
pub fn run(delete: &Delete, json: bool) -> anyhow::Result<Answer> {
    let mut deleted = Vec::new();
    let mut failed = Vec::new();
    for name in &delete.names {
        match pidlist_pidset::delete(name) {
            Ok(()) => deleted.push(name),
            // The others would fare no better.
            Err(error @ (Error::NotLoaded(_) | Error::NotPermitted(_) | Error::Version { .. })) => {
                return Err(refused(error));
            }
            Err(error) => failed.push(refused(error)),
        }
    }
    let answer = done(json, &serde_json::json!({ "deleted": deleted }))?;
    let Some(last) = failed.pop() else {
        return Ok(answer);
    };
    failed.iter().for_each(output::complain);
    Err(last)
}
