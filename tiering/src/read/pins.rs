//! Chunks that came after the request that wanted them had left. They stay until they are read once, so that a reader whose
//! requests are shorter than a download still gets on, also where caches are too small to help him.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::cache::memory::ChunkKey;

/// How long a chunk waits to be read.
const PIN_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Pins {
    bytes_max: u64,
    pinned: Mutex<HashMap<ChunkKey, (Bytes, Instant)>>,
}

impl Pins {
    /// No chunk yet; at most `bytes_max` of them, but one in any case.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self { bytes_max, pinned: Mutex::default() }
    }

    /// Keeps a chunk for its next reader. The oldest give way.
    pub(super) fn insert(&self, key: ChunkKey, chunk: Bytes) {
        let mut pinned = self.lock();
        let now = Instant::now();
        pinned.retain(|_, (_, since)| now.duration_since(*since) < PIN_MAX);
        pinned.insert(key, (chunk, now));
        while pinned.len() > 1 && pinned.values().map(|(chunk, _)| chunk.len() as u64).sum::<u64>() > self.bytes_max {
            let oldest = pinned.iter().min_by_key(|(_, (_, since))| *since).map(|(key, _)| *key);
            oldest.and_then(|key| pinned.remove(&key));
        }
    }

    /// Hands a chunk to its reader.
    pub(super) fn take(&self, key: &ChunkKey) -> Option<Bytes> {
        self.lock().remove(key).map(|(chunk, _)| chunk)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChunkKey, (Bytes, Instant)>> {
        // Each step leaves the map whole.
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn key(number: u32) -> ChunkKey {
        ChunkKey { object: Uuid::nil(), number }
    }

    #[tokio::test(start_paused = true)]
    async fn pins_are_bounded_in_bytes_and_time_and_read_once() {
        let pins = Pins::new(250);
        for number in 0..3 {
            pins.insert(key(number), vec![0; 100].into());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(pins.take(&key(0)), None, "the oldest gave way");
        assert!(pins.take(&key(1)).is_some());
        assert_eq!(pins.take(&key(1)), None);
        tokio::time::advance(PIN_MAX).await;
        pins.insert(key(9), vec![0; 1000].into());
        assert_eq!(pins.take(&key(2)), None, "too old");
        assert!(pins.take(&key(9)).is_some(), "one is kept, whatever its size");
    }
}
