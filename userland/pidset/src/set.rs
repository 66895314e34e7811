//! One open list, or the union.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use pidlist_abi::pidset as abi;
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Act, Error, Which};
use crate::events::Events;
use crate::ioctl::Change;
use crate::rules::{ChangeRules, Create, Rules};
use crate::words::{self, Pids, Word};
use crate::{device, ioctl, name};

/// An open list, or the union of lists.
///
/// It holds on to the list, not to its name: when the list is deleted, every call fails with
/// [`Error::ListGone`], also where another of that name was made.
#[derive(Debug)]
pub struct PidSet {
    fd: OwnedFd,
    info: abi::Info,
    list: Which,
}

/// A member, by both its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member {
    /// As our pid namespace numbers it.
    pub pid: u32,
    /// As the initial one does: [`Event::id`](crate::Event::id).
    pub id: u32,
}

impl PidSet {
    /// Opens the default list.
    ///
    /// Where the device may only be read, so may the list: to change it is [`Error::ReadOnly`].
    ///
    /// # Errors
    ///
    /// [`Error::NotLoaded`], [`Error::NotPermitted`], [`Error::Version`].
    pub fn open() -> Result<Self, Error> {
        let list = Which::Named(abi::DEFAULT_LIST.into());
        let (device, info) = device::open(&list)?;
        Ok(Self {
            fd: device.into(),
            info,
            list,
        })
    }

    /// Opens the list of this name.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`], [`Error::NoSuchList`], and those of [`open`](Self::open).
    pub fn open_list(name: &str) -> Result<Self, Error> {
        let packed = name::pack(name)?;
        let open = abi::Open {
            name: packed,
            flags: 0,
            rules: 0,
            bytes_max: 0,
        };
        Self::open_as("opening", Which::Named(name.into()), open)
    }

    /// Makes a list, which must not exist yet.
    ///
    /// # Errors
    ///
    /// [`Error::BadName`], [`Error::BoundTooLow`], [`Error::ListExists`], [`Error::TooManyLists`],
    /// [`Error::ReadOnly`], and those of [`open`](Self::open).
    pub fn create(name: &str, create: &Create) -> Result<Self, Error> {
        let open = create.open(name::pack(name)?)?;
        Self::open_as("creating", Which::Named(name.into()), open).map_err(|error| match error {
            Error::Full(act) => Error::TooManyLists(act),
            error => error,
        })
    }

    /// Opens the union: who is in some list that does not exclude, and in none that does.
    ///
    /// It is a view, and can be read only.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub fn union() -> Result<Self, Error> {
        let open = abi::Open {
            name: [0; abi::NAME_LEN],
            flags: abi::OPEN_UNION,
            rules: 0,
            bytes_max: 0,
        };
        Self::open_as("opening", Which::Union, open)
    }

    fn open_as(doing: &'static str, list: Which, open: abi::Open) -> Result<Self, Error> {
        let (device, info) = device::open(&list)?;
        let fd = ioctl::open(device, open).map_err(|errno| Act::new(doing, &list).failed(errno))?;
        Ok(Self { fd, info, list })
    }

    /// The module's version and limits.
    #[must_use]
    pub fn info(&self) -> abi::Info {
        self.info
    }

    /// Which list this is.
    #[must_use]
    pub fn which(&self) -> &Which {
        &self.list
    }

    /// Adds pids: all of them, or none.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`], [`Error::TooMany`], [`Error::NoSuchProcess`], [`Error::Full`], and those
    /// of every change: [`Error::ListGone`], [`Error::NotOwner`], [`Error::ReadOnly`],
    /// [`Error::NotForUnion`].
    pub fn add(&self, pids: &[u32]) -> Result<(), Error> {
        self.change(Change::Add, pids, false)
    }

    /// Adds pids and all their descendants, on a list of threads with all their threads.
    ///
    /// All or none, but a tree of more than [`BATCH_MAX`](crate::BATCH_MAX) is added piece by piece. On a
    /// list that follows, none is missed that is made meanwhile.
    ///
    /// # Errors
    ///
    /// Those of [`add`](Self::add).
    pub fn add_trees(&self, pids: &[u32]) -> Result<(), Error> {
        self.change(Change::Add, pids, true)
    }

    /// Adds those who live of ranges from a first to a last pid: all of them, or none.
    ///
    /// # Errors
    ///
    /// Those of [`add`](Self::add), [`Error::Backwards`].
    pub fn add_ranges(&self, ranges: &[[u32; 2]]) -> Result<(), Error> {
        self.change_ranges(Change::Add, ranges)
    }

    /// Removes pids; those that are no members are passed over.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`], [`Error::TooMany`], and those of every change ([`add`](Self::add)).
    pub fn remove(&self, pids: &[u32]) -> Result<(), Error> {
        self.change(Change::Remove, pids, false)
    }

    /// Removes pids and all their descendants: see [`add_trees`](Self::add_trees).
    ///
    /// # Errors
    ///
    /// Those of [`remove`](Self::remove).
    pub fn remove_trees(&self, pids: &[u32]) -> Result<(), Error> {
        self.change(Change::Remove, pids, true)
    }

    /// Removes the members in ranges from a first to a last pid.
    ///
    /// # Errors
    ///
    /// Those of [`remove`](Self::remove), [`Error::Backwards`].
    pub fn remove_ranges(&self, ranges: &[[u32; 2]]) -> Result<(), Error> {
        self.change_ranges(Change::Remove, ranges)
    }

    /// Adds and removes, word by word in this order, in one step: all of it, or nothing.
    ///
    /// # Errors
    ///
    /// Those of [`add_ranges`](Self::add_ranges).
    pub fn apply(&self, words: &[Word]) -> Result<(), Error> {
        let doing = "changing";
        let mut added = Vec::new();
        for word in words {
            match word.pids() {
                Pids::One(pid) => {
                    self.check_pid(pid)?;
                    if matches!(word, Word::Add(_)) {
                        added.push(pid);
                    }
                }
                Pids::Range(first, last) => self.check_range(first, last)?,
            }
        }
        self.check_count(doing, words.len())?;
        let text = words::text(words);
        let written = retry_on_intr(|| rustix::io::write(&self.fd, text.as_bytes()))
            .map_err(|errno| self.not_changed(doing, errno, &added))?;
        if written == text.len() {
            Ok(())
        } else {
            Err(self.act(doing).failed(Errno::IO))
        }
    }

    fn change(&self, change: Change, pids: &[u32], tree: bool) -> Result<(), Error> {
        let doing = doing(change);
        pids.iter().try_for_each(|&pid| self.check_pid(pid))?;
        self.check_count(doing, pids.len())?;
        ioctl::pids(&self.fd, change, pids, tree)
            .map_err(|errno| self.not_changed(doing, errno, pids))
    }

    fn change_ranges(&self, change: Change, ranges: &[[u32; 2]]) -> Result<(), Error> {
        let doing = doing(change);
        ranges
            .iter()
            .try_for_each(|&[first, last]| self.check_range(first, last))?;
        self.check_count(doing, ranges.len())?;
        ioctl::ranges(&self.fd, change, ranges).map_err(|errno| self.not_changed(doing, errno, &[]))
    }

    /// Whether a pid is a member.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`], [`Error::ListGone`].
    pub fn has(&self, pid: u32) -> Result<bool, Error> {
        self.check_pid(pid)?;
        ioctl::has(&self.fd, pid).map_err(self.failed("asking"))
    }

    /// The members, in ascending order; in a pid namespace, in the order of their numbers in the
    /// initial one.
    ///
    /// Members that come or go during the call may be in it or not; all others are right.
    ///
    /// # Errors
    ///
    /// [`Error::ListGone`].
    pub fn members(&self) -> Result<Vec<u32>, Error> {
        self.read(|cursor, to| ioctl::span(&self.fd, cursor, to))
    }

    /// The members like [`members`](Self::members), by both their numbers.
    ///
    /// # Errors
    ///
    /// [`Error::ListGone`].
    pub fn members_with_ids(&self) -> Result<Vec<Member>, Error> {
        let pairs = self.read(|cursor, to| ioctl::span_ids(&self.fd, cursor, to))?;
        let members = pairs.into_iter().map(|[pid, id]| Member { pid, id });
        Ok(members.collect())
    }

    fn read<T: Copy + Default>(
        &self,
        span: impl Fn(&mut u64, &mut [T]) -> rustix::io::Result<usize>,
    ) -> Result<Vec<T>, Error> {
        let mut members = Vec::new();
        let mut buffer = vec![T::default(); abi::BATCH_MAX as usize];
        let mut cursor = 0;
        loop {
            let count = span(&mut cursor, &mut buffer).map_err(self.failed("reading"))?;
            if count == 0 {
                return Ok(members);
            }
            members.extend_from_slice(&buffer[..count]);
        }
    }

    /// Removes every member.
    ///
    /// # Errors
    ///
    /// Those of every change ([`add`](Self::add)).
    pub fn clear(&self) -> Result<(), Error> {
        ioctl::clear(&self.fd).map_err(self.failed("clearing"))
    }

    /// The rules in force.
    ///
    /// # Errors
    ///
    /// [`Error::ListGone`], [`Error::NotForUnion`].
    pub fn rules(&self) -> Result<Rules, Error> {
        Ok(Rules::from(&self.stats()?))
    }

    /// Changes rules; returns those in force then. Of two who do so at once, the later one wins.
    ///
    /// # Errors
    ///
    /// [`Error::BoundTooLow`], and those of every change ([`add`](Self::add)).
    pub fn set_rules(&self, change: ChangeRules) -> Result<Rules, Error> {
        let set = change.over(self.rules()?)?;
        ioctl::set_rules(&self.fd, set).map_err(self.failed("setting the rules of"))?;
        self.rules()
    }

    /// Whether children of members are to become members.
    ///
    /// # Errors
    ///
    /// Those of [`set_rules`](Self::set_rules).
    pub fn set_follow(&self, follow: bool) -> Result<(), Error> {
        let change = ChangeRules {
            follow: Some(follow),
            ..ChangeRules::default()
        };
        self.set_rules(change).map(drop)
    }

    /// Whether children of members become members.
    ///
    /// # Errors
    ///
    /// Those of [`rules`](Self::rules).
    pub fn follows(&self) -> Result<bool, Error> {
        Ok(self.rules()?.follow)
    }

    /// What the list holds and has done since it was made.
    ///
    /// # Errors
    ///
    /// [`Error::ListGone`], [`Error::NotForUnion`].
    pub fn stats(&self) -> Result<abi::Stats, Error> {
        ioctl::stats(&self.fd).map_err(self.failed("reading the statistics of"))
    }

    /// Subscribes to changes of the membership: from [`Event::seq`](crate::Event::seq) `from` on, or
    /// from now on.
    ///
    /// A list remembers its latest [`EVENTS_KEPT`](crate::EVENTS_KEPT) events once somebody has
    /// subscribed; what was forgotten is counted in [`Event::lost`](crate::Event::lost).
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchEvent`], [`Error::ListGone`], [`Error::NotForUnion`].
    pub fn events(&self, from: Option<u64>) -> Result<Events, Error> {
        let act = self.act("opening the events of");
        let first = from.map_or(0, |seq| seq.max(1));
        let fd = ioctl::events(&self.fd, first).map_err(|errno| match (errno, from) {
            (Errno::INVAL, Some(from)) => match self.stats() {
                Ok(stats) => Error::NoSuchEvent {
                    act,
                    from,
                    last: stats.events,
                },
                Err(error) => error,
            },
            _ => act.failed(errno),
        })?;
        Ok(Events::new(fd, self.list.clone()))
    }

    fn act(&self, doing: &'static str) -> Act {
        Act::new(doing, &self.list)
    }

    fn failed(&self, doing: &'static str) -> impl Fn(Errno) -> Error {
        move |errno| self.act(doing).failed(errno)
    }

    /// Why a change was refused in which `added` were to be added.
    fn not_changed(&self, doing: &'static str, errno: Errno, added: &[u32]) -> Error {
        let act = self.act(doing);
        if errno != Errno::SRCH || added.is_empty() {
            return act.failed(errno);
        }
        let threads = self.rules().is_ok_and(|rules| rules.threads);
        Error::NoSuchProcess {
            act,
            pids: missing(added, threads),
            threads,
        }
    }

    fn check_pid(&self, pid: u32) -> Result<(), Error> {
        let max = self.info.pid_max;
        if (1..=max).contains(&pid) {
            Ok(())
        } else {
            Err(Error::OutOfRange { pid, max })
        }
    }

    fn check_range(&self, first: u32, last: u32) -> Result<(), Error> {
        self.check_pid(first)?;
        self.check_pid(last)?;
        if first <= last {
            Ok(())
        } else {
            Err(Error::Backwards { first, last })
        }
    }

    fn check_count(&self, doing: &'static str, count: usize) -> Result<(), Error> {
        if count <= abi::BATCH_MAX as usize {
            Ok(())
        } else {
            Err(Error::TooMany(self.act(doing)))
        }
    }
}

/// For who wants to call the device itself, or to hand the list on to a child.
impl AsFd for PidSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn doing(change: Change) -> &'static str {
    match change {
        Change::Add => "adding to",
        Change::Remove => "removing from",
    }
}

/// Those of `pids` that are no processes (or threads) now: the kernel does not say which it missed.
fn missing(pids: &[u32], threads: bool) -> Vec<u32> {
    let gone: Vec<u32> = pids
        .iter()
        .copied()
        .filter(|&pid| !lives(pid, threads))
        .collect();
    // All there by now: the pid was used again in between.
    if gone.is_empty() { pids.to_vec() } else { gone }
}

/// Whether `pid` is a process, or with `threads` any task: /proc answers for both.
fn lives(pid: u32, threads: bool) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/status"))
        .is_ok_and(|status| threads || status.lines().any(|line| line == format!("Tgid:\t{pid}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A set that is no set: what is checked before the kernel is asked can be tested with it.
    fn nothing() -> PidSet {
        PidSet {
            fd: std::fs::File::open("/dev/null").unwrap().into(),
            info: abi::Info {
                version: abi::VERSION,
                pid_max: 1000,
            },
            list: Which::Named("web".into()),
        }
    }

    #[test]
    fn only_processes_are_there() {
        assert!(lives(std::process::id(), false));
        assert!(!lives(u32::MAX, false));
        let (id, ids) = std::sync::mpsc::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            id.send(rustix::thread::gettid().as_raw_nonzero().get())
                .unwrap();
            // Ends when the other side is dropped.
            let _ = ends.recv();
        });
        let tid = ids.recv().unwrap().unsigned_abs();
        assert!(!lives(tid, false) && lives(tid, true));
        drop(end);
        thread.join().unwrap();
    }

    #[test]
    fn wrong_pids_do_not_reach_the_kernel() {
        let set = nothing();
        for pid in [0, 1001, u32::MAX] {
            let one = [Word::Remove(pid.into())];
            let many = [Word::Add(Pids::Range(1, pid))];
            for result in [
                set.add(&[1, pid]),
                set.remove_trees(&[pid]),
                set.add_ranges(&[[1, pid]]),
                set.apply(&one),
                set.apply(&many),
                set.has(pid).map(drop),
            ] {
                assert!(matches!(result, Err(Error::OutOfRange { pid: p, .. }) if p == pid));
            }
        }
        let backwards = set.remove_ranges(&[[9, 9], [10, 9]]);
        assert!(matches!(
            backwards,
            Err(Error::Backwards { first: 10, last: 9 })
        ));
    }

    #[test]
    fn too_many_pids_do_not_reach_the_kernel() {
        let error = nothing().add(&[1; 4097]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "adding to list web: more than 4096 pids in one call; give them in several"
        );
    }
}
