//! What is logged, and where to: standard error, which systemd's journal reads.

use std::io::{self, IsTerminal as _};

use pidlist_config::Level;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

/// Changes the level.
pub type Handle = reload::Handle<LevelFilter, Registry>;

/// Logs from now on, unless this process does already.
#[must_use]
pub fn start(level: Level) -> Handle {
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = fmt::layer()
        .with_writer(io::stderr)
        // They would be printed to the same standard error, and a print that fails panics.
        .log_internal_errors(false)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    // The journal has its own time for every line.
    let started = if std::env::var_os("JOURNAL_STREAM").is_some() {
        registry.with(lines.without_time()).try_init()
    } else {
        registry.with(lines).try_init()
    };
    if started.is_err() {
        tracing::debug!("somebody logs already");
    }
    handle
}

/// Logs so much from now on.
pub fn set(handle: &Handle, level: Level) {
    // It fails if whoever logs is gone: nobody is left to tell.
    let _ = handle.reload(filter(level));
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}
