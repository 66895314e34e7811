//! The JSON shapes of lists. Stable, as those of [`crate::view`].

use pidlist_pidset::{ListInfo, Module, Rules, Stats};
use serde::Serialize;

/// What `rules --json` and `create --json` print.
#[derive(Serialize)]
pub struct RulesView<'a> {
    pub list: &'a str,
    pub follow: bool,
    pub exclude: bool,
    pub threads: bool,
    pub bytes_max: u64,
}

/// What `lists --json` and `stats --all --json` print.
#[derive(Serialize)]
pub struct Document<'a> {
    pub lists: Vec<ListView<'a>>,
    pub module: ModuleView,
}

/// What `stats --json` prints.
#[derive(Serialize)]
pub struct OneDocument<'a> {
    pub list: &'a str,
    #[serde(flatten)]
    pub stats: StatsView,
    pub module: ModuleView,
}

#[derive(Serialize)]
pub struct ListView<'a> {
    name: &'a str,
    id: u32,
    /// Effective uid of who made it.
    owner: u32,
    /// It goes when its last descriptor is closed.
    temporary: bool,
    #[serde(flatten)]
    stats: StatsView,
}

impl<'a> From<&'a ListInfo> for ListView<'a> {
    fn from(list: &'a ListInfo) -> Self {
        Self {
            name: &list.name,
            id: list.id,
            owner: list.owner,
            temporary: list.temporary,
            stats: StatsView::from(&list.stats),
        }
    }
}

/// The fields are those of `pidlist_abi::pidset::Stats`.
#[derive(Clone, Serialize)]
pub struct StatsView {
    pub members: u64,
    pub waiting: u64,
    pub follow: bool,
    pub exclude: bool,
    pub threads: bool,
    pub followed: u64,
    pub left: u64,
    pub failed: u64,
    pub repaired: u64,
    pub overflowed: u64,
    pub found: u64,
    pub chunks_used: u64,
    pub chunks_free: u64,
    pub reserve: u64,
    pub refills: u64,
    pub bytes: u64,
    pub bytes_max: u64,
    pub events: u64,
    pub events_lost: u64,
    pub event_readers: u64,
}

impl From<&Stats> for StatsView {
    fn from(stats: &Stats) -> Self {
        let rules = Rules::from(stats);
        Self {
            members: stats.members,
            waiting: stats.waiting,
            follow: rules.follow,
            exclude: rules.exclude,
            threads: rules.threads,
            followed: stats.followed,
            left: stats.left,
            failed: stats.failed,
            repaired: stats.repaired,
            overflowed: stats.overflowed,
            found: stats.found,
            chunks_used: stats.chunks_used,
            chunks_free: stats.chunks_free,
            reserve: stats.reserve,
            refills: stats.refills,
            bytes: stats.bytes,
            bytes_max: stats.bytes_max,
            events: stats.events,
            events_lost: stats.events_lost,
            event_readers: stats.event_readers,
        }
    }
}

/// The fields are those of `pidlist_abi::pidset::Module`.
#[derive(Clone, Serialize)]
pub struct ModuleView {
    pub lists: u64,
    pub created: u64,
    pub deleted: u64,
    pub members: u64,
    pub bytes: u64,
    pub followed: u64,
    pub left: u64,
    pub failed: u64,
    pub repaired: u64,
    pub overflowed: u64,
    pub found: u64,
    pub refills: u64,
}

impl From<&Module> for ModuleView {
    fn from(module: &Module) -> Self {
        let Module {
            lists,
            created,
            deleted,
            bytes,
            members,
            failed,
            repaired,
            overflowed,
            found,
            followed,
            left,
            refills,
        } = *module;
        Self {
            lists,
            created,
            deleted,
            members,
            bytes,
            followed,
            left,
            failed,
            repaired,
            overflowed,
            found,
            refills,
        }
    }
}
