//! Offsets by name and by time, over both tiers.

use std::sync::Arc;

use super::Partition;
use super::read::{Isolation, ReadError};
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// Which offset is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// -2: the log start.
    Earliest,
    /// -1: the high watermark, or the last stable offset.
    Latest,
    /// -3: of the record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// -4: first offset of the local log (KIP-405).
    EarliestLocal,
    /// -5: last offset in the bucket (KIP-1005).
    LatestTiered,
    /// -6: first offset that is not in the bucket yet (KIP-1023).
    EarliestPendingUpload,
    /// The first record at this time in milliseconds or later.
    Time(i64),
}

/// Kafka's answer to one question; all fields -1 when there is no such record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The offset.
    pub offset: Offset,
    /// The record's time, -1 where the question was not about time.
    pub timestamp: i64,
    /// The leader epoch of that offset, -1 when unknown.
    pub leader_epoch: LeaderEpoch,
}

impl Found {
    /// There is no such record.
    pub const NOTHING: Self = Self { offset: -1, timestamp: -1, leader_epoch: -1 };
}

impl Partition {
    /// Answers one ListOffsets question; only a question about time can touch the bucket.
    pub async fn list_offset(self: &Arc<Self>, spec: OffsetSpec, isolation: Isolation) -> Result<Found, ReadError> {
        let _ = (spec, isolation);
        todo!()
    }
}
