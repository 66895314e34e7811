//! A measurement: how long after a fork a waiting reader has its event.

use std::process::{Command, ExitCode};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result};
use pidlist_abi::pidset as abi;
use rustix::time::{ClockId, clock_gettime};

use crate::sys::device::Device;

/// `latency COUNT`: forks COUNT times as a member of a list, and prints for each how many nanoseconds
/// lay between the join and the moment when a reader that waited for it had read it.
pub fn main(arguments: &[String]) -> Result<ExitCode> {
    let count: u32 = arguments.first().context("usage: latency COUNT")?.parse()?;
    let list = Device::open()?.create_with("latency", abi::OPEN_TEMPORARY, abi::RULE_FOLLOW, 0)?;
    list.add(&[std::process::id()])?;
    let events = list.events(0)?;
    let (seen, wait) = mpsc::channel();
    thread::spawn(move || {
        while let Ok(batch) = events.read(64) {
            let now = clock_gettime(ClockId::Boottime);
            let now_ns = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
            for event in batch.iter().filter(|e| e.kind == abi::EVENT_FORKED) {
                if seen.send(now_ns - event.time_ns).is_err() {
                    return;
                }
            }
        }
    });
    for _ in 0..count {
        let mut child = Command::new("/bin/true").spawn()?;
        let latency_ns = wait.recv().context("the reader has ended")?;
        child.wait()?;
        println!(
            "guest-tests: {{\"name\":\"pidset.event.latency\",\"unit\":\"ns\",\"calls\":1,\
             \"ours\":{latency_ns}}}"
        );
    }
    Ok(ExitCode::SUCCESS)
}
