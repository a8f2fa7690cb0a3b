//! Small segments of the bucket are put together: a quiet partition rolls every hour and would leave thousands of objects a
//! year. One job of the node, one partition at a time, woken by copies.
//!
//! What is merged is announced, uploaded and verified as any copy is, and counts from one step on that takes the place of
//! all it holds: [`Known::replace`]. Why it is done so stands in docs/decisions/0017-merging-small-segments.md.
//!
//! - [`plan`]: which segments.
//! - [`join`]: what they are together.

pub(crate) mod join;
pub(super) mod memory_file;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use terrace_tiering::ObjectRef;
use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::tier::CopyMemory;
use terrace_tiering::upload::{UploadError, Uploaded};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::join::{JoinError, Joined};
use super::job::RemoteLog;
use super::observe;
use super::ownership::NotOwner;
use super::partition::SharedPartition;
use super::state::{Known, PartitionState, object_of};
use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::{RemoteLogError, RemoteSegment};
use crate::metadata::remote_replacement::Replacement;

/// Nothing hangs on a merge: it can wait.
const RETRY: Duration = Duration::from_secs(60);

/// Why nothing was merged.
#[derive(Debug, thiserror::Error)]
pub(super) enum MergeError {
    #[error(transparent)]
    NotOwner(#[from] NotOwner),
    #[error("{0}")]
    StoreDown(String),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(transparent)]
    Metadata(#[from] RemoteLogError),
    #[error(transparent)]
    Upload(#[from] UploadError),
}

/// How one look at a partition ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Merged {
    /// So many segments are one now; there may be more.
    Segments(usize),
    /// What was merged is not wanted any more, or cannot be merged; what was sent is an orphan. There may be others.
    Other,
    /// There is nothing to merge.
    Nothing,
}

impl RemoteLog {
    pub(super) async fn merge_until(self: Arc<Self>, stopping: CancellationToken) {
        if self.settings.merge_target_bytes == 0 {
            return;
        }
        for state in self.all_states() {
            self.merges.wake_unless_waiting(state.id);
        }
        loop {
            let id = tokio::select! {
                () = stopping.cancelled() => return,
                id = self.merges.next() => id,
            };
            let again = match self.merge_next(id, &stopping).await {
                // The others have their turn first.
                Ok(Merged::Segments(_) | Merged::Other) => Some(Instant::now()),
                Ok(Merged::Nothing) | Err(MergeError::NotOwner(NotOwner::Lost(_))) => None,
                Err(error) => {
                    observe::merge_failed();
                    // The store says itself, once, that it is down.
                    if !matches!(error, MergeError::StoreDown(_)) {
                        tracing::warn!(partition = ?id, %error, "segments are not merged; trying again");
                    }
                    Some(Instant::now() + RETRY)
                }
            };
            self.merges.done(id, again);
        }
    }

    /// A segment more is in the bucket.
    pub(super) fn may_merge(&self, id: PartitionId) {
        if self.settings.merge_target_bytes > 0 {
            self.merges.wake_unless_waiting(id);
        }
    }

    /// Merges the next run of the partition that is worth it.
    pub(super) async fn merge_next(&self, id: PartitionId, stopping: &CancellationToken) -> Result<Merged, MergeError> {
        let Some(partition) = self.partitions.get(id).filter(may_be_merged) else { return Ok(Merged::Nothing) };
        self.may_write()?;
        partition.opened().await;
        // Of one that is offline nobody knows what of it is deleted.
        let Some(log_start) = partition.log_start() else { return Ok(Merged::Nothing) };
        let state = self.state(id);
        // A round of the cleaner wakes this job when it has ended.
        let Ok(_rewriting) = state.rewriting.try_lock() else { return Ok(Merged::Nothing) };
        let run = {
            let known = state.lock().await;
            let readable = known.remote.chain().segments;
            let is_left_out = |segment: &RemoteSegment| self.is_unmergeable(segment.uuid);
            match plan::next(&readable, log_start, self.settings.merge_target_bytes, is_left_out) {
                Some(run) => readable[run].to_vec(),
                None => return Ok(Merged::Nothing),
            }
        };
        self.tier.takes_writes().await.map_err(|error| MergeError::StoreDown(error.to_string()))?;
        let objects: Vec<ObjectRef> = run.iter().map(|segment| object_of(id, segment)).collect();
        let read = async {
            // The records, and once more what of them is on its way.
            let bytes = objects.iter().map(|object| object.object_bytes).sum::<u64>();
            let memory = self.tier.copy_memory(2 * bytes).await;
            join::join(&self.tier, &objects, None).await.map(|joined| (memory, joined))
        };
        let read = tokio::select! {
            () = stopping.cancelled() => return Ok(Merged::Nothing),
            read = read => read,
        };
        let (memory, joined) = match read {
            Ok(read) => read,
            Err(error) if self.is_deleted_meanwhile(&state, &run).await => {
                tracing::debug!(partition = ?id, %error, "segments to be merged were deleted");
                return Ok(Merged::Other);
            }
            Err(error) if error.is_for_good() => {
                match error.which() {
                    Some(uuid) => self.leave_unmerged([uuid]),
                    None => self.leave_unmerged(run.iter().map(|segment| segment.uuid)),
                }
                observe::merge_failed();
                tracing::error!(
                    topic = %partition.topic_name(), partition = id.partition, base_offset = run[0].base_offset, %error,
                    "a segment in the bucket stays unmerged; terrace remote verify tells what is wrong with it"
                );
                return Ok(Merged::Other);
            }
            Err(error) => return Err(error.into()),
        };
        self.replace(&partition, &state, &run, joined, &memory, stopping).await
    }

    /// Puts the merged segment into the bucket and in the place of `run`.
    async fn replace(
        &self,
        partition: &SharedPartition,
        state: &PartitionState,
        run: &[Arc<RemoteSegment>],
        joined: Joined,
        memory: &CopyMemory,
        stopping: &CancellationToken,
    ) -> Result<Merged, MergeError> {
        let (store, epoch) = (&*self.segments, self.leader_epoch());
        let (merged, upload) = joined.into_copy(self.new_uuid(), epoch);
        state.lock().await.begin_copy(store, state.id, epoch, merged.clone()).await?;
        crash_point::reach(CrashPoint::MergeAfterStarted);
        let uploaded = tokio::select! {
            // What is on its way stays started and is an orphan at the next start.
            () = stopping.cancelled() => return Ok(Merged::Nothing),
            uploaded = self.tier.upload_merged(upload, memory) => uploaded,
        };

        let mut known = state.lock().await;
        let Uploaded { object_bytes, .. } = match uploaded {
            Ok(uploaded) => uploaded,
            Err(error) => {
                known.orphan(store, state.id, epoch, merged.uuid, self.clock.now_ms()).await?;
                return Err(error.into());
            }
        };
        crash_point::reach(CrashPoint::MergeAfterUpload);
        // Time has passed: are they all still there, and are we still the one to say so?
        self.may_write()?;
        if !self.is_wanted(partition, &known, run) {
            known.orphan(store, state.id, epoch, merged.uuid, self.clock.now_ms()).await?;
            return Ok(Merged::Other);
        }
        let bytes = merged.log_bytes;
        let replacement = Replacement {
            replaced: run.iter().map(|segment| segment.uuid).collect(),
            by: vec![RemoteSegment { object_bytes, ..merged }],
            now_ms: self.clock.now_ms(),
        };
        known.replace(store, state.id, epoch, &replacement).await?;
        crash_point::reach(CrashPoint::MergeAfterReplaced);
        partition.set_remote_chain(Arc::new(known.remote.chain()));
        self.root_is_behind(state.id, known.unrooted);
        observe::merged(run.len(), bytes);
        Ok(Merged::Segments(run.len()))
    }

    /// Is all of `run` still readable, and the topic as it was? What retention, DeleteRecords, a deletion or the end of
    /// tiering took meanwhile does not come back in a merged segment.
    fn is_wanted(&self, partition: &SharedPartition, known: &Known, run: &[Arc<RemoteSegment>]) -> bool {
        let [Some(first), Some(last)] = [run.first(), run.last()] else { return false };
        let rows = known.beginning_in(first.base_offset, last.base_offset);
        partition.log_start().is_some_and(|log_start| log_start <= first.base_offset)
            && self.metadata.image().topic_by_id(&partition.id().topic).is_some()
            && may_be_merged(partition)
            && run.iter().all(|segment| rows.contains(segment))
    }

    /// Is one of `run` not readable any more?
    async fn is_deleted_meanwhile(&self, state: &PartitionState, run: &[Arc<RemoteSegment>]) -> bool {
        let known = state.lock().await;
        run.iter().any(|segment| !known.beginning_in(segment.base_offset, segment.base_offset).contains(segment))
    }
}

/// A topic that takes copies takes merged ones.
fn may_be_merged(partition: &SharedPartition) -> bool {
    partition.topic_config().takes_copies()
}
