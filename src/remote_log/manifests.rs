//! The bucket's own account of each partition: a root after 16 changes or 10 s, at a clean stop, and before anything that
//! an older root names is deleted. Roots follow the rows and are never ahead of them.

use std::sync::Arc;
use std::time::Duration;

use terrace_tiering::manifest::ManifestError;
use terrace_tiering::manifest::commit::RootContent;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::job::RemoteLog;
use super::observe;
use super::ownership::NotOwner;
use super::state::{Known, PartitionState};
use crate::metadata::image::PartitionId;

/// A root is written after this many changes,
const CHANGES_MAX: u32 = 16;
/// or when the oldest change is this old.
const AGE_MAX: Duration = Duration::from_secs(10);
/// Every so many roots the ones that nobody needs are removed.
const PRUNE_EVERY: u64 = 16;

/// Why a root is not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum RootError {
    #[error(transparent)]
    NotOwner(#[from] NotOwner),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl RemoteLog {
    /// The newest root lacks `unrooted` changes.
    pub(super) fn root_is_behind(&self, id: PartitionId, unrooted: u32) {
        if unrooted >= CHANGES_MAX {
            self.roots.wake(id);
        } else if unrooted > 0 {
            self.roots.wake_at(id, Instant::now() + AGE_MAX);
        }
    }

    pub(super) async fn write_roots_until(self: Arc<Self>, stopping: CancellationToken) {
        loop {
            let id = tokio::select! {
                () = stopping.cancelled() => return,
                id = self.roots.next() => id,
            };
            let again = match self.write_root(&self.state(id)).await {
                Ok(()) | Err(RootError::NotOwner(NotOwner::Lost(_))) => None,
                Err(error) => {
                    tracing::warn!(partition = ?id, %error, "manifest root is not written; trying again");
                    Some(Instant::now() + AGE_MAX)
                }
            };
            self.roots.done(id, again);
        }
    }

    /// Brings the newest root up to date; nothing if it is.
    pub(super) async fn write_root(&self, state: &PartitionState) -> Result<(), RootError> {
        let mut known = state.lock().await;
        self.write_root_of(state.id, &mut known).await
    }

    /// The same for who holds the lock already.
    pub(super) async fn write_root_of(&self, id: PartitionId, known: &mut Known) -> Result<(), RootError> {
        if known.unrooted == 0 {
            return Ok(());
        }
        self.may_write()?;
        self.ownership.check(&self.tier).await?;
        let entries = known.entries();
        let log_start = self.partitions.get(id).map_or(0, |partition| partition.offsets().log_start);
        // A partition that is not online tells none, and a log start never falls.
        let rooted = known.root.as_ref().map_or(0, |committed| committed.root.log_start);
        let content = RootContent {
            topic: id.topic,
            partition: id.partition,
            leader_epoch: self.leader_epoch(),
            writer: self.ownership.claim().process,
            log_start: known.remote.log_start.max(log_start).max(rooted),
            cleaned_end: known.cleaned_end,
            entries: &entries,
        };
        let committed = match self.tier.commit_root(known.root.as_ref(), content).await {
            Ok(committed) => committed,
            Err(fenced @ ManifestError::Fenced { .. }) => {
                self.ownership.lose(&fenced);
                return Err(fenced.into());
            }
            Err(error) => return Err(error.into()),
        };
        let generation = committed.root.generation;
        known.root = Some(committed);
        known.unrooted = 0;
        observe::root_written();
        if generation % PRUNE_EVERY == 0
            && let Err(error) = self.tier.prune_manifests(id.topic, id.partition).await
        {
            tracing::debug!(partition = ?id, %error, "old manifests are not removed; the next turn does it");
        }
        Ok(())
    }
}
