//! `pidlist get`.

use std::io::{self, Write};
use std::sync::Arc;

use pidlist_process_cache::{Key, Precision, Process, State};
use serde::Serialize;

use crate::cli::OneProcess;
use crate::names;
use crate::output::{self, Answer};
use crate::picture::{Picture, Wish};
use crate::view::{self, ProcessView, Summary};

/// What `get --json` prints.
#[derive(Serialize)]
struct Document<'a> {
    /// All that had the pid, the newest first: a pid is used again.
    processes: Vec<ProcessView<'a>>,
    summary: Summary,
}

/// Most arguments or variables that are printed one a line.
const LINES_MAX: usize = 64;

pub fn run(get: &OneProcess, json: bool) -> anyhow::Result<Answer> {
    let mut picture = Picture::look(&get.ask, get.source, Wish::Pid(get.pid))?;
    let mut found: Vec<Arc<Process>> = picture
        .snapshot
        .iter()
        .filter(|process| process.pid() == get.pid)
        .cloned()
        .collect();
    found.sort_unstable_by_key(|process| std::cmp::Reverse(process.key()));
    if json {
        let processes = found.iter().map(|process| picture.view(process)).collect();
        output::json(&Document {
            processes,
            summary: picture.summary.clone(),
        })?;
        return Ok(Answer::from(!found.is_empty()));
    }
    if found.is_empty() {
        unknown(get.pid, &picture);
        return Ok(Answer::No);
    }
    let mut out = output::stdout();
    for process in &found {
        print(&mut out, process, &mut picture)?;
        writeln!(out)?;
    }
    output::print_wrapped(&mut out, &picture.summary.line())?;
    out.flush()?;
    Ok(Answer::Yes)
}

/// Says that nobody is known by a pid.
pub fn unknown(pid: u32, picture: &Picture) {
    let hint = match picture.summary.daemon {
        Some(_) => "it never was, or it exited longer ago than the daemon keeps the dead",
        None => "only a daemon remembers who has exited: `pidlist daemon`",
    };
    eprintln!("pidlist: no process {pid} is known\nhint: {hint}");
}

/// A block for people: what is not known is left out.
fn print(out: &mut impl Write, process: &Process, picture: &mut Picture) -> io::Result<()> {
    let heading = format!("{} {}", process.pid(), view::command(process));
    let heading = output::cut(&heading, 0);
    if output::is_coloured() {
        writeln!(out, "\x1b[1m{heading}\x1b[0m")?;
    } else {
        writeln!(out, "{heading}")?;
    }
    for (name, value) in facts(process, picture) {
        writeln!(out, "  {name:<10} {value}")?;
    }
    Ok(())
}

fn facts(process: &Process, picture: &mut Picture) -> Vec<(&'static str, String)> {
    let mut facts = vec![("state", state(process, picture))];
    facts.push(("started", started(process, picture)));
    facts.extend(program(process));
    facts.extend(family(process, picture));
    facts.extend(rights(process, picture));
    facts.extend(places(process, picture));
    facts.extend(usage(process));
    let lists: Vec<&str> = process.lists().collect();
    if !lists.is_empty() {
        facts.push(("lists", lists.join(", ")));
    }
    let image = process.image.as_deref();
    if let Some(env) = image.and_then(|image| image.env.as_deref()) {
        facts.extend(lines("environ", env.variables(), env.truncated));
    }
    facts
}

fn state(process: &Process, picture: &Picture) -> String {
    let age = process
        .lifetime_ns(picture.now.boottime_ns)
        .map(output::span);
    let Some(exit) = process.exit else {
        let what = match process.seen.state {
            _ if process.seen.leader_exited => "its first thread has exited, others live",
            State::Running => "runs, or waits for a processor",
            State::Sleeping => "sleeps",
            State::Uninterruptible => "sleeps, and takes no signal",
            State::Idle => "idle",
            State::Stopped => "stopped by a signal",
            State::Traced => "stopped by a tracer",
            State::Parked => "parked",
            State::Zombie | State::Dead => "has exited",
        };
        let letter = process.seen.state.letter();
        return format!("{letter}, {what}; alive for {}", age.unwrap_or_default());
    };
    let how = match (exit.code(), exit.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => {
            let name = view::signal_name(signal).map_or_else(|| signal.to_string(), str::to_owned);
            let core = if exit.core_dumped() {
                ", core dumped"
            } else {
                ""
            };
            format!("killed by {name}{core}")
        }
        (None, None) => "gone, nobody saw how".into(),
    };
    match (exit.time_ns, age) {
        (Some(time_ns), Some(age)) => {
            format!("{how} at {} after {age}", picture.now.wall_millis(time_ns))
        }
        _ => how,
    }
}

fn started(process: &Process, picture: &Picture) -> String {
    let key = process.key();
    let about = match process.seen.precision {
        Precision::Nanosecond => "",
        Precision::Tick => "about ",
    };
    let wall = picture.now.wall_millis(key.start_ns);
    format!("{about}{wall} UTC ({} ns since boot)", key.start_ns)
}

fn program(process: &Process) -> Vec<(&'static str, String)> {
    let mut facts = vec![("name", output::text(process.comm()))];
    if process.seen.kthread {
        facts.push(("program", "a thread of the kernel".into()));
        return facts;
    }
    let Some(image) = process.image.as_deref() else {
        return facts;
    };
    if let Some(exe) = image.exe() {
        let deleted = process.seen.exe.is_some_and(|exe| exe.deleted);
        let deleted = if deleted { " (deleted)" } else { "" };
        facts.push(("program", format!("{}{deleted}", output::text(exe))));
    }
    if image.real_path.is_some()
        && let Some(path) = &image.path
    {
        facts.push(("called as", output::text(path)));
    }
    if process.execs > 0 {
        facts.push(("execs", process.execs.to_string()));
    } else if process.forker.is_some() {
        facts.push(("execs", "none: it runs what its parent ran".into()));
    }
    let is_cut = image.args_truncated || image.args_unreadable;
    facts.extend(lines("arguments", image.args(), is_cut));
    if let Some(cwd) = &image.cwd {
        facts.push(("directory", output::text(cwd)));
    }
    facts
}

/// One a line, the name before the first.
fn lines<'a>(
    name: &'static str,
    all: impl Iterator<Item = &'a [u8]>,
    is_cut: bool,
) -> Vec<(&'static str, String)> {
    let all: Vec<&[u8]> = all.collect();
    let mut lines: Vec<(&str, String)> = all
        .iter()
        .take(LINES_MAX)
        .enumerate()
        .map(|(at, line)| {
            let line = output::text(line);
            let line = if line.is_empty() { "''".into() } else { line };
            (if at == 0 { name } else { "" }, line)
        })
        .collect();
    if all.len() > LINES_MAX {
        let more = all.len() - LINES_MAX;
        lines.push(("", format!("… and {more} more (--json shows all)")));
    }
    if is_cut {
        lines.push(("", "… the rest could not be kept".into()));
    }
    lines
}

fn family(process: &Process, picture: &Picture) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let snapshot = &picture.snapshot;
    let parent = snapshot.parent(process);
    if let Some(parent) = parent {
        facts.push(("parent", relative(parent, picture)));
    }
    let at_fork = process.parent_at_fork;
    if let Some(at_fork) = at_fork.filter(|at_fork| Some(*at_fork) != parent) {
        facts.push(("at fork", relative(at_fork, picture)));
    }
    if let Some(forker) = process.forker.filter(|forker| Some(*forker) != at_fork) {
        facts.push(("forked by", relative(forker, picture)));
    }
    let children: Vec<Key> = snapshot.children(process.key()).collect();
    let alive = children
        .iter()
        .filter(|key| snapshot.get(**key).is_some_and(|child| child.is_alive()));
    if !children.is_empty() {
        let alive = alive.count();
        facts.push((
            "children",
            format!("{alive} alive, {} exited", children.len() - alive),
        ));
    }
    let ids = process.seen.ids;
    facts.push(("group", format!("{}, session {}", ids.pgid, ids.sid)));
    facts
}

/// A relative in a few words.
pub fn relative(key: Key, picture: &Picture) -> String {
    match picture.snapshot.get(key) {
        Some(process) => {
            let dead = if process.is_alive() { "" } else { " (exited)" };
            format!("{} {}{dead}", key.tgid, output::text(process.comm()))
        }
        None => format!("{} (not known)", key.tgid),
    }
}

fn rights(process: &Process, picture: &mut Picture) -> Vec<(&'static str, String)> {
    let ids = process.seen.ids;
    let mut user = format!("{} ({})", picture.names.user(ids.uid), ids.uid);
    if ids.euid != ids.uid {
        let name = picture.names.user(ids.euid);
        user.push_str(&format!(", acts as {name} ({})", ids.euid));
    }
    let mut group = ids.gid.to_string();
    if ids.egid != ids.gid {
        group.push_str(&format!(", acts as {}", ids.egid));
    }
    let mut facts = vec![("user", user), ("gid", group)];
    if let Some(credentials) = process.seen.credentials.as_deref() {
        let sets = credentials.capabilities;
        facts.push(("may", names::capabilities(sets.effective)));
        if sets.permitted != sets.effective {
            facts.push(("could", names::capabilities(sets.permitted)));
        }
    }
    facts
}

fn places(process: &Process, picture: &mut Picture) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(tty) = names::terminal(process.seen.tty) {
        facts.push(("terminal", tty));
    }
    if let Some(path) = picture.names.cgroup_of(process) {
        facts.push(("cgroup", view::path_text(&path)));
    }
    if let Some(container) = picture.names.container_of(process) {
        facts.push(("container", container));
    }
    let pids: Vec<String> = process
        .seen
        .pids()
        .map(|it| match it.ns {
            Some(ns) => format!("{} in {ns}", it.pid),
            None => it.pid.to_string(),
        })
        .collect();
    if pids.len() > 1 {
        facts.push(("pids", pids.join(", ")));
    }
    facts
}

fn usage(process: &Process) -> Vec<(&'static str, String)> {
    let usage = process.seen.usage;
    let mut facts = vec![
        ("threads", process.seen.threads.to_string()),
        (
            "cpu",
            format!(
                "{} user, {} system",
                output::span(usage.utime_ns),
                output::span(usage.stime_ns)
            ),
        ),
    ];
    if usage.maxrss_kib != 0 {
        let bytes = usage.maxrss_kib.saturating_mul(1024);
        facts.push(("memory", format!("{} at most", output::bytes(bytes))));
    }
    facts.push((
        "faults",
        format!("{} minor, {} major", usage.min_flt, usage.maj_flt),
    ));
    facts.push((
        "switches",
        format!("{} voluntary, {} not", usage.nvcsw, usage.nivcsw),
    ));
    if usage.read_bytes != 0 || usage.write_bytes != 0 {
        facts.push((
            "storage",
            format!(
                "{} read, {} written",
                output::bytes(usage.read_bytes),
                output::bytes(usage.write_bytes)
            ),
        ));
    }
    facts
}
