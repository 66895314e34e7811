//! Processes as `/proc` shows them: where BPF is not allowed, and for what it cannot read.
//!
//! Start times come in ticks ([`Precision::Tick`]), a parent as a bare pid. A process that vanishes
//! while it is read is left out, never an error.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use hashbrown::HashMap;
use procfs::process::{Process as Proc, Stat};

use crate::source::{SourceError, TaskSource};
use crate::{Ids, Image, ImageSource, Key, Precision, Sighting, TICK_NS, Usage, clock};

/// Most bytes read of a process's arguments.
const ARGS_MAX: u64 = 128 * 1024;

/// `PF_KTHREAD` of `include/linux/sched.h`.
const PF_KTHREAD: u32 = 0x0020_0000;

/// A mounted procfs.
#[derive(Clone, Debug)]
pub struct ProcSource {
    root: PathBuf,
}

impl Default for ProcSource {
    fn default() -> Self {
        Self::at("/proc")
    }
}

impl ProcSource {
    /// The procfs mounted there.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// What the process runs, if it is still there and this user may know.
    #[must_use]
    pub fn image(&self, key: Key, precision: Precision) -> Option<Image> {
        let directory = self.root.join(key.tgid.to_string());
        // The descriptor of the directory stays with this process, whoever gets its pid.
        let process = Proc::new_with_root(directory.clone()).ok()?;
        let mut block = Vec::new();
        let cmdline = process.open_relative("cmdline").ok()?;
        cmdline.take(ARGS_MAX + 1).read_to_end(&mut block).ok()?;
        let args_truncated = block.len() as u64 > ARGS_MAX;
        block.truncate(usize::try_from(ARGS_MAX).unwrap_or(usize::MAX));
        let path = std::fs::read_link(directory.join("exe"))
            .ok()
            .map(|path| OsString::from(path).into_vec().into_boxed_slice());
        let stat = process.stat().ok()?;
        if !key_of(&stat).same(Precision::Tick, key, precision) || stat.flags & PF_KTHREAD != 0 {
            return None;
        }
        Some(Image {
            path,
            args_total: block.len() as u64,
            block: block.into(),
            args_truncated,
            args_unreadable: false,
            source: ImageSource::Proc,
        })
    }

    fn pids(&self) -> io::Result<Vec<u32>> {
        let mut pids: Vec<u32> = std::fs::read_dir(&self.root)?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
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
        for pid in pids {
            if let Some((seen, ppid)) = sighting(&self.root, pid) {
                walk.push(seen);
                ppids.push(ppid);
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
}

fn key_of(stat: &Stat) -> Key {
    Key {
        start_ns: stat.starttime.saturating_mul(TICK_NS),
        tgid: u32::try_from(stat.pid).unwrap_or(0),
    }
}

/// A process and its parent's pid, 0 if none.
fn sighting(root: &Path, pid: u32) -> Option<(Sighting, u32)> {
    let process = Proc::new_with_root(root.join(pid.to_string())).ok()?;
    let stat = process.stat().ok()?;
    let status = process.status().ok()?;
    let unsigned = |number: i32| u32::try_from(number).unwrap_or(0);
    let threads = u32::try_from(stat.num_threads).unwrap_or(0);
    let zombie = matches!(stat.state, 'Z' | 'X' | 'x');
    // A leader that exited first looks like a zombie too.
    let dead = zombie && threads <= 1;
    // The kernel shows 0 to those who may not know.
    let may_know =
        rustix::process::geteuid().is_root() || rustix::process::getuid().as_raw() == status.ruid;
    let mut comm = [0; 16];
    for (to, from) in comm[..15].iter_mut().zip(stat.comm.bytes()) {
        *to = from;
    }
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
        usage: Usage {
            utime_ns: stat.utime.saturating_mul(TICK_NS),
            stime_ns: stat.stime.saturating_mul(TICK_NS),
            min_flt: stat.minflt,
            maj_flt: stat.majflt,
            maxrss_kib: status.vmhwm.unwrap_or(0),
        },
        ns_tgid: status
            .nstgid
            .as_ref()
            .and_then(|pids| pids.last())
            .map(|pid| unsigned(*pid)),
        tty: device(unsigned(stat.tty_nr)),
        threads,
        kthread: stat.flags & PF_KTHREAD != 0,
        leader_exited: zombie,
        dead,
        exit_status: stat.exit_code.filter(|_| dead && may_know).map(unsigned),
        ..Sighting::new(key_of(&stat), Precision::Tick)
    };
    Some((seen, unsigned(stat.ppid)))
}

/// From `new_encode_dev` of `include/linux/kdev_t.h` to the kernel's own `major << 20 | minor`.
fn device(encoded: u32) -> u32 {
    let major = encoded >> 8 & 0xfff;
    let minor = encoded & 0xff | encoded >> 12 & 0xf_ff00;
    major << 20 | minor
}

#[cfg(test)]
mod tests {
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
