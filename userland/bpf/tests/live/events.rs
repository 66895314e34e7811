//! Forks, execs and exits of processes that we start.

use std::{
    collections::HashMap,
    env, fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{self, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use pidlist_abi::record::{
    ARGS_MAX, COMPONENTS_MAX, ENV_MAX, Exec, Exit, Fork, NsPid, exec_flag, task_flag,
};
use pidlist_bpf::{Event, Events, Options, Programs, split_args};

use crate::{Outcome, Test, ensure, roles};

pub const TESTS: &[Test] = &[
    ("a_storm_is_seen_whole", a_storm_is_seen_whole),
    (
        "two_thousand_lives_are_seen_whole",
        two_thousand_lives_are_seen_whole,
    ),
    ("a_tiny_ring_loses_and_tells", a_tiny_ring_loses_and_tells),
    (
        "arguments_are_whole_or_flagged",
        arguments_are_whole_or_flagged,
    ),
    (
        "an_exec_by_another_thread_keeps_the_process",
        an_exec_by_another_thread_keeps_the_process,
    ),
    (
        "a_leader_that_exits_first_is_no_exit",
        a_leader_that_exits_first_is_no_exit,
    ),
    ("a_signal_is_in_the_status", a_signal_is_in_the_status),
    (
        "an_environment_comes_if_asked_for",
        an_environment_comes_if_asked_for,
    ),
    (
        "an_exec_by_descriptor_shows_the_file",
        an_exec_by_descriptor_shows_the_file,
    ),
    (
        "a_script_shows_its_interpreter",
        a_script_shows_its_interpreter,
    ),
    (
        "paths_are_those_of_the_names_in_use",
        paths_are_those_of_the_names_in_use,
    ),
    ("a_deleted_executable_is_told", a_deleted_executable_is_told),
    (
        "a_pid_is_told_in_each_namespace",
        a_pid_is_told_in_each_namespace,
    ),
    (
        "a_sibling_has_the_parent_of_its_forker",
        a_sibling_has_the_parent_of_its_forker,
    ),
    ("a_dropped_capability_is_gone", a_dropped_capability_is_gone),
    (
        "usage_equals_what_wait4_tells",
        usage_equals_what_wait4_tells,
    ),
];

/// What happened to one process.
#[derive(Default)]
struct Life {
    forks: Vec<Fork>,
    execs: Vec<(Exec, Vec<u8>, Vec<Vec<u8>>)>,
    more: Vec<More>,
    exits: Vec<Exit>,
}

/// What else an exec tells: environment, executable, working directory.
type More = (Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);

/// Fork, exec, its arguments, and exit.
type Whole<'a> = (&'a Fork, &'a Exec, &'a [Vec<u8>], &'a Exit);

/// All lives, by tgid, of the whole machine.
#[derive(Default)]
struct Lives(HashMap<u32, Life>);

impl Lives {
    fn gather(&mut self, events: &mut Events) -> Outcome {
        let mut disorder = 0;
        let drained = events.drain(|event| match event {
            Event::Fork(fork) => {
                let key = fork.child.key;
                let life = self.of(key.tgid);
                let late = life.execs.iter().any(|(exec, ..)| exec.task.key == key)
                    || life.exits.iter().any(|exit| exit.task.key == key);
                disorder += u64::from(late);
                life.forks.push(*fork);
            }
            Event::Exec {
                exec,
                path,
                args,
                env,
                exe,
                cwd,
            } => {
                let key = exec.task.key;
                let life = self.of(key.tgid);
                disorder += u64::from(life.exits.iter().any(|exit| exit.task.key == key));
                let args = split_args(args).map(<[u8]>::to_vec).collect();
                life.execs.push((*exec, path.to_vec(), args));
                life.more.push((env.to_vec(), exe.path(), cwd.path()));
            }
            Event::Exit(exit) => self.of(exit.task.key.tgid).exits.push(*exit),
        });
        ensure!(drained.malformed == 0, "{drained:?}");
        ensure!(
            disorder == 0,
            "{disorder} events after a later one of their process"
        );
        Ok(())
    }

    fn of(&mut self, pid: u32) -> &mut Life {
        self.0.entry(pid).or_default()
    }

    /// The life of a child of ours, which has one of each.
    fn child(&mut self, pid: u32) -> Result<Whole<'_>, Failed> {
        let life = self.of(pid);
        let (forks, execs, exits) = (&life.forks, &life.execs, &life.exits);
        ensure!(
            forks.len() == 1 && execs.len() == 1 && exits.len() == 1,
            "{pid}: {} forks, {} execs, {} exits",
            forks.len(),
            execs.len(),
            exits.len()
        );
        let (fork, (exec, _, args), exit) = (&forks[0], &execs[0], &exits[0]);
        let key = fork.child.key;
        ensure!(
            exec.task.key == key && exit.task.key == key,
            "{pid}: another key"
        );
        for parent in [&fork.child.parent, &exec.task.parent, &exit.task.parent] {
            ensure!(*parent == fork.forker, "{pid}: another parent");
        }
        ensure!(
            fork.forker.tgid == process::id(),
            "{pid}: {:?}",
            fork.forker
        );
        ensure!(exit.task.flags & task_flag::DEAD != 0, "{exit:?}");
        ensure!(exit.task.threads == 0, "{exit:?}");
        Ok((fork, exec, args, exit))
    }
}

fn none_lost(events: &Events) -> Outcome {
    let counters = events.counters()?;
    ensure!(counters.lost() == 0, "{counters:?}");
    Ok(())
}

fn spawn(command: &mut Command) -> Result<u32, Failed> {
    Ok(command.spawn()?.id())
}

fn two_thousand_lives_are_seen_whole(programs: &Programs) -> Outcome {
    const LIVES: usize = 2000;
    let mut events = programs.events(&Options::default())?;
    let own = programs.tasks()?;
    let own = own
        .iter()
        .find(|record| record.task.key.tgid == process::id());
    let own = own.ok_or("this process is not in the list")?.task.key;
    let mut lives = Lives::default();
    let mut pids = Vec::new();
    for number in 0..LIVES {
        let pid = spawn(Command::new("/bin/true").args(["a b", "", &number.to_string(), ""]))?;
        let status = roles::wait(pid).status;
        ensure!(status == 0, "/bin/true: {status}");
        pids.push(pid);
        if number % 100 == 0 {
            lives.gather(&mut events)?;
        }
    }
    lives.gather(&mut events)?;
    none_lost(&events)?;
    for (number, pid) in pids.iter().enumerate() {
        let (fork, exec, args, exit) = lives.child(*pid)?;
        ensure!(fork.forker == own, "{fork:?} is not by {own:?}");
        let number = number.to_string();
        let expected = ["/bin/true", "a b", "", &number, ""];
        ensure!(
            args == expected.map(|arg| arg.as_bytes().to_vec()),
            "{args:?}"
        );
        ensure!(exec.flags == 0 && exec.old_tid == *pid, "{exec:?}");
        ensure!(exit.task.exit_status == 0, "{exit:?}");
        ensure!(&exit.task.comm[..5] == b"true\0", "{exit:?}");
        ensure!(
            fork.header.time_ns <= exec.header.time_ns
                && exec.header.time_ns <= exit.header.time_ns
                && fork.child.key.start_ns <= fork.header.time_ns,
            "{pid}: out of order"
        );
    }
    Ok(())
}

/// Where tracepoints leave preemption on, a program is skipped while another task is preempted in
/// it: the more processes at once, the more often. Nothing may be lost for it.
fn a_storm_is_seen_whole(programs: &Programs) -> Outcome {
    const SPAWNERS: u64 = 4;
    const LIVES: u64 = 2500;
    let before = Instant::now();
    let mut events = programs.events(&Options::default())?;
    let started_in = before.elapsed();
    let storm = || {
        let lives = (0..LIVES).map(|_| {
            let pid = spawn(&mut Command::new("/bin/true"))?;
            roles::wait(pid);
            Ok(pid)
        });
        lives.collect::<Result<Vec<_>, Failed>>()
    };
    let mut lives = Lives::default();
    let before = Instant::now();
    let mut told = before;
    let pids = thread::scope(|scope| {
        let threads: Vec<_> = (0..SPAWNERS).map(|_| scope.spawn(storm)).collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            events.wait(Some(Duration::from_millis(20)))?;
            lives.gather(&mut events)?;
            // An emulated machine takes a while, and a silent one is taken for hung.
            if told.elapsed() > Duration::from_secs(10) {
                println!("{} processes so far", lives.0.len());
                told = Instant::now();
            }
        }
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|pids| pids.map_err(|_| Failed::from("a thread panicked"))?)
            .collect::<Result<Vec<_>, Failed>>()
    })?
    .concat();
    let took = before.elapsed();
    lives.gather(&mut events)?;
    let counters = events.counters()?;
    let (mut forks, mut execs, mut exits) = (0, 0, 0);
    for pid in &pids {
        let life = lives.of(*pid);
        forks += life.forks.len();
        execs += life.execs.len();
        exits += life.exits.len();
    }
    println!(
        "of {}: {forks} forks, {execs} execs, {exits} exits in {took:.1?}; start-up {started_in:.2?}; {counters:?}",
        pids.len(),
    );
    ensure!(
        pids.len() as u64 == SPAWNERS * LIVES,
        "{} started",
        pids.len()
    );
    for pid in &pids {
        lives.child(*pid)?;
    }
    none_lost(&events)
}

fn a_tiny_ring_loses_and_tells(programs: &Programs) -> Outcome {
    const RING: u32 = 32 * 1024;
    let mut events = programs.events(&Options {
        ring_bytes: RING,
        ..Options::default()
    })?;
    for _ in 0..150 {
        roles::wait(spawn(&mut Command::new("/bin/true"))?);
    }
    // The machine goes on: the counters may not move while we read the ring.
    let before = events.counters()?;
    let (mut forks, mut execs, mut exits) = (0, 0, 0);
    let (mut position, mut others_in_reserve, mut exits_in_reserve) = (0, 0, 0);
    let mut drained = 0;
    loop {
        let more = events.drain(|event| {
            // The last eighth of the ring, as it was when it was full, is for exits alone.
            if (RING - RING / 8 + 1..RING).contains(&position) {
                match event {
                    Event::Exit(_) => exits_in_reserve += 1,
                    _ => others_in_reserve += 1,
                }
            }
            position += 8 + event.header().size.next_multiple_of(8);
            match event {
                Event::Fork(_) => forks += 1,
                Event::Exec { .. } => execs += 1,
                Event::Exit(_) => exits += 1,
            }
        });
        drained += more.events;
        let after = events.counters()?;
        let seen = after.seen;
        let sent = (
            seen.fork - seen.fork_lost,
            seen.exec - seen.exec_lost,
            seen.exit - seen.exit_lost,
        );
        if (forks, execs, exits) == sent {
            break;
        }
        // A record that was sent between the drain and the counters comes in the next round.
        ensure!(
            drained < before.seen.fork * 10,
            "{forks} {execs} {exits}, sent {sent:?}"
        );
        ensure!(
            forks <= sent.0 && execs <= sent.1 && exits <= sent.2,
            "more records than were sent: {forks} {execs} {exits}, sent {sent:?}"
        );
        if more.events == 0 {
            ensure!(
                events.wait(Some(Duration::from_secs(1)))?,
                "sent {sent:?} do not come"
            );
        }
    }
    let lost = events.counters()?.seen;
    ensure!(lost.fork_lost > 50 && lost.exit_lost > 50, "{lost:?}");
    ensure!(
        others_in_reserve == 0 && exits_in_reserve > 5,
        "{others_in_reserve} forks and execs, {exits_in_reserve} exits where only exits may be"
    );
    println!("{lost:?}");
    Ok(())
}

fn arguments_are_whole_or_flagged(programs: &Programs) -> Outcome {
    let mut events = programs.events(&Options::default())?;
    // The kernel takes no single argument of more than 128 KiB less one byte.
    let long = "x".repeat(100 * 1024);
    // With `/bin/true` and three NULs, one byte less than there is room for; just fits; one too
    // long.
    let fits = ARGS_MAX - "/bin/true".len() - 3;
    let sizes = [
        200 * 1024,
        100 * 1024,
        fits - 1,
        fits,
        fits + 1,
        4096,
        8192,
        0,
    ];
    let mut lives = Lives::default();
    for size in sizes {
        let (first, second) = (size.min(long.len()), size.saturating_sub(long.len()));
        let pid = spawn(Command::new("/bin/true").args([&long[..first], &long[..second]]))?;
        roles::wait(pid);
        lives.gather(&mut events)?;
        let (_, exec, args, _) = lives.child(pid)?;
        let total = "/bin/true".len() + 3 + size;
        ensure!(exec.args_total as usize == total, "{size}: {exec:?}");
        ensure!(
            exec.args_len as usize == total.min(ARGS_MAX),
            "{size}: {exec:?}"
        );
        let truncated = exec.flags & exec_flag::ARGS_TRUNCATED != 0;
        ensure!(truncated == (total > ARGS_MAX), "{size}: {exec:?}");
        ensure!(
            exec.flags & !exec_flag::ARGS_TRUNCATED == 0,
            "{size}: {exec:?}"
        );
        ensure!(
            args.len() == 3 && args[0] == b"/bin/true",
            "{size}: {} arguments",
            args.len()
        );
        let there = total.min(ARGS_MAX) - "/bin/true".len() - 2 - first;
        let there = there.min(second);
        ensure!(
            args[1] == long.as_bytes()[..first] && args[2] == long.as_bytes()[..there],
            "{size}: other bytes"
        );
    }
    // A path that is long, and fails: no event. Then one that works.
    let deep = format!("/bin/{}true", "./".repeat(1900));
    let pid = spawn(&mut Command::new(&deep))?;
    roles::wait(pid);
    lives.gather(&mut events)?;
    let path = &lives.of(pid).execs[0].1;
    ensure!(
        path == deep.as_bytes(),
        "the path has {} bytes, not {}",
        path.len(),
        deep.len()
    );
    none_lost(&events)
}

fn an_exec_by_another_thread_keeps_the_process(programs: &Programs) -> Outcome {
    let mut events = programs.events(&Options::default())?;
    let pid = spawn(&mut roles::command("exec-in-thread"))?;
    let status = roles::wait(pid).status;
    ensure!(status == 0, "{status}");
    let mut lives = Lives::default();
    lives.gather(&mut events)?;
    let life = lives.of(pid);
    ensure!(life.forks.len() == 1, "{} forks", life.forks.len());
    ensure!(life.execs.len() == 2, "{} execs", life.execs.len());
    ensure!(life.exits.len() == 1, "{} exits", life.exits.len());
    let exec = &life.execs[1].0;
    ensure!(exec.old_tid != pid, "the leader called it: {exec:?}");
    ensure!(
        exec.task.key == life.forks[0].child.key,
        "another key: {exec:?}"
    );
    ensure!(life.exits[0].task.key == exec.task.key, "another key");
    ensure!(exec.task.threads == 1, "{exec:?}");
    none_lost(&events)
}

fn a_leader_that_exits_first_is_no_exit(programs: &Programs) -> Outcome {
    // Loaded now, so that the list is not late.
    programs.tasks()?;
    let mut events = programs.events(&Options::default())?;
    let pid = spawn(&mut roles::command("leader-exits-first"))?;
    thread::sleep(Duration::from_millis(200));
    let tasks = programs.tasks()?;
    let task = tasks.iter().find(|record| record.task.key.tgid == pid);
    let task = task
        .ok_or("a process whose leader has exited is not in the list")?
        .task;
    ensure!(task.flags & task_flag::EXITING != 0, "{task:?}");
    ensure!(
        task.flags & task_flag::DEAD == 0 && task.threads == 1,
        "{task:?}"
    );
    let mut lives = Lives::default();
    lives.gather(&mut events)?;
    ensure!(
        lives.of(pid).exits.is_empty(),
        "exit of the leader was reported"
    );

    let status = ExitStatus::from_raw(roles::wait(pid).status);
    ensure!(status.code() == Some(7), "{status}");
    lives.gather(&mut events)?;
    let (fork, _, _, exit) = lives.child(pid)?;
    ensure!(fork.child.key == task.key, "another key");
    ensure!(exit.task.exit_status == 7 << 8, "{exit:?}");
    none_lost(&events)
}

fn a_signal_is_in_the_status(programs: &Programs) -> Outcome {
    let mut events = programs.events(&Options::default())?;
    let pid = spawn(Command::new("/bin/sh").args(["-c", "kill -9 $$"]))?;
    let status = roles::wait(pid).status;
    let mut lives = Lives::default();
    lives.gather(&mut events)?;
    let (_, _, _, exit) = lives.child(pid)?;
    ensure!(
        exit.task.exit_status == 9 && status == 9,
        "{exit:?}, wait says {status}"
    );
    Ok(())
}

fn usage_equals_what_wait4_tells(programs: &Programs) -> Outcome {
    let mut events = programs.events(&Options::default())?;
    let pid = spawn(&mut roles::command("burn-in-threads"))?;
    let usage = roles::wait(pid);
    let mut lives = Lives::default();
    lives.gather(&mut events)?;
    let (_, _, _, exit) = lives.child(pid)?;
    let ours = Duration::from_nanos(exit.task.runtime_ns);
    // Not in it: what the last thread ran since the last tick, and ran on after the event.
    let slack = Duration::from_millis(40);
    ensure!(
        ours <= usage.cpu + slack && usage.cpu <= ours + slack,
        "{ours:?}, wait4 says {:?}",
        usage.cpu
    );
    let (user, system) = exit.task.cpu_times_ns();
    ensure!(user + system == exit.task.runtime_ns, "{exit:?}");
    ensure!(
        exit.task.maxrss_kib == usage.maxrss_kib,
        "{} KiB, wait4 says {}",
        exit.task.maxrss_kib,
        usage.maxrss_kib
    );
    ensure!(exit.task.min_flt > 0, "{exit:?}");
    for (ours, total) in [exit.task.nvcsw, exit.task.nivcsw]
        .iter()
        .zip(usage.switches)
    {
        // Not in it: those after the event.
        ensure!((*ours..=ours + 4).contains(&total), "{exit:?}, {total}");
    }
    ensure!(exit.task.nvcsw >= 2, "it waited for two threads: {exit:?}");
    // Nothing is written where temporary files live in memory.
    let blocks = [exit.task.read_bytes, exit.task.write_bytes].map(|bytes| bytes / 512);
    ensure!(
        blocks == usage.blocks,
        "{exit:?}, wait4 says {:?}",
        usage.blocks
    );
    none_lost(&events)
}

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Self, Failed> {
        let directory = env::temp_dir().join(format!("pidlist-live-{}-{name}", process::id()));
        fs::create_dir(&directory)?;
        Ok(Self(directory.canonicalize()?))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bytes(path: &Path) -> Option<Vec<u8>> {
    Some(path.as_os_str().as_bytes().to_vec())
}

fn an_environment_comes_if_asked_for(programs: &Programs) -> Outcome {
    let options = |environment| Options {
        environment,
        ..Options::default()
    };
    let long = format!("LONG={}", "x".repeat(40 * 1024));
    for (asked, value, expected) in [
        (false, "2", &b""[..]),
        (true, "2", b"A=1\0B=2\0"),
        (true, "", b"A=1\0B=\0"),
        (true, &long, long.as_bytes()),
    ] {
        let mut events = programs.events(&options(asked))?;
        let mut command = Command::new("/bin/true");
        let pid = spawn(command.env_clear().env("A", "1").env("B", value))?;
        roles::wait(pid);
        let mut lives = Lives::default();
        lives.gather(&mut events)?;
        let life = lives.of(pid);
        let (exec, ..) = &life.execs[0];
        let (env, ..) = &life.more[0];
        let truncated = exec.flags & exec_flag::ENV_TRUNCATED != 0;
        if value.len() > ENV_MAX {
            ensure!(truncated && env.len() == ENV_MAX, "{exec:?}");
            ensure!(
                env[8..] == expected[..ENV_MAX - 8] || env.starts_with(b"A=1\0B=LONG=xxx"),
                "other bytes"
            );
        } else {
            ensure!(!truncated && env == expected, "{exec:?} {env:?}");
        }
        none_lost(&events)?;
    }
    Ok(())
}

fn an_exec_by_descriptor_shows_the_file(programs: &Programs) -> Outcome {
    let program = fs::canonicalize("/bin/true")?;
    let file = fs::metadata(&program)?;
    for role in ["execveat", "execveat-name"] {
        let mut events = programs.events(&Options::default())?;
        let pid = spawn(&mut roles::command(role))?;
        let status = roles::wait(pid).status;
        let mut lives = Lives::default();
        lives.gather(&mut events)?;
        let life = lives.of(pid);
        ensure!(
            life.execs.len() == 2,
            "{role}: {} execs, status {status}",
            life.execs.len()
        );
        let (exec, path, args) = &life.execs[1];
        let (_, exe, _) = &life.more[1];
        ensure!(
            path.starts_with(b"/dev/fd/"),
            "{}",
            String::from_utf8_lossy(path)
        );
        ensure!(*exe == bytes(&program), "{role}: {exe:?}");
        ensure!(exec.task.exe_ino == file.ino(), "{exec:?}");
        ensure!(*args == [b"true".to_vec(), vec![]], "{args:?}");
    }
    Ok(())
}

fn a_script_shows_its_interpreter(programs: &Programs) -> Outcome {
    let scratch = Scratch::new("script")?;
    let script = scratch.0.join("script");
    fs::write(&script, "#!/bin/sh\nexit 4\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let mut events = programs.events(&Options::default())?;
    let pid = spawn(Command::new(&script).arg("a"))?;
    roles::wait(pid);
    let mut lives = Lives::default();
    lives.gather(&mut events)?;
    let life = lives.of(pid);
    let ((_, path, args), (_, exe, _)) = (&life.execs[0], &life.more[0]);
    ensure!(Some(path.clone()) == bytes(&script), "{path:?}");
    ensure!(*exe == bytes(&fs::canonicalize("/bin/sh")?), "{exe:?}");
    let script = script.as_os_str().as_bytes();
    ensure!(
        *args == [b"/bin/sh", script, b"a"].map(<[u8]>::to_vec),
        "{args:?}"
    );
    Ok(())
}

/// Links are resolved, the root and mounts are crossed, and what is too deep shows its end.
fn paths_are_those_of_the_names_in_use(programs: &Programs) -> Outcome {
    let scratch = Scratch::new("paths")?;
    let link = scratch.0.join("link");
    symlink(fs::canonicalize("/bin/true")?, &link)?;
    let inner = scratch.0.join("a b").join("\u{e9}");
    let deep = (0..COMPONENTS_MAX).fold(inner.clone(), |path, level| path.join(level.to_string()));
    fs::create_dir_all(&deep)?;
    let cut: PathBuf = (0..COMPONENTS_MAX).map(|level| level.to_string()).collect();
    let mut directories = vec![(PathBuf::from("/"), PathBuf::from("/"))];
    directories.extend(["/proc", "/dev", "/sys/kernel"].map(|path| (path.into(), path.into())));
    directories.push((inner.clone(), inner));
    directories.push((deep, cut));
    let mut events = programs.events(&Options::default())?;
    for (directory, expected) in directories {
        let pid = spawn(Command::new(&link).arg0("true").current_dir(&directory))?;
        roles::wait(pid);
        let mut lives = Lives::default();
        lives.gather(&mut events)?;
        let life = lives.of(pid);
        let (exec, path, _) = &life.execs[0];
        let (_, exe, cwd) = &life.more[0];
        ensure!(Some(path.clone()) == bytes(&link), "{path:?}");
        ensure!(*exe == bytes(&fs::canonicalize(&link)?), "{exe:?}");
        ensure!(*cwd == bytes(&expected), "{cwd:?} is not {expected:?}");
        let cut = exec.flags & exec_flag::CWD_TRUNCATED != 0;
        ensure!(cut == expected.is_relative(), "{exec:?}");
    }
    none_lost(&events)
}

fn a_deleted_executable_is_told(programs: &Programs) -> Outcome {
    let scratch = Scratch::new("deleted")?;
    let copy = scratch.0.join("sleep");
    fs::copy("/bin/sleep", &copy)?;
    let file = fs::metadata(&copy)?;
    programs.tasks()?;
    let mut events = programs.events(&Options::default())?;
    let pid = spawn(Command::new(&copy).arg0("sleep").arg("1"))?;
    let mut lives = Lives::default();
    // Whoever spawns goes on when the old program is gone, before the new one is told of.
    while lives.of(pid).execs.is_empty() {
        ensure!(events.wait(Some(Duration::from_secs(10)))?, "no exec");
        lives.gather(&mut events)?;
    }
    fs::remove_file(&copy)?;
    thread::sleep(Duration::from_millis(100));
    let tasks = programs.tasks()?;
    let task = tasks.iter().find(|record| record.task.key.tgid == pid);
    let task = task.ok_or("it is not in the list")?.task;
    ensure!(task.state & 0x7f == 1, "does not sleep: {:#x}", task.state);
    roles::wait(pid);
    lives.gather(&mut events)?;
    let (_, exec, _, exit) = lives.child(pid)?;
    let deleted = [exec.task, task, exit.task].map(|task| task.flags & task_flag::EXE_DELETED != 0);
    ensure!(deleted == [false, true, true], "{deleted:?}");
    for task in [exec.task, task, exit.task] {
        ensure!(task.exe_ino == file.ino(), "{task:?}");
    }
    Ok(())
}

fn a_pid_is_told_in_each_namespace(programs: &Programs) -> Outcome {
    let mut events = programs.events(&Options::default())?;
    let pid = spawn(&mut roles::command("nested"))?;
    let status = roles::wait(pid).status;
    ensure!(status == 0, "{status}");
    let mut lives = Lives::default();
    lives.gather(&mut events)?;
    let child_of = |pid: u32| {
        let forks = lives.0.values().flat_map(|life| &life.forks);
        let mut children = forks.filter(|fork| fork.forker.tgid == pid);
        children.next().map(|fork| fork.child)
    };
    let child = child_of(pid).ok_or("no child")?;
    let grandchild = child_of(child.key.tgid).ok_or("no grandchild")?;
    let outer = lives.0[&pid].forks[0].child;
    // Who looks may be in a namespace, too.
    let level = outer.ns_level;
    ensure!(child.ns_level == level + 1, "{child:?}");
    ensure!(grandchild.ns_level == level + 2, "{grandchild:?}");
    ensure!((child.ns_tgid, grandchild.ns_tgid) == (1, 1), "{child:?}");
    let mut inums = [outer.pid_ns, child.pid_ns, grandchild.pid_ns];
    inums.sort_unstable();
    ensure!(inums[0] != inums[1] && inums[1] != inums[2], "{inums:?}");
    let between = grandchild.between;
    let known = level as usize;
    ensure!(
        (between[known].ns, between[known].tgid) == (child.pid_ns, 2),
        "{grandchild:?}"
    );
    ensure!(
        between[known + 1..]
            .iter()
            .all(|pid| *pid == NsPid::default()),
        "{grandchild:?}"
    );
    let exec = &lives.0[&grandchild.key.tgid].execs[0].0;
    ensure!(exec.task.between == between, "{exec:?}");
    Ok(())
}

fn a_sibling_has_the_parent_of_its_forker(programs: &Programs) -> Outcome {
    let mut events = programs.events(&Options::default())?;
    let pid = spawn(&mut roles::command("sibling"))?;
    roles::wait(pid);
    let mut lives = Lives::default();
    lives.gather(&mut events)?;
    let mut forks = lives.0.values().flat_map(|life| &life.forks);
    let fork = forks.find(|fork| fork.forker.tgid == pid).copied();
    let fork = fork.ok_or("no fork")?;
    let sibling = fork.child.key.tgid;
    let status = ExitStatus::from_raw(roles::wait(sibling).status);
    ensure!(status.code() == Some(3), "{status}");
    ensure!(fork.child.parent.tgid == process::id(), "{fork:?}");
    ensure!(fork.child.exit_signal == libc::SIGCHLD, "{fork:?}");
    lives.gather(&mut events)?;
    ensure!(lives.of(sibling).execs.is_empty(), "it called no exec");
    ensure!(lives.of(sibling).exits.len() == 1, "no exit");
    Ok(())
}

fn a_dropped_capability_is_gone(programs: &Programs) -> Outcome {
    let mut events = programs.events(&Options::default())?;
    let pid = spawn(&mut roles::command("drop-chown"))?;
    let status = roles::wait(pid).status;
    ensure!(status == 0, "{status}");
    let mut lives = Lives::default();
    lives.gather(&mut events)?;
    let execs = &lives.of(pid).execs;
    let [before, after] = [0, 1].map(|exec| execs[exec].0.task.capabilities);
    ensure!(before.bounding & 1 == 1, "{before:?}");
    ensure!(after.bounding == before.bounding & !1, "{after:?}");
    ensure!(after.permitted == before.permitted & !1, "{after:?}");
    ensure!(after.effective == before.effective & !1, "{after:?}");
    Ok(())
}
