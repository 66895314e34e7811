//! `pidlist stats`: the cache, the module if it is loaded, and the kernel's slabs beside them.

use std::io::{self, Write};

use pidlist_bpf::Programs;
use pidlist_process_cache::Bound;
use serde::Serialize;

use super::set::{self, ModuleView};
use crate::cli::{SourceChoice, Stats};
use crate::link::Link;
use crate::output::{self, Answer};
use crate::session::Session;
use crate::view::{Events, Missing, Summary};

/// What `stats --json` prints, without a list.
#[derive(Serialize)]
struct Document {
    cache: CacheView,
    /// How many the cache knows, beside what the slab caches have room for.
    bounds: Vec<BoundView>,
    /// `null` if the module is not loaded, or not for this user.
    module: Option<ModuleView>,
    /// Why `module` is `null`.
    module_missing: Option<String>,
}

#[derive(Serialize)]
struct CacheView {
    /// `bpf` or `proc`.
    source: &'static str,
    /// The socket of the daemon that has the cache; `null` if it was made for this look.
    daemon: Option<String>,
    missing: Vec<Missing>,
    alive: usize,
    exited: usize,
    bytes: u64,
    /// Since the daemon began; 0 in a look of our own.
    seen: Events,
    lost: Events,
    stale: u64,
    walks: u64,
    repaired: u64,
    expired: u64,
    evicted: u64,
    audits_failed: u64,
    /// `null` without a daemon.
    service: Option<ServiceView>,
}

#[derive(Serialize)]
struct ServiceView {
    up_ns: u64,
    has_events: bool,
    walk_ns: u64,
    apply_ns: u64,
    clients: u64,
    clients_refused: u64,
    subscribers: u64,
    subscribers_lost: u64,
}

#[derive(Serialize)]
pub struct BoundView {
    slab: &'static str,
    of: &'static str,
    known: u64,
    /// `null`: merged with other caches on this kernel, or not to be read.
    at_most: Option<u64>,
    holds: bool,
}

impl From<&Bound> for BoundView {
    fn from(bound: &Bound) -> Self {
        let Bound {
            slab,
            of,
            objects,
            known,
        } = *bound;
        Self {
            slab,
            of,
            known,
            at_most: objects,
            holds: bound.holds(),
        }
    }
}

pub fn run(stats: &Stats, json: bool) -> anyhow::Result<Answer> {
    if stats.all || stats.list.is_some() {
        return set::stats::run(stats.list.as_deref(), json);
    }
    let (cache, bounds) = match Link::open(&stats.ask, stats.source)? {
        Some(link) => of_daemon(link)?,
        None => of_session(stats.source)?,
    };
    let (module, module_missing) = match pidlist_pidset::module() {
        Ok(module) => (Some(ModuleView::from(&module)), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let document = Document {
        cache,
        bounds,
        module,
        module_missing,
    };
    if json {
        return output::json(&document);
    }
    let mut out = output::stdout();
    print(&mut out, &document)?;
    out.flush()?;
    Ok(Answer::Yes)
}

fn of_daemon(mut link: Link) -> anyhow::Result<(CacheView, Vec<BoundView>)> {
    let snapshot = Link::said(link.client.snapshot())?;
    let summary = link.summary(&snapshot);
    let stats = &link.stats;
    let now_ns = pidlist_process_cache::clock::boottime_ns();
    let service = ServiceView {
        up_ns: now_ns.saturating_sub(stats.started_ns),
        has_events: stats.has_events,
        walk_ns: stats.walk_ns,
        apply_ns: stats.apply_ns,
        clients: stats.clients,
        clients_refused: stats.clients_refused,
        subscribers: stats.subscribers,
        subscribers_lost: stats.subscribers_lost,
    };
    let cache = view(&summary, snapshot.counters(), stats.bytes, Some(service));
    Ok((cache, bounds(&snapshot)))
}

fn of_session(source: SourceChoice) -> anyhow::Result<(CacheView, Vec<BoundView>)> {
    let mut session = Session::open(source, false)?;
    let snapshot = session.collector.reader().snapshot();
    let summary = Summary::new(&session);
    let cache = session.collector.cache();
    let view = view(&summary, &cache.counters(), cache.bytes() as u64, None);
    Ok((view, bounds(&snapshot)))
}

fn view(
    summary: &Summary,
    counters: &pidlist_process_cache::Counters,
    bytes: u64,
    service: Option<ServiceView>,
) -> CacheView {
    CacheView {
        source: summary.source,
        daemon: summary.daemon.clone(),
        missing: summary.missing.clone(),
        alive: summary.alive,
        exited: summary.exited,
        bytes,
        seen: summary.seen,
        lost: summary.lost,
        stale: counters.stale,
        walks: counters.walks,
        repaired: summary.repaired,
        expired: counters.expired,
        evicted: summary.evicted,
        audits_failed: counters.audits_failed,
        service,
    }
}

/// Both sides of the audit, read one after the other: nobody is corrected here.
fn bounds(snapshot: &pidlist_process_cache::Snapshot) -> Vec<BoundView> {
    let programs = Programs::open().ok();
    let by_bpf = programs.and_then(|programs| pidlist_slabs::Snapshot::from_bpf(&programs).ok());
    let slabs = by_bpf.or_else(|| pidlist_slabs::Snapshot::from_slabinfo().ok());
    let caches = slabs.map(|slabs| slabs.caches).unwrap_or_default();
    let told: Vec<(String, u64)> = caches
        .into_iter()
        .filter_map(|cache| Some((cache.name, cache.objects?)))
        .collect();
    snapshot.bounds(&told).iter().map(Into::into).collect()
}

fn print(out: &mut impl Write, document: &Document) -> io::Result<()> {
    let Document {
        cache,
        bounds,
        module,
        module_missing,
    } = document;
    let source = match &cache.daemon {
        Some(socket) => format!("daemon at {socket} ({})", cache.source),
        None => format!("a look of our own ({})", cache.source),
    };
    heading(out, "The cache")?;
    let mut figures = vec![
        ("source", source),
        ("alive", cache.alive.to_string()),
        ("exited, kept", cache.exited.to_string()),
        ("memory", output::bytes(cache.bytes)),
    ];
    if let Some(service) = &cache.service {
        let events = |events: Events| {
            format!(
                "{} forks, {} execs, {} exits",
                events.forks, events.execs, events.exits
            )
        };
        figures.extend([
            ("up for", output::span(service.up_ns)),
            ("events told", events(cache.seen)),
            ("events lost", events(cache.lost)),
            ("events too late", cache.stale.to_string()),
            ("walks", cache.walks.to_string()),
            ("repaired by walks", cache.repaired.to_string()),
            ("expired", cache.expired.to_string()),
            ("evicted early", cache.evicted.to_string()),
            ("failed audits", cache.audits_failed.to_string()),
            ("last walk took", output::span(service.walk_ns)),
            ("last events took", output::span(service.apply_ns)),
            (
                "clients",
                format!(
                    "{}, {} turned away",
                    service.clients, service.clients_refused
                ),
            ),
            (
                "subscribers",
                format!(
                    "{}, missed {} changes",
                    service.subscribers, service.subscribers_lost
                ),
            ),
        ]);
        if !service.has_events {
            figures.push(("events", "none: the daemon polls".into()));
        }
    }
    set::stats::print(out, &figures)?;

    writeln!(out)?;
    heading(out, "The kernel's slabs beside it")?;
    for bound in bounds {
        let value = match bound.at_most {
            Some(room) => format!(
                "{} {}, room for {room}{}",
                bound.known,
                bound.of,
                if bound.holds { "" } else { ": DIFFERS" }
            ),
            None => format!(
                "{} {}; not told, or merged with others",
                bound.known, bound.of
            ),
        };
        set::stats::print(out, &[(bound.slab, value)])?;
    }

    writeln!(out)?;
    heading(out, "The module")?;
    match (module, module_missing) {
        (Some(module), _) => set::stats::print_module(out, module),
        (None, Some(why)) => output::print_wrapped(out, why),
        (None, None) => Ok(()),
    }
}

fn heading(out: &mut impl Write, text: &str) -> io::Result<()> {
    if output::is_coloured() {
        writeln!(out, "\x1b[1m{text}\x1b[0m")
    } else {
        writeln!(out, "{text}")
    }
}
