// SPDX-License-Identifier: GPL-2.0

//! A PID set in the kernel that follows process trees.
//!
//! | file | what |
//! |---|---|
//! | `tree/` | the set: plain `core` Rust, tested on the host |
//! | `list.rs` | a set that follows forks, and loses none |
//! | `device.rs`, `text.rs` | `/dev/pidlist`: ioctls and text |
//! | `sys/` | every `unsafe` call into the kernel, behind safe types |

use kernel::prelude::*;
use kernel::sync::Arc;

use sys::chunks::ChunkCache;
use sys::device::Device;
use sys::tracepoint::TaskProbes;

// These are public where the host compiles them, too.
#[path = "../userland/abi/src/pidset.rs"]
#[expect(unreachable_pub)]
mod abi;
mod device;
mod list;
mod sys;
#[expect(unreachable_pub)]
mod text;
#[path = "tree/lib.rs"]
#[expect(unreachable_pub)]
#[expect(dead_code, reason = "the host makes chunks itself, here they come zeroed")]
mod tree;

module! {
    type: Pidlist,
    name: "rust_pidlist",
    authors: ["pidlist maintainers"],
    description: "A PID set that follows process trees",
    license: "GPL",
}

/// The loaded module. Its fields are dropped in this order: nobody can come in any more, no event
/// arrives any more, the list's upkeep is over and its memory back, the cache is empty.
struct Pidlist {
    _device: Pin<KBox<Device<device::Endpoint>>>,
    _probes: TaskProbes<list::List>,
    _list: Arc<list::List>,
    _cache: ChunkCache,
}

impl kernel::Module for Pidlist {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let cache = ChunkCache::create()?;
        let list = list::new()?;
        let probes = TaskProbes::register(list.clone())?;
        let endpoint = Arc::new(device::Endpoint(list.clone()), GFP_KERNEL)?;
        let device = KBox::try_pin_init(
            Device::register(c"pidlist", module, endpoint),
            GFP_KERNEL,
        )?;
        pr_info!("ready at /dev/{}\n", abi::DEVICE_NAME);
        Ok(Self { _device: device, _probes: probes, _list: list, _cache: cache })
    }
}
