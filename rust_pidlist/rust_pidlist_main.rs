// SPDX-License-Identifier: GPL-2.0

//! PID sets in the kernel that follow process trees.
//!
//! | file | what |
//! |---|---|
//! | `tree/` | a set: plain `core` Rust, tested on the host |
//! | `list.rs` | a set that follows forks, and loses none |
//! | `reserve.rs`, `family.rs`, `events.rs` | its reserve of chunks, process trees, joins and leaves |
//! | `lists.rs` | all lists: names, owners, the kernel's events |
//! | `device.rs`, `text.rs`, `event_file.rs` | `/dev/pidlist`: ioctls and text, events |
//! | `report.rs` | statistics in debugfs |
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
mod event_file;
mod events;
mod family;
mod list;
mod lists;
mod report;
#[expect(unreachable_pub)]
mod reserve;
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
/// arrives any more, the lists' upkeep is over and their memory back, the cache is empty.
struct Pidlist {
    _device: Pin<KBox<Device<device::Endpoint>>>,
    _report: sys::debugfs::Directory<lists::Lists>,
    _probes: TaskProbes<lists::Lists>,
    _lists: Arc<lists::Lists>,
    _cache: ChunkCache,
}

impl kernel::Module for Pidlist {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let cache = ChunkCache::create()?;
        let lists = lists::Lists::new()?;
        let probes = TaskProbes::register(lists.clone())?;
        let endpoint = Arc::new(device::Endpoint(lists.clone()), GFP_KERNEL)?;
        let mut report = report::new(&lists)?;
        // Last, as nothing may fail once somebody can have opened something.
        let device = KBox::try_pin_init(Device::register(c"pidlist", endpoint), GFP_KERNEL)?;
        report.appear();
        pr_info!("ready at /dev/{}\n", abi::DEVICE_NAME);
        Ok(Self {
            _device: device,
            _report: report,
            _probes: probes,
            _lists: lists,
            _cache: cache,
        })
    }
}
