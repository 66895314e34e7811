//! What crosses the border to userland.

use kernel::transmute::{AsBytes, FromBytes};

use crate::abi;

macro_rules! plain {
    ($($name:ident: $size:expr),* $(,)?) => {$(
        const _: () = assert!(size_of::<abi::$name>() == $size);
        // SAFETY: It is made of integers only, which are valid whatever their bytes are.
        unsafe impl FromBytes for abi::$name {}
        // SAFETY: Its size is the sum of its fields', so there is no padding, and it has no interior
        // mutability.
        unsafe impl AsBytes for abi::$name {}
    )*};
}

plain! {
    Info: 2 * 4,
    Open: abi::NAME_LEN + 2 * 4 + 8,
    Pids: 8 + 2 * 4,
    Span: 8 + 2 * 4 + 8,
    Rules: 2 * 4 + 8,
    Stats: 18 * 8,
    List: abi::NAME_LEN + 4 * 4 + size_of::<abi::Stats>(),
    Module: 12 * 8,
    Events: 2 * 8,
    Event: 2 * 8 + 4 * 4,
}
