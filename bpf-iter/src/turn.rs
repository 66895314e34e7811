//! Which instance of a program records an event.
//!
//! Since tracepoints leave preemption on (7.1), a task may be preempted in a program. Until it goes
//! on, the kernel does not run this program for other tasks on that CPU: it skips it, and counts a
//! "recursion miss". So a tracepoint has several instances of a program attached. The first one
//! that is run for an event records it, those after it find the event marked as done. An event is
//! lost only if as many tasks are preempted on one CPU, each in another instance.
//!
//! Instances are short: they look at the mark, and jump to the program that records. That one is
//! never attached, hence never skipped, and has preemption off, so that it has its CPU's scratch
//! room and counters for itself. (It would not do to have preemption off in a single instance:
//! what wants the CPU meanwhile gets it when preemption is allowed again, still within the
//! instance.)
//!
//! A mark is a byte per thread id, which only the task itself writes, and before it runs its
//! forker. So it needs no lock and is never mistaken: an event is recorded exactly once.
//!
//! What is lost is known as exactly. The first instance comes first and asks no mark; the kernel
//! counts how often it was skipped. Each time, another instance notes that it filled in
//! (`rescued`), or else the event is lost.

use pidlist_abi::record::Counters;

use crate::{
    kernel::{Object, without_preemption},
    layout::task,
    maps,
};

/// An instance of a program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Instance {
    /// The one that is attached before the others.
    First,
    /// Another one.
    StandIn,
}

/// A point in the life of a task, as its mark tells.
#[derive(Clone, Copy)]
pub struct Point(u8);

impl Point {
    /// Nothing happened yet.
    const NEW: Self = Self(0);
    /// The task exits.
    pub const EXIT: Self = Self(0xff);

    /// The task's latest exec; the next one is another point.
    #[inline(always)]
    pub fn exec(task: Object) -> Self {
        Self((task.u64(task!(self_exec_id)) & 0x7f) as u8 + 1)
    }
}

/// Whether it is up to this instance to record the event of the current task. Marks it.
///
/// `rescued` counts it if the first instance was skipped.
#[inline(always)]
pub fn is_ours(
    instance: Instance,
    task: Object,
    point: Point,
    rescued: impl FnOnce(&mut Counters),
) -> bool {
    let mark = maps::mark(task.u32(task!(pid)));
    match (instance, mark) {
        (Instance::First, Some(mark)) => mark.set(point.0),
        // A thread id without a mark has only the first instance.
        (Instance::First, None) => {}
        (Instance::StandIn, Some(mark)) => {
            if mark.get() == point.0 {
                return false;
            }
            mark.set(point.0);
            without_preemption(|| maps::count(rescued));
        }
        (Instance::StandIn, None) => return false,
    }
    true
}

/// For a task that has not run yet: another one may have had its thread id.
#[inline(always)]
pub fn begin(task: Object) {
    if let Some(mark) = maps::mark(task.u32(task!(pid))) {
        mark.set(Point::NEW.0);
    }
}
