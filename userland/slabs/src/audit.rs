//! What the slabs say about how many processes can be alive.

use serde::Serialize;

use crate::Snapshot;

/// Caches of which a living process, or each of its threads, holds an object.
pub const AUDITED: [&str; 5] = [
    "task_struct",
    "pid",
    "signal_cache",
    "mm_struct",
    "files_cache",
];

/// Upper bounds, one per cache: no more objects can be alive.
///
/// A cache that is missing was merged into another one (or has another name on this kernel): it
/// bounds nothing. So does one whose counts the kernel does not give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Threads: one each; and those that have exited and are not yet freed.
    pub task_struct: Option<u64>,
    /// Pids of threads, and those held for another reason. Only of the initial pid namespace: a
    /// pid that is visible in deeper ones comes from `pid_2`, `pid_3`… instead.
    pub pid: Option<u64>,
    /// Processes.
    pub signal_cache: Option<u64>,
    /// Address spaces: processes that are no kernel threads; vfork shares one.
    pub mm_struct: Option<u64>,
    /// Tables of open files.
    pub files_cache: Option<u64>,
}

impl Audit {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        // Not the objects in use: on long partial lists the kernel only estimates them.
        let bound = |name| snapshot.get(name)?.objects;
        let [task_struct, pid, signal_cache, mm_struct, files_cache] = AUDITED.map(bound);
        Self {
            task_struct,
            pid,
            signal_cache,
            mm_struct,
            files_cache,
        }
    }

    /// Most threads that can be alive; none if the slabs do not tell.
    pub fn threads_at_most(&self) -> Option<u64> {
        self.task_struct
    }

    /// Most processes that can be alive, kernel threads included; none if the slabs do not tell.
    pub fn processes_at_most(&self) -> Option<u64> {
        [self.signal_cache, self.task_struct]
            .into_iter()
            .flatten()
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cache;

    #[test]
    fn a_merged_cache_bounds_nothing() {
        let cache = |name: &str, objects, active_objects| Cache {
            name: name.to_owned(),
            objects,
            active_objects,
            ..Cache::default()
        };
        let snapshot = Snapshot {
            source: crate::Source::Bpf,
            taken: std::time::SystemTime::UNIX_EPOCH,
            page_size: 4096,
            caches: vec![
                cache("task_struct", Some(100), None),
                cache("signal_cache", Some(90), Some(80)),
                cache("pid", Some(10), None),
                cache("mm_struct", None, None),
            ],
        };
        let audit = snapshot.audit();
        assert_eq!(audit.task_struct, Some(100));
        assert_eq!(audit.signal_cache, Some(90));
        assert_eq!(
            (audit.pid, audit.mm_struct, audit.files_cache),
            (Some(10), None, None)
        );
        assert_eq!(audit.threads_at_most(), Some(100));
        assert_eq!(audit.processes_at_most(), Some(90));
        assert_eq!(Audit::default().processes_at_most(), None);
    }
}
