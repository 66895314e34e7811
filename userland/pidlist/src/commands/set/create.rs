//! `pidlist create`.

use pidlist_pidset::{Create, PidSet, Rules};

use super::view::RulesView;
use super::{done, refused};
use crate::cli;
use crate::output::Answer;

pub fn run(create: &cli::Create, json: bool) -> anyhow::Result<Answer> {
    let wanted = Create {
        follow: create.follow,
        exclude: create.exclude,
        threads: create.threads,
        bytes_max: create.max_bytes,
        temporary: false,
    };
    let set = PidSet::create(&create.name, &wanted).map_err(refused)?;
    let Rules {
        follow,
        exclude,
        threads,
        bytes_max,
    } = set.rules().map_err(refused)?;
    done(
        json,
        &RulesView {
            list: &create.name,
            follow,
            exclude,
            threads,
            bytes_max,
        },
    )
}
