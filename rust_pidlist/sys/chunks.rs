//! The slab cache that chunks come from.
//!
//! C header: [`include/linux/slab.h`](srctree/include/linux/slab.h)

use core::ptr::{self, NonNull};

use kernel::bindings;
use kernel::prelude::*;
use kernel::str::CStr;

use crate::tree::{self, Chunk};

extern "C" {
    fn pidlist_cache_create(name: *const kernel::ffi::c_char, size: u32) -> *mut bindings::kmem_cache;
}

/// The cache, from [`ChunkCache::create`] until its drop.
static CACHE: core::sync::atomic::AtomicPtr<bindings::kmem_cache> =
    core::sync::atomic::AtomicPtr::new(ptr::null_mut());

const NAME: &CStr = c"pidlist_chunk";

/// All kinds of chunk are about 2 KiB and come from one cache.
const OBJECT_SIZE: usize = tree::CHUNK_BYTES;

/// Keeps the cache alive. To be dropped after every [`tree::PidSet`].
pub(crate) struct ChunkCache(());

impl ChunkCache {
    /// Creates the cache; there is one of it. May sleep.
    pub(crate) fn create() -> Result<Self> {
        // SAFETY: The name is a static string.
        let cache = unsafe { pidlist_cache_create(NAME.as_char_ptr(), OBJECT_SIZE as u32) };
        if cache.is_null() {
            return Err(ENOMEM);
        }
        CACHE.store(cache, core::sync::atomic::Ordering::Release);
        Ok(Self(()))
    }

    /// Bytes that an object takes of its slab.
    pub(crate) const fn object_size() -> usize {
        OBJECT_SIZE
    }
}

impl Drop for ChunkCache {
    fn drop(&mut self) {
        let cache = CACHE.swap(ptr::null_mut(), core::sync::atomic::Ordering::AcqRel);
        // SAFETY: `create` made the cache, and by the type's contract all chunks are back.
        unsafe { bindings::kmem_cache_destroy(cache) };
    }
}

/// What an allocation may do.
#[derive(Clone, Copy)]
pub(crate) enum Mode {
    /// Sleep until there is memory, on the account of the current task's cgroup.
    Sleep,
    /// Nothing that takes time: it runs in interrupt context.
    Atomic,
}

/// The [`tree::Supply`] of the module.
pub(crate) struct Slab;

// SAFETY: `alloc` returns zeroed memory, which is what `Chunk::new` makes (no chunk has anything but
// atomics in it), of at least the chunk's size and aligned to 8; it is valid until `free`.
unsafe impl tree::Supply for Slab {
    type Mode = Mode;

    fn alloc<T: Chunk>(mode: Mode) -> Option<NonNull<T>> {
        const { assert!(size_of::<T>() <= OBJECT_SIZE && align_of::<T>() <= 8) };
        let gfp = match mode {
            Mode::Sleep => bindings::GFP_KERNEL_ACCOUNT,
            Mode::Atomic => bindings::GFP_NOWAIT | bindings::__GFP_NOWARN,
        };
        let cache = CACHE.load(core::sync::atomic::Ordering::Acquire);
        // SAFETY: The cache lives as long as any set, and only sets allocate.
        let chunk = unsafe { bindings::kmem_cache_alloc_noprof(cache, gfp | bindings::__GFP_ZERO) };
        NonNull::new(chunk.cast())
    }

    unsafe fn free<T: Chunk>(chunk: NonNull<T>) {
        let cache = CACHE.load(core::sync::atomic::Ordering::Acquire);
        // SAFETY: The chunk came from this cache; the caller gives it up.
        unsafe { bindings::kmem_cache_free(cache, chunk.as_ptr().cast()) };
    }
}
