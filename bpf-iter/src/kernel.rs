//! Reading kernel and user memory, and writing to an iterator's reader.
#![expect(unsafe_code, reason = "raw loads and BPF helpers")]

use core::{ffi::c_void, ptr::NonNull};

use aya_ebpf::helpers::generated as helper;
use pidlist_abi::layout::{ABSENT, kfunc};

/// A kernel object that the verifier knows the BTF type of.
///
/// A load from it is one instruction: the verifier refuses the program if there is no such member
/// at the offset, and makes a load from a stale or null pointer yield zero.
#[derive(Clone, Copy)]
pub struct Object(NonNull<u8>);

impl Object {
    /// None if `pointer` is null.
    #[inline(always)]
    pub fn new(pointer: *const u8) -> Option<Self> {
        NonNull::new(pointer.cast_mut()).map(Self)
    }

    #[inline(always)]
    fn load<T: Copy>(self, offset: u32) -> T {
        let member = self.0.as_ptr().wrapping_add(offset as usize).cast::<T>();
        // SAFETY: the verifier checks type, offset and size of every such load before the program
        // may run, and the kernel catches its faults. Volatile, so that the compiler neither
        // splits nor merges loads: each has to match a member.
        unsafe { member.read_volatile() }
    }

    /// A `u32` or `int` member.
    #[inline(always)]
    pub fn u32(self, offset: u32) -> u32 {
        self.load(offset)
    }

    /// A `u64`, `long` or address member.
    #[inline(always)]
    pub fn u64(self, offset: u32) -> u64 {
        self.load(offset)
    }

    /// A pointer member; none if it is null or [`ABSENT`].
    #[inline(always)]
    pub fn object(self, offset: u32) -> Option<Self> {
        if offset == ABSENT {
            return None;
        }
        Self::new(self.load(offset))
    }

    /// The address of a member, as a number that may be calculated with.
    #[inline(always)]
    pub fn address(self, offset: u32) -> u64 {
        self.0.as_ptr() as u64 + u64::from(offset)
    }

    /// Copies `N` bytes of a member; zeros if it cannot be read.
    #[inline(always)]
    pub fn bytes<const N: usize>(self, offset: u32, out: &mut [u8; N]) {
        let member = self.0.as_ptr().wrapping_add(offset as usize);
        // SAFETY: `out` has `N` bytes; the helper checks the kernel address itself, and writes
        // zeros where it fails.
        unsafe {
            helper::bpf_probe_read_kernel(out.as_mut_ptr().cast(), N as u32, member.cast());
        }
    }
}

/// A number from a kernel address that the verifier knows nothing of; 0 if it cannot be read.
///
/// No branch, on purpose: the verifier would follow both ways of each.
#[inline(always)]
pub fn peek<T: Copy + Default>(address: u64) -> T {
    let mut value = T::default();
    // SAFETY: `value` has the size; the helper checks the kernel address itself, and writes zeros
    // where it fails.
    unsafe {
        helper::bpf_probe_read_kernel(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            address as *const c_void,
        )
    };
    value
}

/// Copies a NUL-ended string of the kernel into the first `room` bytes of `out`.
///
/// Returns its length with the NUL, at most `room`; not positive if it cannot be read.
///
/// `out` must have `room` bytes: the verifier refuses the program if it has not.
#[inline(always)]
pub fn kernel_string(out: *mut u8, room: u32, address: u64) -> i64 {
    // SAFETY: the verifier checks that `out` has `room` bytes.
    unsafe { helper::bpf_probe_read_kernel_str(out.cast(), room, address as *const c_void) }
}

/// Copies `len` bytes of the current process's memory to `out`; false if a page is not there.
///
/// `out` must have `len` bytes: the verifier refuses the program if it has not.
#[inline(always)]
pub fn user_bytes(out: *mut u8, len: u32, address: u64) -> bool {
    // SAFETY: the verifier checks that `out` has `len` bytes; the helper checks the user address.
    unsafe { helper::bpf_probe_read_user(out.cast(), len, address as *const c_void) == 0 }
}

/// Whether a byte of the current process's memory can be read without faulting it in.
#[inline(always)]
pub fn user_byte_is_there(address: u64) -> bool {
    let mut byte = 0_u8;
    user_bytes(&raw mut byte, 1, address)
}

/// Nanoseconds of `CLOCK_BOOTTIME`.
#[inline(always)]
pub fn boot_ns() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { helper::bpf_ktime_get_boot_ns() }
}

/// The current task.
#[inline(always)]
pub fn current() -> Option<Object> {
    // SAFETY: the helper has no precondition.
    let task = unsafe { helper::bpf_get_current_task_btf() };
    Object::new(task.cast_const().cast())
}

/// Runs `body` with preemption off.
///
/// Where the kernel has no kfunc for it (before 6.10), it has preemption off in tracepoints.
#[inline(always)]
pub fn without_preemption(body: impl FnOnce()) {
    call::<{ kfunc::PREEMPT_DISABLE }>();
    body();
    call::<{ kfunc::PREEMPT_ENABLE }>();
}

/// Calls a function of [`kfunc`].
#[inline(always)]
fn call<const NUMBER: i32>() {
    // SAFETY: for BPF, a function's address is the number in the call instruction, as in aya's
    // helpers. The loader puts in what these kfuncs without arguments are called by.
    let function: unsafe extern "C" fn() = unsafe { core::mem::transmute(NUMBER as usize) };
    // SAFETY: the verifier checks that preemption is on again before the program ends.
    unsafe { function() }
}

/// The file of an iterator's reader.
#[derive(Clone, Copy)]
pub struct Seq(*mut c_void);

impl Seq {
    /// `seq` comes from the iterator's context, or the verifier refuses the program.
    #[inline(always)]
    pub fn new(seq: *mut c_void) -> Self {
        Self(seq)
    }

    /// Writes a record. One that does not fit any more is asked for again by the kernel.
    #[inline(always)]
    pub fn write<T>(self, record: &T) {
        // SAFETY: `record` is valid for its size; the verifier checks the `seq_file`.
        unsafe {
            helper::bpf_seq_write(
                self.0.cast(),
                core::ptr::from_ref(record).cast(),
                size_of::<T>() as u32,
            );
        }
    }
}
