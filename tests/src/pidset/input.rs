//! Wrong input: each is refused by its errno, and has changed nothing.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, ensure};
use pidlist_abi::pidset as abi;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{State, gone, refused, start};
use crate::Test;
use crate::sys;
use crate::sys::device::{Device, Events, name};
use crate::sys::memory::{Address, Bytes, Memory};
use crate::sys::task::Idle;

pub const TESTS: &[(&str, Test)] = &[
    ("input: ioctls that are none", unknown_ioctls),
    ("input: arguments at wrong addresses", wrong_addresses),
    ("input: arrays at wrong addresses", wrong_array_addresses),
    ("input: addresses need not be aligned", misaligned_addresses),
    ("input: pids, lengths and flags", pids_lengths_flags),
    ("input: rules", rules),
    ("input: names", names),
    ("input: what to open", what_to_open),
    ("input: what to read of events", events),
    ("input: buffers of reads and writes", buffers),
    ("input: no descriptor is to be had", no_descriptor),
];

/// Lists with something in them, and every kind of descriptor.
struct Scene {
    device: Device,
    list: Device,
    threads: Device,
    union: Device,
    reader: Device,
    events: Events,
    memory: Memory,
    idle: Vec<Idle>,
    state: State,
}

impl Scene {
    fn set() -> Result<Self> {
        let device = start()?;
        let idle = Idle::several(4)?;
        let list = device.create("scene", abi::RULE_FOLLOW)?;
        let threads = device.create("threads", abi::RULE_THREADS | abi::RULE_EXCLUDE)?;
        device.add(&[idle[0].pid(), idle[1].pid()])?;
        list.add(&[idle[1].pid(), idle[2].pid()])?;
        threads.add(&[idle[3].pid()])?;
        let (union, reader) = (device.union()?, Device::open_with(OFlags::RDONLY)?);
        let events = list.events(0)?.nonblocking()?;
        Ok(Self {
            state: State::of(&device)?,
            memory: Memory::new()?,
            device,
            list,
            threads,
            union,
            reader,
            events,
            idle,
        })
    }

    /// A pid that is in no list but could be.
    fn pid(&self) -> u32 {
        self.idle[3].pid()
    }

    /// Fails unless an ioctl on the default list's descriptor gives this error and changes nothing.
    fn refuses(&mut self, what: &str, opcode: u32, argument: &[u8], errno: Errno) -> Result<()> {
        let address = self.memory.tail(argument.len());
        self.memory.put(address, argument);
        let result = self.memory.ioctl(&self.device, opcode, address);
        refused(what, result, errno)?;
        self.state
            .is_kept(&self.device)
            .with_context(|| what.to_owned())
    }

    /// As [`Scene::refuses`], for an argument at any address.
    fn refuses_at(&mut self, what: &str, opcode: u32, at: Address, errno: Errno) -> Result<()> {
        let result = self.memory.ioctl(&self.device, opcode, at);
        refused(what, result, errno)?;
        self.state
            .is_kept(&self.device)
            .with_context(|| what.to_owned())
    }

    /// An argument for changes: an array that is in the memory.
    fn pids(&mut self, elements: &[u32], flags: u32) -> abi::Pids {
        let bytes: Vec<u8> = elements.iter().flat_map(|pid| pid.to_ne_bytes()).collect();
        let at = self.memory.at(0);
        self.memory.put(at, &bytes);
        let ranges = flags & abi::PIDS_RANGES != 0;
        abi::Pids {
            addr: at.number(),
            len: elements.len() as u32 / if ranges { 2 } else { 1 },
            flags,
        }
    }
}

/// Every ioctl with an argument, its name, and one that would be right.
fn with_argument(scene: &Scene) -> Vec<(&'static str, u32, Vec<u8>)> {
    let array = scene.memory.at(0).number();
    let pids = abi::Pids {
        addr: array,
        len: 1,
        flags: 0,
    };
    let span = abi::Span {
        addr: array,
        len: 1,
        flags: 0,
        cursor: 0,
    };
    let rules = abi::Rules {
        flags: 0,
        reserved: 0,
        bytes_max: abi::BYTES_MIN,
    };
    let open = abi::Open {
        name: name("new"),
        flags: abi::OPEN_CREATE,
        rules: 0,
        bytes_max: abi::BYTES_MIN,
    };
    let events = abi::Events { from: 0, flags: 0 };
    vec![
        ("INFO", abi::INFO, vec![0; size_of::<abi::Info>()]),
        ("ADD", abi::ADD, pids.bytes()),
        ("REMOVE", abi::REMOVE, pids.bytes()),
        ("HAS", abi::HAS, scene.pid().to_ne_bytes().to_vec()),
        ("SPAN", abi::SPAN, span.bytes()),
        ("RULES", abi::RULES, rules.bytes()),
        ("STATS", abi::STATS, vec![0; size_of::<abi::Stats>()]),
        ("OPEN", abi::OPEN, open.bytes()),
        ("DELETE", abi::DELETE, name("scene").to_vec()),
        ("LIST", abi::LIST, vec![0; size_of::<abi::List>()]),
        ("MODULE", abi::MODULE, vec![0; size_of::<abi::Module>()]),
        ("EVENTS", abi::EVENTS, events.bytes()),
    ]
}

fn unknown_ioctls() -> Result<()> {
    let mut scene = Scene::set()?;
    let mut unknown = vec![0, 1, u32::MAX, 0xbd, 0xbd00, 0x8000_bd00];
    for (_, opcode, _) in with_argument(&scene) {
        // Of another direction, size, magic and number.
        unknown.extend([
            opcode ^ 1 << 30,
            opcode ^ 1 << 31,
            opcode ^ 1 << 16,
            opcode + (8 << 16),
            opcode ^ 1 << 8,
            opcode ^ 0x80,
        ]);
    }
    unknown.extend([abi::CLEAR ^ 1 << 30, abi::CLEAR ^ 0x40, abi::EVENTS + 1]);
    let known: Vec<u32> = with_argument(&scene)
        .into_iter()
        .map(|(_, opcode, _)| opcode)
        .collect();
    unknown.retain(|opcode| !known.contains(opcode) && *opcode != abi::CLEAR);
    ensure!(unknown.len() > 60);
    for opcode in unknown {
        for at in [Address::NULL, scene.memory.at(0)] {
            scene.refuses_at(&format!("ioctl {opcode:#x}"), opcode, at, Errno::NOTTY)?;
        }
    }
    // A descriptor of events knows none at all.
    for (what, opcode, argument) in with_argument(&scene) {
        let at = scene.memory.tail(argument.len());
        scene.memory.put(at, &argument);
        let result = scene.memory.ioctl(&scene.events, opcode, at);
        refused(&format!("{what} on events"), result, Errno::NOTTY)?;
    }
    let result = scene.memory.ioctl(&scene.events, abi::CLEAR, Address::NULL);
    refused("CLEAR on events", result, Errno::NOTTY)?;
    scene.state.is_kept(&scene.device)
}

fn wrong_addresses() -> Result<()> {
    let mut scene = Scene::set()?;
    let pid = scene.pid().to_ne_bytes();
    let at = scene.memory.at(0);
    scene.memory.put(at, &pid);
    for (what, opcode, argument) in with_argument(&scene) {
        let mut wrong = vec![
            ("at 0", Address::NULL),
            ("in the kernel", Address::KERNEL),
            ("nowhere", Address::NOWHERE),
            ("at the end of it all", Address::LAST),
            ("not mapped", scene.memory.unmapped()),
        ];
        // All that is mapped of it is right.
        for mapped in [1, argument.len() / 2, argument.len() - 1] {
            let at = scene.memory.tail(mapped);
            scene.memory.put(at, &argument[..mapped]);
            wrong.push(("mapped in part", at));
        }
        for (how, at) in wrong {
            if how == "mapped in part" {
                let mapped = (scene.memory.unmapped().number() - at.number()) as usize;
                scene.memory.put(at, &argument[..mapped]);
            }
            scene.refuses_at(&format!("{what}, {how}"), opcode, at, Errno::FAULT)?;
        }
    }
    Ok(())
}

fn wrong_array_addresses() -> Result<()> {
    let mut scene = Scene::set()?;
    let member = scene.idle[0].pid();
    let wrong = |memory: &Memory| {
        [
            Address::NULL,
            Address::KERNEL,
            Address::NOWHERE,
            Address::LAST,
            memory.unmapped(),
        ]
    };
    for flags in [0, abi::PIDS_RANGES, abi::PIDS_TREE] {
        for (what, opcode) in [("ADD", abi::ADD), ("REMOVE", abi::REMOVE)] {
            for at in wrong(&scene.memory) {
                let pids = abi::Pids {
                    addr: at.number(),
                    len: 2,
                    flags,
                };
                let what = format!("{what}, flags {flags}, array at {at:?}");
                scene.refuses(&what, opcode, &pids.bytes(), Errno::FAULT)?;
            }
            // Its first elements can be read, and are right.
            let right = [scene.pid().to_ne_bytes(), scene.pid().to_ne_bytes()].concat();
            let array = scene.memory.tail(right.len());
            scene.memory.put(array, &right);
            let pids = abi::Pids {
                addr: array.number(),
                len: 3,
                flags,
            };
            let at = scene.memory.at(0);
            scene.memory.put(at, &pids.bytes());
            let what = format!("{what}, flags {flags}, array mapped in part");
            scene.refuses_at(&what, opcode, at, Errno::FAULT)?;
        }
    }
    for flags in [0, abi::SPAN_IDS] {
        let element = if flags == 0 { 4 } else { 8 };
        let mut places = wrong(&scene.memory).to_vec();
        // Two members are there, and there is room for one and a half.
        places.push(scene.memory.tail(element + 3));
        for place in places {
            let span = abi::Span {
                addr: place.number(),
                len: 2,
                flags,
                cursor: 0,
            };
            let at = scene.memory.at(0);
            scene.memory.put(at, &span.bytes());
            let what = format!("SPAN, flags {flags}, array at {place:?}");
            scene.refuses_at(&what, abi::SPAN, at, Errno::FAULT)?;
            let after = scene.memory.get(at, size_of::<abi::Span>());
            ensure!(after == span.bytes(), "{what}: its argument was changed");
        }
        // What is not used may be anywhere: there are only two members.
        let place = scene.memory.tail(2 * element);
        let span = abi::Span {
            addr: place.number(),
            len: abi::BATCH_MAX,
            flags,
            cursor: 0,
        };
        let at = scene.memory.at(0);
        scene.memory.put(at, &span.bytes());
        let count = scene.memory.ioctl(&scene.device, abi::SPAN, at);
        ensure!(
            matches!(count, Ok(2) | Err(Errno::FAULT)),
            "room that is not needed: {count:?}"
        );
    }
    // With nothing to read or write there, an address means nothing.
    for opcode in [abi::ADD, abi::REMOVE] {
        let pids = abi::Pids {
            addr: Address::NOWHERE.number(),
            len: 0,
            flags: 0,
        };
        let at = scene.memory.at(0);
        scene.memory.put(at, &pids.bytes());
        let result = scene.memory.ioctl(&scene.device, opcode, at)?;
        ensure!(result == 0);
    }
    ensure!(scene.device.has(member)?);
    scene.state.is_kept(&scene.device)
}

fn misaligned_addresses() -> Result<()> {
    let mut scene = Scene::set()?;
    let (a, b) = (scene.idle[2].pid(), scene.idle[3].pid());
    let array = scene.memory.at(1);
    let bytes = [a.to_ne_bytes(), b.to_ne_bytes()].concat();
    scene.memory.put(array, &bytes);
    let pids = abi::Pids {
        addr: array.number(),
        len: 2,
        flags: 0,
    };
    for offset in [1001, 2002, 3003] {
        let at = scene.memory.at(offset);
        scene.memory.put(at, &pids.bytes());
        scene.memory.ioctl(&scene.device, abi::ADD, at)?;
        ensure!(scene.device.has(a)? && scene.device.has(b)?);
        scene.memory.put(at, &b.to_ne_bytes());
        ensure!(scene.memory.ioctl(&scene.device, abi::HAS, at)? == 1);
        let place = scene.memory.at(5001);
        let span = abi::Span {
            addr: place.number(),
            len: 100,
            flags: 0,
            cursor: 0,
        };
        scene.memory.put(at, &span.bytes());
        let count = scene.memory.ioctl(&scene.device, abi::SPAN, at)?;
        let expected: Vec<u8> = scene
            .device
            .sequence()?
            .iter()
            .flat_map(|pid| pid.to_ne_bytes())
            .collect();
        ensure!(count == 4 && scene.memory.get(place, 16) == expected);
        scene.memory.put(at, &pids.bytes());
        scene.memory.ioctl(&scene.device, abi::REMOVE, at)?;
        ensure!(!scene.device.has(a)? && !scene.device.has(b)?);
        scene.memory.ioctl(&scene.device, abi::INFO, at)?;
        let version = scene.memory.get(at, 4);
        ensure!(version == abi::VERSION.to_ne_bytes());
    }
    Ok(())
}

fn pids_lengths_flags() -> Result<()> {
    let mut scene = Scene::set()?;
    let (pid, gone, max) = (scene.pid(), gone()?, scene.device.info()?.pid_max);
    let wrong_pids = [0, max + 1, 1 << 31, u32::MAX];
    for wrong in wrong_pids {
        scene.refuses(
            &format!("HAS of {wrong}"),
            abi::HAS,
            &wrong.to_ne_bytes(),
            Errno::INVAL,
        )?;
        for flags in [0, abi::PIDS_TREE, abi::PIDS_RANGES] {
            for opcode in [abi::ADD, abi::REMOVE] {
                let argument = scene.pids(&[pid, pid, wrong, wrong], flags);
                let what = format!("{opcode:#x} with flags {flags} of {wrong}");
                scene.refuses(&what, opcode, &argument.bytes(), Errno::INVAL)?;
            }
        }
    }
    for flags in [0, abi::PIDS_TREE] {
        let argument = scene.pids(&[pid, gone], flags);
        scene.refuses(
            "ADD of a gone pid",
            abi::ADD,
            &argument.bytes(),
            Errno::SRCH,
        )?;
    }
    for opcode in [abi::ADD, abi::REMOVE] {
        // Room there is, and the pids are right.
        let many = vec![pid; abi::BATCH_MAX as usize + 1];
        for flags in [0, abi::PIDS_TREE] {
            let argument = scene.pids(&many, flags);
            scene.refuses("too many", opcode, &argument.bytes(), Errno::TOOBIG)?;
        }
        let mut argument = scene.pids(&[pid], 0);
        argument.len = u32::MAX;
        scene.refuses("far too many", opcode, &argument.bytes(), Errno::TOOBIG)?;
        let unknown = [4, 8, 1 << 31, abi::PIDS_RANGES | abi::PIDS_TREE, u32::MAX];
        for flags in unknown {
            let mut argument = scene.pids(&[pid, pid], 0);
            (argument.len, argument.flags) = (1, flags);
            scene.refuses(
                &format!("flags {flags:#x}"),
                opcode,
                &argument.bytes(),
                Errno::INVAL,
            )?;
        }
    }
    let span = abi::Span {
        addr: scene.memory.at(0).number(),
        len: 1,
        flags: 0,
        cursor: 0,
    };
    for len in [abi::BATCH_MAX + 1, u32::MAX] {
        let argument = abi::Span { len, ..span };
        scene.refuses(
            "SPAN, too long",
            abi::SPAN,
            &argument.bytes(),
            Errno::TOOBIG,
        )?;
    }
    for flags in [2, 4, 1 << 31, u32::MAX] {
        let argument = abi::Span { flags, ..span };
        scene.refuses("SPAN, flags", abi::SPAN, &argument.bytes(), Errno::INVAL)?;
    }
    // A cursor that no call has left says nothing about what comes.
    for cursor in [
        1,
        u64::from(max),
        u64::from(max) + 1,
        1 << 33,
        u64::MAX - 1,
        u64::MAX,
    ] {
        let argument = abi::Span { cursor, ..span };
        let at = scene.memory.at(100);
        scene.memory.put(at, &argument.bytes());
        let result = scene.memory.ioctl(&scene.device, abi::SPAN, at);
        ensure!(
            matches!(result, Ok(0 | 1) | Err(Errno::INVAL)),
            "cursor {cursor:#x}: {result:?}"
        );
    }
    scene.state.is_kept(&scene.device)
}

fn rules() -> Result<()> {
    let mut scene = Scene::set()?;
    let right = abi::Rules {
        flags: abi::RULE_FOLLOW,
        reserved: 0,
        bytes_max: 0,
    };
    let all = abi::RULE_FOLLOW | abi::RULE_EXCLUDE;
    for flags in [abi::RULE_THREADS, all + 4, 8, 1 << 31, u32::MAX] {
        let rules = abi::Rules { flags, ..right };
        scene.refuses(
            &format!("flags {flags:#x}"),
            abi::RULES,
            &rules.bytes(),
            Errno::INVAL,
        )?;
    }
    for reserved in [1, u32::MAX] {
        let rules = abi::Rules { reserved, ..right };
        scene.refuses("reserved bits", abi::RULES, &rules.bytes(), Errno::INVAL)?;
    }
    for bytes_max in [1, abi::BYTES_MIN - 1] {
        let rules = abi::Rules { bytes_max, ..right };
        scene.refuses("a low bound", abi::RULES, &rules.bytes(), Errno::INVAL)?;
    }
    // A list of threads stays one.
    refused(
        "threads",
        scene.threads.set_rules(abi::RULE_EXCLUDE, 0),
        Errno::INVAL,
    )?;
    refused(
        "processes",
        scene.list.set_rules(abi::RULE_THREADS, 0),
        Errno::INVAL,
    )?;
    refused("the union", scene.union.set_rules(0, 0), Errno::OPNOTSUPP)?;
    refused("a reader", scene.reader.set_rules(0, 0), Errno::BADF)?;
    scene.state.is_kept(&scene.device)?;
    // However large, a bound is one.
    scene.list.set_rules(abi::RULE_FOLLOW, u64::MAX)?;
    ensure!(scene.list.stats()?.bytes_max == u64::MAX);
    Ok(())
}

/// Names that are none, and why.
fn wrong_names() -> Vec<(abi::Name, Errno)> {
    let mut wrong: Vec<(abi::Name, Errno)> = [
        "",
        "/",
        "a/b",
        "../a",
        ".",
        "..",
        ".a",
        "-a",
        "_a",
        ":a",
        "@a",
        "+a",
        "a b",
        " a",
        "a ",
        "a\n",
        "a\t",
        "\u{1}a",
        "a\u{7f}",
        "a\u{1b}[2J",
        "a%s",
        "a*",
        "a,b",
        "a=b",
        "a\\b",
        "a'b",
        "a\"b",
        "(a)",
        "caf\u{e9}",
        "\u{540d}",
        "a~",
    ]
    .into_iter()
    .map(|text| (name(text), Errno::INVAL))
    .collect();
    // Whatever is behind the end counts: a client with garbage there has a bug.
    let mut garbage = name("a");
    garbage[2] = b'b';
    wrong.push((garbage, Errno::INVAL));
    garbage = name("a");
    garbage[abi::NAME_LEN - 1] = 0xff;
    wrong.push((garbage, Errno::INVAL));
    garbage = [0; abi::NAME_LEN];
    garbage[1] = b'a';
    wrong.push((garbage, Errno::INVAL));
    let mut bytes = name("a");
    for byte in [0x80, 0xc3, 0xff] {
        bytes[1] = byte;
        wrong.push((bytes, Errno::INVAL));
    }
    wrong.push(([b'a'; abi::NAME_LEN], Errno::NAMETOOLONG));
    wrong.push(([0xff; abi::NAME_LEN], Errno::NAMETOOLONG));
    wrong.push(([b'/'; abi::NAME_LEN], Errno::NAMETOOLONG));
    wrong
}

fn names() -> Result<()> {
    let mut scene = Scene::set()?;
    for (wrong, errno) in wrong_names() {
        let what = String::from_utf8_lossy(&wrong).into_owned();
        scene.refuses(&format!("DELETE of {what:?}"), abi::DELETE, &wrong, errno)?;
        for (flags, bytes_max) in [
            (0, 0),
            (abi::OPEN_CREATE, abi::BYTES_MIN),
            (abi::OPEN_CREATE | abi::OPEN_TEMPORARY, abi::BYTES_MIN),
        ] {
            let open = abi::Open {
                name: wrong,
                flags,
                rules: 0,
                bytes_max,
            };
            scene.refuses(
                &format!("OPEN of {what:?}"),
                abi::OPEN,
                &open.bytes(),
                errno,
            )?;
        }
    }
    Ok(())
}

fn what_to_open() -> Result<()> {
    let mut scene = Scene::set()?;
    let create = abi::OPEN_CREATE;
    let (temporary, union) = (abi::OPEN_TEMPORARY, abi::OPEN_UNION);
    let bytes = abi::BYTES_MIN;
    let wrong = [
        ("no flags, but rules", "scene", 0, abi::RULE_FOLLOW, 0),
        ("no flags, but a bound", "scene", 0, 0, bytes),
        ("temporary, not made", "scene", temporary, 0, 0),
        ("temporary, not made, not there", "new", temporary, 0, 0),
        ("the union with a name", "scene", union, 0, 0),
        ("the union, made", "", union | create, 0, bytes),
        ("the union, made, by name", "new", union | create, 0, bytes),
        ("the union, temporary", "", union | temporary, 0, 0),
        ("the union with rules", "", union, abi::RULE_EXCLUDE, 0),
        ("the union with a bound", "", union, 0, bytes),
        ("an unknown flag", "scene", 8, 0, 0),
        ("all flags", "scene", u32::MAX, 0, 0),
        ("an unknown flag to make", "new", create | 1 << 31, 0, bytes),
        ("an unknown rule", "new", create, 8, bytes),
        ("all rules", "new", create, u32::MAX, bytes),
        ("a bound too low", "new", create, 0, bytes - 1),
    ];
    for (what, list, flags, rules, bytes_max) in wrong {
        let open = abi::Open {
            name: name(list),
            flags,
            rules,
            bytes_max,
        };
        scene.refuses(what, abi::OPEN, &open.bytes(), Errno::INVAL)?;
    }
    let exists = abi::Open {
        name: name("scene"),
        flags: create | temporary,
        rules: 0,
        bytes_max: bytes,
    };
    scene.refuses(
        "one that is there",
        abi::OPEN,
        &exists.bytes(),
        Errno::EXIST,
    )?;
    // LIST ends where ids end.
    for id in [1000, u32::MAX] {
        refused(
            &format!("list {id}"),
            scene.device.next_list(id),
            Errno::NOENT,
        )?;
    }
    scene.state.is_kept(&scene.device)
}

fn events() -> Result<()> {
    let mut scene = Scene::set()?;
    for flags in [1, 1 << 32, u64::MAX] {
        let argument = abi::Events { from: 0, flags };
        scene.refuses(
            "EVENTS, flags",
            abi::EVENTS,
            &argument.bytes(),
            Errno::INVAL,
        )?;
    }
    refused("of the union", scene.union.events(0), Errno::OPNOTSUPP)?;
    let next = scene.list.stats()?.events + 1;
    for from in [next + 1, next + abi::EVENTS_KEPT, u64::MAX - 1, u64::MAX] {
        refused(
            &format!("event {from}"),
            scene.list.events(from),
            Errno::INVAL,
        )?;
    }
    drop(scene.list.events(next)?);
    scene.state.is_kept(&scene.device)?;
    // There are events, which a bad buffer does not lose.
    let (list, pid) = (&scene.list, scene.idle[0].pid());
    list.add(&[pid])?;
    list.remove(&[pid])?;
    let event = size_of::<abi::Event>();
    let memory = &mut scene.memory;
    let fd = scene.events.as_fd();
    for at in [
        Address::NULL,
        Address::KERNEL,
        Address::NOWHERE,
        Address::LAST,
        memory.unmapped(),
        memory.tail(event - 1),
    ] {
        let result = memory.read(fd, at, 4 * event);
        refused(&format!("events to {at:?}"), result, Errno::FAULT)?;
    }
    // Room for one, and a piece that cannot be written.
    let one = memory.tail(event + 8);
    let result = memory.read(fd, one, 2 * event);
    ensure!(
        result == Ok(event) || result == Err(Errno::FAULT),
        "room for one: {result:?}"
    );
    let rest = scene.events.ready()?;
    let expected = if result.is_ok() { 1 } else { 2 };
    ensure!(
        rest.len() == expected && rest.iter().all(|e| e.lost == 0),
        "{rest:?}"
    );
    Ok(())
}

fn buffers() -> Result<()> {
    let mut scene = Scene::set()?;
    let memory = &mut scene.memory;
    let wrong = [
        Address::NULL,
        Address::KERNEL,
        Address::NOWHERE,
        Address::LAST,
        memory.unmapped(),
    ];
    let lists = [&scene.device, &scene.list, &scene.threads, &scene.union];
    for list in lists {
        for at in wrong {
            let result = memory.read(list.as_fd(), at, 100);
            refused(&format!("a read to {at:?}"), result, Errno::FAULT)?;
        }
        // Where a part of it can be written, that part counts, or nothing does.
        let at = memory.tail(3);
        let part = memory.read(list.as_fd(), at, 100);
        ensure!(
            matches!(part, Ok(3) | Err(Errno::FAULT)),
            "a read to three bytes: {part:?}"
        );
        let begun = String::from_utf8(memory.get(at, part.unwrap_or(0)))?;
        // Nothing was read by those that failed.
        let expected: String = list
            .sequence()?
            .iter()
            .map(|pid| format!("{pid}\n"))
            .collect();
        let text = begun + &list.read()?;
        ensure!(text == expected, "{text:?}, not {expected:?}");
    }
    let text = format!("{} \n", scene.idle[3].pid());
    for at in wrong {
        let result = memory.write(scene.device.as_fd(), at, 100);
        refused(&format!("a write from {at:?}"), result, Errno::FAULT)?;
    }
    let at = memory.tail(text.len());
    memory.put(at, text.as_bytes());
    let result = memory.write(scene.device.as_fd(), at, text.len() + 1);
    refused("a write that is mapped in part", result, Errno::FAULT)?;
    for len in [(128 << 10) + 1, 1 << 30, usize::MAX >> 1] {
        let result = write_any(memory, scene.device.as_fd(), len);
        ensure!(
            matches!(result, Err(Errno::TOOBIG | Errno::FAULT)),
            "a write of {len}: {result:?}"
        );
    }
    scene.state.is_kept(&scene.device)
}

fn write_any(memory: &mut Memory, fd: BorrowedFd<'_>, len: usize) -> sys::Result<usize> {
    let at = memory.at(0);
    memory.write(fd, at, len)
}

fn no_descriptor() -> Result<()> {
    let scene = Scene::set()?;
    let before = getrlimit(Resource::Nofile);
    let open = std::fs::read_dir("/proc/self/fd")?.count();
    // Whatever is open stays so.
    let few = Rlimit {
        current: Some(open as u64),
        ..before
    };
    let mut filled = Vec::new();
    setrlimit(Resource::Nofile, few)?;
    let refusals = (|| {
        while let Ok(fd) = scene.device.0.try_clone() {
            filled.push(fd);
        }
        let device = &scene.device;
        let temporary = abi::OPEN_TEMPORARY;
        for (what, result) in [
            ("making a list", device.create("new", 0).map(drop)),
            (
                "making a temporary list",
                device
                    .create_with("new", temporary, 0, abi::BYTES_MIN)
                    .map(drop),
            ),
            ("opening a list", device.list("scene").map(drop)),
            ("opening the union", device.union().map(drop)),
            ("opening events", device.events(0).map(drop)),
            ("opening the device", Device::open().map(drop)),
        ] {
            refused(what, result, Errno::MFILE)?;
        }
        Ok(())
    })();
    setrlimit(Resource::Nofile, before)?;
    drop(filled);
    refusals.and_then(|()| scene.state.is_kept(&scene.device))
}
