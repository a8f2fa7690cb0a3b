//! Fetches that wait for bytes: woken once, by the move of the high watermark; nothing polls, nothing ticks.
//!
//! A waiting Fetch has one entry in the list of each partition it watches. A move of the high watermark adds the bytes
//! it uncovered to each entry's waiter, and the one that completes the sum wakes it. Entries and moves agree by the
//! running number of visible bytes ([`crate::log::view::Mark::bytes`]), so it does not matter who comes first.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Partition;
use super::read::Isolation;
use crate::protocol::record_batch::Offset;

/// One waiting Fetch, registered with each partition it watches.
#[derive(Debug)]
pub struct FetchWaiter {
    missing: AtomicI64,
    woken: AtomicBool,
    notify: Notify,
}

impl FetchWaiter {
    /// Waits for `min_bytes` over all the partitions it will watch.
    pub fn new(min_bytes: u64) -> Arc<Self> {
        let missing = i64::try_from(min_bytes).unwrap_or(i64::MAX);
        let waiter = Self { missing: AtomicI64::new(missing), woken: AtomicBool::new(false), notify: Notify::new() };
        if missing == 0 {
            waiter.wake();
        }
        Arc::new(waiter)
    }

    /// Returns true when enough bytes are there or a watched partition changed, false at the deadline.
    pub async fn wait(&self, deadline: Instant) -> bool {
        tokio::time::timeout_at(deadline, self.notify.notified()).await.is_ok()
    }

    fn add(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let before = self.missing.fetch_sub(bytes.min(i64::MAX / 4), Ordering::AcqRel);
        if before <= bytes {
            self.wake();
        }
    }

    fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            // Keeps one permit for a wait that has not begun.
            self.notify.notify_one();
        }
    }
}

struct Entry {
    id: u64,
    counted: u64,
    waiter: Arc<FetchWaiter>,
}

/// The waiting Fetches of one partition.
#[derive(Default)]
pub(super) struct WaiterList {
    entries: Mutex<Vec<Entry>>,
    /// The length of `entries`, so that an append nobody waits for takes no lock.
    waiting: AtomicUsize,
    next_id: AtomicU64,
}

impl WaiterList {
    /// Entries are pushed and removed in one step each, so a panic elsewhere leaves them whole.
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of visible bytes is `visible` now. It was published before this call.
    pub(super) fn moved(&self, visible: u64) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        for entry in self.entries().iter_mut() {
            entry.count(visible);
        }
    }

    /// The partition changed or vanished: everybody looks again.
    pub(super) fn wake_all(&self) {
        for entry in self.entries().iter() {
            entry.waiter.wake();
        }
    }

    fn remove(&self, id: u64) {
        let mut entries = self.entries();
        if let Some(at) = entries.iter().position(|entry| entry.id == id) {
            entries.swap_remove(at);
        }
        if entries.is_empty() {
            *entries = Vec::new();
        }
        self.waiting.store(entries.len(), Ordering::SeqCst);
    }
}

impl Entry {
    fn count(&mut self, visible: u64) {
        if visible > self.counted {
            self.waiter.add(visible - self.counted);
            self.counted = visible;
        }
    }
}

/// Ends the watch when dropped.
pub struct WatchGuard {
    partition: Arc<Partition>,
    isolation: Isolation,
    id: u64,
}

impl fmt::Debug for WatchGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchGuard").field("partition", &self.partition).finish()
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        self.partition.waiters_of(self.isolation).0.remove(self.id);
    }
}

impl Partition {
    /// Counts for `waiter` the bytes from `from` (the offset the Fetch asks) to where readers of this isolation end, now
    /// and as that moves; `already_bytes` of them were found by the read before.
    pub fn watch(
        self: &Arc<Self>,
        from: Offset,
        isolation: Isolation,
        already_bytes: u64,
        waiter: &Arc<FetchWaiter>,
    ) -> WatchGuard {
        let (list, visible_bytes) = self.waiters_of(isolation);
        let id = list.next_id.fetch_add(1, Ordering::Relaxed);
        let (available, counted) = self.available(from, isolation);
        let now = available.map_or(0, |bytes| bytes.max(already_bytes));
        if now > 0 {
            waiter.add(now);
        }
        let mut entries = list.entries();
        entries.push(Entry { id, counted, waiter: Arc::clone(waiter) });
        list.waiting.store(entries.len(), Ordering::SeqCst);
        // A move since the look above either sees the entry, or is seen here.
        let visible = visible_bytes.load(Ordering::SeqCst);
        if let Some(entry) = entries.last_mut() {
            entry.count(visible);
        }
        drop(entries);
        if available.is_none() {
            waiter.wake();
        }
        WatchGuard { partition: Arc::clone(self), isolation, id }
    }

    /// Who waits for records of this isolation, and the running number of bytes that they see.
    fn waiters_of(&self, isolation: Isolation) -> (&WaiterList, &AtomicU64) {
        match isolation {
            Isolation::ReadUncommitted => (&self.waiters, &self.visible_bytes),
            Isolation::ReadCommitted => (&self.stable_waiters, &self.stable_bytes),
        }
    }

    /// Bytes between `from` and where readers of this isolation end, and the running number of visible bytes at that
    /// moment. `None` when waiting would not help: the partition is gone, or the records are in the bucket.
    fn available(&self, from: Offset, isolation: Isolation) -> (Option<u64>, u64) {
        let (view, mark, local_start) = match self.lock().online() {
            Ok(online) => (Arc::clone(online.log.view()), online.end_for(isolation), online.local_start()),
            Err(_) => return (None, u64::MAX),
        };
        if from >= mark.offset {
            return (Some(0), mark.bytes);
        }
        let bytes = if from < local_start { None } else { view.bytes_between(from, &mark).ok() };
        (bytes, mark.bytes)
    }
}
