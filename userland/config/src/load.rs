//! Reads the file, the flags and the environment, one over the other.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};
use toml::de::DeTable;

use crate::DEFAULT_FILE;
use crate::settings::{SETTINGS, Setting, Settings};
use crate::value::Given;

/// Names the file in the environment.
const FILE_VARIABLE: &str = "PIDLIST_CONFIG";
/// What the variables of settings begin with, and those of other parts of pidlist as well.
const PREFIX: &str = "PIDLIST_";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The file; lines and columns count from 1, columns in characters.
    File {
        /// Which.
        #[serde(serialize_with = "lossy")]
        path: PathBuf,
        /// In which line.
        line: usize,
        /// At which character of it.
        column: usize,
    },
    /// A flag.
    Flag {
        /// Without its dashes.
        name: String,
    },
    /// A variable of the environment.
    Environment {
        /// Which.
        name: String,
    },
}

fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Flag { name } => write!(f, "--{name}"),
            Self::Environment { name } => f.write_str(name),
        }
    }
}

/// Something wrong: where, what was found there, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Complaint {
    /// Where.
    pub origin: Origin,
    /// The setting, if it is about one.
    pub key: Option<&'static str>,
    /// What is there.
    pub found: String,
    /// What should be.
    pub expected: String,
    /// The setting that may have been meant.
    pub meant: Option<&'static str>,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if let Some(key) = self.key {
            write!(f, "{key}: ")?;
        }
        write!(f, "found {}, expected {}", self.found, self.expected)?;
        match self.meant {
            Some(meant) => write!(f, "; did you mean {meant}?"),
            None => Ok(()),
        }
    }
}

/// Settings cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the settings in {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// They are wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Bad(Vec<Complaint>),
}

/// Settings, and where each comes from.
#[derive(Clone, Debug)]
pub struct Config {
    /// The settings.
    pub settings: Settings,
    /// The file they come from, if there is one.
    pub file: Option<PathBuf>,
    /// What looks like a mistake, but may be meant for another program.
    pub notes: Vec<Complaint>,
    origins: Vec<Origin>,
}

impl Config {
    /// Every setting with its value, as it would stand in the file, and where that comes from.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Setting, toml::Value, &Origin)> {
        SETTINGS
            .iter()
            .zip(&self.origins)
            .map(|(setting, origin)| (setting, (setting.get)(&self.settings), origin))
    }
}

impl Config {
    /// Takes those settings of `new` that a running daemon can take. Returns the settings that have
    /// changed, and those that would but for want of a restart.
    pub fn adopt(&mut self, new: &Self) -> (Vec<&'static Setting>, Vec<&'static Setting>) {
        let (mut changed, mut waiting) = (Vec::new(), Vec::new());
        let origins = self.origins.iter_mut().zip(&new.origins);
        for (setting, (origin, new_origin)) in SETTINGS.iter().zip(origins) {
            let is_same = (setting.same)(&self.settings, &new.settings);
            if !is_same && !setting.live {
                waiting.push(setting);
                continue;
            }
            if !is_same {
                changed.push(setting);
            }
            (setting.take)(&mut self.settings, &new.settings);
            origin.clone_from(new_origin);
        }
        self.file.clone_from(&new.file);
        self.notes.clone_from(&new.notes);
        (changed, waiting)
    }
}

/// What settings are made from. They can be [loaded](Self::load) again when the file has changed.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file, if one was named by a flag; the environment may name another.
    pub file: Option<PathBuf>,
    /// Settings given by flags.
    pub flags: Vec<(&'static Setting, OsString)>,
    /// The environment: variables that do not begin with `PIDLIST_` are passed over.
    pub environment: Vec<(OsString, OsString)>,
}

impl Sources {
    /// With the environment of this process.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(&'static Setting, OsString)>) -> Self {
        Self {
            file,
            flags,
            environment: std::env::vars_os().collect(),
        }
    }

    /// The file that is read, if it is there.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.named().unwrap_or(Path::new(DEFAULT_FILE))
    }

    fn named(&self) -> Option<&Path> {
        let mut variables = self.environment.iter();
        variables
            .find(|(name, _)| name == FILE_VARIABLE)
            .map(|(_, path)| Path::new(path))
            .or(self.file.as_deref())
    }

    /// Reads all of it.
    ///
    /// # Errors
    ///
    /// A file that was named is not there or cannot be read, or something in it, in a flag or in the
    /// environment is wrong: every such thing is in the error.
    pub fn load(&self) -> Result<Config, Error> {
        let path = self.path();
        let text = match std::fs::read(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.named().is_none() => None,
            Err(source) => {
                let path = path.into();
                return Err(Error::Read { path, source });
            }
        };
        let mut loading = Loading {
            settings: Settings::default(),
            origins: vec![Origin::Default; SETTINGS.len()],
            complaints: Vec::new(),
            notes: Vec::new(),
        };
        if let Some(text) = &text {
            loading.read_file(path, text);
        }
        for (setting, value) in &self.flags {
            loading.read_word(
                setting,
                value,
                Origin::Flag {
                    name: setting.key.into(),
                },
            );
        }
        loading.read_environment(&self.environment);
        if !loading.complaints.is_empty() {
            return Err(Error::Bad(loading.complaints));
        }
        Ok(Config {
            settings: loading.settings,
            file: text.map(|_| path.into()),
            notes: loading.notes,
            origins: loading.origins,
        })
    }
}

struct Loading {
    settings: Settings,
    origins: Vec<Origin>,
    complaints: Vec<Complaint>,
    notes: Vec<Complaint>,
}

impl Loading {
    fn read_file(&mut self, path: &Path, bytes: &[u8]) {
        let origin = |offset: usize| {
            let before = String::from_utf8_lossy(&bytes[..offset.min(bytes.len())]);
            let line = before.rsplit('\n').next().unwrap_or_default();
            Origin::File {
                path: path.into(),
                line: before.matches('\n').count() + 1,
                column: line.chars().count() + 1,
            }
        };
        let text = match str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                self.complaints.push(Complaint {
                    origin: origin(error.valid_up_to()),
                    key: None,
                    found: "bytes that are not UTF-8".into(),
                    expected: "text".into(),
                    meant: None,
                });
                return;
            }
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let span = error.span().unwrap_or_default();
            let rest = text.get(span.start..).unwrap_or_default();
            let found = match rest.lines().next() {
                Some(rest) if !rest.is_empty() => format!("{rest:?}"),
                _ => "the end of a line".into(),
            };
            self.complaints.push(Complaint {
                origin: origin(span.start),
                key: None,
                found,
                expected: format!("TOML ({})", error.message().replace('\n', ", ")),
                meant: None,
            });
        }
        for (key, value) in table.get_ref() {
            match Setting::find(key.get_ref()) {
                Some(setting) => {
                    let given = Given::from_toml(value.get_ref());
                    self.set(setting, &given, origin(value.span().start));
                }
                None => self.complaints.push(unknown(
                    origin(key.span().start),
                    format!("{:?}", key.get_ref()),
                    nearest(key.get_ref(), |setting| setting.key),
                )),
            }
        }
        // A table is read in the order of its keys, a file by its lines.
        self.complaints
            .sort_by_key(|complaint| match complaint.origin {
                Origin::File { line, column, .. } => (line, column),
                _ => (0, 0),
            });
    }

    fn read_environment(&mut self, variables: &[(OsString, OsString)]) {
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
                continue;
            };
            let origin = Origin::Environment { name: name.into() };
            let found = SETTINGS.iter().find(|setting| setting.variable == name);
            match (found, nearest(name, |setting| setting.variable)) {
                (Some(setting), _) => self.read_word(setting, value, origin),
                (None, meant @ Some(_)) if name != FILE_VARIABLE => {
                    self.notes.push(unknown(origin, format!("{name:?}"), meant));
                }
                (None, _) => {}
            }
        }
    }

    fn read_word(&mut self, setting: &'static Setting, value: &OsStr, origin: Origin) {
        let given = match value.to_str() {
            Some(word) => Given::Word(word.into()),
            None => Given::Other("text that is not UTF-8"),
        };
        self.set(setting, &given, origin);
    }

    fn set(&mut self, setting: &'static Setting, given: &Given, origin: Origin) {
        if (setting.set)(&mut self.settings, given) {
            let place = SETTINGS.iter().zip(&mut self.origins);
            for (_, place) in place.filter(|(other, _)| other.key == setting.key) {
                *place = origin.clone();
            }
        } else {
            self.complaints.push(Complaint {
                origin,
                key: Some(setting.key),
                found: given.to_string(),
                expected: (setting.expected)(),
                meant: None,
            });
        }
    }
}

fn unknown(origin: Origin, found: String, meant: Option<&'static str>) -> Complaint {
    Complaint {
        origin,
        key: None,
        found,
        expected: "a setting (`pidlist config show` lists them)".into(),
        meant,
    }
}

/// The name that was probably meant.
fn nearest(text: &str, name: fn(&Setting) -> &'static str) -> Option<&'static str> {
    // What all variables begin with says nothing about which is meant.
    let bare = |name: &str| name.trim_start_matches(PREFIX).to_owned();
    let likeness = |name| strsim::normalized_damerau_levenshtein(&bare(text), &bare(name));
    SETTINGS
        .iter()
        .map(name)
        .filter(|name| likeness(name) > 0.6)
        .max_by(|one, other| likeness(one).total_cmp(&likeness(other)))
}
