//! Tasks, as far as a PID set cares.
//!
//! Pids here are those of the initial pid namespace.
//!
//! C headers: [`include/linux/sched.h`](srctree/include/linux/sched.h),
//! [`include/linux/pid.h`](srctree/include/linux/pid.h)

use core::marker::PhantomData;
use core::ptr::{addr_of_mut, NonNull};

use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::rcu;

#[expect(improper_ctypes, reason = "the pointers only pass through")]
extern "C" {
    fn pidlist_next_process(task: *mut bindings::task_struct) -> *mut bindings::task_struct;
}

/// A task that stays for `'a`: a probe was given it, or an RCU read lock is held.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a>(NonNull<bindings::task_struct>, PhantomData<&'a ()>);

impl Task<'_> {
    /// # Safety
    ///
    /// `task` points to a `task_struct` that is valid for the lifetime that the caller picks.
    pub(super) unsafe fn from_raw(task: *mut bindings::task_struct) -> Self {
        // SAFETY: By the function's contract it is not null.
        Self(unsafe { NonNull::new_unchecked(task) }, PhantomData)
    }

    /// The thread group's id: what userland calls the pid.
    pub(crate) fn tgid(self) -> u32 {
        // SAFETY: The task is valid, and its tgid never changes.
        unsafe { (*self.0.as_ptr()).tgid as u32 }
    }

    /// Whether it leads its thread group, in whose name it comes and goes.
    pub(crate) fn is_leader(self) -> bool {
        // SAFETY: The task is valid; exec by another thread changes the pid of a task, but not while
        // that task is in a probe, and a stale answer is as good as one given a moment before.
        unsafe { addr_of_mut!((*self.0.as_ptr()).pid).read_volatile() as u32 == self.tgid() }
    }

    /// When it was made, in nanoseconds of `CLOCK_BOOTTIME`.
    pub(crate) fn started_ns(self) -> u64 {
        // SAFETY: The task is valid; a thread that execs takes over another's time, and either will do.
        unsafe { addr_of_mut!((*self.0.as_ptr()).start_boottime).read_volatile() }
    }

    /// The tgid of the process that will be told of this one's end.
    pub(crate) fn parent_tgid(self) -> u32 {
        let _rcu = rcu::read_lock();
        // SAFETY: The task is valid. RCU keeps what `real_parent` points to.
        unsafe {
            let parent = addr_of_mut!((*self.0.as_ptr()).real_parent).read_volatile();
            (*parent).tgid as u32
        }
    }
}

/// What is known of a pid.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// No process has it (a thread may).
    Gone,
    /// The process is being made: its fork event may still be to come.
    New,
    /// A process, perhaps a zombie.
    There,
}

/// The leader of the thread group `pid`, or null. The caller holds the RCU read lock as long as it
/// uses the task.
fn leader(pid: u32, _rcu: &rcu::Guard) -> *mut bindings::task_struct {
    // SAFETY: The initial namespace is there for ever, and RCU is held.
    unsafe {
        let pid = bindings::find_pid_ns(pid as i32, addr_of_mut!(bindings::init_pid_ns));
        bindings::pid_task(pid, bindings::pid_type_PIDTYPE_TGID)
    }
}

/// Looks up the process with tgid `pid`. Any context but NMI.
pub(crate) fn presence(pid: u32) -> Presence {
    let rcu = rcu::read_lock();
    let task = leader(pid, &rcu);
    if task.is_null() {
        return Presence::Gone;
    }
    // SAFETY: RCU is held, so the task is valid.
    let state = unsafe { addr_of_mut!((*task).__state).read_volatile() };
    if state & bindings::TASK_NEW != 0 {
        Presence::New
    } else {
        Presence::There
    }
}

/// Whether `task` leads the process that has tgid `pid` now. Any context but NMI.
pub(crate) fn is_process(pid: u32, task: Task<'_>) -> bool {
    leader(pid, &rcu::read_lock()) == task.0.as_ptr()
}

/// Lets a process that is being made get on. May sleep.
///
/// # Errors
///
/// `EINTR` if a signal is pending.
pub(crate) fn wait_a_moment() -> Result {
    // SAFETY: May be called wherever sleeping is allowed.
    unsafe { bindings::schedule_timeout_interruptible(1) };
    if kernel::current!().signal_pending() {
        return Err(EINTR);
    }
    Ok(())
}

/// Calls `f` with the leader of every process, as long as `f` returns true.
///
/// Runs under an RCU read lock: `f` must not sleep. Processes that come or go meanwhile may be
/// missed; they have events.
pub(crate) fn each_process(mut f: impl FnMut(Task<'_>) -> bool) {
    let _rcu = rcu::read_lock();
    let mut next = addr_of_mut!(bindings::init_task);
    loop {
        // SAFETY: RCU is held, and `next` is on the list of tasks.
        next = unsafe { pidlist_next_process(next) };
        if next.is_null() {
            return;
        }
        // SAFETY: The task is valid while RCU is held, which is longer than this borrow.
        if !f(unsafe { Task::from_raw(next) }) {
            return;
        }
    }
}
