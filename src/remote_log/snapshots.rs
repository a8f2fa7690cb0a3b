//! What a broker needs to come back from the bucket alone: every minute in which something changed, and at a clean stop, a
//! snapshot of the metadata image, of where each tiered partition stands, and of the coordinators.

pub mod content;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use terrace_tiering::cluster::snapshot::{Snapshot, SnapshotError, SnapshotSection};
use terrace_tiering::store::StoreError;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::job::RemoteLog;
use super::observe;
use super::ownership::NotOwner;
use crate::metadata::image::PartitionId;
use crate::protocol::record_batch::Offset;

/// Section of the metadata image, as JSON.
pub const IMAGE: u16 = 1;
/// Section of where each tiered partition stands: count u32, then topic id 16, partition i32, log start i64, tier end i64
/// (-1 for none), all big-endian.
pub const TIERED: u16 = 2;
/// ACLs, SCRAM credentials and delegation tokens, as Kafka wrote them.
pub const SECURITY: u16 = 3;
/// The first producer id that nobody was given.
pub const PRODUCER_IDS: u16 = 4;
/// The state of the group coordinator.
pub const COORDINATORS: u16 = 16;
/// The state of the transaction coordinator.
pub const TRANSACTION_COORDINATORS: u16 = 17;
/// The state of the share coordinator.
pub const SHARE_COORDINATORS: u16 = 18;

/// Every so many snapshots the ones that nobody needs are removed.
const PRUNE_EVERY: u64 = 16;

/// Somebody whose state belongs into the snapshot: the coordinators, whose topics are not tiered, and what metadata holds
/// beside its image.
#[async_trait::async_trait]
pub trait SectionSource: Send + Sync {
    /// The section's type: another than [`IMAGE`] and [`TIERED`], one per source.
    fn kind(&self) -> u16;

    /// Another number whenever the state may have changed.
    fn version(&self) -> u64;

    /// The state at one moment, with the offsets up to which it is the fold of its topics' records. `None`: not loaded
    /// yet, and then there is no snapshot this time.
    async fn section(&self) -> Option<Bytes>;
}

/// What the next snapshot builds upon.
pub(super) struct Snapshots {
    sources: Vec<Arc<dyn SectionSource>>,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    /// Number of the newest one in the bucket; `None` until it was asked.
    number: Option<u64>,
    /// What the last one of this run was made of.
    seen: Option<Seen>,
}

/// Equal when nothing changed.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    image: u64,
    tiered: Vec<(PartitionId, Offset, Offset)>,
    sources: Vec<u64>,
}

#[derive(Debug, thiserror::Error)]
enum NoSnapshot {
    #[error(transparent)]
    NotOwner(#[from] NotOwner),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

impl Snapshots {
    pub fn new(sources: Vec<Arc<dyn SectionSource>>) -> Self {
        Self { sources, last: Mutex::default() }
    }
}

impl RemoteLog {
    pub(super) async fn snapshot_until(self: Arc<Self>, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(Duration::from_millis(self.settings.snapshot_interval_ms.max(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await; // the first tick is now: what a start brings is written an interval later
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = ticks.tick() => self.write_snapshot().await,
            }
        }
    }

    /// Writes a snapshot if something changed; what fails is tried again at the next turn.
    pub(super) async fn write_snapshot(&self) {
        match self.try_snapshot().await {
            Ok(()) | Err(NoSnapshot::NotOwner(NotOwner::Lost(_))) => {}
            Err(error) => tracing::warn!(%error, "metadata snapshot is not written; the next turn does it"),
        }
    }

    async fn try_snapshot(&self) -> Result<(), NoSnapshot> {
        self.may_write()?;
        let mut last = self.snapshots.last.lock().await;
        let seen = Seen {
            image: self.metadata.image().generation,
            tiered: self.tiered().await,
            sources: self.snapshots.sources.iter().map(|source| source.version()).collect(),
        };
        if last.seen.as_ref() == Some(&seen) {
            return Ok(());
        }
        let mut of_sources = Vec::with_capacity(self.snapshots.sources.len());
        for source in &self.snapshots.sources {
            let Some(bytes) = source.section().await else { return Ok(()) };
            of_sources.push(SnapshotSection { kind: source.kind(), bytes });
        }
        // Taken last: every topic that the coordinators speak of is in the image, and the tier has at least what it had.
        let mut sections = vec![
            SnapshotSection { kind: IMAGE, bytes: content::encode_image(&self.metadata.image()) },
            SnapshotSection { kind: TIERED, bytes: content::encode_tiered(&self.tiered().await) },
        ];
        sections.append(&mut of_sources);
        self.ownership.check(&self.tier).await?;
        let before = match last.number {
            Some(number) => Some(number),
            None => self.tier.newest_snapshot_number().await?,
        };
        let number = before.map_or(0, |number| number + 1);
        match self.tier.put_snapshot(&Snapshot { number, sections }).await {
            Ok(()) => {}
            Err(fenced @ SnapshotError::Fenced(_)) => {
                self.ownership.lose(&fenced);
                return Err(fenced.into());
            }
            Err(error) => return Err(error.into()),
        }
        *last = Last { number: Some(number), seen: Some(seen) };
        self.snapshot_was_written(self.clock.now_ms());
        observe::snapshot_written();
        if number % PRUNE_EVERY == PRUNE_EVERY - 1
            && let Err(error) = self.tier.prune_snapshots().await
        {
            tracing::debug!(%error, "old metadata snapshots are not removed; a later turn does it");
        }
        Ok(())
    }

    /// Log start and tier end of each partition with remote state, by id.
    async fn tiered(&self) -> Vec<(PartitionId, Offset, Offset)> {
        let mut tiered = Vec::new();
        for state in self.all_states() {
            let known = state.lock().await;
            let log_start = self.partitions.get(state.id).map(|partition| partition.offsets().log_start);
            let log_start = log_start.unwrap_or(known.remote.log_start);
            tiered.push((state.id, log_start, known.tier_end().unwrap_or(-1)));
        }
        tiered.sort_unstable();
        tiered
    }
}
