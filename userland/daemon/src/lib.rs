//! The process cache as a service.
//!
//! [`run`] is `pidlist daemon`. One thread follows the processes; another serves what it
//! knows: to clients on a Unix socket ([`protocol`] says how, [`Client`] is one), to Prometheus on a port
//! of loopback if the settings say so. Neither ever waits for a client.
//!
//! Nothing is kept on disk: what a daemon that was killed knew of the living, the next one learns from
//! the kernel's iterator or `/proc`.

mod client;
mod error;
mod follow;
mod http;
mod log;
mod metrics;
mod peer;
pub mod protocol;
mod request;
mod server;
mod slots;
mod socket;
mod stream;
mod systemd;
mod watch;

use std::net::TcpListener as StdTcpListener;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use pidlist_config::{Config, Sources};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval};

pub use client::{Changes, Client, ClientError, Told};
pub use error::Error;
pub use protocol::{Filter, Kind};

use follow::Follower;
use http::Pages as _;
use peer::Allowed;
use protocol::SettingView;
use server::Server;
use socket::Place;
use watch::FileWatch;

/// A thread that has not ended so long after it was told to is stuck, say in a system call.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Serves until a signal says to stop (SIGTERM, SIGINT).
///
/// # Errors
///
/// It cannot serve, or the processes cannot be followed any more.
pub fn run(sources: &Sources) -> Result<(), Error> {
    let config = sources.load()?;
    let log = log::start(config.settings.log_level);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|source| Error::System {
        what: "starting to serve",
        source,
    })?;
    runtime.block_on(serve(sources, config, log))
}

async fn serve(sources: &Sources, config: Config, log: log::Handle) -> Result<(), Error> {
    let system = |what| move |source| Error::System { what, source };
    // First of all: a signal that comes while programs load is meant as well.
    let catch = |kind| signal(kind).map_err(system("setting up signals"));
    let mut terminate = catch(SignalKind::terminate())?;
    let mut interrupt = catch(SignalKind::interrupt())?;
    let mut hangup = catch(SignalKind::hangup())?;

    tell_notes(&config);
    let settings = &config.settings;
    // Whatever is taken already is noticed before there is anything to undo.
    let (place, listener) = Place::take(&settings.socket)?;
    place
        .open_to(settings)
        .map_err(system("opening the socket to users"))?;
    let listener = UnixListener::from_std(listener).map_err(system("serving the socket"))?;
    let metrics = settings.metrics.0.map(bind_metrics).transpose()?;
    let (follower, mut ended) = tokio::select! {
        started = Follower::start(settings) => started?,
        name = either(&mut terminate, &mut interrupt) => {
            tracing::info!("{name}: stopping before anything was served");
            return Ok(());
        }
    };
    let own = rustix::process::geteuid().as_raw();
    let server = Server::new(follower, Allowed::new(settings, own), views(&config));
    let mut serving = tokio::spawn(server.clone().serve(listener));
    if let Some(listener) = metrics {
        tokio::spawn(http::serve(listener, server.clone()));
    }
    tracing::info!("serving {}", settings.socket.display());

    let mut file = FileWatch::new(sources.path());
    let mut watchdog = watchdog();
    let mut daemon = Daemon {
        sources,
        config,
        place,
        server,
        log,
        own,
    };
    systemd::ready(&daemon.status());
    let result = loop {
        tokio::select! {
            name = either(&mut terminate, &mut interrupt) => {
                tracing::info!("{name}: stopping");
                break Ok(());
            }
            _ = hangup.recv() => daemon.reload("SIGHUP"),
            () = file.changed() => daemon.reload("the file has changed"),
            () = due(&mut watchdog) => daemon.tell_watchdog(),
            // It has said on what.
            _ = &mut serving => break Err(system("the task that serves the socket panicked")(
                std::io::ErrorKind::BrokenPipe.into(),
            )),
            how = &mut ended => break match how {
                Ok(result) => result.map_err(Error::from),
                // It has said on what.
                Err(_) => Err(system("the thread that follows the processes panicked")(
                    std::io::ErrorKind::BrokenPipe.into(),
                )),
            },
        }
    };
    systemd::stopping();
    daemon.stop(serving).await;
    result
}

/// Which of two signals came.
async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

fn watchdog() -> Option<Interval> {
    let mut watchdog = systemd::watchdog_interval().map(interval)?;
    watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(watchdog)
}

async fn due(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}

fn bind_metrics(address: std::net::SocketAddr) -> Result<TcpListener, Error> {
    if !address.ip().is_loopback() {
        tracing::warn!("anybody who reaches {address} can read the metrics");
    }
    let listen = || {
        let listener = StdTcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    let failed = |source| Error::Metrics { address, source };
    let listener = listen().map_err(failed)?;
    // Port 0 is any.
    let address = listener.local_addr().map_err(failed)?;
    tracing::info!("serving http://{address}/metrics");
    Ok(listener)
}

fn tell_notes(config: &Config) {
    for note in &config.notes {
        tracing::warn!("{note}");
    }
}

fn views(config: &Config) -> Vec<SettingView> {
    let view = |(setting, value, from): (&pidlist_config::Setting, _, &pidlist_config::Origin)| {
        SettingView {
            key: setting.key.into(),
            // A value of the file is one of JSON: no setting is a date.
            value: serde_json::to_value::<pidlist_config::Toml>(value).unwrap_or_default(),
            from: from.clone(),
        }
    };
    config.iter().map(view).collect()
}

struct Daemon<'a> {
    sources: &'a Sources,
    config: Config,
    place: Place,
    server: Arc<Server>,
    log: log::Handle,
    own: u32,
}

impl Daemon<'_> {
    fn status(&self) -> String {
        let alive = self.server.follower.reader().snapshot().alive();
        let socket = self.config.settings.socket.display();
        match &self.config.file {
            Some(file) => format!(
                "Following {alive} processes, serving {socket}, settings of {}",
                file.display()
            ),
            None => format!("Following {alive} processes, serving {socket}"),
        }
    }

    fn reload(&mut self, why: &str) {
        systemd::reloading();
        let status = match self.sources.load() {
            Ok(new) => {
                self.adopt(&new, why);
                self.status()
            }
            Err(error) => {
                let error = follow::chain(&error);
                for line in error.lines() {
                    tracing::error!("{line}");
                }
                tracing::error!("{why}, but the settings are bad: the old ones hold");
                format!(
                    "Bad settings, the old ones hold: {}",
                    error.lines().next().unwrap_or_default()
                )
            }
        };
        systemd::ready(&status);
    }

    fn adopt(&mut self, new: &Config, why: &str) {
        let (changed, waiting) = self.config.adopt(new);
        tell_notes(&self.config);
        for setting in waiting {
            tracing::warn!("{} takes a restart to change", setting.key);
        }
        let settings = &self.config.settings;
        let values = changed
            .iter()
            .map(|setting| format!("{} = {}", setting.key, (setting.get)(settings)));
        tracing::info!(
            "{why}: {}",
            match values.collect::<Vec<_>>() {
                values if values.is_empty() => "nothing to change".into(),
                values => values.join(", "),
            }
        );
        log::set(&self.log, settings.log_level);
        if let Err(error) = self.place.open_to(settings) {
            tracing::error!(%error, "the socket cannot be opened to users");
        }
        *self
            .server
            .allowed
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Allowed::new(settings, self.own);
        *self
            .server
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = views(&self.config);
        self.server.follower.set(settings);
    }

    fn tell_watchdog(&self) {
        match self.server.health() {
            Ok(_) => systemd::watchdog(),
            // It will put an end to this.
            Err(error) => tracing::error!("{error}"),
        }
    }

    async fn stop(self, serving: tokio::task::JoinHandle<()>) {
        // Who comes now finds nobody, and not somebody who will not answer.
        drop(self.place);
        self.server.stop();
        if !serving.is_finished() {
            // A panic has been told where it happened.
            let _ = serving.await;
        }
        if !self.server.follower.stop(STOP_PATIENCE).await {
            tracing::error!(
                "the thread that follows the processes is stuck: ending without it after {} s",
                STOP_PATIENCE.as_secs()
            );
        }
    }
}
