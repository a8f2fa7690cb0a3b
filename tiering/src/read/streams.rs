//! Who reads on, how far ahead of him to read, and how much of the node's memory is his.
//!
//! Readers are not told apart by name. Where a read ended is remembered; a read that begins there belongs to the same
//! stream, and its windows grow. Somebody who reads here and there never leaves the first window.
//!
//! All that is on its way or waits for its reader holds permits of one semaphore (`remote.read.ahead.max.bytes`). Whoever
//! needs a chunk now waits for them in line. Reading ahead leaves half of it to those, and takes of the other half what is
//! free, at most a stream's fair share: that half divided by those who read.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::cache::memory::{ChunkKey, ReaderId};
use crate::tier::kib;

/// Bytes of a stream's first window.
pub const WINDOW_MIN: u64 = 1 << 20;
/// Bytes of a window at most.
pub const WINDOW_MAX: u64 = 16 << 20;
/// GETs on their way at once for one stream.
pub const GETS_PER_STREAM_MAX: usize = 4;
/// Places remembered; a few for each stream.
const PLACES_MAX: u64 = 8192;
/// Who did not read for so long has no share.
const ACTIVE: Duration = Duration::from_secs(2);

/// One sequential reader, or several that happen to be at the same place.
#[derive(Debug)]
pub(super) struct Stream {
    id: ReaderId,
    /// It was seen to read on.
    sequential: AtomicBool,
    window: AtomicU64,
    gets: Arc<Semaphore>,
    /// Bytes on their way or kept for it.
    ahead: AtomicU64,
    /// What it was handed last; it has moved on from all of it that lies before its next read.
    handed: Mutex<Vec<ChunkKey>>,
    last_read: Mutex<Instant>,
}

impl Stream {
    pub(super) fn id(&self) -> ReaderId {
        self.id
    }

    pub(super) fn is_sequential(&self) -> bool {
        self.sequential.load(Ordering::Relaxed)
    }

    /// The size of the next window.
    pub(super) fn window(&self) -> u64 {
        self.window.load(Ordering::Relaxed)
    }

    /// A window was begun; the one behind it is twice as large.
    pub(super) fn grow(&self) {
        self.window.store((self.window() * 2).min(WINDOW_MAX), Ordering::Relaxed);
    }

    /// The right to one more GET, if the stream has one left.
    pub(super) fn one_more_get(&self) -> Option<OwnedSemaphorePermit> {
        self.gets.clone().try_acquire_owned().ok()
    }

    pub(super) fn ahead(&self) -> u64 {
        self.ahead.load(Ordering::Relaxed)
    }

    pub(super) fn read_now(&self) {
        *self.last_read.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Takes what the stream was handed and will not read again, now that it reads at `place`.
    pub(super) fn left_behind(&self, place: &ChunkKey) -> Vec<ChunkKey> {
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = |key: &ChunkKey| key.object != place.object || key.number < place.number;
        handed.extract_if(.., |key| behind(key)).collect()
    }

    fn hand(&self, chunks: impl Iterator<Item = ChunkKey>) {
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        for key in chunks {
            if !handed.contains(&key) {
                handed.push(key);
            }
        }
    }
}

/// One chunk's part of the node's memory for reading, on behalf of a stream.
#[derive(Debug)]
pub(super) struct Share {
    stream: Arc<Stream>,
    bytes: u64,
    _memory: OwnedSemaphorePermit,
}

impl Share {
    pub(super) fn new(stream: Arc<Stream>, bytes: u64, memory: OwnedSemaphorePermit) -> Self {
        stream.ahead.fetch_add(bytes, Ordering::Relaxed);
        Self { stream, bytes, _memory: memory }
    }

    pub(super) fn reader(&self) -> ReaderId {
        self.stream.id
    }

    pub(super) fn is_sequential(&self) -> bool {
        self.stream.is_sequential()
    }

    pub(super) fn last_read(&self) -> Instant {
        *self.stream.last_read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.stream.ahead.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The node's memory for what is on its way or waits for its reader.
#[derive(Debug)]
pub(super) struct Memory {
    free: Arc<Semaphore>,
    kib: u32,
    /// `remote.read.ahead.stream.bytes`: on their way or kept for one stream.
    stream_max: u64,
}

impl Memory {
    pub(super) fn new(bytes_max: u64, stream_max: u64) -> Self {
        let kib = kib(bytes_max);
        Self { free: Arc::new(Semaphore::new(kib as usize)), kib, stream_max }
    }

    /// Bytes taken.
    pub(super) fn held(&self) -> u64 {
        u64::from(self.kib).saturating_sub(self.free.available_permits() as u64) << 10
    }

    /// Permits for so many KiB, now or not at all.
    pub(super) fn try_take(&self, kib: u32) -> Option<OwnedSemaphorePermit> {
        self.free.clone().try_acquire_many_owned(kib.min(self.kib)).ok()
    }

    /// As [`Memory::try_take`] for what nobody needs yet: half of all there is stays for those who do.
    pub(super) fn try_take_ahead(&self, kib: u32) -> Option<OwnedSemaphorePermit> {
        let left = self.free.available_permits().checked_sub(kib as usize)?;
        // Two who ask at the same moment may both get some of the last; the semaphore's own bound holds in any case.
        (left >= self.kib as usize / 2).then(|| self.try_take(kib)).flatten()
    }

    /// Permits for so many KiB; whoever waits longest is next.
    pub(super) async fn take(&self, kib: u32) -> Option<OwnedSemaphorePermit> {
        self.free.clone().acquire_many_owned(kib.min(self.kib)).await.ok()
    }

    /// What a stream may hold beside `others` who read.
    fn share_max(&self, others: usize) -> u64 {
        self.stream_max.min((u64::from(self.kib) << 9) / (others as u64 + 1))
    }

    /// How large the next window of a stream is: half of what it may hold at most, so that one is on its way while the
    /// other is read.
    pub(super) fn window(&self, stream: &Stream, others: usize) -> u64 {
        stream.window().min(self.share_max(others) / 2)
    }

    /// May the stream begin a window now, for a time when it is needed? Small rests are not worth a request.
    pub(super) fn has_room(&self, stream: &Stream, others: usize) -> bool {
        stream.ahead() == 0 || stream.ahead() + self.window(stream, others) <= self.share_max(others)
    }
}

#[derive(Debug)]
pub(super) struct Streams {
    places: Cache<ChunkKey, Arc<Stream>>,
    next_id: AtomicU64,
    active: Mutex<Active>,
}

#[derive(Debug)]
struct Active {
    streams: HashMap<ReaderId, Instant>,
    next_look: Instant,
}

impl Streams {
    pub(super) fn new() -> Self {
        let active = Active { streams: HashMap::new(), next_look: Instant::now() };
        // By age alone: what was asked for often is no reason to refuse the place of a new reader.
        let places = Cache::builder().max_capacity(PLACES_MAX).eviction_policy(EvictionPolicy::lru()).build();
        Self { places, next_id: AtomicU64::new(1), active: Mutex::new(active) }
    }

    /// The stream that goes on at `place`, and whether there was one.
    pub(super) fn at(&self, place: &ChunkKey) -> (Arc<Stream>, bool) {
        if let Some(stream) = self.places.get(place) {
            stream.sequential.store(true, Ordering::Relaxed);
            stream.read_now();
            return (stream, true);
        }
        let stream = Stream {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            sequential: AtomicBool::new(false),
            window: AtomicU64::new(WINDOW_MIN),
            gets: Arc::new(Semaphore::new(GETS_PER_STREAM_MAX)),
            ahead: AtomicU64::new(0),
            handed: Mutex::default(),
            last_read: Mutex::new(Instant::now()),
        };
        (Arc::new(stream), false)
    }

    /// How many sequential streams have read lately, `stream` left out; it is one of them from now on.
    pub(super) fn others(&self, stream: &Stream) -> usize {
        let now = Instant::now();
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= active.next_look {
            active.next_look = now + ACTIVE / 8;
            active.streams.retain(|_, seen| now.saturating_duration_since(*seen) < ACTIVE);
        }
        active.streams.insert(stream.id, now);
        active.streams.len() - 1
    }

    /// The stream was handed these chunks; it goes on at one of them or at `next`.
    pub(super) fn ended(&self, stream: &Arc<Stream>, handed: &[ChunkKey], next: Option<ChunkKey>) {
        for place in handed.iter().copied().chain(next) {
            self.places.insert(place, stream.clone());
        }
        stream.hand(handed.iter().copied());
    }

    /// Nobody goes on at these places any more.
    pub(super) fn leave(&self, stream: &Stream, places: &[ChunkKey]) {
        for place in places {
            if self.places.get(place).is_some_and(|known| known.id == stream.id) {
                self.places.invalidate(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn place(number: u32) -> ChunkKey {
        ChunkKey { object: Uuid::nil(), number }
    }

    #[test]
    fn windows_grow_for_who_reads_on_and_only_for_him() {
        let streams = Streams::new();
        let mut windows = Vec::new();
        for number in 0..6 {
            let (stream, sequential) = streams.at(&place(number));
            assert_eq!(sequential, number > 0);
            windows.push(stream.window() >> 20);
            stream.grow();
            streams.ended(&stream, &[place(number)], Some(place(number + 1)));
        }
        assert_eq!(windows, [1, 2, 4, 8, 16, 16]);
        assert!(!streams.at(&place(50)).1);
    }

    #[test]
    fn a_stream_leaves_behind_what_lies_before_its_place() {
        let streams = Streams::new();
        let (stream, _) = streams.at(&place(0));
        streams.ended(&stream, &[place(0), place(1), place(2)], Some(place(3)));
        assert_eq!(stream.left_behind(&place(1)), [place(0)]);
        assert_eq!(stream.left_behind(&ChunkKey { object: Uuid::from_u128(1), number: 0 }), [place(1), place(2)]);
    }

    #[test]
    fn a_stream_gets_two_windows_alone_and_its_fair_share_beside_others() {
        let memory = Memory::new(64 << 20, 32 << 20);
        let streams = Streams::new();
        let (stream, _) = streams.at(&place(0));
        for _ in 0..10 {
            stream.grow();
        }
        let share = |bytes: u64| Share::new(Arc::clone(&stream), bytes, memory.try_take(kib(bytes)).unwrap());
        let room = |others| memory.has_room(&stream, others).then(|| memory.window(&stream, others));
        assert_eq!(room(0), Some(16 << 20));
        let first = share(16 << 20);
        assert_eq!(room(0), Some(16 << 20), "while the first one is read");
        let second = share(16 << 20);
        assert_eq!(room(0), None);
        drop(first);
        assert_eq!(room(7), None, "four MiB each, and it has more");
        drop(second);
        assert_eq!(room(7), Some(2 << 20));
        assert!(room(1000).is_some(), "a chunk in any case");
    }

    #[test]
    fn half_of_the_memory_stays_for_those_who_need_a_chunk_now() {
        let memory = Memory::new(64 << 20, 16 << 20);
        let ahead = memory.try_take_ahead(32 << 10);
        assert!(ahead.is_some() && memory.try_take_ahead(1).is_none());
        assert!(memory.try_take(32 << 10).is_some());
    }
}
