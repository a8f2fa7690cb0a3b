//! What the jobs of the tier need of a partition. Narrow, so that they are tested without a log.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use terrace_tiering::object::footer::AbortedTransaction;
use terrace_tiering::platform::fs::SharedFile;

use crate::config::topic::TopicConfig;
use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::RemoteChain;
use crate::partition::Offsets;
use crate::protocol::record_batch::Offset;

/// A segment of the local log that gets no more records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedSegment {
    /// Its first offset.
    pub base_offset: Offset,
    /// The offset behind it: the base of the next segment.
    pub next_offset: Offset,
    /// Bytes of its log.
    pub bytes: u64,
    /// Timestamp of its first batch in milliseconds, -1 when unknown.
    pub first_timestamp: i64,
    /// Its largest timestamp in milliseconds, -1 when unknown.
    pub max_timestamp: i64,
}

/// The local log of a partition at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalSegments {
    /// Sealed ones by offset.
    pub sealed: Vec<SealedSegment>,
    /// Bytes of the active one.
    pub active_bytes: u64,
    /// Timestamp of the active one's first batch in milliseconds; `None` when it is empty.
    pub active_first_timestamp: Option<i64>,
}

/// What is copied of one sealed segment.
#[derive(Debug)]
pub struct SealedFiles {
    /// The `.log` file.
    pub log: SharedFile,
    /// How much of it is the segment.
    pub log_bytes: u64,
    /// The producer state behind its last offset, as Kafka's `.snapshot` file; may be empty.
    pub producer_snapshot: Bytes,
    /// Aborted transactions that overlap it, also where the marker lies in a later segment.
    pub aborted: Vec<AbortedTransaction>,
}

/// A partition as the jobs see it.
#[async_trait::async_trait]
pub trait TieredPartition: Send + Sync + Debug {
    /// Its topic's id and its number.
    fn id(&self) -> PartitionId;

    /// Its topic's name.
    fn topic_name(&self) -> Arc<str>;

    /// The effective configuration of its topic.
    fn topic_config(&self) -> Arc<TopicConfig>;

    /// Where it stands.
    fn offsets(&self) -> Offsets;

    /// Its local segments.
    fn local_segments(&self) -> LocalSegments;

    /// Opens the sealed segment that begins at `base_offset`. Blocks.
    fn open_sealed(&self, base_offset: Offset) -> io::Result<SealedFiles>;

    /// Swaps what readers and local deletion know of the tier.
    fn set_remote_chain(&self, chain: Arc<RemoteChain>);

    /// Moves the log start up to `to`; returns once that is durable.
    async fn advance_log_start(&self, to: Offset) -> Result<(), String>;
}

/// A shared partition.
pub type SharedPartition = Arc<dyn TieredPartition>;

/// Where partitions are found.
pub trait PartitionSource: Send + Sync + Debug {
    /// The partition with this id, while this broker has it.
    fn get(&self, id: PartitionId) -> Option<SharedPartition>;

    /// All partitions.
    fn all(&self) -> Vec<SharedPartition>;
}
