//! `pidlist-bench [AREA…]`: measures, prints a table an area, leaves `<area>.json`.
//!
//! Exit codes: 1 where a row does not keep to its bound, 2 where something could not be measured.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use pidlist_bench::area::Area;
use pidlist_bench::report::{Report, Row};

/// Measure pidlist against what one would use instead.
///
/// Both sides have their turns in one run, A B A B…; figures are medians, times are CPU time. What
/// this machine does not allow is skipped, and said.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// What to measure; all of it by default.
    #[arg(value_enum, value_name = "AREA")]
    areas: Vec<Area>,
    /// How many times each side has its turn.
    #[arg(long, default_value_t = 51, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Where to leave the figures.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("pidlist-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether all rows keep to their bounds.
fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let areas = match arguments.areas.as_slice() {
        [] => Area::ALL,
        some => some,
    };
    let mut out = io::stdout().lock();
    let mut within = true;
    for area in areas {
        let name = area.name();
        writeln!(out, "{name}")?;
        out.flush()?;
        let mut report = Report::new(arguments.rounds.into());
        area.run(&mut report)
            .with_context(|| format!("cannot measure {name}"))?;
        let path = report.save(&arguments.dir, name)?;
        report.print(&mut out)?;
        writeln!(out, "  → {}\n", path.display())?;
        within &= !report.rows().iter().any(Row::is_beyond);
    }
    Ok(within)
}
