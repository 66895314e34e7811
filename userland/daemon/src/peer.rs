//! Who is at the other end of a socket, and whether they may ask.
#![expect(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use pidlist_config::Settings;
use tokio::net::UnixStream;

/// A process at the other end, as it was when it connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its pid, as this process sees it; `None` if it is in a pid namespace out of sight.
    pub pid: Option<i32>,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group, and those it is in beside.
    pub gids: Vec<u32>,
}

impl Peer {
    /// Asks the kernel, which noted it at the connect.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub fn of(socket: &UnixStream) -> io::Result<Self> {
        let credentials = socket.peer_cred()?;
        let mut gids = peer_groups(socket)?;
        gids.push(credentials.gid());
        Ok(Self {
            pid: credentials.pid().filter(|pid| *pid != 0),
            uid: credentials.uid(),
            gids,
        })
    }

    /// Whether it is root or the daemon's own user, whom no setting keeps out.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        [0, rustix::process::geteuid().as_raw()].contains(&self.uid)
    }
}

/// The supplementary groups of the other end: `SO_PEERGROUPS` of socket(7), which no safe wrapper has.
fn peer_groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups: Vec<u32> = Vec::new();
    loop {
        let mut bytes = libc::socklen_t::try_from(groups.len() * size_of::<u32>())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        // SAFETY: the descriptor is open, and `groups` has room for `bytes` bytes of any value.
        let status = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<u32>();
        if status == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // It says how much room it takes.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

/// Who may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    uids: Vec<u32>,
    gids: Vec<u32>,
}

impl Allowed {
    /// Root, the user `own`, and whom the settings name.
    #[must_use]
    pub fn new(settings: &Settings, own: u32) -> Self {
        let named = settings.allow_users.iter().map(|user| user.id);
        Self {
            uids: [0, own].into_iter().chain(named).collect(),
            gids: settings.allow_groups.iter().map(|group| group.id).collect(),
        }
    }

    /// Whether this one may.
    #[must_use]
    pub fn permits(&self, peer: &Peer) -> bool {
        self.uids.contains(&peer.uid) || peer.gids.iter().any(|gid| self.gids.contains(gid))
    }
}

#[cfg(test)]
mod tests {
    use pidlist_config::{Setting, Sources};
    use std::ffi::OsString;

    use super::*;

    fn allowed(users: &str, groups: &str) -> Allowed {
        let flags = [("allow-users", users), ("allow-groups", groups)];
        let sources = Sources {
            flags: flags
                .map(|(key, value)| (Setting::find(key).unwrap(), OsString::from(value)))
                .into(),
            ..Sources::default()
        };
        Allowed::new(&sources.load().unwrap().settings, 500)
    }

    #[test]
    fn only_the_named_may_ask() {
        let peer = |uid, gids: &[u32]| Peer {
            pid: Some(1),
            uid,
            gids: gids.into(),
        };
        let nobody_else = allowed("", "");
        assert!(nobody_else.permits(&peer(0, &[0])));
        assert!(nobody_else.permits(&peer(500, &[500])));
        assert!(!nobody_else.permits(&peer(1000, &[0, 500])));

        let some = allowed("1000", "42");
        assert!(some.permits(&peer(1000, &[1000])));
        assert!(some.permits(&peer(1001, &[1001, 42])));
        assert!(!some.permits(&peer(1001, &[1001, 1000])));
        assert!(!some.permits(&peer(42, &[])));
    }

    #[tokio::test]
    async fn the_kernel_says_who_it_is() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer.pid, i32::try_from(std::process::id()).ok());
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        let groups = rustix::process::getgroups().unwrap();
        assert!(peer.gids.contains(&rustix::process::getegid().as_raw()));
        assert!(
            groups
                .iter()
                .all(|group| peer.gids.contains(&group.as_raw()))
        );
    }
}
