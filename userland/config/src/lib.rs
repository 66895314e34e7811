//! The settings of pidlist: what they are, where each comes from, and what is wrong with them.
//!
//! They are given by a file, by flags and by the environment, in that order of growing force. A
//! setting has one name everywhere: `poll-interval = "5s"` in the file is `--poll-interval 5s` on the
//! command line and `PIDLIST_POLL_INTERVAL=5s` in the environment. [`SETTINGS`] is the one table
//! behind all three, behind `--help` and behind `pidlist config`.
//!
//! The file is TOML, without tables. [`Sources::load`] finds everything that is wrong at once, each
//! with its file, line and column.

mod load;
mod settings;
mod value;

pub use load::{Complaint, Config, Error, Origin, Sources};
pub use settings::{SETTINGS, Setting, Settings};
/// A value, as it would stand in the file.
pub use toml::Value as Toml;
pub use value::{
    Account, Level, Metrics, Mode, PowerOfTwo, Size, Source, parse_duration, parse_size,
};

/// The file that is read if it is there and no other is named.
pub const DEFAULT_FILE: &str = "/etc/pidlist/pidlist.toml";
