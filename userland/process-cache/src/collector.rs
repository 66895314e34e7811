//! Feeds a [`Cache`] from the sources there are, notices losses, and repairs them.

use std::os::fd::BorrowedFd;

use crate::audit::{Population, bounds};
use crate::source::{Event, EventSource, Lost, SourceError, TaskSource};
use crate::{
    Audit, Cache, Change, CollectorSettings, Key, Mode, Outcome, Precision, ProcSource, Process,
    Reader, Repair, Sighting, What, clock,
};

#[cfg(test)]
mod tests;

const MILLISECOND: u64 = 1_000_000;

/// How often to ask what was lost, nanoseconds: it costs a few system calls.
const LOST_INTERVAL_NS: u64 = 50 * MILLISECOND;
/// How long to sleep at most where events are told, nanoseconds: losses make no descriptor readable.
const SLEEP_MAX_NS: u64 = 100 * MILLISECOND;
/// A walk costs at most a tenth of the time: the next one waits for nine times its length.
const WALK_SHARE: u64 = 9;

/// Whoever wants to know of every change, with the cache as it is right after it.
pub type Observer<'a> = dyn FnMut(&Change, &Cache) + 'a;

/// Reads the slab caches: their names, and how many objects they have room for.
pub type Slabs = dyn FnMut() -> Vec<(String, u64)>;

/// A cache that follows the machine.
pub struct Collector {
    cache: Cache,
    tasks: Box<dyn TaskSource>,
    events: Option<Box<dyn EventSource>>,
    proc: ProcSource,
    settings: CollectorSettings,
    slabs: Option<Box<Slabs>>,
    audited_ns: u64,
    published_ns: u64,
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
    /// `events` must be attached already. Without them, as in [`Mode::Poll`], every change is found by
    /// walks alone. A walk costs at most a tenth of the time, whatever the intervals.
    ///
    /// # Errors
    ///
    /// A source failed.
    pub fn start(
        settings: CollectorSettings,
        tasks: Box<dyn TaskSource>,
        events: Option<Box<dyn EventSource>>,
        proc: ProcSource,
    ) -> Result<Self, SourceError> {
        let mut collector = Self {
            cache: Cache::new(settings.cache),
            tasks,
            events: events.filter(|_| settings.mode != Mode::Poll),
            proc,
            settings,
            slabs: None,
            audited_ns: 0,
            published_ns: 0,
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

    /// Other settings from now on, all but the [mode](CollectorSettings::mode).
    pub fn set_settings(&mut self, settings: CollectorSettings) {
        self.settings = CollectorSettings {
            mode: self.settings.mode,
            ..settings
        };
        self.cache.set_settings(settings.cache);
    }

    /// Has the number of the living compared with the slab caches every
    /// [so often](CollectorSettings::audit_interval_ns): more than there are objects for cannot be.
    pub fn audit_by(&mut self, slabs: Box<Slabs>) {
        self.slabs = Some(slabs);
    }

    /// The cache, to be fed by other sources, too.
    pub fn cache_mut(&mut self) -> &mut Cache {
        &mut self.cache
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

    /// How long the last walk took, nanoseconds.
    #[must_use]
    pub fn walk_cost_ns(&self) -> u64 {
        self.walk_cost_ns
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
            due.min(SLEEP_MAX_NS)
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
        self.compare_with_slabs();
        if clock::boottime_ns() >= self.walk_due_ns() {
            self.walk(observer)?;
        }
        self.publish();
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
        self.publish();
        Ok(())
    }

    /// Reads one process in `/proc`, for a caller who cannot wait for the next walk.
    ///
    /// Returns its key; `None` if it is not there, or not for this user to see.
    ///
    /// # Errors
    ///
    /// A source failed. The cache is good as far as it goes.
    pub fn preload(
        &mut self,
        pid: u32,
        observer: &mut Observer<'_>,
    ) -> Result<Option<Key>, SourceError> {
        let seen_ns = clock::boottime_ns();
        let seen = self.proc.sighting(pid);
        self.drain(observer)?;
        let Some(seen) = seen else {
            // An event may still come that explains it; if none does, a walk will.
            if self.cache.by_pid(pid).is_some_and(Process::is_alive) {
                self.cache.ask_for_repair();
            }
            return Ok(None);
        };
        let before = self.cache.counters();
        if self.cache.preload(&seen, seen_ns) == Outcome::Applied {
            self.read_image(seen.key, seen.precision);
            let what = if self.cache.counters().added > before.added {
                What::Found
            } else if seen.dead {
                What::Gone
            } else {
                What::Revived
            };
            let change = Change {
                time_ns: seen_ns,
                what,
                key: seen.key,
            };
            observer(&change, &self.cache);
        }
        self.publish();
        let known = self.cache.by_pid(pid).map(Process::key);
        Ok(known.filter(|key| key.same(Precision::Tick, seen.key, seen.precision)))
    }

    /// Walks over all tasks now, and makes the cache agree.
    ///
    /// # Errors
    ///
    /// A source failed. The cache is good as far as it goes.
    pub fn walk(&mut self, observer: &mut Observer<'_>) -> Result<Repair, SourceError> {
        let (_, repair) = self.walk_and_count(observer)?;
        self.publish();
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
        let audit = Audit {
            cached: walked + repair.ended.len() as u64
                - repair.added.len() as u64
                - repair.revived.len() as u64,
            walked,
            repair,
            bounds: bounds(population, &both),
        };
        // Without events, that there are differences is no news.
        if !audit.agrees() && (self.events.is_some() || audit.repair.is_empty()) {
            self.cache.on_audit_failed();
        }
        self.publish();
        Ok(audit)
    }

    fn compare_with_slabs(&mut self) {
        let Some(slabs) = &mut self.slabs else { return };
        let now_ns = clock::boottime_ns();
        if now_ns
            < self
                .audited_ns
                .saturating_add(self.settings.audit_interval_ns)
        {
            return;
        }
        self.audited_ns = now_ns;
        let alive = self.cache.alive() as u64;
        let population = Population {
            processes: alive,
            threads: alive,
        };
        if let Some(bound) = bounds(population, &slabs())
            .iter()
            .find(|bound| !bound.holds())
        {
            tracing::warn!(
                slab = bound.slab,
                objects = bound.objects,
                known = bound.known,
                "more processes are known than there can be"
            );
            self.cache.on_audit_failed();
        }
    }

    fn publish(&mut self) {
        let now_ns = clock::boottime_ns();
        self.cache.expire(now_ns);
        self.cache.publish(now_ns);
        self.published_ns = now_ns;
    }

    fn walk_due_ns(&self) -> u64 {
        let interval = match &self.events {
            None => self.settings.poll_interval_alone_ns,
            Some(_) if self.cache.needs_repair() => self.settings.repair_interval_ns,
            Some(_) if self.settings.mode == Mode::Events => u64::MAX,
            Some(_) => self.settings.poll_interval_ns,
        };
        let interval = interval.max(self.walk_cost_ns * WALK_SHARE);
        self.walked_ns.saturating_add(interval)
    }

    fn drain(&mut self, observer: &mut Observer<'_>) -> Result<(), SourceError> {
        let Some(events) = &mut self.events else {
            return Ok(());
        };
        let (cache, published_ns) = (&mut self.cache, &mut self.published_ns);
        let interval_ns = self.settings.publish_interval_ns;
        // The time of the events will do for a clock: a backlog is published in the same steps.
        events.drain(&mut |event| {
            let time_ns = apply(cache, event, observer);
            if time_ns >= published_ns.saturating_add(interval_ns) {
                cache.expire(time_ns);
                cache.publish(time_ns);
                *published_ns = time_ns;
            }
        })
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
                let change = Change {
                    time_ns: now_ns,
                    what,
                    key: *key,
                };
                self.cache.announce(&change);
                observer(&change, &self.cache);
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

/// Returns when it happened.
fn apply(cache: &mut Cache, event: Event, observer: &mut Observer<'_>) -> u64 {
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
    time_ns
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector")
            .field("cache", &self.cache.len())
            .field("events", &self.has_events())
            .finish_non_exhaustive()
    }
}
