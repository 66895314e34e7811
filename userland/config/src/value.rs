//! What a setting can be, and how it is written.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd;
use toml::de::DeValue;

/// A value as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// By a flag or the environment: a text that may stand for anything.
    Word(String),
    /// By the file: a string.
    Text(String),
    /// By the file: an integer; `None` if it is beyond every setting.
    Integer(Option<u64>),
    /// By the file: true or false.
    Bool(bool),
    /// By the file: a list.
    List(Vec<Given>),
    /// By the file: something that no setting takes.
    Other(&'static str),
}

impl Given {
    pub fn from_toml(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::Text(text.to_string()),
            DeValue::Integer(number) => {
                Self::Integer(u64::from_str_radix(number.as_str(), number.radix()).ok())
            }
            DeValue::Boolean(flag) => Self::Bool(*flag),
            DeValue::Array(items) => Self::List(
                items
                    .iter()
                    .map(|item| Self::from_toml(item.get_ref()))
                    .collect(),
            ),
            DeValue::Float(_) => Self::Other("a fraction"),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Word(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl std::fmt::Display for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(text) | Self::Text(text) => write!(f, "{text:?}"),
            Self::Integer(Some(number)) => write!(f, "{number}"),
            Self::Integer(None) => f.write_str("an integer below 0 or beyond 64 bits"),
            Self::Bool(flag) => write!(f, "{flag}"),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// A type of settings.
pub trait Value: Sized {
    /// What is expected, for people: `a duration like 5s`.
    const EXPECTED: &'static str;
    /// `None` if it is something else.
    fn read(given: &Given) -> Option<Self>;
    /// As it would stand in the file.
    fn to_toml(&self) -> toml::Value;
}

impl Value for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(given: &Given) -> Option<Self> {
        match given {
            Given::Bool(flag) => Some(*flag),
            Given::Word(word) => word.parse().ok(),
            _ => None,
        }
    }

    fn to_toml(&self) -> toml::Value {
        (*self).into()
    }
}

impl Value for u64 {
    const EXPECTED: &'static str = "an integer";

    fn read(given: &Given) -> Option<Self> {
        match given {
            Given::Integer(number) => *number,
            Given::Word(word) => word.parse().ok(),
            _ => None,
        }
    }

    fn to_toml(&self) -> toml::Value {
        toml::Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
    }
}

impl Value for Duration {
    const EXPECTED: &'static str = "a duration like 5s, 200ms or \"1m 30s\"";

    fn read(given: &Given) -> Option<Self> {
        parse_duration(given.text()?).ok()
    }

    fn to_toml(&self) -> toml::Value {
        humantime::format_duration(*self).to_string().into()
    }
}

/// `5s`.
///
/// # Errors
///
/// It is not written like that; the error says how to.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a duration like 5s, 200ms or 1m"))
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Value for Size {
    const EXPECTED: &'static str = "a size like 65536, 64K or 1M";

    fn read(given: &Given) -> Option<Self> {
        match given {
            Given::Integer(number) => number.map(Self),
            _ => parse_size(given.text()?).ok().map(Self),
        }
    }

    fn to_toml(&self) -> toml::Value {
        let scales = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        let exact = scales
            .iter()
            .find(|(shift, _)| self.0 != 0 && self.0.is_multiple_of(1 << shift));
        match exact {
            Some((shift, unit)) => format!("{}{unit}", self.0 >> shift).into(),
            None => self.0.to_toml(),
        }
    }
}

/// Bytes: `65536`, `64K`, `1M`, `1MiB`.
///
/// # Errors
///
/// It is not written like that; the error says how to.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || "write a size like 65536, 64K or 1M".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let scale = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1u64,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err(bad()),
    };
    let number: u64 = digits.parse().map_err(|_| bad())?;
    number
        .checked_mul(scale)
        .ok_or_else(|| "more than there is".into())
}

/// Bytes, a power of two: what a ring of the kernel can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PowerOfTwo(pub u64);

impl Value for PowerOfTwo {
    const EXPECTED: &'static str = "a power of two, a size like 65536, 64K or 8M";

    fn read(given: &Given) -> Option<Self> {
        let Size(bytes) = Size::read(given)?;
        bytes.is_power_of_two().then_some(Self(bytes))
    }

    fn to_toml(&self) -> toml::Value {
        Size(self.0).to_toml()
    }
}

impl Value for PathBuf {
    const EXPECTED: &'static str = "a path from the root";

    fn read(given: &Given) -> Option<Self> {
        let path = Self::from(given.text()?);
        path.is_absolute().then_some(path)
    }

    fn to_toml(&self) -> toml::Value {
        self.to_string_lossy().into_owned().into()
    }
}

impl Value for String {
    const EXPECTED: &'static str = "a name";

    fn read(given: &Given) -> Option<Self> {
        given.text().filter(|text| !text.is_empty()).map(Self::from)
    }

    fn to_toml(&self) -> toml::Value {
        self.clone().into()
    }
}

/// What lists are made of.
pub trait Item: Value {
    /// What is expected of a list.
    const LIST: &'static str;
}

impl Item for String {
    const LIST: &'static str = "a list of names like [\"*TOKEN*\"] (elsewhere: A,B)";
}

impl<T: Item> Value for Vec<T> {
    const EXPECTED: &'static str = T::LIST;

    fn read(given: &Given) -> Option<Self> {
        match given {
            Given::List(items) => items.iter().map(T::read).collect(),
            Given::Word(words) if words.is_empty() => Some(Self::new()),
            Given::Word(words) => words
                .split(',')
                .map(|word| T::read(&Given::Word(word.trim().into())))
                .collect(),
            _ => None,
        }
    }

    fn to_toml(&self) -> toml::Value {
        toml::Value::Array(self.iter().map(T::to_toml).collect())
    }
}

/// A user or group of this machine, by name or number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account<K> {
    /// As it was written.
    pub name: String,
    /// Its number.
    pub id: u32,
    kind: PhantomData<K>,
}

/// Marks an [`Account`] as a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User;
/// Marks an [`Account`] as a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group;

/// Finds the number of a name.
pub trait Lookup {
    /// What is expected of a list of them.
    const LIST: &'static str;
    /// Asks this machine.
    fn id(name: &str) -> Option<u32>;
}

impl Lookup for User {
    const LIST: &'static str =
        "a list of users of this machine, like [\"alice\", 1000] (elsewhere: alice,1000)";

    fn id(name: &str) -> Option<u32> {
        Some(unistd::User::from_name(name).ok()??.uid.as_raw())
    }
}

impl Lookup for Group {
    const LIST: &'static str =
        "a list of groups of this machine, like [\"adm\", 4] (elsewhere: adm,4)";

    fn id(name: &str) -> Option<u32> {
        Some(unistd::Group::from_name(name).ok()??.gid.as_raw())
    }
}

impl<K: Lookup> Value for Account<K> {
    const EXPECTED: &'static str = "a name or number";

    fn read(given: &Given) -> Option<Self> {
        let (name, id) = match given {
            Given::Integer(number) => {
                let id = u32::try_from((*number)?).ok()?;
                (id.to_string(), id)
            }
            _ => {
                let name = given.text()?;
                (name.to_owned(), name.parse().ok().or_else(|| K::id(name))?)
            }
        };
        Some(Self {
            name,
            id,
            kind: PhantomData,
        })
    }

    fn to_toml(&self) -> toml::Value {
        self.name.clone().into()
    }
}

impl<K: Lookup> Item for Account<K> {
    const LIST: &'static str = K::LIST;
}

/// Where `/metrics` is served, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics(pub Option<SocketAddr>);

impl Value for Metrics {
    const EXPECTED: &'static str = "an address and port like 127.0.0.1:9750, or off";

    fn read(given: &Given) -> Option<Self> {
        match given.text()? {
            "off" => Some(Self(None)),
            text => text.parse().ok().map(|address| Self(Some(address))),
        }
    }

    fn to_toml(&self) -> toml::Value {
        self.0
            .map_or("off".into(), |address| address.to_string())
            .into()
    }
}

macro_rules! choice {
    (
        $(#[$doc:meta])+
        $name:ident: $expected:literal { $($(#[$variant_doc:meta])+ $variant:ident = $text:literal,)+ }
    ) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])+ $variant,)+ }

        impl Value for $name {
            const EXPECTED: &'static str = $expected;

            fn read(given: &Given) -> Option<Self> {
                match given.text()? {
                    $($text => Some(Self::$variant),)+
                    _ => None,
                }
            }

            fn to_toml(&self) -> toml::Value {
                match self { $(Self::$variant => $text,)+ }.into()
            }
        }
    };
}

choice! {
    /// Where processes are learned of.
    Source: "auto, bpf or proc" {
        /// BPF, or `/proc` where BPF is not to be had.
        Auto = "auto",
        /// BPF, or fail.
        Bpf = "bpf",
        /// `/proc`.
        Proc = "proc",
    }
}

choice! {
    /// How processes are followed.
    Mode: "both, events or poll" {
        /// By events; walks make sure.
        Both = "both",
        /// By events; walks only repair.
        Events = "events",
        /// By walks.
        Poll = "poll",
    }
}

choice! {
    /// What is logged.
    Level: "error, warn, info, debug or trace" {
        /// What failed.
        Error = "error",
        /// What degrades the picture, as well.
        Warn = "warn",
        /// Start, stop and reload, as well.
        Info = "info",
        /// What walks corrected and who connects, as well.
        Debug = "debug",
        /// All there is.
        Trace = "trace",
    }
}
