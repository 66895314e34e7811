//! Runs tests and reports them in the Kernel's Test Anything Protocol.
//!
//! Source: <https://docs.kernel.org/dev-tools/ktap.html>

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::panic;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};

use crate::Test;

/// Why a test has nothing to test on this machine; a test returns it as its error.
#[derive(Debug)]
pub struct Skip(pub &'static str);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Skip {}

/// Runs `tests` in turn; fails unless all of them pass.
pub fn run(tests: &[(&str, Test)]) -> Result<ExitCode> {
    let mut report: Box<dyn Write> = match std::env::var_os("PIDLIST_RESULTS") {
        Some(path) => Box::new(
            File::options()
                .append(true)
                .open(&path)
                .with_context(|| format!("opening the report {}", path.display()))?,
        ),
        None => Box::new(io::stdout()),
    };
    writeln!(report, "KTAP version 1\n1..{}", tests.len())?;
    let mut all_passed = true;
    for (number, (name, test)) in (1..).zip(tests) {
        let result = panic::catch_unwind(test).unwrap_or_else(|_| Err(anyhow!("it panicked")));
        match result {
            Ok(()) => writeln!(report, "ok {number} {name}")?,
            Err(error) => match error.downcast_ref::<Skip>() {
                Some(reason) => writeln!(report, "ok {number} {name} # SKIP {reason}")?,
                None => {
                    all_passed = false;
                    for line in format!("{error:?}").lines() {
                        writeln!(report, "# {line}")?;
                    }
                    writeln!(report, "not ok {number} {name}")?;
                }
            },
        }
    }
    Ok(if all_passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
