//! What the kernel calls: the sections, their contexts, the licence.
#![expect(
    unsafe_code,
    reason = "section and symbol attributes; contexts are raw pointers"
)]

use core::ffi::c_void;

use aya_ebpf::{helpers::generated as helper, maps::ProgramArray};

use crate::{
    events,
    kernel::{Object, Seq},
    slab, task,
    turn::Instance,
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

    /// Goes on with another program of the same tracepoint. Comes back only if there is none.
    ///
    /// That program has to have a call of [`Self::stay`].
    #[inline(always)]
    pub fn jump(self, program: &'static ProgramArray) {
        self.tail_call(program, 0);
    }

    /// Does nothing, but makes the kernel give this program the task's own stack.
    ///
    /// Since 6.13 the kernel gives a tracing program a stack per CPU, as the program is never run
    /// twice at once on one. That does not hold for a program that is jumped to, and preempted
    /// before it has preemption off. A program that may itself jump has no such stack
    /// (`check_max_stack_depth()`).
    #[inline(always)]
    pub fn stay(self, program: &'static ProgramArray) {
        self.tail_call(program, 1);
    }

    #[inline(always)]
    fn tail_call(self, program: &'static ProgramArray, index: u32) {
        let map = core::ptr::from_ref(program).cast_mut().cast();
        // SAFETY: the verifier knows the context and the map; nothing here waits to be dropped.
        unsafe { helper::bpf_tail_call(self.0.cast_mut().cast(), map, index) };
    }
}

#[unsafe(link_section = "tp_btf/sched_wakeup_new")]
#[unsafe(no_mangle)]
extern "C" fn fork(context: *const u64) -> i32 {
    events::fork(Arguments(context));
    0
}

// Not attached: the instances below jump here.
#[unsafe(link_section = "tp_btf/sched_process_exec")]
#[unsafe(no_mangle)]
extern "C" fn record_exec(context: *const u64) -> i32 {
    events::record_exec(Arguments(context));
    0
}

// Not attached, either.
#[unsafe(link_section = "tp_btf/sched_process_exit")]
#[unsafe(no_mangle)]
extern "C" fn record_exit(context: *const u64) -> i32 {
    events::record_exit(Arguments(context));
    0
}

/// Instances of a program, to be attached in this order, see [`crate::turn`].
///
/// Each further one makes a loss about six times rarer (24 spawners on two CPUs, emulated), and
/// costs about 50 ns an event.
macro_rules! instances {
    ($section:literal, $event:path, $first:ident $($stand_in:ident)+) => {
        instances!(@ $section, $event, Instance::First, $first);
        $(instances!(@ $section, $event, Instance::StandIn, $stand_in);)+
    };
    (@ $section:literal, $event:path, $instance:expr, $name:ident) => {
        #[unsafe(link_section = $section)]
        #[unsafe(no_mangle)]
        extern "C" fn $name(context: *const u64) -> i32 {
            $event(Arguments(context), $instance);
            0
        }
    };
}

instances!("tp_btf/sched_process_exec", events::exec,
    exec_0 exec_1 exec_2 exec_3 exec_4 exec_5 exec_6 exec_7);
instances!("tp_btf/sched_process_exit", events::exit,
    exit_0 exit_1 exit_2 exit_3 exit_4 exit_5 exit_6 exit_7);
