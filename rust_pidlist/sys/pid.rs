//! Pid namespaces: the numbers by which a caller knows tasks, and those of the initial namespace,
//! here called ids.
//!
//! C headers: [`include/linux/pid.h`](srctree/include/linux/pid.h),
//! [`include/linux/pid_namespace.h`](srctree/include/linux/pid_namespace.h)

use core::ptr::{self, addr_of_mut};

use kernel::bindings;
use kernel::pid_namespace::PidNamespace;
use kernel::prelude::*;
use kernel::sync::rcu;
use kernel::task::CurrentTask;

/// The active pid namespace of the current task.
#[derive(Clone, Copy)]
pub(crate) struct Namespace<'a>(&'a PidNamespace);

impl<'a> Namespace<'a> {
    /// # Errors
    ///
    /// `ESRCH` for a task that has no pid any more.
    pub(crate) fn of(current: &'a CurrentTask) -> Result<Self> {
        current.active_pid_ns().map(Self).ok_or(ESRCH)
    }

    /// Whether numbers are ids here.
    pub(crate) fn is_initial(self) -> bool {
        ptr::eq(self.0.as_ptr(), initial())
    }

    /// The id of the task with `number`, if there is one; in the initial namespace also if not.
    pub(crate) fn id_of(self, number: u32) -> Option<u32> {
        if self.is_initial() {
            return Some(number);
        }
        let _rcu = rcu::read_lock();
        // SAFETY: The namespaces are valid, and RCU keeps the pid.
        let id = unsafe {
            let pid = bindings::find_pid_ns(number as i32, self.0.as_ptr());
            bindings::pid_nr_ns(pid, initial())
        };
        // Without a pid it is 0.
        (id != 0).then_some(id as u32)
    }

    /// The number of the task with `id`, if it has one here; in the initial namespace also if there
    /// is none.
    pub(crate) fn number_of(self, id: u32) -> Option<u32> {
        if self.is_initial() {
            return Some(id);
        }
        let _rcu = rcu::read_lock();
        // SAFETY: As above.
        let number = unsafe {
            let pid = bindings::find_pid_ns(id as i32, initial());
            bindings::pid_nr_ns(pid, self.0.as_ptr())
        };
        (number != 0).then_some(number as u32)
    }

    /// The least number in use from `from` on, and its id.
    pub(crate) fn next(self, from: u32) -> Option<(u32, u32)> {
        let _rcu = rcu::read_lock();
        // SAFETY: As above.
        let (number, id) = unsafe {
            let pid = bindings::find_ge_pid(from as i32, self.0.as_ptr());
            (bindings::pid_nr_ns(pid, self.0.as_ptr()), bindings::pid_nr_ns(pid, initial()))
        };
        (number != 0).then_some((number as u32, id as u32))
    }
}

fn initial() -> *mut bindings::pid_namespace {
    addr_of_mut!(bindings::init_pid_ns)
}
