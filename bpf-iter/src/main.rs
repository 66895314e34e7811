//! The BPF programs: iterators over tasks and slab caches, and fork, exec and exit events.
//!
//! Each section below is one program, each loaded on its own. What they send is in `pidlist-abi`,
//! who loads them is `pidlist-bpf`. They run in the kernel, under RCU, and cannot sleep; since
//! Linux 7.1 tracepoints leave preemption on, see [`turn`].
//!
//! On the host this builds to an empty program, so that clippy and rust-analyzer see the code.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(not(target_arch = "bpf"), expect(dead_code))]

mod events;
mod kernel;
mod layout;
mod maps;
mod path;
mod program;
mod slab;
mod task;
mod turn;

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("these are BPF programs: build them with qemu/build-bpf.sh");
    std::process::exit(2);
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
