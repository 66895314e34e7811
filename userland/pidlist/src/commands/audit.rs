//! `pidlist audit`.

use std::io::Write as _;

use pidlist_bpf::Programs;
use pidlist_process_cache::{Audit, Bound};
use pidlist_slabs::Snapshot;
use serde::Serialize;

use crate::cli::{self, Observe};
use crate::output::{self, Answer};
use crate::session::Session;
use crate::view::{KeyView, Summary};

/// What `audit --json` prints.
#[derive(Serialize)]
struct Document {
    /// The cache was right, and within every bound.
    agrees: bool,
    /// `bpf` or `proc`.
    source: &'static str,
    /// Living processes: as the cache had them, and as the walk found them.
    cached: u64,
    walked: u64,
    /// What the walk corrected.
    missing: Vec<KeyView>,
    ghosts: Vec<KeyView>,
    taken_for_dead: Vec<KeyView>,
    bounds: Vec<BoundView>,
    summary: Summary,
}

#[derive(Serialize)]
struct BoundView {
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

pub fn run(audit: &cli::Audit, json: bool) -> anyhow::Result<Answer> {
    let mut session = Session::open(audit.source, true)?;
    let observe = Observe {
        length: Some(audit.length),
        until_exit: None,
        source: audit.source,
        command: Vec::new(),
    };
    session.observe(&observe, json, false, &mut |_, _| Ok(()))?;
    // Loaded once: the audit reads the slabs twice.
    let programs = Programs::open().ok();
    let mut slabs = || {
        let by_bpf = programs
            .as_ref()
            .and_then(|programs| Snapshot::from_bpf(programs).ok());
        let snapshot = by_bpf.or_else(|| Snapshot::from_slabinfo().ok());
        let caches = snapshot.map(|snapshot| snapshot.caches).unwrap_or_default();
        caches
            .into_iter()
            .filter_map(|cache| Some((cache.name, cache.objects?)))
            .collect()
    };
    let found = session.collector.audit(&mut slabs, &mut |_, _| ())?;
    let summary = Summary::new(&session);
    let agrees = found.agrees();
    if json {
        let Audit {
            cached,
            walked,
            repair,
            bounds,
        } = &found;
        let keys =
            |keys: &[pidlist_process_cache::Key]| keys.iter().copied().map(Into::into).collect();
        output::json(&Document {
            agrees,
            source: summary.source,
            cached: *cached,
            walked: *walked,
            missing: keys(&repair.added),
            ghosts: keys(&repair.ended),
            taken_for_dead: keys(&repair.revived),
            bounds: bounds.iter().map(Into::into).collect(),
            summary,
        })?;
    } else {
        print(&found, &summary)?;
    }
    Ok(Answer::from(agrees))
}

fn print(found: &Audit, summary: &Summary) -> anyhow::Result<()> {
    let mut out = output::stdout();
    let verdict = |holds: bool| if holds { "ok  " } else { "DIFFERS" };
    writeln!(
        out,
        "{} processes: {} in the cache, {} by a walk over the tasks",
        verdict(found.repair.is_empty()),
        found.cached,
        found.walked
    )?;
    for (what, keys) in [
        ("not in the cache", &found.repair.added),
        ("in the cache, and gone", &found.repair.ended),
        ("taken for dead", &found.repair.revived),
    ] {
        for key in keys {
            writeln!(out, "     {} {what} (corrected)", key.tgid)?;
        }
    }
    for bound in &found.bounds {
        let Bound {
            slab,
            of,
            objects,
            known,
        } = bound;
        match objects {
            Some(objects) => writeln!(
                out,
                "{} {slab}: {known} {of}, slabs have room for {objects}",
                verdict(bound.holds())
            )?,
            None => writeln!(
                out,
                "--   {slab}: not told, or merged with other caches here"
            )?,
        }
    }
    writeln!(out, "{}", summary.line())?;
    out.flush()?;
    Ok(())
}
