//! Writes the next root.

use uuid::Uuid;

use super::{Committed, ManifestEntry, ManifestError};
use crate::tier::Tier;

/// What the next root shall say.
#[derive(Debug, Clone, Copy)]
pub struct RootContent<'a> {
    /// The topic's id.
    pub topic: Uuid,
    /// The partition's number.
    pub partition: i32,
    /// The writer's leader epoch; not below that of the root before.
    pub leader_epoch: i32,
    /// The broker process.
    pub writer: Uuid,
    /// Log start offset of the partition.
    pub log_start: i64,
    /// All readable segments (FINISHED), by offset.
    pub entries: &'a [ManifestEntry],
}

impl Tier {
    /// Creates the root behind `previous` (from [`Tier::load_manifest`] or the commit before; `None` when the partition
    /// has none). An error other than [`ManifestError::Fenced`] changes nothing that a later commit would not repair.
    pub async fn commit_root(
        &self,
        previous: Option<&Committed>,
        content: RootContent<'_>,
    ) -> Result<Committed, ManifestError> {
        let _ = (previous, content);
        todo!()
    }
}
