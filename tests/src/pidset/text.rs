//! Lists as text.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{IoSlice, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use pidlist_abi::pidset as abi;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{gone, has_members, members, refused, start};
use crate::Test;
use crate::proc;
use crate::run::shell;
use crate::sys::device::{Device, PATH};
use crate::sys::errno;
use crate::sys::memory::Memory;
use crate::sys::task::Idle;

pub const TESTS: &[(&str, Test)] = &[
    (
        "text: it adds, lists and removes",
        it_adds_lists_and_removes,
    ),
    (
        "text: a wrong one changes nothing",
        wrong_text_changes_nothing,
    ),
    ("text: ranges mean who lives, or is a member", ranges),
    (
        "text: reads of any size add up to the list",
        reads_of_any_size,
    ),
    (
        "text: a read that fails half way loses no line",
        a_read_fails_half_way,
    ),
    (
        "text: a shell reads it line by line",
        a_shell_reads_line_by_line,
    ),
    (
        "text: a word may span the segments of a writev",
        a_word_may_span_segments,
    ),
    ("text: it may not be endless", it_may_not_be_endless),
    ("text: a named list has its own", a_named_list_has_its_own),
];

fn it_adds_lists_and_removes() -> Result<()> {
    let device = start()?;
    let (a, b) = (Idle::new()?, Idle::new()?);
    device.write(&format!("{}\n", a.pid()))?;
    ensure!(members()? == [a.pid()].into());
    device.write(&format!("  {} \t{}", b.pid(), a.pid()))?;
    ensure!(members()? == [a.pid(), b.pid()].into());
    device.write(&format!("!{}\n", a.pid()))?;
    ensure!(members()? == [b.pid()].into());
    // Not a member: nothing to do. In one text, the later word wins.
    device.write(&format!("!{} {} !{}\n", a.pid(), a.pid(), b.pid()))?;
    ensure!(members()? == [a.pid()].into());
    device.write("")?;
    ensure!(members()? == [a.pid()].into());
    Ok(())
}

fn wrong_text_changes_nothing() -> Result<()> {
    let device = start()?;
    let process = Idle::new()?;
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
        ("\u{b2}", Errno::INVAL),
        ("1073741824", Errno::INVAL),
        ("4294967297", Errno::INVAL),
        ("99999999999999999999999999", Errno::INVAL),
        ("1-", Errno::INVAL),
        ("-", Errno::INVAL),
        ("!1-", Errno::INVAL),
        ("!-1", Errno::INVAL),
        ("1--2", Errno::INVAL),
        ("1-2-3", Errno::INVAL),
        ("1 - 2", Errno::INVAL),
        ("1-!2", Errno::INVAL),
        ("0-2", Errno::INVAL),
        ("2-1", Errno::INVAL),
        ("!2-1", Errno::INVAL),
        ("1-1073741824", Errno::INVAL),
        ("1-4294967297", Errno::INVAL),
        ("1073741823", Errno::SRCH),
    ];
    for (text, error) in wrong {
        for text in [format!("{pid} {text}\n"), format!("{pid}-{pid} {text}\n")] {
            refused(&format!("{text:?}"), device.write(&text), error)?;
            has_members(&device, [])?;
        }
    }
    let text = format!("{pid} {gone}\n");
    refused("a gone pid", device.write(&text), Errno::SRCH)?;
    has_members(&device, [])?;
    // A piece of a longer text could end within a pid.
    let cut = format!("{}{pid}", " ".repeat(8000));
    refused("text that may be cut", device.write(&cut), Errno::INVAL)?;
    has_members(&device, [])?;
    device.write(&format!("{cut}\n"))?;
    has_members(&device, [pid])?;
    let endless = " ".repeat((128 << 10) + 1);
    refused("endless text", device.write(&endless), Errno::TOOBIG)
}

fn a_read_fails_half_way() -> Result<()> {
    let device = start()?;
    let idle = Idle::several(3)?;
    let pids: BTreeSet<u32> = idle.iter().map(Idle::pid).collect();
    device.add(&Vec::from_iter(pids.clone()))?;
    let lines: Vec<String> = pids.iter().map(|pid| format!("{pid}\n")).collect();
    let mut memory = Memory::new()?;
    // There is room for the first line and a byte, whatever the call says.
    let room = lines[0].len() + 1;
    let read = memory.read(device.as_fd(), memory.tail(room), 100)?;
    let first = memory.get(memory.tail(room), read);
    ensure!(first == lines[0].as_bytes(), "{first:?}");
    let nowhere = memory.unmapped();
    let read = memory.read(device.as_fd(), nowhere, 100);
    refused("a read to nowhere", read, Errno::FAULT)?;
    let rest = device.read()?;
    ensure!(rest == lines[1..].concat(), "{rest:?}");
    Ok(())
}

fn ranges() -> Result<()> {
    let device = start()?;
    let idle = Idle::several(5)?;
    let pids: Vec<u32> = idle.iter().map(Idle::pid).collect();
    let (first, last) = (
        *pids.iter().min().context("none")?,
        *pids.iter().max().context("none")?,
    );
    let before = proc::processes()?;
    device.write(&format!("{first}-{last}\n"))?;
    who_lived_is_in(&device, &before, first, last)?;
    ensure!(pids.iter().all(|pid| before.contains(pid)));
    // Removed are members, whoever lives.
    device.write(&format!("!{first}-{last} {first}-{first}\n"))?;
    has_members(&device, [first])?;
    device.write(&format!("!1-{}\n", abi::BATCH_MAX))?;
    device.write("!1-1073741823\n")?;
    has_members(&device, [])?;
    // Nobody may live there.
    let gone = gone()?;
    device.write(&format!("{gone}-{gone} 1073741822-1073741823\n"))?;
    has_members(&device, [])?;
    // Everybody, also the kernel's own threads, each of which is a process.
    let before = proc::processes()?;
    device.write("1-1073741823\n")?;
    who_lived_is_in(&device, &before, 1, u32::MAX)?;
    start().map(drop)
}

/// Fails unless the list has those of a range who were there `before` and still are, and nobody who
/// was never there. The kernel starts and ends processes of its own at any time.
fn who_lived_is_in(device: &Device, before: &BTreeSet<u32>, first: u32, last: u32) -> Result<()> {
    let members = device.members()?;
    let after = proc::processes()?;
    let within = |pid: &&u32| (first..=last).contains(*pid);
    let missing = before
        .intersection(&after)
        .filter(within)
        .find(|pid| !members.contains(pid));
    ensure!(missing.is_none(), "{missing:?} is missing in {members:?}");
    let odd = members
        .iter()
        .find(|pid| !within(pid) || !(before.contains(pid) || after.contains(pid)));
    ensure!(odd.is_none(), "{odd:?} is none of those in {before:?}");
    Ok(())
}

/// A list of so many idle processes: they, their pids, and the list as text.
fn list_of(count: usize) -> Result<(Vec<Idle>, BTreeSet<u32>, String)> {
    let device = start()?;
    let processes = Idle::several(count)?;
    let pids: BTreeSet<u32> = processes.iter().map(Idle::pid).collect();
    let text: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
    device.write(&text)?;
    Ok((processes, pids, text))
}

fn reads_of_any_size() -> Result<()> {
    let (_processes, pids, expected) = list_of(40)?;
    for size in [1, 3, 11, 31, 4096] {
        let mut device = File::open(PATH)?;
        let (mut text, mut buffer) = (String::new(), vec![0; size]);
        loop {
            let count = device.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            text.push_str(std::str::from_utf8(&buffer[..count])?);
        }
        ensure!(text == expected, "reads of {size} bytes gave {text:?}");
        let after = device.read(&mut buffer)?;
        ensure!(after == 0, "{after} bytes after the last line");
    }
    // A line that was begun is finished, though its pid has left.
    let mut device = File::open(PATH)?;
    let mut byte = [0];
    device.read_exact(&mut byte)?;
    let first = pids.first().context("no pids")?;
    Device::open()?.write(&format!("!{first}\n"))?;
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
    let ran = shell(&format!("while read -r pid; do echo $pid; done <{PATH}"))?.expect(0)?;
    ensure!(ran.stdout == expected, "{ran:?}");
    let mut device = File::open(PATH)?;
    let sought = device
        .seek(SeekFrom::Start(u64::from(u32::MAX) << 4 | 1))
        .map_err(errno);
    refused("seeking", sought, Errno::SPIPE)?;
    let read = rustix::io::pread(&device, &mut [0; 64], 4242 << 4 | 2);
    refused("pread", read, Errno::SPIPE)
}

fn a_word_may_span_segments() -> Result<()> {
    let device = start()?;
    let process = Idle::new()?;
    let pid = process.pid().to_string();
    let (head, tail) = pid.split_at(1);
    let written = (&device.0).write_vectored(&[
        IoSlice::new(head.as_bytes()),
        IoSlice::new(tail.as_bytes()),
        IoSlice::new(b"\n"),
    ])?;
    ensure!(written == pid.len() + 1);
    has_members(&device, [process.pid()])
}

fn it_may_not_be_endless() -> Result<()> {
    let device = start()?;
    let process = Idle::new()?;
    let pid = process.pid();
    let text = |words| format!("{pid} ").repeat(words);
    device.write(&text(4096))?;
    has_members(&device, [pid])?;
    device.clear()?;
    refused("4,097 words", device.write(&text(4097)), Errno::TOOBIG)?;
    has_members(&device, [])?;
    let readable = Device::open_with(OFlags::RDONLY)?;
    refused(
        "a descriptor for reading",
        readable.write("1\n"),
        Errno::BADF,
    )
}

fn a_named_list_has_its_own() -> Result<()> {
    let device = start()?;
    let (a, b) = (Idle::new()?, Idle::new()?);
    let list = device.create("text", 0)?;
    list.write(&format!("{}\n", a.pid()))?;
    device.write(&format!("{}\n", b.pid()))?;
    let text = device.list("text")?.read()?;
    ensure!(text == format!("{}\n", a.pid()), "{text:?}");
    let text = device.union()?.read()?;
    let both: BTreeSet<u32> = [a.pid(), b.pid()].into();
    let expected: String = both.iter().map(|pid| format!("{pid}\n")).collect();
    ensure!(text == expected, "the union: {text:?}");
    refused(
        "text for the union",
        device.union()?.write(&format!("{}\n", a.pid())),
        Errno::OPNOTSUPP,
    )
}
