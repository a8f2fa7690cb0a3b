//! What is known to be damaged in the bucket, and how it becomes whole again: while the local segment is still there, it
//! is copied once more and takes the damaged copy's place.
//!
//! What was found is a row of the metadata, so that a restart neither forgets it nor waits for the scrubber's next turn. The
//! new copy is begun, uploaded and verified as any other, under an id of its own; then it is FINISHED and the damaged one
//! DELETE_STARTED in one step.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use terrace_tiering::platform::crash_point::{self, CrashPoint};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::copier::{CopyError, open_and_walk};
use super::job::RemoteLog;
use super::observe;
use super::partition::SharedPartition;
use super::state::PartitionState;
use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::{KnownDamage, RemoteLogError, RemoteSegment, SegmentState};
use crate::metadata::remote_replacement::Replacement;
use crate::partition::tiered::SealedInfo;

/// Damaged segments that are named in health.
const NAMED_MAX: usize = 3;

/// Segments that were found damaged and are still named.
#[derive(Debug, Default)]
pub(super) struct Damaged(Mutex<BTreeMap<Uuid, (PartitionId, String)>>);

impl Damaged {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, (PartitionId, String)>> {
        // A map of texts: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of which `is_gone` is true.
    pub(super) fn which(&self, is_gone: impl Fn(&Uuid) -> bool) -> Vec<(PartitionId, Uuid)> {
        let damaged = self.lock();
        let gone = damaged.iter().filter(|(segment, _)| is_gone(segment));
        gone.map(|(segment, (partition, _))| (*partition, *segment)).collect()
    }

    /// What health says; `None` when there are none.
    fn summary(&self) -> Option<String> {
        let damaged = self.lock();
        let named: Vec<&str> = damaged.values().take(NAMED_MAX).map(|(_, what)| what.as_str()).collect();
        (!named.is_empty()).then(|| format!("{} damaged segments in the bucket: {}", damaged.len(), named.join("; ")))
    }
}

impl RemoteLog {
    /// What of the bucket was found damaged and is still named; `None` when nothing is known to be.
    pub fn damage(&self) -> Option<String> {
        self.damaged.summary()
    }

    /// Knows again what earlier lives of the broker found. False when it is to be asked again.
    pub(super) async fn recall_damage(&self) -> bool {
        let known = match self.segments.damage().await {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!(%error, "what was found damaged before is not known yet");
                return false;
            }
        };
        let known = known.into_iter().map(|KnownDamage { partition, segment, what }| (segment, (partition, what)));
        self.damaged.lock().extend(known);
        true
    }

    pub(super) async fn is_damaged(&self, id: PartitionId, segment: Uuid, what: String) {
        let noted = self.segments.note_damage(id, segment, Some(&what)).await;
        if self.damaged.lock().insert(segment, (id, what)).is_none() {
            observe::scrub_found_damage();
        }
        if let Err(error) = noted {
            tracing::warn!(%error, "damage of a segment is not noted; the next start does not know of it");
        }
    }

    /// Whole again, or named no more.
    pub(super) async fn is_not_damaged(&self, id: PartitionId, segment: Uuid) {
        if self.damaged.lock().remove(&segment).is_some()
            && let Err(error) = self.segments.note_damage(id, segment, None).await
        {
            tracing::warn!(%error, "a segment that is whole again is still noted as damaged");
        }
    }

    /// Copies again what is damaged and still local.
    pub(super) async fn mend(&self, stopping: &CancellationToken) {
        for (id, damaged) in self.damaged.which(|_| true) {
            if stopping.is_cancelled() {
                return;
            }
            let Some(partition) = self.partitions.get(id) else { continue };
            match self.mend_one(&partition, damaged, stopping).await {
                Ok(false) => {}
                Ok(true) => {
                    let (topic, partition) = (partition.topic_name(), id.partition);
                    tracing::info!(%topic, partition, %damaged, "a damaged segment in the bucket was copied again");
                    self.is_not_damaged(id, damaged).await;
                }
                Err(error) => {
                    let (topic, partition) = (partition.topic_name(), id.partition);
                    observe::copy_failed(&topic);
                    tracing::warn!(%topic, partition, %error, "damaged segment is not copied again; trying later");
                }
            }
        }
    }

    /// True when another copy has its place.
    async fn mend_one(
        &self,
        partition: &SharedPartition,
        damaged: Uuid,
        stopping: &CancellationToken,
    ) -> Result<bool, CopyError> {
        if !partition.topic_config().takes_copies() {
            return Ok(false);
        }
        let state = self.state(partition.id());
        let is_it = |row: &&Arc<RemoteSegment>| row.uuid == damaged && row.state == SegmentState::CopyFinished;
        let Some(old) = state.lock().await.remote.segments.iter().find(is_it).map(Arc::clone) else { return Ok(false) };
        let looked_at = Arc::clone(partition);
        let local = tokio::task::spawn_blocking(move || looked_at.local_info()).await?;
        // What was merged since is another segment. The cleaner leaves alone what was copied, but a copy covers the offsets
        // of those in front of it that it has emptied.
        let is_local = |sealed: &&SealedInfo| {
            sealed.next_offset - 1 == old.last_offset
                && sealed.base_offset >= old.base_offset
                && sealed.bytes == old.log_bytes
        };
        let Some(sealed) = local.sealed.iter().find(is_local) else { return Ok(false) };
        let sealed = SealedInfo { covers_from: old.base_offset, ..*sealed };
        self.may_write()?;
        self.tier.takes_writes().await.map_err(|error| CopyError::StoreDown(error.to_string()))?;
        let (files, walked) = open_and_walk(partition, sealed).await?;
        let new = self.describe(sealed, &walked);
        state.lock().await.begin_copy(&*self.segments, state.id, self.leader_epoch(), new.clone()).await?;
        crash_point::reach(CrashPoint::CopyAfterStarted);
        let upload = self.upload_of(partition, state.id, &new, walked, files);
        let uploaded = tokio::select! {
            // What is on its way stays started and is an orphan at the next start.
            () = stopping.cancelled() => return Ok(false),
            uploaded = self.tier.upload(upload) => uploaded,
        };
        let new = match uploaded {
            Ok(uploaded) => RemoteSegment { object_bytes: uploaded.object_bytes, ..new },
            Err(error) => {
                self.gave_up(&state, new.uuid).await?;
                return Err(error.into());
            }
        };
        self.take_its_place(partition, &state, &old, new).await
    }

    async fn take_its_place(
        &self,
        partition: &SharedPartition,
        state: &PartitionState,
        old: &RemoteSegment,
        new: RemoteSegment,
    ) -> Result<bool, CopyError> {
        let (uuid, bytes) = (new.uuid, new.log_bytes);
        let replacement = Replacement { replaced: vec![old.uuid], by: vec![new], now_ms: self.clock.now_ms() };
        let mut known = state.lock().await;
        self.may_write()?;
        match known.replace(&*self.segments, state.id, self.leader_epoch(), &replacement).await {
            Ok(()) => known.is_not_clean(old.base_offset),
            // Meanwhile it was deleted, or merged with others.
            Err(RemoteLogError::BadState(_)) => {
                drop(known);
                self.gave_up(state, uuid).await?;
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        crash_point::reach(CrashPoint::CopyAfterFinished);
        partition.set_remote_chain(Arc::new(known.remote.chain()));
        self.root_is_behind(state.id, known.unrooted);
        observe::copied(&partition.topic_name(), bytes);
        Ok(true)
    }

    /// What came of a copy is an orphan.
    async fn gave_up(&self, state: &PartitionState, uuid: Uuid) -> Result<(), RemoteLogError> {
        let mut known = state.lock().await;
        known.orphan(&*self.segments, state.id, self.leader_epoch(), uuid, self.clock.now_ms()).await
    }
}
