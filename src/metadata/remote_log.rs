//! The states of remote log segments (KIP-405), behind their own trait: what grows with data never sits in the
//! [`MetadataStore`](super::store::MetadataStore).

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use uuid::Uuid;

use super::image::PartitionId;
use super::remote_replacement::Replacement;
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// KIP-405's states of one remote segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentState {
    /// COPY_SEGMENT_STARTED: may be in the bucket in part; never read.
    CopyStarted,
    /// COPY_SEGMENT_FINISHED: verified, readable.
    CopyFinished,
    /// DELETE_SEGMENT_STARTED at this wall time in milliseconds: never read again, gone after the grace time.
    DeleteStarted {
        /// When it was marked.
        at_ms: i64,
    },
}

/// One segment in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteSegment {
    /// Of this copy; part of the object's key. Every retry has another.
    pub uuid: Uuid,
    /// First offset it covers.
    pub base_offset: Offset,
    /// Last offset it covers.
    pub last_offset: Offset,
    /// Leader epoch of the broker that copied it; part of the object's key.
    pub copy_epoch: LeaderEpoch,
    /// Bytes of the segment's log, the object's beginning.
    pub log_bytes: u64,
    /// Bytes of the whole object.
    pub object_bytes: u64,
    /// Timestamp of the first batch in milliseconds.
    pub first_timestamp: i64,
    /// Largest timestamp in milliseconds.
    pub max_timestamp: i64,
    /// Offset of the record with the largest timestamp.
    pub max_timestamp_offset: Offset,
    /// Leader epochs that have records in it: epoch and its first offset in this segment.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
    /// Where it stands.
    pub state: SegmentState,
}

#[cfg(test)]
impl RemoteSegment {
    /// A readable one for tests; they change what they look at. Segments of other offsets have other ids.
    pub fn covering(base_offset: Offset, last_offset: Offset) -> Self {
        Self {
            uuid: Uuid::from_u128((base_offset as u128) << 64 | last_offset as u128),
            base_offset,
            last_offset,
            copy_epoch: 0,
            log_bytes: 100,
            object_bytes: 120,
            first_timestamp: 1,
            max_timestamp: 2,
            max_timestamp_offset: base_offset,
            epochs: vec![(0, base_offset)],
            state: SegmentState::CopyFinished,
        }
    }
}

/// The readable segments of one partition: FINISHED, in offset order, immutable. Swapped as a whole.
#[derive(Debug, Clone)]
pub struct RemoteChain {
    /// Rises by one with every change of the partition's remote state.
    pub generation: u64,
    /// FINISHED segments, by base offset. Each covers all offsets up to the next one, also those that compaction has emptied: a
    /// gap between two is a copy that was lost.
    pub segments: Vec<Arc<RemoteSegment>>,
    /// Durable remote part of the log start offset; -1 while there is none.
    pub log_start: Offset,
    /// The largest timestamp up to each segment, made when it is first asked for: the lookup by time must not look at
    /// every segment of a topic that has a hundred thousand of them.
    pub(crate) latest: OnceLock<Vec<i64>>,
}

impl Default for RemoteChain {
    fn default() -> Self {
        Self { generation: 0, segments: Vec::new(), log_start: -1, latest: OnceLock::new() }
    }
}

impl RemoteChain {
    /// The segment that holds `offset`, or the next one above it.
    pub fn find(&self, offset: Offset) -> Option<&Arc<RemoteSegment>> {
        let at = self.segments.partition_point(|segment| segment.last_offset < offset);
        self.segments.get(at)
    }

    /// The segments from the first one on whose largest timestamp is at least `timestamp_ms`.
    pub fn from_time(&self, timestamp_ms: i64) -> &[Arc<RemoteSegment>] {
        let latest = self.latest.get_or_init(|| {
            let running = |latest: &mut i64, segment: &Arc<RemoteSegment>| {
                *latest = segment.max_timestamp.max(*latest);
                Some(*latest)
            };
            self.segments.iter().scan(i64::MIN, running).collect()
        });
        let first = latest.partition_point(|latest| *latest < timestamp_ms);
        self.segments.get(first..).unwrap_or_default()
    }

    /// The leader epochs of all segments, each with its first offset among them.
    pub fn epochs(&self) -> Vec<(LeaderEpoch, Offset)> {
        let mut epochs: Vec<(LeaderEpoch, Offset)> = Vec::new();
        for (epoch, first_offset) in self.segments.iter().flat_map(|segment| &segment.epochs) {
            if epochs.last().is_none_or(|(before, _)| before < epoch) {
                epochs.push((*epoch, *first_offset));
            }
        }
        epochs
    }

    /// The offset behind the last readable segment; `None` when there is none.
    pub fn end(&self) -> Option<Offset> {
        self.segments.last().map(|segment| segment.last_offset + 1)
    }

    /// The log ended here or later once: readers saw what lies below, or were told that it is gone.
    pub fn reached(&self) -> Offset {
        self.end().unwrap_or(0).max(self.log_start)
    }
}

/// Why a change of remote state did not happen.
#[derive(Debug, thiserror::Error)]
pub enum RemoteLogError {
    /// The generation or the leader epoch is no longer the caller's.
    #[error("remote state of the partition changed meanwhile")]
    Fenced,
    /// The segment is not in the state that the call needs.
    #[error("remote segment {0} is not in the expected state")]
    BadState(Uuid),
    /// The store failed: unless the process ends, nothing changed.
    #[error("remote log metadata failed: {0}")]
    Store(String),
}

/// A segment that was found damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownDamage {
    /// Whose it is.
    pub partition: PartitionId,
    /// Its uuid.
    pub segment: Uuid,
    /// What is wrong with it, for people.
    pub what: String,
}

/// Everything the node knows of one partition's remote segments, readable or not.
#[derive(Debug, Clone)]
pub struct RemotePartition {
    /// Rises by one with every change.
    pub generation: u64,
    /// Highest leader epoch that changed it.
    pub leader_epoch: LeaderEpoch,
    /// All segments in any state, by base offset.
    pub segments: Vec<Arc<RemoteSegment>>,
    /// Durable log start offset of the partition; -1 when never set.
    pub log_start: Offset,
}

impl Default for RemotePartition {
    fn default() -> Self {
        Self { generation: 0, leader_epoch: -1, segments: Vec::new(), log_start: -1 }
    }
}

impl RemotePartition {
    /// What readers may see of it.
    pub fn chain(&self) -> RemoteChain {
        let readable = |segment: &&Arc<RemoteSegment>| segment.state == SegmentState::CopyFinished;
        RemoteChain {
            generation: self.generation,
            segments: self.segments.iter().filter(readable).map(Arc::clone).collect(),
            log_start: self.log_start,
            ..RemoteChain::default()
        }
    }
}

/// Segment states of all partitions. Every change names the leader epoch and the generation it expects, and returns the
/// generation it made.
#[async_trait::async_trait]
pub trait RemoteLogMetadata: Send + Sync + Debug + 'static {
    /// All that is known of one partition.
    async fn load(&self, partition: PartitionId) -> Result<RemotePartition, RemoteLogError>;

    /// All partitions with remote state, also those of deleted topics.
    async fn partitions(&self) -> Result<Vec<PartitionId>, RemoteLogError>;

    /// COPY_SEGMENT_STARTED.
    async fn begin_copy(
        &self,
        partition: PartitionId,
        leader_epoch: LeaderEpoch,
        expected: u64,
        segment: RemoteSegment,
    ) -> Result<u64, RemoteLogError>;

    /// COPY_SEGMENT_FINISHED; `segment` replaces what `begin_copy` knew.
    async fn finish_copy(
        &self,
        partition: PartitionId,
        leader_epoch: LeaderEpoch,
        expected: u64,
        segment: RemoteSegment,
    ) -> Result<u64, RemoteLogError>;

    /// DELETE_SEGMENT_STARTED for all of `segments` (uuids) at once, together with the new log start offset.
    async fn mark_deleted(
        &self,
        partition: PartitionId,
        leader_epoch: LeaderEpoch,
        expected: u64,
        segments: &[Uuid],
        log_start: Offset,
        now_ms: i64,
    ) -> Result<u64, RemoteLogError>;

    /// The new segments become COPY_SEGMENT_FINISHED and those that they replace DELETE_SEGMENT_STARTED, at once; the log
    /// start stays. Refused unless the new ones cover exactly the offsets of the old ones, see [`Replacement::rows`].
    async fn replace(
        &self,
        partition: PartitionId,
        leader_epoch: LeaderEpoch,
        expected: u64,
        replacement: &Replacement,
    ) -> Result<u64, RemoteLogError>;

    /// DELETE_SEGMENT_FINISHED: forgets `segments`. Fine when they are forgotten already.
    async fn finish_delete(
        &self,
        partition: PartitionId,
        leader_epoch: LeaderEpoch,
        expected: u64,
        segments: &[Uuid],
    ) -> Result<u64, RemoteLogError>;

    /// All segments that were found damaged.
    async fn damage(&self) -> Result<Vec<KnownDamage>, RemoteLogError>;

    /// Notes what is wrong with a segment, or with `None` that nothing is any more. No part of the partition's state: its
    /// generation stays.
    async fn note_damage(
        &self,
        partition: PartitionId,
        segment: Uuid,
        what: Option<&str>,
    ) -> Result<(), RemoteLogError>;

    /// Forgets a partition whose last object is gone.
    async fn forget(&self, partition: PartitionId) -> Result<(), RemoteLogError>;
}
