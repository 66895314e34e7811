//! Calls at random: right ones, nearly right ones, and nonsense.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use pidlist_abi::pidset as abi;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{module, seed, soak, start_following};
use crate::Test;
use crate::helper::Helper;
use crate::proc;
use crate::run::until;
use crate::sys::device::{Device, Events, name};
use crate::sys::memory::{Address, Bytes, Memory, ROOM};
use crate::sys::task::{Idle, brief_child};

pub const TESTS: &[(&str, Test)] = &[("fuzz: whatever is called, all stays sane", fuzz)];

const THREADS: usize = 4;

fn fuzz() -> Result<()> {
    let calls: usize = if soak() { 2_000_000 } else { 20_000 };
    let seed = seed()?;
    let device = start_following()?;
    let idle = Idle::several(20)?;
    let mut storm = Helper::start(&["forks", "0", "families"])?;
    storm.line()?;
    storm.tell("go")?;
    let mut pids: Vec<u32> = idle.iter().map(Idle::pid).collect();
    pids.extend([storm.pid(), std::process::id(), 1]);
    let done = AtomicBool::new(false);
    let fuzzed = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|i| {
                let (pids, done) = (&pids, &done);
                scope.spawn(move || {
                    let mut fuzzer = Fuzzer::new(seed.wrapping_add(i as u64), pids)?;
                    for call in 0..calls / THREADS {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        // A sign of life.
                        if call % 50_000 == 49_999 {
                            println!("thread {i}: {call} calls");
                        }
                        fuzzer
                            .call()
                            .with_context(|| format!("call {call} of thread {i}"))
                            .inspect_err(|_| done.store(true, Ordering::Relaxed))?;
                    }
                    Ok(fuzzer.counts())
                })
            })
            .collect();
        let mut sum = [0; 2];
        let mut result = Ok(());
        for thread in threads {
            match thread
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
            {
                Ok(counts) => sum = [sum[0] + counts[0], sum[1] + counts[1]],
                Err(error) => result = result.and(Err(error)),
            }
        }
        result.map(|()| sum)
    });
    storm.kill()?;
    let [done, refused] = fuzzed.with_context(|| format!("PIDLIST_SEED={seed}"))?;
    println!("{done} calls did something, {refused} were refused");
    // Neither is a test of the other.
    ensure!(
        done > calls / 5 && refused > calls / 10,
        "{done} done, {refused} refused"
    );
    is_sane(&device).with_context(|| format!("PIDLIST_SEED={seed}"))?;
    drop((device, idle));
    // Nothing holds the module any more, nor does it hold anything.
    module::reload()
}

/// Fails unless all lists are what they should be, and empty in the end.
fn is_sane(device: &Device) -> Result<()> {
    let threads: std::collections::BTreeSet<u32> = proc::processes()?
        .into_iter()
        .flat_map(|pid| proc::threads(pid).unwrap_or_default())
        .collect();
    for name in device.lists()?.into_keys() {
        let list = device.list(&name)?;
        // Bounds may be low yet.
        let rules = list.stats()?.rules as u32;
        list.set_rules(rules & !abi::RULE_FOLLOW, abi::BYTES_DEFAULT)?;
        until(&format!("{name} has living members only"), || {
            let members = list.members()?;
            let stats = list.stats()?;
            Ok(members.is_subset(&threads) && stats.waiting == 0)
        })?;
        let (members, stats) = (list.sequence()?, list.stats()?);
        ensure!(members.is_sorted_by(|a, b| a < b), "{name}: {members:?}");
        ensure!(
            stats.members == members.len() as u64,
            "{name}: {stats:?}, {members:?}"
        );
        ensure!(stats.event_readers == 0, "{name}: {stats:?}");
        for &pid in &members {
            ensure!(list.has(pid)?, "{name}: HAS of {pid}");
        }
        let text: String = members.iter().map(|pid| format!("{pid}\n")).collect();
        ensure!(list.read()? == text, "{name}");
        list.clear()?;
        ensure!(list.stats()?.members == 0 && list.members()?.is_empty());
        if name != abi::DEFAULT_LIST {
            device.delete(&name)?;
        }
    }
    let module = device.module()?;
    ensure!(
        module.lists == 1 && module.members == 0 && module.created == module.deleted + 1,
        "{module:?}"
    );
    Ok(())
}

enum Open {
    List(Device),
    Events(Events),
}

/// One thread's random calls.
struct Fuzzer<'a> {
    random: fastrand::Rng,
    memory: Memory,
    open: Vec<Open>,
    pids: &'a [u32],
    cursor: u64,
    done: usize,
    refused: usize,
}

impl<'a> Fuzzer<'a> {
    fn new(seed: u64, pids: &'a [u32]) -> Result<Self> {
        Ok(Self {
            random: fastrand::Rng::with_seed(seed),
            memory: Memory::new()?,
            open: vec![Open::List(Device::open()?)],
            pids,
            cursor: 0,
            done: 0,
            refused: 0,
        })
    }

    /// Calls that did something, and calls that were refused.
    fn counts(&self) -> [usize; 2] {
        [self.done, self.refused]
    }

    fn one_of<T: Copy>(&mut self, some: &[T]) -> T {
        some[self.random.usize(..some.len())]
    }

    /// Whether something rare is to be done, once in `n`.
    fn rarely(&mut self, n: u32) -> bool {
        self.random.u32(..n) == 0
    }

    /// One call, and whether its result is among those that it may have.
    fn call(&mut self) -> Result<()> {
        if self.rarely(20) || self.open.is_empty() {
            return self.open_or_close();
        }
        let i = self.random.usize(..self.open.len());
        // Out of its place, so that it can be used while `self` is.
        let open = self.open.swap_remove(i);
        let result = match &open {
            Open::List(list) => self.use_list(list),
            Open::Events(events) => self.use_events(events),
        };
        self.open.push(open);
        if self.open.len() > 24 {
            let i = self.random.usize(..self.open.len());
            self.open.swap_remove(i);
        }
        result
    }

    /// Counts a result, which has to be a documented one.
    fn judge<T>(
        &mut self,
        what: impl FnOnce() -> String,
        result: crate::sys::Result<T>,
        may_be: &[Errno],
    ) -> Result<Option<T>> {
        match result {
            Ok(value) => {
                self.done += 1;
                Ok(Some(value))
            }
            Err(error) => {
                self.refused += 1;
                ensure!(may_be.contains(&error), "{}: {error:?}", what());
                Ok(None)
            }
        }
    }

    fn open_or_close(&mut self) -> Result<()> {
        if self.rarely(3) && self.open.len() > 1 {
            let i = self.random.usize(..self.open.len());
            self.open.swap_remove(i);
            return Ok(());
        }
        let flags = self.one_of(&[OFlags::RDWR, OFlags::RDWR, OFlags::RDONLY, OFlags::WRONLY]);
        self.open.push(Open::List(Device::open_with(flags)?));
        Ok(())
    }

    fn pid(&mut self) -> u32 {
        match self.random.u32(..20) {
            0 => self.random.u32(..70_000),
            1 => {
                let odd = [0, 1, 2, 1 << 22, (1 << 30) - 1, 1 << 30, u32::MAX];
                self.one_of(&odd)
            }
            2 => self.random.u32(..),
            _ => self.one_of(self.pids),
        }
    }

    fn flags(&mut self, right: &[u32]) -> u32 {
        match self.random.u32(..30) {
            0 => self.random.u32(..),
            1 => 1 << self.random.u32(..32),
            _ => self.one_of(right),
        }
    }

    fn name(&mut self) -> abi::Name {
        match self.random.u32(..30) {
            0 => [0; abi::NAME_LEN],
            1 => name(abi::DEFAULT_LIST),
            2 => {
                let mut name = name("fuzz-1");
                name[self.random.usize(..abi::NAME_LEN)] = self.random.u8(..);
                name
            }
            3 => [self.random.u8(..); abi::NAME_LEN],
            _ => name(&format!("fuzz-{}", self.random.u32(..10))),
        }
    }

    /// An address with room for `len` bytes, or with less, or a bad one.
    fn address(&mut self, len: usize) -> Address {
        match self.random.u32(..40) {
            0 => self.one_of(&[
                Address::NULL,
                Address::KERNEL,
                Address::NOWHERE,
                Address::LAST,
                self.memory.unmapped(),
            ]),
            1 => {
                let less = self.random.usize(..=len);
                self.memory.tail(less)
            }
            2 => self.memory.tail(len),
            _ => {
                let at = self.random.usize(..ROOM - len);
                self.memory.at(at)
            }
        }
    }

    /// Puts as much of `bytes` to `address` as is mapped.
    fn put(&mut self, address: Address, bytes: &[u8]) {
        let start = self.memory.at(0).number();
        let end = self.memory.unmapped().number();
        if (start..=end).contains(&address.number()) {
            let fits = bytes.len().min((end - address.number()) as usize);
            self.memory.put(address, &bytes[..fits]);
        }
    }

    /// An argument somewhere.
    fn argument(&mut self, bytes: &[u8]) -> Address {
        let address = self.address(bytes.len());
        self.put(address, bytes);
        address
    }

    fn length(&mut self) -> u32 {
        let (few, some) = (self.random.u32(..8), self.random.u32(..=abi::BATCH_MAX));
        let odd = [0, abi::BATCH_MAX, abi::BATCH_MAX + 1, u32::MAX];
        match self.random.u32(..20) {
            0 => self.one_of(&odd),
            1 => some,
            _ => few,
        }
    }

    fn pids(&mut self) -> Address {
        let len = self.length();
        let flags = self.flags(&[0, 0, 0, abi::PIDS_RANGES, abi::PIDS_TREE]);
        let numbers = len.min(abi::BATCH_MAX + 1) as usize * 2;
        let mut bytes = Vec::with_capacity(numbers * 4);
        let mut before = 1;
        for i in 0..numbers {
            let pid = self.pid();
            // Ranges that begin after their end are not worth so many tries.
            let pid = if i % 2 == 1 && !self.rarely(50) {
                pid.max(before)
            } else {
                pid
            };
            bytes.extend(pid.to_ne_bytes());
            before = pid;
        }
        let addr = self.argument(&bytes).number();
        self.argument(&abi::Pids { addr, len, flags }.bytes())
    }

    fn bytes_max(&mut self) -> u64 {
        let any = self.random.u64(..);
        let right = [
            0,
            abi::BYTES_MIN,
            abi::BYTES_DEFAULT,
            abi::BYTES_DEFAULT,
            u64::MAX,
        ];
        if self.rarely(20) {
            any
        } else {
            self.one_of(&right)
        }
    }

    fn rules(&mut self) -> u32 {
        const F: u32 = abi::RULE_FOLLOW;
        const E: u32 = abi::RULE_EXCLUDE;
        const T: u32 = abi::RULE_THREADS;
        self.flags(&[0, F, F, F, E, F | E, T, F | T, F | E | T])
    }

    fn use_list(&mut self, list: &Device) -> Result<()> {
        // What any call may say: the list is gone, the address is bad, nothing it knows, for reading
        // only, only a view.
        const ANY: [Errno; 5] = [
            Errno::NODEV,
            Errno::FAULT,
            Errno::INVAL,
            Errno::BADF,
            Errno::OPNOTSUPP,
        ];
        let may_be = |more: &[Errno]| [&ANY[..], more].concat();
        let nothing = may_be(&[]);
        match self.random.u32(..100) {
            0..30 => {
                let opcode = self.one_of(&[abi::ADD, abi::ADD, abi::REMOVE]);
                let at = self.pids();
                let result = self.memory.ioctl(list, opcode, at);
                let what = || format!("{opcode:#x} at {at:?}");
                let may_be = may_be(&[Errno::SRCH, Errno::TOOBIG, Errno::NOSPC]);
                self.judge(what, result, &may_be)?;
            }
            30..38 => {
                let pid = self.pid();
                let at = self.argument(&pid.to_ne_bytes());
                let result = self.memory.ioctl(list, abi::HAS, at);
                self.judge(|| format!("HAS of {pid}"), result, &nothing)?;
            }
            38..48 => self.span(list, &may_be(&[Errno::TOOBIG]))?,
            48 => {
                let at = self.address(0);
                let result = self.memory.ioctl(list, abi::CLEAR, at);
                self.judge(|| "CLEAR".into(), result, &nothing)?;
            }
            49..54 => {
                let rules = abi::Rules {
                    flags: self.rules(),
                    reserved: u32::from(self.rarely(40)),
                    bytes_max: self.bytes_max(),
                };
                let at = self.argument(&rules.bytes());
                let result = self.memory.ioctl(list, abi::RULES, at);
                self.judge(|| format!("{rules:?}"), result, &nothing)?;
            }
            54..60 => {
                let (opcode, len) = self.one_of(&[
                    (abi::STATS, size_of::<abi::Stats>()),
                    (abi::MODULE, size_of::<abi::Module>()),
                    (abi::INFO, size_of::<abi::Info>()),
                ]);
                let at = self.address(len);
                let result = self.memory.ioctl(list, opcode, at);
                self.judge(|| format!("{opcode:#x}"), result, &nothing)?;
            }
            60..63 => {
                let bytes = self.random.u32(..12).to_ne_bytes();
                let mut argument = vec![0; size_of::<abi::List>()];
                argument[abi::NAME_LEN..][..4].copy_from_slice(&bytes);
                let at = self.argument(&argument);
                let result = self.memory.ioctl(list, abi::LIST, at);
                self.judge(|| "LIST".into(), result, &may_be(&[Errno::NOENT]))?;
            }
            63..70 => self.open(
                list,
                &may_be(&[Errno::NAMETOOLONG, Errno::NOENT, Errno::EXIST, Errno::NOSPC]),
            )?,
            70..72 => {
                let name = self.name();
                let at = self.argument(&name);
                let result = self.memory.ioctl(list, abi::DELETE, at);
                let may_be = may_be(&[Errno::NAMETOOLONG, Errno::NOENT, Errno::BUSY]);
                self.judge(|| format!("DELETE of {name:?}"), result, &may_be)?;
            }
            72..75 => {
                let events = abi::Events {
                    from: self.one_of(&[0, 0, 1, 2, 100, u64::MAX]),
                    flags: u64::from(self.rarely(30)),
                };
                let at = self.argument(&events.bytes());
                let result = self.memory.descriptor(list, abi::EVENTS, at);
                let result = self.judge(|| format!("{events:?}"), result, &nothing)?;
                if let Some(fd) = result {
                    self.open
                        .push(Open::Events(Events(fd.into()).nonblocking()?));
                }
            }
            75..80 => {
                let opcode = self.opcode();
                let at = self.address(256);
                let result = self.memory.ioctl(list, opcode, at);
                // A bit beside a right one may be another one.
                let may_be = may_be(&[
                    Errno::NOTTY,
                    Errno::TOOBIG,
                    Errno::SRCH,
                    Errno::NAMETOOLONG,
                    Errno::NOENT,
                ]);
                self.judge(|| format!("ioctl {opcode:#x}"), result, &may_be)?;
            }
            80..90 => {
                let text = self.text();
                let at = self.argument(&text);
                let result = self.memory.write(list.as_fd(), at, text.len());
                let may_be = may_be(&[Errno::SRCH, Errno::TOOBIG, Errno::NOSPC]);
                let what = || format!("text {:?}", String::from_utf8_lossy(&text));
                self.judge(what, result, &may_be)?;
            }
            90..97 => {
                let most = if self.rarely(4) { 20_000 } else { 20 };
                let len = self.random.usize(..most);
                let at = self.address(len);
                let result = self.memory.read(list.as_fd(), at, len);
                self.judge(|| "a read".into(), result, &nothing)?;
            }
            97 => {
                let sought = rustix::fs::seek(list, rustix::fs::SeekFrom::Start(8));
                ensure!(sought == Err(Errno::SPIPE), "seeking: {sought:?}");
                poll(
                    &mut [PollFd::new(list, PollFlags::all())],
                    Some(&Timespec::default()),
                )?;
            }
            _ => {
                brief_child()?;
            }
        }
        Ok(())
    }

    fn span(&mut self, list: &Device, may_be: &[Errno]) -> Result<()> {
        let (len, flags) = (self.length(), self.flags(&[0, abi::SPAN_IDS]));
        let room = len.min(abi::BATCH_MAX) as usize * 8;
        let cursors = [0, self.cursor, self.cursor, self.random.u64(..)];
        let span = abi::Span {
            addr: self.address(room).number(),
            len,
            flags,
            cursor: self.one_of(&cursors),
        };
        let at = self.argument(&span.bytes());
        // What is mapped in part is no span of ours.
        let result = self.memory.ioctl(list, abi::SPAN, at);
        let count = self.judge(|| format!("{span:?}"), result, may_be)?;
        if let Some(count) = count {
            ensure!(count <= len as usize, "{count} for {span:?}");
            let after = self.memory.get(at, size_of::<abi::Span>());
            let cursor = after.last_chunk().context("a span")?;
            self.cursor = u64::from_ne_bytes(*cursor);
        }
        Ok(())
    }

    fn open(&mut self, list: &Device, may_be: &[Errno]) -> Result<()> {
        const NEW: u32 = abi::OPEN_CREATE;
        let flags = self.flags(&[0, NEW, NEW, NEW | abi::OPEN_TEMPORARY, abi::OPEN_UNION]);
        let make = flags & NEW != 0 || self.rarely(10);
        let open = abi::Open {
            name: if flags == abi::OPEN_UNION {
                [0; abi::NAME_LEN]
            } else {
                self.name()
            },
            flags,
            rules: if make { self.rules() } else { 0 },
            bytes_max: if make { self.bytes_max() } else { 0 },
        };
        let at = self.argument(&open.bytes());
        let result: crate::sys::Result<OwnedFd> = self.memory.descriptor(list, abi::OPEN, at);
        if let Some(fd) = self.judge(|| format!("{open:?}"), result, may_be)? {
            self.open.push(Open::List(Device(fd.into())));
        }
        Ok(())
    }

    /// An ioctl that no descriptor here returns anything for, but perhaps nearly one.
    fn opcode(&mut self) -> u32 {
        let known = [
            abi::INFO,
            abi::ADD,
            abi::REMOVE,
            abi::HAS,
            abi::CLEAR,
            abi::RULES,
            abi::STATS,
            abi::DELETE,
            abi::LIST,
            abi::MODULE,
        ];
        let near = self.one_of(&known) ^ 1 << self.random.u32(..32);
        // Some are the kernel's own, for any file; and those that make descriptors would leak them.
        let ours = [abi::OPEN, abi::EVENTS, abi::SPAN];
        if near >> 8 & 0xff == 0xbd && !ours.contains(&near) {
            near
        } else {
            0xbd00 | self.random.u32(13..256) | self.random.u32(..1 << 16) << 16
        }
    }

    fn text(&mut self) -> Vec<u8> {
        let mut text = String::new();
        for _ in 0..self.length().min(2000) {
            let (pid, other) = (self.pid(), self.pid());
            match self.random.u32(..60) {
                0 => text.push_str(&format!("{pid}-{other} ")),
                1..4 => text.push_str(&format!("{}-{}\n", pid.min(other), pid.max(other))),
                4..8 => text.push_str(&format!("!{}-{}\n", pid.min(other), pid.max(other))),
                8..28 => text.push_str(&format!("!{pid} ")),
                _ => text.push_str(&format!("{pid}\n")),
            }
        }
        let mut bytes = text.into_bytes();
        if self.rarely(8) && !bytes.is_empty() {
            let at = self.random.usize(..bytes.len());
            match self.random.u32(..3) {
                0 => bytes[at] = self.random.u8(..),
                1 => bytes.truncate(at),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    }

    fn use_events(&mut self, events: &Events) -> Result<()> {
        let event = size_of::<abi::Event>();
        match self.random.u32(..10) {
            0 => {
                let opcode = self.one_of(&[abi::INFO, abi::STATS, abi::CLEAR, abi::ADD, 0xbd42]);
                let at = self.address(256);
                let result = self.memory.ioctl(events, opcode, at);
                self.judge(|| format!("{opcode:#x}"), result, &[Errno::NOTTY])?;
            }
            1 => {
                let mut fds = [PollFd::new(events, PollFlags::all())];
                poll(&mut fds, Some(&Timespec::default()))?;
            }
            _ => {
                let len = self.random.usize(..10 * event);
                let at = self.address(len);
                let result = self.memory.read(events.as_fd(), at, len);
                let may_be = [Errno::INVAL, Errno::AGAIN, Errno::FAULT];
                let count = self.judge(|| format!("a read of {len}"), result, &may_be)?;
                ensure!(
                    count.is_none_or(|count| count % event == 0),
                    "{count:?} bytes"
                );
                ensure!(len >= event || count.is_none(), "{count:?} bytes of {len}");
            }
        }
        Ok(())
    }
}
