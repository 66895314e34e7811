//! `pidlist rm`.

use pidlist_pidset::Word;

use super::{done, open, refused, roots, split};
use crate::cli::Rm;
use crate::output::Answer;

pub fn run(rm: &Rm, json: bool) -> anyhow::Result<Answer> {
    let Rm { pids, tree, on } = rm;
    if *tree {
        let roots = roots(pids.iter().copied())?;
        open(&on.list)?.remove_trees(&roots).map_err(refused)?;
    } else {
        let words: Vec<Word> = pids.iter().copied().map(Word::Remove).collect();
        open(&on.list)?.apply(&words).map_err(refused)?;
    }
    let (removed, removed_ranges) = split(pids.iter().copied());
    done(
        json,
        &serde_json::json!({
            "list": on.list,
            "tree": tree,
            "removed": removed,
            "removed_ranges": removed_ranges,
        }),
    )
}
