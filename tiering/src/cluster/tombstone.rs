//! `tomb/<topic id>`: this topic is deleted, whatever else lies in the bucket.

use uuid::Uuid;

use crate::store::StoreError;
use crate::tier::Tier;

impl Tier {
    /// Marks a topic as deleted; fine when it is already.
    pub async fn put_tombstone(&self, topic: Uuid) -> Result<(), StoreError> {
        // An object that is there already says the same.
        self.bucket.create(&self.names.tombstone(topic), bytes::Bytes::new()).await.map(|_| ())
    }

    /// Removes the mark, once nothing of the topic is left in the bucket; fine when it is gone already.
    pub async fn delete_tombstone(&self, topic: Uuid) -> Result<(), StoreError> {
        self.bucket.delete(&self.names.tombstone(topic)).await
    }

    /// All topics marked as deleted.
    pub async fn tombstones(&self) -> Result<Vec<Uuid>, StoreError> {
        let names = &self.names;
        self.bucket.list(&names.tombstones(), None, |meta| names.parse_tombstone(&meta.location)).await
    }
}
