//! The module's own.

#![allow(dead_code)]

#[path = "../../sys/chunks.rs"]
pub(crate) mod chunks;
#[path = "../../sys/clock.rs"]
pub(crate) mod clock;
#[path = "../../sys/deferred.rs"]
pub(crate) mod deferred;
#[path = "../../sys/raw_lock.rs"]
pub(crate) mod raw_lock;
#[path = "../../sys/task.rs"]
pub(crate) mod task;
#[path = "../../sys/wait_queue.rs"]
pub(crate) mod wait_queue;
