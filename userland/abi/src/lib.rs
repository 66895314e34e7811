//! The binary layouts that the kernel module, the BPF programs and userland share.
//!
//! This is their only home: the kernel module compiles [`pidset`] by path, the BPF programs and the
//! userland crates depend on this crate. All of them are built from one checkout, so a layout may
//! change with any commit; [`pidset::VERSION`] lets a client refuse a module of another one.
//!
//! Integers are in native byte order, strings are bytes as the kernel holds them.

#![no_std]

pub mod layout;
pub mod pidset;
pub mod record;
pub mod slab;
