//! The thread that owns the [`Collector`], and how the others reach it.
//!
//! It waits for nobody: readers look at snapshots, subscribers at the [log](crate::stream). Preloads come
//! through a short queue, of which it takes a bounded number between two steps; of settings the newest
//! count, and there is always room for them and for the order to stop.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pidlist_config::{Mode, Settings, Source};
use pidlist_process_cache::source::{self, Capture, Kind, SourceError, Want};
use pidlist_process_cache::{
    Cache, Change, Collector, CollectorSettings, ProcSource, Reader, Redact,
    Settings as CacheSettings, clock,
};
use pidlist_slabs::Snapshot;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tokio::sync::oneshot;

use crate::Error;
use crate::stream::{Item, Log};

/// Most preloads that wait, and that are done between two steps: whoever asks on and on would else keep the
/// thread from everything else.
const MAX_PRELOADS: usize = 64;
/// The thread shows that it lives this often, at least.
const PULSE: Duration = Duration::from_secs(1);

/// A process to take in, and whom to tell whether there is one.
type Preload = (u32, oneshot::Sender<bool>);

/// What else the thread is asked to do.
#[derive(Debug, Default)]
struct Orders {
    settings: Option<Box<Settings>>,
    is_over: bool,
}

/// What the thread says about itself after each step.
#[derive(Clone, Debug)]
pub struct Vitals {
    /// Where processes are learned of.
    pub kind: Kind,
    /// Why nothing better is used.
    pub refused: Option<String>,
    /// Whether events are told.
    pub has_events: bool,
    /// When it began, nanoseconds of `CLOCK_BOOTTIME`.
    pub started_ns: u64,
    /// When the last step ended.
    pub stepped_ns: u64,
    /// The same on a clock that stands still while the machine sleeps, as the thread does.
    pub stepped: Instant,
    /// How long the last step took that applied something, nanoseconds.
    pub apply_ns: u64,
    /// How long the last walk took.
    pub walk_ns: u64,
    /// Memory for processes, bytes.
    pub bytes: u64,
    /// Processes corrected by walks.
    pub repaired: u64,
    /// Processes that went while `/proc` was read.
    pub vanished: u64,
    /// Processes that `/proc` does not let this user read, as often as they were met.
    pub hidden: u64,
}

/// Why a preload was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many wait.
    Busy,
    /// The thread has ended.
    Stopped,
}

/// A [`Collector`] in a thread of its own.
#[derive(Debug)]
pub struct Follower {
    reader: Reader,
    log: Arc<Log>,
    vitals: Arc<Mutex<Vitals>>,
    preloads: SyncSender<Preload>,
    orders: Arc<Mutex<Orders>>,
    wake: Arc<OwnedFd>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Follower {
    /// Begins to follow the processes. Returns once all that there are are known, and what will tell how
    /// it ended. If the future is dropped, the thread is left to itself.
    ///
    /// # Errors
    ///
    /// No source can be had, or the system has no threads or descriptors left.
    pub async fn start(
        settings: &Settings,
    ) -> Result<(Self, oneshot::Receiver<Result<(), SourceError>>), Error> {
        let failed = |source| Error::System {
            what: "starting the thread that follows the processes",
            source,
        };
        let (preloads, inbox) = sync_channel(MAX_PRELOADS);
        let orders = Arc::<Mutex<Orders>>::default();
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake = Arc::new(wake.map_err(|errno| failed(errno.into()))?);
        let log = Log::new();
        let (started, starting) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("collector".into()).spawn({
            let (settings, log, wake) = (settings.clone(), log.clone(), wake.clone());
            let orders = orders.clone();
            move || {
                // Sources stay in the thread that opened them.
                let result = match Owner::open(&settings, log, wake, inbox, orders) {
                    Ok(mut owner) => {
                        let shared = (owner.reader.clone(), owner.vitals.clone());
                        match started.send(Ok(shared)) {
                            Ok(()) => owner.run(),
                            // Whoever started this was told to stop meanwhile.
                            Err(_) => Ok(()),
                        }
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                        Ok(())
                    }
                };
                // Nobody listens any more if the daemon stops.
                let _ = end.send(result);
            }
        });
        let thread = thread.map_err(failed)?;
        let started = starting
            .await
            .map_err(|_| failed(io::ErrorKind::BrokenPipe.into()))?;
        let (reader, vitals) = started?;
        let follower = Self {
            reader,
            log,
            vitals,
            preloads,
            orders,
            wake,
            thread: Mutex::new(Some(thread)),
        };
        Ok((follower, ended))
    }

    /// What is known.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// What changes.
    #[must_use]
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// How the thread is.
    #[must_use]
    pub fn vitals(&self) -> Vitals {
        lock(&self.vitals).clone()
    }

    /// Has a process taken in at once; whether there is one.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub async fn preload(&self, pid: u32) -> Result<bool, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.preloads
            .try_send((pid, reply))
            .map_err(|error| match error {
                TrySendError::Full(_) => Refusal::Busy,
                TrySendError::Disconnected(_) => Refusal::Stopped,
            })?;
        rouse(&self.wake);
        answer.await.map_err(|_| Refusal::Stopped)
    }

    /// Goes by other settings from the next step on, as far as they are live.
    pub fn set(&self, settings: &Settings) {
        lock(&self.orders).settings = Some(Box::new(settings.clone()));
        rouse(&self.wake);
    }

    /// Ends the thread, and waits for it, but no longer than that; returns whether it has ended.
    pub async fn stop(&self, patience: Duration) -> bool {
        lock(&self.orders).is_over = true;
        rouse(&self.wake);
        let Some(thread) = lock(&self.thread).take() else {
            return true;
        };
        let begun = Instant::now();
        while !thread.is_finished() {
            if begun.elapsed() > patience {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // It has said why it panicked.
        let _ = thread.join();
        true
    }
}

/// Has the thread look for orders.
fn rouse(wake: &OwnedFd) {
    // It fails if the count is full: then the thread is awake anyway.
    let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is in it is replaced as a whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread has.
struct Owner {
    collector: Collector,
    reader: Reader,
    proc: ProcSource,
    log: Arc<Log>,
    vitals: Arc<Mutex<Vitals>>,
    wake: Arc<OwnedFd>,
    inbox: Receiver<Preload>,
    orders: Arc<Mutex<Orders>>,
}

impl Owner {
    fn open(
        settings: &Settings,
        log: Arc<Log>,
        wake: Arc<OwnedFd>,
        inbox: Receiver<Preload>,
        orders: Arc<Mutex<Orders>>,
    ) -> Result<Self, SourceError> {
        let want = match settings.source {
            Source::Auto => Want::Best,
            Source::Bpf => Want::Bpf,
            Source::Proc => Want::Proc,
        };
        let capture = Capture {
            environment: settings
                .collect_env
                .then(|| Redact::new(&settings.redact_env)),
            args_max: usize::try_from(settings.max_args.0).unwrap_or(usize::MAX),
            ring_bytes: u32::try_from(settings.ring_size.0).unwrap_or(u32::MAX),
        };
        let sources = source::open_with(want, settings.mode != Mode::Poll, &capture)?;
        let refused = sources.refused.as_ref().map(|error| chain(error));
        if let Some(why) = &refused {
            tracing::warn!(
                "no BPF ({why}): polling /proc instead, short lives are missed; `pidlist doctor` says what \
                 BPF needs here"
            );
        }
        let (kind, proc) = (sources.kind, sources.proc.clone());
        let mut collector = Collector::start(
            collector_settings(settings),
            sources.tasks,
            sources.events,
            sources.proc,
        )?;
        collector.audit_by(Box::new(slabs));
        // Readers see nothing before the first step.
        let reader = collector.reader();
        collector.step(&mut |_, _| ())?;
        let now_ns = clock::boottime_ns();
        let vitals = Vitals {
            kind,
            refused,
            has_events: collector.has_events(),
            started_ns: now_ns,
            stepped_ns: now_ns,
            stepped: Instant::now(),
            apply_ns: 0,
            walk_ns: collector.walk_cost_ns(),
            bytes: collector.cache().bytes() as u64,
            repaired: 0,
            vanished: proc.vanished(),
            hidden: proc.hidden(),
        };
        Ok(Self {
            collector,
            reader,
            proc,
            log,
            vitals: Arc::new(Mutex::new(vitals)),
            wake,
            inbox,
            orders,
        })
    }

    fn run(&mut self) -> Result<(), SourceError> {
        loop {
            self.wait();
            // Emptied before the orders are read: one that comes later wakes it again.
            let _ = rustix::io::read(&*self.wake, &mut [0u8; 8]);
            let orders = std::mem::take(&mut *lock(&self.orders));
            if orders.is_over {
                return Ok(());
            }
            if let Some(settings) = orders.settings {
                self.collector.set_settings(collector_settings(&settings));
            }
            self.preload()?;
            self.step()?;
        }
    }

    fn preload(&mut self) -> Result<(), SourceError> {
        let mut done = 0;
        for (pid, reply) in self.inbox.try_iter().take(MAX_PRELOADS) {
            let log = &self.log;
            let found = self.collector.preload(pid, &mut |change, cache| {
                tell(log, change, cache);
            })?;
            // Who asked may have gone.
            let _ = reply.send(found.is_some());
            done += 1;
        }
        if done == MAX_PRELOADS {
            // There may be more: do not sleep on them.
            rouse(&self.wake);
        }
        Ok(())
    }

    fn wait(&self) {
        let timeout = PULSE.min(Duration::from_nanos(self.collector.sleep_ns()));
        let timeout = Timespec::try_from(timeout).ok();
        let wake = PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN);
        let mut polled = vec![wake];
        polled.extend(
            self.collector
                .as_fd()
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)),
        );
        // Interrupted or not: what there is to do is found out by doing it.
        let _ = poll(&mut polled, timeout.as_ref());
    }

    fn step(&mut self) -> Result<(), SourceError> {
        let began_ns = clock::boottime_ns();
        let (log, mut changes) = (&self.log, 0u64);
        self.collector.step(&mut |change, cache| {
            changes += 1;
            tell(log, change, cache);
        })?;
        let mut vitals = lock(&self.vitals);
        vitals.stepped_ns = clock::boottime_ns();
        vitals.stepped = Instant::now();
        if changes > 0 {
            vitals.apply_ns = vitals.stepped_ns - began_ns;
        }
        vitals.walk_ns = self.collector.walk_cost_ns();
        vitals.bytes = self.collector.cache().bytes() as u64;
        vitals.repaired = self.collector.repaired();
        vitals.vanished = self.proc.vanished();
        vitals.hidden = self.proc.hidden();
        Ok(())
    }
}

fn tell(log: &Log, change: &Change, cache: &Cache) {
    if log.is_read()
        && let Some(process) = cache.get(change.key)
    {
        log.write([Item {
            change: *change,
            process: Arc::new(process.clone()),
        }]);
    }
}

/// What the audits compare with; nothing where this user may not read it.
fn slabs() -> Vec<(String, u64)> {
    let caches = Snapshot::from_slabinfo().map(|snapshot| snapshot.caches);
    let told = |cache: pidlist_slabs::Cache| Some((cache.name, cache.objects?));
    caches
        .unwrap_or_default()
        .into_iter()
        .filter_map(told)
        .collect()
}

fn collector_settings(settings: &Settings) -> CollectorSettings {
    let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    CollectorSettings {
        cache: CacheSettings {
            short_lived_ns: ns(settings.short_lived),
            keep_short_lived_ns: Some(ns(settings.keep_short_lived)),
            keep_exited_ns: Some(ns(settings.keep_exited)),
            max_processes: count(settings.max_processes),
            max_bytes: count(settings.max_bytes.0),
            ..CacheSettings::default()
        },
        mode: match settings.mode {
            Mode::Both => pidlist_process_cache::Mode::Both,
            Mode::Events => pidlist_process_cache::Mode::Events,
            Mode::Poll => pidlist_process_cache::Mode::Poll,
        },
        poll_interval_ns: ns(settings.poll_interval),
        poll_interval_alone_ns: ns(settings.poll_interval_alone),
        ..CollectorSettings::default()
    }
}

/// An error and its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn follower() -> Follower {
        let settings = Settings {
            source: Source::Proc,
            ..Settings::default()
        };
        Follower::start(&settings).await.unwrap().0
    }

    #[tokio::test]
    async fn who_preloads_on_and_on_does_not_keep_the_thread_from_its_work() {
        let follower = Arc::new(follower().await);
        let flood: Vec<_> = (0..MAX_PRELOADS)
            .map(|_| {
                let follower = follower.clone();
                tokio::spawn(async move { while follower.preload(1).await.is_ok() {} })
            })
            .collect();
        let walks = || follower.reader().snapshot().counters().walks;
        let (before, stepped) = (walks(), follower.vitals().stepped);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(walks() > before, "it walks every second");
        assert!(follower.vitals().stepped.duration_since(stepped) > Duration::from_secs(1));
        assert!(follower.stop(Duration::from_secs(10)).await);
        for one in flood {
            one.await.unwrap();
        }
    }

    #[tokio::test]
    async fn of_settings_the_newest_count_however_many_there_are() {
        let follower = follower().await;
        for number in 1..1000 {
            follower.set(&Settings {
                source: Source::Proc,
                poll_interval_alone: Duration::from_millis(number),
                ..Settings::default()
            });
        }
        assert_eq!(follower.preload(std::process::id()).await, Ok(true));
        assert!(follower.stop(Duration::from_secs(10)).await);
        assert_eq!(follower.preload(1).await, Err(Refusal::Stopped));
    }

    #[tokio::test]
    async fn a_stuck_thread_is_not_waited_for_forever() {
        let follower = follower().await;
        let stuck = std::thread::spawn(|| std::thread::sleep(Duration::from_secs(3600)));
        let thread = lock(&follower.thread).replace(stuck).unwrap();
        assert!(!follower.stop(Duration::from_millis(50)).await);
        thread.join().unwrap();
    }
}
