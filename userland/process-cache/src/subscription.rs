//! The stream of changes, for whoever wants each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel,
};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::{Key, Process};

/// What happened to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum What {
    /// It was made.
    Forked,
    /// It runs a new program.
    Executed,
    /// It has exited.
    Exited,
    /// A walk found it; no event had told of it.
    Found,
    /// It was found to be gone; no event had told of its exit.
    Gone,
    /// A walk found it though it had been taken for dead.
    Revived,
}

/// Something that has just changed in a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Change {
    /// When it happened, or was found out; nanoseconds of `CLOCK_BOOTTIME`.
    pub time_ns: u64,
    /// What it was.
    pub what: What,
    /// To whom.
    pub key: Key,
}

/// A queue of changes, each with the process as it was right after it.
///
/// The writer never waits for it: what does not fit is dropped and counted. Dropping it ends the
/// subscription.
#[derive(Debug)]
pub struct Subscription {
    changes: Receiver<(Change, Arc<Process>)>,
    lost: Arc<AtomicU64>,
}

impl Subscription {
    /// The next change, once there is one; `None` if there is none within `timeout`.
    ///
    /// # Errors
    ///
    /// [`Closed`]: the cache is gone, and all that it told has been received.
    pub fn recv_timeout(
        &self,
        timeout: Duration,
    ) -> Result<Option<(Change, Arc<Process>)>, Closed> {
        match self.changes.recv_timeout(timeout) {
            Ok(change) => Ok(Some(change)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Closed),
        }
    }

    /// The next change, if there is one already.
    ///
    /// # Errors
    ///
    /// [`Closed`]: the cache is gone, and all that it told has been received.
    pub fn try_recv(&self) -> Result<Option<(Change, Arc<Process>)>, Closed> {
        match self.changes.try_recv() {
            Ok(change) => Ok(Some(change)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Closed),
        }
    }

    /// How many changes did not fit so far. Whoever missed some looks at a snapshot.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// There will be no more changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cache is gone")]
pub struct Closed;

#[derive(Clone, Debug)]
struct Subscriber {
    changes: SyncSender<(Change, Arc<Process>)>,
    lost: Arc<AtomicU64>,
}

/// All subscribers; `None` once there is nobody to tell them anything. They come from any thread, and
/// the writer looks at them without a lock.
#[derive(Debug)]
pub(crate) struct Hub(ArcSwapOption<Vec<Subscriber>>);

impl Default for Hub {
    fn default() -> Self {
        Self(ArcSwapOption::from_pointee(Vec::new()))
    }
}

impl Hub {
    pub(crate) fn subscribe(&self, capacity: usize) -> Subscription {
        // A channel without room would make both sides meet.
        let (sender, changes) = sync_channel(capacity.max(1));
        let lost = Arc::<AtomicU64>::default();
        let subscriber = Subscriber {
            changes: sender,
            lost: Arc::clone(&lost),
        };
        self.0.rcu(|subscribers| {
            let mut subscribers = Vec::clone(subscribers.as_ref()?);
            subscribers.push(subscriber.clone());
            Some(Arc::new(subscribers))
        });
        Subscription { changes, lost }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.load().as_deref().is_none_or(Vec::is_empty)
    }

    pub(crate) fn tell(&self, change: &Change, process: &Arc<Process>) {
        let subscribers = self.0.load();
        let Some(subscribers) = subscribers.as_deref() else {
            return;
        };
        let mut gone = Vec::new();
        for subscriber in subscribers {
            match subscriber.changes.try_send((*change, Arc::clone(process))) {
                Ok(()) => (),
                Err(TrySendError::Full(_)) => {
                    subscriber.lost.fetch_add(1, Ordering::Relaxed);
                }
                Err(TrySendError::Disconnected(_)) => gone.push(Arc::clone(&subscriber.lost)),
            }
        }
        if !gone.is_empty() {
            self.0.rcu(|subscribers| {
                let stays = |subscriber: &&Subscriber| {
                    !gone.iter().any(|gone| Arc::ptr_eq(gone, &subscriber.lost))
                };
                let stay = subscribers.as_ref()?.iter().filter(stays).cloned();
                Some(Arc::new(stay.collect()))
            });
        }
    }

    pub(crate) fn close(&self) {
        self.0.store(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cache, Precision, Sighting};

    fn fork(cache: &mut Cache, tgid: u32) {
        let key = Key {
            start_ns: tgid.into(),
            tgid,
        };
        let child = Sighting::new(key, Precision::Nanosecond);
        cache.on_fork(key.start_ns, &child, None);
    }

    #[test]
    fn changes_come_in_order_with_the_process_of_that_moment() {
        let mut cache = Cache::default();
        let subscription = cache.reader().subscribe(8);
        fork(&mut cache, 1);
        let key = cache.by_pid(1).unwrap().key();
        let dead = Sighting {
            dead: true,
            ..Sighting::new(key, Precision::Nanosecond)
        };
        cache.on_exit(9, &dead);
        let (forked, then) = subscription.try_recv().unwrap().unwrap();
        assert_eq!(
            (forked.what, forked.key, then.is_alive()),
            (What::Forked, key, true)
        );
        let (exited, then) = subscription.try_recv().unwrap().unwrap();
        assert_eq!(
            (exited.what, exited.time_ns, then.is_alive()),
            (What::Exited, 9, false)
        );
        assert_eq!(subscription.try_recv(), Ok(None));
        assert_eq!(
            subscription.recv_timeout(Duration::from_millis(1)),
            Ok(None)
        );
    }

    #[test]
    fn who_does_not_receive_loses_and_hinders_nobody() {
        let mut cache = Cache::default();
        let reader = cache.reader();
        let (slow, fast) = (reader.subscribe(3), reader.subscribe(100));
        for pid in 1..=10 {
            fork(&mut cache, pid);
        }
        assert_eq!((slow.lost(), fast.lost()), (7, 0));
        let received = std::iter::from_fn(|| slow.try_recv().unwrap());
        assert_eq!(
            received
                .map(|(change, _)| change.key.tgid)
                .collect::<Vec<_>>(),
            [1, 2, 3]
        );
        fork(&mut cache, 11);
        assert_eq!(slow.try_recv().unwrap().unwrap().0.key.tgid, 11);
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let mut cache = Cache::default();
        let reader = cache.reader();
        drop(reader.subscribe(1));
        let stays = reader.subscribe(10);
        fork(&mut cache, 1);
        fork(&mut cache, 2);
        assert_eq!(std::iter::from_fn(|| stays.try_recv().unwrap()).count(), 2);
        drop(stays);
        fork(&mut cache, 3);
        let mut hub = Hub::default();
        assert!(hub.is_empty());
        drop(hub.subscribe(1));
        assert!(!hub.is_empty());
        let process = Arc::new(cache.by_pid(3).unwrap().clone());
        let change = Change {
            time_ns: 3,
            what: What::Forked,
            key: process.key(),
        };
        hub.tell(&change, &process);
        assert!(hub.is_empty());
        hub = Hub::default();
        hub.close();
        assert_eq!(hub.subscribe(1).try_recv(), Err(Closed));
    }

    #[test]
    fn the_end_of_the_cache_is_told_after_all_else() {
        let mut cache = Cache::default();
        let reader = cache.reader();
        let subscription = reader.subscribe(1);
        fork(&mut cache, 1);
        drop(cache);
        assert!(subscription.try_recv().unwrap().is_some());
        assert_eq!(
            subscription.recv_timeout(Duration::from_secs(60)),
            Err(Closed)
        );
        assert_eq!(reader.subscribe(1).try_recv(), Err(Closed));
    }
}
