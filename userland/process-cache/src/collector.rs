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
/// How long events may gather at most without a wake-up, nanoseconds: 100 execs with the longest
/// arguments fill the ring.
const GATHER_MAX_NS: u64 = 10 * MILLISECOND;
/// A walk costs at most a tenth of the time: the next one waits for nine times its length.
const WALK_SHARE: u64 = 9;

/// Most images read before events are taken in again: the ring must not run over meanwhile.
const IMAGES_AT_ONCE: usize = 64;

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
    /// The last drain brought events: more will come.
    is_busy: bool,
    lost: Lost,
    lost_asked_ns: u64,
    walked_ns: u64,
    walk_cost_ns: u64,
    /// Execs known to be lost at the last walk.
    execs_lost: u64,
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
            is_busy: false,
            lost: Lost::default(),
            lost_asked_ns: 0,
            walked_ns: 0,
            walk_cost_ns: 0,
            execs_lost: 0,
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

    /// Becomes readable when a [`step`](Self::step) has something to do before its time; ask again
    /// before each wait.
    ///
    /// `None` without events, and after a step that has taken some in: those that follow gather until
    /// [readers are due for them](CollectorSettings::publish_interval_ns). To be woken by each costs as
    /// much as to apply it, and whoever forks pays a part.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        let events = self.events.as_ref().filter(|_| !self.is_busy);
        events.map(|events| events.as_fd())
    }

    /// How long a caller may sleep before the next [`step`](Self::step), nanoseconds.
    #[must_use]
    pub fn sleep_ns(&self) -> u64 {
        let due = self.walk_due_ns().saturating_sub(clock::boottime_ns());
        match self.events {
            None => due,
            Some(_) if self.is_busy => due
                .min(self.settings.publish_interval_ns)
                .min(GATHER_MAX_NS),
            Some(_) => due.min(SLEEP_MAX_NS),
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
            self.read_first_image(seen.key, seen.precision);
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
            tell_displaced(&mut self.cache, seen_ns, observer);
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
            // A zombie that is found is added, and does not live.
            cached: (walked + repair.ended.len() as u64)
                .saturating_sub((repair.added.len() + repair.revived.len()) as u64),
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
        let is_busy = &mut self.is_busy;
        *is_busy = false;
        // The time of the events will do for a clock: a backlog is published in the same steps.
        events.drain(&mut |event| {
            let time_ns = apply(cache, event, observer);
            *is_busy = true;
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
        // Not after a failure at once again.
        self.walked_ns = began_ns;
        // What goes wrong from here on is not mended by this walk.
        self.cache.begin_repair();
        let walk = match self.tasks.walk() {
            Ok(walk) => walk,
            Err(error) => {
                self.cache.ask_for_repair();
                return Err(error);
            }
        };
        self.drain(observer)?;
        self.ask_lost()?;

        let now_ns = clock::boottime_ns();
        let execs_lost = self.cache.counters().execs_lost;
        let lost_execs = std::mem::replace(&mut self.execs_lost, execs_lost) != execs_lost;
        let doubtful: Vec<Key> = walk
            .iter()
            .filter(|seen| self.is_doubtful(seen, began_ns, lost_execs))
            .map(|seen| seen.key)
            .collect();
        let repair = self
            .cache
            .merge_partial(&walk, self.tasks.unread(), began_ns, now_ns);
        let population = Population {
            processes: walk.len() as u64,
            threads: walk.iter().map(|seen| u64::from(seen.threads)).sum(),
        };
        let precision = walk.first().map_or(Precision::Tick, |seen| seen.precision);
        for keys in doubtful.chunks(IMAGES_AT_ONCE) {
            for key in keys {
                self.read_image(*key, precision);
            }
            self.drain(observer)?;
        }
        for (what, keys) in [
            (What::Gone, &repair.ended),
            (What::Revived, &repair.revived),
            (What::Found, &repair.added),
        ] {
            for keys in keys.chunks(IMAGES_AT_ONCE) {
                for key in keys {
                    if what != What::Gone {
                        self.read_first_image(*key, precision);
                    }
                    let change = Change {
                        time_ns: now_ns,
                        what,
                        key: *key,
                    };
                    self.cache.announce(&change);
                    observer(&change, &self.cache);
                }
                if keys.len() == IMAGES_AT_ONCE {
                    self.drain(observer)?;
                }
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
        self.walked_ns = clock::boottime_ns();
        // All that it kept this thread from, and the disks and locks of others.
        self.walk_cost_ns = self.walked_ns.saturating_sub(began_ns);
        Ok((population, repair))
    }

    /// Whether a process shows an exec that no event told: it runs another file, or has another name
    /// where that is a sign. A process may also name itself.
    fn is_doubtful(&self, seen: &Sighting, began_ns: u64, lost_execs: bool) -> bool {
        let Some(known) = self.cache.by_pid(seen.key.tgid) else {
            return false;
        };
        let (from, to) = (&known.seen, seen);
        if !from.key.same(from.precision, to.key, to.precision)
            || known.exec_ns.is_some_and(|exec_ns| exec_ns >= began_ns)
        {
            return false;
        }
        let is_other_file = match (from.exe, to.exe) {
            // Devices have other numbers in the kernel than in stat(2).
            (Some(from_exe), Some(to_exe)) => {
                from_exe.ino != to_exe.ino
                    || (from.precision == to.precision && from_exe.dev != to_exe.dev)
            }
            _ => false,
        };
        let is_renamed = from.comm != to.comm;
        is_other_file || (is_renamed && (known.execs == 0 || lost_execs))
    }

    /// What a process runs, unless an exec has told that.
    fn read_first_image(&mut self, key: Key, precision: Precision) {
        if self
            .cache
            .get(key)
            .is_some_and(|process| process.execs == 0)
        {
            self.read_image(key, precision);
        }
    }

    fn read_image(&mut self, key: Key, precision: Precision) {
        let looked_ns = clock::boottime_ns();
        let process = self.cache.get(key);
        if process.is_some_and(|process| process.is_alive() && !process.seen.kthread)
            && let Some(image) = self.proc.image(key, precision)
        {
            self.cache.set_image(key, image, looked_ns);
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
    tell_displaced(cache, time_ns, observer);
    if outcome == Outcome::Applied {
        observer(&Change { time_ns, what, key }, cache);
    }
    time_ns
}

/// Whose pid has been reused, is gone.
fn tell_displaced(cache: &mut Cache, time_ns: u64, observer: &mut Observer<'_>) {
    if let Some(key) = cache.take_displaced() {
        let what = What::Gone;
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
