//! Boots a kernel with an initramfs of ours and judges what it did.

fn main() {}
