//! Boots a kernel with an initramfs of ours and judges what it did.
#![forbid(unsafe_code)]

mod initramfs;
mod ktap;
mod kvm;
mod machine;
mod patience;
mod run;
mod splat;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Boots a guest, runs one command in it, and says whether all went well.
///
/// Exit codes: the command's own; 1 where a test failed, the kernel complained or the guest hung;
/// 2 where the guest could not be run.
#[derive(Parser)]
#[command(name = "pidlist-vm", version, args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Boot the guest and run a command in it
    Run(Box<RunArgs>),
    /// Look for kernel splats in recorded console logs
    Scan {
        /// Console logs
        #[arg(required = true)]
        logs: Vec<PathBuf>,
    },
}

/// What to boot, what to put into it, and how long to wait.
#[derive(Args)]
struct RunArgs {
    /// The kernel image
    #[arg(long)]
    kernel: PathBuf,
    /// Directory the initramfs starts from: busybox and empty directories
    #[arg(long)]
    base: PathBuf,
    /// The guest's init
    #[arg(long)]
    init: PathBuf,
    /// A file or directory to put into the guest (may be repeated)
    #[arg(long = "file", value_name = "HOST:GUEST", value_parser = initramfs::parse_placement)]
    files: Vec<initramfs::Placement>,
    /// An environment variable for the command (may be repeated)
    #[arg(long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,
    /// More kernel command line (may be repeated)
    #[arg(long)]
    append: Vec<String>,
    /// Processors of the guest
    #[arg(long, default_value_t = 2)]
    smp: u32,
    /// Memory of the guest, in MiB
    #[arg(long, default_value_t = 1024)]
    memory: u32,
    /// Count instructions instead of time: slower, but the same in every run (one processor)
    #[arg(long)]
    icount: bool,
    /// What executes the guest; `auto` takes KVM only after it ran a guest
    #[arg(long, value_enum, default_value_t)]
    accel: Accel,
    /// Seconds the whole run may take
    #[arg(long, default_value = "120", value_parser = seconds)]
    timeout: Duration,
    /// Seconds without a word on any channel after which the guest counts as hung
    #[arg(long, default_value = "60", value_parser = seconds)]
    idle: Duration,
    /// A slow kernel: how many times longer it may take, and say nothing, than another
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    patience: u32,
    /// Directory for console.log, output.log and results.ktap
    #[arg(long)]
    logs: PathBuf,
    /// Where verdicts about this machine are kept
    #[arg(long, env = "PIDLIST_CACHE")]
    cache: Option<PathBuf>,
    /// Show the command's output as it comes, and nothing else unless something fails
    #[arg(long)]
    show: bool,
    /// Fail unless the command reported tests
    #[arg(long)]
    tests: bool,
    /// Put the console on this terminal
    #[arg(long, conflicts_with_all = ["show", "icount", "tests"])]
    interactive: bool,
    /// The command, with its arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Accel {
    #[default]
    Auto,
    Tcg,
    Kvm,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err("not a positive number of seconds".into()),
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) if args.interactive => run::interactive(&args),
        Command::Run(args) => run::batch(&args),
        Command::Scan { logs } => run::scan(&logs),
    };
    outcome.map(ExitCode::from).unwrap_or_else(|error| {
        eprintln!("pidlist-vm: {error:#}");
        ExitCode::from(2)
    })
}
