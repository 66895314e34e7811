//! The maps: the ring buffer, the counters, the room in which an exec record is put together, and
//! what [`crate::turn`] needs.
#![expect(unsafe_code, reason = "map values are raw pointers")]

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE},
    helpers::generated as helper,
    macros::map,
    maps::{Array, PerCpuArray, ProgramArray, RingBuf},
};
use pidlist_abi::{
    layout::MARKS_PER_VALUE,
    record::{ARGS_MAX, COMPONENTS_MAX, Counters, ENV_MAX, Exec, PATH_MAX, TaskRecord},
};

use crate::layout::task;

/// The loader sets the size.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// One exec record of the largest size.
#[repr(C)]
pub struct Scratch {
    /// The record.
    pub exec: Exec,
    /// What follows it.
    pub data: [u8; PATH_MAX + ARGS_MAX + ENV_MAX + 2 * COMPONENTS_MAX * NAME_ROOM],
}

/// Most bytes of a path's component, the NUL included.
pub const NAME_ROOM: usize = 256;

/// One for each CPU that there may be; the loader sets the size. A per-CPU array has no values as
/// large as these.
#[map]
static SCRATCH: Array<Scratch> = Array::with_max_entries(1, 0);

/// Where the iterator puts a record together: it is too large for the stack.
#[map]
static TASK: Array<TaskRecord> = Array::with_max_entries(1, 0);

/// A byte for each thread id; the loader sets the size.
#[map]
static MARKS: Array<[u8; MARKS_PER_VALUE as usize]> = Array::with_max_entries(1, 0);

/// The program that records an exec, in its only element.
#[map]
pub static RECORD_EXEC: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The program that records an exit, in its only element.
#[map]
pub static RECORD_EXIT: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// The mark of a thread id; none for one that is larger than any was at load time.
#[inline(always)]
pub fn mark(tid: u32) -> Option<Mark> {
    let value: *mut u8 = MARKS.get_ptr_mut(tid / MARKS_PER_VALUE)?.cast();
    Some(Mark(at(value, (tid % MARKS_PER_VALUE).into())))
}

/// A byte of a thread id.
#[derive(Clone, Copy)]
pub struct Mark(*mut u8);

impl Mark {
    /// What was set last; 0 at first.
    #[inline(always)]
    pub fn get(self) -> u8 {
        // SAFETY: within a value of the map, which lives as long as the program.
        unsafe { self.0.read_volatile() }
    }

    /// To be called by the task with this thread id, or on its behalf before it runs.
    #[inline(always)]
    pub fn set(self, value: u8) {
        // SAFETY: as above; nobody else writes to this byte now.
        unsafe { self.0.write_volatile(value) }
    }
}

/// Changes this CPU's counters; to be called with preemption off.
#[inline(always)]
pub fn count(change: impl FnOnce(&mut Counters)) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the pointer is this CPU's value, and nothing else runs on this CPU meanwhile.
        change(unsafe { &mut *counters });
    }
}

/// This CPU's room for an exec record.
///
/// Only the exec program uses it, with preemption off: no two of them run on one CPU.
#[inline(always)]
pub fn scratch() -> Option<*mut Scratch> {
    // SAFETY: the helper has no precondition.
    SCRATCH.get_ptr_mut(unsafe { helper::bpf_get_smp_processor_id() })
}

/// The iterator's record.
///
/// Its loader reads one file at a time, and no other program uses this.
#[inline(always)]
pub fn task_record() -> Option<&'static mut TaskRecord> {
    // SAFETY: map values live as long as the program, and nobody else has this one.
    TASK.get_ptr_mut(0).map(|record| unsafe { &mut *record })
}

/// Whether anything but an exit may put `len` bytes more into the ring: an eighth of it is for exits.
#[inline(always)]
pub fn has_room(len: u64) -> bool {
    let size = EVENTS.query(BPF_RB_RING_SIZE.into());
    EVENTS.query(BPF_RB_AVAIL_DATA.into()) + len <= size - size / 8
}

/// Whether to wake the reader for a record that is about to be sent.
#[inline(always)]
fn wake_flags() -> u64 {
    let wake_bytes = task!(wake_bytes);
    if wake_bytes == 0 {
        0
    } else if EVENTS.query(BPF_RB_AVAIL_DATA.into()) >= u64::from(wake_bytes) {
        BPF_RB_FORCE_WAKEUP.into()
    } else {
        BPF_RB_NO_WAKEUP.into()
    }
}

/// Sends a record that `fill` writes in place; false if there is no room.
///
/// `fill` must write every field: the ring's memory holds old records.
#[inline(always)]
pub fn send<T: 'static>(fill: impl FnOnce(&mut T)) -> bool {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        return false;
    };
    // SAFETY: records are integers and arrays of them, for which any bytes are a value, and the
    // kernel has set aside as many as `T` has.
    fill(unsafe { entry.assume_init_mut() });
    entry.submit(wake_flags());
    true
}

/// Sends the first `len` bytes of the scratch room; false if there is no room.
#[inline(always)]
pub fn send_scratch(scratch: *mut Scratch, len: u64) -> bool {
    // SAFETY: the verifier checks that `len` bytes are there.
    unsafe {
        helper::bpf_ringbuf_output(
            (&raw const EVENTS).cast_mut().cast(),
            scratch.cast(),
            len,
            wake_flags(),
        ) == 0
    }
}

/// The parts of the scratch room.
#[inline(always)]
pub fn split(scratch: *mut Scratch) -> (&'static mut Exec, *mut u8) {
    // SAFETY: map values live as long as the program; nobody else has this one, see [`scratch`].
    let exec = unsafe { &mut (*scratch).exec };
    // SAFETY: within the same value.
    let data = unsafe { (&raw mut (*scratch).data).cast() };
    (exec, data)
}

/// The byte `offset` after `base`; the verifier checks whoever writes there.
#[inline(always)]
pub fn at(base: *mut u8, offset: u64) -> *mut u8 {
    base.wrapping_add(offset as usize)
}
