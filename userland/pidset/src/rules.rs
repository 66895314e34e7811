//! What a list does with its members.

use pidlist_abi::pidset as abi;

use crate::Error;

/// Rules in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Children of members become members.
    pub follow: bool,
    /// The list takes its members out of the union.
    pub exclude: bool,
    /// It holds threads, not processes.
    pub threads: bool,
    /// Most bytes of memory for it.
    pub bytes_max: u64,
}

impl From<&abi::Stats> for Rules {
    fn from(stats: &abi::Stats) -> Self {
        let has = |flag: u32| stats.rules & u64::from(flag) != 0;
        Self {
            follow: has(abi::RULE_FOLLOW),
            exclude: has(abi::RULE_EXCLUDE),
            threads: has(abi::RULE_THREADS),
            bytes_max: stats.bytes_max,
        }
    }
}

/// Rules to change; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeRules {
    /// See [`Rules::follow`].
    pub follow: Option<bool>,
    /// See [`Rules::exclude`].
    pub exclude: Option<bool>,
    /// See [`Rules::bytes_max`]; at least [`BYTES_MIN`](crate::BYTES_MIN). A bound below what is in
    /// use stops growth only.
    pub bytes_max: Option<u64>,
}

impl ChangeRules {
    /// What to set where `now` is in force.
    pub(crate) fn over(self, now: Rules) -> Result<abi::Rules, Error> {
        Ok(abi::Rules {
            flags: flags(
                self.follow.unwrap_or(now.follow),
                self.exclude.unwrap_or(now.exclude),
                now.threads,
            ),
            reserved: 0,
            // As it is.
            bytes_max: self.bytes_max.map_or(Ok(0), bound)?,
        })
    }
}

/// How to make a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Create {
    /// See [`Rules::follow`].
    pub follow: bool,
    /// See [`Rules::exclude`].
    pub exclude: bool,
    /// See [`Rules::threads`]: for good.
    pub threads: bool,
    /// See [`Rules::bytes_max`]; unless given, [`BYTES_DEFAULT`](crate::BYTES_DEFAULT).
    pub bytes_max: Option<u64>,
    /// Remove the list when its last descriptor is closed: a client that is killed leaves nothing.
    pub temporary: bool,
}

impl Create {
    pub(crate) fn open(self, name: abi::Name) -> Result<abi::Open, Error> {
        let temporary = if self.temporary {
            abi::OPEN_TEMPORARY
        } else {
            0
        };
        Ok(abi::Open {
            name,
            flags: abi::OPEN_CREATE | temporary,
            rules: flags(self.follow, self.exclude, self.threads),
            bytes_max: self.bytes_max.map_or(Ok(abi::BYTES_DEFAULT), bound)?,
        })
    }
}

fn flags(follow: bool, exclude: bool, threads: bool) -> u32 {
    [
        (follow, abi::RULE_FOLLOW),
        (exclude, abi::RULE_EXCLUDE),
        (threads, abi::RULE_THREADS),
    ]
    .into_iter()
    .filter(|(is_set, _)| *is_set)
    .fold(0, |flags, (_, flag)| flags | flag)
}

fn bound(bytes: u64) -> Result<u64, Error> {
    if bytes < abi::BYTES_MIN {
        return Err(Error::BoundTooLow(bytes));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_changed_stays() {
        let now = Rules {
            follow: true,
            exclude: false,
            threads: true,
            bytes_max: 1 << 20,
        };
        let set = ChangeRules::default().over(now).unwrap();
        assert_eq!(set.flags, abi::RULE_FOLLOW | abi::RULE_THREADS);
        assert_eq!(set.bytes_max, 0);
        let change = ChangeRules {
            follow: Some(false),
            exclude: Some(true),
            bytes_max: Some(64 << 10),
        };
        let set = change.over(now).unwrap();
        assert_eq!(set.flags, abi::RULE_EXCLUDE | abi::RULE_THREADS);
        assert_eq!(set.bytes_max, 64 << 10);
    }

    #[test]
    fn a_low_bound_is_refused() {
        let create = Create {
            bytes_max: Some(abi::BYTES_MIN - 1),
            ..Create::default()
        };
        let refused = create.open([0; abi::NAME_LEN]);
        assert!(matches!(refused, Err(Error::BoundTooLow(32_767))));
    }
}
