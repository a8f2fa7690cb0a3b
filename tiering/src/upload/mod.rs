//! Copying a sealed segment into the bucket, and making sure that it is there.

pub mod parts;
pub mod uploader;
pub mod verify;

use bytes::Bytes;
use uuid::Uuid;

use crate::object::chunk::ChunkEntry;
use crate::object::footer::{AbortedTransaction, SegmentIdentity};
use crate::platform::fs::SharedFile;
use crate::store::StoreError;

/// A sealed segment, ready to be copied.
#[derive(Debug, Clone)]
pub struct SegmentUpload {
    /// What it is; `uuid` is new for each attempt.
    pub identity: SegmentIdentity,
    /// The segment's `.log` file.
    pub log: SharedFile,
    /// How much of the file is the segment.
    pub log_bytes: u64,
    /// Its chunks, cut by [`ChunkCutter`](crate::object::chunk::ChunkCutter); they cover `0..log_bytes`.
    pub chunks: Vec<ChunkEntry>,
    /// Leader epochs that have records in it: epoch and its first offset here.
    pub epochs: Vec<(i32, i64)>,
    /// The producer state behind its last offset, as Kafka's `.snapshot` file.
    pub producer_snapshot: Bytes,
    /// Aborted transactions that overlap it.
    pub aborted: Vec<AbortedTransaction>,
}

/// An object that is in the bucket, verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uploaded {
    /// Of this copy.
    pub uuid: Uuid,
    /// Bytes of the whole object.
    pub object_bytes: u64,
}

/// Why a segment is not in the bucket. What was sent is an orphan; a retry takes a new uuid.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The store failed or took too long.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The local segment could not be read.
    #[error("local segment: {0}")]
    Local(#[from] std::io::Error),
    /// The local bytes are not those that the chunks were cut from.
    #[error("local segment changed: chunk {chunk} fails its CRC")]
    LocalCorrupt {
        /// The chunk's number.
        chunk: usize,
    },
    /// The caller's chunks or offsets contradict each other.
    #[error("segment cannot be copied: {0}")]
    Invalid(&'static str),
    /// What lies in the bucket is not what was sent.
    #[error("uploaded object fails verification: {0}")]
    Verification(String),
}
