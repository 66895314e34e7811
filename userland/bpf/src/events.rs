//! Forks, execs and exits, from the ring buffer.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Map, MapData, PerCpuArray, ProgramArray, RingBuf},
    programs::{BtfTracePoint, ProgramError, ProgramFd},
};
use pidlist_abi::{
    layout::MARKS_PER_VALUE,
    record::{self, Exec, Exit, Fork, Header, exec_flag, kind},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    Error, kfunc,
    layout::{Kernel, processor_ids, thread_ids},
    object::Object,
};

/// How events are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of the ring buffer, made a power of two of at least a page. An eighth is for exits
    /// alone. A short-lived process takes about 1.5 KiB.
    pub ring_bytes: u32,
    /// When [`Events`] becomes readable.
    pub wake: Wake,
    /// Whether an exec tells its environment, which may hold secrets.
    pub environment: bool,
}

impl Default for Options {
    /// 8 MiB, a wake-up as soon as there is something, no environment.
    fn default() -> Self {
        Self {
            ring_bytes: 8 << 20,
            wake: Wake::AtOnce,
            environment: false,
        }
    }
}

/// When the reader is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// By the first record after it has caught up.
    AtOnce,
    /// When the ring holds this many bytes. Less work, but the reader has to come by on its own
    /// from time to time, with a timeout. Only a reader that already sleeps is left asleep: poll(2)
    /// does not begin to sleep while there is anything at all.
    AtBytes(u32),
}

/// One event, as it lies in the ring buffer.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A process was made; it has not run yet.
    Fork(&'a Fork),
    /// A process runs a new program, which has not run yet.
    Exec {
        /// The record.
        exec: &'a Exec,
        /// The path as it was given to execve, without NUL.
        path: &'a [u8],
        /// The arguments, each ended by a NUL; see [`record::exec_flag`] for what may be missing.
        args: &'a [u8],
        /// The environment, each variable ended by a NUL, if [`Options::environment`] asks for it.
        env: &'a [u8],
        /// The path of the file that runs: for a script, its interpreter.
        exe: Components<'a>,
        /// The working directory.
        cwd: Components<'a>,
    },
    /// The last thread of a process has exited.
    Exit(&'a Exit),
}

impl<'a> Event<'a> {
    /// None if the bytes are no record.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header: &Header = cast(bytes)?;
        if header.size as usize != bytes.len() {
            return None;
        }
        match header.kind {
            kind::FORK => whole(bytes).map(Self::Fork),
            kind::EXIT => whole(bytes).map(Self::Exit),
            kind::EXEC => {
                let exec: &Exec = cast(bytes)?;
                let rest = &bytes[size_of::<Exec>()..];
                let (path, rest) = rest.split_at_checked(exec.path_len as usize)?;
                let (args, rest) = rest.split_at_checked(exec.args_len as usize)?;
                let (env, rest) = rest.split_at_checked(exec.env_len as usize)?;
                let (exe, cwd) = rest.split_at_checked(exec.exe_len as usize)?;
                (cwd.len() == exec.cwd_len as usize).then_some(Self::Exec {
                    exec,
                    path,
                    args,
                    env,
                    exe: Components {
                        names: exe,
                        whole: exec.flags & exec_flag::EXE_TRUNCATED == 0,
                    },
                    cwd: Components {
                        names: cwd,
                        whole: exec.flags & exec_flag::CWD_TRUNCATED == 0,
                    },
                })
            }
            _ => None,
        }
    }

    /// The head of the record.
    pub fn header(&self) -> &Header {
        match self {
            Self::Fork(fork) => &fork.header,
            Self::Exec { exec, .. } => &exec.header,
            Self::Exit(exit) => &exit.header,
        }
    }
}

fn whole<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> Option<&T> {
    bytemuck::try_from_bytes(bytes).ok()
}

fn cast<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> Option<&T> {
    whole(bytes.get(..size_of::<T>())?)
}

/// A path as the kernel's tree of names has it: the last component first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Components<'a> {
    names: &'a [u8],
    /// Up to the root of the process's mount namespace.
    pub whole: bool,
}

impl Components<'_> {
    /// The path, which begins with a slash if it is [`whole`](Self::whole); none if nothing of it
    /// is known.
    pub fn path(self) -> Option<Vec<u8>> {
        let Some(names) = self.names.strip_suffix(&[0]) else {
            return self.whole.then(|| b"/".to_vec());
        };
        let mut path = Vec::with_capacity(self.names.len());
        for name in names.rsplit(|&byte| byte == 0) {
            if self.whole || !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        Some(path)
    }
}

/// The arguments of an exec record, empty ones included.
pub fn split_args(args: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ended = args.strip_suffix(&[0]);
    // Without the last NUL, no arguments and one empty argument would look the same.
    let (text, some) = (ended.unwrap_or(args), !args.is_empty());
    some.then(|| text.split(|&byte| byte == 0))
        .into_iter()
        .flatten()
}

/// What one [`Events::drain`] came upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records handed over.
    pub events: u64,
    /// Records that were none: the object is of another version.
    pub malformed: u64,
}

/// What the programs saw and lost, since [`crate::Programs::events`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Seen by a program, and of these, lost for want of room; summed over the CPUs.
    pub seen: record::Counters,
    /// Not seen by any program.
    pub skipped: Skipped,
}

impl Counters {
    /// Events that no record tells of, at most: a skipped one may have been a thread's.
    pub fn lost(&self) -> u64 {
        let Self { seen, skipped } = self;
        seen.fork_lost
            + seen.exec_lost
            + seen.exit_lost
            + skipped.fork
            + skipped.exec
            + skipped.exit
    }
}

/// Events for which the kernel ran no program. Threads count here like processes.
///
/// It does not run a program on a CPU on which a task was preempted in it. For a fork, that cannot
/// happen; for execs and exits, there are several instances of the program, and an event is only
/// skipped if the kernel ran none of them.
///
/// The counts are exact, or too high: never too low.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Forks, of threads too.
    pub fork: u64,
    /// Execs.
    pub exec: u64,
    /// Exits, of threads too.
    pub exit: u64,
}

/// A program of the object, and the tracepoint it is attached to.
///
/// With a map it has several instances: they have a number behind the name, are attached in this
/// order, and find in the map the one that records, which is not attached.
struct Kind {
    name: &'static str,
    tracepoint: &'static str,
    map: Option<&'static str>,
}

/// Exits first: there must be no process of which only the fork is known.
const KINDS: [Kind; 3] = [
    Kind {
        name: "exit",
        tracepoint: "sched_process_exit",
        map: Some("RECORD_EXIT"),
    },
    Kind {
        name: "exec",
        tracepoint: "sched_process_exec",
        map: Some("RECORD_EXEC"),
    },
    Kind {
        name: "fork",
        tracepoint: "sched_wakeup_new",
        map: None,
    },
];

impl Kind {
    /// What is to be attached, the first one first.
    fn instances(&self, loaded: &Ebpf) -> Vec<(&Self, String)> {
        let mut names = Vec::new();
        if self.map.is_none() {
            names.push(self.name.to_owned());
        } else {
            names.push(first_of(self.name));
            let others = (1..).map(|number| format!("{}_{number}", self.name));
            names.extend(others.take_while(|name| loaded.program(name).is_some()));
        }
        names.into_iter().map(|name| (self, name)).collect()
    }

    fn load(&self, program: &mut BtfTracePoint, btf: &Btf) -> Result<ProgramFd, ProgramError> {
        program.load(self.tracepoint, btf)?;
        Ok(program.fd()?.try_clone()?)
    }
}

/// The instance whose misses count.
fn first_of(name: &str) -> String {
    format!("{name}_0")
}

/// Recorded events. Dropping it ends the recording.
///
/// The descriptor ([`AsFd`]) polls readable when there are events; it is not to be read.
pub struct Events {
    // The links live in here.
    loaded: Ebpf,
    ring: RingBuf<MapData>,
    counters: PerCpuArray<MapData, Words>,
    skipped: Mutex<Skips>,
    ring_bytes: u32,
    /// The kernel empties such a map when nobody has it open.
    _jumps: Vec<ProgramArray<MapData>>,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Events({} bytes)", self.ring_bytes)
    }
}

/// Most times that the counters are read, to tell a loss from an event that happens meanwhile.
const READS: usize = 5;

/// What was skipped. It only ever grows, even if a loss turns out later to have been none.
#[derive(Debug, Default)]
struct Skips {
    last: Skipped,
    sum: Skipped,
}

impl Skips {
    fn add(&mut self, now: Skipped) -> Skipped {
        let Self { last, sum } = self;
        sum.fork += now.fork.saturating_sub(last.fork);
        sum.exec += now.exec.saturating_sub(last.exec);
        sum.exit += now.exit.saturating_sub(last.exit);
        *last = now;
        *sum
    }
}

impl Skipped {
    fn none_above(&self, other: &Self) -> bool {
        self.least(other) == *self
    }

    fn least(&self, other: &Self) -> Self {
        Self {
            fork: self.fork.min(other.fork),
            exec: self.exec.min(other.exec),
            exit: self.exit.min(other.exit),
        }
    }
}

/// [`record::Counters`], as aya lets map values be without `unsafe`.
type Words = [u64; size_of::<record::Counters>() / 8];

impl Events {
    pub(crate) fn start(
        object: &Object,
        kernel: &Kernel,
        options: &Options,
    ) -> Result<Self, Error> {
        let wake_bytes = match options.wake {
            Wake::AtOnce => 0,
            Wake::AtBytes(bytes) => bytes.max(1),
        };
        let layout = kernel.task_layout(wake_bytes, options.environment)?.words();
        let page = rustix::param::page_size() as u32;
        let ring_bytes = options.ring_bytes.clamp(page, 1 << 30).next_power_of_two();
        let bad = |reason: String| Error::BadObject {
            origin: object.origin().to_owned(),
            reason,
        };
        let elf = kfunc::fill_in(object.bytes(), kernel.functions()?)
            .map_err(|error| bad(error.to_string()))?;
        let btf = kernel.btf()?;
        let mut loaded = EbpfLoader::new()
            .btf(Some(&btf))
            .override_global("TASK_LAYOUT", layout.as_slice(), true)
            .map_max_entries("EVENTS", ring_bytes)
            .map_max_entries("SCRATCH", processor_ids())
            .map_max_entries("MARKS", thread_ids().div_ceil(MARKS_PER_VALUE))
            .load(&elf)
            .map_err(|error| Error::load(object.origin(), error))?;
        let instances: Vec<_> = KINDS
            .iter()
            .flat_map(|kind| kind.instances(&loaded))
            .collect();
        let mut map = |name: &str| {
            loaded
                .take_map(name)
                .ok_or_else(|| bad(format!("it has no map `{name}`")))
        };
        let ring = RingBuf::try_from(map("EVENTS")?).map_err(|error| bad(error.to_string()))?;
        let counters: Map = map("COUNTERS")?;
        let counters = PerCpuArray::try_from(counters).map_err(|error| bad(error.to_string()))?;
        let mut jumps = Vec::new();
        for kind in &KINDS {
            if let Some(name) = kind.map {
                let map = ProgramArray::try_from(map(name)?);
                jumps.push((kind, map.map_err(|error| bad(error.to_string()))?));
            }
        }

        let missing = |name: &str| bad(format!("it has no program `{name}`"));
        let mut load = |name: &str, kind: &Kind| {
            let program = program(&mut loaded, name).ok_or_else(|| missing(name))?;
            kind.load(program, &btf)
                .map_err(|error| Error::program(name, error))
        };
        for (kind, map) in &mut jumps {
            let recorder = load(&format!("record_{}", kind.name), kind)?;
            map.set(0, &recorder, 0).map_err(|error| Error::Loader {
                doing: format!("let the BPF programs `{}` jump", kind.name),
                reason: error.to_string(),
            })?;
        }
        for (kind, name) in &instances {
            load(name, kind)?;
        }
        // All are loaded before the first one records.
        for (_, name) in &instances {
            program(&mut loaded, name)
                .ok_or_else(|| missing(name))?
                .attach()
                .map_err(|error| Error::program(name, error))?;
        }
        Ok(Self {
            loaded,
            ring,
            counters,
            skipped: Mutex::default(),
            ring_bytes,
            _jumps: jumps.into_iter().map(|(_, map)| map).collect(),
        })
    }

    /// Bytes of the ring buffer.
    pub fn ring_bytes(&self) -> u32 {
        self.ring_bytes
    }

    /// Sleeps until there are events (true) or the time is over (false); without a time, for ever.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] of poll(2). A signal is no error: the answer may be false early.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool, Error> {
        let timeout = timeout.map(|time| Timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut fds = [PollFd::new(self, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(errno) => Err(Error::io("wait for events", io::Error::from(errno))),
        }
    }

    /// Hands over what is in the ring buffer, in the kernel's order, until it is empty.
    ///
    /// Events that come meanwhile are handed over, too: under a storm this goes on for long. Use
    /// [`Self::drain_up_to`] where that matters.
    pub fn drain(&mut self, each: impl FnMut(Event<'_>)) -> Drained {
        self.drain_up_to(u64::MAX, each)
    }

    /// Like [`Self::drain`], but at most `limit` records.
    pub fn drain_up_to(&mut self, limit: u64, mut each: impl FnMut(Event<'_>)) -> Drained {
        let mut drained = Drained::default();
        while drained.events + drained.malformed < limit
            && let Some(item) = self.ring.next()
        {
            match Event::parse(&item) {
                Some(event) => {
                    each(event);
                    drained.events += 1;
                }
                None => drained.malformed += 1,
            }
        }
        drained
    }

    /// What was seen and lost so far.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] or [`Error::Loader`], if the kernel does not tell: /proc must be mounted.
    pub fn counters(&self) -> Result<Counters, Error> {
        let mut skips = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut seen, mut skipped) = self.read()?;
        // An event in between looks like a loss: look again before it is called one.
        for _ in 1..READS {
            if skipped.none_above(&skips.last) {
                break;
            }
            let again;
            (seen, again) = self.read()?;
            skipped = skipped.least(&again);
        }
        Ok(Counters {
            seen,
            skipped: skips.add(skipped),
        })
    }

    /// Counts what was seen, then what was skipped: this order never hides a loss.
    fn read(&self) -> Result<(record::Counters, Skipped), Error> {
        let per_cpu = self.counters.get(&0, 0).map_err(|error| Error::Loader {
            doing: "read the event counters".to_owned(),
            reason: error.to_string(),
        })?;
        let mut sum: Words = Default::default();
        for cpu in per_cpu.iter() {
            for (sum, value) in sum.iter_mut().zip(cpu) {
                *sum += value;
            }
        }
        let seen: record::Counters = bytemuck::cast(sum);
        let skipped = Skipped {
            fork: self.misses("fork")?,
            exec: self
                .misses(&first_of("exec"))?
                .saturating_sub(seen.exec_rescued),
            exit: self
                .misses(&first_of("exit"))?
                .saturating_sub(seen.exit_rescued),
        };
        Ok((seen, skipped))
    }

    /// The kernel's count of times that it did not run a program.
    fn misses(&self, name: &str) -> Result<u64, Error> {
        let doing = || format!("read how often the BPF program `{name}` was skipped");
        let fd = self
            .loaded
            .program(name)
            .and_then(|program| program.fd().ok())
            .map(|fd| fd.as_fd().as_raw_fd())
            .ok_or_else(|| Error::Loader {
                doing: doing(),
                reason: "it is not loaded".to_owned(),
            })?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))
            .map_err(|error| Error::io(doing(), error))?;
        Ok(misses_in(&info))
    }
}

/// `recursion_misses` of a program's fdinfo; kernels before 5.12 have none to tell.
fn misses_in(fdinfo: &str) -> u64 {
    fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

fn program<'a>(loaded: &'a mut Ebpf, name: &str) -> Option<&'a mut BtfTracePoint> {
    loaded.program_mut(name)?.try_into().ok()
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    /// A record in memory as aligned as the ring's.
    fn record(head: &impl bytemuck::NoUninit, rest: &[u8]) -> Vec<u64> {
        let mut bytes = bytemuck::bytes_of(head).to_vec();
        bytes.extend_from_slice(rest);
        let len = bytes.len();
        bytes.resize(len.next_multiple_of(8), 0);
        let words = bytes.chunks_exact(8);
        words.map(bytemuck::pod_read_unaligned).collect()
    }

    const REST: &[u8] = b"/xab\0c\0\0A=1\0x\0bin\0";

    /// Lengths of path, arguments, environment and executable.
    fn exec(lens: [u32; 4], rest: &[u8]) -> (Vec<u64>, usize) {
        let size = size_of::<Exec>() + rest.len();
        let mut exec = Exec::zeroed();
        exec.header.kind = kind::EXEC;
        exec.header.size = size as u32;
        [exec.path_len, exec.args_len, exec.env_len, exec.exe_len] = lens;
        (record(&exec, rest), size)
    }

    fn parse(words: &[u64], size: usize) -> Option<Event<'_>> {
        Event::parse(&bytemuck::cast_slice(words)[..size])
    }

    #[test]
    fn an_exec_is_path_and_arguments() {
        let (words, size) = exec([2, 6, 4, 6], REST);
        match parse(&words, size) {
            Some(Event::Exec {
                path,
                args,
                env,
                exe,
                cwd,
                ..
            }) => {
                assert_eq!(path, b"/x");
                let args: Vec<_> = split_args(args).collect();
                assert_eq!(args, [b"ab".as_slice(), b"c", b""]);
                assert_eq!(env, b"A=1\0");
                assert_eq!(exe.path().unwrap(), b"/bin/x");
                assert_eq!(cwd.path().unwrap(), b"/");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lengths_that_do_not_add_up_are_no_record() {
        for lens in [
            [3, 6, 4, 6],
            [2, 5, 4, 6],
            [2, 6, 4, 5],
            [19, 0, 0, 0],
            [u32::MAX, 0, 0, 0],
            [0, u32::MAX, 0, 0],
            [0, 0, 0, u32::MAX],
        ] {
            let (words, size) = exec(lens, REST);
            assert!(parse(&words, size).is_none(), "{lens:?}");
        }
        let (words, size) = exec([2, 6, 4, 6], REST);
        for cut in 0..size {
            assert!(parse(&words, cut).is_none(), "cut to {cut}");
        }
    }

    #[test]
    fn a_path_is_whole_or_shows_that_it_is_not() {
        let path = |names, whole| Components { names, whole }.path();
        assert_eq!(path(b"c\0b\0a\0", true).unwrap(), b"/a/b/c");
        assert_eq!(path(b"c\0b\0", false).unwrap(), b"b/c");
        assert_eq!(path(b"", true).unwrap(), b"/");
        assert_eq!(path(b"", false), None);
    }

    #[test]
    fn an_unknown_kind_or_size_is_no_record() {
        let mut exit = Exit::zeroed();
        exit.header.kind = kind::EXIT;
        exit.header.size = size_of::<Exit>() as u32;
        let size = size_of::<Exit>();
        assert!(matches!(
            parse(&record(&exit, b""), size),
            Some(Event::Exit(_))
        ));
        exit.header.kind = kind::FORK;
        assert!(parse(&record(&exit, b""), size).is_none());
        exit.header.kind = 99;
        assert!(parse(&record(&exit, b""), size).is_none());
    }

    #[test]
    fn empty_arguments_are_kept() {
        let split = |args: &'static [u8]| split_args(args).collect::<Vec<_>>();
        assert_eq!(split(b""), Vec::<&[u8]>::new());
        assert_eq!(split(b"\0"), [b""]);
        assert_eq!(split(b"a\0"), [b"a"]);
        assert_eq!(split(b"a\0\0"), [b"a".as_slice(), b""]);
        assert_eq!(split(b"a\0cut of"), [b"a".as_slice(), b"cut of"]);
    }

    #[test]
    fn skips_never_shrink() {
        let skipped = |exec| Skipped {
            exec,
            ..Skipped::default()
        };
        let mut skips = Skips::default();
        let told = [0, 2, 1, 1, 3].map(|exec| skips.add(skipped(exec)).exec);
        assert_eq!(told, [0, 2, 2, 2, 4]);
        assert!(skipped(3).none_above(&skips.last));
        assert!(!skipped(4).none_above(&skips.last));
    }

    #[test]
    fn finds_the_misses() {
        assert_eq!(
            misses_in("pos:\t0\nprog_id:\t7\nrecursion_misses:\t12\n"),
            12
        );
        assert_eq!(misses_in("pos:\t0\n"), 0);
    }
}
