//! `tomb/<topic id>`: this topic is deleted, whatever else lies in the bucket.

use uuid::Uuid;

use crate::store::StoreError;
use crate::tier::Tier;

impl Tier {
    /// Marks a topic as deleted; fine when it is already.
    pub async fn put_tombstone(&self, topic: Uuid) -> Result<(), StoreError> {
        let _ = topic;
        todo!()
    }

    /// All topics marked as deleted.
    pub async fn tombstones(&self) -> Result<Vec<Uuid>, StoreError> {
        todo!()
    }
}
