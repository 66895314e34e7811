//! Serves a cache to clients on a Unix socket, as the [protocol](crate::protocol) says.
//!
//! A client is a task. It takes what it sends from a snapshot or from the [log](crate::stream) of
//! changes, and holds one frame at a time: who does not read waits alone, and not for long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt as _};
use pidlist_process_cache::source::Kind as SourceKind;
use pidlist_process_cache::{Process, Snapshot, clock};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
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
    Answer, Code, Filter, Kind, MAX_ANSWER, MAX_REQUEST, Request, SettingView, Stats, VERSION,
};

/// Most clients at once.
const MAX_CLIENTS: usize = 64;
/// A client that does not take a frame for so long is let go.
const PATIENCE: Duration = Duration::from_secs(10);
/// An answer of many frames is over by then, so that nobody holds on to an old snapshot.
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
/// A client that asks nothing for so long is let go.
const IDLE: Duration = Duration::from_secs(60);
/// A client says hello within this time.
const HELLO: Duration = Duration::from_secs(5);
/// A step of the collector takes less than this, however much there is to do.
const STUCK: Duration = Duration::from_secs(30);
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
    clients: Semaphore,
    refused: AtomicU64,
    stopping: CancellationToken,
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
            clients: Semaphore::new(MAX_CLIENTS),
            refused: AtomicU64::new(0),
            stopping: CancellationToken::new(),
        })
    }

    /// Clients connected, and how many were turned away or let go.
    #[must_use]
    pub fn clients(&self) -> (u64, u64) {
        let connected = MAX_CLIENTS - self.clients.available_permits();
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
        let permitted = {
            let allowed = self.allowed.read().unwrap_or_else(PoisonError::into_inner);
            allowed.permits(peer)
        };
        if !permitted {
            tracing::warn!(pid = peer.pid, uid = peer.uid, "not allowed to ask");
            let message = format!("user {} may not ask: see the setting allow-users", peer.uid);
            return Err(refuse(wire, Code::Denied, message).await);
        }
        let Ok(_slot) = self.clients.try_acquire() else {
            return Err(refuse(
                wire,
                Code::Busy,
                format!("{MAX_CLIENTS} clients are served already"),
            )
            .await);
        };
        self.greet(wire).await?;
        while let Some(request) = self.next(wire, IDLE).await? {
            match request {
                Request::Subscribe { filter } => return self.tell_changes(wire, &filter).await,
                request => self.answer(wire, request).await?,
            }
        }
        Ok(())
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

    async fn answer(&self, wire: &mut Wire, request: Request) -> Result<(), End> {
        let snapshot = self.follower.reader().snapshot();
        let answer = match request {
            Request::Snapshot { alive } => {
                let wanted = |process: &&Arc<Process>| !alive || process.is_alive();
                return send_processes(wire, &snapshot, snapshot.iter().filter(wanted).cloned())
                    .await;
            }
            Request::History { since_ns } => {
                let lived = |process: &&Arc<Process>| {
                    process.exit.is_none_or(|exit| exit.noticed_ns >= since_ns)
                };
                return send_processes(wire, &snapshot, snapshot.iter().filter(lived).cloned())
                    .await;
            }
            Request::Get { pid } => match snapshot.by_pid(pid) {
                Some(process) => {
                    return send_processes(wire, &snapshot, [process.clone()]).await;
                }
                None => no_such_process(pid),
            },
            Request::Ancestors { pid } => match snapshot.by_pid(pid) {
                Some(process) => {
                    let ancestors = snapshot.ancestors(process.key());
                    let ancestors = ancestors.filter_map(|key| snapshot.get(key)).cloned();
                    let line = std::iter::once(process.clone()).chain(ancestors);
                    return send_processes(wire, &snapshot, line).await;
                }
                None => no_such_process(pid),
            },
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

    async fn tell_changes(&self, wire: &mut Wire, filter: &Filter) -> Result<(), End> {
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
        }
    }
}

fn no_such_process(pid: u32) -> Answer {
    Answer::Error {
        code: Code::NoSuchProcess,
        message: format!("no process {pid} is known"),
    }
}

/// Sends processes in frames of about [`BATCH_BYTES`], and that there are no more.
async fn send_processes(
    wire: &mut Wire,
    snapshot: &Snapshot,
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
        let done = Answer::Done {
            taken_ns: snapshot.taken_ns(),
            counters: *snapshot.counters(),
        };
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
        let vitals = self.follower.vitals();
        let still = Duration::from_nanos(clock::boottime_ns().saturating_sub(vitals.stepped_ns));
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
