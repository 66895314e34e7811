//! How long a guest may take, and may say nothing, before it counts as hung.

use std::time::{Duration, Instant};

/// On a busy host the first words may take a while, however talkative the guest is later.
const BOOT_SILENCE: Duration = Duration::from_secs(60);

pub struct Patience {
    /// When the run is over at the latest, and what to say then.
    deadline: (Instant, String),
    /// The longest silence now, and once the guest has booted.
    idle: Duration,
    idle_later: Duration,
    /// How many times longer everything may take.
    factor: u32,
    last_sign: Instant,
}

impl Patience {
    pub fn new(now: Instant, timeout: Duration, idle: Duration, factor: u32) -> Self {
        let (timeout, idle) = (timeout * factor, idle * factor);
        let why = format!("not finished after {} s", timeout.as_secs());
        Patience {
            deadline: (now + timeout, why),
            idle: idle.max(BOOT_SILENCE * factor),
            idle_later: idle,
            factor,
            last_sign: now,
        }
    }

    /// The guest has come as far as its init.
    pub fn booted(&mut self) {
        self.idle = self.idle_later;
    }

    /// The guest said something.
    pub fn sign_of_life(&mut self, now: Instant) {
        self.last_sign = now;
    }

    /// The guest should be gone within `grace`, because of `why`. The earliest end holds.
    pub fn ends_within(&mut self, now: Instant, grace: Duration, why: String) {
        let end = now + grace * self.factor;
        if end < self.deadline.0 {
            self.deadline = (end, why);
        }
    }

    /// Why the guest has to be stopped now, if it has to.
    pub fn over(&self, now: Instant) -> Option<String> {
        if now >= self.deadline.0 {
            return Some(self.deadline.1.clone());
        }
        (now >= self.last_sign + self.idle)
            .then(|| format!("no output on any channel for {} s", self.idle.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn patience(now: Instant) -> Patience {
        Patience::new(now, 100 * SECOND, 10 * SECOND, 1)
    }

    #[test]
    fn silence_ends_a_run() {
        let start = Instant::now();
        let mut patience = patience(start);
        assert_eq!(patience.over(start + 59 * SECOND), None);
        patience.booted();
        assert_eq!(patience.over(start + 9 * SECOND), None);
        patience.sign_of_life(start + 9 * SECOND);
        assert_eq!(patience.over(start + 18 * SECOND), None);
        let why = patience.over(start + 19 * SECOND).unwrap();
        assert_eq!(why, "no output on any channel for 10 s");
    }

    #[test]
    fn talking_for_ever_ends_too() {
        let start = Instant::now();
        let mut patience = patience(start);
        patience.sign_of_life(start + 99 * SECOND);
        assert_eq!(patience.over(start + 99 * SECOND), None);
        assert_eq!(
            patience.over(start + 100 * SECOND).unwrap(),
            "not finished after 100 s"
        );
    }

    #[test]
    fn a_slow_kernel_may_take_longer() {
        let start = Instant::now();
        let mut patience = Patience::new(start, 100 * SECOND, 10 * SECOND, 3);
        assert_eq!(patience.over(start + 179 * SECOND), None);
        patience.booted();
        assert_eq!(patience.over(start + 29 * SECOND), None);
        patience.sign_of_life(start + 290 * SECOND);
        let why = patience.over(start + 300 * SECOND).unwrap();
        assert_eq!(why, "not finished after 300 s");
        patience.ends_within(start, 2 * SECOND, "panic".into());
        assert_eq!(patience.over(start + 6 * SECOND).unwrap(), "panic");
    }

    #[test]
    fn the_earliest_end_holds() {
        let start = Instant::now();
        let mut patience = patience(start);
        patience.ends_within(start, 2 * SECOND, "panic".into());
        patience.ends_within(start, 5 * SECOND, "later".into());
        assert_eq!(patience.over(start + SECOND), None);
        assert_eq!(patience.over(start + 2 * SECOND).unwrap(), "panic");
    }
}
