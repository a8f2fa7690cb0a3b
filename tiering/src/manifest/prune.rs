//! Removes roots and leaves that nobody needs.

use std::collections::HashSet;

use uuid::Uuid;

use super::ManifestError;
use crate::names::ManifestName;
use crate::retention;
use crate::store::meter::Purpose;
use crate::tier::Tier;

/// A leaf that no root names may be one whose root is being written.
const LEAF_AGE_MIN_MS: i64 = 3_600_000;

impl Tier {
    /// Keeps the last 16 roots and the last of each hour within `remote.manifest.retention.ms`, with their leaves; removes
    /// the others. Returns how many objects went.
    pub async fn prune_manifests(&self, topic: Uuid, partition: i32) -> Result<usize, ManifestError> {
        let now_ms = self.machine.clock.now_ms();
        let listed = self.list_manifests(topic, partition).await?;
        let is_root = |name: &ManifestName| matches!(name, ManifestName::Root { .. });
        let roots: Vec<_> = listed.iter().rev().filter(|(name, _)| is_root(name)).collect();
        let written: Vec<i64> = roots.iter().map(|(_, written_ms)| *written_ms).collect();
        let kept = retention::kept(&written, now_ms, self.options.manifest_retention_ms);
        let mut removed = 0;
        for ((name, _), _) in roots.iter().zip(&kept).filter(|(_, kept)| !**kept) {
            self.bucket.on(Purpose::Manifest).delete(&self.names.manifest(topic, partition, *name)).await?;
            removed += 1;
        }
        let leaves = listed.iter().filter(|(name, _)| !is_root(name));
        let old: Vec<_> = leaves.filter(|(_, at_ms)| now_ms.saturating_sub(*at_ms) >= LEAF_AGE_MIN_MS).collect();
        // Reading all kept roots pays only when there is a leaf that the newest does not name.
        let mut named = HashSet::new();
        for (at, ((name, _), _)) in roots.iter().zip(&kept).filter(|(_, kept)| **kept).enumerate() {
            if at > 0 && old.iter().all(|(leaf, _)| named.contains(leaf)) {
                break;
            }
            let root = self.load_root(topic, partition, *name).await?;
            named.extend(root.root.leaves.iter().map(super::LeafRef::name));
        }
        for (leaf, _) in old.iter().filter(|(leaf, _)| !named.contains(leaf)) {
            self.bucket.on(Purpose::Manifest).delete(&self.names.manifest(topic, partition, *leaf)).await?;
            removed += 1;
        }
        Ok(removed)
    }

    /// Removes all roots and leaves of a partition whose topic is deleted and whose segments are gone. The newest root goes
    /// last: what is left after a crash still says so.
    pub async fn delete_manifests(&self, topic: Uuid, partition: i32) -> Result<usize, ManifestError> {
        let mut names: Vec<ManifestName> =
            self.list_manifests(topic, partition).await?.into_iter().map(|(name, _)| name).collect();
        names.sort_by_key(|name| match name {
            ManifestName::Leaf { .. } => (0, 0, 0),
            ManifestName::Root { leader_epoch, generation } => (1, *leader_epoch, *generation),
        });
        for name in &names {
            self.bucket.on(Purpose::Manifest).delete(&self.names.manifest(topic, partition, *name)).await?;
        }
        Ok(names.len())
    }
}
