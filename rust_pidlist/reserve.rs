//! How large a reserve of chunks should be.
//!
//! A fork takes from the reserve, and asks for a refill below a mark that leaves enough for the forks
//! until it comes. How many these are is seen at each refill: so the reserve follows the rate of
//! forks and the delay of refills, whatever they are.
//!
//! Plain `core` Rust: the tests run it on the host.

/// The size of a reserve, in leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    size: usize,
    refilled_ns: u64,
}

impl Reserve {
    /// Enough where `pid_max` is 32,768.
    pub const LEAST: usize = 2;
    /// A quarter of all leaves that Linux's pids can fill.
    pub const MOST: usize = 64;
    /// Time without a refill after which half will do.
    pub const QUIET_NS: u64 = 10_000_000_000;

    /// The least one.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            size: Self::LEAST,
            refilled_ns: 0,
        }
    }

    /// What to fill it up to.
    #[must_use]
    pub const fn full(self) -> usize {
        self.size
    }

    /// With fewer than this, it should be refilled.
    #[must_use]
    pub const fn low_water(self) -> usize {
        self.size.div_ceil(2)
    }

    /// Adapts the size, at time `now_ns`, when a refill finds `free` leaves left.
    pub fn refilling(&mut self, free: usize, now_ns: u64) {
        let quiet = now_ns.saturating_sub(self.refilled_ns) > Self::QUIET_NS;
        if free < self.low_water().div_ceil(2) {
            // Half of what the mark keeps was used up while the refill was on its way.
            self.size = (self.size * 2).min(Self::MOST);
        } else if quiet {
            self.size = (self.size / 2).max(Self::LEAST);
        }
        self.refilled_ns = now_ns;
    }
}
