//! What the kernel's own books say about who can be alive.

use crate::Repair;

/// A bound that a slab cache sets: every process (or task) has an object of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Name of the slab cache, or how a family of them begins.
    pub slab: &'static str,
    /// What needs one object each.
    pub of: &'static str,
    /// Objects that its slabs have room for; `None` if this kernel has merged it with others.
    pub objects: Option<u64>,
    /// How many of those the cache knows.
    pub known: u64,
}

impl Bound {
    /// Whether what is known fits; true where nothing can be said.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.objects.is_none_or(|objects| self.known <= objects)
    }
}

/// The cache beside a walk over all tasks and the slab caches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Processes that the cache held for living, before the walk corrected it.
    pub cached: u64,
    /// Processes that live according to the walk and the events until its end.
    pub walked: u64,
    /// In what they differed. The cache has been corrected accordingly.
    pub repair: Repair,
    /// What the slab caches say.
    pub bounds: Vec<Bound>,
}

impl Audit {
    /// Whether the cache was right.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.repair.is_empty() && self.bounds.iter().all(Bound::holds)
    }
}

/// Whom to count, for the bounds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Population {
    /// Thread groups, zombies included.
    pub(crate) processes: u64,
    /// Their threads.
    pub(crate) threads: u64,
}

/// The bounds that slab caches, as (name, objects they have room for), set to a population.
pub(crate) fn bounds(population: Population, slabs: &[(String, u64)]) -> Vec<Bound> {
    let objects = |wanted: fn(&str) -> bool| {
        let mut found = slabs.iter().filter(|(name, _)| wanted(name)).peekable();
        found.peek()?;
        Some(found.map(|(_, objects)| objects).sum())
    };
    vec![
        Bound {
            slab: "signal_cache",
            of: "processes",
            objects: objects(|name| name == "signal_cache"),
            known: population.processes,
        },
        Bound {
            slab: "task_struct",
            of: "threads",
            objects: objects(|name| name == "task_struct"),
            known: population.threads,
        },
        // Every level of pid namespaces has a cache of its own; a task has a pid of one level.
        Bound {
            slab: "pid",
            of: "threads",
            objects: objects(|name| {
                name == "pid"
                    || name
                        .strip_prefix("pid_")
                        .is_some_and(|level| level.parse::<u32>().is_ok())
            }),
            known: population.threads,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_are_noticed_and_merged_caches_say_nothing() {
        let slabs = [
            ("signal_cache".to_owned(), 10),
            ("pid".to_owned(), 5),
            ("pid_2".to_owned(), 7),
        ];
        let found = bounds(
            Population {
                processes: 11,
                threads: 12,
            },
            &slabs,
        );
        assert_eq!(
            found.iter().map(Bound::holds).collect::<Vec<_>>(),
            [false, true, true]
        );
        assert_eq!(found[1].objects, None);
        assert_eq!(found[2].objects, Some(12));
    }
}
