//! Which chunk goes when a cache is full.
//!
//! A replay reads everything once. Under plain LRU one that runs at full speed has pushed out, within milliseconds, what
//! others read again and again. So what was read once and what was read again have a half of the cache each, and a replay
//! only ever pushes out what was read once.

use std::fmt::Debug;
use std::sync::Arc;

use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use super::memory::ChunkKey;

/// `remote.cache.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The one that was not read for the longest time; those that were read once apart from those that were read again.
    #[default]
    Lru,
    /// The one that is read seldom; remembers also how often chunks were read that are long gone.
    TinyLfu,
}

/// What happens to an entry that must go.
type Evicted<V> = Arc<dyn Fn(&ChunkKey, &V) + Send + Sync>;

/// Entries of one cache, by weight and policy.
pub(super) struct Ranked<V> {
    once: Cache<ChunkKey, V>,
    /// A frequency sketch has no need of it.
    again: Option<Cache<ChunkKey, V>>,
}

impl<V: Clone + Send + Sync + 'static> Ranked<V> {
    pub(super) fn new(
        weight_max: u64,
        policy: Policy,
        weigh: impl Fn(&V) -> u32 + Clone + Send + Sync + 'static,
        evicted: impl Fn(&ChunkKey, &V) + Send + Sync + 'static,
    ) -> Self {
        let evicted: Evicted<V> = Arc::new(evicted);
        let build = |weight_max, policy| {
            let (weigh, evicted) = (weigh.clone(), Arc::clone(&evicted));
            Cache::builder()
                .max_capacity(weight_max)
                .weigher(move |_: &ChunkKey, value: &V| weigh(value))
                .eviction_policy(policy)
                .eviction_listener(move |key: Arc<ChunkKey>, value: V, cause: RemovalCause| {
                    // Who takes an entry out himself, or moves it, knows what to do with it.
                    if cause.was_evicted() {
                        evicted(&key, &value);
                    }
                })
                .build()
        };
        match policy {
            Policy::Lru => Self {
                once: build(weight_max.div_ceil(2), EvictionPolicy::lru()),
                again: Some(build(weight_max / 2, EvictionPolicy::lru())),
            },
            Policy::TinyLfu => Self { once: build(weight_max, EvictionPolicy::tiny_lfu()), again: None },
        }
    }

    /// A use of the entry, if it is here.
    pub(super) fn get(&self, key: &ChunkKey) -> Option<V> {
        self.again.as_ref().and_then(|again| again.get(key)).or_else(|| self.once.get(key))
    }

    /// Is it here? Not a use of it.
    pub(super) fn contains(&self, key: &ChunkKey) -> bool {
        self.once.contains_key(key) || self.again.as_ref().is_some_and(|again| again.contains_key(key))
    }

    /// A new entry, or a new value of one.
    pub(super) fn insert(&self, key: ChunkKey, value: V) {
        match &self.again {
            Some(again) if again.contains_key(&key) => again.insert(key, value),
            Some(_) | None => self.once.insert(key, value),
        }
        // What is over the bound goes now, not at some later call.
        self.settle();
    }

    /// The entry was read a second time.
    pub(super) fn read_again(&self, key: &ChunkKey) {
        let Some(again) = &self.again else { return };
        if let Some(value) = self.once.get(key) {
            again.insert(*key, value);
            self.once.invalidate(key);
            self.settle();
        }
    }

    /// Takes an entry out.
    pub(super) fn remove(&self, key: &ChunkKey) {
        self.once.invalidate(key);
        if let Some(again) = &self.again {
            again.invalidate(key);
        }
        self.settle();
    }

    pub(super) fn weight(&self) -> u64 {
        self.once.weighted_size() + self.again.as_ref().map_or(0, Cache::weighted_size)
    }

    fn settle(&self) {
        self.once.run_pending_tasks();
        if let Some(again) = &self.again {
            again.run_pending_tasks();
        }
    }
}

impl<V> Debug for Ranked<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ranked").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use uuid::Uuid;

    use super::*;

    fn key(number: u32) -> ChunkKey {
        ChunkKey { object: Uuid::nil(), number }
    }

    /// A replay that reads ten times as much as the cache holds leaves alone what others read again.
    #[test]
    fn a_replay_does_not_push_out_what_is_read_again() {
        let cache = Ranked::new(100, Policy::Lru, |_: &()| 1, |_, ()| {});
        for number in 0..40 {
            cache.insert(key(number), ());
        }
        for number in (0..40).cycle().take(160) {
            assert!(cache.get(&key(number)).is_some());
            cache.read_again(&key(number));
        }
        for number in 1000..2000 {
            cache.insert(key(number), ());
            cache.get(&key(number));
            assert!(cache.weight() <= 100);
        }
        assert!((0..40).all(|number| cache.contains(&key(number))));
    }

    #[test]
    fn what_is_no_longer_read_again_gives_way_to_what_is() {
        let cache = Ranked::new(100, Policy::Lru, |_: &()| 1, |_, ()| {});
        for number in 0..200 {
            cache.insert(key(number), ());
            cache.read_again(&key(number));
            assert!(cache.weight() <= 100);
        }
        assert!(cache.contains(&key(199)) && cache.contains(&key(151)) && !cache.contains(&key(149)));
    }

    #[test]
    fn who_is_evicted_is_told_and_who_moves_or_is_taken_out_is_not() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&told);
        let cache = Ranked::new(4, Policy::Lru, |_: &()| 1, move |key, ()| note.lock().unwrap().push(key.number));
        for number in 0..2 {
            cache.insert(key(number), ());
        }
        cache.read_again(&key(0));
        cache.remove(&key(1));
        assert!(told.lock().unwrap().is_empty());
        for number in 2..5 {
            cache.insert(key(number), ());
        }
        assert_eq!(*told.lock().unwrap(), [2]);
    }
}
