//! What people call what the kernel numbers: users, cgroups, terminals, capabilities.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use nix::unistd::{Uid, User};
use pidlist_process_cache::Process;
use pidlist_process_cache::cgroup::{self, Cgroups};

/// Looks names up, each once.
#[derive(Debug, Default)]
pub struct Names {
    users: HashMap<u32, Option<String>>,
    /// Looked for when first asked.
    cgroups: Option<Option<Cgroups>>,
    /// Ids without a path, so that each costs one search.
    removed: std::collections::HashSet<u64>,
}

impl Names {
    /// The name of a user, or its number.
    pub fn user(&mut self, uid: u32) -> String {
        let name = self.users.entry(uid).or_insert_with(|| {
            let user = User::from_uid(Uid::from_raw(uid));
            user.ok().flatten().map(|user| user.name)
        });
        match name {
            Some(name) => crate::output::text(name.as_bytes()),
            None => uid.to_string(),
        }
    }

    /// The path of a cgroup; `None` if it is gone.
    pub fn cgroup(&mut self, id: u64) -> Option<Arc<Path>> {
        if self.removed.contains(&id) {
            return None;
        }
        let cgroups = self.cgroups.get_or_insert_with(Cgroups::find).as_mut();
        let path = cgroups?.path(id);
        if path.is_none() {
            self.removed.insert(id);
        }
        path
    }

    /// The path of a process's cgroup.
    pub fn cgroup_of(&mut self, process: &Process) -> Option<Arc<Path>> {
        process.seen.cgroup_id.and_then(|id| self.cgroup(id))
    }

    /// The id of the container that a process is in.
    pub fn container_of(&mut self, process: &Process) -> Option<String> {
        let path = self.cgroup_of(process)?;
        cgroup::container_id(&path).map(str::to_owned)
    }
}

/// The name of a terminal as `ps` shows it, from `major << 20 | minor`: see
/// `Documentation/admin-guide/devices.txt`.
pub fn terminal(device: u32) -> Option<String> {
    let (major, minor) = (device >> 20, device & 0xf_ffff);
    match (major, minor) {
        (0, 0) => None,
        (4, 0..64) => Some(format!("tty{minor}")),
        (4, _) => Some(format!("ttyS{}", minor.saturating_sub(64))),
        (5, 1) => Some("console".into()),
        (136..=143, _) => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        _ => Some(format!("{major}:{minor}")),
    }
}

/// Capabilities by bit, from `linux/capability.h`.
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Capabilities by name: `none`, `all`, a list, or, if only few are missing, `all but` those.
pub fn capabilities(set: u64) -> String {
    const ALL: u64 = (1 << CAPABILITIES.len()) - 1;
    const FEW: u32 = 4;
    let named = |set: u64| {
        let held = (0..u64::BITS).filter(|bit| set >> bit & 1 == 1);
        let name = |bit: u32| {
            let name = CAPABILITIES.get(bit as usize);
            name.map_or_else(|| bit.to_string(), |name| (*name).to_owned())
        };
        held.map(name).collect::<Vec<_>>().join(",")
    };
    match set {
        0 => "none".into(),
        _ if set & ALL == ALL => "all".into(),
        _ if (ALL & !set).count_ones() <= FEW => format!("all but {}", named(ALL & !set)),
        _ => named(set),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_have_their_names() {
        for (major, minor, name) in [
            (136, 5, "pts/5"),
            (137, 1, "pts/257"),
            (4, 1, "tty1"),
            (4, 64, "ttyS0"),
            (5, 1, "console"),
            (204, 3, "204:3"),
        ] {
            assert_eq!(terminal(major << 20 | minor).as_deref(), Some(name));
        }
        assert_eq!(terminal(0), None);
    }

    #[test]
    fn capabilities_are_told_the_short_way() {
        assert_eq!(capabilities(0), "none");
        assert_eq!(capabilities(u64::MAX), "all");
        assert_eq!(capabilities(1 << 21 | 1 << 39), "sys_admin,bpf");
        assert_eq!(
            capabilities(((1 << 41) - 1) & !(1 << 16)),
            "all but sys_module"
        );
        assert_eq!(capabilities(1 << 50), "50");
    }
}
