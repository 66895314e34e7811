//! `pidlist add`, `rm`, `has`, `list`, `clear`, `follow`, `stats`: the kernel's set.

use std::collections::HashSet;

use crate::cli::Switch;
use crate::output::{Advice, Answer};

fn unavailable<T>() -> anyhow::Result<T> {
    Err(Advice {
        what: "opening /dev/pidlist: the kernel module is not loaded".into(),
        hint: "`make load` builds and loads it; the kernel must have CONFIG_RUST=y".into(),
        source: None,
    }
    .into())
}

pub fn members() -> anyhow::Result<HashSet<u32>> {
    unavailable()
}
pub fn add(_pids: &[u32], _json: bool) -> anyhow::Result<Answer> {
    unavailable()
}
pub fn remove(_pids: &[u32], _json: bool) -> anyhow::Result<Answer> {
    unavailable()
}
pub fn has(_pid: u32, _json: bool) -> anyhow::Result<Answer> {
    unavailable()
}
pub fn list(_json: bool) -> anyhow::Result<Answer> {
    unavailable()
}
pub fn clear(_json: bool) -> anyhow::Result<Answer> {
    unavailable()
}
pub fn follow(_switch: Option<Switch>, _json: bool) -> anyhow::Result<Answer> {
    unavailable()
}
pub fn stats(_json: bool) -> anyhow::Result<Answer> {
    unavailable()
}
pub fn info() -> anyhow::Result<pidlist_abi::pidset::Info> {
    unavailable()
}
