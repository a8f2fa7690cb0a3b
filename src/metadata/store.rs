//! Where metadata lives: compare-and-set with watches. Embedded now; etcd later behind the same trait.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::watch;
use uuid::Uuid;

use super::image::{Change, Image};
use crate::protocol::record_batch::ProducerId;

/// A shared store.
pub type SharedMetadata = Arc<dyn MetadataStore>;

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody committed meanwhile: look again and retry.
    #[error("metadata changed meanwhile")]
    Conflict,
    /// The topic to create exists.
    #[error("topic '{0}' already exists")]
    TopicExists(String),
    /// The topic to change does not exist.
    #[error("topic {0} does not exist")]
    NoSuchTopic(Uuid),
    /// The store failed; nothing was committed.
    #[error("metadata store failed: {0}")]
    Store(String),
}

/// Compare-and-set over the whole image, with watches.
#[async_trait::async_trait]
pub trait MetadataStore: Send + Sync + Debug + 'static {
    /// The newest image. Cheap: one counted reference.
    fn image(&self) -> Arc<Image>;

    /// Tells of every new image.
    fn watch(&self) -> watch::Receiver<Arc<Image>>;

    /// Makes `changes` durable together and publishes the image that has them. With `expected` given, only if that is
    /// still the generation.
    async fn commit(&self, expected: Option<u64>, changes: Vec<Change>) -> Result<Arc<Image>, CommitError>;

    /// A block of producer ids that nobody was or will be given again, also after a crash.
    async fn allocate_producer_ids(&self, count: i64) -> Result<Range<ProducerId>, CommitError>;
}
