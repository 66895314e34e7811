//! `iter/kmem_cache`: one record per slab cache.

use pidlist_abi::{
    layout::ABSENT,
    slab::{Cache, NAME_MAX},
};

use crate::{
    kernel::{Object, Seq, kernel_string},
    layout::slab,
};

/// Most nodes that a kernel can be built for (`NODES_SHIFT` 10).
const NODES_MAX: u32 = 1024;

/// Writes the record of one cache.
#[inline(always)]
pub fn show(seq: Seq, cache: Object) {
    let oo = cache.u32(slab!(oo));
    let mut record = Cache {
        name: [0; NAME_MAX],
        object_size: cache.u32(slab!(object_size)),
        size: cache.u32(slab!(size)),
        order: oo >> 16,
        objects_per_slab: oo & 0xffff,
        flags: cache.u32(slab!(flags)),
        align: cache.u32(slab!(align)),
        refcount: cache.u32(slab!(refcount)),
        reserved: 0,
        slabs: u64::MAX,
        partial_slabs: u64::MAX,
        objects: u64::MAX,
    };
    let name = cache.u64(slab!(name));
    kernel_string(record.name.as_mut_ptr(), NAME_MAX as u32, name);
    record.slabs = over_nodes(cache, slab!(nr_slabs));
    record.partial_slabs = over_nodes(cache, slab!(nr_partial));
    record.objects = over_nodes(cache, slab!(total_objects));
    seq.write(&record);
}

/// The sum of a count of `struct kmem_cache_node`; `u64::MAX` if the kernel does not have it.
#[inline(always)]
fn over_nodes(cache: Object, count: u32) -> u64 {
    let (first, stride, nodes) = (slab!(node), slab!(node_stride), slab!(nodes));
    if count == ABSENT || first == ABSENT || nodes == ABSENT {
        return u64::MAX;
    }
    let mut sum = 0;
    for node in 0..NODES_MAX {
        if node >= nodes {
            break;
        }
        if let Some(node) = cache.object(first + node * stride) {
            sum += node.u64(count);
        }
    }
    sum
}
