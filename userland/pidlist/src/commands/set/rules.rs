//! `pidlist rules`.

use std::io::Write as _;

use pidlist_pidset::ChangeRules;

use super::view::RulesView;
use super::{is_on, on_or_off, open, refused};
use crate::cli::Rules;
use crate::output::{self, Answer};

pub fn run(rules: &Rules, json: bool) -> anyhow::Result<Answer> {
    let set = open(&rules.name)?;
    let change = ChangeRules {
        follow: rules.follow.map(is_on),
        exclude: rules.exclude.map(is_on),
        bytes_max: rules.max_bytes,
    };
    let now = if change == ChangeRules::default() {
        set.rules()
    } else {
        set.set_rules(change)
    }
    .map_err(refused)?;
    if json {
        return output::json(&RulesView {
            list: &rules.name,
            follow: now.follow,
            exclude: now.exclude,
            threads: now.threads,
            bytes_max: now.bytes_max,
        });
    }
    let mut out = output::stdout();
    for (name, value) in [
        ("follow", on_or_off(now.follow)),
        ("exclude", on_or_off(now.exclude)),
        ("threads", on_or_off(now.threads)),
        ("max-bytes", &output::bytes(now.bytes_max)),
    ] {
        writeln!(out, "{name:<9} {value}")?;
    }
    out.flush()?;
    Ok(Answer::Yes)
}
