//! Every processor counts.

use std::thread;

use anyhow::Result;

use super::storms::all_lives;
use super::{json, of_pid};
use crate::Test;
use crate::ktap::Skip;
use crate::run::shell;
use crate::sys::task::Idle;

pub const TESTS: &[(&str, Test)] = &[
    (
        "lives: 11, storms on every processor at once",
        storms_everywhere,
    ),
    (
        "lives: 11, a reader on any processor hears of all",
        readers_everywhere,
    ),
];

/// The processors, of which there have to be several.
fn processors() -> Result<usize> {
    match thread::available_parallelism()?.get() {
        1 => Err(Skip("there is one processor only").into()),
        several => Ok(several),
    }
}

/// Before a command: it runs on this processor alone.
fn on(processor: usize) -> String {
    format!("taskset {:x}", 1_u64 << processor)
}

fn storms_everywhere() -> Result<()> {
    let processors = processors()?;
    let storms: String = (0..processors)
        .map(|processor| format!("{} guest-tests storm 200 >/dev/null & ", on(processor)))
        .collect();
    let script = format!("{storms} wait");
    let document = json(&["ps", "--of-command", "--exited", "--", "sh", "-c", &script])?;
    all_lives(&document, processors, 200)
}

fn readers_everywhere() -> Result<()> {
    let processors = processors()?;
    let some = Idle::several(20)?;
    // Storms on each in turn, as seen by a reader on one of them.
    let storms: String = (0..processors)
        .map(|processor| format!("{} guest-tests storm 20 >/dev/null; ", on(processor)))
        .collect();
    for reader in [0, processors - 1] {
        let ran = shell(&format!(
            "{} pidlist --json ps -- sh -c '{storms}'",
            on(reader)
        ))?
        .expect(0)?;
        let document = serde_json::from_str(&ran.stdout)?;
        all_lives(&document, processors, 20)?;
        for process in &some {
            of_pid(&document, process.pid())?;
        }
    }
    Ok(())
}
