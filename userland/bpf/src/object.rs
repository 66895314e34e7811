//! Finding the BPF object.

use std::{borrow::Cow, env, fs, path::PathBuf};

use crate::Error;

/// Names the object, at build time for embedding and at run time before all else.
const VARIABLE: &str = "PIDLIST_BPF_OBJECT";
const FILE: &str = "pidlist.bpf.o";
const SYSTEM_DIR: &str = "/usr/lib/pidlist";

#[cfg(embedded_object)]
static EMBEDDED: Option<&[u8]> = Some(aya::include_bytes_aligned!(env!("PIDLIST_EMBEDDED_OBJECT")));
#[cfg(not(embedded_object))]
static EMBEDDED: Option<&[u8]> = None;

/// The ELF file with the programs.
pub struct Object {
    origin: String,
    bytes: Cow<'static, [u8]>,
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Object({}, {} bytes)", self.origin, self.bytes.len())
    }
}

impl Object {
    /// From the environment variable, else embedded, else next to the binary, else installed.
    pub fn find() -> Result<Self, Error> {
        if let Some(path) = env::var_os(VARIABLE) {
            return Self::read(path.into());
        }
        if let Some(bytes) = EMBEDDED {
            return Ok(Self {
                origin: "embedded".to_owned(),
                bytes: Cow::Borrowed(bytes),
            });
        }
        let beside = env::current_exe()
            .ok()
            .and_then(|exe| Some(exe.parent()?.join(FILE)));
        let places: Vec<PathBuf> = beside
            .into_iter()
            .chain([PathBuf::from(SYSTEM_DIR).join(FILE)])
            .collect();
        match places.iter().find(|path| path.is_file()) {
            Some(path) => Self::read(path.clone()),
            None => Err(Error::NoObject { places }),
        }
    }

    fn read(path: PathBuf) -> Result<Self, Error> {
        match fs::read(&path) {
            Ok(bytes) => Ok(Self {
                origin: path.display().to_string(),
                bytes: Cow::Owned(bytes),
            }),
            Err(error) => Err(Error::ReadObject { path, error }),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn origin(&self) -> &str {
        &self.origin
    }
}
