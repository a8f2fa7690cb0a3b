//! Objects below the log start go away. The partition moves the log start itself, by retention over both tiers or because
//! somebody deleted records; where tiering is given up it is moved here.
//!
//! In this order, each step durable before the next: DELETE_SEGMENT_STARTED together with the log start, a root that no
//! longer names the segments, the grace time, the objects, DELETE_SEGMENT_FINISHED. Whatever a crash leaves, the next pass goes on there:
//! what is marked stays unreadable, and what the newest root names exists.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use terrace_tiering::manifest::ManifestError;
use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::store::StoreError;
use tokio::sync::MutexGuard;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::job::RemoteLog;
use super::manifests::RootError;
use super::observe;
use super::ownership::NotOwner;
use super::partition::SharedPartition;
use super::state::{Known, PartitionState, object_of};
use crate::config::topic::Copies;
use crate::metadata::remote_log::{RemoteLogError, RemoteSegment, SegmentState};
use crate::partition::read::ReadError;
use crate::protocol::record_batch::Offset;

/// Partitions whose objects are deleted at once.
const PARALLEL_MAX: usize = 8;

/// Why a pass over a partition ended early; the next one goes on.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExpireError {
    #[error(transparent)]
    NotOwner(#[from] NotOwner),
    #[error("log start does not move: {0}")]
    LogStart(#[from] ReadError),
    #[error(transparent)]
    Metadata(#[from] RemoteLogError),
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl RemoteLog {
    /// Passes over all partitions every task interval, when topics are deleted, and when one gives up its tier.
    pub(super) async fn expire_until(self: Arc<Self>, stopping: CancellationToken) {
        let mut images = self.metadata.watch();
        let mut ticks = tokio::time::interval(Duration::from_millis(self.settings.task_interval_ms.max(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut topics = images.borrow_and_update().topics.len();
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = ticks.tick() => {}
                () = self.given_up.notified() => {}
                changed = images.changed() => {
                    let left = images.borrow_and_update().topics.len();
                    let fewer = left < topics;
                    topics = left;
                    match changed {
                        Err(_) => return,
                        Ok(()) if !fewer => continue,
                        Ok(()) => {}
                    }
                }
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                () = self.expire_all() => {}
            }
        }
    }

    /// One pass over all partitions with remote state.
    pub(super) async fn expire_all(&self) {
        let pass = |state: Arc<PartitionState>| async move {
            match self.expire(&state).await {
                Ok(()) | Err(ExpireError::NotOwner(NotOwner::Lost(_))) => {}
                Err(error) => {
                    observe::delete_failed();
                    tracing::warn!(partition = ?state.id, %error, "remote retention is behind; trying again");
                }
            }
        };
        futures::stream::iter(self.all_states()).for_each_concurrent(PARALLEL_MAX, pass).await;
    }

    /// One pass over one partition.
    pub(super) async fn expire(&self, state: &PartitionState) -> Result<(), ExpireError> {
        self.may_write()?;
        if self.metadata.image().topic_by_id(&state.id.topic).is_none() {
            return self.expire_deleted(state).await;
        }
        // A partition that is not open yet has a log start that nobody knows.
        let Some(partition) = self.partitions.get(state.id) else { return Ok(()) };
        partition.opened().await;
        let copies = partition.topic_config().copies();
        if copies == Copies::Go && state.lock().await.tier_end().is_some() {
            // As Kafka does: what only the bucket has is gone at once, for good.
            partition.raise_log_start(partition.offsets().local_start).await?;
        }
        let mut known = state.lock().await;
        let all = self.lets_go(&partition, copies, &known).await;
        let log_start = partition.offsets().log_start;
        let useless = |segment: &RemoteSegment| all || segment.last_offset < log_start;
        let marked = self.mark(state, &mut known, useless, log_start).await;
        if all || matches!(marked, Ok(true)) {
            partition.set_remote_chain(Arc::new(known.remote.chain()));
        }
        if marked? {
            crash_point::reach(CrashPoint::RemoteDeleteAfterStarted);
        }
        self.delete_marked(state, known).await
    }

    /// Are all copies of a topic that is no longer tiered useless by now? Then nothing local goes on their word any more.
    async fn lets_go(&self, partition: &SharedPartition, copies: Copies, known: &Known) -> bool {
        let Some(tier_end) = known.tier_end() else { return false };
        let durable_below = match copies {
            Copies::Stay => return false,
            Copies::Go => None,
            // What came back was synced; what was local all the time is made durable by the one who asks.
            Copies::ComeBack => Some(tier_end),
        };
        let offsets = partition.offsets();
        if offsets.local_start > offsets.log_start {
            return false;
        }
        let partition = Arc::clone(partition);
        let asked = tokio::task::spawn_blocking(move || partition.let_go_of_copies(durable_below));
        asked.await.unwrap_or(false)
    }

    /// A deleted topic: a tombstone first, so that a restore from the bucket knows, then everything.
    async fn expire_deleted(&self, state: &PartitionState) -> Result<(), ExpireError> {
        let mut known = state.lock().await;
        let unmarked = |segment: &Arc<RemoteSegment>| !matches!(segment.state, SegmentState::DeleteStarted { .. });
        if known.remote.segments.iter().any(unmarked) {
            self.ownership.check(&self.tier).await?;
            self.tier.put_tombstone(state.id.topic).await?;
            let log_start = known.remote.log_start;
            if self.mark(state, &mut known, |_| true, log_start).await? {
                crash_point::reach(CrashPoint::RemoteDeleteAfterStarted);
            }
        }
        self.delete_marked(state, known).await?;
        let known = state.lock().await;
        if known.remote.segments.is_empty() {
            self.ownership.check(&self.tier).await?;
            self.tier.delete_manifests(state.id.topic, state.id.partition).await?;
            self.segments.forget(state.id).await?;
            self.drop_state(state.id);
        }
        Ok(())
    }

    /// Marks what is useless, and copies that nobody works on. True if something was marked.
    async fn mark(
        &self,
        state: &PartitionState,
        known: &mut Known,
        useless: impl Fn(&RemoteSegment) -> bool,
        log_start: Offset,
    ) -> Result<bool, ExpireError> {
        let doomed = |segment: &&Arc<RemoteSegment>| match segment.state {
            SegmentState::CopyFinished => useless(segment),
            SegmentState::CopyStarted => !known.is_being_copied(segment.uuid),
            SegmentState::DeleteStarted { .. } => false,
        };
        let doomed: Vec<Uuid> = known.remote.segments.iter().filter(doomed).map(|segment| segment.uuid).collect();
        if doomed.is_empty() {
            return Ok(false);
        }
        let (epoch, now_ms) = (self.leader_epoch(), self.clock.now_ms());
        known.mark_deleted(&*self.segments, state.id, epoch, &doomed, log_start, now_ms).await?;
        self.root_is_behind(state.id, known.unrooted);
        Ok(true)
    }

    /// Deletes the objects whose grace time is over. The newest root names none of them, and none that follows will: a mark
    /// is for good. So copies and merges go on while the store deletes, which may take its time.
    async fn delete_marked(&self, state: &PartitionState, mut known: MutexGuard<'_, Known>) -> Result<(), ExpireError> {
        let marked = |segment: &Arc<RemoteSegment>| matches!(segment.state, SegmentState::DeleteStarted { .. });
        if !known.remote.segments.iter().any(marked) {
            return Ok(());
        }
        self.write_root_of(state.id, &mut known).await?;
        let (now_ms, grace_ms) = (self.clock.now_ms(), self.settings.delete_grace_ms);
        let over = |segment: &&Arc<RemoteSegment>| match segment.state {
            // A mark that lies further ahead than the grace time was made while the clock was wrong: nobody knows when it
            // would be over.
            SegmentState::DeleteStarted { at_ms } => now_ms.abs_diff(at_ms) >= grace_ms.unsigned_abs(),
            SegmentState::CopyStarted | SegmentState::CopyFinished => false,
        };
        let over: Vec<_> = known.remote.segments.iter().filter(over).map(Arc::clone).collect();
        drop(known);
        if over.is_empty() {
            return Ok(());
        }
        crash_point::reach(CrashPoint::RemoteDeleteAfterRoot);
        self.ownership.check(&self.tier).await?;
        for segment in &over {
            self.tier.delete(&object_of(state.id, segment)).await?;
            observe::deleted();
        }
        let uuids: Vec<Uuid> = over.iter().map(|segment| segment.uuid).collect();
        let mut known = state.lock().await;
        known.finish_delete(&*self.segments, state.id, self.leader_epoch(), &uuids).await?;
        Ok(())
    }
}
