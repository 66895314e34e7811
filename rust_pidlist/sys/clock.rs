//! The time that events carry.
//!
//! C header: [`include/linux/timekeeping.h`](srctree/include/linux/timekeeping.h)

use kernel::bindings;

/// `CLOCK_BOOTTIME` in nanoseconds. Any context but NMI.
pub(crate) fn boottime_ns() -> u64 {
    // SAFETY: May be called wherever timekeeping is not held, which is outside of NMI.
    unsafe { bindings::ktime_get_with_offset(bindings::tk_offsets_TK_OFFS_BOOT) as u64 }
}
