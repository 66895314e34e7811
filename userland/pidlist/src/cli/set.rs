//! What can be typed about lists in the kernel.

use clap::{Args, ValueEnum};
use pidlist_pidset::{BYTES_MIN, DEFAULT_LIST, Pids, Word};

use super::value::{list_name, pid, pids, size, word};
use super::{Ask, SourceChoice};

/// Which list.
#[derive(Debug, Args)]
pub struct OneList {
    /// The list
    #[arg(short, long, value_name = "NAME", default_value = DEFAULT_LIST, value_parser = list_name)]
    pub list: String,
}

/// Which list, or the union.
#[derive(Debug, Args)]
pub struct Selection {
    #[command(flatten)]
    pub one: OneList,

    /// All lists: who is in some list without the rule `exclude`, and in none with it
    #[arg(long, conflicts_with = "list")]
    pub union: bool,
}

/// `create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Its name: letters, digits and . _ - : @ +
    #[arg(value_name = "NAME", value_parser = list_name)]
    pub name: String,

    /// Children of members become members
    #[arg(long)]
    pub follow: bool,

    /// Take its members out of the union
    #[arg(long)]
    pub exclude: bool,

    /// Hold threads, not processes: for good
    #[arg(long)]
    pub threads: bool,

    /// Most memory for it (`256K`, `1M`), enough for every pid unless given
    #[arg(long, value_name = "SIZE", value_parser = bound)]
    pub max_bytes: Option<u64>,
}

/// `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Their names
    #[arg(required = true, value_name = "NAME", value_parser = list_name)]
    pub names: Vec<String>,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    On,
    Off,
}

/// `rules`.
#[derive(Debug, Args)]
pub struct Rules {
    /// The list
    #[arg(value_name = "NAME", value_parser = list_name)]
    pub name: String,

    /// Whether children of members become members
    #[arg(long, value_enum)]
    pub follow: Option<Switch>,

    /// Whether it takes its members out of the union
    #[arg(long, value_enum)]
    pub exclude: Option<Switch>,

    /// Most memory for it (`256K`, `1M`)
    #[arg(long, value_name = "SIZE", value_parser = bound)]
    pub max_bytes: Option<u64>,
}

/// `add`.
#[derive(Debug, Args)]
pub struct Add {
    /// A process; FIRST-LAST: those of the range that live; !PID, !FIRST-LAST: remove them
    #[arg(required = true, value_name = "PID", value_parser = word, allow_negative_numbers = true)]
    pub words: Vec<Word>,

    /// Add all their descendants as well
    #[arg(long)]
    pub tree: bool,

    #[command(flatten)]
    pub on: OneList,
}

/// `rm`.
#[derive(Debug, Args)]
pub struct Rm {
    /// A process; FIRST-LAST: the members in the range
    #[arg(required = true, value_name = "PID", value_parser = removed, allow_negative_numbers = true)]
    pub pids: Vec<Pids>,

    /// Remove all their descendants as well
    #[arg(long)]
    pub tree: bool,

    #[command(flatten)]
    pub on: OneList,
}

/// `has`.
#[derive(Debug, Args)]
pub struct Has {
    /// Process id, on a list of threads a thread's
    #[arg(value_name = "PID", value_parser = pid, allow_negative_numbers = true)]
    pub pid: u32,

    #[command(flatten)]
    pub of: Selection,
}

/// `list`.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    pub of: Selection,
}

/// `clear`.
#[derive(Debug, Args)]
pub struct Clear {
    #[command(flatten)]
    pub on: OneList,
}

/// `follow`.
#[derive(Debug, Args)]
pub struct Follow {
    /// What it shall be; without it, what it is
    #[arg(value_enum)]
    pub switch: Option<Switch>,

    #[command(flatten)]
    pub on: OneList,
}

/// `stats`.
#[derive(Debug, Args)]
pub struct Stats {
    /// Of this list alone
    #[arg(short, long, value_name = "NAME", value_parser = list_name)]
    pub list: Option<String>,

    /// Of every list, and the module
    #[arg(long, conflicts_with = "list")]
    pub all: bool,

    #[command(flatten)]
    pub ask: Ask,

    /// Where to learn of processes
    #[arg(long, value_enum, default_value_t = SourceChoice::Auto)]
    pub source: SourceChoice,
}

/// `events`.
#[derive(Debug, Args)]
pub struct Events {
    #[command(flatten)]
    pub of: OneList,

    /// Begin with the event of this number, as far as the list remembers, not with the next one
    #[arg(long, value_name = "SEQ", value_parser = clap::value_parser!(u64).range(1..))]
    pub from: Option<u64>,

    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

fn bound(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes if bytes < BYTES_MIN => Err(format!("the least is {}K", BYTES_MIN >> 10)),
        bytes => Ok(bytes),
    }
}

fn removed(text: &str) -> Result<Pids, String> {
    if text.starts_with('!') {
        return Err("leave out the `!`: rm removes".into());
    }
    pids(text)
}
