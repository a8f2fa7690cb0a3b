//! The first tier: chunks in memory, bounded in bytes.

use bytes::Bytes;
use moka::sync::Cache;
use uuid::Uuid;

use super::policy::Policy;

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

/// Chunks in memory. Whoever holds one keeps its bytes, evicted or not.
#[derive(Debug)]
pub struct MemoryCache {
    chunks: Cache<ChunkKey, Bytes>,
    entry_max: u64,
}

impl MemoryCache {
    /// An empty cache of at most `bytes`.
    pub fn new(bytes: u64, policy: Policy) -> Self {
        let weigh =
            |_: &ChunkKey, chunk: &Bytes| u32::try_from(chunk.len() as u64 + ENTRY_OVERHEAD).unwrap_or(u32::MAX);
        let chunks = Cache::builder().max_capacity(bytes).weigher(weigh).eviction_policy(policy.into()).build();
        Self { chunks, entry_max: bytes / ENTRY_SHARE_MAX }
    }

    /// The chunk, if it is here; counts as a use of it.
    pub fn get(&self, key: &ChunkKey) -> Option<Bytes> {
        self.chunks.get(key)
    }

    /// Is the chunk here? Not a use of it.
    pub fn contains(&self, key: &ChunkKey) -> bool {
        self.chunks.contains_key(key)
    }

    /// Is a chunk of this size small enough to be kept?
    pub fn keeps(&self, len: u64) -> bool {
        len <= self.entry_max
    }

    /// Keeps a chunk, unless it is too large for that.
    pub fn insert(&self, key: ChunkKey, chunk: Bytes) {
        if self.keeps(chunk.len() as u64) {
            self.chunks.insert(key, chunk);
            // What is over the bound goes now, not at some later call.
            self.chunks.run_pending_tasks();
            metrics::gauge!("terrace_remote_cache_bytes", "tier" => "memory").set(self.bytes() as f64);
        }
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.chunks.weighted_size()
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
            cache.insert(key(number), vec![0; 1 << 20].into());
            assert!(cache.bytes() <= 64 << 20);
        }
        assert!(cache.get(&key(199)).is_some());
        assert!(cache.get(&key(0)).is_none());
    }

    #[test]
    fn a_chunk_that_is_too_large_is_not_kept() {
        let cache = MemoryCache::new(16 << 20, Policy::Lru);
        cache.insert(key(0), vec![0; (1 << 20) + 1].into());
        assert!(!cache.contains(&key(0)));
        cache.insert(key(0), vec![0; 1 << 20].into());
        assert!(cache.contains(&key(0)));
    }
}
