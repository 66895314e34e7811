//! The columns of a table of processes: one list behind `-o`, `--sort` and their help.

use std::cmp::Ordering;
use std::fmt::Write as _;

use pidlist_process_cache::{Process, Snapshot};

use crate::names::{self, Names};
use crate::output::{self, text};
use crate::view::{self, Now};

/// What a row is made of.
pub struct Row<'a> {
    pub process: &'a Process,
    pub snapshot: &'a Snapshot,
    pub now: Now,
    pub names: &'a mut Names,
}

/// What is in a cell: shown as text, sorted by number where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    number: Option<u64>,
    pub text: String,
}

impl Value {
    fn number(number: u64) -> Self {
        Self::scaled(number, number.to_string())
    }

    fn scaled(number: u64, text: String) -> Self {
        Self {
            number: Some(number),
            text,
        }
    }

    fn text(text: impl Into<String>) -> Self {
        Self {
            number: None,
            text: text.into(),
        }
    }

    fn unknown() -> Self {
        Self::text("")
    }

    /// What is not known comes last, whichever way things are sorted.
    fn compare(&self, other: &Self, descending: bool) -> Ordering {
        let is_unknown = |value: &Self| value.text.is_empty();
        let known_first = is_unknown(self).cmp(&is_unknown(other));
        let order = match (self.number, other.number) {
            (Some(own), Some(other)) => own.cmp(&other),
            _ => self.text.cmp(&other.text),
        };
        known_first.then(if descending { order.reverse() } else { order })
    }
}

/// A column.
pub struct Column {
    pub name: &'static str,
    pub header: &'static str,
    help: &'static str,
    /// Figures stand at the right.
    pub is_figure: bool,
    value: fn(&mut Row<'_>) -> Value,
}

impl Column {
    pub fn value(&self, row: &mut Row<'_>) -> Value {
        (self.value)(row)
    }
}

impl std::fmt::Debug for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! columns {
    ($($name:literal $header:literal $kind:ident $help:literal $value:expr;)+) => {
        static COLUMNS: &[Column] = &[$( Column {
            name: $name,
            header: $header,
            help: $help,
            is_figure: stringify!($kind).len() == "figure".len(),
            value: $value,
        }, )+];
    };
}

columns! {
    "pid" "PID" figure "process id" |row| Value::number(row.process.pid().into());
    "ppid" "PPID" figure "the parent's process id" parent;
    "forkppid" "FORKPPID" figure "the parent's process id at the fork, if that was seen"
        |row| optional(row.process.parent_at_fork, |parent| Value::number(parent.tgid.into()));
    "user" "USER" text "real user" |row| Value::text(row.names.user(row.process.seen.ids.uid));
    "uid" "UID" figure "number of the real user" |row| Value::number(row.process.seen.ids.uid.into());
    "euser" "EUSER" text "effective user" |row| Value::text(row.names.user(row.process.seen.ids.euid));
    "euid" "EUID" figure "number of the effective user"
        |row| Value::number(row.process.seen.ids.euid.into());
    "gid" "GID" figure "number of the real group" |row| Value::number(row.process.seen.ids.gid.into());
    "pgid" "PGID" figure "process group" |row| Value::number(row.process.seen.ids.pgid.into());
    "sid" "SID" figure "session" |row| Value::number(row.process.seen.ids.sid.into());
    "tty" "TTY" text "controlling terminal"
        |row| optional(names::terminal(row.process.seen.tty), Value::text);
    "state" "S" text "state: R runs, S sleeps, D sleeps and takes no signal, I idle, T stopped, t traced, \
                      P parked, Z zombie, X exited"
        |row| Value::text(row.process.state().letter());
    "age" "AGE" figure "how long it has lived" |row| {
        let age = row.process.lifetime_ns(row.now.boottime_ns);
        age.map_or_else(|| Value::text("?"), |age| Value::scaled(age, output::span(age)))
    };
    "start" "START" text "when it started, UTC" |row| {
        let start_ns = row.process.key().start_ns;
        Value::scaled(start_ns, row.now.wall_millis(start_ns))
    };
    "ended" "ENDED" text "when it exited, UTC" |row| {
        let end = row.process.exit.and_then(|exit| exit.time_ns);
        optional(end, |end| Value::scaled(end, row.now.wall_millis(end)))
    };
    "exit" "EXIT" text "exit code, signal, or gone: nobody saw it exit" |row| Value::text(view::exit(row.process));
    "threads" "THR" figure "threads" |row| Value::number(row.process.seen.threads.into());
    "cpu" "CPU" figure "processor time used, when last looked" |row| {
        let cpu_ns = cpu_ns(row.process);
        Value::scaled(cpu_ns, output::span(cpu_ns))
    };
    "pcpu" "%CPU" figure "the same, as a share of its life" |row| {
        let lived = row.process.lifetime_ns(row.process.seen_ns).filter(|lived| *lived > 0);
        optional(lived, |lived| {
            let permille = u128::from(cpu_ns(row.process)) * 1000 / u128::from(lived);
            let permille = u64::try_from(permille).unwrap_or(u64::MAX);
            Value::scaled(permille, format!("{}.{}", permille / 10, permille % 10))
        })
    };
    "maxrss" "MAXRSS" figure "most memory it had at once, when last looked" |row| {
        let kib = row.process.seen.usage.maxrss_kib;
        optional((kib != 0).then_some(kib << 10), |bytes| Value::scaled(bytes, output::bytes(bytes)))
    };
    "majflt" "MAJFLT" figure "page faults that had to read" |row| Value::number(row.process.seen.usage.maj_flt);
    "minflt" "MINFLT" figure "page faults that had not" |row| Value::number(row.process.seen.usage.min_flt);
    "read" "READ" figure "bytes read from storage"
        |row| Value::scaled(row.process.seen.usage.read_bytes, output::bytes(row.process.seen.usage.read_bytes));
    "written" "WRITTEN" figure "bytes written to storage"
        |row| Value::scaled(row.process.seen.usage.write_bytes, output::bytes(row.process.seen.usage.write_bytes));
    "cgroup" "CGROUP" text "path of its cgroup" |row| {
        optional(row.names.cgroup_of(row.process), |path| Value::text(view::path_text(&path)))
    };
    "container" "CONTAINER" text "id of its container, the first 12 digits"
        |row| optional(row.names.container_of(row.process), |id| Value::text(&id[..12]));
    "nspid" "NSPID" figure "its pid in its own pid namespace"
        |row| optional(row.process.seen.ns_tgid, |pid| Value::number(pid.into()));
    "pidns" "PIDNS" figure "inode number of that namespace"
        |row| optional(row.process.seen.pid_ns, |ns| Value::number(ns.into()));
    "caps" "CAPS" text "effective capabilities" |row| {
        let credentials = row.process.seen.credentials.as_deref();
        optional(credentials, |it| Value::text(names::capabilities(it.capabilities.effective)))
    };
    "lists" "LISTS" text "lists in the kernel that it is on, as far as the cache was told"
        |row| Value::text(row.process.lists().collect::<Vec<_>>().join(","));
    "execs" "EXECS" figure "programs it has executed, as far as seen" |row| Value::number(row.process.execs.into());
    "name" "NAME" text "what the kernel calls it" |row| Value::text(text(row.process.comm()));
    "exe" "EXE" text "the file it runs" |row| {
        let image = row.process.image.as_deref();
        optional(image.and_then(|image| image.exe()), |path| Value::text(text(path)))
    };
    "cwd" "CWD" text "working directory when it began its program" |row| {
        let image = row.process.image.as_deref();
        optional(image.and_then(|image| image.cwd.as_deref()), |path| Value::text(text(path)))
    };
    "command" "COMMAND" text "arguments; a [kernel thread]; a (name) without arguments"
        |row| Value::text(view::command(row.process));
}

/// What other programs call some of them.
const ALIASES: &[(&str, &str)] = &[
    ("args", "command"),
    ("cmd", "command"),
    ("comm", "name"),
    ("etime", "age"),
    ("rss", "maxrss"),
    ("s", "state"),
    ("stat", "state"),
    ("time", "cpu"),
    ("%cpu", "pcpu"),
];

const DEFAULT: &[&str] = &["pid", "ppid", "user", "age", "exit", "command"];

fn optional<T>(known: Option<T>, value: impl FnOnce(T) -> Value) -> Value {
    known.map_or_else(Value::unknown, value)
}

fn cpu_ns(process: &Process) -> u64 {
    process.seen.usage.utime_ns + process.seen.usage.stime_ns
}

/// The parent of now, or else the one at fork; `?` if neither is known.
fn parent(row: &mut Row<'_>) -> Value {
    let process = row.process;
    let parent = row.snapshot.parent(process).or(process.parent_at_fork);
    match parent {
        Some(parent) => Value::number(parent.tgid.into()),
        // Init and kthreadd have none.
        None if process.pid() <= 2 => Value::text("-"),
        None => Value::text("?"),
    }
}

/// The columns of a table.
#[derive(Clone, Debug)]
pub struct Columns(pub Vec<&'static Column>);

impl Default for Columns {
    fn default() -> Self {
        Self(DEFAULT.iter().filter_map(|name| find(name)).collect())
    }
}

/// A column to sort by.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    column: &'static Column,
    descending: bool,
}

impl Order {
    /// Sorts; those that are alike stay in their order.
    pub fn sort<'a>(
        self,
        processes: &mut [&'a Process],
        snapshot: &Snapshot,
        now: Now,
        names: &mut Names,
    ) {
        let mut keyed: Vec<(Value, &'a Process)> = processes
            .iter()
            .map(|&process| {
                let mut row = Row {
                    process,
                    snapshot,
                    now,
                    names,
                };
                (self.column.value(&mut row), process)
            })
            .collect();
        keyed.sort_by(|(own, _), (other, _)| own.compare(other, self.descending));
        for (place, (_, process)) in processes.iter_mut().zip(keyed) {
            *place = process;
        }
    }
}

fn find(name: &str) -> Option<&'static Column> {
    let name = name.to_ascii_lowercase();
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    let name = alias.map_or(name.as_str(), |(_, name)| name);
    COLUMNS.iter().find(|column| column.name == name)
}

fn known(name: &str) -> Result<&'static Column, String> {
    find(name).ok_or_else(|| format!("no column {name:?}; `pidlist ps -o help` lists them"))
}

/// Reads `pid,user`; `help` is none.
pub fn columns(text: &str) -> Result<Columns, String> {
    if text == "help" {
        return Ok(Columns(Vec::new()));
    }
    let columns = text.split(',').map(|name| known(name.trim()));
    columns.collect::<Result<_, _>>().map(Columns)
}

/// Reads `-age`.
pub fn order(text: &str) -> Result<Order, String> {
    let (descending, name) = match text.strip_prefix('-') {
        Some(name) => (true, name),
        None => (false, text),
    };
    let column = known(name)?;
    Ok(Order { column, descending })
}

/// All columns, with what is in them.
pub fn help() -> String {
    let mut help = String::new();
    for column in COLUMNS {
        let aliases = ALIASES.iter().filter(|(_, name)| *name == column.name);
        let aliases: Vec<_> = aliases.map(|(alias, _)| *alias).collect();
        let or = if aliases.is_empty() { "" } else { "; or: " };
        // Writing to a String does not fail.
        let _ = writeln!(
            help,
            "{:<10} {}{or}{}",
            column.name,
            column.help,
            aliases.join(", ")
        );
    }
    let _ = writeln!(help, "unless -o is given: {}", DEFAULT.join(","));
    help
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_all_defaults_exist() {
        for (at, column) in COLUMNS.iter().enumerate() {
            assert!(
                std::ptr::eq(find(column.name).unwrap(), column),
                "{}",
                column.name
            );
            assert!(
                COLUMNS[..at]
                    .iter()
                    .all(|other| other.header != column.header)
            );
        }
        for (alias, name) in ALIASES {
            assert_eq!(find(alias).unwrap().name, *name);
        }
        assert_eq!(Columns::default().0.len(), DEFAULT.len());
    }

    #[test]
    fn what_is_no_column_is_named() {
        assert!(columns("pid,colour").unwrap_err().contains("\"colour\""));
        assert!(order("-").unwrap_err().contains("-o help"));
        assert!(order("-age").unwrap().descending);
        assert_eq!(order("RSS").unwrap().column.name, "maxrss");
    }

    #[test]
    fn the_unknown_comes_last_either_way() {
        let mut values = [
            Value::unknown(),
            Value::scaled(2, "b".into()),
            Value::scaled(10, "a".into()),
        ];
        values.sort_by(|own, other| own.compare(other, false));
        assert_eq!(values.clone().map(|value| value.text), ["b", "a", ""]);
        values.sort_by(|own, other| own.compare(other, true));
        assert_eq!(values.map(|value| value.text), ["a", "b", ""]);
    }
}
