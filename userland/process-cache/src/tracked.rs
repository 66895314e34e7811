//! Which lists of the kernel module a process is on: an annotation, fed by whoever reads its events.

use crate::{Cache, Key, Outcome, Precision};

/// Most memberships kept of a process, those that have ended included.
pub const MEMBERSHIPS_MAX: usize = 32;

/// A process is, or was, on a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Membership {
    /// Name of the list.
    pub list: Box<str>,
    /// Since when, nanoseconds of `CLOCK_BOOTTIME`.
    pub since_ns: u64,
    /// Until when; `None` while it is.
    pub until_ns: Option<u64>,
}

impl Cache {
    /// A process was put on a list. Whoever has but a pid asks [`living_at`](Self::living_at).
    ///
    /// [`Outcome::Stale`] if nobody is known by that key.
    pub fn on_join(&mut self, key: Key, list: &str, time_ns: u64) -> Outcome {
        self.track(key, |tracked| {
            if is_on(tracked, list) {
                return false;
            }
            if tracked.len() >= MEMBERSHIPS_MAX {
                // What has ended goes first, and then what is oldest.
                let ended = tracked.iter().position(|other| other.until_ns.is_some());
                tracked.remove(ended.unwrap_or(0));
            }
            tracked.push(Membership {
                list: list.into(),
                since_ns: time_ns,
                until_ns: None,
            });
            true
        })
    }

    /// A process was taken off a list.
    ///
    /// [`Outcome::Stale`] if nobody is known by that key.
    pub fn on_leave(&mut self, key: Key, list: &str, time_ns: u64) -> Outcome {
        self.track(key, |tracked| {
            let open = |membership: &&mut Membership| {
                *membership.list == *list && membership.until_ns.is_none()
            };
            tracked
                .iter_mut()
                .find(open)
                .map(|membership| membership.until_ns = Some(time_ns))
                .is_some()
        })
    }

    fn track(&mut self, key: Key, edit: impl FnOnce(&mut Vec<Membership>) -> bool) -> Outcome {
        let Some(slot) = self.find(key, Precision::Nanosecond) else {
            return Outcome::Stale;
        };
        let mut tracked = self.process(slot).tracked.to_vec();
        if !edit(&mut tracked) {
            return Outcome::Known;
        }
        self.change(slot).tracked = tracked.into();
        self.account(slot);
        self.shrink();
        Outcome::Applied
    }
}

fn is_on(tracked: &[Membership], list: &str) -> bool {
    tracked
        .iter()
        .any(|membership| *membership.list == *list && membership.until_ns.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sighting;

    const KEY: Key = Key {
        start_ns: 5,
        tgid: 7,
    };

    fn cache() -> Cache {
        let mut cache = Cache::default();
        cache.on_fork(5, &Sighting::new(KEY, Precision::Nanosecond), None);
        cache
    }

    #[test]
    fn a_process_is_on_a_list_until_it_is_taken_off() {
        let mut cache = cache();
        assert_eq!(cache.on_join(KEY, "build", 10), Outcome::Applied);
        assert_eq!(cache.on_join(KEY, "build", 11), Outcome::Known);
        assert_eq!(cache.on_join(KEY, "test", 12), Outcome::Applied);
        assert_eq!(cache.on_leave(KEY, "build", 20), Outcome::Applied);
        assert_eq!(cache.on_leave(KEY, "build", 21), Outcome::Known);
        let process = cache.get(KEY).unwrap();
        assert_eq!(process.lists().collect::<Vec<_>>(), ["test"]);
        let until: Vec<_> = process
            .tracked
            .iter()
            .map(|of| (of.since_ns, of.until_ns))
            .collect();
        assert_eq!(until, [(10, Some(20)), (12, None)]);
        let unknown = Key { tgid: 8, ..KEY };
        assert_eq!(cache.on_join(unknown, "build", 30), Outcome::Stale);
    }

    #[test]
    fn there_are_only_so_many_and_what_has_ended_goes_first() {
        let mut cache = cache();
        cache.on_join(KEY, "stays", 1);
        let before = cache.bytes();
        for time_ns in 2..10_000 {
            cache.on_join(KEY, "again", time_ns);
            cache.on_leave(KEY, "again", time_ns);
        }
        let process = cache.get(KEY).unwrap();
        assert_eq!(process.tracked.len(), MEMBERSHIPS_MAX);
        assert_eq!(process.lists().collect::<Vec<_>>(), ["stays"]);
        assert!(cache.bytes() > before && cache.bytes() < before + 4096);
    }
}
