//! `pidlist-bench [AREA…]`: measures, prints a table an area, leaves `<area>.json`.
//!
//! Exit codes: 1 where a row does not keep to its bound, 2 where something could not be measured.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use pidlist_bench::area::{self, Area};
use pidlist_bench::report::{Report, Row};

/// Measure pidlist against what one would use instead.
///
/// Both sides have their turns in one run, A B A B…; figures are medians, times are CPU time. What
/// this machine does not allow is skipped, and said.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// What to measure; all of it by default.
    #[arg(value_enum, value_name = "AREA")]
    areas: Vec<Area>,
    /// How many times each side has its turn.
    #[arg(long, default_value_t = 51, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Measure only rows whose names begin so, as far as they can be measured without others.
    #[arg(long, default_value = "", hide_default_value = true)]
    only: String,
    /// Where to leave the figures.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    #[command(subcommand)]
    role: Option<Role>,
}

/// What the benchmark starts itself for.
#[derive(Subcommand)]
#[command(disable_help_subcommand = true)]
enum Role {
    /// Follows all processes until its input ends.
    #[command(hide = true)]
    Follow,
    /// Runs a program many times.
    #[command(hide = true)]
    Spawn {
        program: PathBuf,
        tag: String,
        count: usize,
    },
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
    match &arguments.role {
        None => {}
        Some(Role::Follow) => return area::follow().map(|()| true),
        Some(Role::Spawn {
            program,
            tag,
            count,
        }) => return area::spawn(program, tag, *count).map(|()| true),
    }
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
        let mut report = Report::new(arguments.rounds.into()).only(&arguments.only);
        area.run(&mut report)
            .with_context(|| format!("cannot measure {name}"))?;
        let path = report.save(&arguments.dir, name)?;
        report.print(&mut out)?;
        writeln!(out, "  → {}\n", path.display())?;
        within &= !report.rows().iter().any(Row::is_beyond);
    }
    Ok(within)
}
