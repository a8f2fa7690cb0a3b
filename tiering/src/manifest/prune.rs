//! Removes roots and leaves that nobody needs.

use uuid::Uuid;

use super::ManifestError;
use crate::tier::Tier;

impl Tier {
    /// Keeps the last 16 roots and the last of each hour within `remote.manifest.retention.ms`, with their leaves; removes
    /// the others. Returns how many objects went.
    pub async fn prune_manifests(&self, topic: Uuid, partition: i32) -> Result<usize, ManifestError> {
        let _ = (topic, partition);
        todo!()
    }
}
