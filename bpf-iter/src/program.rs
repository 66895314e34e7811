//! What the kernel calls: the sections, their contexts, the licence.
#![expect(
    unsafe_code,
    reason = "section and symbol attributes; contexts are raw pointers"
)]

use core::ffi::c_void;

use crate::{
    events,
    kernel::{Object, Seq},
    slab, task,
};

/// GPL helpers (reading kernel memory, for one) are for GPL programs only.
// SAFETY: the section holds nothing but the licence, as loaders expect.
#[unsafe(link_section = "license")]
// SAFETY: no other symbol has this name.
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

/// `struct bpf_iter__*`: the beginning of what an iterator is called with.
#[repr(C)]
struct IterContext {
    /// Points to `struct bpf_iter_meta`, whose first word is the `seq_file`.
    meta: *const *mut c_void,
    /// The current object; null after the last one.
    object: *const u8,
}

impl IterContext {
    /// Where to write, and the current object; none after the last one.
    #[inline(always)]
    fn parts(context: *const Self) -> Option<(Seq, Object)> {
        // SAFETY: the kernel calls an iterator with its context; the verifier checks the loads.
        let Self { meta, object } = unsafe { context.read_volatile() };
        let object = Object::new(object)?;
        // SAFETY: `meta` and its first word are valid in every call, says the verifier as well.
        let seq = unsafe { meta.read_volatile() };
        Some((Seq::new(seq), object))
    }
}

// SAFETY (all programs): the section tells the loader the program type, the symbol is unique.
#[unsafe(link_section = "iter/kmem_cache")]
#[unsafe(no_mangle)]
extern "C" fn slabs(context: *const IterContext) -> i32 {
    if let Some((seq, cache)) = IterContext::parts(context) {
        slab::show(seq, cache);
    }
    0
}

#[unsafe(link_section = "iter/task")]
#[unsafe(no_mangle)]
extern "C" fn tasks(context: *const IterContext) -> i32 {
    if let Some((seq, task)) = IterContext::parts(context) {
        task::show(seq, task);
    }
    0
}

/// The arguments of a BTF tracepoint: one word each.
#[derive(Clone, Copy)]
pub struct Arguments(*const u64);

impl Arguments {
    /// Argument `index`.
    #[inline(always)]
    pub fn word(self, index: usize) -> u64 {
        let argument = self.0.wrapping_add(index);
        // SAFETY: the verifier knows the tracepoint and refuses an argument that it has not.
        unsafe { argument.read_volatile() }
    }

    /// Argument `index`, a kernel object.
    #[inline(always)]
    pub fn object(self, index: usize) -> Option<Object> {
        let argument = self.0.cast::<*const u8>().wrapping_add(index);
        // SAFETY: as above.
        Object::new(unsafe { argument.read_volatile() })
    }
}

#[unsafe(link_section = "tp_btf/sched_process_fork")]
#[unsafe(no_mangle)]
extern "C" fn fork(context: *const u64) -> i32 {
    events::fork(Arguments(context));
    0
}

#[unsafe(link_section = "tp_btf/sched_process_exec")]
#[unsafe(no_mangle)]
extern "C" fn exec(context: *const u64) -> i32 {
    events::exec(Arguments(context));
    0
}

#[unsafe(link_section = "tp_btf/sched_process_exit")]
#[unsafe(no_mangle)]
extern "C" fn exit(context: *const u64) -> i32 {
    events::exit(Arguments(context));
    0
}
