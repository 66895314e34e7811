//! Paths of files, from the kernel's tree of names.
//!
//! `bpf_d_path()` is not for tracepoints, and its kfunc only for LSM programs, which a stock kernel
//! may not run. So the names are read one by one, without the locks that `d_path()` takes: a
//! directory that is renamed meanwhile may show under either name. (The file's names stay readable
//! while a program, which runs under RCU, looks at them.)

use pidlist_abi::record::COMPONENTS_MAX;

use crate::{
    kernel::{kernel_string, peek},
    layout::task,
    maps::{self, NAME_ROOM},
};

/// What was read of a path.
pub struct Components {
    /// Bytes written.
    pub len: u64,
    /// Up to the root of the mount namespace.
    pub whole: bool,
}

/// Most bytes that are written.
const ROOM: u64 = (COMPONENTS_MAX * NAME_ROOM) as u64;

/// Writes the names of a `struct path`, the last one first, each with its NUL.
///
/// `out` must have `ROOM` bytes: the verifier refuses the program if it has not.
#[inline(always)]
pub fn components(out: *mut u8, path: u64) -> Components {
    let follow = |base: u64, offset: u32| peek::<u64>(base + u64::from(offset));
    let mut dentry = follow(path, task!(path_dentry));
    let mut mount = follow(path, task!(path_mnt)) - u64::from(task!(mount_mnt));
    let mut len = 0;
    for _ in 0..COMPONENTS_MAX {
        let root = follow(mount, task!(mount_mnt) + task!(mnt_root));
        if dentry == root {
            let parent = follow(mount, task!(mount_parent));
            if parent == mount {
                return Components { len, whole: true };
            }
            dentry = follow(mount, task!(mount_point));
            mount = parent;
            continue;
        }
        let name = follow(dentry, task!(dentry_name));
        let written = kernel_string(maps::at(out, len), NAME_ROOM as u32, name);
        if written <= 0 {
            break;
        }
        // For the verifier: so much has been written in no more rounds than there are.
        len = (len + written as u64) & (ROOM - 1);
        let parent = follow(dentry, task!(dentry_parent));
        if parent == dentry {
            // A file without a directory, such as a memfd.
            return Components { len, whole: true };
        }
        dentry = parent;
    }
    Components { len, whole: false }
}
