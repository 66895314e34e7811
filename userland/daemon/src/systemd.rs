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

/// How often to tell it [`watchdog`], if it wants to hear that at all: four times in its patience. Half of
/// it, as sd_watchdog_enabled(3) says, leaves a busy machine little room for a late one.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    let interval = sd_notify::watchdog_enabled()? / 4;
    (!interval.is_zero()).then_some(interval)
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell systemd");
    }
}
