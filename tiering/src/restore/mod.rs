//! A broker's state from the bucket alone: which snapshot makes the cut, and which segments each partition has there.
//!
//! Nothing here writes. The caller claims the prefix first, so that what is read stays true; what the old owner still had
//! in flight at that moment has an older leader epoch than the roots that the caller then writes, and counts for nobody.

pub mod chain;
pub mod segments;

use crate::cluster::snapshot::{Snapshot, SnapshotError};
use crate::store::StoreError;
use crate::tier::Tier;

/// A snapshot as a listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WrittenSnapshot {
    /// Its number.
    pub number: u64,
    /// When it was written, wall time of the store in milliseconds.
    pub written_ms: i64,
}

impl Tier {
    /// All snapshots that are kept, by number.
    pub async fn list_snapshots(&self) -> Result<Vec<WrittenSnapshot>, StoreError> {
        let names = &self.names;
        let pick = |meta: object_store::ObjectMeta| {
            let written_ms = meta.last_modified.timestamp_millis();
            Some(WrittenSnapshot { number: names.parse_snapshot(&meta.location)?, written_ms })
        };
        self.bucket.list(&names.snapshots(), None, pick).await
    }

    /// One snapshot.
    pub async fn load_snapshot(&self, number: u64) -> Result<Snapshot, SnapshotError> {
        let corrupt = |reason| SnapshotError::Corrupt { number, reason };
        let snapshot = Snapshot::parse(&self.bucket.get(&self.names.snapshot(number)).await?).map_err(corrupt)?;
        if snapshot.number == number { Ok(snapshot) } else { Err(corrupt("it has another number inside".to_owned())) }
    }
}
