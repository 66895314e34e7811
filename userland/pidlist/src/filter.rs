//! Which processes to show.

use std::collections::HashSet;

use pidlist_process_cache::{Cache, Key, Process};

use crate::cli::Filters;

/// [`Filters`], with the families they name looked up.
#[derive(Debug)]
pub struct Filter<'a> {
    filters: &'a Filters,
    families: Vec<HashSet<Key>>,
    now_ns: u64,
}

impl<'a> Filter<'a> {
    /// `tracked` are the members of the kernel's set, `command` is what was started.
    pub fn new(
        filters: &'a Filters,
        cache: &Cache,
        now_ns: u64,
        tracked: Option<&HashSet<u32>>,
        command: Option<u32>,
    ) -> Self {
        let mut families = Vec::new();
        if let Some(pid) = filters.under {
            families.push(family(cache, |process| process.pid() == pid));
        }
        if let Some(pid) = command.filter(|_| filters.of_command) {
            let ours = started(cache, pid);
            families.push(family(cache, |process| Some(process.key()) == ours));
        }
        if let Some(tracked) = tracked {
            families.push(family(cache, |process| tracked.contains(&process.pid())));
        }
        Self {
            filters,
            families,
            now_ns,
        }
    }

    /// Whether to show it.
    pub fn admits(&self, process: &Process) -> bool {
        let Filters {
            alive,
            exited,
            name,
            pids,
            max_age,
            ..
        } = self.filters;
        let is_named = |name: &String| {
            let contains = |text: &[u8]| String::from_utf8_lossy(text).contains(name.as_str());
            let image = process.image.as_deref();
            contains(process.comm())
                || image
                    .and_then(|image| image.path.as_deref())
                    .is_some_and(contains)
                || image
                    .and_then(|image| image.args().next())
                    .is_some_and(contains)
        };
        (!alive || process.is_alive())
            && (!exited || !process.is_alive())
            && name.as_ref().is_none_or(is_named)
            && (pids.is_empty() || pids.contains(&process.pid()))
            && max_age.is_none_or(|most| {
                process
                    .lifetime_ns(self.now_ns)
                    .is_some_and(|age| u128::from(age) <= most.as_nanos())
            })
            && self
                .families
                .iter()
                .all(|family| family.contains(&process.key()))
    }
}

/// The process of that pid which we started.
///
/// Its pid may have been reused since: the newest that was ours is the one.
pub fn started(cache: &Cache, pid: u32) -> Option<Key> {
    let is_ours = |process: &&Process| {
        let parent = process.parent_at_fork.or(process.seen.parent);
        process.pid() == pid && parent.is_some_and(|parent| parent.tgid == std::process::id())
    };
    cache.iter().filter(is_ours).map(Process::key).max()
}

/// Everybody who is `head`, and their descendants.
fn family(cache: &Cache, head: impl Fn(&Process) -> bool) -> HashSet<Key> {
    let heads: Vec<Key> = cache
        .iter()
        .filter(|process| head(process))
        .map(Process::key)
        .collect();
    let mut family = HashSet::new();
    for head in heads {
        if family.insert(head) {
            family.extend(cache.descendants(head));
        }
    }
    family
}
