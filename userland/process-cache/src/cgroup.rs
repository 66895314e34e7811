//! Paths of cgroups, which processes name by id.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use walkdir::DirEntryExt as _;

/// Most cgroups whose paths are remembered.
const PATHS_MAX: usize = 16 * 1024;

/// The least time between two walks, so that ids of removed cgroups cost little.
const WALK_INTERVAL: Duration = Duration::from_millis(200);

/// The cgroups of the default hierarchy, by id.
///
/// An id is the inode number of the cgroup's directory, as on every 64-bit kernel. A look-up of one
/// that is not known walks the hierarchy, which sleeps. A cgroup that was removed before anybody
/// asked for it is not found; what was found stays known, until so many are that it is forgotten.
#[derive(Debug)]
pub struct Cgroups {
    root: PathBuf,
    paths: HashMap<u64, Arc<Path>>,
    walked: Option<Instant>,
}

impl Cgroups {
    /// The default hierarchy (cgroup v2), wherever it is mounted; `None` if it is not.
    #[must_use]
    pub fn find() -> Option<Self> {
        mount_point().map(Self::at)
    }

    /// The hierarchy mounted there.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            paths: HashMap::new(),
            walked: None,
        }
    }

    /// The path of a cgroup from the root of the mounted hierarchy, which is `/`.
    pub fn path(&mut self, id: u64) -> Option<Arc<Path>> {
        if let Some(path) = self.paths.get(&id) {
            return Some(Arc::clone(path));
        }
        if self
            .walked
            .is_some_and(|then| then.elapsed() < WALK_INTERVAL)
        {
            return None;
        }
        self.walked = Some(Instant::now());
        if self.paths.len() >= PATHS_MAX {
            self.paths.clear();
        }
        self.walk();
        self.paths.get(&id).map(Arc::clone)
    }

    /// Takes in every cgroup there is, up to the bound. One that goes meanwhile is left out.
    fn walk(&mut self) {
        let directories = walkdir::WalkDir::new(&self.root)
            .into_iter()
            .filter_entry(|entry| entry.file_type().is_dir())
            .filter_map(Result::ok);
        for directory in directories {
            if self.paths.len() >= PATHS_MAX {
                tracing::debug!("more than {PATHS_MAX} cgroups: some have no path");
                break;
            }
            if let Ok(below) = directory.path().strip_prefix(&self.root) {
                let path = Path::new("/").join(below);
                self.paths.insert(directory.ino(), path.into());
            }
        }
    }
}

/// Where the default hierarchy is mounted.
fn mount_point() -> Option<PathBuf> {
    let mounts = procfs::process::Process::myself().ok()?.mountinfo().ok()?;
    let mount = mounts
        .into_iter()
        .find(|mount| mount.fs_type == "cgroup2")?;
    Some(mount.mount_point)
}

/// Ids of cgroups, by path: the other way round, for as long as a walk takes.
#[derive(Debug)]
pub(crate) struct Ids {
    root: Option<PathBuf>,
    ids: HashMap<String, Option<u64>>,
}

impl Ids {
    pub(crate) fn new() -> Self {
        Self {
            root: mount_point(),
            ids: HashMap::new(),
        }
    }

    /// The id of the cgroup that `/proc/PID/cgroup` names so; `None` if it is not to be found here.
    pub(crate) fn id(&mut self, path: String) -> Option<u64> {
        let root = self.root.as_ref()?;
        if let Some(id) = self.ids.get(&path) {
            return *id;
        }
        let directory = root.join(path.trim_start_matches('/'));
        let id = std::fs::metadata(directory).ok().map(|it| it.ino());
        if self.ids.len() < PATHS_MAX {
            self.ids.insert(path, id);
        }
        id
    }
}

/// The id of the container that a cgroup was made for, as Docker, Podman, containerd and CRI-O name
/// them: 64 hexadecimal digits, perhaps with the engine's name before and `.scope` behind.
#[must_use]
pub fn container_id(path: &Path) -> Option<&str> {
    path.components().rev().find_map(|component| {
        let name = component.as_os_str().to_str()?;
        let name = name.strip_suffix(".scope").unwrap_or(name);
        let id = name.rsplit(['-', ':']).next()?;
        (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_the_path_of_its_directory() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let directory = root.path().join(path);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::metadata(directory).unwrap().ino()
        };
        let ids = ["", "a", "a/b", "c"].map(make);
        std::fs::write(root.path().join("a/cgroup.procs"), "").unwrap();
        let mut cgroups = Cgroups::at(root.path());
        for (id, path) in ids.into_iter().zip(["/", "/a", "/a/b", "/c"]) {
            assert_eq!(cgroups.path(id).as_deref(), Some(Path::new(path)));
        }
        // Before the removal: other file systems reuse an inode number, cgroups do not.
        let late = make("late");
        std::fs::remove_dir(root.path().join("c")).unwrap();
        assert_eq!(cgroups.path(ids[3]).as_deref(), Some(Path::new("/c")));
        assert_eq!(cgroups.path(late), None);
        std::thread::sleep(WALK_INTERVAL);
        assert_eq!(cgroups.path(late).as_deref(), Some(Path::new("/late")));
    }

    /// Against this machine's own, where it has any.
    #[test]
    fn the_cgroup_of_this_process_is_found_both_ways() {
        let Some(mut cgroups) = Cgroups::find() else {
            // Past the capture of output: nobody should take this for a pass.
            let skip = b"SKIP the_cgroup_of_this_process_is_found_both_ways: no cgroup v2\n";
            let _ = std::io::Write::write_all(&mut std::io::stderr(), skip);
            return;
        };
        let own = procfs::process::Process::myself().unwrap();
        let groups = own.cgroups().unwrap();
        let own = groups.into_iter().find(|group| group.hierarchy == 0);
        let path = own.unwrap().pathname;
        let id = Ids::new().id(path.clone()).unwrap();
        assert_eq!(cgroups.path(id).as_deref(), Some(Path::new(&path)));
    }

    #[test]
    fn containers_are_known_by_the_names_that_engines_give() {
        let id = "0123456789abcdef".repeat(4);
        for path in [
            format!("/docker/{id}"),
            format!("/system.slice/docker-{id}.scope"),
            format!("/machine.slice/libpod-{id}.scope/container"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{id}"),
        ] {
            assert_eq!(container_id(Path::new(&path)), Some(&*id), "{path}");
        }
        for path in ["/", "/user.slice/user-0.slice", "/docker/0123456789abcdef"] {
            assert_eq!(container_id(Path::new(path)), None, "{path}");
        }
    }
}
