//! The thread that owns the [`Collector`], and how the others reach it.
//!
//! It waits for nobody: readers look at snapshots, subscribers at the [log](crate::stream), and orders
//! come through a short queue that it empties between two steps.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

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

/// Most orders that wait.
const MAX_ORDERS: usize = 64;
/// The thread shows that it lives this often, at least.
const PULSE: Duration = Duration::from_secs(1);

/// What the thread is asked to do.
enum Order {
    Preload(u32, oneshot::Sender<bool>),
    Settings(Box<Settings>),
    Stop,
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

/// Why an order was not taken.
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
    orders: SyncSender<Order>,
    wake: Arc<OwnedFd>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Follower {
    /// Begins to follow the processes. Returns once all that there are are known, and what will tell how
    /// it ended.
    ///
    /// # Errors
    ///
    /// No source can be had, or the system has no threads or descriptors left.
    pub fn start(
        settings: &Settings,
    ) -> Result<(Self, oneshot::Receiver<Result<(), SourceError>>), Error> {
        let failed = |source| Error::System {
            what: "starting the thread that follows the processes",
            source,
        };
        let (orders, inbox) = sync_channel(MAX_ORDERS);
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake = Arc::new(wake.map_err(|errno| failed(errno.into()))?);
        let log = Log::new();
        let (started, starting) = sync_channel(1);
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("collector".into()).spawn({
            let (settings, log, wake) = (settings.clone(), log.clone(), wake.clone());
            move || {
                // Sources stay in the thread that opened them.
                let result = match Owner::open(&settings, log, wake, inbox) {
                    Ok(mut owner) => {
                        let shared = (owner.reader.clone(), owner.vitals.clone());
                        // Whoever started this waits for it.
                        let _ = started.send(Ok(shared));
                        owner.run()
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
            .recv()
            .map_err(|_| failed(io::ErrorKind::BrokenPipe.into()))?;
        let (reader, vitals) = started?;
        let follower = Self {
            reader,
            log,
            vitals,
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
        self.order(Order::Preload(pid, reply))?;
        answer.await.map_err(|_| Refusal::Stopped)
    }

    /// Goes by other settings from now on, as far as they are live.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub fn set(&self, settings: &Settings) -> Result<(), Refusal> {
        self.order(Order::Settings(Box::new(settings.clone())))
    }

    /// Ends the thread, and waits for it.
    pub fn stop(&self) {
        while self.order(Order::Stop) == Err(Refusal::Busy) {
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(thread) = lock(&self.thread).take() {
            // It has said why it panicked.
            let _ = thread.join();
        }
    }

    fn order(&self, order: Order) -> Result<(), Refusal> {
        self.orders.try_send(order).map_err(|error| match error {
            TrySendError::Full(_) => Refusal::Busy,
            TrySendError::Disconnected(_) => Refusal::Stopped,
        })?;
        // It fails if the count is full: then the thread is awake anyway.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        Ok(())
    }
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
    inbox: Receiver<Order>,
}

impl Owner {
    fn open(
        settings: &Settings,
        log: Arc<Log>,
        wake: Arc<OwnedFd>,
        inbox: Receiver<Order>,
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
        })
    }

    fn run(&mut self) -> Result<(), SourceError> {
        loop {
            self.wait();
            // Emptied before the orders are read: one that comes later wakes it again.
            let _ = rustix::io::read(&*self.wake, &mut [0u8; 8]);
            while let Ok(order) = self.inbox.try_recv() {
                match order {
                    Order::Preload(pid, reply) => {
                        let log = &self.log;
                        let found = self.collector.preload(pid, &mut |change, cache| {
                            tell(log, change, cache);
                        })?;
                        // Who asked may have gone.
                        let _ = reply.send(found.is_some());
                    }
                    Order::Settings(settings) => {
                        self.collector.set_settings(collector_settings(&settings));
                    }
                    Order::Stop => return Ok(()),
                }
            }
            self.step()?;
        }
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
