//! Slab caches, from the BPF iterator or from /proc/slabinfo.
