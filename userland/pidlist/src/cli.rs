//! What can be typed: the one definition behind parsing, `--help`, the man page and completions.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use pidlist_pidset::DEFAULT_LIST;

pub use set::{
    Add, Clear, Create, Delete, Events, Follow, Has, List, Rm, Rules, Selection, Stats, Switch,
};
pub use settings::{Config, ConfigCheck, ConfigCommand, Daemon, Settings};
pub use value::size;
use value::{duration, interval, list_name, pid};
use who::{states, user};

pub use crate::columns::{Columns, Order};
use crate::columns::{columns, order};
pub use who::States;

mod set;
mod settings;
mod value;
mod who;

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
    Ps(Box<Ps>),
    /// Show processes as a tree
    Tree(Box<Tree>),
    /// Show all that is known of a process: exit 0 something, 1 nothing, 2 could not
    Get(OneProcess),
    /// Show whose child a process is, up to init: exit 0 known, 1 not known, 2 could not
    Ancestors(OneProcess),
    /// Show who lived in the last moments, the short-lived included; the daemon remembers them
    History(Box<History>),
    /// Print every fork, exec and exit as it happens
    Watch(Box<Watch>),
    /// A screen of what lives, comes and goes
    Top(Top),
    /// Draw the life of each process as a bar: a picture of a build
    Timeline(Timeline),
    /// Show the kernel's slab caches, the largest first
    Slabs(Slabs),
    /// Compare the process cache with the kernel's tasks and slab caches
    Audit(Audit),
    /// Say what this machine offers, and what to do about what is missing
    Doctor,
    /// Show the lists in the kernel
    Lists,
    /// Make a list
    Create(Create),
    /// Remove lists
    Delete(Delete),
    /// Show or change what a list does with its members
    Rules(Rules),
    /// Add processes to a list: all of them, or none
    Add(Add),
    /// Remove processes from a list: all of them, or none
    Rm(Rm),
    /// Ask whether a process is in a list: exit 0 yes, 1 no, 2 could not
    Has(Has),
    /// Print the members of a list
    List(List),
    /// Remove every member of a list
    Clear(Clear),
    /// Show or set whether children of members become members
    Follow(Follow),
    /// Show how the cache, the kernel's slabs and the lists are; of one list, or each, what it has done
    Stats(Stats),
    /// Print who joins and leaves a list, as it happens
    Events(Events),
    /// Keep the picture of all processes, and answer other programs
    Daemon(Box<Daemon>),
    /// Check or show the settings
    Config(Box<Config>),
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

/// Whether to ask the daemon.
#[derive(Debug, Default, Args)]
pub struct Ask {
    /// Ask the daemon, or fail; without it, a daemon is asked if one runs
    #[arg(long, conflicts_with = "no_daemon")]
    pub daemon: bool,

    /// Do without the daemon, even if one runs; so does a --source
    #[arg(long)]
    pub no_daemon: bool,

    /// The daemon's socket [default: that of the settings]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// Which processes to show. Several conditions must all hold.
#[derive(Debug, Default, Args)]
pub struct Filters {
    /// Only the living
    #[arg(long, conflicts_with = "exited")]
    pub alive: bool,

    /// Only those that have exited: while watching, or as far as the daemon remembers
    #[arg(long)]
    pub exited: bool,

    /// Only those whose name or program contains this
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,

    /// Only this process (repeatable); exit 1 if none is shown
    #[arg(long = "pid", value_name = "PID", value_parser = pid, allow_hyphen_values = true)]
    pub pids: Vec<u32>,

    /// Only those of this user, by name or number (repeatable)
    #[arg(long = "user", value_name = "USER", value_parser = user)]
    pub users: Vec<u32>,

    /// Only those in this cgroup or below it; with * or ? in it, in those that match as a whole
    #[arg(long, value_name = "PATH")]
    pub cgroup: Option<String>,

    /// Only those in one of these states: the letters of the column S, like RD
    #[arg(long, value_name = "LETTERS", value_parser = states)]
    pub state: Option<States>,

    /// Only those that have lived at least so long
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub min_age: Option<Duration>,

    /// Only those that have lived no longer than this
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub max_age: Option<Duration>,

    /// Kernel threads: `show` them with the others, `hide` them, or `only` them. Tables hide them
    /// unless a filter asks for certain processes; JSON shows them
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true,
          default_missing_value = "show")]
    pub kthreads: Option<KernelThreads>,

    /// Only members of a list in the kernel (default: the list "default"), and their descendants
    #[arg(long, value_name = "LIST", num_args = 0..=1, require_equals = true,
          default_missing_value = DEFAULT_LIST, value_parser = list_name)]
    pub tracked: Option<String>,

    /// Only this process and its descendants
    #[arg(long, value_name = "PID", value_parser = pid, allow_hyphen_values = true)]
    pub under: Option<u32>,
}

/// What to do with kernel threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KernelThreads {
    /// Show them
    Show,
    /// Leave them out
    Hide,
    /// Leave out all others
    Only,
}

/// Those of a command that was started here.
#[derive(Debug, Default, Args)]
pub struct OfCommand {
    /// Only the command that was started, and its descendants
    #[arg(long, requires = "command", conflicts_with_all = ["length", "until_exit"])]
    pub of_command: bool,
}

/// Which processes, and for how long.
#[derive(Debug, Args)]
pub struct Wanted {
    #[command(flatten)]
    pub filters: Filters,
    #[command(flatten)]
    pub of_command: OfCommand,
    #[command(flatten)]
    pub observe: Observe,
    #[command(flatten)]
    pub ask: Ask,
}

/// How a table of processes looks.
#[derive(Debug, Args)]
pub struct Shape {
    /// Columns, with commas between them; `help` lists them. A narrow terminal shows fewer
    #[arg(short = 'o', long = "columns", value_name = "COLUMN,…", value_parser = columns)]
    pub columns: Option<Columns>,

    /// Sort by a column, with - before it the largest first [default: by start]
    #[arg(long, value_name = "[-]COLUMN", value_parser = order, allow_hyphen_values = true)]
    pub sort: Option<Order>,
}

/// `ps`.
#[derive(Debug, Args)]
pub struct Ps {
    #[command(flatten)]
    pub shape: Shape,
    #[command(flatten)]
    pub wanted: Wanted,
}

/// `tree`.
#[derive(Debug, Args)]
pub struct Tree {
    #[command(flatten)]
    pub wanted: Wanted,
}

/// `watch`.
#[derive(Debug, Args)]
pub struct Watch {
    #[command(flatten)]
    pub wanted: Wanted,
}

/// `get` and `ancestors`.
#[derive(Debug, Args)]
pub struct OneProcess {
    /// The process
    #[arg(value_name = "PID", value_parser = pid, allow_negative_numbers = true)]
    pub pid: u32,

    #[command(flatten)]
    pub ask: Ask,

    /// Where to learn of processes
    #[arg(long, value_enum, default_value_t = SourceChoice::Auto)]
    pub source: SourceChoice,
}

/// `history`.
#[derive(Debug, Args)]
pub struct History {
    /// Those that lived since so long ago
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub since: Duration,

    /// Those that lived before so long ago
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "0s")]
    pub until: Duration,

    #[command(flatten)]
    pub shape: Shape,
    #[command(flatten)]
    pub filters: Filters,

    /// The daemon's socket [default: that of the settings]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// `top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Look this often (100ms at least)
    #[arg(long, value_name = "DURATION", value_parser = interval, default_value = "1s")]
    pub interval: Duration,

    /// Where to learn of processes
    #[arg(long, value_enum, default_value_t = SourceChoice::Auto)]
    pub source: SourceChoice,
}

/// `timeline`.
#[derive(Debug, Args)]
pub struct Timeline {
    /// Write to this file (`-`: standard output, which is also the default unless it is a terminal)
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// What to write (default: what the file's name ends with)
    #[arg(long, value_enum)]
    pub format: Option<Picture>,

    /// Processes that lived shorter than this get no bar of their own; a trace leaves them out
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub min: Option<Duration>,

    #[command(flatten)]
    pub observe: Observe,
}

/// What a timeline is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Picture {
    /// A picture, for browsers
    Svg,
    /// A trace, for Perfetto (ui.perfetto.dev) and chrome://tracing
    Json,
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

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell
    #[arg(value_enum)]
    pub shell: Shell,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
