//! Notices that the file of settings has changed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// An editor writes a file in several steps: it is read when it has been left alone for so long.
const SETTLED: Duration = Duration::from_millis(200);
/// One that is never left alone is read this long after its first change.
const SETTLED_AT_LAST: Duration = Duration::from_secs(2);

/// Watches one file, by its directory: most editors write another and rename it.
#[derive(Debug)]
pub struct FileWatch {
    _watcher: Option<RecommendedWatcher>,
    changed: mpsc::Receiver<()>,
    /// The first and the last change that [`changed`](Self::changed) has not told of.
    pending: Option<(Instant, Instant)>,
    _sender: mpsc::Sender<()>,
}

impl FileWatch {
    /// Watches `file`, which need not be there. Where its directory cannot be watched, that is logged,
    /// and nothing is ever noticed.
    #[must_use]
    pub fn new(file: &Path) -> Self {
        let (sender, changed) = mpsc::channel(1);
        let watcher = watch(file, sender.clone())
            .map_err(|error| {
                tracing::info!(
                    "changes of {} are not noticed ({error}): SIGHUP has it read again",
                    file.display()
                );
            })
            .ok();
        Self {
            _watcher: watcher,
            changed,
            pending: None,
            _sender: sender,
        }
    }

    /// Waits for a change that is over. Dropping the future loses nothing.
    pub async fn changed(&mut self) {
        loop {
            let Some((first, last)) = self.pending else {
                self.changed.recv().await;
                self.pending = Some((Instant::now(), Instant::now()));
                continue;
            };
            let due = (last + SETTLED).min(first + SETTLED_AT_LAST);
            if Instant::now() >= due || timeout_at(due, self.changed.recv()).await.is_err() {
                self.pending = None;
                return;
            }
            self.pending = Some((first, Instant::now()));
        }
    }
}

fn watch(file: &Path, sender: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let directory = file.parent().filter(|path| !path.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let name: Option<PathBuf> = file.file_name().map(PathBuf::from);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let is_about_it = event.is_ok_and(|event| {
            let is_named = || {
                let mut paths = event.paths.iter();
                paths.any(|path| path.file_name() == name.as_deref().map(Path::as_os_str))
            };
            // The kernel had no room for what happened: it may have been about any file.
            event.need_rescan() || (!matches!(event.kind, EventKind::Access(_)) && is_named())
        });
        if is_about_it {
            // Full: somebody has been told already.
            let _ = sender.try_send(());
        }
    })?;
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_rewritten_and_a_replaced_file_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pidlist.toml");
        let mut watch = FileWatch::new(&file);
        let noticed = async |watch: &mut FileWatch| {
            tokio::time::timeout(Duration::from_secs(2), watch.changed())
                .await
                .is_ok()
        };
        std::fs::write(&file, "one").unwrap();
        assert!(noticed(&mut watch).await);
        let other = directory.path().join("other");
        std::fs::write(&other, "two").unwrap();
        assert!(
            !noticed(&mut watch).await,
            "another file is none of its business"
        );
        std::fs::rename(&other, &file).unwrap();
        assert!(noticed(&mut watch).await);
    }

    #[tokio::test]
    async fn who_looks_away_often_still_hears_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pidlist.toml");
        let mut watch = FileWatch::new(&file);
        std::fs::write(&file, "one").unwrap();
        let begun = Instant::now();
        while tokio::time::timeout(SETTLED / 4, watch.changed())
            .await
            .is_err()
        {
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
    }

    #[tokio::test]
    async fn a_file_that_is_never_left_alone_is_read_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pidlist.toml");
        let mut watch = FileWatch::new(&file);
        let scribble = async {
            loop {
                std::fs::write(&file, "more").unwrap();
                tokio::time::sleep(SETTLED / 8).await;
            }
        };
        tokio::select! {
            () = scribble => {}
            changed = tokio::time::timeout(Duration::from_secs(20), watch.changed()) => {
                assert!(changed.is_ok());
            }
        }
    }
}
