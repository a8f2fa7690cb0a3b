//! Sealed segments go into the bucket: begin, upload and verify, finish, publish. In order within a partition, some
//! partitions at once.
//!
//! A copy is announced before a byte is sent and counts only when its FINISHED row is durable; then the partition learns of
//! it, and only then may the local segment go. Every try has an id of its own, so what a failed one left in the bucket is
//! an orphan that no later one meets.

use std::sync::Arc;
use std::time::Duration;

use terrace_tiering::object::footer::{self, SegmentIdentity};
use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::upload::{SegmentUpload, UploadError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::job::RemoteLog;
use super::lag::{self, Due};
use super::observe;
use super::ownership::NotOwner;
use super::partition::SharedPartition;
use super::state::PartitionState;
use super::walk::{self, WalkError, Walked};
use crate::config::topic::Copies;
use crate::log::txn_index::AbortedTransaction;
use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::{RemoteLogError, RemoteSegment, SegmentState};
use crate::partition::tiered::{SealedInfo, SealedParts};

/// The wall clock may jump: nobody waits longer than this for a time of its.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Why a partition's next segment is not copied now.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    #[error(transparent)]
    NotOwner(#[from] NotOwner),
    #[error("{0}")]
    StoreDown(String),
    #[error("local segment {0}")]
    Local(WalkError),
    #[error("local segment cannot be opened: {0}")]
    Open(std::io::Error),
    #[error(transparent)]
    Metadata(#[from] RemoteLogError),
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error("{0}")]
    Task(#[from] tokio::task::JoinError),
}

/// How one look at a partition ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A segment was copied; there may be more.
    Copied,
    /// The segment is no longer wanted; what was sent is an orphan.
    Orphaned,
    /// Nothing to do until this time or the next roll.
    Wait(Option<Instant>),
}

impl RemoteLog {
    /// One of the copiers.
    pub(super) async fn copy_until(self: Arc<Self>, stopping: CancellationToken) {
        loop {
            let id = tokio::select! {
                () = stopping.cancelled() => return,
                id = self.rolls.next() => id,
            };
            // Never cut off between a row and what this process knows of it: a stop ends the upload, see `copy_segment`.
            let again = self.copy_partition(id, &stopping).await;
            self.rolls.done(id, again);
        }
    }

    /// Copies all that is due; returns when to look again.
    async fn copy_partition(&self, id: PartitionId, stopping: &CancellationToken) -> Option<Instant> {
        loop {
            if stopping.is_cancelled() {
                return None;
            }
            match self.copy_next(id, stopping).await {
                Ok(Outcome::Copied | Outcome::Orphaned) => self.succeeded(id),
                Ok(Outcome::Wait(again)) => return again,
                Err(CopyError::NotOwner(NotOwner::Lost(_))) => return None,
                Err(error) => {
                    let topic = self.partitions.get(id).map_or_else(|| "?".into(), |partition| partition.topic_name());
                    observe::copy_failed(&topic);
                    // The store says itself, once, that it is down.
                    if !matches!(error, CopyError::StoreDown(_)) {
                        tracing::warn!(%topic, partition = id.partition, %error, "segment is not copied; trying again");
                    }
                    return Some(self.retry_at(id));
                }
            }
        }
    }

    /// Copies the next segment of the partition if it is due.
    pub(super) async fn copy_next(&self, id: PartitionId, stopping: &CancellationToken) -> Result<Outcome, CopyError> {
        let Some(partition) = self.partitions.get(id) else { return Ok(Outcome::Wait(None)) };
        let config = partition.topic_config();
        match config.copies() {
            Copies::Stay => {}
            Copies::Go => self.given_up.notify_one(),
            Copies::ComeBack => self.drained.notify_one(),
        }
        if !config.takes_copies() {
            return Ok(Outcome::Wait(None));
        }
        self.may_write()?;
        let state = self.state(id);
        let tier_end = state.lock().await.tier_end();
        let now_ms = self.clock.now_ms();
        let looked_at = Arc::clone(&partition);
        let local = tokio::task::spawn_blocking(move || looked_at.local_info()).await?;
        match lag::next(&config, &partition.offsets(), &local, tier_end, now_ms) {
            Due::Idle => Ok(Outcome::Wait(None)),
            Due::At(at_ms) => {
                let wait = Duration::from_millis(u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(0));
                Ok(Outcome::Wait(Some(Instant::now() + wait.min(WAIT_MAX))))
            }
            Due::Seam { tier_end, local_start } => {
                if self.is_new_seam(id, tier_end) {
                    let offset = tier_end.max(local_start);
                    tracing::error!(
                        topic = %partition.topic_name(), partition = id.partition, tier_end, local_start,
                        "local segment does not follow on the tier's end: copying of this partition stops; \
                         delete its records below offset {offset} (kafka-delete-records) to go on"
                    );
                }
                Ok(Outcome::Wait(None))
            }
            Due::Now(segment) if self.is_refused(id, segment.base_offset) => Ok(Outcome::Wait(None)),
            Due::Now(segment) => self.copy_segment(&partition, &state, segment, stopping).await,
        }
    }

    async fn copy_segment(
        &self,
        partition: &SharedPartition,
        state: &PartitionState,
        segment: SealedInfo,
        stopping: &CancellationToken,
    ) -> Result<Outcome, CopyError> {
        if let Err(error) = self.tier.takes_writes().await {
            // The owner check asks the store every few seconds; it finds out when it is back.
            return Err(CopyError::StoreDown(error.to_string()));
        }
        let held = Arc::clone(partition);
        // Until the copy counts, or is given up.
        let _hold = tokio::task::spawn_blocking(move || held.hold_for_copy(segment.next_offset)).await?;
        let (files, walked) = match open_and_walk(partition, segment).await {
            Ok(read) => read,
            Err(CopyError::Local(error)) if error.is_corrupt() => {
                self.refuse(state.id, segment.base_offset);
                tracing::error!(
                    topic = %partition.topic_name(), partition = state.id.partition,
                    segment = segment.base_offset, %error,
                    "local segment is corrupt and is not copied, nor anything behind it; \
                     delete its records (kafka-delete-records) to go on"
                );
                return Ok(Outcome::Wait(None));
            }
            Err(error) => return Err(error),
        };
        let remote = self.describe(segment, &walked);
        let (store, epoch) = (&*self.segments, self.leader_epoch());
        let follows = {
            let mut known = state.lock().await;
            known.begin_copy(store, state.id, epoch, remote.clone()).await?;
            known.tier_end()
        };
        crash_point::reach(CrashPoint::CopyAfterStarted);
        let uploaded = tokio::select! {
            // What is on its way stays started and is an orphan at the next start.
            () = stopping.cancelled() => return Ok(Outcome::Wait(None)),
            uploaded = self.tier.upload(self.upload_of(partition, state.id, &remote, walked, files)) => uploaded,
        };

        let mut known = state.lock().await;
        let uploaded = match uploaded {
            Ok(uploaded) => uploaded,
            Err(error) => {
                known.orphan(store, state.id, epoch, remote.uuid, self.clock.now_ms()).await?;
                return Err(error.into());
            }
        };
        // Time has passed: is the segment still wanted, and are we still the one to say so?
        self.may_write()?;
        let below_log_start = partition.offsets().log_start > remote.last_offset;
        let topic_is_gone = self.metadata.image().topic_by_id(&state.id.topic).is_none();
        // What it was to follow was let go of with the tier: alone it would pass for a copy of all that lies below.
        let stands_alone = known.tier_end() != follows || partition.topic_config().copies() != Copies::Stay;
        if below_log_start || topic_is_gone || stands_alone {
            known.orphan(store, state.id, epoch, remote.uuid, self.clock.now_ms()).await?;
            return Ok(Outcome::Orphaned);
        }
        let finished = RemoteSegment { object_bytes: uploaded.object_bytes, ..remote };
        known.finish_copy(store, state.id, epoch, finished).await?;
        crash_point::reach(CrashPoint::CopyAfterFinished);
        partition.set_remote_chain(Arc::new(known.remote.chain()));
        self.root_is_behind(state.id, known.unrooted);
        self.may_merge(state.id);
        self.may_clean(state.id);
        observe::copied(&partition.topic_name(), segment.bytes);
        Ok(Outcome::Copied)
    }

    pub(super) fn describe(&self, segment: SealedInfo, walked: &Walked) -> RemoteSegment {
        RemoteSegment {
            uuid: self.new_uuid(),
            base_offset: segment.covers_from,
            // All of its range: cleaning may have taken its last records, and the next copy begins behind it.
            last_offset: segment.next_offset - 1,
            copy_epoch: self.leader_epoch(),
            log_bytes: segment.bytes,
            object_bytes: 0,
            first_timestamp: walked.first_timestamp,
            max_timestamp: walked.max_timestamp,
            max_timestamp_offset: walked.max_timestamp_offset,
            epochs: walked.epochs.clone(),
            state: SegmentState::CopyStarted,
        }
    }

    pub(super) fn upload_of(
        &self,
        partition: &SharedPartition,
        id: PartitionId,
        remote: &RemoteSegment,
        walked: Walked,
        files: SealedParts,
    ) -> SegmentUpload {
        SegmentUpload {
            identity: SegmentIdentity {
                cluster_id: self.metadata.image().cluster_id.to_string(),
                topic: id.topic,
                topic_name: partition.topic_name().to_string(),
                partition: id.partition,
                base_offset: remote.base_offset,
                last_offset: remote.last_offset,
                leader_epoch: remote.copy_epoch,
                uuid: remote.uuid,
                record_count: walked.record_count,
                batch_count: walked.batch_count,
                first_timestamp: walked.first_timestamp,
                max_timestamp: walked.max_timestamp,
                max_timestamp_offset: walked.max_timestamp_offset,
                flags: 0,
            },
            log: files.log,
            log_bytes: files.log_bytes,
            chunks: walked.chunks,
            epochs: walked.epochs,
            producer_snapshot: files.producer_snapshot,
            aborted: files.aborted.iter().map(footer_entry).collect(),
        }
    }
}

fn footer_entry(aborted: &AbortedTransaction) -> footer::AbortedTransaction {
    footer::AbortedTransaction {
        producer_id: aborted.producer_id,
        first_offset: aborted.first_offset,
        last_offset: aborted.last_offset,
        last_stable_offset: aborted.last_stable_offset,
    }
}

/// Reads the whole segment, away from the async workers.
pub(super) async fn open_and_walk(
    partition: &SharedPartition,
    segment: SealedInfo,
) -> Result<(SealedParts, Walked), CopyError> {
    let partition = Arc::clone(partition);
    let read = move || {
        let files = partition.open_sealed(&segment).map_err(CopyError::Open)?;
        let walked = walk::walk(&*files.log, files.log_bytes, segment.base_offset, segment.next_offset);
        Ok((files, walked.map_err(CopyError::Local)?))
    };
    tokio::task::spawn_blocking(read).await?
}
