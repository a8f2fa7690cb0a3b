//! The append: checked in the receive buffer, stamped in place, written once.

use super::Partition;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{BatchError, LeaderEpoch, Offset};
use crate::wal::ticket::Ticket;

/// Who appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendOrigin {
    /// A Produce request: exactly one batch, no transactional or control bit.
    Client,
    /// A coordinator of this broker: whole batches of our own making.
    Coordinator,
}

/// What an append that was written hands back.
#[derive(Debug)]
pub struct Appended {
    /// Offset of the first record; of the original for a duplicate.
    pub base_offset: Offset,
    /// The broker's time that the records got, -1 when they keep the producer's.
    pub log_append_time_ms: i64,
    /// First readable offset of the partition.
    pub log_start_offset: Offset,
    /// What the acknowledgement waits for.
    pub ticket: Ticket,
}

/// Why nothing was appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The bytes are no batch, or its CRC is wrong.
    #[error("{0}")]
    Corrupt(#[from] BatchError),
    /// A batch that no client may send or no topic of this kind may hold.
    #[error("{0}")]
    InvalidRecord(&'static str),
    /// A record's time is outside `message.timestamp.*.max.ms`.
    #[error("timestamp {timestamp_ms} of a record lies outside the accepted range")]
    InvalidTimestamp {
        /// The offending time.
        timestamp_ms: i64,
    },
    /// Over `max.message.bytes`.
    #[error("batch of {size} bytes exceeds max.message.bytes {limit}")]
    TooLarge {
        /// The batch, as it was sent.
        size: u64,
        /// The topic's limit.
        limit: u64,
    },
    /// Over `segment.bytes`.
    #[error("batch of {size} bytes exceeds segment.bytes {limit}")]
    LargerThanSegment {
        /// The batch, as it was sent.
        size: u64,
        /// The topic's limit.
        limit: u64,
    },
    /// A compression id that Kafka does not know.
    #[error("compression id {0} is unknown")]
    UnsupportedCompression(i16),
    /// The caller's epoch is older than ours.
    #[error("leader epoch {required} is older than {current}")]
    FencedLeaderEpoch {
        /// What the caller named.
        required: LeaderEpoch,
        /// Ours.
        current: LeaderEpoch,
    },
    /// The caller's epoch is newer than ours.
    #[error("leader epoch {required} is newer than {current}")]
    UnknownLeaderEpoch {
        /// What the caller named.
        required: LeaderEpoch,
        /// Ours.
        current: LeaderEpoch,
    },
    /// The sequence does not follow the producer's last.
    #[error("sequence is out of order")]
    OutOfOrderSequence,
    /// The producer's epoch is older than one seen.
    #[error("producer epoch is fenced")]
    InvalidProducerEpoch,
    /// The log directory failed, or the partition's files did.
    #[error("log directory is offline")]
    Storage,
    /// The topic was deleted, or this broker no longer leads the partition.
    #[error("partition is gone")]
    Gone,
}

impl AppendError {
    /// What the client is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Corrupt(_) => ErrorCode::CorruptMessage,
            Self::InvalidRecord(_) => ErrorCode::InvalidRecord,
            Self::InvalidTimestamp { .. } => ErrorCode::InvalidTimestamp,
            Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
            Self::UnsupportedCompression(_) => ErrorCode::UnsupportedCompressionType,
            Self::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            Self::UnknownLeaderEpoch { .. } => ErrorCode::UnknownLeaderEpoch,
            Self::OutOfOrderSequence => ErrorCode::OutOfOrderSequenceNumber,
            Self::InvalidProducerEpoch => ErrorCode::InvalidProducerEpoch,
            Self::Storage => ErrorCode::KafkaStorageError,
            Self::Gone => ErrorCode::NotLeaderOrFollower,
        }
    }
}

impl Partition {
    /// Appends whole batches, stamping them in place. Blocks for one write into the page cache, nothing else.
    pub fn append(
        &self,
        batches: &mut [u8],
        origin: AppendOrigin,
        required_leader_epoch: Option<LeaderEpoch>,
    ) -> Result<Appended, AppendError> {
        let _ = (batches, origin, required_leader_epoch);
        todo!()
    }
}
