//! The task iterator, against `/proc`.

use std::{collections::HashMap, fs, os::unix::fs::MetadataExt as _, process};

use pidlist_abi::record::{Task, task_flag};
use pidlist_bpf::Programs;

use crate::{Outcome, Test, ensure};

pub const TESTS: &[Test] = &[
    ("tasks_equal_proc", tasks_equal_proc),
    (
        "a_task_knows_its_namespace_and_user",
        a_task_knows_its_namespace_and_user,
    ),
];

/// Fields of `/proc/PID/stat` that a [`Task`] has, too.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    ppid: u32,
    pgrp: u32,
    session: u32,
    tty: u32,
    threads: u32,
    start_ticks: u64,
    kthread: bool,
}

impl Stat {
    fn read(pid: u32) -> Option<(Self, bool)> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let words: Vec<_> = text[text.rfind(')')? + 2..].split(' ').collect();
        let number = |index: usize| words[index].parse::<i64>().ok().map(|n| n as u64);
        let flags = number(6)? as u32;
        let stat = Self {
            ppid: number(1)? as u32,
            pgrp: number(2)? as u32,
            session: number(3)? as u32,
            tty: number(4)? as u32,
            threads: number(17)? as u32,
            start_ticks: number(19)?,
            kthread: flags & 0x20_0000 != 0,
        };
        Some((stat, words[0] == "Z"))
    }

    fn of(task: &Task) -> Self {
        let (major, minor) = (task.tty >> 20, task.tty & 0xf_ffff);
        Self {
            ppid: task.parent.tgid,
            pgrp: task.pgid,
            session: task.sid,
            // new_encode_dev()
            tty: minor & 0xff | major << 8 | (minor & !0xff) << 12,
            threads: task.threads,
            start_ticks: task.key.start_ns / 10_000_000,
            kthread: task.flags & task_flag::KTHREAD != 0,
        }
    }
}

fn tasks_equal_proc(programs: &Programs) -> Outcome {
    let pids = || {
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
    };
    let before: HashMap<u32, _> = pids()
        .filter_map(|pid| Some((pid, Stat::read(pid)?)))
        .collect();
    let tasks = programs.tasks()?;
    let mut equal = 0;
    for record in &tasks {
        let task = &record.task;
        let pid = task.key.tgid;
        ensure!(
            record.header.size as usize == size_of_val(record),
            "{record:?}"
        );
        let (Some((was, false)), Some((is, false))) = (before.get(&pid), Stat::read(pid)) else {
            continue;
        };
        if *was == is {
            let ours = Stat::of(task);
            ensure!(ours == is, "{pid}: {ours:?} is not {is:?}");
            equal += 1;
        }
    }
    let listed: HashMap<u32, ()> = tasks.iter().map(|r| (r.task.key.tgid, ())).collect();
    ensure!(listed.len() == tasks.len(), "a process twice");
    for pid in pids().filter(|pid| before.contains_key(pid)) {
        // A sandbox may hide its own supervisor, from root as well.
        let hidden = fs::metadata(format!("/proc/{pid}/ns/pid")).is_err();
        ensure!(
            listed.contains_key(&pid) || hidden,
            "{pid} is in /proc only"
        );
    }
    ensure!(
        equal * 10 >= tasks.len() * 7,
        "only {equal} of {} held still",
        tasks.len()
    );
    println!(
        "{equal} of {} processes held still and are equal to /proc",
        tasks.len()
    );
    Ok(())
}

fn a_task_knows_its_namespace_and_user(programs: &Programs) -> Outcome {
    let tasks = programs.tasks()?;
    let this = tasks
        .iter()
        .find(|record| record.task.ns_tgid == process::id());
    let Some(record) = this else {
        return Err("this process is not in the list".into());
    };
    let task = &record.task;
    let namespace = fs::metadata("/proc/self/ns/pid")?;
    ensure!(u64::from(task.pid_ns) == namespace.ino(), "{task:?}");
    let status = fs::read_to_string("/proc/self/status")?;
    let words = |name: &str| -> Vec<&str> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().split_whitespace().collect()
    };
    let decimal = |numbers: [u32; 4]| numbers.map(|number| number.to_string());
    let users = decimal([task.uid, task.euid, task.suid, task.fsuid]);
    ensure!(users[..] == words("Uid:"), "{task:?}");
    let groups = decimal([task.gid, task.egid, task.sgid, task.fsgid]);
    ensure!(groups[..] == words("Gid:"), "{task:?}");
    let sets = &task.capabilities;
    for (name, set) in [
        ("CapInh:", sets.inheritable),
        ("CapPrm:", sets.permitted),
        ("CapEff:", sets.effective),
        ("CapBnd:", sets.bounding),
        ("CapAmb:", sets.ambient),
    ] {
        ensure!(words(name) == [format!("{set:016x}")], "{name} {task:?}");
    }
    // It reads the list.
    ensure!(task.state == 0, "state {:#x}", task.state);
    let exe = fs::metadata("/proc/self/exe")?;
    ensure!(task.exe_ino == exe.ino(), "{task:?}");
    ensure!(task.flags & task_flag::EXE_DELETED == 0, "{task:?}");
    let owner = fs::metadata("/proc/self")?;
    ensure!(
        (task.euid, task.egid) == (owner.uid(), owner.gid()),
        "{task:?}"
    );
    let comm = fs::read_to_string("/proc/self/comm")?;
    let ours = String::from_utf8_lossy(&task.comm);
    ensure!(ours.trim_end_matches('\0') == comm.trim_end(), "{task:?}");
    let cgroups = fs::read_to_string("/proc/self/cgroup")?;
    if let Some(path) = cgroups.lines().find_map(|line| line.strip_prefix("0::"))
        && let Ok(dir) = fs::metadata(format!("/sys/fs/cgroup{path}"))
        && fs::metadata("/sys/fs/cgroup/cgroup.controllers").is_ok()
    {
        ensure!(
            task.cgroup_id == dir.ino(),
            "cgroup {} is not {}",
            task.cgroup_id,
            dir.ino()
        );
    }
    Ok(())
}
