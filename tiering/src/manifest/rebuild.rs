//! A manifest from the objects themselves, when the root is lost or behind.

use uuid::Uuid;

use super::ManifestEntry;
use crate::names::ObjectRef;
use crate::object::footer::Footer;
use crate::read::ReadError;
use crate::store::meter::Purpose;
use crate::tier::Tier;

impl Tier {
    /// The chain of readable segments that a LIST finds: footers read, unreadable objects left out with a warning, of two
    /// that overlap the one with the higher leader epoch (then the one that reaches further). What a later broker copied
    /// again is what it could vouch for.
    pub async fn rebuild_manifest(&self, topic: Uuid, partition: i32) -> Result<Vec<ManifestEntry>, ReadError> {
        let mut objects = self.list_segments(topic, partition).await?;
        objects.sort_by_key(|object| (-object.leader_epoch, object.base_offset, -object.last_offset, object.uuid));
        let mut chain: Vec<ManifestEntry> = Vec::new();
        for object in objects {
            let at = chain.partition_point(|entry| entry.last_offset < object.base_offset);
            if chain.get(at).is_some_and(|next| next.base_offset <= object.last_offset) {
                tracing::warn!(%object.uuid, object.base_offset, "segment overlaps a newer copy; left out");
                continue;
            }
            match self.footer(&object).await {
                Ok(footer) => chain.insert(at, entry(&object, &footer)),
                Err(error @ (ReadError::Footer { .. } | ReadError::Gone(_))) => {
                    tracing::warn!(%error, "segment left out of the rebuilt manifest");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(chain)
    }

    /// All segment objects of a partition, by LIST.
    pub async fn list_segments(&self, topic: Uuid, partition: i32) -> Result<Vec<ObjectRef>, ReadError> {
        let names = &self.names;
        let prefix = names.segments(topic, partition);
        Ok(self
            .bucket
            .on(Purpose::Restore)
            .list(&prefix, None, |meta| names.parse_segment(&meta.location, meta.size))
            .await?)
    }
}

/// The entry of an object, as its footer describes it.
pub(crate) fn entry(object: &ObjectRef, footer: &Footer) -> ManifestEntry {
    ManifestEntry {
        uuid: object.uuid,
        base_offset: object.base_offset,
        last_offset: object.last_offset,
        leader_epoch: object.leader_epoch,
        log_bytes: footer.log_bytes,
        object_bytes: object.object_bytes,
        first_timestamp: footer.identity.first_timestamp,
        max_timestamp: footer.identity.max_timestamp,
        max_timestamp_offset: footer.identity.max_timestamp_offset,
        epochs: footer.epochs.clone(),
    }
}
