//! Chunks that came and that their reader has not finished with: read ahead of him, or half read, or arrived after his
//! request had left. They stay whatever the caches do, so a fast replay takes nothing away from a slow one.
//!
//! Each holds its [`Share`] of the node's memory for reading. It goes back when the reader moves on, or when he stays away:
//! after [`IDLE_MAX`]. When others wait for memory, a chunk that its reader has seen goes at once, for he may be done with
//! it, and one that he has not after [`IDLE_UNDER_PRESSURE`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::streams::Share;
use crate::cache::memory::{ChunkKey, ReaderId};

/// How long a chunk waits for its reader.
pub const IDLE_MAX: Duration = Duration::from_secs(30);
/// How long it waits when the memory is wanted by others.
pub const IDLE_UNDER_PRESSURE: Duration = Duration::from_secs(1);

/// A chunk whose reader is done with it, or is not coming.
#[derive(Debug)]
pub(super) struct Released {
    pub(super) key: ChunkKey,
    pub(super) bytes: Bytes,
    /// For whom it was fetched.
    pub(super) reader: ReaderId,
    /// Somebody else has read it too.
    pub(super) by_others: bool,
}

#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    share: Share,
    since: Instant,
    /// Its reader was handed it.
    seen: bool,
    by_others: bool,
}

#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<HashMap<ChunkKey, Chunk>>);

impl Kept {
    /// Keeps a chunk for the stream that has the share.
    pub(super) fn insert(&self, key: ChunkKey, bytes: Bytes, share: Share) {
        self.lock().insert(key, Chunk { bytes, share, since: Instant::now(), seen: false, by_others: false });
    }

    /// The chunk, if it is here.
    pub(super) fn get(&self, key: &ChunkKey, reader: ReaderId) -> Option<Bytes> {
        let mut chunks = self.lock();
        let chunk = chunks.get_mut(key)?;
        if chunk.share.reader() == reader {
            (chunk.since, chunk.seen) = (Instant::now(), true);
        } else {
            chunk.by_others = true;
        }
        Some(chunk.bytes.clone())
    }

    pub(super) fn contains(&self, key: &ChunkKey) -> bool {
        self.lock().contains_key(key)
    }

    /// `reader` has moved on from a chunk. One that is kept for somebody else stays.
    pub(super) fn release(&self, key: &ChunkKey, reader: ReaderId) -> Option<Released> {
        let mut chunks = self.lock();
        if chunks.get(key)?.share.reader() != reader {
            return None;
        }
        chunks.remove(key).map(|chunk| released(*key, chunk))
    }

    /// Takes out the chunks whose readers did not come for so long: neither for the chunk, nor for any other.
    pub(super) fn give_up(&self, idle: Duration) -> Vec<Released> {
        let now = Instant::now();
        let gone = |chunk: &Chunk| {
            let seen = chunk.since.max(chunk.share.last_read());
            now.saturating_duration_since(seen) >= idle
        };
        self.lock().extract_if(|_, chunk| gone(chunk)).map(|(key, chunk)| released(key, chunk)).collect()
    }

    /// Takes out chunks that their readers have seen, the oldest first, until they make up `bytes`.
    pub(super) fn give_up_seen(&self, bytes: u64) -> Vec<Released> {
        let mut chunks = self.lock();
        let mut seen: Vec<_> =
            chunks.iter().filter(|(_, chunk)| chunk.seen).map(|(key, chunk)| (chunk.since, *key)).collect();
        seen.sort_unstable_by_key(|(since, _)| *since);
        let (mut sum, mut gone) = (0, Vec::new());
        for (_, key) in seen {
            if sum >= bytes {
                break;
            }
            if let Some(chunk) = chunks.remove(&key) {
                sum += chunk.bytes.len() as u64;
                gone.push(released(key, chunk));
            }
        }
        gone
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChunkKey, Chunk>> {
        // Each step leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn released(key: ChunkKey, chunk: Chunk) -> Released {
    Released { key, bytes: chunk.bytes, reader: chunk.share.reader(), by_others: chunk.by_others }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::super::streams::{Memory, Streams};
    use super::*;

    fn key(number: u32) -> ChunkKey {
        ChunkKey { object: Uuid::nil(), number }
    }

    #[tokio::test(start_paused = true)]
    async fn chunks_stay_until_their_reader_moves_on_or_stays_away() {
        let (kept, streams, memory) = (Kept::default(), Streams::new(), Memory::new(1 << 20, 1 << 20));
        let (quick, _) = streams.at(&key(0));
        let (slow, _) = streams.at(&key(100));
        let keep = |number, stream: &Arc<_>| {
            let permit = memory.try_take(1).expect("memory is free");
            kept.insert(key(number), vec![0; 1000].into(), Share::new(Arc::clone(stream), 1000, permit));
        };
        keep(0, &quick);
        keep(1, &quick);
        keep(100, &slow);
        assert!(kept.release(&key(100), quick.id()).is_none(), "it is somebody else's");
        assert!(!kept.release(&key(0), quick.id()).expect("his own").by_others);
        assert_eq!(quick.ahead(), 1000);
        tokio::time::advance(IDLE_UNDER_PRESSURE).await;
        quick.read_now();
        let gone = kept.give_up(IDLE_UNDER_PRESSURE);
        assert_eq!(gone.iter().map(|chunk| chunk.key).collect::<Vec<_>>(), [key(100)], "the other one reads on");
        drop(gone);
        assert_eq!((slow.ahead(), memory.held()), (0, 1024));
        assert!(kept.get(&key(1), slow.id()).is_some());
        assert!(kept.release(&key(1), quick.id()).expect("his own").by_others);
        assert_eq!(memory.held(), 0);
    }
}
