//! `meta/snap-<number>`: what the broker knew, as sections whose meaning belongs to the broker.

use bytes::Bytes;

use crate::store::StoreError;
use crate::tier::Tier;

/// One section of a snapshot; the caller chooses the types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSection {
    /// What it is.
    pub kind: u16,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A metadata snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Part of its key; one higher with each.
    pub number: u64,
    /// In the order they were written.
    pub sections: Vec<SnapshotSection>,
}

/// Why a snapshot could not be written or read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SnapshotError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another writer made this number: the broker has lost the prefix.
    #[error("metadata snapshot {0} exists and is not ours")]
    Fenced(u64),
    /// No snapshot in the bucket can be read.
    #[error("metadata snapshot {number} is corrupt: {reason}")]
    Corrupt {
        /// Which.
        number: u64,
        /// What is wrong.
        reason: String,
    },
}

impl Tier {
    /// Creates a snapshot. Fine when the same bytes are there already.
    pub async fn put_snapshot(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let _ = snapshot;
        todo!()
    }

    /// The number of the newest snapshot, by one LIST.
    pub async fn newest_snapshot_number(&self) -> Result<Option<u64>, StoreError> {
        todo!()
    }

    /// The newest snapshot that can be read; one that cannot is skipped with a warning.
    pub async fn newest_snapshot(&self) -> Result<Option<Snapshot>, SnapshotError> {
        todo!()
    }

    /// Removes snapshots that are neither among the last 16 nor the last of an hour within the retention.
    pub async fn prune_snapshots(&self) -> Result<usize, StoreError> {
        todo!()
    }
}
