//! The device, and what it does with lists as a whole.

use std::fs::File;
use std::path::Path;

use pidlist_abi::pidset as abi;
use rustix::io::Errno;

use crate::error::{Act, Error, Which};
use crate::rules::Rules;
use crate::{ioctl, name};

/// Opens the device and asks what it is: for writing where that is allowed, else for reading.
pub(crate) fn open(list: &Which) -> Result<(File, abi::Info), Error> {
    open_path(&Path::new("/dev").join(abi::DEVICE_NAME), list)
}

pub(crate) fn open_path(path: &Path, list: &Which) -> Result<(File, abi::Info), Error> {
    let act = || Act::new("opening", list);
    let refused = |error: &std::io::Error| {
        matches!(
            Errno::from_io_error(error),
            Some(Errno::ACCESS | Errno::PERM)
        )
    };
    let mut options = File::options();
    let device = match options.read(true).write(true).open(path) {
        Err(error) if refused(&error) => options.write(false).open(path),
        opened => opened,
    }
    .map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::NXIO | Errno::NODEV) => Error::NotLoaded(path.into()),
        _ if refused(&error) => Error::NotPermitted(path.into()),
        errno => Error::Kernel {
            act: act(),
            errno: errno.unwrap_or(Errno::IO),
        },
    })?;
    let info = ioctl::info(&device).map_err(|errno| Error::Kernel { act: act(), errno })?;
    if info.version != abi::VERSION {
        return Err(Error::Version {
            module: info.version,
            ours: abi::VERSION,
        });
    }
    Ok((device, info))
}

/// A list, as [`lists`] tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListInfo {
    /// Its name.
    pub name: String,
    /// A number that no other list has now; 0 is the default list.
    pub id: u32,
    /// Effective uid of who made it, as our user namespace numbers it.
    pub owner: u32,
    /// It goes when its last descriptor is closed.
    pub temporary: bool,
    /// Its rules.
    pub rules: Rules,
    /// Its statistics.
    pub stats: abi::Stats,
}

/// All lists, the default one first.
///
/// Those that are made or deleted during the call may be in it or not.
///
/// # Errors
///
/// Those of [`PidSet::open`](crate::PidSet::open).
pub fn lists() -> Result<Vec<ListInfo>, Error> {
    let (device, _) = open(&Which::All)?;
    let mut lists = Vec::new();
    let mut id = Some(0);
    while let Some(least) = id {
        let found = match ioctl::list(&device, least) {
            Ok(found) => found,
            Err(Errno::NOENT) => break,
            Err(errno) => return Err(Act::new("looking through", &Which::All).failed(errno)),
        };
        id = found.id.checked_add(1);
        lists.push(ListInfo {
            name: name::unpack(&found.name),
            id: found.id,
            owner: found.owner,
            temporary: found.flags & abi::OPEN_TEMPORARY != 0,
            rules: Rules::from(&found.stats),
            stats: found.stats,
        });
    }
    Ok(lists)
}

/// Removes a list. Whoever has it open gets [`Error::ListGone`].
///
/// # Errors
///
/// [`Error::BadName`], [`Error::NoSuchList`], [`Error::NotOwner`], [`Error::ReadOnly`],
/// [`Error::DefaultStays`], and those of [`PidSet::open`](crate::PidSet::open).
pub fn delete(name: &str) -> Result<(), Error> {
    let packed = name::pack(name)?;
    let list = Which::Named(name.into());
    let (device, _) = open(&list)?;
    ioctl::delete(device, packed).map_err(|errno| Act::new("deleting", &list).failed(errno))
}

/// What all lists hold and have done since the module was loaded.
///
/// # Errors
///
/// Those of [`PidSet::open`](crate::PidSet::open).
pub fn module() -> Result<abi::Module, Error> {
    let (device, _) = open(&Which::All)?;
    ioctl::module(device)
        .map_err(|errno| Act::new("reading the statistics of", &Which::All).failed(errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_says_how_to_load_the_module() {
        let error = open_path(Path::new("/dev/no-such-device"), &Which::All).unwrap_err();
        assert!(matches!(error, Error::NotLoaded(_)));
        assert!(error.to_string().contains("make load"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_set_is_refused() {
        let error = open_path(Path::new("/dev/null"), &Which::All).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Kernel {
                    errno: Errno::NOTTY,
                    ..
                }
            ),
            "{error}"
        );
    }
}
