//! The PID sets in the kernel, through their device.

mod cli;
mod clients;
mod events;
mod faults;
mod follow;
mod fuzz;
mod input;
mod lists;
mod memory;
mod mirror;
mod model;
mod module;
mod namespaces;
mod rights;
mod statistics;
mod storms;
mod text;
mod threads;
mod trees;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use pidlist_abi::pidset as abi;
use rustix::io::Errno;
use rustix::thread::{Pid, gettid};

use crate::Test;
use crate::proc;
use crate::run::until;
use crate::sys;
use crate::sys::device::{Device, Ids};
use crate::sys::task::brief_child;

pub const TESTS: &[&[(&str, Test)]] = &[
    text::TESTS,
    cli::TESTS,
    follow::TESTS,
    lists::TESTS,
    rights::TESTS,
    trees::TESTS,
    namespaces::TESTS,
    threads::TESTS,
    events::TESTS,
    memory::TESTS,
    statistics::TESTS,
    input::TESTS,
    clients::TESTS,
    model::TESTS,
    faults::TESTS,
    storms::TESTS,
    fuzz::TESTS,
    module::TESTS,
];

/// The default list, as it is when the module was just loaded, and no other.
fn start() -> Result<Device> {
    let device = Device::open()?;
    for name in device.lists()?.into_keys() {
        match device.delete(&name) {
            // The default list stays; a temporary one may have gone by itself.
            Ok(()) | Err(Errno::BUSY | Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    device.clear()?;
    device.set_rules(0, abi::BYTES_DEFAULT)?;
    let members = device.members()?;
    ensure!(members.is_empty(), "a cleared list has members {members:?}");
    Ok(device)
}

/// As [`start`], with children of members to become members.
fn start_following() -> Result<Device> {
    let device = start()?;
    device.set_rules(abi::RULE_FOLLOW, 0)?;
    Ok(device)
}

/// A pid that no process has.
fn gone() -> sys::Result<u32> {
    brief_child()
}

/// Fails unless `result` is this error.
fn refused<T: Debug>(what: &str, result: sys::Result<T>, errno: Errno) -> Result<()> {
    ensure!(
        matches!(&result, Err(got) if *got == errno),
        "{what}: {result:?}, expected {errno:?}"
    );
    Ok(())
}

/// Fails unless the list has exactly these members.
fn has_members(list: &Device, expected: impl IntoIterator<Item = u32>) -> Result<()> {
    let (members, expected) = (list.members()?, expected.into_iter().collect());
    ensure!(
        members == expected,
        "the members are {members:?}, not {expected:?}"
    );
    Ok(())
}

/// All that users can have put into the module: what a call that fails must not change.
#[derive(Debug, PartialEq, Eq)]
struct State(BTreeMap<String, ListState>);

#[derive(Debug, PartialEq, Eq)]
struct ListState {
    id: u32,
    owner: u32,
    flags: u32,
    rules: u64,
    bytes_max: u64,
    events: u64,
    event_readers: u64,
    members: Ids,
}

impl State {
    fn of(device: &Device) -> Result<Self> {
        let mut lists = BTreeMap::new();
        for (name, list) in device.lists()? {
            let state = ListState {
                id: list.id,
                owner: list.owner,
                flags: list.flags,
                rules: list.stats.rules,
                bytes_max: list.stats.bytes_max,
                events: list.stats.events,
                event_readers: list.stats.event_readers,
                members: device.list(&name)?.ids()?,
            };
            lists.insert(name, state);
        }
        Ok(Self(lists))
    }

    /// Fails unless all is as it was.
    fn is_kept(&self, device: &Device) -> Result<()> {
        let now = Self::of(device)?;
        ensure!(now == *self, "it was {self:#?}, and is {now:#?}");
        Ok(())
    }
}

/// The default list's text.
fn members() -> Result<BTreeSet<u32>> {
    let text = fs::read_to_string(sys::device::PATH)?;
    Ok(text.lines().map(str::parse).collect::<Result<_, _>>()?)
}

/// How large pids may become, for a while.
pub struct PidMax(String);

impl PidMax {
    const PATH: &str = "/proc/sys/kernel/pid_max";

    /// As few as a machine gets by with here: they come round soon.
    pub const FEW: u32 = 450;
    /// As many as Linux allows.
    pub const MOST: u32 = 4 << 20;

    pub fn set(max: u32) -> Result<Self> {
        let before = fs::read_to_string(Self::PATH)?;
        fs::write(Self::PATH, max.to_string()).context("changing the largest pid")?;
        Ok(Self(before))
    }
}

impl Drop for PidMax {
    fn drop(&mut self) {
        let _ = fs::write(Self::PATH, &self.0);
    }
}

/// The `i`-th of the pids that are so far apart that each takes a chunk of its own, where there may
/// be the most: a chunk is for 16,384.
pub fn apart(i: u32) -> u32 {
    assert!((1..256).contains(&i));
    (i << 14) + 77
}

/// Whether the storms are to be long ones.
fn soak() -> bool {
    std::env::var_os("PIDLIST_SOAK").is_some_and(|value| value == "1")
}

/// A random seed, or that of `PIDLIST_SEED`; it goes to where the tests' output goes.
fn seed() -> Result<u64> {
    let seed = match std::env::var("PIDLIST_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => fastrand::u64(..),
    };
    println!("PIDLIST_SEED={seed}");
    Ok(seed)
}

/// Runs `f` in a thread that waits for it, and returns once it sleeps in the kernel: its thread id.
pub fn sleeper<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    f: impl FnOnce() -> T + Send + 'scope,
) -> Result<(Pid, thread::ScopedJoinHandle<'scope, T>)> {
    let (say, hear) = std::sync::mpsc::channel();
    let thread = scope.spawn(move || {
        let _ = say.send(gettid());
        drop(say);
        f()
    });
    let tid = hear.recv()?;
    let number = tid.as_raw_nonzero().get().unsigned_abs();
    until("the thread sleeps", || {
        Ok(thread.is_finished() || proc::state(number) == Some('S'))
    })?;
    Ok((tid, thread))
}

pub fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("the thread panicked"))
}
