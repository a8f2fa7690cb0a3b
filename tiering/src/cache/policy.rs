//! Which chunk goes when a cache is full.

use moka::policy::EvictionPolicy;

/// `remote.cache.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The one that was not read for the longest time.
    #[default]
    Lru,
    /// The one that is read seldom; keeps what is hot when somebody scans.
    TinyLfu,
}

impl From<Policy> for EvictionPolicy {
    fn from(policy: Policy) -> Self {
        match policy {
            Policy::Lru => Self::lru(),
            Policy::TinyLfu => Self::tiny_lfu(),
        }
    }
}
