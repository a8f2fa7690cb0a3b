//! Reads roots and their leaves.

use std::collections::HashMap;

use object_store::path::Path;
use uuid::Uuid;

use super::{Committed, LeafRef, Manifest, ManifestEntry, ManifestError, Root, format, invariants};
use crate::names::ManifestName;
use crate::store::StoreError;
use crate::store::meter::Purpose;
use crate::tier::Tier;

/// The newest root of one partition, as its key says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NewestRoot {
    /// The topic's id.
    pub topic: Uuid,
    /// The partition's number.
    pub partition: i32,
    /// Leader epoch of its writer.
    pub leader_epoch: i32,
    /// Its generation.
    pub generation: u64,
}

/// A root or leaf in a listing, and when it was written (wall time of the store in milliseconds).
pub(crate) type Listed = (ManifestName, i64);

impl Tier {
    /// The newest manifest of a partition; `None` when it has none. The newest is that of the highest leader epoch, then of
    /// the highest generation.
    pub async fn load_manifest(&self, topic: Uuid, partition: i32) -> Result<Option<Manifest>, ManifestError> {
        let listed = self.list_manifests(topic, partition).await?;
        let newest = listed.iter().rev().find(|(name, _)| matches!(name, ManifestName::Root { .. }));
        let Some((name, _)) = newest else { return Ok(None) };
        let committed = self.load_root(topic, partition, *name).await?;
        let mut entries = Vec::new();
        for leaf in &committed.root.leaves {
            entries.extend(self.load_leaf(topic, partition, leaf).await?);
        }
        entries.extend(committed.root.entries.iter().cloned());
        invariants::check(&entries).map_err(|reason| corrupt(&self.names.manifest(topic, partition, *name), reason))?;
        Ok(Some(Manifest { committed, entries }))
    }

    /// The newest root of every partition in the bucket, by LIST alone.
    pub async fn newest_roots(&self) -> Result<Vec<NewestRoot>, StoreError> {
        let mut newest: HashMap<(Uuid, i32), (i32, u64)> = HashMap::new();
        let pick = |meta: object_store::ObjectMeta| -> Option<()> {
            let (topic, partition, name) = self.names.parse_manifest(&meta.location)?;
            if let ManifestName::Root { leader_epoch, generation } = name {
                let known = newest.entry((topic, partition)).or_default();
                *known = (*known).max((leader_epoch, generation));
            }
            None
        };
        self.bucket.on(Purpose::Manifest).list(&self.names.all_manifests(), None, pick).await?;
        let mut roots: Vec<_> = newest
            .into_iter()
            .map(|((topic, partition), (leader_epoch, generation))| NewestRoot {
                topic,
                partition,
                leader_epoch,
                generation,
            })
            .collect();
        roots.sort_unstable();
        Ok(roots)
    }

    /// All leaves, then all roots of a partition, each in their order.
    pub(crate) async fn list_manifests(&self, topic: Uuid, partition: i32) -> Result<Vec<Listed>, StoreError> {
        let names = &self.names;
        let pick = |meta: object_store::ObjectMeta| {
            let (_, _, name) = names.parse_manifest(&meta.location)?;
            Some((name, meta.last_modified.timestamp_millis()))
        };
        self.bucket.on(Purpose::Manifest).list(&names.manifests(topic, partition), None, pick).await
    }

    pub(crate) async fn load_root(
        &self,
        topic: Uuid,
        partition: i32,
        name: ManifestName,
    ) -> Result<Committed, ManifestError> {
        let key = self.names.manifest(topic, partition, name);
        let bytes = self.bucket.on(Purpose::Manifest).get(&key).await?;
        let root = format::parse_root(&bytes).map_err(|error| corrupt(&key, error.to_string()))?;
        if (root.topic, root.partition, root.name()) != (topic, partition, name) {
            return Err(corrupt(&key, "it belongs elsewhere".to_owned()));
        }
        Ok(Committed { root: root.into(), crc: crc32c::crc32c(&bytes) })
    }

    pub(crate) async fn load_leaf(
        &self,
        topic: Uuid,
        partition: i32,
        leaf: &LeafRef,
    ) -> Result<Vec<ManifestEntry>, ManifestError> {
        let key = self.names.manifest(topic, partition, leaf.name());
        let bytes = match self.bucket.on(Purpose::Manifest).get(&key).await {
            Err(StoreError::NotFound(_)) => {
                return Err(corrupt(&key, "the root names it and it is not there".to_owned()));
            }
            bytes => bytes?,
        };
        if crc32c::crc32c(&bytes) != leaf.crc {
            return Err(corrupt(&key, "its CRC is not the one in the root".to_owned()));
        }
        format::parse_leaf(&bytes).map_err(|error| corrupt(&key, error.to_string()))
    }
}

impl Root {
    pub(crate) fn name(&self) -> ManifestName {
        ManifestName::Root { leader_epoch: self.leader_epoch, generation: self.generation }
    }
}

impl LeafRef {
    pub(crate) fn name(&self) -> ManifestName {
        ManifestName::Leaf { first_offset: self.first_offset, uuid: self.uuid }
    }
}

pub(super) fn corrupt(key: &Path, reason: String) -> ManifestError {
    ManifestError::Corrupt { key: key.to_string(), reason }
}
