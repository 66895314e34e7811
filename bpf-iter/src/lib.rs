//! The BPF programs: iterators over tasks and slab caches, and fork, exec and exit events.
