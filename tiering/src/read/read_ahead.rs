//! Who reads on, and how far ahead of him to read.
//!
//! Readers are not told apart by name. Where a read ended is remembered; a read that begins there belongs to the same
//! stream, and its windows grow. Somebody who reads here and there never leaves the first window.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cache::memory::ChunkKey;

/// Bytes of a stream's first window.
pub const WINDOW_MIN: u64 = 1 << 20;
/// Bytes of a window at most.
pub const WINDOW_MAX: u64 = 16 << 20;
/// GETs on their way at once for one stream.
pub const GETS_PER_STREAM_MAX: usize = 4;
/// Places remembered; two for each stream.
const PLACES_MAX: u64 = 4096;

/// One sequential reader, or several that happen to be at the same place.
#[derive(Debug)]
pub(super) struct Stream {
    window: AtomicU64,
    gets: Arc<Semaphore>,
}

impl Stream {
    /// The size of the next window; the one behind it is twice as large.
    pub(super) fn next_window(&self) -> u64 {
        let grow = |window: u64| Some((window * 2).min(WINDOW_MAX));
        self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).unwrap_or(WINDOW_MIN)
    }

    /// The right to one more GET, if the stream has one left.
    pub(super) fn one_more_get(&self) -> Option<OwnedSemaphorePermit> {
        self.gets.clone().try_acquire_owned().ok()
    }
}

#[derive(Debug)]
pub(super) struct Streams {
    places: Cache<ChunkKey, Arc<Stream>>,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self { places: Cache::new(PLACES_MAX) }
    }

    /// The stream that goes on at `place`, and whether there was one.
    pub(super) fn at(&self, place: &ChunkKey) -> (Arc<Stream>, bool) {
        match self.places.get(place) {
            Some(stream) => (stream, true),
            None => {
                let gets = Arc::new(Semaphore::new(GETS_PER_STREAM_MAX));
                (Arc::new(Stream { window: AtomicU64::new(WINDOW_MIN), gets }), false)
            }
        }
    }

    /// The stream read up to somewhere in `last`; it goes on there or at `next`.
    pub(super) fn ended(&self, stream: &Arc<Stream>, began: ChunkKey, last: ChunkKey, next: Option<ChunkKey>) {
        if began != last {
            self.places.invalidate(&began);
        }
        for place in [Some(last), next].into_iter().flatten() {
            self.places.insert(place, stream.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn windows_grow_for_who_reads_on_and_only_for_him() {
        let streams = Streams::new();
        let place = |number| ChunkKey { object: Uuid::nil(), number };
        let mut windows = Vec::new();
        for number in 0..6 {
            let (stream, sequential) = streams.at(&place(number));
            assert_eq!(sequential, number > 0);
            windows.push(stream.next_window() >> 20);
            streams.ended(&stream, place(number), place(number), Some(place(number + 1)));
        }
        assert_eq!(windows, [1, 2, 4, 8, 16, 16]);
        assert!(!streams.at(&place(50)).1);
    }
}
