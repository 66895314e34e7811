//! The tree on the host: against a model, on real threads, and in every interleaving (loom).

mod heap;
#[cfg(loom)]
mod interleavings;
#[cfg(not(loom))]
mod model;
#[cfg(not(loom))]
mod threads;
