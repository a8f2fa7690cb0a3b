//! Reading segments back: footers, chunks, and reading ahead for those who read on.

pub mod download;
pub mod footers;
pub mod kept;
pub mod reader;
pub mod streams;

use bytes::Bytes;

use crate::names::ObjectRef;
use crate::object::footer::FooterError;
use crate::store::StoreError;

/// What the caller knows of how it will read on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadHint {
    /// The segment behind this one, so that reading ahead crosses the border.
    pub next: Option<ObjectRef>,
}

/// Chunks of one segment, in order, without a gap.
#[derive(Debug, Clone)]
pub struct ChunkRead {
    /// Base offset of the first batch of the first chunk; at most the offset that was asked for.
    pub first_offset: i64,
    /// First offset behind these chunks: of the segment's next chunk, or behind the segment. Where compaction left a gap,
    /// the first chunk may end below the offset asked for; what follows is at `next_offset`.
    pub next_offset: i64,
    /// Whole chunks.
    pub chunks: Vec<Bytes>,
}

/// Why a segment could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The store failed or took too long; may work later.
    #[error(transparent)]
    Store(StoreError),
    /// The object is not there (any more).
    #[error("segment object '{0}' does not exist")]
    Gone(String),
    /// The object's footer cannot be read.
    #[error("segment object '{key}': {error}")]
    Footer {
        /// The object's key.
        key: String,
        /// What is wrong.
        error: FooterError,
    },
    /// A chunk is not what the footer says; it was not served.
    #[error("segment object '{key}': chunk {chunk} fails its CRC")]
    Corrupt {
        /// The object's key.
        key: String,
        /// The chunk's number.
        chunk: usize,
    },
    /// The offset is not in this segment.
    #[error("offset {0} is not in the segment")]
    OffsetOutOfRange(i64),
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(key) => Self::Gone(key),
            other => Self::Store(other),
        }
    }
}
