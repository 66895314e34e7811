//! The changes of the last moments, for any number of subscribers.
//!
//! All of them read one [`Log`], each at its own pace: memory is bounded in bytes however many there
//! are and however slow, and the writer waits for none. Who falls behind the log's end is told how many
//! changes it missed. (Broadcast channels bound the number of messages only, and one with 128 KiB of
//! arguments is a thousand times one without.)

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pidlist_process_cache::{Change, Process};
use tokio::sync::watch;

/// Most changes kept.
const MAX_CHANGES: usize = 1 << 16;
/// Most bytes kept, by an estimate that counts shared arguments once for each change.
const MAX_BYTES: usize = 16 << 20;
/// Most changes handed to a subscriber at once.
const MAX_BATCH: usize = 64;
/// And about how many bytes of them: a slow subscriber holds them when the log has long let them go.
const MAX_BATCH_BYTES: usize = 64 << 10;

/// A change, and the process right after it.
#[derive(Clone, Debug)]
pub struct Item {
    /// What happened.
    pub change: Change,
    /// To whom.
    pub process: Arc<Process>,
}

impl Item {
    fn bytes(&self) -> usize {
        size_of::<Self>() + process_bytes(&self.process)
    }
}

/// The memory of a process, with all of what it may share.
#[must_use]
pub fn process_bytes(process: &Process) -> usize {
    size_of::<Process>() + process.heap_bytes(true)
}

/// Where the changes are. One writer, any number of [tails](Tail).
#[derive(Debug)]
pub struct Log {
    kept: Mutex<Kept>,
    tails: AtomicUsize,
    /// How many changes there ever were.
    written: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    items: VecDeque<Item>,
    /// The number of the first of them.
    first: u64,
    bytes: usize,
    /// Changes that some subscriber missed.
    lost: u64,
}

impl Kept {
    fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    fn drop_first(&mut self) {
        if let Some(item) = self.items.pop_front() {
            self.first += 1;
            self.bytes -= item.bytes();
        }
    }
}

impl Log {
    /// An empty one.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            kept: Mutex::default(),
            tails: AtomicUsize::new(0),
            written: watch::Sender::new(0),
        })
    }

    /// Whether anybody reads.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.tails.load(Ordering::SeqCst) > 0
    }

    /// How many read, and how many changes they missed since the start.
    #[must_use]
    pub fn readers(&self) -> (usize, u64) {
        (self.tails.load(Ordering::SeqCst), self.lock().lost)
    }

    /// Adds changes at the end. Never waits for a reader.
    pub fn write(&self, items: impl IntoIterator<Item = Item>) {
        let mut kept = self.lock();
        if !self.is_read() {
            return;
        }
        for item in items {
            kept.bytes += item.bytes();
            kept.items.push_back(item);
            while kept.items.len() > MAX_CHANGES || (kept.bytes > MAX_BYTES && kept.items.len() > 1)
            {
                kept.drop_first();
            }
        }
        self.written.send_replace(kept.end());
    }

    /// Reads what is written from now on.
    #[must_use]
    pub fn tail(self: &Arc<Self>) -> Tail {
        // Under the lock, as is all that looks at it for long: nothing is kept for nobody.
        let kept = self.lock();
        self.tails.fetch_add(1, Ordering::SeqCst);
        Tail {
            next: kept.end(),
            written: self.written.subscribe(),
            log: self.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Every change to what is kept is whole, even if a panic followed.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader of a [`Log`].
#[derive(Debug)]
pub struct Tail {
    log: Arc<Log>,
    /// The number of the next change to read.
    next: u64,
    written: watch::Receiver<u64>,
}

impl Tail {
    /// The next changes, at least one, and how many were missed before them. Dropping the future loses
    /// nothing.
    pub async fn read(&mut self) -> (u64, Vec<Item>) {
        loop {
            self.written.borrow_and_update();
            let (lost, items) = self.take();
            if !items.is_empty() {
                return (lost, items);
            }
            if self.written.changed().await.is_err() {
                // The sender is in the log, and this holds the log.
                std::future::pending::<()>().await;
            }
        }
    }

    fn take(&mut self) -> (u64, Vec<Item>) {
        let mut kept = self.log.lock();
        let lost = kept.first.saturating_sub(self.next);
        kept.lost += lost;
        self.next += lost;
        let from = usize::try_from(self.next - kept.first).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let items: Vec<Item> = kept
            .items
            .iter()
            .skip(from)
            .take(MAX_BATCH)
            .take_while(|item| {
                let is_first = bytes == 0;
                bytes += item.bytes();
                is_first || bytes <= MAX_BATCH_BYTES
            })
            .cloned()
            .collect();
        self.next += items.len() as u64;
        (lost, items)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let mut kept = self.log.lock();
        if self.log.tails.fetch_sub(1, Ordering::SeqCst) == 1 {
            while !kept.items.is_empty() {
                kept.drop_first();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pidlist_process_cache::{Cache, Image, ImageSource, Key, Precision, Sighting, What};

    use super::*;

    fn item(number: u64, args: usize) -> Item {
        let key = Key {
            start_ns: number,
            tgid: 7,
        };
        let mut cache = Cache::default();
        let image = Image::new(ImageSource::Exec, None, vec![0; args].into());
        cache.on_exec(number, &Sighting::new(key, Precision::Nanosecond), image);
        Item {
            change: Change {
                time_ns: number,
                what: What::Executed,
                key,
            },
            process: Arc::new(cache.get(key).unwrap().clone()),
        }
    }

    async fn numbers(tail: &mut Tail) -> (u64, Vec<u64>) {
        let (lost, items) = tail.read().await;
        (lost, items.iter().map(|item| item.change.time_ns).collect())
    }

    #[tokio::test]
    async fn each_reads_at_its_own_pace() {
        let log = Log::new();
        log.write([item(1, 0)]);
        let mut one = log.tail();
        log.write([item(2, 0)]);
        let mut other = log.tail();
        log.write([item(3, 0)]);
        assert_eq!(numbers(&mut one).await, (0, vec![2, 3]));
        assert_eq!(numbers(&mut other).await, (0, vec![3]));
        let waiting = tokio::spawn(async move { numbers(&mut one).await });
        tokio::task::yield_now().await;
        log.write([item(4, 0)]);
        assert_eq!(waiting.await.unwrap(), (0, vec![4]));
    }

    #[tokio::test]
    async fn who_is_slow_is_told_what_was_missed() {
        let log = Log::new();
        let mut tail = log.tail();
        let count = MAX_CHANGES as u64 + 10;
        log.write((0..count).map(|number| item(number, 0)));
        let (lost, first) = numbers(&mut tail).await;
        let mut read = first;
        assert!(lost >= 10);
        assert_eq!(read[0], lost, "what is read goes on where the loss ends");
        while read.last() != Some(&(count - 1)) {
            let (lost, more) = numbers(&mut tail).await;
            assert_eq!(lost, 0);
            read.extend(more);
        }
        assert_eq!(read.len() as u64 + lost, count);
        assert_eq!(log.readers(), (1, lost));
    }

    #[tokio::test]
    async fn memory_is_bounded_in_bytes_and_given_back() {
        let log = Log::new();
        let mut tail = log.tail();
        let kept = || {
            let kept = log.lock();
            (kept.bytes, kept.items.len())
        };
        log.write(std::iter::repeat_n(item(0, 128 << 10), 1000));
        let (bytes, items) = kept();
        assert!(
            bytes <= MAX_BYTES && items > 100,
            "{bytes} bytes of {items}"
        );
        let (_, large) = tail.take();
        assert_eq!(large.len(), 1, "more would be held by whoever sends it");
        log.write(std::iter::repeat_n(item(0, 20 << 10), 1000));
        let last = std::iter::repeat_with(|| tail.take().1)
            .take_while(|items| !items.is_empty())
            .last();
        assert!((2..=3).contains(&last.unwrap().len()));
        drop(tail);
        assert_eq!(kept(), (0, 0));
    }
}
