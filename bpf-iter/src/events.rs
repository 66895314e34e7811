//! Fork, exec and exit of processes, into one ring buffer, in the order in which they happen.
//!
//! Nothing is lost in silence: a record that finds no room is counted, and so is an event that the
//! kernel does not run a program for, see [`crate::turn`].
//!
//! Exits are the last to be dropped, as a lost one leaves a ghost: forks and execs leave an eighth
//! of the ring to them.

use pidlist_abi::record::{
    ARGS_MAX, Counters, ENV_MAX, Exec, Exit, Fork, PATH_MAX, exec_flag, kind,
};

use crate::{
    kernel::{Object, current, kernel_string, user_byte_is_there, user_bytes, without_preemption},
    layout::task,
    maps::{self, Scratch},
    path,
    program::Arguments,
    task::{Usage, describe, header, key},
    turn::{self, Instance, Point},
};

/// `sched_wakeup_new(task)`: the current task has made this one, which has not run yet.
///
/// Not `sched_process_fork`: this one has the run queue's lock and interrupts off, so that nothing
/// preempts the program, and no fork is skipped. It comes for every task but the idle ones, which
/// are no processes, and [`turn`] relies on that. To send is allowed under that lock: the ring's own
/// is never held around it, and its reader is woken from an interrupt (`bpf_ringbuf_commit()`).
#[inline(always)]
pub fn fork(arguments: Arguments) {
    let (Some(forker), Some(child)) = (current(), arguments.object(0)) else {
        return;
    };
    turn::begin(child);
    if child.u32(task!(pid)) != child.u32(task!(tgid)) {
        return;
    }
    let sent = maps::has_room(size_of::<Fork>() as u64)
        && maps::send(|fork: &mut Fork| {
            fork.header = header::<Fork>(kind::FORK);
            fork.forker = key(forker);
            describe(&mut fork.child, child, Usage::OneThread);
        });
    maps::count(|counters| {
        counters.fork += 1;
        counters.fork_lost += u64::from(!sent);
    });
}

/// `sched_process_exit(task, group_dead)`: the memory is still there, the exit code is set.
#[inline(always)]
pub fn exit(arguments: Arguments, instance: Instance) {
    let Some(task) = arguments.object(0) else {
        return;
    };
    let rescued = |counters: &mut Counters| counters.exit_rescued += 1;
    if turn::is_ours(instance, task, Point::EXIT, rescued) && is_last(arguments, task) {
        arguments.jump(&maps::RECORD_EXIT);
        without_preemption(|| maps::count(|counters| counters.exit_lost += 1));
    }
}

/// Whether the task is the last one of its process to exit.
#[inline(always)]
fn is_last(arguments: Arguments, task: Object) -> bool {
    if task!(has_group_dead) == 1 {
        arguments.word(1) & 0xff != 0
    } else {
        // Before 6.16. When the last threads exit at once, more than one of them may see zero.
        task.object(task!(signal))
            .is_some_and(|signal| signal.u32(task!(live)) == 0)
    }
}

/// Goes on where [`exit`] jumps.
#[inline(always)]
pub fn record_exit(arguments: Arguments) {
    let Some(task) = arguments.object(0) else {
        // Never, but the call has to be somewhere.
        arguments.stay(&maps::RECORD_EXIT);
        return;
    };
    without_preemption(|| {
        let sent = maps::send(|exit: &mut Exit| {
            exit.header = header::<Exit>(kind::EXIT);
            describe(&mut exit.task, task, Usage::AllThreads);
        });
        maps::count(|counters| {
            counters.exit += 1;
            counters.exit_lost += u64::from(!sent);
        });
    });
}

/// `sched_process_exec(task, old_pid, bprm)`: the new program is in memory and has not run yet.
#[inline(always)]
pub fn exec(arguments: Arguments, instance: Instance) {
    let Some(task) = arguments.object(0) else {
        return;
    };
    let rescued = |counters: &mut Counters| counters.exec_rescued += 1;
    if turn::is_ours(instance, task, Point::exec(task), rescued) {
        arguments.jump(&maps::RECORD_EXEC);
        without_preemption(|| maps::count(|counters| counters.exec_lost += 1));
    }
}

/// Goes on where [`exec`] jumps.
#[inline(always)]
pub fn record_exec(arguments: Arguments) {
    let (Some(task), Some(bprm)) = (arguments.object(0), arguments.object(2)) else {
        // Never, but the call has to be somewhere.
        arguments.stay(&maps::RECORD_EXEC);
        return;
    };
    without_preemption(|| {
        // Nothing is put together for a full ring.
        let sent = maps::has_room(0)
            && match maps::scratch() {
                Some(scratch) => {
                    let len = exec_record(scratch, task, arguments.word(1) as u32, bprm);
                    maps::has_room(len) && maps::send_scratch(scratch, len)
                }
                None => false,
            };
        maps::count(|counters| {
            counters.exec += 1;
            counters.exec_lost += u64::from(!sent);
        });
    });
}

/// Puts the record together; returns its bytes.
#[inline(always)]
fn exec_record(scratch: *mut Scratch, task: Object, old_tid: u32, bprm: Object) -> u64 {
    let (exec, data) = maps::split(scratch);
    let mut flags = 0;

    let filename = bprm.u64(task!(bprm_filename));
    let with_nul = kernel_string(data, PATH_MAX as u32, filename);
    let path_len = if with_nul > 0 { with_nul as u64 - 1 } else { 0 };
    if with_nul <= 0 || with_nul == PATH_MAX as i64 {
        flags |= exec_flag::PATH_TRUNCATED;
    }
    // For the verifier: the helper never returns more than it was given room.
    let path_len = path_len & (PATH_MAX as u64 - 1);

    let mut len = path_len;
    let (mut args_total, mut args_len) = (0, 0);
    let (mut env_total, mut env_len) = (0, 0);
    let (mut exe_len, mut cwd_len) = (0, 0);
    flags |= exec_flag::EXE_TRUNCATED | exec_flag::CWD_TRUNCATED;
    if let Some(mm) = task.object(task!(mm)) {
        let start = mm.u64(task!(arg_start));
        args_total = mm.u64(task!(arg_end)).saturating_sub(start);
        let wanted = if args_total > ARGS_MAX as u64 {
            flags |= exec_flag::ARGS_TRUNCATED;
            ARGS_MAX as u64
        } else {
            args_total
        };
        args_len = read_block::<{ ARGS_MAX as u64 }>(maps::at(data, len), start, wanted);
        if args_len < wanted {
            flags |= exec_flag::ARGS_UNREADABLE;
        }
        len += args_len;
        if task!(with_env) == 1 {
            let start = mm.u64(task!(env_start));
            env_total = mm.u64(task!(env_end)).saturating_sub(start);
            let wanted = env_total.min(ENV_MAX as u64);
            env_len = read_block::<{ ENV_MAX as u64 }>(maps::at(data, len), start, wanted);
            if env_len < env_total {
                flags |= exec_flag::ENV_TRUNCATED;
            }
            len += env_len;
        }
        if let Some(file) = mm.object(task!(exe_file)) {
            let exe = path::components(maps::at(data, len), file.address(task!(file_path)));
            if exe.whole {
                flags &= !exec_flag::EXE_TRUNCATED;
            }
            exe_len = exe.len;
            len += exe_len;
        }
    }
    if let Some(fs) = task.object(task!(fs)) {
        let cwd = path::components(maps::at(data, len), fs.address(task!(fs_pwd)));
        if cwd.whole {
            flags &= !exec_flag::CWD_TRUNCATED;
        }
        cwd_len = cwd.len;
        len += cwd_len;
    }

    let len = size_of::<Exec>() as u64 + len;
    exec.header = header::<Exec>(kind::EXEC);
    exec.header.size = len as u32;
    describe(&mut exec.task, task, Usage::OneThread);
    exec.old_tid = old_tid;
    exec.path_len = path_len as u32;
    exec.args_len = args_len as u32;
    exec.args_total = args_total as u32;
    exec.env_len = env_len as u32;
    exec.env_total = env_total as u32;
    exec.exe_len = exe_len as u32;
    exec.cwd_len = cwd_len as u32;
    exec.flags = flags;
    exec.reserved = 0;
    len
}

/// Reads up to `wanted` bytes of arguments, at most `MAX`, as many as are in memory; returns how
/// many.
#[inline(always)]
fn read_block<const MAX: u64>(out: *mut u8, start: u64, wanted: u64) -> u64 {
    if user_bytes(out, wanted as u32, start) {
        return wanted;
    }
    // A page is missing, and this program cannot fault it in. Find it with reads of one byte:
    // their size is no variable that the verifier has to follow through the loop.
    let mut there = 0;
    let mut address = start;
    for _ in 0..=MAX / PAGE {
        if !user_byte_is_there(address) {
            break;
        }
        address = (address & !(PAGE - 1)) + PAGE;
        there = address - start;
    }
    let len = if there < wanted { there } else { wanted };
    if len > MAX || !user_bytes(out, len as u32, start) {
        return 0;
    }
    len
}

/// The step in which memory may be missing; a larger page is a multiple of it.
const PAGE: u64 = 4096;
