//! The node as a handler sees it: every part of the broker by one reference, built by `broker.rs`.

use terrace_tiering::platform::clock::SharedClock;
use terrace_tiering::platform::random::SharedRandom;

use super::init_producer_id::ProducerIds;
use crate::metadata::store::SharedMetadata;

/// Everything a handler may ask. Shared by all connections; each part guards its own state.
#[derive(Debug)]
pub struct Node {
    /// Topics, ids, configurations, producer id blocks.
    pub metadata: SharedMetadata,
    /// Wall time.
    pub clock: SharedClock,
    /// Ids and jitter.
    pub random: SharedRandom,
    /// What is left of the block of producer ids in hand.
    pub producer_ids: ProducerIds,
}
