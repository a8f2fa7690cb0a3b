//! Objects that nobody knows: no row, no retained manifest, and old enough that no copy can be on its way. A process that
//! lost its rows and an upload that arrived after its deletion leave such.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use terrace_tiering::manifest::ManifestError;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::job::RemoteLog;
use super::observe;
use super::ownership::NotOwner;

/// One LIST over all segments each time: rare, since an orphan costs nothing but its storage.
const SWEEP_EVERY: Duration = Duration::from_secs(6 * 3600);

#[derive(Debug, thiserror::Error)]
pub(super) enum OrphanError {
    #[error(transparent)]
    NotOwner(#[from] NotOwner),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl RemoteLog {
    pub(super) async fn delete_orphans_until(self: Arc<Self>, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
            let swept = tokio::select! {
                () = stopping.cancelled() => return,
                swept = self.delete_orphans() => swept,
            };
            match swept {
                Ok(_) | Err(OrphanError::NotOwner(NotOwner::Lost(_))) => {}
                Err(error) => tracing::warn!(%error, "orphans are left alone until the next turn"),
            }
        }
    }

    /// Of all segments in any state.
    pub(super) async fn known_uuids(&self) -> HashSet<Uuid> {
        let mut known = HashSet::new();
        for state in self.all_states() {
            known.extend(state.lock().await.remote.segments.iter().map(|segment| segment.uuid));
        }
        known
    }

    /// Finds, reports and deletes; returns how many.
    pub(super) async fn delete_orphans(&self) -> Result<usize, OrphanError> {
        self.may_write()?;
        let known = self.known_uuids().await;
        let mut orphans = self.tier.find_orphans(&known, self.settings.orphan_age_ms).await?;
        self.ownership.check(&self.tier).await?;
        if !orphans.is_empty() {
            // Age alone is no proof: clocks jump. A copy that began after the first look has its row before its object.
            let known = self.known_uuids().await;
            orphans.retain(|orphan| !known.contains(&orphan.uuid));
        }
        for orphan in &orphans {
            self.tier.delete(orphan).await.map_err(ManifestError::from)?;
            observe::deleted();
        }
        // The store keeps the parts of an object that a process did not finish; nothing reads them.
        if let Err(error) = self.tier.remove_stale_uploads(self.settings.orphan_age_ms).await {
            tracing::warn!(%error, "parts of uploads that died are left alone until the next turn");
        }
        Ok(orphans.len())
    }
}
