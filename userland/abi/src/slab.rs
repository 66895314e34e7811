//! Records of `iter/kmem_cache`: one per slab cache.

#[cfg(feature = "bytemuck")]
use bytemuck::{Pod, Zeroable};

/// Bytes kept of a cache's name.
pub const NAME_MAX: usize = 64;

/// A slab cache.
///
/// A count that the running kernel's layout does not give is `u64::MAX`, never zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "bytemuck", derive(Pod, Zeroable))]
pub struct Cache {
    /// Name, NUL padded, cut at [`NAME_MAX`] bytes.
    pub name: [u8; NAME_MAX],
    /// Bytes of an object as the user asked for it (`object_size`).
    pub object_size: u32,
    /// Bytes of an object with its metadata (`size`).
    pub size: u32,
    /// Pages of a slab, as a power of two (`oo` >> 16).
    pub order: u32,
    /// Objects in a slab (`oo` & 0xffff).
    pub objects_per_slab: u32,
    /// `SLAB_*` flags.
    pub flags: u32,
    /// Alignment of objects, bytes.
    pub align: u32,
    /// Caches merged into this one.
    pub refcount: u32,
    /// Always zero.
    pub reserved: u32,
    /// Slabs, over all nodes.
    pub slabs: u64,
    /// Slabs on partial lists, over all nodes.
    pub partial_slabs: u64,
    /// Objects that the slabs have room for, over all nodes.
    pub objects: u64,
}
