//! The socket's place in the file system, and who holds it.
//!
//! A lock beside the socket says whether a daemon lives: the kernel drops it with the process, however
//! that ends. Who holds the lock may replace a socket that a killed daemon left behind. The lock's file
//! stays: to remove it would let two daemons hold locks on two files of one name.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use pidlist_config::Settings;
use rustix::fs::{FlockOperation, flock};

use crate::Error;

/// A bound socket, removed when dropped.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    _lock: File,
}

impl Place {
    /// Takes the place, and listens there.
    ///
    /// # Errors
    ///
    /// Another daemon is there ([`Error::InUse`]), or the file system does not allow it.
    pub fn take(path: &Path) -> Result<(Self, UnixListener), Error> {
        let failed = |source| Error::Socket {
            path: path.into(),
            source,
        };
        if let Some(directory) = path.parent()
            && let Err(error) = std::fs::create_dir(directory)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(failed(error));
        }
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(lock)
            .map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                lock.read_to_string(&mut pid).map_err(failed)?;
                return Err(Error::InUse {
                    path: path.into(),
                    pid: pid.trim().into(),
                });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        lock.set_len(0).map_err(failed)?;
        writeln!(lock, "{}", std::process::id()).map_err(failed)?;

        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                std::fs::remove_file(path).map_err(failed)?;
            }
            // Somebody's file: it is not ours to remove.
            Ok(_) => return Err(failed(io::ErrorKind::AlreadyExists.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let place = Self {
            path: path.into(),
            _lock: lock,
        };
        listener.set_nonblocking(true).map_err(failed)?;
        Ok((place, listener))
    }

    /// Lets connect whom the settings may allow; who may ask is then decided by credentials, which
    /// say more than a file's mode can.
    ///
    /// # Errors
    ///
    /// The mode of the socket cannot be changed.
    pub fn open_to(&self, settings: &Settings) -> io::Result<()> {
        let is_private = settings.allow_users.is_empty() && settings.allow_groups.is_empty();
        let mode = if is_private { 0o660 } else { 0o666 };
        std::fs::set_permissions(&self.path, Permissions::from_mode(mode))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Gone already if its directory is: there is nothing left to do.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_held_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/pidlist.sock");
        let (place, listener) = Place::take(&path).unwrap();
        let error = Place::take(&path).unwrap_err();
        assert!(
            matches!(&error, Error::InUse { pid, .. } if *pid == std::process::id().to_string()),
            "{error}"
        );
        drop(listener);
        assert!(
            matches!(Place::take(&path), Err(Error::InUse { .. })),
            "the lock counts"
        );
        drop(place);
        assert!(!path.exists());
        Place::take(&path).unwrap();
    }

    #[test]
    fn what_a_killed_daemon_left_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pidlist.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        Place::take(&path).unwrap();
    }

    #[test]
    fn a_file_of_somebody_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pidlist.sock");
        std::fs::write(&path, "precious").unwrap();
        let error = Place::take(&path).unwrap_err();
        assert!(matches!(error, Error::Socket { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn the_mode_follows_the_settings() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pidlist.sock");
        let (place, _listener) = Place::take(&path).unwrap();
        let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let mut settings = Settings::default();
        place.open_to(&settings).unwrap();
        assert_eq!(mode(), 0o660);
        let sources = pidlist_config::Sources {
            flags: vec![(
                pidlist_config::Setting::find("allow-users").unwrap(),
                "1".into(),
            )],
            ..Default::default()
        };
        settings.allow_users = sources.load().unwrap().settings.allow_users;
        place.open_to(&settings).unwrap();
        assert_eq!(mode(), 0o666);
    }
}
