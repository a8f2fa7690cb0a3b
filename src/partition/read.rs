//! The read: the one place that decides between the local log and the tier.

use bytes::Bytes;

use super::Partition;
use crate::log::view::FileRange;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// What a reader of transactions sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Everything below the high watermark.
    ReadUncommitted,
    /// Everything below the last stable offset.
    ReadCommitted,
}

/// What is asked of one partition.
#[derive(Debug, Clone, Copy)]
pub struct ReadSpec {
    /// First offset wanted.
    pub offset: Offset,
    /// Most bytes wanted.
    pub max_bytes: u64,
    /// Answer with the first batch even if it is larger than `max_bytes`.
    pub min_one: bool,
    /// The leader epoch that the reader knows; checked against ours.
    pub current_leader_epoch: Option<LeaderEpoch>,
    /// Epoch of the last record that the reader has; a log that diverged below is told instead of records (KIP-595).
    pub last_fetched_epoch: Option<LeaderEpoch>,
    /// What is visible.
    pub isolation: Isolation,
}

/// Records of an answer.
#[derive(Debug)]
pub enum Records {
    /// None.
    Empty,
    /// In a local file.
    File(FileRange),
    /// In the bucket; to be loaded.
    Cold(ColdRead),
}

/// What a read found.
#[derive(Debug)]
pub struct ReadOutcome {
    /// Where readers end.
    pub high_watermark: Offset,
    /// Where readers of committed records end.
    pub last_stable_offset: Offset,
    /// First readable offset.
    pub log_start_offset: Offset,
    /// Set when the reader's history diverged: the largest common epoch and its end offset; no records then.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// The records.
    pub records: Records,
}

/// Why a read has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Below the log start or above the log end.
    #[error("offset {offset} is not within {log_start} to {high_watermark}")]
    OutOfRange {
        /// What was asked.
        offset: Offset,
        /// First readable offset.
        log_start: Offset,
        /// Where readers end.
        high_watermark: Offset,
    },
    /// The reader's epoch is older than ours.
    #[error("leader epoch {required} is older than {current}")]
    FencedLeaderEpoch {
        /// What the reader named.
        required: LeaderEpoch,
        /// Ours.
        current: LeaderEpoch,
    },
    /// The reader's epoch is newer than ours.
    #[error("leader epoch {required} is newer than {current}")]
    UnknownLeaderEpoch {
        /// What the reader named.
        required: LeaderEpoch,
        /// Ours.
        current: LeaderEpoch,
    },
    /// A file or the bucket failed.
    #[error("storage failed: {0}")]
    Storage(String),
    /// The topic was deleted, or this broker no longer leads the partition.
    #[error("partition is gone")]
    Gone,
}

impl ReadError {
    /// What the client is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            Self::UnknownLeaderEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            Self::Storage(_) => ErrorCode::KafkaStorageError,
            Self::Gone => ErrorCode::NotLeaderOrFollower,
        }
    }
}

/// A read that the bucket answers.
#[derive(Debug)]
pub struct ColdRead {}

impl ColdRead {
    /// Loads it: whole batches in order, the first one holds the offset that was asked.
    pub async fn load(self) -> Result<Vec<Bytes>, ReadError> {
        todo!()
    }
}

impl Partition {
    /// Records from `spec.offset` on. Never waits for the bucket; a cold answer is loaded by the caller.
    pub fn read(&self, spec: &ReadSpec) -> Result<ReadOutcome, ReadError> {
        let _ = spec;
        todo!()
    }
}
