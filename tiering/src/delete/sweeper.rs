//! Orphans: segment objects that are old enough, that no retained manifest names, and that the caller does not know.

use std::collections::HashSet;

use uuid::Uuid;

use crate::manifest::ManifestError;
use crate::names::ObjectRef;
use crate::tier::Tier;

impl Tier {
    /// Finds orphans older than `age_ms`. `known` are the uuids of all segments in any state that the broker knows. A
    /// partition whose manifests cannot be read has no orphans.
    pub async fn find_orphans(&self, known: &HashSet<Uuid>, age_ms: i64) -> Result<Vec<ObjectRef>, ManifestError> {
        let _ = (known, age_ms);
        todo!()
    }
}
