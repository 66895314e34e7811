//! The maps: the ring buffer, the counters, and the room in which an exec record is put together.
#![expect(unsafe_code, reason = "map values are raw pointers")]

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE},
    helpers::generated as helper,
    macros::map,
    maps::{PerCpuArray, RingBuf},
};
use pidlist_abi::record::{ARGS_MAX, Counters, Exec, PATH_MAX};

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
    /// Path and arguments.
    pub data: [u8; PATH_MAX + ARGS_MAX],
}

#[map]
static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Changes this CPU's counters.
///
/// Each field belongs to one program, and the kernel never runs a program on a CPU where it
/// already runs, nor moves a running one: a field has one writer.
#[inline(always)]
pub fn count(change: impl FnOnce(&mut Counters)) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the pointer is this CPU's value. Another program may change its own fields when
        // it preempts this one, never those that `change` touches.
        change(unsafe { &mut *counters });
    }
}

/// This CPU's room for an exec record.
///
/// Only the exec program uses it, and no two of them run on one CPU, see [`count`].
#[inline(always)]
pub fn scratch() -> Option<*mut Scratch> {
    SCRATCH.get_ptr_mut(0)
}

/// Whether anything but an exit may still use the ring: an eighth of it is for exits.
#[inline(always)]
pub fn has_room() -> bool {
    let size = EVENTS.query(BPF_RB_RING_SIZE.into());
    EVENTS.query(BPF_RB_AVAIL_DATA.into()) <= size - size / 8
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
