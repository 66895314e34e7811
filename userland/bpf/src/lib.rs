//! Loads the BPF programs, tells them the kernel's layout, and reads what they send.
//!
//! ```no_run
//! let programs = pidlist_bpf::Programs::open()?;
//! for cache in programs.slabs()? {
//!     println!("{} bytes an object", cache.object_size);
//! }
//! let mut events = programs.events(&pidlist_bpf::Options::default())?;
//! while events.wait(Some(std::time::Duration::from_secs(1)))? {
//!     events.drain(|event| println!("{event:?}"));
//! }
//! # Ok::<(), pidlist_bpf::Error>(())
//! ```
//!
//! Needed are `CAP_BPF` and `CAP_PERFMON`, the kernel's own BTF (`CONFIG_DEBUG_INFO_BTF`), and for
//! slabs Linux 6.13. `RLIMIT_MEMLOCK` does not matter. Events need BPF's JIT compiler, which is on
//! unless `net.core.bpf_jit_enable` is 0.
//!
//! Each program is loaded when it is first asked for, and only that one. Events take the ring
//! buffer, a byte for each thread id that there may be (`/proc/sys/kernel/pid_max`), and 180 KiB for
//! each CPU that there may be, in which execs are put together.
//!
//! Arguments and environment are read as soon as the new program is in memory, when execve has just
//! written them there: a page of them is missing only if the kernel swapped it out meanwhile. A
//! program that may sleep could have it fetched, but those run only for LSM hooks, which come before
//! the kernel has noted where the arguments are (and which a boot parameter may turn off), or for
//! functions that ftrace can trace, which not all kernels have. What is missing is flagged, and may
//! be had from `/proc/PID/cmdline`.

#![deny(unsafe_code)]

mod error;
mod events;
mod iter;
mod kfunc;
mod layout;
mod object;

use std::sync::Mutex;

pub use error::Error;
pub use events::{
    Components, Counters, Drained, Event, Events, Options, Skipped, Wake, split_args,
};
use iter::Iterator;
use pidlist_abi::{record::TaskRecord, slab::Cache};

use crate::layout::Kernel;

/// The BPF object and what is known of the running kernel.
///
/// Methods may be called from any thread. They sleep.
#[derive(Debug)]
pub struct Programs {
    object: object::Object,
    kernel: Kernel,
    slabs: Mutex<Option<Iterator>>,
    tasks: Mutex<Option<Iterator>>,
}

impl Programs {
    /// Finds the object (see [`Error::NoObject`] for where) and reads the kernel's BTF. Nothing is
    /// loaded into the kernel yet.
    ///
    /// # Errors
    ///
    /// [`Error::NoObject`], [`Error::NoBtf`].
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            object: object::Object::find()?,
            kernel: Kernel::read()?,
            slabs: Mutex::default(),
            tasks: Mutex::default(),
        })
    }

    /// All slab caches, in the order of the kernel's list.
    ///
    /// A cache that comes or goes meanwhile is there or not.
    ///
    /// # Errors
    ///
    /// [`Error::NoIterator`] before Linux 6.13; whatever loading a program may meet.
    pub fn slabs(&self) -> Result<Vec<Cache>, Error> {
        Iterator::SLABS.collect(&self.slabs, &self.object, &self.kernel)
    }

    /// All processes of the caller's pid namespace, by rising pid, zombies included.
    ///
    /// One that is born or dies meanwhile is there or not.
    ///
    /// # Errors
    ///
    /// Whatever loading a program may meet.
    pub fn tasks(&self) -> Result<Vec<TaskRecord>, Error> {
        Iterator::TASKS.collect(&self.tasks, &self.object, &self.kernel)
    }

    /// Starts to record forks, execs and exits of all processes on the machine.
    ///
    /// Call [`Self::tasks`] after it: then no process is in neither.
    ///
    /// # Errors
    ///
    /// Whatever loading and attaching a program may meet.
    pub fn events(&self, options: &Options) -> Result<Events, Error> {
        Events::start(&self.object, &self.kernel, options)
    }

    /// Where the object came from: a path, or `embedded`.
    pub fn object_origin(&self) -> &str {
        self.object.origin()
    }
}
