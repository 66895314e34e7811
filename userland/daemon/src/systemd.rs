//! What systemd is told, if it started this: sd_notify(3).

use std::time::Duration;

use sd_notify::NotifyState;

/// All is served.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Settings are being read again: [`ready`] ends that.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "no time to tell systemd"),
    }
}

/// The end is near.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Alive.
pub fn watchdog() {
    tell(&[NotifyState::Watchdog]);
}

/// How often it wants to hear [`watchdog`], if at all: half its patience, as sd_watchdog_enabled(3)
/// asks.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 2)
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}
