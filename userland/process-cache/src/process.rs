//! A process, as it is kept and as a source sees it.

use std::sync::Arc;

use pidlist_abi::record::{self, task_flag};

use crate::{Key, Precision};

/// Who a process acts as, and which groups it is in. Numbers are those of the initial namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// What a process has used, all its threads together, without its children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in user mode, nanoseconds.
    pub utime_ns: u64,
    /// CPU time in kernel mode, nanoseconds.
    pub stime_ns: u64,
    /// Minor page faults.
    pub min_flt: u64,
    /// Major page faults.
    pub maj_flt: u64,
    /// Peak resident set, KiB; 0 where it was not told.
    pub maxrss_kib: u64,
}

/// Where an [`Image`] was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// The exec event: what execve was given.
    Exec,
    /// `/proc/PID`: what the process shows now, it may have rewritten it.
    Proc,
}

/// The program a process runs. Shared by a process and the children it forks until they exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The path as execve was given it ([`ImageSource::Exec`]), or as `/proc/PID/exe` resolves it.
    pub path: Option<Box<[u8]>>,
    /// The arguments as one block, each ended by a NUL.
    pub block: Box<[u8]>,
    /// Bytes of arguments the program was given; more than the block holds if that was cut.
    pub args_total: u64,
    /// The block was cut at the collector's limit.
    pub args_truncated: bool,
    /// A page of the arguments was not in memory: the block ends there.
    pub args_unreadable: bool,
    /// Where this was read.
    pub source: ImageSource,
}

impl Image {
    /// The arguments, empty ones kept, the last one cut short if the block is.
    pub fn args(&self) -> impl Iterator<Item = &[u8]> {
        let whole = self.block.strip_suffix(&[0]).unwrap_or(&self.block);
        // An empty block is no argument, a block of one NUL is one empty argument.
        let some = !self.block.is_empty();
        whole.split(|byte| *byte == 0).filter(move |_| some)
    }
}

/// How and when a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Who.
    pub key: Key,
    /// How well the start times of [`key`](Self::key) and [`parent`](Self::parent) are known.
    pub precision: Precision,
    /// The process that will be sent `SIGCHLD`; `None` if there is none or the source cannot tell.
    pub parent: Option<Key>,
    /// `comm` of the leader, NUL padded.
    pub comm: [u8; 16],
    /// Users, groups, session.
    pub ids: Ids,
    /// Usage so far.
    pub usage: Usage,
    /// Id of the cgroup in the default hierarchy, if known.
    pub cgroup_id: Option<u64>,
    /// Inode of the pid namespace, if known.
    pub pid_ns: Option<u32>,
    /// Its pid in that namespace, if known.
    pub ns_tgid: Option<u32>,
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
            usage: Usage::default(),
            cgroup_id: None,
            pid_ns: None,
            ns_tgid: None,
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
            usage: Usage {
                utime_ns,
                stime_ns,
                min_flt: task.min_flt,
                maj_flt: task.maj_flt,
                maxrss_kib: task.maxrss_kib,
            },
            cgroup_id: (task.cgroup_id != 0).then_some(task.cgroup_id),
            pid_ns: (task.pid_ns != 0).then_some(task.pid_ns),
            ns_tgid: (task.ns_tgid != 0).then_some(task.ns_tgid),
            tty: task.tty,
            threads: task.threads,
            kthread: task.flags & task_flag::KTHREAD != 0,
            leader_exited: task.flags & task_flag::EXITING != 0,
            dead,
            exit_status: dead.then_some(task.exit_status),
        })
    }
}

/// A process, as the cache keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
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

    /// Bytes of memory it takes beyond its slot, counting a shared image in full.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.image.as_ref().map_or(0, |image| {
            size_of::<Image>()
                + 16
                + image.block.len()
                + image.path.as_ref().map_or(0, |path| path.len())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(block: &[u8]) -> Vec<Vec<u8>> {
        let image = Image {
            path: None,
            block: block.into(),
            args_total: block.len() as u64,
            args_truncated: false,
            args_unreadable: false,
            source: ImageSource::Exec,
        };
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
}
