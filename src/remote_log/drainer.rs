//! Copies come back into the local log of a topic that is no longer tiered (`remote.log.drain.on.disable`); then the
//! expirer deletes them.
//!
//! The newest segment comes first, so that the local log has no gap at any moment: each is complete, checked, synced and
//! part of the log before the next begins. Nothing comes back unless there is room for all of it. One partition at a time.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use terrace_tiering::object::footer::Footer;
use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::read::ReadError;
use tokio_util::sync::CancellationToken;

use super::job::RemoteLog;
use super::observe;
use super::partition::SharedPartition;
use super::state::{Known, PartitionState, object_of};
use super::walk::{self, WalkError};
use crate::config::topic::Copies;
use crate::log::pulled::{Pulled, PulledFile};
use crate::log::txn_index::AbortedTransaction;
use crate::metadata::remote_log::{RemoteSegment, SegmentState};
use crate::partition::Offsets;
use crate::partition::read::ReadError as PartitionError;
use crate::protocol::record_batch::Offset;

/// Records of a segment take at most so much of its indexes and what else lies beside it: 1 in this many bytes.
const BESIDE_SHARE: u64 = 32;

/// Why a partition's copies are not back yet; the next pass goes on.
#[derive(Debug, thiserror::Error)]
pub(super) enum DrainError {
    #[error("{needed} bytes are to come back and the log directory has room for {room}")]
    NoRoom { needed: u64, room: u64 },
    #[error("offset {0} is neither local nor in the tier")]
    Gap(Offset),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("file of a segment that comes back: {0}")]
    File(#[from] io::Error),
    #[error("segment {base_offset} in the tier {why}")]
    Walk { base_offset: Offset, why: WalkError },
    #[error("segment {0} in the tier holds other batches than its row says")]
    OtherBatches(Offset),
    #[error(transparent)]
    Partition(#[from] PartitionError),
    #[error("{0}")]
    Task(#[from] tokio::task::JoinError),
}

/// What of a partition is only in the tier.
struct Missing {
    /// The newest segment of it.
    newest: Option<Arc<RemoteSegment>>,
    segments: usize,
    bytes: u64,
}

impl Missing {
    fn of(known: &Known, offsets: &Offsets) -> Self {
        let is_missing = |segment: &&Arc<RemoteSegment>| {
            segment.state == SegmentState::CopyFinished
                && segment.base_offset < offsets.local_start
                && segment.last_offset >= offsets.log_start
        };
        let mut missing = Self { newest: None, segments: 0, bytes: 0 };
        for segment in known.remote.segments.iter().filter(is_missing) {
            missing.segments += 1;
            missing.bytes += segment.log_bytes + segment.log_bytes / BESIDE_SHARE;
            missing.newest = Some(Arc::clone(segment));
        }
        missing
    }
}

impl RemoteLog {
    /// Passes over all partitions, at the start, every task interval, and when a topic is drained.
    pub(super) async fn drain_until(self: Arc<Self>, stopping: CancellationToken) {
        let interval = Duration::from_millis(self.settings.task_interval_ms.max(1));
        loop {
            self.tell_what_is_to_come_back().await;
            for state in self.all_states() {
                let Some(partition) = self.partitions.get(state.id) else { continue };
                if partition.topic_config().copies() != Copies::ComeBack {
                    continue;
                }
                tokio::select! {
                    () = stopping.cancelled() => return,
                    drained = self.drain(&state, &partition) => if let Err(error) = drained {
                        let (topic, partition) = (partition.topic_name(), state.id.partition);
                        tracing::warn!(%topic, partition, %error, "copies do not come back; trying again");
                    }
                }
            }
            tokio::select! {
                () = stopping.cancelled() => return,
                () = self.drained.notified() => {}
                () = tokio::time::sleep(interval) => {}
            }
        }
    }

    /// Brings all back that is only in the tier, as long as the topic wants it.
    pub(super) async fn drain(&self, state: &PartitionState, partition: &SharedPartition) -> Result<(), DrainError> {
        let mut pulled = 0;
        partition.opened().await;
        while partition.topic_config().copies() == Copies::ComeBack {
            let offsets = partition.offsets();
            if offsets.local_start <= offsets.log_start {
                break;
            }
            let missing = Missing::of(&*state.lock().await, &offsets);
            let newest = missing.newest.ok_or(DrainError::Gap(offsets.local_start - 1))?;
            if let Some(room) = partition.room_bytes().filter(|room| *room < missing.bytes) {
                return Err(DrainError::NoRoom { needed: missing.bytes, room });
            }
            if pulled == 0 {
                let (topic, partition) = (partition.topic_name(), state.id.partition);
                let (segments, bytes) = (missing.segments, missing.bytes);
                tracing::info!(%topic, partition, segments, bytes, "copies come back into the local log");
            }
            self.pull(state, partition, &newest, offsets.local_start).await?;
            pulled += 1;
            self.tell_what_is_to_come_back().await;
        }
        if pulled > 0 {
            let (topic, partition) = (partition.topic_name(), state.id.partition);
            tracing::info!(%topic, partition, segments = pulled, "copies are back in the local log");
            self.given_up.notify_one();
        }
        Ok(())
    }

    /// Segments and bytes that are still only in the tier, of all topics that are drained.
    pub(super) async fn to_come_back(&self) -> (usize, u64) {
        let (mut segments, mut bytes) = (0, 0);
        for state in self.all_states() {
            let Some(partition) = self.partitions.get(state.id) else { continue };
            if partition.topic_config().copies() == Copies::ComeBack {
                partition.opened().await;
                let missing = Missing::of(&*state.lock().await, &partition.offsets());
                segments += missing.segments;
                bytes += missing.bytes;
            }
        }
        (segments, bytes)
    }

    async fn tell_what_is_to_come_back(&self) {
        let (segments, bytes) = self.to_come_back().await;
        observe::to_come_back(segments as u64, bytes);
    }

    /// Brings back what `segment` has below `local_start`.
    async fn pull(
        &self,
        state: &PartitionState,
        partition: &SharedPartition,
        segment: &Arc<RemoteSegment>,
        local_start: Offset,
    ) -> Result<(), DrainError> {
        let object = object_of(state.id, segment);
        let footer = self.tier.footer(&object).await?;
        let (of_thread, base) = (Arc::clone(partition), segment.base_offset);
        let file = tokio::task::spawn_blocking(move || of_thread.begin_pull(base)).await??;
        let mut chunk = 0;
        while let Some(window) = self.tier.window(&object, &footer, chunk).await? {
            chunk = window.next_chunk;
            let records = Arc::clone(file.records());
            let write = move || records.write_all_at(&window.bytes, window.position);
            tokio::task::spawn_blocking(write).await??;
        }
        let (of_thread, segment) = (Arc::clone(partition), Arc::clone(segment));
        let end = move || end_pull(&of_thread, file, &segment, &footer, local_start);
        tokio::task::spawn_blocking(end).await?
    }
}

/// Checks what came, batch by batch, and makes it a part of the local log. Blocks.
fn end_pull(
    partition: &SharedPartition,
    file: PulledFile,
    segment: &RemoteSegment,
    footer: &Footer,
    local_start: Offset,
) -> Result<(), DrainError> {
    let base_offset = segment.base_offset;
    let failed = |why| DrainError::Walk { base_offset, why };
    // A copy that several segments were merged into may reach into what is local.
    let is_cut = segment.last_offset >= local_start;
    let bytes = match is_cut {
        true => walk::position_of(&**file.records(), footer.log_bytes, local_start).map_err(failed)?,
        false => footer.log_bytes,
    };
    file.records().set_len(bytes)?;
    // Where compaction has left nothing below the local log, an empty segment comes back.
    if bytes > 0 {
        let walked = walk::walk(&**file.records(), bytes, base_offset, local_start).map_err(failed)?;
        let told = (footer.identity.batch_count, footer.identity.record_count);
        if !is_cut && (walked.batch_count, walked.record_count) != told {
            return Err(DrainError::OtherBatches(base_offset));
        }
    }
    let mut aborted: Vec<_> = footer
        .aborted
        .iter()
        .filter(|aborted| (base_offset..local_start).contains(&aborted.last_offset))
        .map(|aborted| AbortedTransaction {
            producer_id: aborted.producer_id,
            first_offset: aborted.first_offset,
            last_offset: aborted.last_offset,
            last_stable_offset: aborted.last_stable_offset,
        })
        .collect();
    aborted.sort_unstable_by_key(|aborted| aborted.last_offset);
    let producer_snapshot = if is_cut { Bytes::new() } else { footer.producer_snapshot.clone() };
    crash_point::reach(CrashPoint::DrainBeforeName);
    let has_open = footer.aborted.iter().any(|aborted| aborted.last_offset >= local_start);
    let pulled = Pulled { next: local_start, bytes, aborted, has_open, producer_snapshot };
    // Where it is not wanted any more, the next look tells what is.
    partition.end_pull(file, &pulled)?;
    crash_point::reach(CrashPoint::DrainAfterName);
    Ok(())
}
