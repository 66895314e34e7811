//! Serves a cache to clients on a Unix socket, as the [protocol](crate::protocol) says.
//!
//! A client is a task. It takes what it sends from a snapshot or from the [log](crate::stream) of
//! changes, and holds one frame at a time: who does not read waits alone, and not for long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt as _};
use pidlist_process_cache::source::Kind as SourceKind;
use pidlist_process_cache::{Process, Snapshot};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::bytes::Bytes;
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;

use crate::follow::{Follower, Refusal};
use crate::http::{Pages, accept_failed};
use crate::metrics;
use crate::peer::{Allowed, Peer};
use crate::protocol::{
    Answer, Code, Filter, Kind, MAX_ANSWER, MAX_FILTER, MAX_REQUEST, Request, SettingView, Stats,
    VERSION,
};
use crate::slots::{MOST, Slots};

/// Most snapshots that are being sent, to root and the daemon's own user, and as many to others: each keeps a
/// state of the cache in memory until its reader has it.
const MAX_TURNS: usize = 4;
/// Who has waited so long for a turn is told to come back.
const TURN: Duration = Duration::from_secs(5);
/// A client that does not take a frame for so long is let go.
const PATIENCE: Duration = Duration::from_secs(10);
/// An answer of many frames is over by then, so that nobody holds on to an old snapshot.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// A client that asks nothing for so long is let go.
const IDLE: Duration = Duration::from_secs(60);
/// A client says hello within this time.
const HELLO: Duration = Duration::from_secs(5);
/// A step of the collector takes less than this, however much there is to do. Time asleep does not count.
const STUCK: Duration = Duration::from_secs(30);
/// A warning that anybody can cause is logged once in this time.
const WARNINGS_APART: Duration = Duration::from_secs(10);
/// Processes of about so many bytes go into one frame.
const BATCH_BYTES: usize = 64 << 10;

/// What the clients share.
pub struct Server {
    /// Where processes come from.
    pub follower: Follower,
    /// Who may ask.
    pub allowed: RwLock<Allowed>,
    /// What is in force.
    pub settings: RwLock<Vec<SettingView>>,
    clients: Slots,
    /// For others, and for root and the daemon's own user.
    turns: [Semaphore; 2],
    refused: AtomicU64,
    denials: Seldom,
    stopping: CancellationToken,
}

/// Says a thing seldom, however often there is cause.
#[derive(Default)]
struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// Whether to say it now, and how often that was not done since the last time.
    fn now(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (said, unsaid) = &mut *state;
        if said.is_some_and(|said| said.elapsed() < WARNINGS_APART) {
            *unsaid += 1;
            return None;
        }
        *said = Some(Instant::now());
        Some(std::mem::take(unsaid))
    }
}

/// Why a conversation ends.
enum End {
    /// The other end is gone.
    Gone(std::io::Error),
    /// It does not read.
    Slow,
    /// It was told why.
    Told,
}

/// A connection: frames of different bounds go either way.
struct Wire {
    requests: FramedRead<OwnedReadHalf, LengthDelimitedCodec>,
    answers: FramedWrite<OwnedWriteHalf, LengthDelimitedCodec>,
}

impl Wire {
    fn new(stream: UnixStream) -> Self {
        let (reading, writing) = stream.into_split();
        let codec = |most| {
            LengthDelimitedCodec::builder()
                .max_frame_length(most)
                .new_codec()
        };
        Self {
            requests: FramedRead::new(reading, codec(MAX_REQUEST)),
            answers: FramedWrite::new(writing, codec(MAX_ANSWER)),
        }
    }
}

impl Server {
    /// Serves what `follower` knows, to whom `allowed` permits.
    #[must_use]
    pub fn new(follower: Follower, allowed: Allowed, settings: Vec<SettingView>) -> Arc<Self> {
        Arc::new(Self {
            follower,
            allowed: RwLock::new(allowed),
            settings: RwLock::new(settings),
            clients: Slots::default(),
            turns: [MAX_TURNS; 2].map(Semaphore::new),
            refused: AtomicU64::new(0),
            denials: Seldom::default(),
            stopping: CancellationToken::new(),
        })
    }

    /// Clients connected, and how many were turned away or let go.
    #[must_use]
    pub fn clients(&self) -> (u64, u64) {
        let connected = self.clients.taken();
        (connected as u64, self.refused.load(Ordering::Relaxed))
    }

    /// Has [`serve`](Self::serve) return, once the clients are told.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Takes clients until [`stop`](Self::stop).
    pub async fn serve(self: Arc<Self>, listener: UnixListener) {
        let mut conversations = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = self.stopping.cancelled() => break,
                accepted = listener.accept() => accepted,
                Some(_) = conversations.join_next() => continue,
            };
            match accepted {
                Ok((stream, _)) => {
                    conversations.spawn(self.clone().converse(stream));
                }
                Err(error) => accept_failed(&error).await,
            }
        }
        drop(listener);
        // Everybody is told; who does not read that is not waited for.
        let _ = timeout(Duration::from_secs(1), async {
            while conversations.join_next().await.is_some() {}
        })
        .await;
    }

    async fn converse(self: Arc<Self>, stream: UnixStream) {
        let peer = match Peer::of(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                return tracing::warn!(%error, "a client of whom the kernel tells nothing");
            }
        };
        let mut wire = Wire::new(stream);
        tracing::debug!(pid = peer.pid, uid = peer.uid, "a client came");
        let Err(end) = self.talk(&mut wire, &peer).await else {
            return tracing::debug!(pid = peer.pid, uid = peer.uid, "a client left");
        };
        if !matches!(end, End::Gone(_)) {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        let why = match end {
            End::Gone(error) => error.to_string(),
            End::Slow => "it does not read".into(),
            End::Told => "it was told why".into(),
        };
        tracing::debug!(pid = peer.pid, uid = peer.uid, why, "a client was let go");
    }

    async fn talk(&self, wire: &mut Wire, peer: &Peer) -> Result<(), End> {
        self.check(wire, peer).await?;
        let Some(_slot) = self.clients.take(peer) else {
            let message = format!(
                "user {} has as many clients as there may be, or all {MOST} are taken",
                peer.uid
            );
            return Err(refuse(wire, Code::Busy, message).await);
        };
        self.greet(wire).await?;
        while let Some(request) = self.next(wire, IDLE).await? {
            self.check(wire, peer).await?;
            match request {
                Request::Subscribe { filter } => {
                    return self.tell_changes(wire, peer, &filter).await;
                }
                request => self.answer(wire, peer, request).await?,
            }
        }
        Ok(())
    }

    /// Lets go whom the settings do not allow, as they are by now.
    async fn check(&self, wire: &mut Wire, peer: &Peer) -> Result<(), End> {
        let is_permitted = {
            let allowed = self.allowed.read().unwrap_or_else(PoisonError::into_inner);
            allowed.permits(peer)
        };
        if is_permitted {
            return Ok(());
        }
        if let Some(unsaid) = self.denials.now() {
            tracing::warn!(pid = peer.pid, uid = peer.uid, unsaid, "not allowed to ask");
        }
        let message = format!("user {} may not ask: see the setting allow-users", peer.uid);
        Err(refuse(wire, Code::Denied, message).await)
    }

    /// Waits until a snapshot may be sent.
    async fn turn(&self, wire: &mut Wire, peer: &Peer) -> Result<SemaphorePermit<'_>, End> {
        let turns = &self.turns[usize::from(peer.is_trusted())];
        match timeout(TURN, turns.acquire()).await {
            // Nobody closes it.
            Ok(Ok(turn)) => Ok(turn),
            _ => {
                let message = "too many snapshots are being sent".into();
                Err(refuse(wire, Code::Busy, message).await)
            }
        }
    }

    async fn greet(&self, wire: &mut Wire) -> Result<(), End> {
        let said = self.next(wire, HELLO).await?;
        match said {
            None => Ok(()),
            Some(Request::Hello {
                protocol: VERSION,
                client,
            }) => {
                tracing::debug!(client, "hello");
                let hello = Answer::Hello {
                    protocol: VERSION,
                    server: concat!("pidlist ", env!("CARGO_PKG_VERSION")).into(),
                    pid: std::process::id(),
                };
                send(wire, &hello).await
            }
            Some(Request::Hello { protocol, .. }) => {
                let message = format!("version {VERSION} is spoken here, not {protocol}");
                Err(refuse(wire, Code::Version, message).await)
            }
            Some(_) => Err(refuse(wire, Code::Version, "hello comes first".into()).await),
        }
    }

    /// The next request; `None` when the client has closed.
    async fn next(&self, wire: &mut Wire, patience: Duration) -> Result<Option<Request>, End> {
        let frame = tokio::select! {
            frame = timeout(patience, wire.requests.next()) => frame,
            () = self.stopping.cancelled() => {
                return Err(refuse(wire, Code::Stopping, "the daemon stops".into()).await);
            }
        };
        match frame {
            Err(_) => {
                let message = format!("nothing was asked for {} s", patience.as_secs());
                Err(refuse(wire, Code::Idle, message).await)
            }
            Ok(None) => Ok(None),
            Ok(Some(Ok(frame))) => match Request::parse(&frame) {
                Ok(request) => Ok(Some(request)),
                Err(error) => Err(refuse(wire, Code::Garbled, error.to_string()).await),
            },
            Ok(Some(Err(error))) if error.kind() == std::io::ErrorKind::InvalidData => {
                let message = format!("a request of more than {MAX_REQUEST} bytes");
                Err(refuse(wire, Code::Garbled, message).await)
            }
            Ok(Some(Err(error))) => Err(End::Gone(error)),
        }
    }

    async fn answer(&self, wire: &mut Wire, peer: &Peer, request: Request) -> Result<(), End> {
        let answer = match request {
            Request::Snapshot { alive } => {
                let wanted = |process: &&Arc<Process>| !alive || process.is_alive();
                let _turn = self.turn(wire, peer).await?;
                let snapshot = self.follower.reader().snapshot();
                let wanted = snapshot.iter().filter(wanted).cloned();
                return send_processes(wire, done(&snapshot), wanted).await;
            }
            Request::History { since_ns } => {
                let lived = |process: &&Arc<Process>| {
                    process.exit.is_none_or(|exit| exit.noticed_ns >= since_ns)
                };
                let _turn = self.turn(wire, peer).await?;
                let snapshot = self.follower.reader().snapshot();
                let lived = snapshot.iter().filter(lived).cloned();
                return send_processes(wire, done(&snapshot), lived).await;
            }
            Request::Get { pid } => return self.send_line(wire, pid, 1).await,
            Request::Ancestors { pid } => return self.send_line(wire, pid, usize::MAX).await,
            Request::Preload { pid } => match self.follower.preload(pid).await {
                Ok(true) => Answer::Preloaded {},
                Ok(false) => no_such_process(pid),
                Err(Refusal::Busy) => Answer::Error {
                    code: Code::Busy,
                    message: "too many processes are being preloaded".into(),
                },
                Err(Refusal::Stopped) => {
                    return Err(refuse(wire, Code::Stopping, "the daemon stops".into()).await);
                }
            },
            Request::Stats {} => Answer::Stats(Box::new(self.stats())),
            Request::Config {} => Answer::Config {
                settings: self
                    .settings
                    .read()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone(),
            },
            // Said once already, and no harm done.
            Request::Hello { .. } | Request::Subscribe { .. } => {
                return Err(refuse(wire, Code::Garbled, "hello was said already".into()).await);
            }
        };
        send(wire, &answer).await
    }

    /// A process and those above it, at most so many.
    async fn send_line(&self, wire: &mut Wire, pid: u32, most: usize) -> Result<(), End> {
        // It is copied: the snapshot is not to be kept for one who reads slowly.
        let found = {
            let snapshot = self.follower.reader().snapshot();
            snapshot.by_pid(pid).map(|process| {
                let ancestors = snapshot.ancestors(process.key());
                let ancestors = ancestors.filter_map(|key| snapshot.get(key));
                let line = std::iter::once(process).chain(ancestors).take(most);
                (done(&snapshot), line.cloned().collect::<Vec<_>>())
            })
        };
        match found {
            Some((done, line)) => send_processes(wire, done, line).await,
            None => send(wire, &no_such_process(pid)).await,
        }
    }

    async fn tell_changes(&self, wire: &mut Wire, peer: &Peer, filter: &Filter) -> Result<(), End> {
        if !filter.is_bounded() {
            let message = format!("a filter of more than {MAX_FILTER} members");
            return Err(refuse(wire, Code::Garbled, message).await);
        }
        let mut tail = self.follower.log().tail();
        send(wire, &Answer::Subscribed {}).await?;
        loop {
            let (lost, items) = tokio::select! {
                changes = tail.read() => changes,
                () = self.stopping.cancelled() => {
                    return Err(refuse(wire, Code::Stopping, "the daemon stops".into()).await);
                }
                said = wire.requests.next() => match said {
                    None => return Ok(()),
                    Some(Ok(_)) => {
                        let message = "a subscriber only listens".into();
                        return Err(refuse(wire, Code::Garbled, message).await);
                    }
                    Some(Err(error)) => return Err(End::Gone(error)),
                },
            };
            self.check(wire, peer).await?;
            if lost > 0 {
                feed(wire, &Answer::Lost { changes: lost }).await?;
            }
            for item in items {
                let what = Kind::from(item.change.what);
                if filter.matches(what, &item.process) {
                    let answer = Answer::Change {
                        time_ns: item.change.time_ns,
                        what,
                        process: item.process,
                    };
                    feed(wire, &answer).await?;
                }
            }
            patiently(SinkExt::<Bytes>::flush(&mut wire.answers)).await?;
            // Where nothing is sent, nothing of this waits.
            tokio::task::yield_now().await;
        }
    }
}

fn no_such_process(pid: u32) -> Answer {
    Answer::Error {
        code: Code::NoSuchProcess,
        message: format!("no process {pid} is known"),
    }
}

fn done(snapshot: &Snapshot) -> Answer {
    Answer::Done {
        taken_ns: snapshot.taken_ns(),
        counters: *snapshot.counters(),
    }
}

/// Sends processes in frames of about [`BATCH_BYTES`], and that there are no more.
async fn send_processes(
    wire: &mut Wire,
    done: Answer,
    processes: impl IntoIterator<Item = Arc<Process>>,
) -> Result<(), End> {
    let whole = async {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for process in processes {
            bytes += crate::stream::process_bytes(&process);
            batch.push(process);
            if bytes >= BATCH_BYTES {
                let processes = std::mem::take(&mut batch);
                send(wire, &Answer::Processes { processes }).await?;
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            send(wire, &Answer::Processes { processes: batch }).await?;
        }
        send(wire, &done).await
    };
    timeout(ANSWER_PATIENCE, whole)
        .await
        .unwrap_or(Err(End::Slow))
}

/// Tells a client why it is let go.
async fn refuse(wire: &mut Wire, code: Code, message: String) -> End {
    match send(wire, &Answer::Error { code, message }).await {
        Ok(()) => End::Told,
        Err(end) => end,
    }
}

async fn send(wire: &mut Wire, answer: &Answer) -> Result<(), End> {
    patiently(wire.answers.send(frame(answer)?)).await
}

/// Like [`send`], but may leave the frame in the buffer, which holds a few.
async fn feed(wire: &mut Wire, answer: &Answer) -> Result<(), End> {
    patiently(wire.answers.feed(frame(answer)?)).await
}

fn frame(answer: &Answer) -> Result<Bytes, End> {
    let json = serde_json::to_vec(answer).map_err(|error| End::Gone(error.into()))?;
    Ok(json.into())
}

async fn patiently(sent: impl Future<Output = std::io::Result<()>>) -> Result<(), End> {
    match timeout(PATIENCE, sent).await {
        Ok(sent) => sent.map_err(End::Gone),
        Err(_) => Err(End::Slow),
    }
}

impl Server {
    /// How all of it is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let vitals = self.follower.vitals();
        let snapshot = self.follower.reader().snapshot();
        let (clients, clients_refused) = self.clients();
        let (subscribers, subscribers_lost) = self.follower.log().readers();
        let source = match vitals.kind {
            SourceKind::Bpf => "bpf",
            SourceKind::Proc => "proc",
        };
        Stats {
            source: source.into(),
            refused: vitals.refused,
            has_events: vitals.has_events,
            started_ns: vitals.started_ns,
            alive: snapshot.alive() as u64,
            exited: (snapshot.len() - snapshot.alive()) as u64,
            bytes: vitals.bytes,
            counters: *snapshot.counters(),
            repaired: vitals.repaired,
            walk_ns: vitals.walk_ns,
            apply_ns: vitals.apply_ns,
            vanished: vitals.vanished,
            hidden: vitals.hidden,
            stepped_ns: vitals.stepped_ns,
            clients,
            clients_refused,
            subscribers: subscribers as u64,
            subscribers_lost,
        }
    }
}

impl Pages for Server {
    fn metrics(&self) -> String {
        metrics::write(&self.stats())
    }

    fn health(&self) -> Result<String, String> {
        let still = self.follower.vitals().stepped.elapsed();
        if still > STUCK {
            return Err(format!(
                "the processes have not been looked after for {} s",
                still.as_secs()
            ));
        }
        let alive = self.follower.reader().snapshot().alive();
        Ok(format!("{alive} processes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_said_seldom() {
        let seldom = Seldom::default();
        assert_eq!(seldom.now(), Some(0));
        assert!((0..1000).all(|_| seldom.now().is_none()));
        let earlier = Instant::now().checked_sub(WARNINGS_APART);
        seldom.0.lock().unwrap().0 = earlier;
        assert_eq!(seldom.now(), Some(1000));
    }
}
