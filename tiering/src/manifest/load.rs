//! Reads the newest root.

use uuid::Uuid;

use super::{Manifest, ManifestError};
use crate::store::StoreError;
use crate::tier::Tier;

impl Tier {
    /// The newest manifest of a partition; `None` when it has none.
    pub async fn load_manifest(&self, topic: Uuid, partition: i32) -> Result<Option<Manifest>, ManifestError> {
        let _ = (topic, partition);
        todo!()
    }

    /// Leader epoch and generation of the newest root of every partition in the bucket, by LIST alone.
    pub async fn newest_roots(&self) -> Result<Vec<(Uuid, i32, i32, u64)>, StoreError> {
        todo!()
    }
}
