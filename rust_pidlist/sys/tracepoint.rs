//! Probes of the scheduler's tracepoints.
//!
//! These tracepoints are not exported; they are found by name. New tasks are seen by `task_newtask`
//! rather than `sched_process_fork`, which does not tell of the threads that io_uring and vhost make.
//!
//! C header: [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h)

use core::ptr::{self, NonNull};

use kernel::bindings;
use kernel::error::to_result;
use kernel::ffi::c_void;
use kernel::prelude::*;
use kernel::str::CStr;
use kernel::sync::Arc;

use super::task::Task;

extern "C" {
    fn pidlist_tracepoint_synchronize();
}

/// What the probes report. Preemption may be enabled, sleeping is not allowed.
pub(crate) trait TaskEvents: Send + Sync + 'static {
    /// `parent` has made `child`, which has a pid by now and has not run.
    fn forked(&self, parent: Task<'_>, child: Task<'_>);

    /// `task` has begun a new program, as which it has the number of its thread group; before, its
    /// number was `old_tid`.
    fn executed(&self, task: Task<'_>, old_tid: u32);

    /// `task` has been reaped; its number may have a new owner already.
    fn freed(&self, task: Task<'_>);
}

/// Probes that call `T` until they are dropped.
pub(crate) struct TaskProbes<T: TaskEvents> {
    registered: [Option<Probe>; 3],
    // The probes' data. Dropped after `drop` has waited for them.
    events: Arc<T>,
}

struct Probe {
    tracepoint: NonNull<bindings::tracepoint>,
    function: *mut c_void,
}

// SAFETY: A tracepoint is a static of the kernel, and registration may be undone by any thread.
unsafe impl Send for Probe {}
// SAFETY: There is nothing to do with a shared probe.
unsafe impl Sync for Probe {}

impl<T: TaskEvents> TaskProbes<T> {
    /// Registers the probes. May sleep.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the kernel has no such tracepoint, else what registering returned.
    pub(crate) fn register(events: Arc<T>) -> Result<Self> {
        // What is registered so far is undone by the drop if a later one fails.
        let mut this = Self { registered: [None, None, None], events };
        let probes = [
            (c"task_newtask", Self::new_probe as *mut c_void),
            (c"sched_process_exec", Self::exec_probe as *mut c_void),
            (c"sched_process_free", Self::free_probe as *mut c_void),
        ];
        for (slot, (name, function)) in this.registered.iter_mut().zip(probes) {
            let tracepoint = find(name).ok_or(ENOENT)?;
            let data = Arc::as_ptr(&this.events).cast_mut().cast();
            // SAFETY: The function has the prototype of this tracepoint, behind `data`, which stays
            // valid until the probe is gone.
            to_result(unsafe {
                bindings::tracepoint_probe_register(tracepoint.as_ptr(), function, data)
            })?;
            *slot = Some(Probe { tracepoint, function });
        }
        Ok(this)
    }

    /// # Safety
    ///
    /// `data` is what [`Self::register`] passed; the tasks are valid during the call.
    unsafe extern "C" fn new_probe(
        data: *mut c_void,
        child: *mut bindings::task_struct,
        _clone_flags: u64,
    ) {
        // SAFETY: `register` passed a `T` that outlives the probe; the current task makes the new one,
        // and the tracepoint passes a valid one.
        let (events, parent, child) = unsafe {
            (
                &*data.cast::<T>(),
                Task::from_raw(kernel::task::Task::current_raw()),
                Task::from_raw(child),
            )
        };
        // The idle task of a processor that comes up has no pid.
        if child.tid() != 0 {
            events.forked(parent, child);
        }
    }

    /// # Safety
    ///
    /// `data` is what [`Self::register`] passed; the task is valid during the call.
    unsafe extern "C" fn exec_probe(
        data: *mut c_void,
        task: *mut bindings::task_struct,
        old_tid: bindings::pid_t,
        _program: *mut bindings::linux_binprm,
    ) {
        // SAFETY: As above.
        unsafe { (*data.cast::<T>()).executed(Task::from_raw(task), old_tid as u32) }
    }

    /// # Safety
    ///
    /// `data` is what [`Self::register`] passed; the task is valid during the call.
    unsafe extern "C" fn free_probe(data: *mut c_void, task: *mut bindings::task_struct) {
        // SAFETY: As above.
        unsafe { (*data.cast::<T>()).freed(Task::from_raw(task)) }
    }
}

impl<T: TaskEvents> Drop for TaskProbes<T> {
    // May sleep.
    fn drop(&mut self) {
        let data: *mut c_void = Arc::as_ptr(&self.events).cast_mut().cast();
        for probe in self.registered.iter_mut().filter_map(Option::take) {
            // SAFETY: The probe was registered with these very values.
            let result = unsafe {
                bindings::tracepoint_probe_unregister(probe.tracepoint.as_ptr(), probe.function, data)
            };
            if let Err(error) = to_result(result) {
                pr_err!("a tracepoint probe could not be removed: {error:?}\n");
            }
        }
        // SAFETY: May sleep here. After it no probe runs any more.
        unsafe { pidlist_tracepoint_synchronize() };
    }
}

/// Finds a tracepoint of the kernel by its name. May sleep.
fn find(name: &CStr) -> Option<NonNull<bindings::tracepoint>> {
    struct Search<'a> {
        name: &'a CStr,
        found: *mut bindings::tracepoint,
    }

    /// # Safety
    ///
    /// `tracepoint` is valid, and `search` is the `Search` of the call below.
    unsafe extern "C" fn visit(tracepoint: *mut bindings::tracepoint, search: *mut c_void) {
        // SAFETY: `find` passes a `Search` that it has to itself.
        let search = unsafe { &mut *search.cast::<Search<'_>>() };
        // SAFETY: The kernel passes a valid tracepoint, whose name is a static string.
        if unsafe { CStr::from_char_ptr((*tracepoint).name) } == search.name {
            search.found = tracepoint;
        }
    }

    let mut search = Search { name, found: ptr::null_mut() };
    // SAFETY: `visit` is called with this pointer and not kept.
    unsafe { bindings::for_each_kernel_tracepoint(Some(visit), (&raw mut search).cast()) };
    NonNull::new(search.found)
}
