//! The daemon as a source: asked once, or followed for a while.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;

use anyhow::Context as _;
use pidlist_config::{Setting, Sources};
use pidlist_daemon::protocol::Stats;
use pidlist_daemon::{Changes, Client, ClientError, Filter, Told};
use pidlist_process_cache::{Change, Key, Process, Snapshot, What, clock};

use crate::cli::{Ask, Observe, SourceChoice};
use crate::output::Advice;
use crate::session::{Feed, Signals, chain, watch_over};
use crate::view::{Events, Missing, Summary};
use crate::wait::{readable, wait};

/// What this program says it is.
const NAME: &str = concat!("pidlist ", env!("CARGO_PKG_VERSION"));

/// How many exited processes a watch remembers, as a session of its own would.
const EXITED_MAX: usize = 1 << 18;

/// Most changes heard in a row.
const STEP_MAX: usize = 1024;

/// A daemon that tells nothing more for so long has told all, nanoseconds.
const QUIET_NS: u64 = 50_000_000;

/// A connection to the daemon, and how it was when that was made.
pub struct Link {
    pub client: Client,
    pub stats: Stats,
    path: PathBuf,
}

impl Link {
    /// The daemon, if it is to be asked and runs. Why it cannot be asked is said on stderr.
    ///
    /// # Errors
    ///
    /// The daemon was insisted on, and cannot be asked.
    pub fn open(ask: &Ask, source: SourceChoice) -> anyhow::Result<Option<Self>> {
        if ask.daemon && source != SourceChoice::Auto {
            return Err(Advice {
                what: "--daemon with a --source of its own".into(),
                hint: "the daemon has its source by its settings: leave one of the two out".into(),
                source: None,
            }
            .into());
        }
        if ask.no_daemon || source != SourceChoice::Auto {
            return Ok(None);
        }
        if ask.daemon {
            return Self::insist(ask.socket.clone()).map(Some);
        }
        let link = match socket(ask.socket.clone()) {
            Ok(path) => Self::to(path),
            Err(error) => return Self::without(&error),
        };
        match link {
            Ok(link) => Ok(Some(link)),
            Err(ClientError::NotRunning { .. }) => Ok(None),
            Err(error) => Self::without(&error),
        }
    }

    fn without(error: &dyn std::error::Error) -> anyhow::Result<Option<Self>> {
        eprintln!(
            "pidlist: note: the daemon is not asked ({}); --no-daemon asks for that",
            chain(error)
        );
        Ok(None)
    }

    /// The daemon, or an error that says how to get one.
    ///
    /// # Errors
    ///
    /// It cannot be asked.
    pub fn insist(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let path = socket(path).context("looking for the daemon's socket")?;
        Self::to(path).map_err(|error| refused(error).into())
    }

    fn to(path: PathBuf) -> Result<Self, ClientError> {
        let mut client = Client::connect(&path, NAME)?;
        let stats = client.stats()?;
        Ok(Self {
            client,
            stats,
            path,
        })
    }

    /// Where the daemon learns of processes.
    fn source(&self) -> &'static str {
        match self.stats.source.as_str() {
            "bpf" => "bpf",
            _ => "proc",
        }
    }

    /// What was asked of the daemon was refused, or it has gone.
    ///
    /// # Errors
    ///
    /// Whatever `answer` is.
    pub fn said<T>(answer: Result<T, ClientError>) -> anyhow::Result<T> {
        answer.map_err(|error| refused(error).into())
    }

    /// How good `snapshot` is.
    pub fn summary(&self, snapshot: &Snapshot) -> Summary {
        let missing = self.stats.refused.as_ref().map(|why| Missing {
            what: "bpf",
            why: why.clone(),
            hint: "the daemon's log says what BPF needs".into(),
        });
        Summary {
            source: self.source(),
            daemon: Some(self.path.to_string_lossy().into_owned()),
            missing: missing.into_iter().collect(),
            watched_ns: 0,
            alive: snapshot.alive(),
            exited: snapshot.len() - snapshot.alive(),
            seen: Events::told(snapshot.counters()),
            lost: Events::lost(snapshot.counters()),
            repaired: self.stats.repaired,
            walks: snapshot.counters().walks,
            evicted: snapshot.counters().evicted(),
            missed: 0,
            command: None,
        }
    }

    /// Follows the daemon as asked, see [`watch_over`]. The connection that tells of changes comes
    /// before anything starts: none is missed.
    ///
    /// # Errors
    ///
    /// The daemon has gone, the command cannot be started, or `observer` failed.
    pub fn observe(
        &mut self,
        filter: Filter,
        observe: &Observe,
        json: bool,
        endless: bool,
        observer: &mut Hearer<'_>,
    ) -> anyhow::Result<Heard> {
        let signals = Signals::catch()?;
        let listener = Self::said(Client::connect(&self.path, NAME))?;
        let changes = Self::said(listener.subscribe(filter))?;
        let before = Self::said(self.client.snapshot())?;
        observer(News::Began(&before))?;
        let mut stream = Stream {
            link: self,
            changes,
            observer,
            alive: before
                .iter()
                .filter(|process| process.is_alive())
                .map(|process| (process.key(), process.as_ref().clone()))
                .collect(),
            exited: VecDeque::new(),
            evicted: 0,
            missed: 0,
            is_over: false,
        };
        let (watched_ns, command, result) =
            watch_over(&mut stream, observe, json, endless, &signals)?;
        result?;
        let Stream {
            alive,
            exited,
            evicted,
            missed,
            ..
        } = stream;
        let after = Self::said(self.client.snapshot())?;
        let earlier = self.stats.repaired;
        self.stats = Self::said(self.client.stats())?;
        // Who has changed since its last change was told, or whose change was missed, is newer there.
        let mut all: HashMap<Key, Process> = alive;
        all.extend(exited.into_iter().map(|process| (process.key(), process)));
        let new = after.iter().filter(|process| {
            process.is_alive() || process.lived_between(before.taken_ns(), u64::MAX)
        });
        all.extend(new.map(|process| (process.key(), process.as_ref().clone())));
        let gone = |process: &Process| process.is_alive() && after.get(process.key()).is_none();
        all.retain(|_, process| !gone(process));
        let snapshot =
            Snapshot::from_processes(all.into_values(), *after.counters(), after.taken_ns());
        let mut summary = self.summary(&snapshot);
        summary.watched_ns = watched_ns;
        summary.command = command;
        summary.seen = summary.seen.since(Events::told(before.counters()));
        summary.lost = summary.lost.since(Events::lost(before.counters()));
        summary.repaired = summary.repaired.saturating_sub(earlier);
        summary.evicted = evicted;
        summary.missed = missed;
        Ok(Heard { snapshot, summary })
    }
}

/// What was heard in a watch.
pub struct Heard {
    /// All who lived meanwhile.
    pub snapshot: Snapshot,
    pub summary: Summary,
}

/// What there is to hear in a watch.
pub enum News<'a> {
    /// First of all: who is there. No change after it goes untold.
    Began(&'a Snapshot),
    /// A change, or how many were missed.
    Told(&'a Told),
}

/// Whoever hears of it.
pub type Hearer<'a> = dyn FnMut(News<'_>) -> anyhow::Result<()> + 'a;

/// What the daemon tells.
struct Stream<'a, 'b> {
    link: &'a mut Link,
    changes: Changes,
    observer: &'a mut Hearer<'b>,
    alive: HashMap<Key, Process>,
    /// The first to go first.
    exited: VecDeque<Process>,
    evicted: u64,
    missed: u64,
    is_over: bool,
}

impl Stream<'_, '_> {
    /// Waits for one, and tells when it was.
    fn hear(&mut self) -> anyhow::Result<Option<u64>> {
        let Some(told) = self.changes.next() else {
            self.is_over = true;
            return Ok(None);
        };
        let told = Link::said(told)?;
        (self.observer)(News::Told(&told))?;
        match told {
            Told::Lost(changes) => self.missed += changes,
            Told::Change(change, process) => {
                self.keep(&change, Process::clone(&process));
                return Ok(Some(change.time_ns));
            }
        }
        Ok(None)
    }

    fn keep(&mut self, change: &Change, process: Process) {
        if change.what == What::Revived {
            self.exited.retain(|other| other.key() != process.key());
        }
        if process.is_alive() {
            self.alive.insert(process.key(), process);
            return;
        }
        self.alive.remove(&process.key());
        if self.exited.len() >= EXITED_MAX {
            self.exited.pop_front();
            self.evicted += 1;
        }
        self.exited.push_back(process);
    }

    fn has_more(&self, patience_ns: u64) -> anyhow::Result<bool> {
        if self.changes.has_more() {
            return Ok(true);
        }
        let stream = self.changes.stream().as_fd();
        let [is_readable] =
            wait([Some(readable(stream))], Some(patience_ns)).context("waiting for the daemon")?;
        Ok(is_readable)
    }
}

impl Feed for Stream<'_, '_> {
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.changes.stream().as_fd())
    }

    fn sleep_ns(&self) -> u64 {
        if self.changes.has_more() { 0 } else { u64::MAX }
    }

    fn step(&mut self) -> anyhow::Result<bool> {
        // Not for ever: there is a clock to look at, too.
        for _ in 0..STEP_MAX {
            if self.is_over || !self.has_more(0)? {
                break;
            }
            self.hear()?;
        }
        if self.is_over {
            eprintln!("pidlist: note: the daemon stops, and so does this");
        }
        Ok(!self.is_over)
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        if self.is_over {
            return Ok(());
        }
        // The other connection may have been idle for too long.
        self.link.client = Link::said(Client::connect(&self.link.path, NAME))?;
        // It takes in all that has happened before it answers this.
        let now_ns = clock::boottime_ns();
        Link::said(self.link.client.preload(std::process::id()))?;
        while !self.is_over && self.has_more(QUIET_NS)? {
            if self.hear()?.is_some_and(|time_ns| time_ns >= now_ns) {
                break;
            }
        }
        Ok(())
    }
}

/// The daemon's socket: as given, or by the settings.
fn socket(path: Option<PathBuf>) -> Result<PathBuf, pidlist_config::Error> {
    let given = path.zip(Setting::find("socket"));
    let flags = given.map(|(path, setting)| (setting, path.into_os_string()));
    let config = Sources::of_process(None, flags.into_iter().collect()).load()?;
    Ok(config.settings.socket)
}

/// Says what to do about an error.
fn refused(error: ClientError) -> Advice {
    use pidlist_daemon::protocol::Code;
    let hint = match &error {
        ClientError::NotRunning { .. } => {
            "`pidlist daemon` is one (as root, or: systemctl start pidlist); --socket names another socket"
        }
        ClientError::Forbidden { .. }
        | ClientError::Refused {
            code: Code::Denied, ..
        } => "the setting allow-users of the daemon says who may ask; or: sudo pidlist …",
        ClientError::Broken { source, .. }
            if source.kind() == std::io::ErrorKind::UnexpectedEof =>
        {
            "it has closed: it was stopped, or this program did not read for ten seconds"
        }
        ClientError::Broken { .. } | ClientError::Refused { .. } => {
            "its log says more; --no-daemon does without it"
        }
    };
    Advice {
        what: error.to_string(),
        hint: hint.into(),
        source: std::error::Error::source(&error).map(|source| source.to_string().into()),
    }
}
