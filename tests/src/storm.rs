//! A workload: many processes that end at once.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

/// `storm COUNT [PROGRAM]`: runs PROGRAM (`/bin/true`) with an argument of its own COUNT times, one
/// after the other, and prints how many it started.
pub fn main(arguments: &[String]) -> Result<ExitCode> {
    let count: u32 = arguments
        .first()
        .context("usage: storm COUNT [PROGRAM]")?
        .parse()?;
    let program = arguments.get(1).map_or("/bin/true", String::as_str);
    let mut started = 0;
    for i in 0..count {
        Command::new(program)
            .arg(format!("storm-{i}"))
            .status()
            .with_context(|| format!("starting {program}"))?;
        started += 1;
    }
    println!("{started}");
    Ok(ExitCode::SUCCESS)
}
