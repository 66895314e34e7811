//! The one table of settings.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::value::{
    Account, Given, Group, Level, Metrics, Mode, PowerOfTwo, Size, Source, User, Value,
};

/// A setting: what it is called, what it may be.
#[derive(Clone, Copy)]
pub struct Setting {
    /// Its name, in the file and as a flag.
    pub key: &'static str,
    /// Its name in the environment.
    pub variable: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Whether a daemon takes a new value without a restart.
    pub live: bool,
    /// What it may be: `a duration like 5s`.
    pub expected: fn() -> String,
    /// Its value, as it would stand in the file.
    pub get: fn(&Settings) -> toml::Value,
    /// Whether both have the same.
    pub same: fn(&Settings, &Settings) -> bool,
    /// Gives the first one the value of the other.
    pub(crate) take: fn(&mut Settings, &Settings),
    /// Returns false if that is not a value for it.
    pub(crate) set: fn(&mut Settings, &Given) -> bool,
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.key)
    }
}

impl Setting {
    /// The setting of that name.
    #[must_use]
    pub fn find(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }
}

macro_rules! settings {
    ($(
        $(#[doc = $help:literal])+
        $effect:ident $key:literal $variable:literal
        $field:ident: $type:ty = $default:expr $(, $low:expr => $high:expr)?;
    )+) => {
        /// Every setting, by value.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings { $( $(#[doc = $help])+ pub $field: $type, )+ }

        impl Default for Settings {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        /// Every setting, by name.
        pub static SETTINGS: &[Setting] = &[$( Setting {
            key: $key,
            variable: $variable,
            help: concat!($($help,)+).trim_ascii(),
            live: stringify!($effect).len() == "live".len(),
            expected: || {
                let expected = <$type as Value>::EXPECTED.to_owned();
                $( let expected = expected + &between(&$low, &$high); )?
                expected
            },
            get: |settings| settings.$field.to_toml(),
            same: |one, other| one.$field == other.$field,
            take: |to, from| to.$field.clone_from(&from.$field),
            set: |settings, given| {
                let value = <$type as Value>::read(given);
                $( let value = value.filter(|value| ($low..=$high).contains(value)); )?
                value.map(|value| settings.$field = value).is_some()
            },
        }, )+];
    };
}

fn between<T: Value>(low: &T, high: &T) -> String {
    format!(", from {} to {}", low.to_toml(), high.to_toml()).replace('"', "")
}

const fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

const DAY: Duration = Duration::from_secs(86_400);

const fn kib(number: u64) -> Size {
    Size(number << 10)
}

// A setting is `live` if a running daemon takes a new value, `fixed` if it takes a restart.
settings! {
    /// Where to learn of processes: auto (BPF, or /proc where BPF is not to be had), bpf, proc
    fixed "source" "PIDLIST_SOURCE" source: Source = Source::Auto;
    /// How: by events and, to make sure, walks over all tasks (both); by events, with walks only to repair (events); by walks alone (poll)
    fixed "mode" "PIDLIST_MODE" mode: Mode = Mode::Both;
    /// How far apart walks are, with events
    live "poll-interval" "PIDLIST_POLL_INTERVAL"
    poll_interval: Duration = ms(10_000), ms(10) => DAY;
    /// How far apart walks are, without events
    live "poll-interval-alone" "PIDLIST_POLL_INTERVAL_ALONE"
    poll_interval_alone: Duration = ms(1000), ms(10) => DAY;
    /// What lived no longer than this is short-lived
    live "short-lived" "PIDLIST_SHORT_LIVED" short_lived: Duration = ms(1000), ms(0) => DAY;
    /// How long a short-lived process is kept after its exit
    live "keep-short-lived" "PIDLIST_KEEP_SHORT_LIVED"
    keep_short_lived: Duration = ms(5000), ms(0) => DAY;
    /// How long another process is kept after its exit
    live "keep-exited" "PIDLIST_KEEP_EXITED" keep_exited: Duration = ms(60_000), ms(0) => DAY;
    /// Most processes kept, living and exited; the living are kept even beyond it
    live "max-processes" "PIDLIST_MAX_PROCESSES"
    max_processes: u64 = 1 << 18, 1 => 1 << 26;
    /// Most memory for processes; the living are kept even beyond it
    live "max-bytes" "PIDLIST_MAX_BYTES" max_bytes: Size = kib(40 << 10), kib(64) => kib(1 << 26);
    /// Most bytes of arguments kept of a process
    fixed "max-args" "PIDLIST_MAX_ARGS" max_args: Size = kib(128), kib(0) => kib(128);
    /// Keep the environment that a program was given
    fixed "collect-env" "PIDLIST_COLLECT_ENV" collect_env: bool = false;
    /// Variables of the environment whose values are not kept; a star stands for anything
    fixed "redact-env" "PIDLIST_REDACT_ENV" redact_env: Vec<String> =
        ["*PASS*", "*SECRET*", "*TOKEN*", "*KEY*", "*CREDENTIAL*"].map(String::from).into();
    /// Room for events that wait to be read, in the kernel
    fixed "ring-size" "PIDLIST_RING_SIZE"
    ring_size: PowerOfTwo = PowerOfTwo(8 << 20), PowerOfTwo(4 << 10) => PowerOfTwo(1 << 30);
    /// The daemon's Unix socket
    fixed "socket" "PIDLIST_SOCKET" socket: PathBuf = "/run/pidlist/pidlist.sock".into();
    /// Users who may ask the daemon, beside root and the daemon's own
    live "allow-users" "PIDLIST_ALLOW_USERS" allow_users: Vec<Account<User>> = Vec::new();
    /// Groups whose members may ask the daemon
    live "allow-groups" "PIDLIST_ALLOW_GROUPS" allow_groups: Vec<Account<Group>> = Vec::new();
    /// Address of /metrics and /healthz, like 127.0.0.1:9750, or off
    fixed "metrics" "PIDLIST_METRICS" metrics: Metrics = Metrics(None::<SocketAddr>);
    /// What the daemon logs
    live "log-level" "PIDLIST_LOG_LEVEL" log_level: Level = Level::Info;
}
