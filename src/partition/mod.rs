//! One partition: its offsets, its producers, its log, behind one plain mutex that is never held across an await.

pub mod append;
pub mod list_offsets;
pub mod producers;
pub mod read;
pub mod registry;
pub mod waiters;

use std::sync::Arc;

use crate::config::topic::TopicConfig;
use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::RemoteChain;
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// Where a partition stands at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    /// First readable offset over both tiers.
    pub log_start: Offset,
    /// First offset of the local log.
    pub local_start: Offset,
    /// Everything below is as durable as the topic's mode asks; readers see nothing above.
    pub high_watermark: Offset,
    /// Everything below is decided; the high watermark while there are no transactions.
    pub last_stable: Offset,
    /// The next offset to be written. Never an answer to a reader.
    pub log_end: Offset,
    /// The epoch in which this broker leads.
    pub leader_epoch: LeaderEpoch,
}

/// One partition that this broker leads.
#[derive(Debug)]
pub struct Partition {
    id: PartitionId,
    topic: Arc<str>,
}

impl Partition {
    /// Its topic's id and its number.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    /// Its topic's name.
    pub fn topic_name(&self) -> &Arc<str> {
        &self.topic
    }

    /// The effective configuration of its topic.
    pub fn topic_config(&self) -> Arc<TopicConfig> {
        todo!()
    }

    /// Where it stands.
    pub fn offsets(&self) -> Offsets {
        todo!()
    }

    /// Bytes of the local log.
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }

    /// Compares the leader epoch that a request carries with ours: FENCED_LEADER_EPOCH below, UNKNOWN_LEADER_EPOCH above.
    pub fn check_leader_epoch(&self, current: Option<LeaderEpoch>) -> Result<(), read::ReadError> {
        let _ = current;
        todo!()
    }

    /// The largest epoch not above `requested` that has records, and its end offset, over both tiers; (-1, -1) when
    /// there is none (OffsetForLeaderEpoch, KIP-320).
    pub fn epoch_end(&self, requested: LeaderEpoch) -> (LeaderEpoch, Offset) {
        let _ = requested;
        todo!()
    }

    /// Moves the log start to `before` (-1: the high watermark) and answers with the new log start once that is durable.
    pub async fn delete_records(self: &Arc<Self>, before: Offset) -> Result<Offset, read::ReadError> {
        let _ = before;
        todo!()
    }

    /// The readable remote segments.
    pub fn remote_chain(&self) -> Arc<RemoteChain> {
        todo!()
    }

    /// Swaps the readable remote segments; called by the job that copies and expires, and once at start before any
    /// local deletion.
    pub fn set_remote_chain(&self, chain: Arc<RemoteChain>) {
        let _ = chain;
        todo!()
    }
}
