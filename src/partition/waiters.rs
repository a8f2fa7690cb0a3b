//! Fetches that wait for bytes: woken once, by the move of the high watermark; nothing polls.

use std::sync::Arc;

use tokio::time::Instant;

use super::Partition;
use crate::protocol::record_batch::Offset;

/// One waiting Fetch, registered with each partition it watches.
#[derive(Debug)]
pub struct FetchWaiter {}

impl FetchWaiter {
    /// Waits for `min_bytes` over all the partitions it will watch.
    pub fn new(min_bytes: u64) -> Arc<Self> {
        let _ = min_bytes;
        todo!()
    }

    /// Returns true when enough bytes are there or a watched partition changed, false at the deadline.
    pub async fn wait(&self, deadline: Instant) -> bool {
        let _ = deadline;
        todo!()
    }
}

/// Ends the watch when dropped.
#[derive(Debug)]
pub struct WatchGuard {}

impl Partition {
    /// Counts for `waiter` the bytes from `from` (the offset the Fetch asks) to the high watermark, now and as it
    /// moves; `already_bytes` of them were found by the read before.
    pub fn watch(self: &Arc<Self>, from: Offset, already_bytes: u64, waiter: &Arc<FetchWaiter>) -> WatchGuard {
        let _ = (from, already_bytes, waiter);
        todo!()
    }
}
