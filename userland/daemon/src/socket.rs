//! The socket's place in the file system, and who holds it.
//!
//! A lock beside the socket says whether a daemon lives: the kernel drops it with the process, however
//! that ends. Who holds the lock may replace a socket that a killed daemon left behind. The lock's file
//! stays: to remove it would let two daemons hold locks on two files of one name.
//!
//! The daemon is root as a rule, and the directory may be one where others write, like `/tmp`: no link is
//! followed there, nothing is written to that belongs to somebody else, and what was bound is changed by a
//! descriptor, not by its name.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
    PermissionsExt as _,
};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use pidlist_config::Settings;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use crate::Error;

/// A bound socket, removed when dropped.
#[derive(Debug)]
pub struct Place {
    path: PathBuf,
    /// The socket in the file system (`O_PATH`), whatever has its name by now.
    socket: File,
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
        let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
        make_directory(directory.unwrap_or(Path::new("."))).map_err(failed)?;
        let mut lock = open_lock(path).map_err(failed)?;
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
        let socket = open_socket(path).map_err(failed)?;
        let place = Self {
            path: path.into(),
            socket,
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
        // fchmod(2) takes no such descriptor, and fchmodat(2) follows links before Linux 6.6.
        let descriptor = format!("/proc/self/fd/{}", self.socket.as_raw_fd());
        std::fs::set_permissions(descriptor, Permissions::from_mode(mode))
    }
}

fn make_directory(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o755).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mode = std::fs::metadata(directory)?.mode();
    let is_safe = mode & 0o002 == 0 || mode & 0o1000 != 0;
    require(
        is_safe,
        "everybody may remove files from its directory, which is not sticky",
    )
}

fn open_lock(path: &Path) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let options = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(options.bits().cast_signed())
        .open(name)?;
    let found = lock.metadata()?;
    require(
        found.is_file() && found.nlink() == 1 && is_own(&found),
        "the lock beside it (.lock) is not a file of the daemon's own",
    )?;
    Ok(lock)
}

/// What was just bound: where others may put something else in its place, that is noticed.
fn open_socket(path: &Path) -> io::Result<File> {
    let options = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = File::from(rustix::fs::open(path, options, Mode::empty())?);
    let found = socket.metadata()?;
    require(
        found.file_type().is_socket() && is_own(&found),
        "something else is there than what was bound",
    )?;
    Ok(socket)
}

fn is_own(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw()
}

fn require(is_so: bool, else_what: &'static str) -> io::Result<()> {
    if is_so {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, else_what))
}

impl Drop for Place {
    fn drop(&mut self) {
        let is_named = || {
            let (bound, named) = (
                self.socket.metadata().ok()?,
                std::fs::symlink_metadata(&self.path).ok()?,
            );
            Some((bound.dev(), bound.ino()) == (named.dev(), named.ino()))
        };
        if is_named() == Some(true) {
            // Gone already if its directory is: there is nothing left to do.
            let _ = std::fs::remove_file(&self.path);
        }
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
    fn no_link_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let precious = directory.path().join("precious");
        std::fs::write(&precious, "precious").unwrap();
        let path = directory.path().join("pidlist.sock");
        let lock = directory.path().join("pidlist.sock.lock");
        let symlink = || std::os::unix::fs::symlink(&precious, &lock);
        let hard_link = || std::fs::hard_link(&precious, &lock);
        for link in [&symlink as &dyn Fn() -> io::Result<()>, &hard_link] {
            link().unwrap();
            assert!(matches!(Place::take(&path), Err(Error::Socket { .. })));
            assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
            std::fs::remove_file(&lock).unwrap();
        }

        // Swapped after the bind: neither its mode nor the other's file is touched.
        let mode = || std::fs::metadata(&precious).unwrap().permissions().mode();
        let before = mode();
        let (place, _listener) = Place::take(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        place.open_to(&Settings::default()).unwrap();
        assert_eq!(mode(), before);
        drop(place);
        assert!(path.is_symlink());
    }

    #[test]
    fn where_everybody_may_remove_it_there_is_no_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pidlist.sock");
        let open = |mode| std::fs::set_permissions(&directory, Permissions::from_mode(mode));
        open(0o777).unwrap();
        let error = Place::take(&path).unwrap_err();
        assert!(matches!(error, Error::Socket { .. }), "{error}");
        open(0o1777).unwrap();
        Place::take(&path).unwrap();
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
