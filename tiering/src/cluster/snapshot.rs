//! `meta/snap-<number>`: what the broker knew, as sections whose meaning belongs to the broker.
//!
//! ```text
//! magic "TRCSNAP1" | version u16 | reserved u16 (0) | CRC-32C u32 over all that follows | number u64 | sections
//! ```

use bytes::Bytes;

use crate::cursor::Cursor;
use crate::platform::crash_point::{self, CrashPoint};
use crate::retention;
use crate::sections;
use crate::store::StoreError;
use crate::store::bucket::Created;
use crate::tier::Tier;

const MAGIC: [u8; 8] = *b"TRCSNAP1";
const VERSION: u16 = 1;

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
        let key = self.names.snapshot(snapshot.number);
        let bytes = Bytes::from(snapshot.encode());
        if self.bucket.create(&key, bytes.clone()).await? == Created::Exists && self.bucket.get(&key).await? != bytes {
            return Err(SnapshotError::Fenced(snapshot.number));
        }
        crash_point::reach(CrashPoint::SnapshotAfterPut);
        Ok(())
    }

    /// The number of the newest snapshot, by one LIST.
    pub async fn newest_snapshot_number(&self) -> Result<Option<u64>, StoreError> {
        Ok(self.snapshot_numbers().await?.last().copied())
    }

    /// The newest snapshot that can be read; one that cannot is skipped with a warning.
    pub async fn newest_snapshot(&self) -> Result<Option<Snapshot>, SnapshotError> {
        let numbers = self.snapshot_numbers().await?;
        let mut corrupt = None;
        for number in numbers.into_iter().rev() {
            match Snapshot::parse(&self.bucket.get(&self.names.snapshot(number)).await?) {
                Ok(snapshot) if snapshot.number == number => return Ok(Some(snapshot)),
                Ok(_) => corrupt = corrupt.or(Some((number, "it has another number inside".to_owned()))),
                Err(reason) => corrupt = corrupt.or(Some((number, reason))),
            }
            tracing::warn!(number, "metadata snapshot cannot be read; trying the one before");
        }
        match corrupt {
            None => Ok(None),
            Some((number, reason)) => Err(SnapshotError::Corrupt { number, reason }),
        }
    }

    /// Removes snapshots that are neither among the last 16 nor the last of an hour within the retention.
    pub async fn prune_snapshots(&self) -> Result<usize, StoreError> {
        let names = &self.names;
        let pick = |meta: object_store::ObjectMeta| {
            Some((names.parse_snapshot(&meta.location)?, meta.last_modified.timestamp_millis()))
        };
        let mut found = self.bucket.list(&names.snapshots(), None, pick).await?;
        found.reverse();
        let written: Vec<i64> = found.iter().map(|(_, written_ms)| *written_ms).collect();
        let kept = retention::kept(&written, self.machine.clock.now_ms(), self.options.manifest_retention_ms);
        let mut removed = 0;
        for ((number, _), _) in found.iter().zip(&kept).filter(|(_, kept)| !**kept) {
            self.bucket.delete(&names.snapshot(*number)).await?;
            removed += 1;
        }
        Ok(removed)
    }

    /// The numbers of all snapshots, ascending.
    pub async fn snapshot_numbers(&self) -> Result<Vec<u64>, StoreError> {
        let names = &self.names;
        self.bucket.list(&names.snapshots(), None, |meta| names.parse_snapshot(&meta.location)).await
    }
}

impl Snapshot {
    /// Its bytes in the bucket.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = self.number.to_be_bytes().to_vec();
        for section in &self.sections {
            sections::put(&mut body, section.kind, &section.bytes);
        }
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
        out.extend_from_slice(&body);
        out
    }

    /// Reads what [`Snapshot::encode`] wrote; says what is wrong otherwise.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut cursor = Cursor::new(bytes);
        let head = |error: crate::cursor::Malformed| error.to_string();
        if cursor.take(8).map_err(head)? != MAGIC {
            return Err("it does not begin as a snapshot".to_owned());
        }
        let (version, _reserved) = (cursor.u16().map_err(head)?, cursor.u16().map_err(head)?);
        if version != VERSION {
            return Err(format!("version {version} is newer than this program"));
        }
        if cursor.u32().map_err(head)? != crc32c::crc32c(cursor.rest()) {
            return Err("CRC does not match".to_owned());
        }
        let number = cursor.u64().map_err(head)?;
        let sections = sections::parse(cursor.rest()).map_err(|error| error.to_string())?;
        let owned = |section: sections::Section<'_>| SnapshotSection {
            kind: section.kind,
            bytes: Bytes::copy_from_slice(section.payload),
        };
        Ok(Self { number, sections: sections.into_iter().map(owned).collect() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_snapshot_survives_the_round_trip(number: u64, list: Vec<(u16, Vec<u8>)>, at: prop::sample::Index) {
            let sections = list.into_iter().map(|(kind, bytes)| SnapshotSection { kind, bytes: bytes.into() }).collect();
            let snapshot = Snapshot { number, sections };
            let mut bytes = snapshot.encode();
            prop_assert_eq!(Snapshot::parse(&bytes), Ok(snapshot));
            bytes.truncate(at.index(bytes.len()));
            prop_assert!(Snapshot::parse(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_parsed_without_a_panic(bytes: Vec<u8>) {
            let _ = Snapshot::parse(&bytes);
        }
    }
}
