//! Watching the machine for a while: for a time, until a process exits, or while a command runs.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};

use anyhow::Context as _;
use pidlist_process_cache::source::{self, Capture, Kind, Want};
use pidlist_process_cache::{Collector, CollectorSettings, Observer, ProcSource, Settings, clock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::{Observe, SourceChoice, size};
use crate::output::Advice;
use crate::view::{CommandView, Missing};
use crate::wait::{Caught, readable, wait};

/// `/proc` is polled this often where there are no events, or more seldom if that takes long.
const POLL_INTERVAL_NS: u64 = 50_000_000;

/// A command that nobody watches any more has this long to end by itself, nanoseconds.
const GRACE_NS: u64 = 2_000_000_000;

/// Whoever follows for long takes events together that come closer than this, nanoseconds: each
/// waking costs more than an event. The ring holds more than comes in that time.
const BATCH_NS: u64 = 25_000_000;

/// The signals that end a watch.
pub struct Signals {
    interrupt: Caught,
    terminate: Caught,
}

impl Signals {
    /// First of all: a Ctrl-C while programs load is meant as well.
    pub fn catch() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: Caught::new(SIGINT).context("setting up signals")?,
            terminate: Caught::new(SIGTERM).context("setting up signals")?,
        })
    }
}

/// A collector, and what it has to do without.
pub struct Session {
    pub collector: Collector,
    /// What it uses.
    pub kind: Kind,
    signals: Signals,
    pub missing: Vec<Missing>,
    /// How long [`observe`](Self::observe) watched.
    pub watched_ns: u64,
    /// The command that [`observe`](Self::observe) started.
    pub command: Option<CommandView>,
}

impl Session {
    /// Attaches to the best source there is. What is missing is also said on stderr.
    ///
    /// `with_events` is false for a look at this very moment.
    pub fn open(choice: SourceChoice, with_events: bool) -> anyhow::Result<Self> {
        // A session ends with its command: all that fits is kept until then.
        let default = Settings::default();
        let settings = CollectorSettings {
            cache: Settings {
                keep_exited_ns: None,
                keep_short_lived_ns: None,
                max_processes: setting("PIDLIST_MAX_PROCESSES")?.unwrap_or(default.max_processes),
                max_bytes: setting("PIDLIST_MAX_BYTES")?.unwrap_or(256 << 20),
                ..default
            },
            poll_interval_alone_ns: POLL_INTERVAL_NS,
            ..CollectorSettings::default()
        };
        Self::open_with(choice, with_events, settings)
    }

    /// The same for who does not end: the dead stay for `keep_ns`, and `/proc` is polled seldom.
    pub fn open_endless(choice: SourceChoice, keep_ns: u64) -> anyhow::Result<Self> {
        let settings = CollectorSettings {
            cache: Settings {
                keep_exited_ns: Some(keep_ns),
                keep_short_lived_ns: Some(keep_ns),
                ..Settings::default()
            },
            ..CollectorSettings::default()
        };
        Self::open_with(choice, true, settings)
    }

    fn open_with(
        choice: SourceChoice,
        with_events: bool,
        settings: CollectorSettings,
    ) -> anyhow::Result<Self> {
        let signals = Signals::catch()?;
        let want = match choice {
            SourceChoice::Auto => Want::Best,
            SourceChoice::Bpf => Want::Bpf,
            SourceChoice::Proc => Want::Proc,
        };
        let default = Capture::default();
        let capture = Capture {
            ring_bytes: setting("PIDLIST_RING_SIZE")?.unwrap_or(default.ring_bytes),
            ..default
        };
        let sources = source::open_with(want, with_events, &capture).map_err(|error| {
            let hint = "`pidlist doctor` says what is missing; `--source proc` works without BPF";
            Advice {
                what: "opening the process sources".into(),
                hint: hint.into(),
                source: Some(error.into()),
            }
        })?;
        let missing: Vec<Missing> = sources
            .refused
            .iter()
            .map(|error| Missing {
                what: "bpf",
                why: format!("{:#}", anyhow::Error::msg(chain(error))),
                hint: "`pidlist doctor` says what BPF needs here".into(),
            })
            .collect();
        for Missing { what, why, hint } in &missing {
            let without = if with_events {
                "polling /proc instead, short lives are missed"
            } else {
                "reading /proc instead"
            };
            eprintln!("pidlist: note: no {what} ({why}): {without}; {hint}");
        }
        let collector = Collector::start(
            settings,
            sources.tasks,
            sources.events,
            ProcSource::default(),
        )
        .context("reading the processes there are")?;
        Ok(Self {
            collector,
            kind: sources.kind,
            signals,
            missing,
            watched_ns: 0,
            command: None,
        })
    }

    /// Follows the processes until then, or until one of `inputs` can be read.
    ///
    /// Returns whether to go on: nobody has sent a signal to end.
    pub fn follow(&mut self, until_ns: u64, inputs: [BorrowedFd<'_>; 2]) -> anyhow::Result<bool> {
        let mut stepped_ns = 0;
        loop {
            let now_ns = clock::boottime_ns();
            if now_ns >= until_ns {
                return Ok(true);
            }
            let rest_ns = (stepped_ns + BATCH_NS).saturating_sub(now_ns);
            let mut sleep_ns = self.collector.sleep_ns().max(rest_ns);
            let mut events = self.collector.as_fd().map(readable);
            if rest_ns != 0 && events.is_some() {
                sleep_ns = rest_ns;
                events = None;
            }
            let fds = [
                events,
                Some(readable(inputs[0])),
                Some(readable(inputs[1])),
                Some(readable(self.signals.interrupt.as_fd())),
                Some(readable(self.signals.terminate.as_fd())),
            ];
            let [_, first, second, is_interrupted, is_terminated] =
                wait(fds, Some(sleep_ns.min(until_ns - now_ns))).context("waiting for events")?;
            if is_interrupted || is_terminated {
                return Ok(false);
            }
            if first || second {
                return Ok(true);
            }
            let now_ns = clock::boottime_ns();
            if now_ns >= stepped_ns + BATCH_NS {
                self.collector
                    .step(&mut |_, _| ())
                    .context("following the processes")?;
                stepped_ns = now_ns;
            }
        }
    }

    /// Watches as asked; without a wish, until now (`endless`: until Ctrl-C).
    pub fn observe(
        &mut self,
        observe: &Observe,
        json: bool,
        endless: bool,
        observer: &mut dyn FnMut(
            &pidlist_process_cache::Change,
            &pidlist_process_cache::Cache,
        ) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        // An observer that fails (say, a closed pipe) ends the session after the current step.
        let failed = RefCell::new(None);
        let mut tell: Box<Observer<'_>> = Box::new(|change, cache| {
            let mut failed = failed.borrow_mut();
            if failed.is_none() {
                *failed = observer(change, cache).err();
            }
        });
        let mut feed = Own {
            collector: &mut self.collector,
            tell: &mut tell,
            failed: &failed,
        };
        let watched = watch_over(&mut feed, observe, json, endless, &self.signals);
        drop(tell);
        let (watched_ns, command, result) = watched?;
        self.watched_ns = watched_ns;
        self.command = command;
        match failed.into_inner() {
            Some(error) => Err(error),
            None => result,
        }
    }
}

/// Where a watch hears of changes.
pub trait Feed {
    /// Readable when there is something to hear.
    fn as_fd(&self) -> Option<BorrowedFd<'_>>;

    /// How long to wait at most before the next step, nanoseconds.
    fn sleep_ns(&self) -> u64;

    /// Hears what there is. Returns whether to go on.
    fn step(&mut self) -> anyhow::Result<bool>;

    /// Hears all that has happened until now.
    fn settle(&mut self) -> anyhow::Result<()>;
}

/// The collector of this process.
struct Own<'a, 'b> {
    collector: &'a mut Collector,
    tell: &'a mut Observer<'b>,
    failed: &'a RefCell<Option<anyhow::Error>>,
}

impl Feed for Own<'_, '_> {
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.collector.as_fd()
    }

    fn sleep_ns(&self) -> u64 {
        self.collector.sleep_ns()
    }

    fn step(&mut self) -> anyhow::Result<bool> {
        self.collector
            .step(self.tell)
            .context("following the processes")?;
        Ok(self.failed.borrow().is_none())
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        self.collector
            .settle(self.tell)
            .context("following the processes")
    }
}

/// How long was watched, how the command ended, and whether the feed held.
pub type Watched = (u64, Option<CommandView>, anyhow::Result<()>);

/// Watches as asked; without a wish, until now (`endless`: until Ctrl-C).
///
/// # Errors
///
/// The command cannot be started, or not be waited for.
pub fn watch_over(
    feed: &mut dyn Feed,
    observe: &Observe,
    json: bool,
    endless: bool,
    signals: &Signals,
) -> anyhow::Result<Watched> {
    let began_ns = clock::boottime_ns();
    let run = Run::start(observe, json)?;
    let deadline_ns = match (observe.length, run.awaited()) {
        (Some(length), _) => {
            Some(began_ns.saturating_add(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)))
        }
        (None, Some(_)) => None,
        (None, None) if endless => None,
        (None, None) => Some(began_ns),
    };
    let result = wait_for_end(feed, &run, deadline_ns, signals).and_then(|()| feed.settle());
    let watched_ns = if deadline_ns == Some(began_ns) {
        0
    } else {
        clock::boottime_ns() - began_ns
    };
    Ok((watched_ns, run.finish()?, result))
}

fn wait_for_end(
    feed: &mut dyn Feed,
    run: &Run,
    deadline_ns: Option<u64>,
    signals: &Signals,
) -> anyhow::Result<()> {
    let mut terminations = 0;
    loop {
        let now_ns = clock::boottime_ns();
        if deadline_ns.is_some_and(|deadline| now_ns >= deadline) {
            return Ok(());
        }
        let sleep_ns = feed
            .sleep_ns()
            .min(deadline_ns.map_or(u64::MAX, |deadline| deadline - now_ns));
        let fds = [
            feed.as_fd().map(readable),
            run.awaited().map(readable),
            Some(readable(signals.interrupt.as_fd())),
            Some(readable(signals.terminate.as_fd())),
        ];
        let woken = wait(fds, Some(sleep_ns));
        let [_, is_over, is_interrupted, is_terminated] = woken.context("waiting for events")?;
        if !feed.step()? || is_over {
            return Ok(());
        }
        if is_interrupted {
            // Ctrl-C goes to the command as well, which decides for both, as in system(3).
            if !run.is_command() {
                return Ok(());
            }
            signals.interrupt.clear();
        }
        if is_terminated {
            terminations += 1;
            signals.terminate.clear();
            if !run.terminate(terminations) {
                return Ok(());
            }
        }
    }
}

/// A number of the environment, if it is there.
fn setting<T: TryFrom<u64>>(name: &str) -> anyhow::Result<Option<T>> {
    let Some(text) = std::env::var_os(name) else {
        return Ok(None);
    };
    let number = text.to_str().and_then(|text| size(text).ok());
    let number = number.and_then(|number| T::try_from(number).ok());
    number.map(Some).with_context(|| {
        format!(
            "{name}={}: write a size like 65536, 64K or 1M",
            text.display()
        )
    })
}

/// An error and its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// What a session waits for.
enum Run {
    Nothing,
    Process(OwnedFd),
    Command { child: Child, pidfd: OwnedFd },
}

impl Run {
    fn start(observe: &Observe, json: bool) -> anyhow::Result<Self> {
        if let Some(pid) = observe.until_exit {
            return Ok(Self::Process(
                open_pidfd(pid).with_context(|| format!("waiting for process {pid}"))?,
            ));
        }
        let Some((program, args)) = observe.command.split_first() else {
            return Ok(Self::Nothing);
        };
        let mut command = Command::new(program);
        command.args(args);
        if json {
            // Stdout is for the document.
            command.stdout(io::stderr());
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        match open_pidfd(child.id()) {
            Ok(pidfd) => Ok(Self::Command { child, pidfd }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error).context("watching the command")
            }
        }
    }

    /// Readable when it is over.
    fn awaited(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Nothing => None,
            Self::Process(pidfd) | Self::Command { pidfd, .. } => Some(pidfd.as_fd()),
        }
    }

    fn is_command(&self) -> bool {
        matches!(self, Self::Command { .. })
    }

    /// Somebody wants an end, for the `times`th time. Returns whether to wait on.
    ///
    /// The command is asked to end once, and killed if they insist.
    fn terminate(&self, times: u32) -> bool {
        let Self::Command { pidfd, .. } = self else {
            return false;
        };
        let signal = if times == 1 {
            Signal::TERM
        } else {
            Signal::KILL
        };
        // It fails if the command has just exited: the next round sees that.
        let _ = pidfd_send_signal(pidfd, signal);
        true
    }

    fn finish(self) -> anyhow::Result<Option<CommandView>> {
        let Self::Command { mut child, pidfd } = self else {
            return Ok(None);
        };
        // Still running only if a source or the output broke: nobody is left to wait for it.
        let status: ExitStatus = match child.try_wait().context("waiting for the command")? {
            Some(status) => status,
            None => {
                let _ = pidfd_send_signal(&pidfd, Signal::TERM);
                let [is_over] = wait([Some(readable(pidfd.as_fd()))], Some(GRACE_NS))?;
                if !is_over {
                    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
                }
                child.wait().context("waiting for the command")?
            }
        };
        Ok(Some(CommandView {
            pid: child.id(),
            code: status.code(),
            signal: status.signal(),
        }))
    }
}

fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}
