//! Statistics as text, in debugfs: `pidlist/lists` has a line for each list, `pidlist/module` one for
//! each figure. [`crate::abi::Stats`] and [`crate::abi::Module`] say what they mean.

use kernel::fmt;
use kernel::prelude::*;
use kernel::sync::Arc;

use crate::abi;
use crate::lists::Lists;
use crate::sys::debugfs::Directory;

/// The files, to be made; they vanish with it. May sleep.
pub(crate) fn new(lists: &Arc<Lists>) -> Result<Directory<Lists>> {
    Directory::new(c"pidlist", lists, &[(c"lists", write_lists), (c"module", write_module)])
}

fn write_lists(lists: &Lists, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "name owner rules members waiting followed left failed repaired overflowed found chunks_used chunks_free \
         reserve refills bytes bytes_max events events_lost event_readers"
    )?;
    let mut index = 0;
    while let Some((at, named)) = lists.nth(index) {
        let list = lists.describe(at, &named);
        let s = list.stats;
        let len = list.name.iter().position(|&b| b == 0).unwrap_or(list.name.len());
        let name = core::str::from_utf8(&list.name[..len]).unwrap_or("?");
        write!(f, "{name} {} ", list.owner)?;
        write_rules(s.rules as u32, f)?;
        for figure in [
            s.members,
            s.waiting,
            s.followed,
            s.left,
            s.failed,
            s.repaired,
            s.overflowed,
            s.found,
            s.chunks_used,
            s.chunks_free,
            s.reserve,
            s.refills,
            s.bytes,
            s.bytes_max,
            s.events,
            s.events_lost,
            s.event_readers,
        ] {
            write!(f, " {figure}")?;
        }
        writeln!(f)?;
        index = at + 1;
    }
    Ok(())
}

/// `processes` or `threads`, and what else is set, with commas.
fn write_rules(rules: u32, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(if rules & abi::RULE_THREADS != 0 { "threads" } else { "processes" })?;
    for (flag, name) in [(abi::RULE_FOLLOW, ",follow"), (abi::RULE_EXCLUDE, ",exclude")] {
        if rules & flag != 0 {
            f.write_str(name)?;
        }
    }
    Ok(())
}

fn write_module(lists: &Lists, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let t = lists.totals();
    for (name, figure) in [
        ("version", u64::from(abi::VERSION)),
        ("lists", t.lists),
        ("created", t.created),
        ("deleted", t.deleted),
        ("members", t.members),
        ("bytes", t.bytes),
        ("followed", t.followed),
        ("left", t.left),
        ("failed", t.failed),
        ("repaired", t.repaired),
        ("overflowed", t.overflowed),
        ("found", t.found),
        ("refills", t.refills),
    ] {
        writeln!(f, "{name} {figure}")?;
    }
    Ok(())
}
