// SPDX-License-Identifier: GPL-2.0

//! The PID set inside a running kernel: held against a model, and against the kernel's own.
//!
//! The very files of the module are compiled in: `tree/`, lists, and what they need of `sys/`.
//! Loading it does what the parameters ask for; where something is wrong, loading fails and the
//! log says what.
//!
//! | file | what |
//! |---|---|
//! | `bench.rs` | instructions, memory and lost pids of ours and of `trace_pid_list` |
//! | `model.rs` | random operations on every processor, predicted by a model |
//! | `failing.rs` | every allocation fails in turn |
//! | `reuse.rs` | one chunk for many ranges, under the eyes of readers |
//! | `mainline.rs`, `counter.rs`, `threads.rs`, `ours.rs` | every `unsafe` call into the kernel |

use kernel::prelude::*;

#[path = "../../../userland/abi/src/pidset.rs"]
#[allow(dead_code, unreachable_pub)]
mod abi;
mod bench;
mod counter;
#[path = "../../events.rs"]
#[allow(dead_code)]
mod events;
mod failing;
#[path = "../../family.rs"]
#[allow(dead_code)]
mod family;
#[path = "../../list.rs"]
#[allow(dead_code)]
mod list;
mod mainline;
mod model;
mod ours;
mod random;
#[path = "../../reserve.rs"]
#[allow(unreachable_pub)]
mod reserve;
mod reuse;
mod sys;
mod threads;
#[path = "../../tree/lib.rs"]
#[allow(dead_code, unreachable_pub)]
mod tree;

module! {
    type: KernelTests,
    name: "pidlist_kernel_tests",
    authors: ["pidlist maintainers"],
    description: "Tests and measures the PID set inside the kernel",
    license: "GPL",
    params: {
        operations: u64 {
            default: 200_000,
            description: "Random operations on a set that a model predicts",
        },
        seed: u64 {
            default: 1,
            description: "What the random operations come from",
        },
        bench: u8 {
            default: 0,
            description: "1: count instructions (qemu -icount); 2: time readers beside a writer",
        },
    },
}

struct KernelTests;

/// 7.2 gives a reference to it, 7.3 a copy.
fn parameter<T: Copy>(value: impl core::borrow::Borrow<T>) -> T {
    *value.borrow()
}

impl kernel::Module for KernelTests {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let _cache = sys::chunks::ChunkCache::create()?;
        match parameter::<u8>(module_parameters::bench.value()) {
            0 => {
                let operations = parameter(module_parameters::operations.value());
                failing::run()?;
                reuse::run(operations)?;
                model::run(operations, parameter(module_parameters::seed.value()))?;
            }
            1 => bench::count()?,
            2 => bench::time()?,
            _ => return Err(EINVAL),
        }
        Ok(Self)
    }
}
