//! The first tier: chunks in memory, bounded in bytes.

use bytes::Bytes;
use uuid::Uuid;

use super::policy::{Policy, Ranked};

/// A chunk larger than this share of a tier is served and not kept: it would push out too much.
pub const ENTRY_SHARE_MAX: u64 = 16;
/// What an entry costs beside its bytes, roughly.
const ENTRY_OVERHEAD: u64 = 128;

/// One chunk of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkKey {
    /// The object's uuid.
    pub object: Uuid,
    /// The chunk's number in it.
    pub number: u32,
}

/// Tells readers apart.
pub type ReaderId = u64;
/// None of them.
pub const NOBODY: ReaderId = 0;

#[derive(Debug, Clone)]
struct Held {
    bytes: Bytes,
    /// Who read it first. He comes back for the rest of it when his requests are smaller than a chunk, which doesn't make
    /// it worth more.
    reader: ReaderId,
}

/// Chunks in memory. Whoever holds one keeps its bytes, evicted or not.
#[derive(Debug)]
pub struct MemoryCache {
    chunks: Ranked<Held>,
    entry_max: u64,
}

impl MemoryCache {
    /// An empty cache of at most `bytes`.
    pub fn new(bytes: u64, policy: Policy) -> Self {
        let weigh = |held: &Held| u32::try_from(held.bytes.len() as u64 + ENTRY_OVERHEAD).unwrap_or(u32::MAX);
        Self { chunks: Ranked::new(bytes, policy, weigh, |_, _| {}), entry_max: bytes / ENTRY_SHARE_MAX }
    }

    /// The chunk, if it is here; counts as a use of it by `reader`.
    pub fn get(&self, key: &ChunkKey, reader: ReaderId) -> Option<Bytes> {
        let held = self.chunks.get(key)?;
        if held.reader != reader {
            self.chunks.read_again(key);
        }
        Some(held.bytes)
    }

    /// Is the chunk here? Not a use of it.
    pub fn contains(&self, key: &ChunkKey) -> bool {
        self.chunks.contains(key)
    }

    /// Is a chunk of this size small enough to be kept?
    pub fn keeps(&self, len: u64) -> bool {
        len <= self.entry_max
    }

    /// Keeps a chunk that `reader` reads, unless it is too large for that.
    pub fn insert(&self, key: ChunkKey, bytes: Bytes, reader: ReaderId) {
        if self.keeps(bytes.len() as u64) {
            self.chunks.insert(key, Held { bytes, reader });
            metrics::gauge!("terrace_remote_cache_bytes", "tier" => "memory").set(self.bytes() as f64);
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.chunks.weight()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> ChunkKey {
        ChunkKey { object: Uuid::nil(), number }
    }

    #[test]
    fn bytes_stay_within_the_bound_and_the_oldest_go() {
        let cache = MemoryCache::new(64 << 20, Policy::Lru);
        for number in 0..200 {
            cache.insert(key(number), vec![0; 1 << 20].into(), 1);
            assert!(cache.bytes() <= 64 << 20);
        }
        assert!(cache.get(&key(199), 1).is_some());
        assert!(cache.get(&key(0), 1).is_none());
    }

    #[test]
    fn a_chunk_that_is_too_large_is_not_kept() {
        let cache = MemoryCache::new(16 << 20, Policy::Lru);
        cache.insert(key(0), vec![0; (1 << 20) + 1].into(), 1);
        assert!(!cache.contains(&key(0)));
        cache.insert(key(0), vec![0; 1 << 20].into(), 1);
        assert!(cache.contains(&key(0)));
    }

    /// The bytes that one reader replays, in as many pieces as it likes, against chunks that two others have read.
    #[test]
    fn a_replay_leaves_alone_what_two_others_have_read() {
        let cache = MemoryCache::new(32 << 20, Policy::Lru);
        for number in 0..12 {
            cache.insert(key(number), vec![0; 1 << 20].into(), 1);
            assert!(cache.get(&key(number), 2).is_some());
        }
        for number in 100..400 {
            cache.insert(key(number), vec![0; 1 << 20].into(), 3);
            for _ in 0..8 {
                assert!(cache.get(&key(number), 3).is_some());
            }
        }
        assert_eq!((0..12).filter(|number| cache.contains(&key(*number))).count(), 12);
        assert!(!cache.contains(&key(100)), "the replay pushes out its own");
    }
}
