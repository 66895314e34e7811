//! The module comes and goes.

use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use pidlist_abi::pidset as abi;
use rustix::io::Errno;

use super::{has_members, soak, start};
use crate::Test;
use crate::helper::Helper;
use crate::run::{pidlist, shell, until};
use crate::sys::device::{Device, PATH};
use crate::sys::task::brief_child;

pub const TESTS: &[(&str, Test)] = &[
    (
        "module: every kind of open descriptor keeps it",
        an_open_descriptor_keeps_it,
    ),
    ("module: it comes and goes many times", load_and_unload),
    (
        "module: it comes and goes while processes fork",
        load_and_unload_in_a_storm,
    ),
];

const MODULE: &str = "/modules/rust_pidlist.ko";

fn load() -> Result<()> {
    Ok(rustix::system::finit_module(File::open(MODULE)?, c"", 0)?)
}

fn unload() -> Result<(), Errno> {
    const NONBLOCK: i32 = 0o4000;
    rustix::system::delete_module(c"rust_pidlist", NONBLOCK)
}

fn an_open_descriptor_keeps_it() -> Result<()> {
    let device = start()?;
    let list = device.create("kept", 0)?;
    list.add(&[std::process::id()])?;
    let (union, events) = (device.union()?, list.events(0)?.nonblocking()?);
    let refused = shell("rmmod rust_pidlist")?;
    ensure!(
        refused.code != Some(0),
        "the module went away under an open descriptor"
    );
    let is_kept = |what: &str| super::refused(what, unload(), Errno::AGAIN);
    is_kept("with a device")?;
    device.info()?;
    drop(device);
    is_kept("with a list")?;
    has_members(&list, [std::process::id()])?;
    drop(list);
    is_kept("with the union")?;
    has_members(&union, [std::process::id()])?;
    drop(union);
    is_kept("with events")?;
    ensure!(events.ready()?.is_empty());
    drop(events);
    // The list is there yet, with a member.
    shell("rmmod rust_pidlist")?.expect(0)?;
    ensure!(
        fs::metadata(PATH).is_err(),
        "the device outlived the module"
    );
    ensure!(
        fs::metadata("/sys/kernel/debug/pidlist").is_err(),
        "its statistics outlived the module"
    );
    let ran = pidlist(["list"])?.expect(2)?;
    ensure!(ran.stderr.contains("not loaded"), "{ran:?}");
    shell(&format!("insmod {MODULE}"))?.expect(0)?;
    let device = Device::open()?;
    has_members(&device, [])?;
    ensure!(device.lists()?.len() == 1);
    Ok(())
}

/// Opens all there is to open, over and over, wherever the module is just now.
fn open_and_close(done: &AtomicBool) -> Result<()> {
    while !done.load(Ordering::Relaxed) {
        let used = Device::open().and_then(|device| {
            let list = device.create_with("opened", abi::OPEN_TEMPORARY, 0, abi::BYTES_MIN)?;
            let events = list.events(0)?.nonblocking()?;
            list.add(&[std::process::id()])?;
            events.ready().map(drop)
        });
        match used {
            Ok(()) | Err(Errno::NOENT | Errno::NODEV | Errno::NXIO) => thread::yield_now(),
            Err(error) => return Err(error).context("using the device"),
        }
    }
    Ok(())
}

/// How often to load the module: `PIDLIST_LOADS`.
fn loads() -> Result<u32> {
    std::env::var("PIDLIST_LOADS").map_or(Ok(50), |loads| {
        loads.parse().context("PIDLIST_LOADS is no number")
    })
}

fn load_and_unload() -> Result<()> {
    start()?;
    let us = [std::process::id()];
    for round in 0..loads()? {
        let device = Device::open()?;
        let list = device.create("list", abi::RULE_FOLLOW)?;
        list.add(&us)?;
        brief_child()?;
        drop((list, device));
        // The list stays: it goes with the module.
        reload().with_context(|| format!("round {round}"))?;
    }
    start().map(drop)
}

fn load_and_unload_in_a_storm() -> Result<()> {
    let rounds = if soak() { 500 } else { 25 };
    start()?;
    let mut storm = Helper::start(&["forks", "0"])?;
    storm.line()?;
    storm.tell("go")?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let opener = scope.spawn(|| open_and_close(&done));
        let result = (0..rounds).try_for_each(|round| {
            come_and_go(storm.pid()).with_context(|| format!("round {round} of {rounds}"))
        });
        done.store(true, Ordering::Relaxed);
        let opened = opener
            .join()
            .unwrap_or_else(|_| Err(anyhow!("the opener panicked")));
        result.and(opened)
    })?;
    start().map(drop)
}

/// Unloads the module, first in vain, and loads it anew.
fn come_and_go(forking: u32) -> Result<()> {
    let device = Device::open()?;
    let rules = abi::RULE_FOLLOW;
    device.set_rules(rules, 0)?;
    let (list, threads) = (
        device.create("list", rules)?,
        device.create("threads", rules | abi::RULE_THREADS)?,
    );
    let events = list.events(0)?;
    for list in [&device, &list, &threads] {
        list.add(&[forking])?;
    }
    for list in [&device, &list, &threads] {
        until("children have joined", || Ok(list.stats()?.followed >= 5))?;
    }
    super::refused("unloading it in use", unload(), Errno::AGAIN)?;
    ensure!(!events.read(8)?.is_empty());
    drop((list, threads, events, device));
    // The lists stay, full and ahead of their next child. Someone else may have it open.
    until("it can be unloaded", || match unload() {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    })?;
    ensure!(Device::open().is_err(), "the device outlived the module");
    load()
}

/// Unloads the module and loads it anew: nothing may hold it.
pub fn reload() -> Result<()> {
    unload().context("unloading the module")?;
    load()
}
