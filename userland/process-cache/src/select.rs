//! Which processes are meant: conditions on one, and families.

use std::path::Path;
use std::sync::Arc;

use hashbrown::HashSet;
use wildmatch::WildMatch;

use crate::{Key, Process, Snapshot, State, What};

impl Process {
    /// What it is doing: [`State::Dead`] once it has exited, even while its parent does not know.
    #[must_use]
    pub fn state(&self) -> State {
        match self.exit {
            Some(_) => State::Dead,
            None => self.seen.state,
        }
    }

    /// Whether it lived at some time between the two, nanoseconds of `CLOCK_BOOTTIME`.
    ///
    /// Who was found dead, and nobody knows since when, may have lived until that was found.
    #[must_use]
    pub fn lived_between(&self, since_ns: u64, until_ns: u64) -> bool {
        let ended = |exit: crate::Exit| exit.time_ns.unwrap_or(exit.noticed_ns);
        self.key().start_ns <= until_ns && self.exit.is_none_or(|exit| ended(exit) >= since_ns)
    }
}

/// Cgroups by path: one and all below it, or, with `*` or `?` in it, those that match as a whole.
#[derive(Clone, Debug)]
pub enum CgroupPattern {
    /// This one and all below it.
    Below(Box<Path>),
    /// `*` stands for any text, slashes included, `?` for any character.
    Glob(WildMatch),
}

impl CgroupPattern {
    /// Reads one; a slash at the front or the end may be left out.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text = format!("/{}", text.trim_matches('/'));
        if text.contains(['*', '?']) {
            Self::Glob(WildMatch::new(&text))
        } else {
            Self::Below(Path::new(&text).into())
        }
    }

    /// Whether a cgroup of that path is meant.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        match self {
            Self::Below(parent) => path.starts_with(parent),
            Self::Glob(glob) => glob.matches(&path.to_string_lossy()),
        }
    }
}

/// Conditions on a process, all of which must hold; one that is not given always does.
#[derive(Debug, Default)]
pub struct Selection {
    /// Whether it lives.
    pub alive: Option<bool>,
    /// Contained in its name, its path or its first argument.
    pub name: Option<String>,
    /// Its pid is one of these.
    pub pids: Vec<u32>,
    /// Its real user is one of these.
    pub uids: Vec<u32>,
    /// Its [state](Process::state) is one of these.
    pub states: Vec<State>,
    /// Its cgroup. One whose path is not known any more does not match.
    pub cgroup: Option<CgroupPattern>,
    /// It has lived so long at least, nanoseconds.
    pub min_age_ns: Option<u64>,
    /// It has lived so long at most, nanoseconds.
    pub max_age_ns: Option<u64>,
    /// Whether it is a kernel thread.
    pub kernel_thread: Option<bool>,
    /// It lived at some time between these.
    pub lived_ns: Option<(u64, u64)>,
    /// It is in each of these.
    pub families: Vec<Family>,
}

impl Selection {
    /// Whether a process is meant, at `now_ns`. `path` tells the path of a cgroup.
    pub fn admits(
        &self,
        process: &Process,
        now_ns: u64,
        path: &mut dyn FnMut(u64) -> Option<Arc<Path>>,
    ) -> bool {
        let age = |holds: &dyn Fn(u64) -> bool| process.lifetime_ns(now_ns).is_some_and(holds);
        let one_of = |wanted: &[u32], own| wanted.is_empty() || wanted.contains(&own);
        self.alive.is_none_or(|alive| process.is_alive() == alive)
            && one_of(&self.pids, process.pid())
            && one_of(&self.uids, process.seen.ids.uid)
            && (self.states.is_empty() || self.states.contains(&process.state()))
            && self
                .kernel_thread
                .is_none_or(|kernel| process.seen.kthread == kernel)
            && self.min_age_ns.is_none_or(|least| age(&|age| age >= least))
            && self.max_age_ns.is_none_or(|most| age(&|age| age <= most))
            && self
                .lived_ns
                .is_none_or(|(since, until)| process.lived_between(since, until))
            && self
                .name
                .as_ref()
                .is_none_or(|name| is_named(process, name))
            && self.is_in_families(process)
            && self.cgroup.as_ref().is_none_or(|pattern| {
                let path = process.seen.cgroup_id.and_then(path);
                path.is_some_and(|path| pattern.matches(&path))
            })
    }

    /// Whether it is in every family.
    #[must_use]
    pub fn is_in_families(&self, process: &Process) -> bool {
        let key = process.key();
        self.families.iter().all(|family| family.contains(key))
    }

    /// Has the families take in what has just happened to a process, see [`Family::follow`].
    pub fn follow(&mut self, process: &Process) {
        for family in &mut self.families {
            family.follow(process);
        }
    }

    /// Has the families forget those that are dead and told of, see [`Family::forget`].
    pub fn forget(&mut self, what: What, key: Key) {
        if matches!(what, What::Exited | What::Gone) {
            for family in &mut self.families {
                family.forget(key);
            }
        }
    }
}

fn is_named(process: &Process, name: &str) -> bool {
    let contains = |text: &[u8]| String::from_utf8_lossy(text).contains(name);
    let image = process.image.as_deref();
    let path = image.and_then(|image| image.path.as_deref());
    let first = image.and_then(|image| image.args().next());
    contains(process.comm()) || path.is_some_and(contains) || first.is_some_and(contains)
}

/// Says of a process whether a family descends from it.
type IsHead = Box<dyn Fn(&Process) -> bool>;

/// Processes and their descendants, by [lineage](Process::lineage).
pub struct Family {
    is_head: IsHead,
    members: HashSet<Key>,
}

impl Family {
    /// The family of whom `is_head` says so, among those of `snapshot`.
    pub fn new(snapshot: &Snapshot, is_head: impl Fn(&Process) -> bool + 'static) -> Self {
        let mut waiting: Vec<Key> = snapshot
            .iter()
            .filter(|process| is_head(process))
            .map(|process| process.key())
            .collect();
        let mut members = HashSet::new();
        while let Some(key) = waiting.pop() {
            if members.insert(key) {
                waiting.extend(snapshot.children(key));
            }
        }
        Self {
            is_head: Box::new(is_head),
            members,
        }
    }

    /// Whether it belongs to it.
    #[must_use]
    pub fn contains(&self, key: Key) -> bool {
        self.members.contains(&key)
    }

    /// Takes in a process that has just come or changed, if it belongs to it.
    pub fn follow(&mut self, process: &Process) {
        let is_child = |parent| self.members.contains(&parent);
        if process.lineage.is_some_and(is_child) || (self.is_head)(process) {
            self.members.insert(process.key());
        }
    }

    /// Forgets a process that is dead: its children are members of their own by then.
    pub fn forget(&mut self, key: Key) {
        self.members.remove(&key);
    }
}

impl std::fmt::Debug for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Family").field(&self.members).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Counters, Exit, Precision, Sighting};

    fn process(tgid: u32, start_ns: u64, parent: Option<&Process>) -> Process {
        let key = Key { tgid, start_ns };
        let mut process = Process::new(Sighting::new(key, Precision::Nanosecond), start_ns);
        process.lineage = parent.map(Process::key);
        process
    }

    fn admits(selection: &Selection, process: &Process) -> bool {
        selection.admits(process, 100, &mut |id| {
            Some(Path::new(if id == 1 { "/a.slice/b" } else { "/" }).into())
        })
    }

    #[test]
    fn every_condition_counts() {
        let mut own = process(7, 40, None);
        own.seen.comm[..4].copy_from_slice(b"make");
        own.seen.ids.uid = 5;
        own.seen.cgroup_id = Some(1);
        own.seen.state = State::Sleeping;
        let all = || Selection {
            alive: Some(true),
            name: Some("ak".into()),
            pids: vec![1, 7],
            uids: vec![5],
            states: vec![State::Running, State::Sleeping],
            cgroup: Some(CgroupPattern::new("a.slice")),
            min_age_ns: Some(60),
            max_age_ns: Some(60),
            kernel_thread: Some(false),
            lived_ns: Some((90, 95)),
            families: vec![],
        };
        assert!(admits(&Selection::default(), &own));
        assert!(admits(&all(), &own));
        let breaks: [fn(&mut Selection); 10] = [
            |it| it.alive = Some(false),
            |it| it.name = Some("x".into()),
            |it| it.pids = vec![8],
            |it| it.uids = vec![0],
            |it| it.states = vec![State::Zombie],
            |it| it.cgroup = Some(CgroupPattern::new("/b")),
            |it| it.min_age_ns = Some(61),
            |it| it.max_age_ns = Some(59),
            |it| it.kernel_thread = Some(true),
            |it| it.lived_ns = Some((10, 39)),
        ];
        for (at, spoil) in breaks.iter().enumerate() {
            let mut selection = all();
            spoil(&mut selection);
            assert!(!admits(&selection, &own), "{at}");
        }
    }

    #[test]
    fn the_dead_have_lived_until_their_end() {
        let mut own = process(7, 40, None);
        own.exit = Some(Exit {
            time_ns: Some(50),
            noticed_ns: 60,
            status: Some(0),
            observed: true,
        });
        assert_eq!(own.state(), State::Dead);
        for (since, until, lived) in [
            (0, 39, false),
            (0, 40, true),
            (50, 90, true),
            (51, 90, false),
        ] {
            assert_eq!(own.lived_between(since, until), lived, "{since} {until}");
        }
    }

    #[test]
    fn a_cgroup_is_meant_with_all_below_it_or_by_a_glob() {
        for (pattern, path, meant) in [
            ("/", "/", true),
            ("/", "/a", true),
            ("a", "/a/b", true),
            ("/a/", "/a", true),
            ("/a", "/ab", false),
            ("/a*", "/ab/c", true),
            ("*.service", "/system.slice/ssh.service", true),
            ("/?", "/ab", false),
        ] {
            let is_meant = CgroupPattern::new(pattern).matches(Path::new(path));
            assert_eq!(is_meant, meant, "{pattern} {path}");
        }
    }

    #[test]
    fn a_family_grows_by_forks_and_outlives_its_head() {
        let head = process(10, 1, None);
        let child = process(11, 2, Some(&head));
        let other = process(12, 3, None);
        let all = [head.clone(), child.clone(), other.clone()];
        let snapshot = Snapshot::from_processes(all, Counters::default(), 5);
        let mut family = Family::new(&snapshot, |process| process.pid() == 10);
        let has = |family: &Family, process: &Process| family.contains(process.key());
        assert!(has(&family, &head) && has(&family, &child) && !has(&family, &other));

        family.forget(head.key());
        let grandchild = process(13, 4, Some(&child));
        let stranger = process(14, 4, Some(&other));
        family.follow(&grandchild);
        family.follow(&stranger);
        assert!(has(&family, &grandchild) && !has(&family, &stranger) && !has(&family, &head));
    }
}
