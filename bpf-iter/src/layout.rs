//! The running kernel's layout, filled in by the loader.
#![expect(unsafe_code, reason = "volatile loads and exported symbols")]

use core::ptr;

use pidlist_abi::layout::{SlabLayout, TaskLayout};

/// For [`crate::slab`].
// SAFETY: no other symbol has this name.
#[unsafe(no_mangle)]
pub static SLAB_LAYOUT: SlabLayout = SlabLayout::ABSENT;

/// For [`crate::task`] and [`crate::events`].
// SAFETY: no other symbol has this name.
#[unsafe(no_mangle)]
pub static TASK_LAYOUT: TaskLayout = TaskLayout::ABSENT;

/// The word as the loader wrote it: to the compiler it is the initial value.
#[inline(always)]
pub fn word(place: &'static u32) -> u32 {
    // SAFETY: a reference is valid for a load.
    unsafe { ptr::from_ref(place).read_volatile() }
}

/// A word of [`SLAB_LAYOUT`].
macro_rules! slab {
    ($field:ident) => {
        $crate::layout::word(&$crate::layout::SLAB_LAYOUT.$field)
    };
}

/// A word of [`TASK_LAYOUT`].
macro_rules! task {
    ($field:ident) => {
        $crate::layout::word(&$crate::layout::TASK_LAYOUT.$field)
    };
}

pub(crate) use {slab, task};
