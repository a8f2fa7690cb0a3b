//! What this broker knows of one partition's remote segments: the rows of [`RemoteLogMetadata`] in memory, and the newest
//! root. All changes of a partition go through here, one after another, so that rows, chain and root agree.

use std::sync::Arc;

use terrace_tiering::ObjectRef;
use terrace_tiering::manifest::{Committed, ManifestEntry};
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::{RemoteLogError, RemoteLogMetadata, RemotePartition, RemoteSegment, SegmentState};
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// The remote state of one partition. The lock is held over metadata commits and root writes, never over an upload.
#[derive(Debug)]
pub(super) struct PartitionState {
    pub id: PartitionId,
    inner: Mutex<Known>,
}

/// The guarded part.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The rows.
    pub remote: RemotePartition,
    /// The newest root in the bucket; `None` when there is none.
    pub root: Option<Committed>,
    /// Changes that the newest root does not have.
    pub unrooted: u32,
    /// The copy that is on its way; any other started one is an orphan.
    pub copying: Option<Uuid>,
}

impl PartitionState {
    /// The state as it was loaded; with `unrooted` when the newest root differs.
    pub fn new(id: PartitionId, known: Known) -> Self {
        Self { id, inner: Mutex::new(known) }
    }

    pub async fn lock(&self) -> MutexGuard<'_, Known> {
        self.inner.lock().await
    }
}

impl Known {
    /// COPY_SEGMENT_STARTED.
    pub async fn begin_copy(
        &mut self,
        store: &dyn RemoteLogMetadata,
        id: PartitionId,
        epoch: LeaderEpoch,
        segment: RemoteSegment,
    ) -> Result<(), RemoteLogError> {
        let done = store.begin_copy(id, epoch, self.remote.generation, segment.clone()).await;
        self.remote.generation = self.settle(store, id, done).await?;
        self.put(RemoteSegment { state: SegmentState::CopyStarted, ..segment });
        Ok(())
    }

    /// COPY_SEGMENT_FINISHED.
    pub async fn finish_copy(
        &mut self,
        store: &dyn RemoteLogMetadata,
        id: PartitionId,
        epoch: LeaderEpoch,
        segment: RemoteSegment,
    ) -> Result<(), RemoteLogError> {
        let done = store.finish_copy(id, epoch, self.remote.generation, segment.clone()).await;
        self.remote.generation = self.settle(store, id, done).await?;
        self.put(RemoteSegment { state: SegmentState::CopyFinished, ..segment });
        self.unrooted += 1;
        Ok(())
    }

    /// DELETE_SEGMENT_STARTED, with the log start that made them useless.
    pub async fn mark_deleted(
        &mut self,
        store: &dyn RemoteLogMetadata,
        id: PartitionId,
        epoch: LeaderEpoch,
        segments: &[Uuid],
        log_start: Offset,
        now_ms: i64,
    ) -> Result<(), RemoteLogError> {
        let done = store.mark_deleted(id, epoch, self.remote.generation, segments, log_start, now_ms).await;
        self.remote.generation = self.settle(store, id, done).await?;
        for known in &mut self.remote.segments {
            let newly = segments.contains(&known.uuid) && !matches!(known.state, SegmentState::DeleteStarted { .. });
            if newly {
                self.unrooted += u32::from(known.state == SegmentState::CopyFinished);
                let state = SegmentState::DeleteStarted { at_ms: now_ms };
                *known = Arc::new(RemoteSegment { state, ..RemoteSegment::clone(known) });
            }
        }
        self.remote.log_start = self.remote.log_start.max(log_start);
        Ok(())
    }

    /// What a copy that failed or came too late left in the bucket is to be deleted. A request that was given up may still
    /// arrive there, so it waits out the grace time like everything else.
    pub async fn orphan(
        &mut self,
        store: &dyn RemoteLogMetadata,
        id: PartitionId,
        epoch: LeaderEpoch,
        uuid: Uuid,
        now_ms: i64,
    ) -> Result<(), RemoteLogError> {
        let log_start = self.remote.log_start;
        self.mark_deleted(store, id, epoch, &[uuid], log_start, now_ms).await
    }

    /// DELETE_SEGMENT_FINISHED.
    pub async fn finish_delete(
        &mut self,
        store: &dyn RemoteLogMetadata,
        id: PartitionId,
        epoch: LeaderEpoch,
        segments: &[Uuid],
    ) -> Result<(), RemoteLogError> {
        let done = store.finish_delete(id, epoch, self.remote.generation, segments).await;
        self.remote.generation = self.settle(store, id, done).await?;
        self.remote.segments.retain(|segment| !segments.contains(&segment.uuid));
        Ok(())
    }

    /// The offset behind the last readable segment; `None` when there is none.
    pub fn tier_end(&self) -> Option<Offset> {
        let mut newest_first = self.remote.segments.iter().rev();
        newest_first.find(|segment| segment.state == SegmentState::CopyFinished).map(|segment| segment.last_offset + 1)
    }

    /// What the next root names: the readable segments.
    pub fn entries(&self) -> Vec<ManifestEntry> {
        let readable = self.remote.segments.iter().filter(|segment| segment.state == SegmentState::CopyFinished);
        readable.map(|segment| manifest_entry(segment)).collect()
    }

    /// After a refusal the rows may be others than we think: look again, so that the next try starts from the truth.
    async fn settle(
        &mut self,
        store: &dyn RemoteLogMetadata,
        id: PartitionId,
        done: Result<u64, RemoteLogError>,
    ) -> Result<u64, RemoteLogError> {
        if done.is_err()
            && let Ok(loaded) = store.load(id).await
        {
            self.remote = loaded;
        }
        done
    }

    fn put(&mut self, segment: RemoteSegment) {
        let segments = &mut self.remote.segments;
        let key = (segment.base_offset, segment.uuid);
        match segments.binary_search_by_key(&key, |known| (known.base_offset, known.uuid)) {
            Ok(at) => segments[at] = Arc::new(segment),
            Err(at) => segments.insert(at, Arc::new(segment)),
        }
    }
}

/// The object of a segment.
pub(super) fn object_of(id: PartitionId, segment: &RemoteSegment) -> ObjectRef {
    ObjectRef {
        topic: id.topic,
        partition: id.partition,
        base_offset: segment.base_offset,
        last_offset: segment.last_offset,
        leader_epoch: segment.copy_epoch,
        uuid: segment.uuid,
        object_bytes: segment.object_bytes,
    }
}

fn manifest_entry(segment: &RemoteSegment) -> ManifestEntry {
    ManifestEntry {
        uuid: segment.uuid,
        base_offset: segment.base_offset,
        last_offset: segment.last_offset,
        leader_epoch: segment.copy_epoch,
        log_bytes: segment.log_bytes,
        object_bytes: segment.object_bytes,
        first_timestamp: segment.first_timestamp,
        max_timestamp: segment.max_timestamp,
        max_timestamp_offset: segment.max_timestamp_offset,
        epochs: segment.epochs.clone(),
    }
}
