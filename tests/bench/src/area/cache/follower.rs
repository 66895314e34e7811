//! A process that follows all others, as the daemon does: by the library, with default settings.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use pidlist_process_cache::source::{SourceError, Want, open};
use pidlist_process_cache::{Collector, CollectorSettings, ProcSource};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Opens the events and walks once.
pub(super) fn collector() -> Result<Collector, SourceError> {
    let sources = open(Want::Bpf, true)?;
    Collector::start(
        CollectorSettings::default(),
        sources.tasks,
        sources.events,
        ProcSource::default(),
    )
}

/// Sleeps until the collector has something to do, `other` can be read, or the time is over.
/// Returns whether `other` can be read.
pub(super) fn wait(
    collector: &Collector,
    other: Option<&io::Stdin>,
    at_most: Duration,
) -> io::Result<bool> {
    let timeout = Duration::from_nanos(collector.sleep_ns()).min(at_most);
    let timeout = Timespec::try_from(timeout).map_err(io::Error::other)?;
    let other = other.map(|other| PollFd::new(other, PollFlags::IN));
    let events = collector.as_fd();
    let events = events
        .as_ref()
        .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN));
    let is_other_first = other.is_some();
    let mut polled: Vec<PollFd<'_>> = other.into_iter().chain(events).collect();
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    Ok(is_other_first && !polled[0].revents().is_empty())
}

/// Child of the benchmark: follows until its input ends. Says when it begins to.
///
/// # Errors
///
/// There are no events to be had, or no longer.
pub fn follow() -> anyhow::Result<()> {
    let mut collector = collector()?;
    // Someone reads, as the daemon's clients do: so there are snapshots.
    let _reader = collector.reader();
    let mut out = io::stdout();
    writeln!(out, "following")?;
    let input = io::stdin();
    while !wait(&collector, Some(&input), Duration::from_secs(1))? {
        collector.step(&mut |_, _| ())?;
    }
    collector.settle(&mut |_, _| ())?;
    let counters = collector.cache().counters();
    writeln!(out, "{} {}", counters.exits, counters.lost())?;
    Ok(())
}

/// Such a process.
pub(super) struct Follower {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

/// What a follower saw in its time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Followed {
    pub(super) exits: u64,
    pub(super) lost: u64,
}

impl Follower {
    /// Returns once it follows.
    pub(super) fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("follow")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a follower")?;
        let output = child.stdout.take().context("no pipe")?;
        let mut follower = Self {
            child,
            output: BufReader::new(output),
        };
        let mut line = String::new();
        follower.output.read_line(&mut line)?;
        ensure!(line == "following\n", "the follower does not follow");
        Ok(follower)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn stop(mut self) -> anyhow::Result<Followed> {
        drop(self.child.stdin.take());
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the follower ended by {status}");
        let (exits, lost) = text.trim().split_once(' ').context("no figures")?;
        Ok(Followed {
            exits: exits.parse()?,
            lost: lost.parse()?,
        })
    }
}
