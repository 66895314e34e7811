//! What can go wrong, to whom, and what to do about it.

use std::{io, path::PathBuf};

use aya::{BtfError, EbpfError, maps::MapError, programs::ProgramError};

/// Why something of BPF could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The BPF object was neither embedded at build time nor is it in any of these places.
    #[error(
        "no BPF object: not embedded in this build, and not at {}; build it with \
         `qemu/build-bpf.sh`, or name it in PIDLIST_BPF_OBJECT",
        list(places)
    )]
    NoObject {
        /// Where it was looked for.
        places: Vec<PathBuf>,
    },
    /// The BPF object is there and cannot be read.
    #[error(
        "cannot read the BPF object {}: {error}; PIDLIST_BPF_OBJECT names it, or it was installed \
         there: unset the variable to use the embedded one",
        path.display()
    )]
    ReadObject {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The BPF object is damaged, or of another version of pidlist.
    #[error(
        "the BPF object {origin} does not fit this program: {reason}; build both from one checkout"
    )]
    BadObject {
        /// Which object.
        origin: String,
        /// What does not fit.
        reason: String,
    },
    /// The kernel does not tell its types.
    #[error(
        "cannot read the kernel's types from {path}: {reason}; the kernel needs \
         CONFIG_DEBUG_INFO_BTF=y, and /sys must be mounted"
    )]
    NoBtf {
        /// The file.
        path: &'static str,
        /// Why.
        reason: String,
    },
    /// The kernel's types lack one that every supported kernel has.
    #[error(
        "this kernel has no `{path}` (wanted for `{word}`): its layout is unknown to this version \
         of pidlist; please report the kernel's version"
    )]
    UnknownLayout {
        /// Word of the layout.
        word: &'static str,
        /// Where it was expected.
        path: String,
    },
    /// The kernel lacks a BPF iterator.
    #[error("this kernel cannot list {what} for BPF: that came with Linux {since}")]
    NoIterator {
        /// What it would list.
        what: &'static str,
        /// First version that can.
        since: &'static str,
    },
    /// The kernel does not let this process use BPF.
    #[error(
        "not permitted to {doing}: {error}; run as root, or with the capabilities CAP_BPF and \
         CAP_PERFMON (a container or lockdown may withhold them even from root)"
    )]
    NotPermitted {
        /// What was being done.
        doing: String,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The kernel's verifier refused a program.
    #[error(
        "the kernel refused the BPF program `{program}`: {error}; please report this with the \
         kernel's version. The end of the verifier's log:\n{log}"
    )]
    Refused {
        /// Which program.
        program: String,
        /// The kernel's answer.
        error: io::Error,
        /// The last lines of the verifier's log.
        log: String,
    },
    /// The ring buffer or another map could not be made.
    #[error(
        "cannot make the BPF map `{map}`: {error}; with ENOMEM or E2BIG, ask for a smaller ring"
    )]
    Map {
        /// Which map.
        map: String,
        /// The kernel's answer.
        error: io::Error,
    },
    /// A system call failed in a way that has no name of its own here.
    #[error("cannot {doing}: {error}")]
    Io {
        /// What was being done.
        doing: String,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The loader failed in a way that has no name of its own here.
    #[error("cannot {doing}: {reason}")]
    Loader {
        /// What was being done.
        doing: String,
        /// What the loader says.
        reason: String,
    },
}

fn list(places: &[PathBuf]) -> String {
    let places: Vec<_> = places
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    places.join(" or ")
}

/// Lines kept of the verifier's log: its verdict is at the end.
const LOG_LINES: usize = 20;

impl Error {
    /// `doing` completes "cannot …".
    pub(crate) fn io(doing: impl Into<String>, error: io::Error) -> Self {
        let doing = doing.into();
        if is_denial(&error) {
            Self::NotPermitted { doing, error }
        } else {
            Self::Io { doing, error }
        }
    }

    pub(crate) fn load(origin: &str, error: EbpfError) -> Self {
        let doing = format!("load the BPF object {origin}");
        match error {
            EbpfError::ParseError(error) => Self::BadObject {
                origin: origin.to_owned(),
                reason: error.to_string(),
            },
            EbpfError::MapError(MapError::CreateError { name, io_error }) => {
                if is_denial(&io_error) {
                    Self::NotPermitted {
                        doing: format!("make the BPF map `{name}`"),
                        error: io_error,
                    }
                } else {
                    Self::Map {
                        map: name,
                        error: io_error,
                    }
                }
            }
            EbpfError::MapError(MapError::SyscallError(call)) => Self::io(doing, call.io_error),
            EbpfError::BtfError(BtfError::LoadError { io_error, .. }) => Self::io(doing, io_error),
            other => Self::Loader {
                doing,
                reason: chain(&other),
            },
        }
    }

    pub(crate) fn program(name: &str, error: ProgramError) -> Self {
        match error {
            ProgramError::LoadError {
                io_error,
                verifier_log,
            } => {
                let log = verifier_log.to_string();
                // The verifier says EACCES, too, and explains itself.
                if is_denial(&io_error) && log.trim().is_empty() {
                    return Self::NotPermitted {
                        doing: format!("load the BPF program `{name}`"),
                        error: io_error,
                    };
                }
                let lines: Vec<_> = log.lines().collect();
                Self::Refused {
                    program: name.to_owned(),
                    error: io_error,
                    log: lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"),
                }
            }
            ProgramError::SyscallError(call) => Self::io(
                format!("attach the BPF program `{name}` ({})", call.call),
                call.io_error,
            ),
            other => Self::Loader {
                doing: format!("load the BPF program `{name}`"),
                reason: chain(&other),
            },
        }
    }
}

fn is_denial(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// An error with its causes: aya keeps them out of its messages.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_object_says_where_and_what_to_do() {
        let error = Error::NoObject {
            places: vec!["/a/pidlist.bpf.o".into(), "/b/pidlist.bpf.o".into()],
        };
        let text = error.to_string();
        assert!(
            text.contains("/a/pidlist.bpf.o or /b/pidlist.bpf.o"),
            "{text}"
        );
        assert!(text.contains("build-bpf.sh"), "{text}");
        assert!(text.contains("PIDLIST_BPF_OBJECT"), "{text}");
    }

    #[test]
    fn a_denial_is_not_just_any_failure() {
        let denied = Error::io("try", io::Error::from_raw_os_error(1));
        assert!(matches!(denied, Error::NotPermitted { .. }), "{denied}");
        let failed = Error::io("try", io::Error::from_raw_os_error(12));
        assert!(matches!(failed, Error::Io { .. }), "{failed}");
    }
}
