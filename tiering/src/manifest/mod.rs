//! What the bucket itself knows of one partition: a root that names the readable segments, and leaves under it.
//!
//! A root is created "if absent" and never overwritten, so of two brokers that believe to own a partition one finds out.
//! Leaves are immutable. Everything here can be rebuilt from the objects, which describe themselves.

pub mod commit;
pub mod format;
pub mod invariants;
pub mod load;
pub mod prune;
pub mod rebuild;

use std::sync::Arc;

use uuid::Uuid;

use crate::names::ObjectRef;
use crate::store::StoreError;

/// One readable segment, as a root or leaf keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestEntry {
    /// Of the copy.
    pub uuid: Uuid,
    /// First offset it covers.
    pub base_offset: i64,
    /// Last offset it covers.
    pub last_offset: i64,
    /// Leader epoch of the broker that copied it.
    pub leader_epoch: i32,
    /// Bytes of the segment's log.
    pub log_bytes: u64,
    /// Bytes of the whole object.
    pub object_bytes: u64,
    /// Timestamp of the first batch in milliseconds.
    pub first_timestamp: i64,
    /// Largest timestamp in milliseconds.
    pub max_timestamp: i64,
    /// Offset of the record with the largest timestamp.
    pub max_timestamp_offset: i64,
    /// Leader epochs that have records in it: epoch and its first offset here.
    pub epochs: Vec<(i32, i64)>,
}

impl ManifestEntry {
    /// The object it names.
    pub fn object(&self, topic: Uuid, partition: i32) -> ObjectRef {
        ObjectRef {
            topic,
            partition,
            base_offset: self.base_offset,
            last_offset: self.last_offset,
            leader_epoch: self.leader_epoch,
            uuid: self.uuid,
            object_bytes: self.object_bytes,
        }
    }
}

/// A leaf as a root names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafRef {
    /// First offset of its first entry; part of its key.
    pub first_offset: i64,
    /// Last offset of its last entry.
    pub last_offset: i64,
    /// Part of its key.
    pub uuid: Uuid,
    /// Its entries.
    pub entry_count: u32,
    /// CRC-32C over the leaf's bytes.
    pub crc: u32,
}

/// One root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The topic's id.
    pub topic: Uuid,
    /// The partition's number.
    pub partition: i32,
    /// Leader epoch of the writer; part of the key.
    pub leader_epoch: i32,
    /// One higher than that of the root before; part of the key.
    pub generation: u64,
    /// The broker process that wrote it.
    pub writer: Uuid,
    /// CRC-32C over the bytes of the root before; 0 for the first.
    pub previous_crc: u32,
    /// When it was written, wall time in milliseconds.
    pub written_at_ms: i64,
    /// Log start offset of the partition. Entries that end below it are not readable.
    pub log_start: i64,
    /// Offset behind the last readable segment; -1 when there is none.
    pub tier_end: i64,
    /// A compacted topic: what lies below was met by a round of the tier's cleaner, in just these segments. 0 where no
    /// round is known to have ended.
    pub cleaned_end: i64,
    /// The older segments, by offset.
    pub leaves: Vec<LeafRef>,
    /// The newest segments, by offset.
    pub entries: Vec<ManifestEntry>,
}

/// A root that is known to be in the bucket: what the next commit builds upon.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The root.
    pub root: Arc<Root>,
    /// CRC-32C over its bytes.
    pub crc: u32,
}

/// A root with all its leaves.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The root.
    pub committed: Committed,
    /// All readable segments, by offset: those of the leaves, then the root's own.
    pub entries: Vec<ManifestEntry>,
}

/// Why a manifest could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ManifestError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What lies in the bucket is not a manifest.
    #[error("manifest '{key}' is corrupt: {reason}")]
    Corrupt {
        /// Its key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// Another writer made this generation: the broker has lost the prefix. It stops copying and deleting.
    #[error("manifest generation {generation} was written by {writer}, not by this broker")]
    Fenced {
        /// The generation that was taken.
        generation: u64,
        /// Who took it.
        writer: Uuid,
    },
    /// The caller's entries break an invariant: nothing was written.
    #[error("manifest entries are inconsistent: {0}")]
    Invalid(String),
}
