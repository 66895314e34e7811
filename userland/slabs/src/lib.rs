//! Slab caches, from the BPF iterator or from `/proc/slabinfo`.
//!
//! ```no_run
//! let programs = pidlist_bpf::Programs::open()?;
//! let mut snapshot = pidlist_slabs::Snapshot::from_bpf(&programs)?;
//! snapshot.sort_by_memory();
//! for cache in snapshot.caches.iter().take(10) {
//!     println!("{} {:?} bytes", cache.name, snapshot.bytes(cache));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod slabinfo;

use std::{cmp::Reverse, fs, io, time::SystemTime};

use pidlist_bpf::Programs;
use serde::{Deserialize, Serialize};

/// Where a snapshot came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The BPF iterator `kmem_cache`, Linux 6.13 and later.
    Bpf,
    /// `/proc/slabinfo`.
    Slabinfo,
}

/// All slab caches at about one time: a walk takes less than a millisecond, but it is no instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Where it came from.
    pub source: Source,
    /// When the walk began.
    pub taken: SystemTime,
    /// Bytes of a page.
    pub page_size: u64,
    /// The caches, in the kernel's order until sorted.
    pub caches: Vec<Cache>,
}

/// A slab cache. What a source or the running kernel does not tell is none, never zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Name. Caches of like objects may be merged into one, which keeps the name of the first.
    pub name: String,
    /// Bytes of an object with the kernel's metadata and padding.
    pub size: u32,
    /// Bytes of an object as its user asked for it. BPF only.
    pub object_size: Option<u32>,
    /// Objects in a slab.
    pub objects_per_slab: u32,
    /// Pages in a slab.
    pub pages_per_slab: u32,
    /// Slabs, over all nodes.
    pub slabs: Option<u64>,
    /// Slabs on partial lists, over all nodes. BPF only.
    pub partial_slabs: Option<u64>,
    /// Objects that the slabs have room for.
    pub objects: Option<u64>,
    /// Objects in use, as far as the kernel looks: its per-CPU reserves count as in use. Slabinfo
    /// only.
    pub active_objects: Option<u64>,
    /// `SLAB_*` flags. BPF only.
    pub flags: Option<u32>,
    /// Alignment of objects, bytes. BPF only.
    pub align: Option<u32>,
    /// Caches that are merged in this one, itself included. BPF only.
    pub users: Option<u32>,
}

impl From<&pidlist_abi::slab::Cache> for Cache {
    fn from(cache: &pidlist_abi::slab::Cache) -> Self {
        let name = cache
            .name
            .split(|&byte| byte == 0)
            .next()
            .unwrap_or_default();
        let count = |count| (count != u64::MAX).then_some(count);
        Self {
            name: String::from_utf8_lossy(name).into_owned(),
            size: cache.size,
            object_size: Some(cache.object_size),
            objects_per_slab: cache.objects_per_slab,
            pages_per_slab: 1_u32.checked_shl(cache.order).unwrap_or(0),
            slabs: count(cache.slabs),
            partial_slabs: count(cache.partial_slabs),
            objects: count(cache.objects),
            active_objects: None,
            flags: Some(cache.flags),
            align: Some(cache.align),
            users: Some(cache.refcount),
        }
    }
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// BPF cannot tell.
    #[error("cannot list slab caches by BPF: {0}")]
    Bpf(#[from] pidlist_bpf::Error),
    /// `/proc/slabinfo` cannot be read.
    #[error(
        "cannot read {path}: {error}; it is for root only, and the kernel needs CONFIG_SLUB_DEBUG=y"
    )]
    Read {
        /// The file.
        path: &'static str,
        /// Why.
        error: io::Error,
    },
    /// `/proc/slabinfo` is not as expected.
    #[error("cannot understand {path}: {error}")]
    Parse {
        /// The file.
        path: &'static str,
        /// Where and why.
        error: slabinfo::ParseError,
    },
}

const SLABINFO: &str = "/proc/slabinfo";

impl Snapshot {
    /// A walk of the BPF iterator.
    ///
    /// # Errors
    ///
    /// [`Error::Bpf`]; [`Self::from_slabinfo`] may still work.
    pub fn from_bpf(programs: &Programs) -> Result<Self, Error> {
        let taken = SystemTime::now();
        let caches = programs.slabs()?.iter().map(Cache::from).collect();
        Ok(Self::new(Source::Bpf, taken, caches))
    }

    /// A reading of `/proc/slabinfo`.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], [`Error::Parse`].
    pub fn from_slabinfo() -> Result<Self, Error> {
        let path = SLABINFO;
        let taken = SystemTime::now();
        let text = fs::read_to_string(path).map_err(|error| Error::Read { path, error })?;
        let caches = slabinfo::parse(&text).map_err(|error| Error::Parse { path, error })?;
        Ok(Self::new(Source::Slabinfo, taken, caches))
    }

    fn new(source: Source, taken: SystemTime, caches: Vec<Cache>) -> Self {
        Self {
            source,
            taken,
            page_size: rustix::param::page_size() as u64,
            caches,
        }
    }

    /// Memory of a cache, bytes; none if the number of slabs is not known.
    pub fn bytes(&self, cache: &Cache) -> Option<u64> {
        Some(cache.slabs? * u64::from(cache.pages_per_slab) * self.page_size)
    }

    /// Memory of all caches whose number of slabs is known, bytes.
    pub fn total_bytes(&self) -> u64 {
        self.caches
            .iter()
            .filter_map(|cache| self.bytes(cache))
            .sum()
    }

    /// The largest first, unknown ones last, equal ones by name.
    pub fn sort_by_memory(&mut self) {
        let mut caches = std::mem::take(&mut self.caches);
        caches.sort_by(|a, b| {
            let key = |cache: &Cache| Reverse(self.bytes(cache));
            key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
        });
        self.caches = caches;
    }

    /// The cache of that name; none too if it was merged into another one.
    pub fn get(&self, name: &str) -> Option<&Cache> {
        self.caches.iter().find(|cache| cache.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(name: &str, slabs: Option<u64>) -> Cache {
        Cache {
            name: name.to_owned(),
            pages_per_slab: 2,
            slabs,
            ..Cache::default()
        }
    }

    #[test]
    fn sorts_by_memory_with_unknown_ones_last() {
        let caches = vec![
            cache("unknown", None),
            cache("empty", Some(0)),
            cache("b", Some(7)),
            cache("a", Some(7)),
            cache("large", Some(9)),
        ];
        let mut snapshot = Snapshot::new(Source::Bpf, SystemTime::UNIX_EPOCH, caches);
        snapshot.page_size = 4096;
        snapshot.sort_by_memory();
        let names: Vec<_> = snapshot
            .caches
            .iter()
            .map(|cache| cache.name.as_str())
            .collect();
        assert_eq!(names, ["large", "a", "b", "empty", "unknown"]);
        assert_eq!(snapshot.bytes(&snapshot.caches[0]), Some(9 * 2 * 4096));
        assert_eq!(snapshot.bytes(&snapshot.caches[4]), None);
        assert_eq!(snapshot.total_bytes(), (9 + 7 + 7) * 2 * 4096);
    }

    #[test]
    fn a_count_the_kernel_does_not_give_is_none() {
        let mut name = [0; pidlist_abi::slab::NAME_MAX];
        name[..3].copy_from_slice(b"pid");
        let record = pidlist_abi::slab::Cache {
            name,
            object_size: 100,
            size: 128,
            order: 3,
            objects_per_slab: 256,
            flags: 0,
            align: 8,
            refcount: 1,
            reserved: 0,
            slabs: u64::MAX,
            partial_slabs: 0,
            objects: u64::MAX,
        };
        let cache = Cache::from(&record);
        assert_eq!(cache.name, "pid");
        assert_eq!(cache.pages_per_slab, 8);
        assert_eq!(
            (cache.slabs, cache.partial_slabs, cache.objects),
            (None, Some(0), None)
        );
    }
}
