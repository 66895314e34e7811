//! `pidlist slabs`.

use std::cmp::Reverse;
use std::io::Write as _;

use comfy_table::{Cell, CellAlignment};
use pidlist_bpf::Programs;
use pidlist_slabs::{Cache, Snapshot, Source};
use serde::Serialize;

use crate::cli::{SlabOrder, Slabs};
use crate::output::{self, Advice, Answer};
use crate::view::Missing;

/// What `slabs --json` prints.
#[derive(Serialize)]
struct Document<'a> {
    /// `bpf` or `slabinfo`.
    source: Source,
    missing: Vec<Missing>,
    page_size: u64,
    /// Of all caches, shown or not.
    total_bytes: u64,
    total_caches: usize,
    caches: Vec<CacheView<'a>>,
}

#[derive(Serialize)]
struct CacheView<'a> {
    bytes: Option<u64>,
    #[serde(flatten)]
    cache: &'a Cache,
}

/// The slab caches from the best source there is, and why that is not BPF.
pub fn snapshot() -> anyhow::Result<(Snapshot, Option<Missing>)> {
    let refused = match Programs::open()
        .map_err(Into::into)
        .and_then(|bpf| Snapshot::from_bpf(&bpf))
    {
        Ok(snapshot) => return Ok((snapshot, None)),
        Err(error) => error,
    };
    let hint = "`pidlist doctor` says what BPF needs here";
    let missing = Missing {
        what: "bpf",
        why: refused.to_string(),
        hint: hint.into(),
    };
    match Snapshot::from_slabinfo() {
        Ok(snapshot) => Ok((snapshot, Some(missing))),
        Err(error) => Err(Advice {
            what: format!("reading slab caches: no BPF ({})", missing.why),
            hint: format!("run as root; {hint}"),
            source: Some(error.into()),
        }
        .into()),
    }
}

pub fn run(slabs: &Slabs, json: bool) -> anyhow::Result<Answer> {
    let (mut snapshot, missing) = snapshot()?;
    match slabs.sort {
        SlabOrder::Memory => snapshot.sort_by_memory(),
        SlabOrder::Objects => snapshot.caches.sort_by_key(|cache| Reverse(cache.objects)),
        SlabOrder::Size => snapshot.caches.sort_by_key(|cache| Reverse(cache.size)),
        SlabOrder::Name => snapshot.caches.sort_by(|a, b| a.name.cmp(&b.name)),
    }
    let most = if slabs.top == 0 {
        usize::MAX
    } else {
        slabs.top
    };
    let shown: Vec<&Cache> = snapshot
        .caches
        .iter()
        .filter(|cache| {
            slabs
                .name
                .as_ref()
                .is_none_or(|text| cache.name.contains(text.as_str()))
        })
        .take(most)
        .collect();
    if let Some(Missing { what, why, hint }) = &missing {
        eprintln!("pidlist: note: no {what} ({why}): reading /proc/slabinfo instead; {hint}");
    }
    if json {
        return output::json(&Document {
            source: snapshot.source,
            missing: missing.into_iter().collect(),
            page_size: snapshot.page_size,
            total_bytes: snapshot.total_bytes(),
            total_caches: snapshot.caches.len(),
            caches: shown
                .iter()
                .map(|cache| CacheView {
                    bytes: snapshot.bytes(cache),
                    cache,
                })
                .collect(),
        });
    }
    print(&snapshot, &shown)
}

fn print(snapshot: &Snapshot, shown: &[&Cache]) -> anyhow::Result<Answer> {
    let mut table = output::table(["MEMORY", "OBJECTS", "SIZE", "SLABS", "USERS", "NAME"]);
    for column in 0..5 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let number =
        |value: Option<u64>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
    for cache in shown {
        table.add_row(output::row([
            Cell::new(
                snapshot
                    .bytes(cache)
                    .map_or_else(|| "?".to_owned(), output::bytes),
            ),
            Cell::new(number(cache.objects)),
            Cell::new(cache.size),
            Cell::new(number(cache.slabs)),
            Cell::new(number(cache.users.map(u64::from))),
            Cell::new(output::text(cache.name.as_bytes())),
        ]));
    }
    let mut out = output::stdout();
    output::print_table(&mut out, &table)?;
    let source = match snapshot.source {
        Source::Bpf => "bpf",
        Source::Slabinfo => "/proc/slabinfo",
    };
    let (all, total) = (snapshot.caches.len(), output::bytes(snapshot.total_bytes()));
    writeln!(
        out,
        "{} shown of {all} caches, {total} in all; source: {source}",
        shown.len()
    )?;
    out.flush()?;
    Ok(Answer::Yes)
}
