//! What can be typed: the one definition behind parsing, `--help`, the man page and completions.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Every process on this machine, the ones that live for a millisecond included.
#[derive(Debug, Parser)]
#[command(
    name = "pidlist",
    version,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 yes, 1 no, 2 could not."
)]
pub struct Cli {
    /// Print JSON: times are integers in nanoseconds of CLOCK_BOOTTIME (`*_ns`) or RFC 3339
    /// (`*_at`); text that is not UTF-8 is an array of bytes
    #[arg(long, global = true)]
    pub json: bool,

    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show processes: those of now, or all that lived while watching
    Ps(Ps),
    /// Show processes as a tree
    Tree(Ps),
    /// Print every fork, exec and exit as it happens
    Watch(Watch),
    /// Show the kernel's slab caches, the largest first
    Slabs(Slabs),
    /// Compare the process cache with the kernel's tasks and slab caches
    Audit(Audit),
    /// Say what this machine offers, and what to do about what is missing
    Doctor,
    /// Add processes to the kernel's set: all of them, or none
    Add(Pids),
    /// Remove processes from the kernel's set
    Rm(Pids),
    /// Ask whether a process is in the kernel's set: exit 0 yes, 1 no, 2 could not
    Has(Pid),
    /// List the members of the kernel's set
    List,
    /// Remove every member of the kernel's set
    Clear,
    /// Show or set whether children of members become members
    Follow(Follow),
    /// Show the statistics of the kernel's set
    Stats,
    /// Print a completion script
    Completions(Completions),
    /// Print the man page
    Man,
}

/// How long to watch.
#[derive(Debug, Args)]
pub struct Observe {
    /// Watch for so long (`5s`, `200ms`, `1m 30s`)
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    pub length: Option<Duration>,

    /// Watch until this process exits
    #[arg(long, value_name = "PID", conflicts_with = "length", value_parser = pid, allow_hyphen_values = true)]
    pub until_exit: Option<u32>,

    /// Where to learn of processes
    #[arg(long, value_enum, default_value_t = SourceChoice::Auto)]
    pub source: SourceChoice,

    /// Start this command, and watch while it runs; its exit code is shown, not passed on (with
    /// --json, its output goes to stderr)
    #[arg(last = true, value_name = "CMD", conflicts_with_all = ["length", "until_exit"])]
    pub command: Vec<OsString>,
}

/// Where to learn of processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SourceChoice {
    /// BPF, or /proc where BPF is not to be had
    Auto,
    /// BPF, or fail
    Bpf,
    /// Polling /proc: what lives shorter than the interval is not seen
    Proc,
}

/// Which processes to show. Several conditions must all hold.
#[derive(Debug, Default, Args)]
pub struct Filters {
    /// Only the living
    #[arg(long, conflicts_with = "exited")]
    pub alive: bool,

    /// Only those that have exited
    #[arg(long)]
    pub exited: bool,

    /// Only those whose name or program contains this
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,

    /// Only this process (repeatable)
    #[arg(long = "pid", value_name = "PID", value_parser = pid, allow_hyphen_values = true)]
    pub pids: Vec<u32>,

    /// Only those that have lived no longer than this
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub max_age: Option<Duration>,

    /// Only members of the kernel's set, and their descendants
    #[arg(long)]
    pub tracked: bool,

    /// Only this process and its descendants
    #[arg(long, value_name = "PID", value_parser = pid, allow_hyphen_values = true)]
    pub under: Option<u32>,

    /// Only the command that was started, and its descendants
    #[arg(long, requires = "command", conflicts_with_all = ["length", "until_exit"])]
    pub of_command: bool,
}

/// `ps` and `tree`.
#[derive(Debug, Args)]
pub struct Ps {
    #[command(flatten)]
    pub filters: Filters,
    #[command(flatten)]
    pub observe: Observe,
}

/// `watch`.
#[derive(Debug, Args)]
pub struct Watch {
    #[command(flatten)]
    pub observe: Observe,
}

/// What to sort slab caches by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SlabOrder {
    /// Memory held, the most first
    Memory,
    /// Objects that there is room for, the most first
    Objects,
    /// Size of an object, the largest first
    Size,
    /// Name
    Name,
}

/// `slabs`.
#[derive(Debug, Args)]
pub struct Slabs {
    /// Show so many (0: all)
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,

    /// What to sort by
    #[arg(long, value_enum, default_value_t = SlabOrder::Memory)]
    pub sort: SlabOrder,

    /// Only caches whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
}

/// `audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// Follow events for so long before comparing
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, default_value = "1s")]
    pub length: Duration,

    /// Where to learn of processes
    #[arg(long, value_enum, default_value_t = SourceChoice::Auto)]
    pub source: SourceChoice,
}

/// `add` and `rm`.
#[derive(Debug, Args)]
pub struct Pids {
    /// Process ids
    #[arg(required = true, value_name = "PID", value_parser = pid, allow_negative_numbers = true)]
    pub pids: Vec<u32>,
}

/// `has`.
#[derive(Debug, Args)]
pub struct Pid {
    /// Process id
    #[arg(value_name = "PID", value_parser = pid, allow_negative_numbers = true)]
    pub pid: u32,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Children of members become members
    On,
    /// They do not
    Off,
}

/// `follow`.
#[derive(Debug, Args)]
pub struct Follow {
    /// What it shall be; without it, what it is
    #[arg(value_enum)]
    pub switch: Option<Switch>,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// The largest pid that any Linux gives: `PID_MAX_LIMIT` of `include/linux/threads.h`.
const PID_MAX_LIMIT: u32 = 4 << 20;

fn pid(text: &str) -> Result<u32, String> {
    let number: i64 = text.parse().map_err(|_| "not a number".to_owned())?;
    match u32::try_from(number) {
        Ok(0) => Err("0 is no process".into()),
        Err(_) if number < 0 => Err("a process id is never negative".into()),
        Ok(pid) if pid <= PID_MAX_LIMIT => Ok(pid),
        _ => Err(format!(
            "beyond {PID_MAX_LIMIT}, the largest process id there is"
        )),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a duration like 5s, 200ms or 1m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn pids_are_checked() {
        assert_eq!(pid("4194304"), Ok(4_194_304));
        for bad in [
            "",
            "x",
            "0",
            "-1",
            "4194305",
            "99999999999999999999",
            "1.5",
            "0x10",
        ] {
            assert!(pid(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert!(duration("5").unwrap_err().contains("like 5s"));
    }
}
