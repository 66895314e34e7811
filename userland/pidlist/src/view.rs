//! The JSON shapes of processes, and what goes with them.
//!
//! Stable: fields are added, never renamed or removed. Names ending in `_ns` are integers in
//! nanoseconds (moments: of `CLOCK_BOOTTIME`), those ending in `_at` RFC 3339. What is not known is
//! `null`. Text comes from programs that may write what they like: it is a string where it is UTF-8,
//! and else an array of its bytes, as in systemd's journal.

use std::path::Path;
use std::time::{Duration, SystemTime};

use pidlist_process_cache::source::Kind;
use pidlist_process_cache::{Counters, Exit, ImageSource, Key, Membership, Process, clock};
use serde::{Serialize, Serializer};

use crate::names::{self, Names};
use crate::output;
use crate::session::Session;

/// Text of a foreign program.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a>(pub &'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_seq(self.0),
        }
    }
}

/// Names a process for ever.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct KeyView {
    pub pid: u32,
    pub start_ns: u64,
}

impl From<Key> for KeyView {
    fn from(key: Key) -> Self {
        Self {
            pid: key.tgid,
            start_ns: key.start_ns,
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ExitView {
    /// `null` if a signal killed it, or nobody knows.
    pub code: Option<u32>,
    pub signal: Option<u32>,
    pub signal_name: Option<&'static str>,
    pub core_dumped: bool,
    /// `null` if nobody saw it exit.
    pub time_ns: Option<u64>,
    /// `false`: a walk over the tasks found it gone or a zombie.
    pub observed: bool,
}

impl From<Exit> for ExitView {
    fn from(exit: Exit) -> Self {
        Self {
            code: exit.code(),
            signal: exit.signal(),
            signal_name: exit.signal().and_then(signal_name),
            core_dumped: exit.core_dumped(),
            time_ns: exit.time_ns,
            observed: exit.observed,
        }
    }
}

/// `SIGKILL` for 9.
pub fn signal_name(signal: u32) -> Option<&'static str> {
    signal_hook::low_level::signal_name(i32::try_from(signal).ok()?)
}

/// How it exited: a code, a signal, or `gone` if nobody saw it.
pub fn exit(process: &Process) -> String {
    let Some(exit) = process.exit else {
        return String::new();
    };
    match (exit.code(), exit.signal()) {
        (Some(code), _) => code.to_string(),
        (None, Some(signal)) => {
            signal_name(signal).map_or_else(|| format!("signal {signal}"), str::to_owned)
        }
        (None, None) => "gone".into(),
    }
}

/// Arguments as far as known; a kernel thread in brackets, a bare name in parentheses.
pub fn command(process: &Process) -> String {
    let comm = || output::text(process.comm());
    if process.seen.kthread {
        return format!("[{}]", comm());
    }
    let Some(image) = process
        .image
        .as_deref()
        .filter(|image| !image.block.is_empty())
    else {
        return format!("({})", comm());
    };
    let mut line = String::new();
    for arg in image.args() {
        if !line.is_empty() {
            line.push(' ');
        }
        if arg.is_empty() || arg.contains(&b' ') {
            line.push('\'');
            line.push_str(&output::text(arg));
            line.push('\'');
        } else {
            line.push_str(&output::text(arg));
        }
    }
    if image.args_truncated || image.args_unreadable {
        line.push_str(" …");
    }
    line
}

/// A path, made harmless.
pub fn path_text(path: &Path) -> String {
    output::text(path.as_os_str().as_encoded_bytes())
}

/// A process in one of its pid namespaces.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct NsPidView {
    /// Inode number of the namespace.
    pub ns: Option<u32>,
    pub pid: u32,
}

/// What a process may do, as sets of bits `CAP_…`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CapabilitiesView {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub bounding: u64,
    pub ambient: u64,
}

/// A list of the kernel module that a process is or was on.
#[derive(Clone, Debug, Serialize)]
pub struct MembershipView<'a> {
    pub list: &'a str,
    pub since_ns: u64,
    /// `null` while it is.
    pub until_ns: Option<u64>,
}

impl<'a> From<&'a Membership> for MembershipView<'a> {
    fn from(membership: &'a Membership) -> Self {
        Self {
            list: &membership.list,
            since_ns: membership.since_ns,
            until_ns: membership.until_ns,
        }
    }
}

/// A process.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessView<'a> {
    pub pid: u32,
    pub start_ns: u64,
    /// 1 or [`pidlist_process_cache::TICK_NS`]: how exactly `start_ns` is known.
    pub start_precision_ns: u64,
    pub started_at: String,
    /// `alive`, `leader-exited` (other threads live), or `exited`.
    pub state: &'static str,
    /// The parent now, or when it exited.
    pub parent: Option<KeyView>,
    /// `null` unless the fork was seen.
    pub parent_at_fork: Option<KeyView>,
    /// Who called fork; `null` unless that was seen.
    pub forker: Option<KeyView>,
    pub comm: Text<'a>,
    /// As execve was given it, or as `/proc` resolves it.
    pub path: Option<Text<'a>>,
    pub args: Option<Vec<Text<'a>>>,
    /// What is missing of the arguments: `cut` at a limit, or `unreadable` pages.
    pub args_missing: Option<&'static str>,
    /// `exec` (as execve was given them), `forker` (it has not called exec), `proc`.
    pub args_from: Option<&'static str>,
    pub execs: u32,
    pub exit: Option<ExitView>,
    pub lifetime_ns: Option<u64>,
    pub uid: u32,
    pub gid: u32,
    pub euid: u32,
    pub egid: u32,
    pub pgid: u32,
    pub sid: u32,
    /// `major:minor`, `null` without a terminal.
    pub tty: Option<String>,
    pub cgroup_id: Option<u64>,
    pub pid_ns: Option<u32>,
    pub ns_pid: Option<u32>,
    pub threads: u32,
    pub kernel_thread: bool,
    pub utime_ns: u64,
    pub stime_ns: u64,
    pub min_flt: u64,
    pub maj_flt: u64,
    pub maxrss_kib: Option<u64>,
    /// The letter that `ps` shows; `X` once it has exited.
    pub state_letter: char,
    pub user: String,
    pub suid: Option<u32>,
    pub sgid: Option<u32>,
    pub fsuid: Option<u32>,
    pub fsgid: Option<u32>,
    pub capabilities: Option<CapabilitiesView>,
    pub tty_name: Option<String>,
    /// From the root of the default hierarchy; `null` if it is not known any more.
    pub cgroup: Option<String>,
    pub container: Option<String>,
    /// From the initial namespace to its own.
    pub ns_pids: Vec<NsPidView>,
    /// The file that runs: `path` with links and scripts resolved, if that is known.
    pub exe: Option<Text<'a>>,
    pub exe_deleted: Option<bool>,
    pub exe_inode: Option<u64>,
    pub cwd: Option<Text<'a>>,
    /// `null` unless it was collected.
    pub env: Option<Vec<Text<'a>>>,
    /// When the last of `execs` was.
    pub exec_ns: Option<u64>,
    /// When what is told here was last looked at.
    pub seen_ns: u64,
    pub exit_signal: Option<u8>,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub lists: Vec<MembershipView<'a>>,
}

/// The clocks, read once for a whole document.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub boottime_ns: u64,
    epoch_offset_ns: u64,
}

impl Now {
    pub fn read() -> Self {
        Self {
            boottime_ns: clock::boottime_ns(),
            epoch_offset_ns: clock::epoch_offset_ns(),
        }
    }

    /// The same clocks, at another moment.
    pub fn at(self, boottime_ns: u64) -> Self {
        Self {
            boottime_ns,
            ..self
        }
    }

    /// RFC 3339, UTC, nanoseconds.
    pub fn wall(self, boottime_ns: u64) -> String {
        humantime::format_rfc3339_nanos(self.system_time(boottime_ns)).to_string()
    }

    /// UTC for people: the time of day today, else the date.
    pub fn wall_millis(self, boottime_ns: u64) -> String {
        let of = |ns| humantime::format_rfc3339_millis(self.system_time(ns)).to_string();
        let (then, now) = (of(boottime_ns), of(self.boottime_ns));
        match (then.split_once('T'), now.split_once('T')) {
            (Some((day, time)), Some((today, _))) if day == today => {
                time.trim_end_matches('Z').into()
            }
            (Some((day, _)), _) => day.into(),
            (None, _) => then,
        }
    }

    fn system_time(self, boottime_ns: u64) -> SystemTime {
        let since_epoch = Duration::from_nanos(self.epoch_offset_ns.saturating_add(boottime_ns));
        SystemTime::UNIX_EPOCH + since_epoch
    }
}

impl<'a> ProcessView<'a> {
    /// `parent` is that of now.
    pub fn new(process: &'a Process, parent: Option<Key>, now: Now, names: &mut Names) -> Self {
        let seen = &process.seen;
        let credentials = seen.credentials.as_deref();
        let image = process.image.as_deref();
        let key = process.key();
        Self {
            pid: key.tgid,
            start_ns: key.start_ns,
            start_precision_ns: match seen.precision {
                pidlist_process_cache::Precision::Nanosecond => 1,
                pidlist_process_cache::Precision::Tick => pidlist_process_cache::TICK_NS,
            },
            started_at: now.wall(key.start_ns),
            state: match process.exit {
                Some(_) => "exited",
                None if seen.leader_exited => "leader-exited",
                None => "alive",
            },
            parent: parent.map(Into::into),
            parent_at_fork: process.parent_at_fork.map(Into::into),
            forker: process.forker.map(Into::into),
            comm: Text(process.comm()),
            path: image.and_then(|image| image.path.as_deref()).map(Text),
            args: image.map(|image| image.args().map(Text).collect()),
            args_missing: image.and_then(|image| {
                if image.args_truncated {
                    Some("cut")
                } else {
                    image.args_unreadable.then_some("unreadable")
                }
            }),
            args_from: image.map(|image| match image.source {
                ImageSource::Proc if process.forker.is_none() => "proc",
                _ if process.execs == 0 => "forker",
                _ => "exec",
            }),
            execs: process.execs,
            exit: process.exit.map(Into::into),
            lifetime_ns: process.lifetime_ns(now.boottime_ns),
            uid: seen.ids.uid,
            gid: seen.ids.gid,
            euid: seen.ids.euid,
            egid: seen.ids.egid,
            pgid: seen.ids.pgid,
            sid: seen.ids.sid,
            tty: (seen.tty != 0).then(|| format!("{}:{}", seen.tty >> 20, seen.tty & 0xf_ffff)),
            cgroup_id: seen.cgroup_id,
            pid_ns: seen.pid_ns,
            ns_pid: seen.ns_tgid,
            threads: seen.threads,
            kernel_thread: seen.kthread,
            utime_ns: seen.usage.utime_ns,
            stime_ns: seen.usage.stime_ns,
            min_flt: seen.usage.min_flt,
            maj_flt: seen.usage.maj_flt,
            maxrss_kib: (seen.usage.maxrss_kib != 0).then_some(seen.usage.maxrss_kib),
            state_letter: process.state().letter(),
            user: names.user(seen.ids.uid),
            suid: credentials.map(|it| it.suid),
            sgid: credentials.map(|it| it.sgid),
            fsuid: credentials.map(|it| it.fsuid),
            fsgid: credentials.map(|it| it.fsgid),
            capabilities: credentials.map(|it| CapabilitiesView {
                effective: it.capabilities.effective,
                permitted: it.capabilities.permitted,
                inheritable: it.capabilities.inheritable,
                bounding: it.capabilities.bounding,
                ambient: it.capabilities.ambient,
            }),
            tty_name: names::terminal(seen.tty),
            cgroup: names
                .cgroup_of(process)
                .map(|path| path.to_string_lossy().into_owned()),
            container: names.container_of(process),
            ns_pids: seen
                .pids()
                .map(|it| NsPidView {
                    ns: it.ns.map(Into::into),
                    pid: it.pid,
                })
                .collect(),
            exe: image.and_then(|image| image.exe()).map(Text),
            exe_deleted: seen.exe.map(|exe| exe.deleted),
            exe_inode: seen.exe.map(|exe| exe.ino),
            cwd: image.and_then(|image| image.cwd.as_deref()).map(Text),
            env: image
                .and_then(|image| image.env.as_deref())
                .map(|env| env.variables().map(Text).collect()),
            exec_ns: process.exec_ns,
            seen_ns: process.seen_ns,
            exit_signal: seen.exit_signal,
            voluntary_switches: seen.usage.nvcsw,
            involuntary_switches: seen.usage.nivcsw,
            read_bytes: seen.usage.read_bytes,
            write_bytes: seen.usage.write_bytes,
            lists: process.tracked.iter().map(Into::into).collect(),
        }
    }
}

/// Something that was not to be had.
#[derive(Clone, Debug, Serialize)]
pub struct Missing {
    pub what: &'static str,
    pub why: String,
    pub hint: String,
}

/// How the command that was started ended.
#[derive(Clone, Debug, Serialize)]
pub struct CommandView {
    pub pid: u32,
    pub code: Option<i32>,
    pub signal: Option<i32>,
}

/// Counts of events by kind.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Events {
    pub forks: u64,
    pub execs: u64,
    pub exits: u64,
}

impl Events {
    /// Those that were told.
    pub fn told(counters: &Counters) -> Self {
        Self {
            forks: counters.forks,
            execs: counters.execs,
            exits: counters.exits,
        }
    }

    /// Those that are known to be lost.
    pub fn lost(counters: &Counters) -> Self {
        Self {
            forks: counters.forks_lost,
            execs: counters.execs_lost,
            exits: counters.exits_lost,
        }
    }

    /// Those since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            forks: self.forks.saturating_sub(earlier.forks),
            execs: self.execs.saturating_sub(earlier.execs),
            exits: self.exits.saturating_sub(earlier.exits),
        }
    }

    pub fn all(self) -> u64 {
        self.forks + self.execs + self.exits
    }
}

/// How good the picture is.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// `bpf` or `proc`.
    pub source: &'static str,
    /// The socket of the daemon that was asked; `null` if none was.
    pub daemon: Option<String>,
    pub missing: Vec<Missing>,
    /// How long was watched; 0 for a look at one moment.
    pub watched_ns: u64,
    pub alive: usize,
    pub exited: usize,
    /// Since the watch began, or, without one, since the daemon did.
    pub seen: Events,
    pub lost: Events,
    /// Processes that a walk corrected after the start; with `proc`, walks are all there is.
    pub repaired: u64,
    /// Walks over all tasks, that at the start included.
    pub walks: u64,
    /// Dead processes that went before their time, because memory is bounded.
    pub evicted: u64,
    /// Changes that the daemon told and this program was too slow to hear.
    pub missed: u64,
    pub command: Option<CommandView>,
}

impl Summary {
    pub fn new(session: &Session) -> Self {
        let Session {
            collector,
            kind,
            missing,
            watched_ns,
            command,
            ..
        } = session;
        let counters = collector.cache().counters();
        Self {
            source: match kind {
                Kind::Bpf => "bpf",
                Kind::Proc => "proc",
            },
            daemon: None,
            missing: missing.clone(),
            watched_ns: *watched_ns,
            alive: collector.cache().alive(),
            exited: collector.cache().len() - collector.cache().alive(),
            seen: Events::told(&counters),
            lost: Events::lost(&counters),
            repaired: collector.repaired(),
            walks: counters.walks,
            evicted: counters.evicted(),
            missed: 0,
            command: command.clone(),
        }
    }

    /// The last line for people.
    pub fn line(&self) -> String {
        use std::fmt::Write as _;
        let mut line = format!("{} alive, {} exited", self.alive, self.exited);
        if self.watched_ns != 0 {
            let _ = write!(line, " in {}", crate::output::span(self.watched_ns));
        }
        if self.source == "bpf" && self.watched_ns != 0 {
            let Events {
                forks,
                execs,
                exits,
            } = self.seen;
            let lost = self.lost.all();
            let _ = write!(
                line,
                "; seen: {forks} forks, {execs} execs, {exits} exits; lost: {lost}; repaired: {}",
                self.repaired
            );
        }
        if self.daemon.is_some() && self.watched_ns == 0 && self.lost.all() != 0 {
            let _ = write!(line, "; events lost so far: {}", self.lost.all());
        }
        if self.evicted != 0 {
            let _ = write!(line, "; evicted early: {}", self.evicted);
        }
        if self.missed != 0 {
            let _ = write!(line, "; changes missed: {}", self.missed);
        }
        let _ = match self.daemon {
            Some(_) => write!(line, "; source: daemon ({})", self.source),
            None => write!(line, "; source: {}", self.source),
        };
        for missing in &self.missing {
            let _ = write!(line, "; missing: {}", missing.what);
        }
        if let Some(command) = &self.command {
            let _ = match (command.code, command.signal) {
                (Some(code), _) => write!(line, "; command exited with {code}"),
                (None, Some(signal)) => write!(line, "; command killed by signal {signal}"),
                (None, None) => write!(line, "; command still runs"),
            };
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_utf8_keeps_its_bytes() {
        assert_eq!(serde_json::to_string(&Text(b"a\"b")).unwrap(), r#""a\"b""#);
        assert_eq!(serde_json::to_string(&Text(b"a\xff")).unwrap(), "[97,255]");
    }
}
