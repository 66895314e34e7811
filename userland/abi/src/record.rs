//! Records that the BPF programs send: tasks from `iter/task`, events from the ring buffer.
//!
//! Every record starts with a [`Header`]. Only processes make events: a new thread, or the exit of
//! a thread that leaves others alive, does not.
//!
//! A process is known by [`Key`]: pids are reused, a pid with its start time is not.

#[cfg(feature = "bytemuck")]
use bytemuck::{Pod, Zeroable};

/// Most bytes of program path in an [`Exec`] record.
pub const PATH_MAX: usize = 4096;
/// Most bytes of arguments in an [`Exec`] record.
pub const ARGS_MAX: usize = 128 * 1024;
/// Most bytes of environment in an [`Exec`] record.
pub const ENV_MAX: usize = 32 * 1024;
/// Most components of the executable's or the directory's path in an [`Exec`] record.
pub const COMPONENTS_MAX: usize = 32;
/// Pid namespaces between the initial one and the innermost that a [`Task`] has room for.
pub const BETWEEN_MAX: usize = 6;

/// What a record is, in [`Header::kind`].
pub mod kind {
    /// A [`super::Task`] of the iterator.
    pub const TASK: u32 = 1;
    /// A [`super::Fork`].
    pub const FORK: u32 = 2;
    /// An [`super::Exec`].
    pub const EXEC: u32 = 3;
    /// A [`super::Exit`].
    pub const EXIT: u32 = 4;
}

/// Start of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "bytemuck", derive(Pod, Zeroable))]
pub struct Header {
    /// One of [`kind`].
    pub kind: u32,
    /// Bytes of the whole record, this header and what follows it included.
    pub size: u32,
    /// When, in nanoseconds of `CLOCK_BOOTTIME`.
    ///
    /// The order of the records is the kernel's: fork, execs and exit of a process come in this
    /// order, and its exit before a fork that reuses its pid. Times of different processes may
    /// step back, by as long as a program takes.
    pub time_ns: u64,
}

/// Names a process for ever, on this boot.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "bytemuck", derive(Pod, Zeroable))]
pub struct Key {
    /// Start of the thread group, in nanoseconds of `CLOCK_BOOTTIME`: the leader's
    /// `task_struct.start_boottime`.
    ///
    /// It survives an exec by another thread, which takes over the leader's start time.
    pub start_ns: u64,
    /// Thread group id, the pid of userland, in the initial pid namespace.
    pub tgid: u32,
    /// Always zero.
    pub reserved: u32,
}

/// In [`Task::flags`].
pub mod task_flag {
    /// A kernel thread.
    pub const KTHREAD: u32 = 1 << 0;
    /// The leader has exited (other threads may live).
    pub const EXITING: u32 = 1 << 1;
    /// Every thread has exited: a zombie, or freed at once.
    pub const DEAD: u32 = 1 << 2;
    /// More threads than a BPF program can walk: times and faults are lower bounds.
    pub const USAGE_PARTIAL: u32 = 1 << 3;
    /// The executable has no name any more.
    pub const EXE_DELETED: u32 = 1 << 4;
}

/// The pid of a process in one pid namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "bytemuck", derive(Pod, Zeroable))]
pub struct NsPid {
    /// Inode number of the namespace.
    pub ns: u32,
    /// The process's tgid there.
    pub tgid: u32,
}

/// Sets of capabilities, bit `CAP_…` of `linux/capability.h` each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "bytemuck", derive(Pod, Zeroable))]
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

/// A process, as its thread group leader and `signal_struct` show it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "bytemuck", derive(Pod, Zeroable))]
pub struct Task {
    /// Who.
    pub key: Key,
    /// `real_parent`'s process: the one that will be sent `SIGCHLD`; zero if none.
    pub parent: Key,
    /// `cgroup.kn.id` of the default hierarchy, 0 if unknown.
    pub cgroup_id: u64,
    /// CPU time in user mode, of the whole group, nanoseconds, as the kernel samples it: by ticks
    /// on most machines, so 0 for most short lives. See [`Task::cpu_times_ns`].
    pub utime_ns: u64,
    /// CPU time in kernel mode, like `utime_ns`.
    pub stime_ns: u64,
    /// CPU time of the whole group, nanoseconds, as the scheduler measures it. What a thread has
    /// run since its last accounting (a context switch or a tick) is not in it yet.
    pub runtime_ns: u64,
    /// Minor page faults of the whole group.
    pub min_flt: u64,
    /// Major page faults of the whole group.
    pub maj_flt: u64,
    /// Voluntary context switches of the whole group.
    pub nvcsw: u64,
    /// Involuntary context switches of the whole group.
    pub nivcsw: u64,
    /// Bytes the whole group made storage read; 0 without `CONFIG_TASK_IO_ACCOUNTING`.
    pub read_bytes: u64,
    /// Bytes the whole group made storage write, like `read_bytes`.
    pub write_bytes: u64,
    /// Inode number of the executable, 0 if there is none (any more).
    pub exe_ino: u64,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// Peak resident set, KiB: exact in an [`Exit`]; before, the peak that the kernel has noted
    /// so far, which it does when memory shrinks (0 before).
    pub maxrss_kib: u64,
    /// Process group id, initial namespace.
    pub pgid: u32,
    /// Session id, initial namespace.
    pub sid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Effective user id.
    pub euid: u32,
    /// Effective group id.
    pub egid: u32,
    /// Saved user id.
    pub suid: u32,
    /// Saved group id.
    pub sgid: u32,
    /// User id for file accesses.
    pub fsuid: u32,
    /// Group id for file accesses.
    pub fsgid: u32,
    /// Inode number of the pid namespace the task lives in.
    pub pid_ns: u32,
    /// Its tgid in that namespace.
    pub ns_tgid: u32,
    /// How deep that namespace is: 0 for the initial one.
    pub ns_level: u32,
    /// Device of the executable's file system (`super_block.s_dev`), `major << 20 | minor`.
    pub exe_dev: u32,
    /// The leader's `__state` and `exit_state`.
    pub state: u32,
    /// Signal that its parent gets when it exits; negative if none.
    pub exit_signal: i32,
    /// The pid in the namespaces from level 1 to `ns_level - 1`; zeros beyond, and what is deeper
    /// than there is room for is left out.
    pub between: [NsPid; BETWEEN_MAX],
    /// Threads that have not exited.
    pub threads: u32,
    /// Wait status (`WIFEXITED` and friends) once the process is [`task_flag::DEAD`].
    pub exit_status: u32,
    /// Controlling terminal, `major << 20 | minor`; 0 if none.
    pub tty: u32,
    /// [`task_flag`]s.
    pub flags: u32,
    /// `task_struct.comm` of the leader, NUL padded.
    pub comm: [u8; 16],
}

impl Task {
    /// User and system CPU time, nanoseconds: the measured `runtime_ns`, divided like the sampled
    /// `utime_ns` and `stime_ns`. This is what `getrusage(2)` tells (`cputime_adjust()` of the
    /// kernel, without its memory of earlier answers).
    pub fn cpu_times_ns(&self) -> (u64, u64) {
        let (user, system, run) = (self.utime_ns, self.stime_ns, self.runtime_ns);
        if system == 0 {
            return (run, 0);
        }
        if user == 0 {
            return (0, run);
        }
        let share = u128::from(run) * u128::from(system) / (u128::from(user) + u128::from(system));
        // At most `run`, as `system` is at most the sum.
        let system = share as u64;
        (run - system, system)
    }
}

/// One line of the task iterator: a thread group.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "bytemuck", derive(Pod, Zeroable))]
pub struct TaskRecord {
    /// With [`kind::TASK`].
    pub header: Header,
    /// The process.
    pub task: Task,
}

/// A process was made; it has not run yet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "bytemuck", derive(Pod, Zeroable))]
pub struct Fork {
    /// With [`kind::FORK`].
    pub header: Header,
    /// The process that called fork, vfork or clone: not its parent if `CLONE_PARENT` was given.
    pub forker: Key,
    /// The child.
    pub child: Task,
}

/// In [`Exec::flags`].
pub mod exec_flag {
    /// The arguments are longer than [`super::ARGS_MAX`]: the first bytes are here.
    pub const ARGS_TRUNCATED: u32 = 1 << 0;
    /// A page with arguments was not in memory: what precedes it is here.
    pub const ARGS_UNREADABLE: u32 = 1 << 1;
    /// The path is longer than [`super::PATH_MAX`], or could not be read.
    pub const PATH_TRUNCATED: u32 = 1 << 2;
    /// The environment is longer than [`super::ENV_MAX`], or a page of it was not in memory: the
    /// first bytes are here.
    pub const ENV_TRUNCATED: u32 = 1 << 3;
    /// The executable's path is deeper than [`super::COMPONENTS_MAX`]: the last components are here.
    pub const EXE_TRUNCATED: u32 = 1 << 4;
    /// The working directory's path is deeper than [`super::COMPONENTS_MAX`]: the last components
    /// are here.
    pub const CWD_TRUNCATED: u32 = 1 << 5;
}

/// A process runs a new program.
///
/// `path_len` bytes of path (as it was given to execve, no NUL) follow, then `args_len` bytes of
/// arguments, each ended by a NUL (the last one perhaps not, if a flag says that some are missing),
/// `env_len` bytes of environment like it, and the paths of the executable and of the working
/// directory in the process's mount namespace: `exe_len` and `cwd_len` bytes of components, the last
/// one first, each ended by a NUL.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "bytemuck", derive(Pod, Zeroable))]
pub struct Exec {
    /// With [`kind::EXEC`].
    pub header: Header,
    /// The process, with its new `comm`.
    pub task: Task,
    /// Thread id of the caller before the exec; not `task.key.tgid` if it was not the leader.
    pub old_tid: u32,
    /// Bytes of path in this record.
    pub path_len: u32,
    /// Bytes of arguments in this record.
    pub args_len: u32,
    /// Bytes of arguments the program was given.
    pub args_total: u32,
    /// Bytes of environment in this record; 0 unless it is asked for.
    pub env_len: u32,
    /// Bytes of environment the program was given.
    pub env_total: u32,
    /// Bytes of the executable's path in this record.
    pub exe_len: u32,
    /// Bytes of the working directory's path in this record.
    pub cwd_len: u32,
    /// [`exec_flag`]s.
    pub flags: u32,
    /// Always zero.
    pub reserved: u32,
}

/// The last thread of a process has exited.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "bytemuck", derive(Pod, Zeroable))]
pub struct Exit {
    /// With [`kind::EXIT`].
    pub header: Header,
    /// The process, with its exit status and its final resource usage.
    pub task: Task,
}

/// What the event programs counted, ring buffer or not: what was seen, and what found no room.
///
/// One per CPU; the sums over the CPUs are the truth.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "bytemuck", derive(Pod, Zeroable))]
pub struct Counters {
    /// Forks of processes seen.
    pub fork: u64,
    /// Execs seen.
    pub exec: u64,
    /// Exits of processes seen.
    pub exit: u64,
    /// Forks that found no room in the ring buffer.
    pub fork_lost: u64,
    /// Execs that found no room in the ring buffer.
    pub exec_lost: u64,
    /// Exits that found no room in the ring buffer.
    pub exit_lost: u64,
    /// Execs for which the kernel skipped the first instance of the program, not a later one.
    pub exec_rescued: u64,
    /// Like `exec_rescued`, for exits of processes and of threads.
    pub exit_rescued: u64,
}
