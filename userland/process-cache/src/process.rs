//! A process, as it is kept and as a source sees it.

use std::cell::RefCell;
use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use pidlist_abi::record::{self, task_flag};

#[cfg(feature = "serde")]
use crate::text;
use crate::{Key, Membership, Precision};

/// Inode number of the initial pid namespace: `PROC_PID_INIT_INO` of `include/linux/proc_ns.h`.
const INITIAL_PID_NS: NonZeroU32 = NonZeroU32::new(0xeffffffc).expect("it is not zero");

/// Who a process acts as, and which groups it is in. Numbers are those of the initial namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ids {
    /// Process group.
    pub pgid: u32,
    /// Session.
    pub sid: u32,
    /// Real user.
    pub uid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective user.
    pub euid: u32,
    /// Effective group.
    pub egid: u32,
}

/// What a process may do, beyond its [`Ids`]. The same for nearly all processes, so they share it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Credentials {
    /// Saved user.
    pub suid: u32,
    /// Saved group.
    pub sgid: u32,
    /// User for file accesses.
    pub fsuid: u32,
    /// Group for file accesses.
    pub fsgid: u32,
    /// Capabilities.
    pub capabilities: Capabilities,
}

/// Sets of capabilities, bit `CAP_…` of `linux/capability.h` each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Capabilities {
    /// What the kernel checks.
    pub effective: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What an exec may pass on.
    pub inheritable: u64,
    /// What an exec can gain at most.
    pub bounding: u64,
    /// What an exec of an unprivileged program keeps.
    pub ambient: u64,
}

/// Most different credentials that a thread remembers, to share them.
const SHARED_MAX: usize = 256;

thread_local! {
    static SHARED: RefCell<HashSet<Arc<Credentials>>> = RefCell::default();
}

impl Credentials {
    /// The same credentials as this thread has shared before, if it has.
    #[must_use]
    pub fn share(self) -> Arc<Self> {
        SHARED.with_borrow_mut(|shared| {
            if let Some(known) = shared.get(&self) {
                return Arc::clone(known);
            }
            if shared.len() >= SHARED_MAX {
                shared.retain(|known| Arc::strong_count(known) > 1);
            }
            let new = Arc::new(self);
            if shared.len() < SHARED_MAX {
                shared.insert(Arc::clone(&new));
            }
            new
        })
    }
}

/// The pid of a process in one pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NsPid {
    /// Inode number of the namespace, if known.
    pub ns: Option<NonZeroU32>,
    /// The pid there.
    pub pid: u32,
}

/// The pid namespaces of a process that is more than one below the initial one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Nested {
    /// How deep the innermost one is: at least 2.
    pub level: u32,
    /// The pid in those from level 1 to `level - 1`; fewer, if a source has no room for all.
    pub between: Box<[NsPid]>,
}

/// The file that a process runs: for a script, its interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Exe {
    /// Inode number.
    pub ino: u64,
    /// Device of the file system, `major << 20 | minor`. That of btrfs and such is another one in
    /// the kernel ([`Precision::Nanosecond`]) than in stat(2).
    pub dev: u32,
    /// It has no name any more.
    pub deleted: bool,
}

/// What a process is doing, as `ps` and `/proc/PID/stat` show it: the state of its leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum State {
    /// `R`: runs, or waits for a processor.
    #[default]
    Running,
    /// `S`: sleeps until something happens or a signal comes.
    Sleeping,
    /// `D`: sleeps, and takes no signal.
    Uninterruptible,
    /// `I`: a kernel thread that has nothing to do.
    Idle,
    /// `T`: stopped by a signal.
    Stopped,
    /// `t`: stopped by a tracer.
    Traced,
    /// `P`: a kernel thread that is parked.
    Parked,
    /// `Z`: has exited; its parent does not know yet.
    Zombie,
    /// `X`: has exited.
    Dead,
}

// include/linux/sched.h; macros, so not in BTF. The same since 4.14.
const TASK_UNINTERRUPTIBLE: u32 = 0x2;
const TASK_NOLOAD: u32 = 0x400;
const TASK_RTLOCK_WAIT: u32 = 0x1000;
const TASK_FROZEN: u32 = 0x8000;

impl State {
    /// From the kernel's `__state | exit_state`, as `__task_state_index()` tells it.
    #[must_use]
    pub fn from_kernel(bits: u32) -> Self {
        if bits & (TASK_UNINTERRUPTIBLE | TASK_NOLOAD) == TASK_UNINTERRUPTIBLE | TASK_NOLOAD {
            return Self::Idle;
        }
        if bits & (TASK_RTLOCK_WAIT | TASK_FROZEN) != 0 {
            return Self::Uninterruptible;
        }
        match (bits & 0x7f).checked_ilog2() {
            None => Self::Running,
            Some(0) => Self::Sleeping,
            Some(1) => Self::Uninterruptible,
            Some(2) => Self::Stopped,
            Some(3) => Self::Traced,
            Some(4) => Self::Dead,
            Some(5) => Self::Zombie,
            Some(_) => Self::Parked,
        }
    }

    /// From the letter of `/proc/PID/stat`.
    #[must_use]
    pub fn from_letter(letter: char) -> Option<Self> {
        Some(match letter {
            'R' => Self::Running,
            'S' => Self::Sleeping,
            'D' => Self::Uninterruptible,
            'I' => Self::Idle,
            'T' => Self::Stopped,
            't' => Self::Traced,
            'P' => Self::Parked,
            'Z' => Self::Zombie,
            'X' | 'x' => Self::Dead,
            _ => return None,
        })
    }

    /// The letter that `ps` shows.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Running => 'R',
            Self::Sleeping => 'S',
            Self::Uninterruptible => 'D',
            Self::Idle => 'I',
            Self::Stopped => 'T',
            Self::Traced => 't',
            Self::Parked => 'P',
            Self::Zombie => 'Z',
            Self::Dead => 'X',
        }
    }
}

/// What a process has used, all its threads together, without its children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Usage {
    /// CPU time in user mode, nanoseconds.
    pub utime_ns: u64,
    /// CPU time in kernel mode, nanoseconds.
    pub stime_ns: u64,
    /// Minor page faults.
    pub min_flt: u64,
    /// Major page faults.
    pub maj_flt: u64,
    /// Voluntary context switches; from `/proc`, the leader's alone.
    pub nvcsw: u64,
    /// Involuntary context switches; from `/proc`, the leader's alone.
    pub nivcsw: u64,
    /// Bytes that storage had to read; 0 where it was not told.
    pub read_bytes: u64,
    /// Bytes that storage had to write; 0 where it was not told.
    pub write_bytes: u64,
    /// Peak resident set, KiB; 0 where it was not told.
    pub maxrss_kib: u64,
}

/// Where an [`Image`] was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ImageSource {
    /// The exec event: what execve was given.
    Exec,
    /// `/proc/PID`: what the process shows now, it may have rewritten it.
    Proc,
}

/// The program a process runs. Shared by a process and the children it forks until they exec.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Image {
    /// The path as execve was given it ([`ImageSource::Exec`]), or as `/proc/PID/exe` resolves it.
    /// execveat shows as `/dev/fd/N`, with a slash and the name if it was given one.
    #[cfg_attr(feature = "serde", serde(with = "text::option"))]
    pub path: Option<Box<[u8]>>,
    /// Where the file that runs really is, if that is not [`path`](Self::path), see
    /// [`exe`](Self::exe); cut at the front if it does not begin with a slash.
    #[cfg_attr(feature = "serde", serde(with = "text::option"))]
    pub real_path: Option<Box<[u8]>>,
    /// The working directory at the exec, or when `/proc` was read, if known; cut at the front if it
    /// does not begin with a slash.
    #[cfg_attr(feature = "serde", serde(with = "text::option"))]
    pub cwd: Option<Box<[u8]>>,
    /// The environment at the exec, if it was asked for.
    pub env: Option<Box<Environment>>,
    /// The arguments as one block, each ended by a NUL.
    #[cfg_attr(feature = "serde", serde(with = "text::bytes"))]
    pub block: Box<[u8]>,
    /// Bytes of arguments the program was given; more than the block holds if that was cut.
    pub args_total: u64,
    /// The block was cut at the collector's limit.
    pub args_truncated: bool,
    /// A page of the arguments was not in memory: the block ends there.
    pub args_unreadable: bool,
    /// Where this was read.
    pub source: ImageSource,
    /// Where the arguments were read: in `/proc` if the event could not.
    pub args_source: ImageSource,
}

/// An environment, without what is to be kept secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Environment {
    /// The variables as one block, each ended by a NUL.
    #[cfg_attr(feature = "serde", serde(with = "text::bytes"))]
    pub block: Box<[u8]>,
    /// The block was cut at the collector's limit, or at a page that was not in memory.
    pub truncated: bool,
}

impl Environment {
    /// The variables as `NAME=value`, the last one cut short if the block is.
    pub fn variables(&self) -> impl Iterator<Item = &[u8]> {
        split(&self.block)
    }
}

/// The parts of a block that end with a NUL each, the last one perhaps without.
fn split(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    let whole = block.strip_suffix(&[0]).unwrap_or(block);
    // An empty block has no part, a block of one NUL has an empty one.
    let some = !block.is_empty();
    whole.split(|byte| *byte == 0).filter(move |_| some)
}

impl Image {
    /// A program with these arguments, and nothing else known.
    #[must_use]
    pub fn new(source: ImageSource, path: Option<Box<[u8]>>, block: Box<[u8]>) -> Self {
        Self {
            path,
            real_path: None,
            cwd: None,
            env: None,
            args_total: block.len() as u64,
            block,
            args_truncated: false,
            args_unreadable: false,
            source,
            args_source: source,
        }
    }

    /// The arguments, empty ones kept, the last one cut short if the block is.
    pub fn args(&self) -> impl Iterator<Item = &[u8]> {
        split(&self.block)
    }

    /// Where the file that runs really is, as far as known: not a link, not a script.
    #[must_use]
    pub fn exe(&self) -> Option<&[u8]> {
        self.real_path.as_deref().or(self.path.as_deref())
    }

    /// Fills in arguments that were missing, if `other` shows the same ones and more of them.
    pub(crate) fn complete(&mut self, other: Self) {
        let cut = other.args_truncated && self.args_total > other.args_total;
        let is_longer =
            other.block.len() > self.block.len() && other.block.starts_with(&self.block);
        if is_longer && (cut || other.args_total == self.args_total) {
            self.block = other.block;
            self.args_unreadable = false;
            self.args_truncated |= cut;
            self.args_source = other.source;
        }
    }
}

/// How and when a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Exit {
    /// When its last thread exited; `None` if nobody saw it: it was found dead.
    pub time_ns: Option<u64>,
    /// When the cache learned of it.
    pub noticed_ns: u64,
    /// Wait status, as `waitpid` gives it; `None` if nobody saw it.
    pub status: Option<u32>,
    /// By an exit event (final), not by its absence from a walk (which a later walk may refute).
    pub observed: bool,
}

impl Exit {
    /// The exit code, if the process ended by exiting.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        self.status
            .filter(|status| status & 0x7f == 0)
            .map(|status| status >> 8 & 0xff)
    }

    /// The signal that killed the process, if one did.
    #[must_use]
    pub fn signal(&self) -> Option<u32> {
        self.status
            .map(|status| status & 0x7f)
            .filter(|signal| *signal != 0)
    }

    /// Whether a core was dumped.
    #[must_use]
    pub fn core_dumped(&self) -> bool {
        self.status.is_some_and(|status| status & 0x80 != 0)
    }
}

/// What a source says about a process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Sighting {
    /// Who.
    pub key: Key,
    /// How well the start times of [`key`](Self::key) and [`parent`](Self::parent) are known.
    pub precision: Precision,
    /// The process that will be sent `SIGCHLD`; `None` if there is none or the source cannot tell.
    pub parent: Option<Key>,
    /// `comm` of the leader, NUL padded.
    #[cfg_attr(feature = "serde", serde(with = "text::padded"))]
    pub comm: [u8; 16],
    /// Users, groups, session.
    pub ids: Ids,
    /// What it may do, if known.
    pub credentials: Option<Arc<Credentials>>,
    /// Usage so far.
    pub usage: Usage,
    /// Id of the cgroup in the default hierarchy, if known.
    pub cgroup_id: Option<u64>,
    /// Inode of the pid namespace, if known.
    pub pid_ns: Option<u32>,
    /// Its pid in that namespace, if known.
    pub ns_tgid: Option<u32>,
    /// The namespaces in between, if there are any: see [`pids`](Self::pids).
    pub nested: Option<Box<Nested>>,
    /// The file it runs; `None` for a kernel thread, after the exit, or if the source cannot tell.
    pub exe: Option<Exe>,
    /// What it is doing.
    pub state: State,
    /// The signal that its parent gets when it exits, if any.
    pub exit_signal: Option<u8>,
    /// Controlling terminal, `major << 20 | minor`; 0 if none.
    pub tty: u32,
    /// Threads alive.
    pub threads: u32,
    /// A kernel thread.
    pub kthread: bool,
    /// The leader has exited; other threads may live.
    pub leader_exited: bool,
    /// Every thread has exited, and what remains is a zombie at most.
    pub dead: bool,
    /// Wait status of a [`dead`](Self::dead) process, if the source tells it.
    pub exit_status: Option<u32>,
}

impl Sighting {
    /// A process of which nothing is known but its name.
    #[must_use]
    pub fn new(key: Key, precision: Precision) -> Self {
        Self {
            key,
            precision,
            parent: None,
            comm: [0; 16],
            ids: Ids::default(),
            credentials: None,
            usage: Usage::default(),
            cgroup_id: None,
            pid_ns: None,
            ns_tgid: None,
            nested: None,
            exe: None,
            state: State::default(),
            exit_signal: None,
            tty: 0,
            threads: 1,
            kthread: false,
            leader_exited: false,
            dead: false,
            exit_status: None,
        }
    }

    /// Reads a record of the BPF programs; `None` if it names no process.
    #[must_use]
    pub fn from_record(task: &record::Task) -> Option<Self> {
        let dead = task.flags & task_flag::DEAD != 0;
        let (utime_ns, stime_ns) = task.cpu_times_ns();
        Some(Self {
            key: Key::from_record(task.key)?,
            precision: Precision::Nanosecond,
            parent: Key::from_record(task.parent),
            comm: task.comm,
            ids: Ids {
                pgid: task.pgid,
                sid: task.sid,
                uid: task.uid,
                gid: task.gid,
                euid: task.euid,
                egid: task.egid,
            },
            credentials: Some(
                Credentials {
                    suid: task.suid,
                    sgid: task.sgid,
                    fsuid: task.fsuid,
                    fsgid: task.fsgid,
                    capabilities: Capabilities {
                        effective: task.capabilities.effective,
                        permitted: task.capabilities.permitted,
                        inheritable: task.capabilities.inheritable,
                        bounding: task.capabilities.bounding,
                        ambient: task.capabilities.ambient,
                    },
                }
                .share(),
            ),
            usage: Usage {
                utime_ns,
                stime_ns,
                min_flt: task.min_flt,
                maj_flt: task.maj_flt,
                nvcsw: task.nvcsw,
                nivcsw: task.nivcsw,
                read_bytes: task.read_bytes,
                write_bytes: task.write_bytes,
                maxrss_kib: task.maxrss_kib,
            },
            cgroup_id: (task.cgroup_id != 0).then_some(task.cgroup_id),
            pid_ns: (task.pid_ns != 0).then_some(task.pid_ns),
            ns_tgid: (task.ns_tgid != 0).then_some(task.ns_tgid),
            nested: (task.ns_level > 1).then(|| Box::new(nested(task))),
            exe: (task.exe_ino != 0).then_some(Exe {
                ino: task.exe_ino,
                dev: task.exe_dev,
                deleted: task.flags & task_flag::EXE_DELETED != 0,
            }),
            state: State::from_kernel(task.state),
            exit_signal: u8::try_from(task.exit_signal)
                .ok()
                .filter(|signal| *signal != 0),
            tty: task.tty,
            threads: task.threads,
            kthread: task.flags & task_flag::KTHREAD != 0,
            leader_exited: task.flags & task_flag::EXITING != 0,
            dead,
            exit_status: dead.then_some(task.exit_status),
        })
    }

    /// Its pid in each pid namespace that it is visible in, the initial one first, as far as known.
    pub fn pids(&self) -> impl Iterator<Item = NsPid> {
        let innermost = self.ns_tgid.map(|pid| NsPid {
            ns: self.pid_ns.and_then(NonZeroU32::new),
            pid,
        });
        let initial = NsPid {
            ns: Some(INITIAL_PID_NS),
            pid: self.key.tgid,
        };
        let between = self.nested.iter().flat_map(|nested| &nested.between);
        std::iter::once(initial)
            .chain(between.copied())
            .chain(innermost.filter(|innermost| {
                // Without rights, /proc does not tell which namespace it is.
                let unnamed = innermost.ns.is_none() && self.nested.is_none();
                *innermost != initial && !(unnamed && innermost.pid == initial.pid)
            }))
    }

    /// Takes over what a newer sighting of the same process tells. What that one cannot tell stays
    /// known.
    pub fn renew(&mut self, newer: &Self) {
        let older = std::mem::replace(self, newer.clone());
        if newer.precision == Precision::Tick && older.precision == Precision::Nanosecond {
            self.key = older.key;
            self.precision = older.precision;
        }
        self.credentials = self.credentials.take().or(older.credentials);
        self.cgroup_id = self.cgroup_id.or(older.cgroup_id);
        self.pid_ns = self.pid_ns.or(older.pid_ns);
        self.ns_tgid = self.ns_tgid.or(older.ns_tgid);
        self.nested = self.nested.take().or(older.nested);
        self.exe = self.exe.or(older.exe);
        self.exit_signal = self.exit_signal.or(older.exit_signal);
        let (usage, before) = (&mut self.usage, older.usage);
        usage.maxrss_kib = usage.maxrss_kib.max(before.maxrss_kib);
        // These only grow, whoever counts them.
        usage.nvcsw = usage.nvcsw.max(before.nvcsw);
        usage.nivcsw = usage.nivcsw.max(before.nivcsw);
        usage.read_bytes = usage.read_bytes.max(before.read_bytes);
        usage.write_bytes = usage.write_bytes.max(before.write_bytes);
    }
}

fn nested(task: &record::Task) -> Nested {
    let between = task.between.iter().take(task.ns_level as usize - 1);
    Nested {
        level: task.ns_level,
        between: between
            .map(|pid| NsPid {
                ns: NonZeroU32::new(pid.ns),
                pid: pid.tgid,
            })
            .collect(),
    }
}

/// A process, as the cache keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Process {
    /// What was last seen of it. [`Sighting::parent`] is its parent at that time, which may have
    /// exited since: ask [`Cache::parent`](crate::Cache::parent).
    pub seen: Sighting,
    /// When that was.
    pub seen_ns: u64,
    /// Its parent when it was made; `None` unless the fork was seen.
    pub parent_at_fork: Option<Key>,
    /// The process that called fork; not the parent if it said `CLONE_PARENT`. `None` unless the
    /// fork was seen.
    pub forker: Option<Key>,
    /// The program it runs; `None` for a kernel thread, or if nobody could tell.
    pub image: Option<Arc<Image>>,
    /// Execs seen. If 0, the [`image`](Self::image) is that of its forker, or was read in `/proc`.
    pub execs: u32,
    /// When the last of them was.
    pub exec_ns: Option<u64>,
    /// How it ended; `None` while it lives.
    pub exit: Option<Exit>,
    /// Whose child it is listed as: of its parent at fork, or else of the first parent seen. It does
    /// not change when that one exits.
    pub lineage: Option<Key>,
    /// The lists of the kernel module that it is or was on, the latest last.
    pub tracked: Box<[Membership]>,
}

impl Process {
    pub(crate) fn new(seen: Sighting, seen_ns: u64) -> Self {
        Self {
            seen,
            seen_ns,
            parent_at_fork: None,
            forker: None,
            image: None,
            execs: 0,
            exec_ns: None,
            exit: None,
            lineage: None,
            tracked: Box::default(),
        }
    }

    /// Who.
    #[must_use]
    pub fn key(&self) -> Key {
        self.seen.key
    }

    /// The pid of userland, in the initial pid namespace.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.seen.key.tgid
    }

    /// The leader's `comm`, without the padding.
    #[must_use]
    pub fn comm(&self) -> &[u8] {
        let comm = &self.seen.comm;
        comm.split(|byte| *byte == 0).next().unwrap_or(comm)
    }

    /// The lists of the kernel module that it is on.
    pub fn lists(&self) -> impl Iterator<Item = &str> {
        let current = |membership: &&Membership| membership.until_ns.is_none();
        self.tracked
            .iter()
            .filter(current)
            .map(|membership| &*membership.list)
    }

    /// Whether any thread of it lives.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.exit.is_none()
    }

    /// How long it lived, or has lived until `now_ns`, nanoseconds; `None` if it was found dead and
    /// nobody knows since when.
    #[must_use]
    pub fn lifetime_ns(&self, now_ns: u64) -> Option<u64> {
        let end = match self.exit {
            Some(exit) => exit.time_ns?,
            None => now_ns,
        };
        Some(end.saturating_sub(self.seen.key.start_ns))
    }

    /// Bytes of memory it takes beyond its slot, with its image or without.
    #[must_use]
    pub fn heap_bytes(&self, with_image: bool) -> usize {
        let tracked = self
            .tracked
            .iter()
            .map(|membership| size_of::<Membership>() + membership.list.len());
        let own = self.image.as_ref().filter(|_| with_image);
        let image = own.map_or(0, |image| {
            let len = |text: &Option<Box<[u8]>>| text.as_ref().map_or(0, |text| text.len());
            size_of::<Image>()
                + 16
                + image.block.len()
                + len(&image.path)
                + len(&image.real_path)
                + len(&image.cwd)
                + image
                    .env
                    .as_ref()
                    .map_or(0, |env| size_of_val(&**env) + env.block.len())
        });
        let nested = self.seen.nested.as_ref().map_or(0, |nested| {
            size_of_val(&**nested) + size_of_val(&*nested.between)
        });
        tracked.sum::<usize>() + image + nested
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(block: &[u8]) -> Vec<Vec<u8>> {
        let image = Image::new(ImageSource::Exec, None, block.into());
        image.args().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn empty_arguments_are_kept() {
        assert_eq!(
            args(b"a\0\0b\0\0"),
            [b"a".to_vec(), vec![], b"b".to_vec(), vec![]]
        );
        assert_eq!(args(b"\0"), [Vec::<u8>::new()]);
        assert!(args(b"").is_empty());
    }

    #[test]
    fn a_cut_block_ends_with_a_cut_argument() {
        assert_eq!(args(b"a\0bc"), [b"a".to_vec(), b"bc".to_vec()]);
    }

    #[test]
    fn wait_status_is_taken_apart() {
        let exit = |status| Exit {
            time_ns: None,
            noticed_ns: 0,
            status,
            observed: true,
        };
        assert_eq!(
            (exit(Some(3 << 8)).code(), exit(Some(3 << 8)).signal()),
            (Some(3), None)
        );
        assert_eq!(
            (exit(Some(9)).code(), exit(Some(9)).signal()),
            (None, Some(9))
        );
        assert!(exit(Some(0x8b)).core_dumped());
        assert_eq!((exit(None).code(), exit(None).signal()), (None, None));
    }

    fn task() -> record::Task {
        record::Task {
            key: record::Key {
                start_ns: 5,
                tgid: 7,
                reserved: 0,
            },
            pid_ns: INITIAL_PID_NS.get(),
            ns_tgid: 7,
            ..record::Task::default()
        }
    }

    fn pids(task: &record::Task) -> Vec<(Option<u32>, u32)> {
        let seen = Sighting::from_record(task).unwrap();
        seen.pids()
            .map(|pid| (pid.ns.map(NonZeroU32::get), pid.pid))
            .collect()
    }

    #[test]
    fn a_process_has_a_pid_in_each_namespace() {
        let initial = (Some(INITIAL_PID_NS.get()), 7);
        assert_eq!(pids(&task()), [initial]);
        let mut inner = record::Task {
            ns_level: 1,
            pid_ns: 100,
            ns_tgid: 1,
            ..task()
        };
        assert_eq!(pids(&inner), [initial, (Some(100), 1)]);
        inner.ns_level = 3;
        inner.between[0] = record::NsPid { ns: 98, tgid: 30 };
        inner.between[1] = record::NsPid { ns: 99, tgid: 20 };
        assert_eq!(
            pids(&inner),
            [initial, (Some(98), 30), (Some(99), 20), (Some(100), 1)]
        );
        // Namespaces without names, as /proc may show them.
        let mut seen = Sighting::from_record(&task()).unwrap();
        seen.pid_ns = None;
        assert_eq!(seen.pids().count(), 1);
        seen.ns_tgid = Some(1);
        assert_eq!(seen.pids().count(), 2);
        // Deeper than the record has room for.
        inner.ns_level = 32;
        let seen = Sighting::from_record(&inner).unwrap();
        assert_eq!(seen.nested.unwrap().level, 32);
        assert_eq!(pids(&inner).len(), 2 + record::BETWEEN_MAX);
    }

    #[test]
    fn equal_credentials_are_shared() {
        let mut task = task();
        let credentials = |task: &record::Task| -> Arc<Credentials> {
            Sighting::from_record(task).unwrap().credentials.unwrap()
        };
        let first = credentials(&task);
        assert!(Arc::ptr_eq(&first, &credentials(&task)));
        task.capabilities.effective = 1;
        let other = credentials(&task);
        assert_eq!(other.capabilities.effective, 1);
        // However many there are, few are remembered.
        for suid in 0..10 * SHARED_MAX as u32 {
            task.suid = suid;
            assert_eq!(credentials(&task).suid, suid);
        }
        assert!(SHARED.with_borrow(HashSet::len) <= SHARED_MAX);
    }

    #[test]
    fn states_are_those_of_the_kernel() {
        for (bits, letter) in [
            (0, 'R'),
            (0x800, 'R'),
            (1, 'S'),
            (2, 'D'),
            (0x102, 'D'),
            (0x402, 'I'),
            (0x1000, 'D'),
            (0x8000, 'D'),
            (4, 'T'),
            (0x104, 'T'),
            (8, 't'),
            (0x10, 'X'),
            (0x20, 'Z'),
            (0x80 | 0x20, 'Z'),
            (0x40, 'P'),
        ] {
            let state = State::from_kernel(bits);
            assert_eq!(state.letter(), letter, "{bits:#x}");
            assert_eq!(State::from_letter(letter), Some(state));
        }
        assert_eq!(State::from_letter('?'), None);
    }

    #[test]
    fn what_a_newer_sighting_cannot_tell_stays() {
        let mut seen = Sighting::from_record(&record::Task {
            exe_ino: 3,
            read_bytes: 9,
            exit_signal: 17,
            ..task()
        })
        .unwrap();
        let key = seen.key;
        let tick = Key { start_ns: 0, ..key };
        let mut newer = Sighting::new(tick, Precision::Tick);
        newer.threads = 4;
        seen.renew(&newer);
        assert_eq!((seen.key, seen.precision), (key, Precision::Nanosecond));
        assert_eq!((seen.threads, seen.usage.read_bytes), (4, 9));
        assert_eq!((seen.exe.unwrap().ino, seen.exit_signal), (3, Some(17)));
        assert!(seen.credentials.is_some() && seen.pid_ns.is_some());
    }

    #[test]
    fn missing_arguments_are_filled_in_from_the_same_ones() {
        let cut = Image {
            args_total: 6,
            args_unreadable: true,
            ..Image::new(ImageSource::Exec, None, (*b"a\0").into())
        };
        let proc = |block: &[u8]| Image::new(ImageSource::Proc, None, block.into());
        let mut image = cut.clone();
        image.complete(proc(b"a\0bcd\0"));
        assert_eq!(&*image.block, b"a\0bcd\0");
        assert!(!image.args_unreadable);
        assert_eq!(
            (image.source, image.args_source),
            (ImageSource::Exec, ImageSource::Proc)
        );
        // Of another program, or rewritten.
        for other in [b"x\0bcd\0".as_slice(), b"a\0bc\0", b""] {
            let mut image = cut.clone();
            image.complete(proc(other));
            assert_eq!(image, cut);
        }
    }

    /// There may be many: what is big or rare goes behind a pointer.
    #[test]
    fn a_process_is_small() {
        assert!(size_of::<Process>() <= 408);
        assert!(size_of::<Image>() <= 88);
    }
}
