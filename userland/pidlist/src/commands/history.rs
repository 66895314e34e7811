//! `pidlist history`.

use std::time::Duration;

use anyhow::Context as _;
use pidlist_config::parse_duration;
use pidlist_process_cache::clock;

use super::ps;
use crate::cli::History;
use crate::filter::{self, Circumstances};
use crate::link::Link;
use crate::output::{self, Advice, Answer};
use crate::picture::Picture;

pub fn run(history: &History, json: bool) -> anyhow::Result<Answer> {
    if ps::asks_for_help(&history.shape) {
        return ps::help();
    }
    if history.until > history.since {
        return Err(Advice {
            what: "--until is longer ago than --since".into(),
            hint: "both say how long ago: --since 30s --until 10s is from 30 to 10 seconds ago"
                .into(),
            source: None,
        }
        .into());
    }
    let now_ns = clock::boottime_ns();
    let ago = |length: Duration| {
        now_ns.saturating_sub(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX))
    };
    let (since_ns, until_ns) = (ago(history.since), ago(history.until));
    let mut link = Link::insist(history.socket.clone()).context(
        "only a daemon remembers who has exited; `pidlist ps --for 30s` watches from now on",
    )?;
    let snapshot = Link::said(link.client.history(since_ns))?;
    let limits = limits(&mut link, since_ns)?;
    let mut picture = Picture::of_daemon(&link, snapshot);
    let filters = &history.filters;
    let list = filters.tracked.as_deref();
    let besides = Circumstances {
        tracked: list.map(super::set::members).transpose()?,
        started_since_ns: None,
        json,
    };
    let mut selection = filter::selection(filters, &picture.snapshot, &besides);
    selection.lived_ns = Some((since_ns, until_ns));
    let mut shown = picture.select(&selection);
    ps::arrange(&history.shape, &mut picture, &mut shown);
    for limit in limits {
        eprintln!("pidlist: note: {limit}");
    }
    if json {
        picture.json(&shown)?;
    } else {
        let mut out = output::stdout();
        ps::print(&mut out, &history.shape, &mut picture, &shown)?;
        picture.end(&mut out, &shown, &selection)?;
    }
    Ok(Answer::from(filters.pids.is_empty() || !shown.is_empty()))
}

/// What the daemon cannot tell of the time since then.
fn limits(link: &mut Link, since_ns: u64) -> anyhow::Result<Vec<String>> {
    let now_ns = clock::boottime_ns();
    let mut limits = Vec::new();
    if link.stats.started_ns > since_ns {
        let runs = output::span(now_ns.saturating_sub(link.stats.started_ns));
        limits.push(format!(
            "the daemon runs for {runs}: it knows of nobody who exited before that"
        ));
    }
    if !link.stats.has_events {
        limits.push("the daemon polls: lives shorter than its interval are missed".into());
    }
    let settings = Link::said(link.client.config())?;
    let kept = |key: &str| {
        let setting = settings.iter().find(|setting| setting.key == key)?;
        let kept = parse_duration(setting.value.as_str()?).ok()?;
        Some(u64::try_from(kept.as_nanos()).unwrap_or(u64::MAX))
    };
    if let (Some(short), Some(others)) = (kept("keep-short-lived"), kept("keep-exited"))
        && short.min(others) < now_ns.saturating_sub(since_ns)
    {
        limits.push(format!(
            "of those who exited, the daemon keeps the short-lived for {}, others for {} (settings \
             keep-short-lived, keep-exited)",
            output::span(short),
            output::span(others)
        ));
    }
    Ok(limits)
}
