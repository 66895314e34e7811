//! `pidlist add`, `rm`, `has`, `list`, `clear`, `follow`, `stats`: the kernel's set.

use std::collections::HashSet;
use std::io::Write as _;

use pidlist_pidset::{Error, Info, PidSet};
use serde::Serialize;

use crate::cli::Switch;
use crate::output::{self, Advice, Answer};

/// What `stats --json` prints; the fields are those of `pidlist_abi::pidset::Stats`.
#[derive(Serialize)]
struct StatsView {
    members: u64,
    follow: bool,
    followed: u64,
    left: u64,
    failed: u64,
    repaired: u64,
    chunks_used: u64,
    chunks_free: u64,
    refills: u64,
    bytes: u64,
}

fn open() -> anyhow::Result<PidSet> {
    PidSet::open().map_err(|error| {
        let hint = match &error {
            Error::NotLoaded(_) => {
                "`make load` builds and loads it, `sudo modprobe rust_pidlist` where it is installed; \
                 the kernel must have CONFIG_RUST=y: `pidlist doctor` tells"
            }
            Error::NotPermitted(_) => "the set is for root: sudo pidlist …",
            Error::Version { .. } => "sudo rmmod rust_pidlist && make load",
            _ => "`pidlist doctor` tells what is missing",
        };
        let what = "opening the kernel's set".into();
        Advice { what, hint: hint.into(), source: Some(error.into()) }.into()
    })
}

/// What the module says of itself.
pub fn info() -> anyhow::Result<Info> {
    Ok(open()?.info())
}

/// Every member.
pub fn members() -> anyhow::Result<HashSet<u32>> {
    Ok(open()?.members()?.into_iter().collect())
}

fn failed(what: &str, error: Error) -> anyhow::Error {
    let hint = match &error {
        Error::NoSuchProcess(_) => "`pidlist ps` shows who is there",
        Error::OutOfRange { .. } => {
            "give a pid of the initial pid namespace, as `pidlist ps` shows it"
        }
        Error::TooMany(_) => "give them in several calls",
        _ => return anyhow::Error::from(error).context(what.to_owned()),
    };
    Advice {
        what: what.into(),
        hint: hint.into(),
        source: Some(error.into()),
    }
    .into()
}

/// Prints `document` if JSON is wanted, and else nothing.
fn done(json: bool, document: &serde_json::Value) -> anyhow::Result<Answer> {
    if json {
        output::json(document)
    } else {
        Ok(Answer::Yes)
    }
}

pub fn add(pids: &[u32], json: bool) -> anyhow::Result<Answer> {
    open()?
        .add(pids)
        .map_err(|error| failed("adding to the kernel's set", error))?;
    done(json, &serde_json::json!({ "added": pids }))
}

pub fn remove(pids: &[u32], json: bool) -> anyhow::Result<Answer> {
    open()?
        .remove(pids)
        .map_err(|error| failed("removing from the kernel's set", error))?;
    done(json, &serde_json::json!({ "removed": pids }))
}

pub fn has(pid: u32, json: bool) -> anyhow::Result<Answer> {
    let member = open()?
        .has(pid)
        .map_err(|error| failed("asking the kernel's set", error))?;
    done(json, &serde_json::json!({ "pid": pid, "member": member }))?;
    Ok(Answer::from(member))
}

pub fn list(json: bool) -> anyhow::Result<Answer> {
    let members = open()?
        .members()
        .map_err(|error| failed("reading the kernel's set", error))?;
    if json {
        return output::json(&serde_json::json!({ "members": members }));
    }
    let mut out = output::stdout();
    for pid in members {
        writeln!(out, "{pid}")?;
    }
    out.flush()?;
    Ok(Answer::Yes)
}

pub fn clear(json: bool) -> anyhow::Result<Answer> {
    open()?
        .clear()
        .map_err(|error| failed("clearing the kernel's set", error))?;
    done(json, &serde_json::json!({ "cleared": true }))
}

pub fn follow(switch: Option<Switch>, json: bool) -> anyhow::Result<Answer> {
    let set = open()?;
    let what = "setting whether children are followed";
    if let Some(switch) = switch {
        set.set_follow(switch == Switch::On)
            .map_err(|error| failed(what, error))?;
    }
    let follow = set.follows().map_err(|error| failed(what, error))?;
    if json {
        return output::json(&serde_json::json!({ "follow": follow }));
    }
    let mut out = output::stdout();
    writeln!(out, "{}", if follow { "on" } else { "off" })?;
    out.flush()?;
    Ok(Answer::Yes)
}

pub fn stats(json: bool) -> anyhow::Result<Answer> {
    let stats = open()?
        .stats()
        .map_err(|error| failed("reading the statistics of the kernel's set", error))?;
    let view = StatsView {
        members: stats.members,
        follow: stats.rules & u64::from(pidlist_abi::pidset::RULE_FOLLOW) != 0,
        followed: stats.followed,
        left: stats.left,
        failed: stats.failed,
        repaired: stats.repaired,
        chunks_used: stats.chunks_used,
        chunks_free: stats.chunks_free,
        refills: stats.refills,
        bytes: stats.bytes,
    };
    if json {
        return output::json(&view);
    }
    let mut out = output::stdout();
    for (name, value) in [
        ("members", view.members.to_string()),
        ("follow", if view.follow { "on" } else { "off" }.to_owned()),
        ("came by fork", view.followed.to_string()),
        ("left by exit", view.left.to_string()),
        ("could not be added", view.failed.to_string()),
        ("added by repair", view.repaired.to_string()),
        ("chunks in use", view.chunks_used.to_string()),
        ("chunks in reserve", view.chunks_free.to_string()),
        ("refills", view.refills.to_string()),
        ("memory", output::bytes(view.bytes)),
    ] {
        writeln!(out, "{name:<19} {value}")?;
    }
    out.flush()?;
    Ok(Answer::Yes)
}
