//! Tasks, as far as a PID set cares.
//!
//! Pids here are those of the initial pid namespace; [`super::pid`] knows of others.
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
    fn pidlist_cond_resched();
    fn pidlist_next_thread(thread: *mut bindings::task_struct) -> *mut bindings::task_struct;
}

/// What a set is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Thread groups, by their ids: what userland calls pids.
    Process,
    /// Threads, by their ids: what userland calls tids.
    Thread,
}

impl Kind {
    fn pid_type(self) -> bindings::pid_type {
        match self {
            Self::Process => bindings::pid_type_PIDTYPE_TGID,
            Self::Thread => bindings::pid_type_PIDTYPE_PID,
        }
    }
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

    /// The thread group's id.
    pub(crate) fn tgid(self) -> u32 {
        // SAFETY: The task is valid, and its tgid never changes.
        unsafe { (*self.0.as_ptr()).tgid as u32 }
    }

    /// The thread's id.
    ///
    /// An exec by a thread that does not lead its group swaps its id with the leader's; never while
    /// the task is in a probe of ours.
    pub(crate) fn tid(self) -> u32 {
        // SAFETY: The task is valid; an answer given a moment before would have been as good.
        unsafe { addr_of_mut!((*self.0.as_ptr()).pid).read_volatile() as u32 }
    }

    /// The id that stands for it among `kind`.
    pub(crate) fn id(self, kind: Kind) -> u32 {
        match kind {
            Kind::Process => self.tgid(),
            Kind::Thread => self.tid(),
        }
    }

    /// Whether it leads its thread group, in whose name it comes and goes.
    pub(crate) fn is_leader(self) -> bool {
        self.tid() == self.tgid()
    }

    /// Whether it is still being made, so that its fork event may be to come.
    pub(crate) fn is_new(self) -> bool {
        // SAFETY: The task is valid.
        let state = unsafe { addr_of_mut!((*self.0.as_ptr()).__state).read_volatile() };
        state & bindings::TASK_NEW != 0
    }

    /// When it was made, in nanoseconds of `CLOCK_BOOTTIME`.
    pub(crate) fn started_ns(self) -> u64 {
        // SAFETY: The task is valid; a thread that execs takes over another's time, and either will do.
        unsafe { addr_of_mut!((*self.0.as_ptr()).start_boottime).read_volatile() }
    }

    /// The task that will be told of this one's end: as a rule, the one that made it.
    pub(crate) fn parent_id(self, kind: Kind) -> u32 {
        let _rcu = rcu::read_lock();
        // SAFETY: The task is valid. RCU keeps what `real_parent` points to.
        unsafe {
            let parent = addr_of_mut!((*self.0.as_ptr()).real_parent).read_volatile();
            Task::from_raw(parent).id(kind)
        }
    }

    /// Whether it led its thread group until another thread's exec took its place and its number.
    ///
    /// For a task that has been reaped. Any context but NMI.
    pub(crate) fn was_displaced(self) -> bool {
        if self.is_leader() {
            return false;
        }
        let rcu = rcu::read_lock();
        let leader = find(Kind::Process, self.tgid(), &rcu);
        // The thread that execs takes over the leader's time; other threads are younger.
        // SAFETY: RCU is held, so the task is valid.
        !leader.is_null() && unsafe { Task::from_raw(leader) }.started_ns() == self.started_ns()
    }
}

/// What is known of a pid.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// No task of the kind has it.
    Gone,
    /// The task is being made: its fork event may still be to come.
    New,
    /// A task, perhaps a zombie.
    There,
}

/// The task that has `id` among `kind`, or null. The caller holds the RCU read lock as long as it
/// uses the task.
fn find(kind: Kind, id: u32, _rcu: &rcu::Guard) -> *mut bindings::task_struct {
    // SAFETY: The initial namespace is there for ever, and RCU is held.
    unsafe {
        let pid = bindings::find_pid_ns(id as i32, addr_of_mut!(bindings::init_pid_ns));
        bindings::pid_task(pid, kind.pid_type())
    }
}

/// Looks up the task that has `id` among `kind`. Any context but NMI.
pub(crate) fn presence(kind: Kind, id: u32) -> Presence {
    let rcu = rcu::read_lock();
    let task = find(kind, id, &rcu);
    if task.is_null() {
        return Presence::Gone;
    }
    // SAFETY: RCU is held, so the task is valid.
    if unsafe { Task::from_raw(task) }.is_new() {
        Presence::New
    } else {
        Presence::There
    }
}

/// Whether it is `task` that has `id` among `kind` now. Any context but NMI.
pub(crate) fn has_id(task: Task<'_>, kind: Kind, id: u32) -> bool {
    find(kind, id, &rcu::read_lock()) == task.0.as_ptr()
}

/// Lets a process that is being made get on. May sleep.
///
/// # Errors
///
/// Those of [`breathe`].
pub(crate) fn wait_a_moment() -> Result {
    // SAFETY: May be called wherever sleeping is allowed.
    unsafe { bindings::schedule_timeout_interruptible(1) };
    breathe()
}

/// Lets others run, as a long loop should now and then. May sleep.
///
/// # Errors
///
/// `ERESTARTSYS` if a signal is pending, or what looks like one to the kernel: it is `EINTR` to userland
/// only if a handler was called that does not want the call restarted.
pub(crate) fn breathe() -> Result {
    // SAFETY: May be called wherever sleeping is allowed.
    unsafe { pidlist_cond_resched() };
    if kernel::current!().signal_pending() {
        return Err(ERESTARTSYS);
    }
    Ok(())
}

/// Calls `f` with every task of `kind`, as long as `f` returns true. Processes come in the order in
/// which they were made.
///
/// Runs under an RCU read lock: `f` must not sleep. Tasks that come or go meanwhile may be missed;
/// they have events.
pub(crate) fn each(kind: Kind, mut f: impl FnMut(Task<'_>) -> bool) {
    let _rcu = rcu::read_lock();
    let mut process = addr_of_mut!(bindings::init_task);
    loop {
        // SAFETY: RCU is held, and `process` is on the list of tasks.
        process = unsafe { pidlist_next_process(process) };
        let mut task = process;
        while !task.is_null() {
            // SAFETY: The task is valid while RCU is held, which is longer than this borrow.
            if !f(unsafe { Task::from_raw(task) }) {
                return;
            }
            task = match kind {
                Kind::Process => core::ptr::null_mut(),
                // SAFETY: RCU is held, and `task` is on the list of threads.
                Kind::Thread => unsafe { pidlist_next_thread(task) },
            };
        }
        if process.is_null() {
            return;
        }
    }
}
