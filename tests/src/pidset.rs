//! The PID set in the kernel, through its device and through the CLI.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{IoSlice, Read, Seek, SeekFrom, Write};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;

use crate::Test;
use crate::run::{Process, pidlist, shell, until};

pub const TESTS: &[(&str, Test)] = &[
    (
        "pidset: text adds, lists and removes",
        text_adds_lists_and_removes,
    ),
    (
        "pidset: text that is wrong changes nothing",
        wrong_text_changes_nothing,
    ),
    (
        "pidset: reads of any size add up to the list",
        reads_of_any_size,
    ),
    (
        "pidset: a shell reads it line by line",
        a_shell_reads_line_by_line,
    ),
    (
        "pidset: a word may span the segments of a writev",
        a_word_may_span_segments,
    ),
    (
        "pidset: a text may not be endless",
        a_text_may_not_be_endless,
    ),
    (
        "pidset: the CLI adds, asks, lists, removes and clears",
        the_cli_does_it_all,
    ),
    (
        "pidset: the CLI refuses what is no process",
        the_cli_refuses_what_is_no_process,
    ),
    (
        "pidset: children and grandchildren are followed",
        descendants_are_followed,
    ),
    (
        "pidset: nobody is followed when following is off",
        following_can_be_off,
    ),
    (
        "pidset: a zombie is a member until it is reaped",
        a_zombie_is_a_member,
    ),
    ("pidset: threads are no members", threads_are_no_members),
    (
        "pidset: a pid that is used again is a new process",
        reused_pids_are_new,
    ),
    (
        "pidset: readers and writers do not disturb each other",
        concurrent_use,
    ),
    (
        "pidset: an open descriptor keeps the module",
        an_open_descriptor_keeps_the_module,
    ),
    (
        "pidset: the module comes and goes while processes fork",
        load_and_unload_in_a_storm,
    ),
];

const DEVICE: &str = "/dev/pidlist";

fn members() -> Result<BTreeSet<u32>> {
    let text = fs::read_to_string(DEVICE).context("reading the device")?;
    Ok(text.lines().map(str::parse).collect::<Result<_, _>>()?)
}

fn write(text: &str) -> Result<(), Errno> {
    let mut device = File::options().write(true).open(DEVICE).map_err(errno)?;
    device.write_all(text.as_bytes()).map_err(errno)
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// An empty list, with following `on` or `off`.
fn start(follow: &str) -> Result<()> {
    pidlist(["clear"])?.expect(0)?;
    pidlist(["follow", follow])?.expect(0)?;
    ensure!(members()?.is_empty(), "a cleared list has members");
    Ok(())
}

/// A pid that no process has.
fn gone() -> Result<u32> {
    let mut child = Command::new("true").spawn()?;
    child.wait()?;
    Ok(child.id())
}

fn text_adds_lists_and_removes() -> Result<()> {
    start("off")?;
    let (a, b) = (Process::idle()?, Process::idle()?);
    write(&format!("{}\n", a.pid()))?;
    ensure!(members()? == [a.pid()].into());
    write(&format!("  {} \t{}", b.pid(), a.pid()))?;
    ensure!(members()? == [a.pid(), b.pid()].into());
    write(&format!("!{}\n", a.pid()))?;
    ensure!(members()? == [b.pid()].into());
    // Not a member: nothing to do. In one text, the later word wins.
    write(&format!("!{} {} !{}\n", a.pid(), a.pid(), b.pid()))?;
    ensure!(members()? == [a.pid()].into());
    write("")?;
    ensure!(members()? == [a.pid()].into());
    Ok(())
}

fn wrong_text_changes_nothing() -> Result<()> {
    start("off")?;
    let process = Process::idle()?;
    let (pid, gone) = (process.pid(), gone()?);
    let wrong = [
        ("x", Errno::INVAL),
        ("0", Errno::INVAL),
        ("-1", Errno::INVAL),
        ("+1", Errno::INVAL),
        ("!", Errno::INVAL),
        ("!!1", Errno::INVAL),
        ("! 1", Errno::INVAL),
        ("1.5", Errno::INVAL),
        ("1,2", Errno::INVAL),
        ("1\0", Errno::INVAL),
        ("1073741824", Errno::INVAL),
        ("4294967297", Errno::INVAL),
        ("99999999999999999999999999", Errno::INVAL),
        ("1073741823", Errno::SRCH),
    ];
    for (text, error) in wrong {
        let result = write(&format!("{pid} {text}\n"));
        ensure!(
            result == Err(error),
            "{text:?}: {result:?}, expected {error:?}"
        );
        ensure!(
            members()?.is_empty(),
            "{text:?} was refused, yet a pid is in"
        );
    }
    let result = write(&format!("{pid} {gone}\n"));
    ensure!(
        result == Err(Errno::SRCH) && members()?.is_empty(),
        "a gone pid: {result:?}"
    );
    // A piece of a longer text could end within a pid.
    let cut = format!("{}{pid}", " ".repeat(8000));
    ensure!(write(&cut) == Err(Errno::INVAL) && members()?.is_empty());
    ensure!(write(&format!("{cut}\n")).is_ok() && members()? == [pid].into());
    ensure!(write(&" ".repeat((128 << 10) + 1)) == Err(Errno::TOOBIG));
    Ok(())
}

/// A list of so many idle processes: they, their pids, and the list as text.
fn list_of(count: usize) -> Result<(Vec<Process>, BTreeSet<u32>, String)> {
    start("off")?;
    let processes = (0..count)
        .map(|_| Process::idle())
        .collect::<Result<Vec<_>>>()?;
    let pids: BTreeSet<u32> = processes.iter().map(Process::pid).collect();
    let text: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
    write(&text)?;
    Ok((processes, pids, text))
}

fn reads_of_any_size() -> Result<()> {
    let (_processes, pids, expected) = list_of(40)?;
    for size in [1, 3, 11, 31, 4096] {
        let mut device = File::open(DEVICE)?;
        let (mut text, mut buffer) = (String::new(), vec![0; size]);
        loop {
            let count = device.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            text.push_str(std::str::from_utf8(&buffer[..count])?);
        }
        ensure!(text == expected, "reads of {size} bytes gave {text:?}");
    }
    // A line that was begun is finished, though its pid has left.
    let mut device = File::open(DEVICE)?;
    let mut byte = [0];
    device.read_exact(&mut byte)?;
    let first = pids.first().context("no pids")?;
    write(&format!("!{first}\n"))?;
    let mut rest = String::new();
    device.read_to_string(&mut rest)?;
    ensure!(
        expected == format!("{}{rest}", char::from(byte[0])),
        "the rest is {rest:?}"
    );
    Ok(())
}

/// A shell that could seek reads a block, and seeks back to behind the line it wanted.
fn a_shell_reads_line_by_line() -> Result<()> {
    let (_processes, _, expected) = list_of(12)?;
    let ran = shell(&format!("while read -r pid; do echo $pid; done <{DEVICE}"))?.expect(0)?;
    ensure!(ran.stdout == expected, "{ran:?}");
    let mut device = File::open(DEVICE)?;
    let sought = device
        .seek(SeekFrom::Start(u64::from(u32::MAX) << 4 | 1))
        .map_err(errno);
    ensure!(sought == Err(Errno::SPIPE), "seeking: {sought:?}");
    let read = rustix::io::pread(&device, &mut [0; 64], 4242 << 4 | 2);
    ensure!(read == Err(Errno::SPIPE), "pread: {read:?}");
    Ok(())
}

fn a_word_may_span_segments() -> Result<()> {
    start("off")?;
    let process = Process::idle()?;
    let pid = process.pid().to_string();
    let (head, tail) = pid.split_at(1);
    let mut device = File::options().write(true).open(DEVICE)?;
    let written = device.write_vectored(&[
        IoSlice::new(head.as_bytes()),
        IoSlice::new(tail.as_bytes()),
        IoSlice::new(b"\n"),
    ])?;
    ensure!(written == pid.len() + 1 && members()? == [process.pid()].into());
    Ok(())
}

fn a_text_may_not_be_endless() -> Result<()> {
    start("off")?;
    let process = Process::idle()?;
    let text = |words| format!("{} ", process.pid()).repeat(words);
    ensure!(write(&text(4096)).is_ok());
    start("off")?;
    ensure!(write(&text(4097)) == Err(Errno::TOOBIG) && members()?.is_empty());
    let result = File::open(DEVICE).map(|mut readable| readable.write_all(b"1\n"))?;
    ensure!(result.map_err(errno) == Err(Errno::BADF));
    Ok(())
}

fn the_cli_does_it_all() -> Result<()> {
    start("off")?;
    let (a, b) = (Process::idle()?, Process::idle()?);
    let (a, b) = (a.pid().to_string(), b.pid().to_string());
    pidlist(["has", &a])?.expect(1)?;
    pidlist(["add", &a, &b])?.expect(0)?;
    pidlist(["has", &a])?.expect(0)?;
    let listed = pidlist(["list"])?.expect(0)?;
    ensure!(
        listed.stdout.contains(&a) && listed.stdout.contains(&b),
        "{listed:?}"
    );
    pidlist(["rm", &a])?.expect(0)?;
    pidlist(["has", &a])?.expect(1)?;
    pidlist(["has", &b])?.expect(0)?;
    let json: serde_json::Value =
        serde_json::from_str(&pidlist(["list", "--json"])?.expect(0)?.stdout)?;
    ensure!(json.to_string().contains(&b), "{json}");
    pidlist(["clear"])?.expect(0)?;
    ensure!(members()?.is_empty());
    Ok(())
}

fn the_cli_refuses_what_is_no_process() -> Result<()> {
    start("off")?;
    let process = Process::idle()?;
    let (pid, gone) = (process.pid().to_string(), gone()?.to_string());
    for wrong in [
        "x",
        "0",
        "-1",
        "1.5",
        "",
        "1073741824",
        "99999999999",
        &gone,
    ] {
        for command in ["add", "rm", "has"] {
            if wrong == gone && command != "add" {
                continue;
            }
            let ran = pidlist([command, wrong])?.expect(2)?;
            ensure!(ran.stdout.is_empty() && !ran.stderr.is_empty(), "{ran:?}");
        }
        let ran = pidlist(["add", &pid, wrong])?.expect(2)?;
        ensure!(
            members()?.is_empty(),
            "{wrong:?} was refused, yet a pid is in: {ran:?}"
        );
    }
    let refused = pidlist(["add", &gone])?;
    ensure!(
        refused.stderr.contains(&gone),
        "the error does not name the pid: {refused:?}"
    );
    Ok(())
}

/// A shell that waits for a line and has a child and a grandchild then, which print their pids.
const FAMILY: &str = "read _; sh -c 'echo $$; sh -c \"echo \\$\\$; sleep 1000\" & sleep 1000' & \
                      wait";

fn read_pids(process: &mut Process, count: usize) -> Result<BTreeSet<u32>> {
    let mut pids = BTreeSet::new();
    let mut line = Vec::new();
    let stdout = process.0.stdout.as_mut().context("no pipe")?;
    let mut byte = [0];
    while pids.len() < count {
        stdout.read_exact(&mut byte)?;
        if byte == *b"\n" {
            pids.insert(std::str::from_utf8(&line)?.parse()?);
            line.clear();
        } else {
            line.push(byte[0]);
        }
    }
    Ok(pids)
}

fn go(process: &mut Process) -> Result<()> {
    Ok(process
        .0
        .stdin
        .as_mut()
        .context("no pipe")?
        .write_all(b"\n")?)
}

/// Kills processes that are not children of ours.
fn kill(pids: &BTreeSet<u32>) -> Result<()> {
    for &pid in pids {
        let pid = rustix::process::Pid::from_raw(pid.try_into()?).context("pid 0")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    }
    Ok(())
}

fn descendants_are_followed() -> Result<()> {
    start("on")?;
    let mut family = Process::shell(FAMILY)?;
    write(&format!("{}\n", family.pid()))?;
    go(&mut family)?;
    let mut all = read_pids(&mut family, 2)?;
    let descendants = all.clone();
    all.insert(family.pid());
    ensure!(
        members()? == all,
        "the members are {:?}, not {all:?}",
        members()?
    );
    // An orphan stays a member: the set follows forks, not today's parents.
    drop(family);
    until("the shell has left", || Ok(members()? == descendants))?;
    kill(&descendants)?;
    until("all have left", || Ok(members()?.is_empty()))
}

fn following_can_be_off() -> Result<()> {
    start("off")?;
    let mut family = Process::shell(FAMILY)?;
    write(&format!("{}\n", family.pid()))?;
    go(&mut family)?;
    let descendants = read_pids(&mut family, 2)?;
    ensure!(members()? == [family.pid()].into());
    kill(&descendants)
}

fn a_zombie_is_a_member() -> Result<()> {
    start("off")?;
    let mut process = Process::idle()?;
    let pid = process.pid();
    write(&format!("{pid}\n"))?;
    process.0.kill()?;
    until("it is a zombie", || {
        Ok(fs::read_to_string(format!("/proc/{pid}/stat"))?.contains(") Z "))
    })?;
    ensure!(members()? == [pid].into());
    process.0.wait()?;
    until("it has left", || Ok(members()?.is_empty()))
}

fn threads_are_no_members() -> Result<()> {
    start("on")?;
    let us = std::process::id();
    write(&format!("{us}\n"))?;
    let thread = thread::spawn(|| {
        let tid = rustix::thread::gettid()
            .as_raw_nonzero()
            .get()
            .unsigned_abs();
        (tid, write(&format!("{tid}\n")), members())
    });
    let (tid, added, seen) = thread.join().expect("it does not panic");
    ensure!(added == Err(Errno::SRCH), "adding thread {tid}: {added:?}");
    let seen = seen?;
    start("off")?;
    ensure!(
        seen == [us].into(),
        "with a thread {tid}, the members were {seen:?}"
    );
    Ok(())
}

/// Forks so often that pids come round, with some forks by a member and some by others.
fn reused_pids_are_new() -> Result<()> {
    const PID_MAX: &str = "/proc/sys/kernel/pid_max";
    let before = fs::read_to_string(PID_MAX)?;
    fs::write(PID_MAX, "450").context("making pids scarce")?;
    let result = churn();
    fs::write(PID_MAX, before)?;
    result
}

fn churn() -> Result<()> {
    start("on")?;
    let forks = "i=0; while [ $i -lt 700 ]; do i=$((i + 1)); (exit 0); done";
    let mut tracked = Process::shell(&format!("read _; {forks}; read _"))?;
    let mut other = Process::shell(&format!("read _; {forks}; read _"))?;
    write(&format!("{}\n", tracked.pid()))?;
    let followed = stat("followed")?;
    go(&mut tracked)?;
    go(&mut other)?;
    let ended = stat_reaches("followed", followed + 700);
    let before_end = members()?;
    ensure!(before_end.contains(&tracked.pid()) && !before_end.contains(&other.pid()));
    ended?;
    until("only the shell is left", || {
        Ok(members()? == [tracked.pid()].into())
    })?;
    ensure!(
        stat("failed")? == stat("repaired")?,
        "a child was not repaired"
    );
    Ok(())
}

/// A figure of `pidlist stats --json`.
fn stat(name: &str) -> Result<u64> {
    let json: serde_json::Value =
        serde_json::from_str(&pidlist(["stats", "--json"])?.expect(0)?.stdout)?;
    json[name]
        .as_u64()
        .with_context(|| format!("no figure {name} in {json}"))
}

fn stat_reaches(name: &str, figure: u64) -> Result<()> {
    until(&format!("{name} is {figure}"), || Ok(stat(name)? >= figure))
}

fn concurrent_use() -> Result<()> {
    start("on")?;
    let stay = Process::idle()?;
    write(&format!("{}\n", stay.pid()))?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let storm = scope.spawn(|| {
            let mut shell = Process::shell("read _; for i in $(seq 300); do (exit 0); done")?;
            write(&format!("{}\n", shell.pid()))?;
            go(&mut shell)?;
            shell.0.wait()?;
            done.store(true, Ordering::Relaxed);
            anyhow::Ok(())
        });
        let writer = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let process = Process::idle()?;
                write(&format!("{}\n", process.pid()))?;
                write(&format!("!{}\n", process.pid()))?;
            }
            anyhow::Ok(())
        });
        while !done.load(Ordering::Relaxed) && !storm.is_finished() {
            ensure!(members()?.contains(&stay.pid()), "a member was not listed");
        }
        for thread in [storm, writer] {
            match thread.join() {
                Ok(result) => result?,
                Err(_) => bail!("a thread panicked"),
            }
        }
        Ok(())
    })?;
    until("only the one that stays is left", || {
        Ok(members()? == [stay.pid()].into())
    })
}

const MODULE: &str = "/modules/rust_pidlist.ko";

fn an_open_descriptor_keeps_the_module() -> Result<()> {
    let device = File::open(DEVICE)?;
    let refused = shell("rmmod rust_pidlist")?;
    ensure!(
        refused.code != Some(0),
        "the module went away under an open descriptor"
    );
    ensure!(
        (&device).read(&mut [0; 64]).is_ok(),
        "the descriptor is dead"
    );
    drop(device);
    shell("rmmod rust_pidlist")?.expect(0)?;
    ensure!(
        fs::metadata(DEVICE).is_err(),
        "the device outlived the module"
    );
    let ran = pidlist(["list"])?.expect(2)?;
    ensure!(ran.stderr.contains("not loaded"), "{ran:?}");
    shell(&format!("insmod {MODULE}"))?.expect(0)?;
    ensure!(members()?.is_empty());
    Ok(())
}

fn load_and_unload_in_a_storm() -> Result<()> {
    let _storm = Process::shell("while :; do (exit 0); done")?;
    for _ in 0..20 {
        shell(&format!("rmmod rust_pidlist && insmod {MODULE}"))?.expect(0)?;
        pidlist(["follow", "on"])?.expect(0)?;
        write(&format!("{}\n", _storm.pid()))?;
        stat_reaches("followed", 5)?;
    }
    start("off")
}
