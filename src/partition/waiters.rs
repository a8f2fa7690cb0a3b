//! Readers that are told when a partition moves: nothing polls, nothing ticks.
//!
//! A [`Watcher`] is one reader of many partitions: a fetch session for as long as it lives, or a Fetch without one while
//! it waits. It has one entry in the list of each partition it watches. A move of the high watermark (or of the last
//! stable offset, or of the log start) marks the entry's slot in the watcher, once until the reader takes the marks; so
//! a reader of a thousand partitions looks at those that moved. While the reader waits, moves also count the bytes they
//! uncovered, and the one that completes the sum wakes it.
//!
//! ```text
//!   mover:  publish offsets under the partition's lock -> mark the slot -> count the bytes -> wake
//!   reader: take the marks -> read those partitions under their locks -> arm -> marks again? -> sleep
//! ```
//! A mover that found its mark still there did so before the marks were taken, and so before the partition is read; one
//! that marks later is seen by the second look at the marks, or counts towards the armed sum. Bytes that are counted and
//! read only wake early.

use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures::task::AtomicWaker;
use tokio::time::Instant;

use super::Partition;
use super::read::Isolation;

/// Nobody waits; far from what moves can count down.
const NOT_WAITING: i64 = i64::MAX;
/// Places that a list keeps when its last watcher leaves, so that a lone reader's next wait allocates nothing.
const PLACES_KEPT: usize = 4;

/// The running numbers of visible bytes of a partition ([`crate::log::view::Mark::bytes`]); differences count bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Visible {
    /// Below the high watermark.
    pub high: u64,
    /// Below the last stable offset.
    pub stable: u64,
}

#[derive(Debug, Default)]
struct Moved {
    slots: Vec<u32>,
    /// How often the marks were taken, plus one.
    round: u64,
}

/// One reader, registered with each partition it watches.
#[derive(Debug)]
pub struct Watcher {
    moved: Mutex<Moved>,
    /// [`Moved::round`] for those who only ask whether their mark is still there.
    round: AtomicU64,
    /// Bytes until the reader is woken; 0 and below: it is.
    missing: AtomicI64,
    /// The reader counts what is below the last stable offset.
    committed: AtomicBool,
    waker: AtomicWaker,
}

impl Watcher {
    /// A reader that watches nothing yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            moved: Mutex::new(Moved { slots: Vec::new(), round: 1 }),
            round: AtomicU64::new(1),
            missing: AtomicI64::new(NOT_WAITING),
            committed: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        })
    }

    /// Pushes and takes are one step each, so a panic elsewhere leaves the list whole.
    fn moved(&self) -> MutexGuard<'_, Moved> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the slots that were marked; each must be read after this.
    pub fn take_moved(&self, each: impl FnMut(u32)) {
        let mut moved = self.moved();
        if moved.slots.is_empty() {
            return;
        }
        moved.round += 1;
        self.round.store(moved.round, Ordering::SeqCst);
        moved.slots.drain(..).for_each(each);
    }

    /// Are there marks?
    pub fn has_moved(&self) -> bool {
        !self.moved().slots.is_empty()
    }

    /// Counts moves from now on, to be woken after `bytes`. What was marked before this is not counted: look again.
    pub fn arm(&self, bytes: u64, isolation: Isolation) {
        self.committed.store(isolation == Isolation::ReadCommitted, Ordering::SeqCst);
        self.missing.store(i64::try_from(bytes).unwrap_or(i64::MAX).clamp(1, NOT_WAITING - 1), Ordering::SeqCst);
    }

    /// The wait is over.
    pub fn disarm(&self) {
        self.missing.store(NOT_WAITING, Ordering::SeqCst);
        self.waker.take();
    }

    /// Returns true when enough bytes are there or a watched partition changed, false at the deadline. One wait at a time.
    pub async fn wait(&self, deadline: Instant) -> bool {
        let woken = poll_fn(|context| {
            self.waker.register(context.waker());
            if self.missing.load(Ordering::SeqCst) <= 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::time::timeout_at(deadline, woken).await.is_ok()
    }

    /// Marks `slot`, unless the mark of `round` is still there.
    fn mark(&self, slot: u32, round: &mut u64) {
        if *round != self.round.load(Ordering::SeqCst) {
            let mut moved = self.moved();
            moved.slots.push(slot);
            *round = moved.round;
        }
    }

    fn count(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let before = self.missing.load(Ordering::SeqCst);
        // Nobody waits; who begins to looks at the marks.
        if before == NOT_WAITING {
            return;
        }
        let before = self.missing.fetch_sub(bytes, Ordering::SeqCst);
        if before > 0 && before <= bytes {
            self.waker.wake();
        }
    }

    fn wake(&self) {
        if self.missing.load(Ordering::SeqCst) != NOT_WAITING {
            self.missing.store(0, Ordering::SeqCst);
            self.waker.wake();
        }
    }
}

struct Entry {
    watcher: Arc<Watcher>,
    slot: u32,
    /// The watcher's round of the last mark.
    round: u64,
    counted: Visible,
}

impl Entry {
    fn look(&mut self, now: Visible) {
        if now != self.counted {
            self.moved(now);
        }
    }

    fn moved(&mut self, now: Visible) {
        self.watcher.mark(self.slot, &mut self.round);
        let before = std::mem::replace(&mut self.counted, now);
        let bytes = if self.watcher.committed.load(Ordering::SeqCst) {
            now.stable.saturating_sub(before.stable)
        } else {
            now.high.saturating_sub(before.high)
        };
        if bytes > 0 {
            self.watcher.count(bytes);
        }
    }
}

/// Entries by place; places are used again.
#[derive(Default)]
struct Places {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
}

/// The readers that watch one partition.
#[derive(Default)]
pub(super) struct WaiterList {
    places: Mutex<Places>,
    /// Number of entries, so that a move nobody watches takes no lock.
    watching: AtomicUsize,
    high: AtomicU64,
    stable: AtomicU64,
}

impl WaiterList {
    /// Entries come and go in one step each, so a panic elsewhere leaves them whole.
    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn visible(&self) -> Visible {
        Visible { high: self.high.load(Ordering::SeqCst), stable: self.stable.load(Ordering::SeqCst) }
    }

    /// Says how much is visible. Under the partition's lock; [`WaiterList::moved`] follows without it.
    pub(super) fn publish(&self, visible: Visible) {
        self.high.store(visible.high, Ordering::SeqCst);
        self.stable.store(visible.stable, Ordering::SeqCst);
    }

    /// Something that readers are told has moved: what was published, or the log start.
    pub(super) fn moved(&self) {
        if self.watching.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut places = self.places();
        let visible = self.visible();
        places.entries.iter_mut().flatten().for_each(|entry| entry.moved(visible));
    }

    /// The partition changed or vanished: everybody looks again, now.
    pub(super) fn wake_all(&self) {
        let mut places = self.places();
        let visible = self.visible();
        for entry in places.entries.iter_mut().flatten() {
            entry.moved(visible);
            entry.watcher.wake();
        }
    }

    fn add(&self, watcher: &Arc<Watcher>, slot: u32, since: Option<Visible>) -> u32 {
        let mut places = self.places();
        let Places { entries, free } = &mut *places;
        let place = free.pop().unwrap_or_else(|| {
            entries.push(None);
            (entries.len() - 1) as u32
        });
        self.watching.store(entries.len() - free.len(), Ordering::SeqCst);
        // A move either sees the entry, or is seen here.
        let now = self.visible();
        let mut entry = Entry { watcher: Arc::clone(watcher), slot, round: 0, counted: since.unwrap_or(now) };
        entry.look(now);
        entries[place as usize] = Some(entry);
        place
    }

    fn remove(&self, place: u32) {
        let mut places = self.places();
        let Places { entries, free } = &mut *places;
        entries[place as usize] = None;
        free.push(place);
        let left = entries.len() - free.len();
        if left == 0 {
            entries.clear();
            free.clear();
            entries.shrink_to(PLACES_KEPT);
            free.shrink_to(PLACES_KEPT);
        }
        self.watching.store(left, Ordering::SeqCst);
    }
}

/// A partition that is watched; dropping it ends that.
pub struct Watch {
    partition: Arc<Partition>,
    place: u32,
}

impl Watch {
    /// The partition.
    pub fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("partition", &self.partition).finish()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.partition.waiters.remove(self.place);
    }
}

impl Partition {
    /// Marks `slot` of `watcher` with every move from now on; with `since`, what a read saw, also if it moved since.
    pub fn watch(self: &Arc<Self>, watcher: &Arc<Watcher>, slot: u32, since: Option<Visible>) -> Watch {
        let place = self.waiters.add(watcher, slot, since);
        Watch { partition: Arc::clone(self), place }
    }
}
