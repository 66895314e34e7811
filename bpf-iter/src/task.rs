//! A process as its leader and `signal_struct` show it, and `iter/task`.

use pidlist_abi::{
    layout::ABSENT,
    record::{BETWEEN_MAX, Capabilities, Header, Key, NsPid, Task, TaskRecord, kind, task_flag},
};

use crate::{
    kernel::{Object, Seq, boot_ns, peek},
    layout::task,
    maps,
};

// include/linux/sched.h and sched/signal.h; macros, so not in BTF.
const PF_EXITING: u32 = 0x4;
const PF_KTHREAD: u32 = 0x20_0000;
const SIGNAL_GROUP_EXIT: u32 = 0x4;

/// Threads whose usage is added up; the verifier follows each round of the loop.
const THREADS_MAX: u32 = 256;

/// Writes the record of a thread group, when its leader comes by.
///
/// A leader that has exited stays in the list of tasks until its group is reaped.
#[inline(always)]
pub fn show(seq: Seq, task: Object) {
    if task.u32(task!(pid)) != task.u32(task!(tgid)) {
        return;
    }
    let Some(record) = maps::task_record() else {
        return;
    };
    record.header = header::<TaskRecord>(kind::TASK);
    describe(&mut record.task, task, Usage::AllThreads);
    seq.write(record);
}

/// The header of a record of fixed size.
#[inline(always)]
pub fn header<T>(kind: u32) -> Header {
    Header {
        kind,
        size: size_of::<T>() as u32,
        time_ns: boot_ns(),
    }
}

/// Whose usage to add to that of the threads that are gone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// The task's: it is the only thread.
    OneThread,
    /// That of all threads in the group.
    AllThreads,
}

/// The process that a thread belongs to.
#[inline(always)]
pub fn key(task: Object) -> Key {
    let start_ns = match task.object(task!(group_leader)) {
        Some(leader) => leader.u64(task!(start_boottime)),
        None => 0,
    };
    Key {
        start_ns,
        tgid: task.u32(task!(tgid)),
        reserved: 0,
    }
}

/// Writes every field of `out`, from any thread of the process.
#[inline(always)]
pub fn describe(out: &mut Task, task: Object, usage: Usage) {
    // First, while the verifier has one path to follow, not one for each branch below.
    let complete = match task.object(task!(signal)) {
        Some(signal) => add_usage(out, task, signal, usage),
        None => true,
    };
    out.key = key(task);
    out.parent = match task.object(task!(real_parent)) {
        Some(parent) => key(parent),
        None => Key::default(),
    };
    out.cgroup_id = cgroup_id(task);
    credentials(out, task);

    let leader = task.object(task!(group_leader)).unwrap_or(task);
    namespace(out, leader);
    leader.bytes(task!(comm), &mut out.comm);
    let task_flags = leader.u32(task!(flags));
    let mut flags = if complete {
        0
    } else {
        task_flag::USAGE_PARTIAL
    };
    if task_flags & PF_KTHREAD != 0 {
        flags |= task_flag::KTHREAD;
    }
    if task_flags & PF_EXITING != 0 {
        flags |= task_flag::EXITING;
    }
    out.state = leader.u32(task!(state)) | leader.u32(task!(exit_state));
    out.exit_signal = leader.u32(task!(exit_signal)) as i32;
    flags |= executable(out, task);

    out.threads = 0;
    out.exit_status = 0;
    out.pgid = 0;
    out.sid = 0;
    out.tty = 0;
    out.maxrss_kib = 0;
    if let Some(signal) = task.object(task!(signal)) {
        out.threads = signal.u32(task!(live));
        if out.threads == 0 {
            flags |= task_flag::DEAD;
            out.exit_status = if signal.u32(task!(signal_flags)) & SIGNAL_GROUP_EXIT != 0 {
                signal.u32(task!(group_exit_code))
            } else {
                leader.u32(task!(exit_code))
            };
        }
        if let Some(pid) = signal.object(task!(pgrp)) {
            out.pgid = pid.u32(task!(pid_numbers) + task!(upid_nr));
        }
        if let Some(pid) = signal.object(task!(session)) {
            out.sid = pid.u32(task!(pid_numbers) + task!(upid_nr));
        }
        out.tty = terminal(signal);
        out.maxrss_kib = peak_pages(task, signal) * u64::from(task!(page_kib));
    }
    out.flags = flags;
}

#[inline(always)]
fn cgroup_id(task: Object) -> u64 {
    if task!(kn_id) == ABSENT {
        return 0;
    }
    let Some(set) = task.object(task!(cgroups)) else {
        return 0;
    };
    let Some(cgroup) = set.object(task!(dfl_cgrp)) else {
        return 0;
    };
    match cgroup.object(task!(cgroup_kn)) {
        Some(kn) => kn.u64(task!(kn_id)),
        None => 0,
    }
}

#[inline(always)]
fn credentials(out: &mut Task, task: Object) {
    out.uid = 0;
    out.gid = 0;
    out.euid = 0;
    out.egid = 0;
    out.suid = 0;
    out.sgid = 0;
    out.fsuid = 0;
    out.fsgid = 0;
    out.capabilities = Capabilities::default();
    if let Some(cred) = task.object(task!(real_cred)) {
        out.uid = cred.u32(task!(cred_uid));
        out.gid = cred.u32(task!(cred_gid));
        out.euid = cred.u32(task!(cred_euid));
        out.egid = cred.u32(task!(cred_egid));
        out.suid = cred.u32(task!(cred_suid));
        out.sgid = cred.u32(task!(cred_sgid));
        out.fsuid = cred.u32(task!(cred_fsuid));
        out.fsgid = cred.u32(task!(cred_fsgid));
        // Two words of 32 bits before 6.3, which the verifier does not let be loaded as one.
        let set = |offset: u32| peek(cred.address(offset));
        out.capabilities = Capabilities {
            effective: set(task!(cap_effective)),
            permitted: set(task!(cap_permitted)),
            inheritable: set(task!(cap_inheritable)),
            bounding: set(task!(cap_bounding)),
            ambient: set(task!(cap_ambient)),
        };
    }
}

/// Which file the process runs; returns flags. A leader that has exited has none.
#[inline(always)]
fn executable(out: &mut Task, task: Object) -> u32 {
    out.exe_ino = 0;
    out.exe_dev = 0;
    let Some(inode) = task
        .object(task!(mm))
        .and_then(|mm| mm.object(task!(exe_file)))
        .and_then(|file| file.object(task!(file_inode)))
    else {
        return 0;
    };
    out.exe_ino = inode.u64(task!(inode_number));
    if let Some(sb) = inode.object(task!(inode_sb)) {
        out.exe_dev = sb.u32(task!(sb_dev));
    }
    if inode.u32(task!(inode_nlink)) == 0 {
        task_flag::EXE_DELETED
    } else {
        0
    }
}

/// The pid namespaces, and the pid in each. A leader that is being reaped has none.
#[inline(always)]
fn namespace(out: &mut Task, leader: Object) {
    out.pid_ns = 0;
    out.ns_tgid = 0;
    out.ns_level = 0;
    out.between = [NsPid::default(); BETWEEN_MAX];
    let Some(pid) = leader.object(task!(thread_pid)) else {
        return;
    };
    let level = pid.u32(task!(pid_level));
    out.ns_level = level;
    NsPid {
        ns: out.pid_ns,
        tgid: out.ns_tgid,
    } = at_level(pid, level);
    // Nearly all processes stop here.
    if level > 1 {
        for (between, at) in out.between.iter_mut().zip(1..) {
            if at >= level {
                break;
            }
            *between = at_level(pid, at);
        }
    }
}

/// The pid in the namespace of that level.
#[inline(always)]
fn at_level(pid: Object, level: u32) -> NsPid {
    // The level is no constant, so the verifier does not let it into a direct load.
    let upid = pid.address(task!(pid_numbers)) + u64::from(level) * u64::from(task!(upid_size));
    let ns = peek::<u64>(upid + u64::from(task!(upid_ns)));
    NsPid {
        ns: peek(ns + u64::from(task!(ns_inum))),
        tgid: peek(upid + u64::from(task!(upid_nr))),
    }
}

/// Device number of the controlling terminal, as the kernel encodes it.
#[inline(always)]
fn terminal(signal: Object) -> u32 {
    if task!(tty_index) == ABSENT || task!(driver_major) == ABSENT {
        return 0;
    }
    let Some(tty) = signal.object(task!(tty)) else {
        return 0;
    };
    match tty.object(task!(tty_driver)) {
        Some(driver) => {
            let minor = driver.u32(task!(driver_minor_start)) + tty.u32(task!(tty_index));
            driver.u32(task!(driver_major)) << 20 | minor
        }
        None => 0,
    }
}

/// The peak resident set as far as the kernel has noted it. On the last exit it has, exactly.
#[inline(always)]
fn peak_pages(task: Object, signal: Object) -> u64 {
    let mut pages = 0;
    if task!(maxrss) != ABSENT {
        pages = signal.u64(task!(maxrss));
    }
    if task!(hiwater_rss) != ABSENT
        && let Some(mm) = task.object(task!(mm))
    {
        pages = pages.max(mm.u64(task!(hiwater_rss)));
    }
    pages
}

/// Sums up the group's usage; false if it has more threads than can be walked.
#[inline(always)]
fn add_usage(out: &mut Task, task: Object, signal: Object, usage: Usage) -> bool {
    let mut utime = signal.u64(task!(signal_utime));
    let mut stime = signal.u64(task!(signal_stime));
    let mut runtime = signal.u64(task!(sum_sched_runtime));
    let mut min_flt = signal.u64(task!(signal_min_flt));
    let mut maj_flt = signal.u64(task!(signal_maj_flt));
    let mut nvcsw = signal.u64(task!(signal_nvcsw));
    let mut nivcsw = signal.u64(task!(signal_nivcsw));
    let (mut read_bytes, mut write_bytes) = (0, 0);
    let has_io = task!(read_bytes) != ABSENT && task!(signal_read_bytes) != ABSENT;
    if has_io {
        read_bytes = signal.u64(task!(signal_read_bytes));
        write_bytes = signal.u64(task!(signal_write_bytes));
    }
    let mut complete = true;

    let head = signal.address(task!(thread_head));
    let link = task.address(task!(thread_node));
    let next = task.u64(task!(thread_node));
    let first = signal.u64(task!(thread_head));
    if usage == Usage::OneThread || (first == link && next == head) {
        utime += task.u64(task!(utime));
        stime += task.u64(task!(stime));
        runtime += task.u64(task!(sum_exec_runtime));
        min_flt += task.u64(task!(min_flt));
        maj_flt += task.u64(task!(maj_flt));
        nvcsw += task.u64(task!(nvcsw));
        nivcsw += task.u64(task!(nivcsw));
        if has_io {
            read_bytes += task.u64(task!(read_bytes));
            write_bytes += task.u64(task!(write_bytes));
        }
    } else {
        let mut link = first;
        complete = false;
        for _ in 0..THREADS_MAX {
            let thread = link.wrapping_sub(u64::from(task!(thread_node)));
            let number = |offset: u32| peek::<u64>(thread + u64::from(offset));
            utime += number(task!(utime));
            stime += number(task!(stime));
            runtime += number(task!(sum_exec_runtime));
            min_flt += number(task!(min_flt));
            maj_flt += number(task!(maj_flt));
            nvcsw += number(task!(nvcsw));
            nivcsw += number(task!(nivcsw));
            if has_io {
                read_bytes += number(task!(read_bytes));
                write_bytes += number(task!(write_bytes));
            }
            link = peek(link);
            if link == head || link == 0 {
                complete = link == head;
                break;
            }
        }
    }
    out.utime_ns = utime;
    out.stime_ns = stime;
    out.runtime_ns = runtime;
    out.min_flt = min_flt;
    out.maj_flt = maj_flt;
    out.nvcsw = nvcsw;
    out.nivcsw = nivcsw;
    out.read_bytes = read_bytes;
    out.write_bytes = write_bytes;
    complete
}
