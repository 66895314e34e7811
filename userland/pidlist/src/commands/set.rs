//! The lists in the kernel: a file a subcommand, and what they share.

use std::collections::HashSet;

use pidlist_pidset::{Error, PidSet, Pids, Which};
use serde::Serialize;

use crate::cli::{Selection, Switch};
use crate::output::{self, Advice, Answer};

pub mod add;
pub mod clear;
pub mod create;
pub mod delete;
pub mod events;
pub mod follow;
pub mod has;
pub mod list;
pub mod lists;
pub mod rm;
pub mod rules;
pub mod stats;
mod view;

pub use view::ModuleView;

/// Opens a list by name.
fn open(name: &str) -> anyhow::Result<PidSet> {
    PidSet::open_list(name).map_err(refused)
}

/// Opens a list, or the union.
fn select(of: &Selection) -> anyhow::Result<PidSet> {
    if of.union {
        PidSet::union().map_err(refused)
    } else {
        open(&of.one.list)
    }
}

/// Every member of a list.
pub fn members(name: &str) -> anyhow::Result<HashSet<u32>> {
    let members = open(name)?.members().map_err(refused)?;
    Ok(members.into_iter().collect())
}

/// Says what to do about an error, in words of this program.
fn refused(error: Error) -> anyhow::Error {
    let hint = match &error {
        Error::NotLoaded(_) => {
            "the kernel must have CONFIG_RUST=y; `pidlist doctor` tells what it has".into()
        }
        Error::NotPermitted(_) | Error::ReadOnly(_) => "sudo pidlist …".into(),
        Error::Version { .. } => "sudo rmmod rust_pidlist && make load".into(),
        Error::NoSuchList(_) => {
            "`pidlist lists` shows those there are, `pidlist create` makes one".into()
        }
        Error::ListExists(_) => "`pidlist lists` shows what it is".into(),
        Error::DefaultStays(_) => "`pidlist clear` removes its members".into(),
        Error::TooManyLists(_) => "`pidlist lists` shows them, `pidlist delete` removes one".into(),
        Error::Full(act) => match &act.list {
            Which::Named(name) => format!(
                "`pidlist stats --list {name}` shows the bound, `pidlist rules {name} --max-bytes` raises it"
            ),
            Which::Union | Which::All => return error.into(),
        },
        Error::NotOwner(_) => "`pidlist lists` shows the owners; or: sudo pidlist …".into(),
        Error::NoSuchProcess { .. } => "`pidlist ps` shows who is there".into(),
        Error::OutOfRange { .. } => "give a pid as `pidlist ps` shows it".into(),
        _ => return error.into(),
    };
    Advice {
        what: error.to_string(),
        hint,
        source: None,
    }
    .into()
}

/// Prints `document` if JSON is wanted, and else nothing.
fn done(json: bool, document: &impl Serialize) -> anyhow::Result<Answer> {
    if json {
        output::json(document)
    } else {
        Ok(Answer::Yes)
    }
}

/// `null` for the union.
fn name(of: &Selection) -> Option<&str> {
    (!of.union).then_some(of.one.list.as_str())
}

fn is_on(switch: Switch) -> bool {
    switch == Switch::On
}

fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// The pids that `--tree` starts from: it takes no ranges.
fn roots(pids: impl Iterator<Item = Pids>) -> anyhow::Result<Vec<u32>> {
    pids.map(|pids| match pids {
        Pids::One(pid) => Ok(pid),
        Pids::Range(first, last) => Err(Advice {
            what: format!("--tree with {first}-{last}"),
            hint: "--tree goes with single pids, not with ranges".into(),
            source: None,
        }
        .into()),
    })
    .collect()
}

/// Apart, for JSON: single pids, and ranges.
fn split(pids: impl Iterator<Item = Pids>) -> (Vec<u32>, Vec<[u32; 2]>) {
    let (mut single, mut ranges) = (Vec::new(), Vec::new());
    for pids in pids {
        match pids {
            Pids::One(pid) => single.push(pid),
            Pids::Range(first, last) => ranges.push([first, last]),
        }
    }
    (single, ranges)
}
