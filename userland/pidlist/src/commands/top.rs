//! `pidlist top`.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use anyhow::Context as _;
use pidlist_bpf::Programs;
use pidlist_process_cache::clock;
use pidlist_process_cache::source::Kind;
use pidlist_slabs::Snapshot;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use signal_hook::consts::SIGWINCH;

use crate::cli::Top;
use crate::output::{self, Advice, Answer};
use crate::session::Session;
use crate::wait::Caught;
use draw::Side;
use state::{Act, State};

mod draw;
mod state;
#[cfg(test)]
mod tests;

/// Lists and slabs are read this often, nanoseconds: they change slowly.
const SIDE_INTERVAL_NS: u64 = 2_000_000_000;
/// The most slab caches to show.
const SLABS: usize = 40;

pub fn run(top: &Top, json: bool) -> anyhow::Result<Answer> {
    let refuse = |what: &str| {
        Err(Advice {
            what: what.into(),
            hint: "`pidlist ps --json` and `pidlist watch --json` are for programs".into(),
            source: None,
        }
        .into())
    };
    if json {
        return refuse("top is a screen, and has no JSON");
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return refuse("top needs a terminal on standard input and output");
    }
    let interval_ns = u64::try_from(top.interval.as_nanos()).unwrap_or(u64::MAX);
    // The dead are seen to the end, in the slowest of frames.
    let keep_ns = state::FADE_NS.saturating_add(interval_ns);
    let mut session = Session::open_endless(top.source, keep_ns)?;
    let source = match session.kind {
        Kind::Bpf => "bpf",
        Kind::Proc => "proc",
    };
    let mut side = Side::new(source, output::is_coloured());
    // From here on a panic restores the terminal as well.
    let mut terminal = ratatui::try_init().context("setting up the terminal")?;
    let result = show(&mut terminal, &mut session, &mut side, interval_ns);
    ratatui::try_restore().context("restoring the terminal")?;
    result.map(|()| Answer::Yes)
}

fn show(
    terminal: &mut DefaultTerminal,
    session: &mut Session,
    side: &mut Side,
    interval_ns: u64,
) -> anyhow::Result<()> {
    let resized = Caught::new(SIGWINCH).context("setting up signals")?;
    let stdin = io::stdin();
    let programs = Programs::open().ok();
    let mut state = State::default();
    let (mut frame_ns, mut side_ns) = (0, 0);
    loop {
        let now_ns = clock::boottime_ns();
        if now_ns >= frame_ns {
            // Only a walk tells what the living have used.
            session
                .collector
                .walk(&mut |_, _| ())
                .context("following the processes")?;
            state.update(
                session.collector.cache(),
                session.collector.repaired(),
                clock::boottime_ns(),
            );
            frame_ns = now_ns.saturating_add(interval_ns);
            if now_ns >= side_ns {
                read_side(side, programs.as_ref());
                side_ns = now_ns.saturating_add(SIDE_INTERVAL_NS);
            }
        }
        terminal
            .draw(|frame| draw::draw(frame, &mut state, side))
            .context("drawing")?;
        if !session.follow(frame_ns, [stdin.as_fd(), resized.as_fd()])? {
            return Ok(());
        }
        resized.clear();
        while event::poll(Duration::ZERO).context("reading keys")? {
            if let Event::Key(key) = event::read().context("reading keys")?
                && state.press(key) == Act::Quit
            {
                return Ok(());
            }
        }
    }
}

fn read_side(side: &mut Side, programs: Option<&Programs>) {
    side.lists = match pidlist_pidset::lists() {
        Ok(lists) => Ok(lists
            .into_iter()
            .map(|list| (list.name.to_string(), list.stats.members, list.stats.bytes))
            .collect()),
        Err(error) => Err(error.to_string()),
    };
    let snapshot = match programs {
        Some(programs) => Snapshot::from_bpf(programs).or_else(|_| Snapshot::from_slabinfo()),
        None => Snapshot::from_slabinfo(),
    };
    side.slabs = match snapshot {
        Ok(mut snapshot) => {
            snapshot.sort_by_memory();
            side.slab_bytes = snapshot.total_bytes();
            let largest = snapshot.caches.iter().take(SLABS);
            Ok(largest
                .map(|cache| {
                    let name = output::text(cache.name.as_bytes());
                    (name, snapshot.bytes(cache).unwrap_or(0))
                })
                .collect())
        }
        Err(error) => Err(error.to_string()),
    };
}
