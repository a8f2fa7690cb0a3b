//! A manifest from the objects themselves.

use uuid::Uuid;

use super::ManifestEntry;
use crate::read::ReadError;
use crate::tier::Tier;

impl Tier {
    /// The chain of readable segments that a LIST finds: footers read, unreadable objects left out with a warning, of two
    /// that overlap the one with the higher leader epoch.
    pub async fn rebuild_manifest(&self, topic: Uuid, partition: i32) -> Result<Vec<ManifestEntry>, ReadError> {
        let _ = (topic, partition);
        todo!()
    }
}
