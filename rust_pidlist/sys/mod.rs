//! Where Rust meets the kernel: all the module's `unsafe` but the tree's, behind safe types.
//!
//! A file wraps one thing the kernel crate has no abstraction for (yet). `shim.c` beside them holds
//! what is a macro or inline in C.

pub(crate) mod chunks;
pub(crate) mod clock;
pub(crate) mod cred;
pub(crate) mod debugfs;
pub(crate) mod deferred;
pub(crate) mod device;
pub(crate) mod file;
pub(crate) mod pid;
pub(crate) mod published;
pub(crate) mod raw_lock;
pub(crate) mod task;
pub(crate) mod tracepoint;
mod user;
pub(crate) mod wait_queue;
