//! `pidlist add`.

use pidlist_pidset::Word;

use super::{done, open, refused, roots, split};
use crate::cli::Add;
use crate::output::{Advice, Answer};

pub fn run(add: &Add, json: bool) -> anyhow::Result<Answer> {
    let Add { words, tree, on } = add;
    let pids = |removed: bool| {
        let words = words.iter();
        let wanted = words.filter(move |word| matches!(word, Word::Remove(_)) == removed);
        wanted.map(|word| word.pids())
    };
    if *tree {
        if let Some(word) = pids(true).next().map(Word::Remove) {
            return Err(Advice {
                what: format!("--tree with {word}"),
                hint: "`pidlist rm --tree` removes a process and its descendants".into(),
                source: None,
            }
            .into());
        }
        let roots = roots(pids(false))?;
        open(&on.list)?.add_trees(&roots).map_err(refused)?;
    } else {
        open(&on.list)?.apply(words).map_err(refused)?;
    }
    let (added, added_ranges) = split(pids(false));
    let (removed, removed_ranges) = split(pids(true));
    done(
        json,
        &serde_json::json!({
            "list": on.list,
            "tree": tree,
            "added": added,
            "added_ranges": added_ranges,
            "removed": removed,
            "removed_ranges": removed_ranges,
        }),
    )
}
