//! Feeds a [`Cache`] from the sources there are, notices losses, and repairs them.

use std::os::fd::BorrowedFd;

use crate::audit::{Population, bounds};
use crate::source::{Event, EventSource, Lost, SourceError, TaskSource};
use crate::{
    Audit, Cache, Change, Key, Outcome, Precision, ProcSource, Reader, Repair, Settings, Sighting,
    What, clock,
};

#[cfg(test)]
mod tests;

const MILLISECOND: u64 = 1_000_000;

/// Walks that repair come no closer than this, nanoseconds.
const REPAIR_INTERVAL_NS: u64 = 100 * MILLISECOND;
/// How often to ask what was lost, nanoseconds: it costs a few system calls.
const LOST_INTERVAL_NS: u64 = 50 * MILLISECOND;
/// Walks that merely make sure come no closer than this, where events are told.
const CHECK_INTERVAL_NS: u64 = 10_000 * MILLISECOND;
/// A walk costs at most a tenth of the time: the next one waits for nine times its length.
const WALK_SHARE: u64 = 9;

/// Whoever wants to know of every change, with the cache as it is right after it.
pub type Observer<'a> = dyn FnMut(&Change, &Cache) + 'a;

/// A cache that follows the machine.
pub struct Collector {
    cache: Cache,
    tasks: Box<dyn TaskSource>,
    events: Option<Box<dyn EventSource>>,
    proc: ProcSource,
    poll_interval_ns: u64,
    lost: Lost,
    lost_asked_ns: u64,
    walked_ns: u64,
    walk_cost_ns: u64,
    /// What the walk at the start added.
    added_at_start: u64,
}

impl Collector {
    /// Takes events, walks the tasks once, and has the cache complete.
    ///
    /// `events` must be attached already. Without them every change is found by walks alone,
    /// `poll_interval_ns` apart or further if a walk takes long.
    ///
    /// # Errors
    ///
    /// A source failed.
    pub fn start(
        settings: Settings,
        tasks: Box<dyn TaskSource>,
        events: Option<Box<dyn EventSource>>,
        proc: ProcSource,
        poll_interval_ns: u64,
    ) -> Result<Self, SourceError> {
        let mut collector = Self {
            cache: Cache::new(settings),
            tasks,
            events,
            proc,
            poll_interval_ns,
            lost: Lost::default(),
            lost_asked_ns: 0,
            walked_ns: 0,
            walk_cost_ns: 0,
            added_at_start: 0,
        };
        collector.walk(&mut |_, _| ())?;
        collector.added_at_start = collector.cache.counters().added;
        Ok(collector)
    }

    /// The cache as of the last [`step`](Self::step).
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// What reads the cache from other threads, as of the last step or a few milliseconds ago.
    pub fn reader(&mut self) -> Reader {
        self.cache.reader()
    }

    /// Whether events are told; else changes are found by walks.
    #[must_use]
    pub fn has_events(&self) -> bool {
        self.events.is_some()
    }

    /// How many processes had to be corrected by walks since the start. Without events, that is how
    /// many changes were found.
    #[must_use]
    pub fn repaired(&self) -> u64 {
        let counters = self.cache.counters();
        counters.added - self.added_at_start + counters.ended + counters.revived
    }

    /// Becomes readable when a [`step`](Self::step) has something to do before its time.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(|events| events.as_fd())
    }

    /// How long a caller may sleep before the next [`step`](Self::step), nanoseconds.
    #[must_use]
    pub fn sleep_ns(&self) -> u64 {
        let due = self.walk_due_ns().saturating_sub(clock::boottime_ns());
        if self.events.is_some() {
            due.min(REPAIR_INTERVAL_NS)
        } else {
            due
        }
    }

    /// Takes in what has happened, walks if that is due, and lets the long dead go.
    ///
    /// # Errors
    ///
    /// A source failed. The cache is good as far as it goes.
    pub fn step(&mut self, observer: &mut Observer<'_>) -> Result<(), SourceError> {
        self.drain(observer)?;
        if clock::boottime_ns() >= self.lost_asked_ns + LOST_INTERVAL_NS {
            self.ask_lost()?;
        }
        if clock::boottime_ns() >= self.walk_due_ns() {
            self.walk(observer)?;
        }
        let now_ns = clock::boottime_ns();
        self.cache.expire(now_ns);
        self.cache.publish(now_ns);
        Ok(())
    }

    /// Takes in all that has happened until now, and repairs at once whatever was lost.
    ///
    /// # Errors
    ///
    /// A source failed. The cache is good as far as it goes.
    pub fn settle(&mut self, observer: &mut Observer<'_>) -> Result<(), SourceError> {
        self.drain(observer)?;
        self.ask_lost()?;
        if self.events.is_none() || self.cache.needs_repair() {
            self.walk(observer)?;
        }
        Ok(())
    }

    /// Walks over all tasks now, and makes the cache agree.
    ///
    /// # Errors
    ///
    /// A source failed. The cache is good as far as it goes.
    pub fn walk(&mut self, observer: &mut Observer<'_>) -> Result<Repair, SourceError> {
        let (_, repair) = self.walk_and_count(observer)?;
        Ok(repair)
    }

    /// Compares the cache with a walk and with the slab caches, and corrects it.
    ///
    /// `slabs` reads the slab caches: their names and how many objects they have room for.
    ///
    /// # Errors
    ///
    /// A source failed. The cache is good as far as it goes.
    pub fn audit(
        &mut self,
        slabs: &mut dyn FnMut() -> Vec<(String, u64)>,
        observer: &mut Observer<'_>,
    ) -> Result<Audit, SourceError> {
        // Slabs shrink and grow meanwhile: what was possible at either end, was possible.
        let before = slabs();
        let (population, repair) = self.walk_and_count(observer)?;
        let mut both = slabs();
        for (name, objects) in &mut both {
            let earlier = before.iter().find(|(other, _)| other == name);
            *objects = earlier.map_or(*objects, |(_, earlier)| *objects.max(&mut earlier.clone()));
        }
        let walked = self.cache.alive() as u64;
        Ok(Audit {
            cached: walked + repair.ended.len() as u64
                - repair.added.len() as u64
                - repair.revived.len() as u64,
            walked,
            repair,
            bounds: bounds(population, &both),
        })
    }

    fn walk_due_ns(&self) -> u64 {
        let interval = match &self.events {
            None => self.poll_interval_ns,
            Some(_) if self.cache.needs_repair() => REPAIR_INTERVAL_NS,
            Some(_) => CHECK_INTERVAL_NS,
        };
        self.walked_ns + interval.max(self.walk_cost_ns * WALK_SHARE)
    }

    fn drain(&mut self, observer: &mut Observer<'_>) -> Result<(), SourceError> {
        let Some(events) = &mut self.events else {
            return Ok(());
        };
        let cache = &mut self.cache;
        events.drain(&mut |event| apply(cache, event, observer))
    }

    fn ask_lost(&mut self) -> Result<(), SourceError> {
        let Some(events) = &mut self.events else {
            return Ok(());
        };
        let lost = events.lost()?;
        self.cache.on_lost(
            lost.forks - self.lost.forks,
            lost.execs - self.lost.execs,
            lost.exits - self.lost.exits,
        );
        self.lost = lost;
        self.lost_asked_ns = clock::boottime_ns();
        Ok(())
    }

    fn walk_and_count(
        &mut self,
        observer: &mut Observer<'_>,
    ) -> Result<(Population, Repair), SourceError> {
        let began_ns = clock::boottime_ns();
        let walk = self.tasks.walk()?;
        let walked_ns = clock::boottime_ns();
        self.drain(observer)?;

        let now_ns = clock::boottime_ns();
        let renamed: Vec<Key> = walk
            .iter()
            .filter(|seen| self.is_renamed(seen))
            .map(|seen| seen.key)
            .collect();
        let repair = self.cache.merge(&walk, began_ns, now_ns);
        let population = Population {
            processes: walk.len() as u64,
            threads: walk.iter().map(|seen| u64::from(seen.threads)).sum(),
        };
        let precision = walk.first().map_or(Precision::Tick, |seen| seen.precision);
        for key in repair.added.iter().chain(&repair.revived).chain(&renamed) {
            self.read_image(*key, precision);
        }
        for (what, keys) in [
            (What::Found, &repair.added),
            (What::Revived, &repair.revived),
            (What::Gone, &repair.ended),
        ] {
            for key in keys {
                observer(
                    &Change {
                        time_ns: now_ns,
                        what,
                        key: *key,
                    },
                    &self.cache,
                );
            }
        }
        if !repair.is_empty() && self.cache.counters().walks > 1 && self.events.is_some() {
            tracing::debug!(
                added = repair.added.len(),
                ended = repair.ended.len(),
                revived = repair.revived.len(),
                "a walk corrected the cache"
            );
        }
        self.walked_ns = now_ns;
        self.walk_cost_ns = walked_ns - began_ns;
        Ok((population, repair))
    }

    /// Whether a process shows another name than before: a sign of an exec that no event told.
    fn is_renamed(&self, seen: &Sighting) -> bool {
        self.cache.by_pid(seen.key.tgid).is_some_and(|known| {
            known.execs == 0 && known.image.is_some() && known.seen.comm != seen.comm
        })
    }

    fn read_image(&mut self, key: Key, precision: Precision) {
        let wanted = self.cache.get(key).is_some_and(|process| {
            process.is_alive() && !process.seen.kthread && process.execs == 0
        });
        if wanted && let Some(image) = self.proc.image(key, precision) {
            self.cache.set_image(key, image);
        }
    }
}

fn apply(cache: &mut Cache, event: Event, observer: &mut Observer<'_>) {
    let (time_ns, what, key, outcome) = match event {
        Event::Fork {
            time_ns,
            child,
            forker,
        } => (
            time_ns,
            What::Forked,
            child.key,
            cache.on_fork(time_ns, &child, forker),
        ),
        Event::Exec {
            time_ns,
            process,
            image,
        } => (
            time_ns,
            What::Executed,
            process.key,
            cache.on_exec(time_ns, &process, image),
        ),
        Event::Exit { time_ns, process } => (
            time_ns,
            What::Exited,
            process.key,
            cache.on_exit(time_ns, &process),
        ),
    };
    if outcome != Outcome::Stale {
        observer(&Change { time_ns, what, key }, cache);
    }
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector")
            .field("cache", &self.cache.len())
            .field("events", &self.has_events())
            .finish_non_exhaustive()
    }
}
