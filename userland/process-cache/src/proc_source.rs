//! Processes as `/proc` shows them: where BPF is not allowed, and for what it cannot read.
//!
//! Start times come in ticks ([`Precision::Tick`]), a parent as a bare pid. A process that vanishes
//! while it is read is left out, never an error; to run out of descriptors or memory is one, because
//! whoever is missing from a walk is taken for dead.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashMap;
use procfs::process::{Stat, Status};
use procfs::{FromRead, ProcError, ProcessCGroups};
use rustix::fs::{AtFlags, Mode, OFlags, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::source::{Capture, SourceError, TaskSource};
use crate::{
    Capabilities, Credentials, Environment, Exe, Ids, Image, ImageSource, Key, Nested, NsPid,
    Precision, Sighting, State, TICK_NS, Usage, cgroup, clock,
};

/// Most bytes read of its environment.
const ENV_MAX: u64 = pidlist_abi::record::ENV_MAX as u64;

/// `PF_KTHREAD` of `include/linux/sched.h`.
const PF_KTHREAD: u32 = 0x0020_0000;

/// What clones of a source count together.
#[derive(Debug, Default)]
struct Counts {
    vanished: AtomicU64,
    hidden: AtomicU64,
}

/// A mounted procfs.
#[derive(Clone, Debug)]
pub struct ProcSource {
    root: PathBuf,
    capture: Capture,
    counts: Arc<Counts>,
    /// Pids that the last walk met and could not read.
    unread: Vec<u32>,
}

impl Default for ProcSource {
    fn default() -> Self {
        Self::at("/proc")
    }
}

impl ProcSource {
    /// The procfs mounted there.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            capture: Capture::default(),
            counts: Arc::default(),
            unread: Vec::new(),
        }
    }

    /// The same, with images of more or less.
    #[must_use]
    pub fn capturing(self, capture: Capture) -> Self {
        Self { capture, ..self }
    }

    /// What the process runs, if it is still there and this user may know.
    #[must_use]
    pub fn image(&self, key: Key, precision: Precision) -> Option<Image> {
        self.noting(self.read_image(key, precision))
    }

    /// A process, if it is there and this user may know; for
    /// [`Cache::preload`](crate::Cache::preload).
    #[must_use]
    pub fn sighting(&self, pid: u32) -> Option<Sighting> {
        let (mut seen, ppid) = self.noting(self.read(pid, &mut cgroup::Ids::new()))?;
        if ppid != 0 {
            let parent = self.directory(ppid).and_then(|parent| parent.stat());
            // Whoever is younger has got a dead parent's pid.
            seen.parent = parent
                .ok()
                .map(|stat| key_of(&stat))
                .filter(|parent| parent.start_ns <= seen.key.start_ns);
        }
        Some(seen)
    }

    /// Processes that went while they were read, so far.
    #[must_use]
    pub fn vanished(&self) -> u64 {
        self.counts.vanished.load(Ordering::Relaxed)
    }

    /// Processes that this user may not read, as often as they were met: `hidepid=1` shows their
    /// pids. Under `hidepid=2` they are not even met.
    #[must_use]
    pub fn hidden(&self) -> u64 {
        self.counts.hidden.load(Ordering::Relaxed)
    }

    /// Counts what could not be read.
    fn noting<T>(&self, result: Result<T, ProcError>) -> Option<T> {
        result.inspect_err(|error| self.count(error)).ok()
    }

    fn count(&self, error: &ProcError) {
        let count = match error {
            error if is_gone(error) => &self.counts.vanished,
            ProcError::PermissionDenied(_) => &self.counts.hidden,
            error => {
                tracing::debug!(%error, "a process cannot be read");
                return;
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn directory(&self, pid: u32) -> Result<Directory, ProcError> {
        Directory::open(&self.root.join(pid.to_string()))
    }

    fn read_image(&self, key: Key, precision: Precision) -> Result<Image, ProcError> {
        let process = self.directory(key.tgid)?;
        let (block, args_truncated) = process.block("cmdline", self.capture.args_max as u64)?;
        let env = self.capture.environment.as_ref().and_then(|redact| {
            let (block, truncated) = process.block("environ", ENV_MAX).ok()?;
            Some(Box::new(Environment {
                block: redact.apply(&block).into(),
                truncated,
            }))
        });
        let path = process.link("exe");
        let cwd = process.link("cwd");
        let stat = process.stat()?;
        if !key_of(&stat).same(Precision::Tick, key, precision) || stat.flags & PF_KTHREAD != 0 {
            return Err(ProcError::NotFound(None));
        }
        Ok(Image {
            cwd,
            env,
            args_truncated,
            ..Image::new(ImageSource::Proc, path, block.into())
        })
    }

    /// A process and its parent's pid, 0 if none.
    fn read(&self, pid: u32, cgroups: &mut cgroup::Ids) -> Result<(Sighting, u32), ProcError> {
        let process = self.directory(pid)?;
        let (stat, name) = process.stat_and_name()?;
        let status = process.status()?;
        let threads = u32::try_from(stat.num_threads).unwrap_or(0);
        let zombie = matches!(stat.state, 'Z' | 'X' | 'x');
        // A leader that exited first looks like a zombie too.
        let dead = zombie && threads <= 1;
        // The kernel shows 0 to those who may not know.
        let may_know = rustix::process::geteuid().is_root()
            || rustix::process::getuid().as_raw() == status.ruid;
        let mut comm = [0; 16];
        for (to, from) in comm[..15].iter_mut().zip(name) {
            *to = from;
        }
        let kthread = stat.flags & PF_KTHREAD != 0;
        let pids = status.nstgid.as_deref().unwrap_or_default();
        let seen = Sighting {
            comm,
            ids: Ids {
                pgid: unsigned(stat.pgrp),
                sid: unsigned(stat.session),
                uid: status.ruid,
                gid: status.rgid,
                euid: status.euid,
                egid: status.egid,
            },
            credentials: Some(
                Credentials {
                    suid: status.suid,
                    sgid: status.sgid,
                    fsuid: status.fuid,
                    fsgid: status.fgid,
                    capabilities: Capabilities {
                        effective: status.capeff,
                        permitted: status.capprm,
                        inheritable: status.capinh,
                        bounding: status.capbnd.unwrap_or(0),
                        ambient: status.capamb.unwrap_or(0),
                    },
                }
                .share(),
            ),
            usage: Usage {
                utime_ns: stat.utime.saturating_mul(TICK_NS),
                stime_ns: stat.stime.saturating_mul(TICK_NS),
                min_flt: stat.minflt,
                maj_flt: stat.majflt,
                nvcsw: status.voluntary_ctxt_switches.unwrap_or(0),
                nivcsw: status.nonvoluntary_ctxt_switches.unwrap_or(0),
                maxrss_kib: status.vmhwm.unwrap_or(0),
                ..process.io().unwrap_or_default()
            },
            cgroup_id: process.cgroup(cgroups),
            pid_ns: process.namespace(),
            ns_tgid: pids.last().map(|pid| unsigned(*pid)),
            nested: nested(pids),
            exe: if kthread { None } else { process.exe() },
            state: State::from_letter(stat.state).unwrap_or_default(),
            exit_signal: stat
                .exit_signal
                .and_then(|signal| u8::try_from(signal).ok())
                .filter(|signal| *signal != 0),
            tty: device(unsigned(stat.tty_nr)),
            threads,
            kthread,
            leader_exited: zombie,
            dead,
            exit_status: stat.exit_code.filter(|_| dead && may_know).map(unsigned),
            ..Sighting::new(key_of(&stat), Precision::Tick)
        };
        Ok((seen, unsigned(stat.ppid)))
    }

    fn pids(&self) -> io::Result<Vec<u32>> {
        let mut pids = Vec::new();
        for entry in std::fs::read_dir(&self.root)? {
            pids.extend(
                entry?
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<u32>().ok()),
            );
        }
        pids.sort_unstable();
        Ok(pids)
    }
}

impl TaskSource for ProcSource {
    fn walk(&mut self) -> Result<Vec<Sighting>, SourceError> {
        let began_tick = clock::boottime_ns() / TICK_NS;
        let pids = self.pids().map_err(|source| SourceError::Proc {
            path: self.root.display().to_string(),
            source,
        })?;
        let mut walk: Vec<Sighting> = Vec::with_capacity(pids.len());
        let mut ppids = Vec::with_capacity(pids.len());
        let mut cgroups = cgroup::Ids::new();
        self.unread.clear();
        for pid in pids {
            match self.read(pid, &mut cgroups) {
                Ok((seen, ppid)) => {
                    walk.push(seen);
                    ppids.push(ppid);
                }
                Err(error) if is_gone(&error) => self.count(&error),
                Err(ProcError::Io(source, _)) => {
                    let path = self.root.join(pid.to_string()).display().to_string();
                    return Err(SourceError::Proc { path, source });
                }
                Err(error) => {
                    self.count(&error);
                    self.unread.push(pid);
                }
            }
        }
        let keys: HashMap<u32, Key> = walk.iter().map(|seen| (seen.key.tgid, seen.key)).collect();
        for (seen, ppid) in walk.iter_mut().zip(ppids) {
            // A parent that is younger than the walk may have got a dead parent's pid.
            seen.parent = keys
                .get(&ppid)
                .copied()
                .filter(|key| key.start_ns / TICK_NS < began_tick);
        }
        Ok(walk)
    }

    fn unread(&self) -> &[u32] {
        &self.unread
    }
}

/// `ESRCH` is what a file says whose process has gone after it was opened.
fn is_gone(error: &ProcError) -> bool {
    match error {
        ProcError::NotFound(_) => true,
        ProcError::Io(error, _) => error.raw_os_error() == Some(Errno::SRCH.raw_os_error()),
        _ => false,
    }
}

fn unsigned(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn key_of(stat: &Stat) -> Key {
    Key {
        start_ns: stat.starttime.saturating_mul(TICK_NS),
        tgid: unsigned(stat.pid),
    }
}

/// What is between the first and the last of `NStgid`.
fn nested(pids: &[i32]) -> Option<Box<Nested>> {
    let between = pids.get(1..pids.len().checked_sub(1)?)?;
    (!between.is_empty()).then(|| {
        Box::new(Nested {
            level: between.len() as u32 + 1,
            between: between
                .iter()
                .map(|pid| NsPid {
                    ns: None,
                    pid: unsigned(*pid),
                })
                .collect(),
        })
    })
}

/// The directory of a process: it stays with this process, whoever gets its pid.
struct Directory(OwnedFd);

impl Directory {
    fn open(path: &Path) -> Result<Self, ProcError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(io::Error::from)?;
        Ok(Self(fd))
    }

    fn file(&self, name: &str) -> Result<File, ProcError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = openat(&self.0, name, flags, Mode::empty()).map_err(io::Error::from)?;
        Ok(fd.into())
    }

    fn stat(&self) -> Result<Stat, ProcError> {
        Ok(self.stat_and_name()?.0)
    }

    /// The name apart: it may be any bytes.
    fn stat_and_name(&self) -> Result<(Stat, Vec<u8>), ProcError> {
        let mut line = Vec::new();
        self.file("stat")?.read_to_end(&mut line)?;
        let stat = Stat::from_read(line.as_slice())?;
        let begin = line.iter().position(|byte| *byte == b'(');
        let end = line.iter().rposition(|byte| *byte == b')');
        let name = begin
            .zip(end)
            .and_then(|(begin, end)| line.get(begin + 1..end));
        Ok((stat, name.unwrap_or_default().to_vec()))
    }

    fn status(&self) -> Result<Status, ProcError> {
        let mut lines = Vec::new();
        self.file("status")?.read_to_end(&mut lines)?;
        // The name in it may be any bytes.
        Status::from_read(String::from_utf8_lossy(&lines).as_bytes())
    }

    /// Up to `max` bytes of a file, and whether there are more.
    fn block(&self, name: &str, max: u64) -> Result<(Vec<u8>, bool), ProcError> {
        let mut block = Vec::new();
        self.file(name)?.take(max + 1).read_to_end(&mut block)?;
        let truncated = block.len() as u64 > max;
        block.truncate(max as usize);
        Ok((block, truncated))
    }

    fn link(&self, name: &str) -> Option<Box<[u8]>> {
        let path = readlinkat(&self.0, name, Vec::new()).ok()?;
        Some(path.into_bytes().into())
    }

    /// The bytes that storage had to read and write, if this user may know.
    fn io(&self) -> Option<Usage> {
        let io = procfs::process::Io::from_read(self.file("io").ok()?).ok()?;
        Some(Usage {
            read_bytes: io.read_bytes,
            write_bytes: io.write_bytes,
            ..Usage::default()
        })
    }

    /// The file it runs, if this user may know.
    fn exe(&self) -> Option<Exe> {
        let stat = statat(&self.0, "exe", AtFlags::empty()).ok()?;
        let (major, minor) = (
            rustix::fs::major(stat.st_dev),
            rustix::fs::minor(stat.st_dev),
        );
        Some(Exe {
            ino: stat.st_ino,
            dev: major << 20 | minor,
            deleted: stat.st_nlink == 0,
        })
    }

    /// The pid namespace it is in, if this user may know.
    fn namespace(&self) -> Option<u32> {
        // pid:[4026531836]
        let link = self.link("ns/pid")?;
        let number = link.strip_prefix(b"pid:[")?.strip_suffix(b"]")?;
        let number: NonZeroU32 = str::from_utf8(number).ok()?.parse().ok()?;
        Some(number.get())
    }

    /// The id of its cgroup in the default hierarchy, where that is mounted.
    fn cgroup(&self, ids: &mut cgroup::Ids) -> Option<u64> {
        let groups = ProcessCGroups::from_read(self.file("cgroup").ok()?).ok()?;
        let group = groups.into_iter().find(|group| group.hierarchy == 0)?;
        ids.id(group.pathname)
    }
}

/// From `new_encode_dev` of `include/linux/kdev_t.h` to the kernel's own `major << 20 | minor`.
fn device(encoded: u32) -> u32 {
    let major = encoded >> 8 & 0xfff;
    let minor = encoded & 0xff | encoded >> 12 & 0xf_ff00;
    major << 20 | minor
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn this_process_is_there_once_and_its_threads_are_not() {
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        std::thread::sleep(std::time::Duration::from_millis(5));
                    }
                });
            }
            let threads: Vec<u32> = std::fs::read_dir("/proc/self/task")
                .unwrap()
                .map(|entry| {
                    entry
                        .unwrap()
                        .file_name()
                        .to_str()
                        .unwrap()
                        .parse()
                        .unwrap()
                })
                .filter(|tid| *tid != std::process::id())
                .collect();
            let walk = ProcSource::default().walk().unwrap();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(threads.len() >= 4);
            assert!(walk.iter().all(|seen| !threads.contains(&seen.key.tgid)));
            let own: Vec<_> = walk
                .iter()
                .filter(|seen| seen.key.tgid == std::process::id())
                .collect();
            assert_eq!(own.len(), 1);
            assert!(own[0].threads >= 5);
            assert_eq!(
                own[0].parent.unwrap().tgid,
                std::os::unix::process::parent_id()
            );
        });
    }

    #[test]
    fn arguments_are_read_with_the_empty_ones() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "read _", "", "b", ""])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // Until the exec is through, the child shows our own arguments.
        let image = (0..1000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            let walk = ProcSource::default().walk().ok()?;
            let seen = walk.iter().find(|seen| seen.key.tgid == child.id())?;
            let image = ProcSource::default().image(seen.key, seen.precision)?;
            image.block.starts_with(b"sh\0").then_some(image)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        let image = image.unwrap();
        assert_eq!(
            image.args().collect::<Vec<_>>(),
            [b"sh".as_slice(), b"-c", b"read _", b"", b"b", b""]
        );
    }

    #[test]
    fn a_tree_of_files_will_do_and_what_vanishes_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        let write = |pid: u32, stat: &str, status: &str| {
            let directory = root.path().join(pid.to_string());
            std::fs::create_dir(&directory).unwrap();
            std::fs::write(directory.join("stat"), stat).unwrap();
            std::fs::write(directory.join("status"), status).unwrap();
        };
        let real = |pid: u32| {
            (
                std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap(),
                std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap(),
            )
        };
        let (stat, status) = real(std::process::id());
        write(std::process::id(), &stat, &status);
        std::fs::create_dir(root.path().join("4242")).unwrap();
        write(4243, "garbage", "garbage");
        let walk = ProcSource::at(root.path()).walk().unwrap();
        assert_eq!(walk.len(), 1);
        assert_eq!(walk[0].parent, None, "its parent is not in this tree");
    }

    /// Without rights over it, as under `hidepid=1`.
    #[test]
    fn who_vanishes_and_who_is_hidden_is_counted() {
        use std::os::unix::fs::PermissionsExt as _;

        let root = tempfile::tempdir().unwrap();
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        set(root.path(), 0o755);
        for pid in ["5", "6", "7"] {
            std::fs::create_dir(root.path().join(pid)).unwrap();
        }
        set(&root.path().join("5"), 0);
        set(&root.path().join("6"), 0);
        let source = ProcSource::at(root.path());
        let mut walker = source.clone();
        std::thread::spawn(move || {
            // Of this thread alone.
            let nobody = rustix::thread::Uid::from_raw(65534);
            if rustix::process::geteuid().is_root() {
                rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
            }
            assert!(walker.walk().unwrap().is_empty());
            assert_eq!(walker.unread(), [5, 6]);
            assert_eq!(walker.sighting(8), None);
        })
        .join()
        .unwrap();
        assert_eq!((source.hidden(), source.vanished()), (2, 2));
    }

    #[test]
    fn a_sighting_tells_what_proc_knows() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let source = ProcSource::default();
        let seen = (0..1000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            let seen = source.sighting(child.id())?;
            (seen.comm.starts_with(b"sleep\0") && seen.state == State::Sleeping).then_some(seen)
        });
        let image = seen
            .as_ref()
            .and_then(|seen| source.image(seen.key, seen.precision));
        child.kill().unwrap();
        child.wait().unwrap();
        let (seen, image) = (seen.unwrap(), image.unwrap());
        assert_eq!(seen.parent.unwrap().tgid, std::process::id());
        assert_eq!(seen.exit_signal, Some(17));
        let exe = std::fs::metadata("/proc/self/exe").unwrap();
        assert_ne!(
            seen.exe.unwrap().ino,
            std::os::unix::fs::MetadataExt::ino(&exe)
        );
        let namespace = std::fs::metadata("/proc/self/ns/pid").unwrap();
        assert_eq!(
            u64::from(seen.pid_ns.unwrap()),
            std::os::unix::fs::MetadataExt::ino(&namespace)
        );
        let own = source.sighting(std::process::id()).unwrap();
        assert_eq!(seen.credentials, own.credentials);
        assert_eq!(seen.cgroup_id, own.cgroup_id);
        assert_eq!(image.cwd.unwrap(), {
            let cwd = std::env::current_dir().unwrap();
            OsString::from(cwd).into_vec().into_boxed_slice()
        });
        assert_eq!(source.sighting(child.id()), None, "it has been reaped");
    }

    #[test]
    fn what_cannot_be_read_for_another_reason_fails_the_walk() {
        let root = tempfile::tempdir().unwrap();
        // As good as no descriptor left: an error that says nothing of the process.
        std::os::unix::fs::symlink("7", root.path().join("7")).unwrap();
        let error = ProcSource::at(root.path()).walk().unwrap_err();
        let path = root.path().join("7");
        assert_eq!(error.to_string(), format!("cannot read {}", path.display()));
    }

    #[test]
    fn a_name_may_be_any_bytes() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("7");
        std::fs::create_dir(&directory).unwrap();
        let own = std::process::id();
        for file in ["stat", "status"] {
            let text = std::fs::read_to_string(format!("/proc/{own}/{file}")).unwrap();
            let bytes: Vec<u8> = if file == "stat" {
                let rest = &text[text.rfind(')').unwrap()..];
                [b"7 (a\xff) (b".as_slice(), rest.as_bytes()].concat()
            } else {
                let rest = &text[text.find('\n').unwrap()..];
                [b"Name:\ta\xff) (b".as_slice(), rest.as_bytes()].concat()
            };
            std::fs::write(directory.join(file), bytes).unwrap();
        }
        let walk = ProcSource::at(root.path()).walk().unwrap();
        assert_eq!(walk.len(), 1);
        assert!(walk[0].comm.starts_with(b"a\xff) (b\0"));
    }

    #[test]
    fn a_root_that_is_not_there_is_an_error() {
        let error = ProcSource::at("/no/such/proc").walk().unwrap_err();
        assert_eq!(error.to_string(), "cannot read /no/such/proc");
    }

    #[test]
    fn devices_are_those_of_the_kernel() {
        assert_eq!(device(0x8801), 136 << 20 | 1);
        assert_eq!(device(0), 0);
    }
}
