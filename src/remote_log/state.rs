//! What this broker knows of one partition's remote segments: the rows of [`RemoteLogMetadata`] in memory, and the newest
//! root. All changes of a partition go through here, one after another, so that rows, chain and root agree.

use std::collections::HashSet;
use std::sync::Arc;

use terrace_tiering::ObjectRef;
use terrace_tiering::manifest::{Committed, ManifestEntry};
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::{RemoteLogError, RemoteLogMetadata, RemotePartition, RemoteSegment, SegmentState};
use crate::metadata::remote_replacement::Replacement;
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// The remote state of one partition. The lock is held over metadata commits and root writes, never over an upload.
#[derive(Debug)]
pub(super) struct PartitionState {
    pub id: PartitionId,
    inner: Mutex<Known>,
    /// Held by whoever writes readable segments anew, over all of that.
    pub rewriting: Mutex<()>,
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
    /// Those that are on their way into the bucket.
    copying: HashSet<Uuid>,
    /// The readable segments below were met by rounds of the cleaner, up to here; 0 where nobody knows. It is kept in roots
    /// only: what is lost of it costs a round that looks at more.
    pub cleaned_end: Offset,
}

impl PartitionState {
    /// The state as it was loaded; with `unrooted` when the newest root differs.
    pub fn new(id: PartitionId, known: Known) -> Self {
        Self { id, inner: Mutex::new(known), rewriting: Mutex::new(()) }
    }

    pub async fn lock(&self) -> MutexGuard<'_, Known> {
        self.inner.lock().await
    }
}

impl Known {
    /// What a start found.
    pub fn loaded(remote: RemotePartition, root: Option<Committed>, unrooted: u32) -> Self {
        Self { remote, root, unrooted, ..Self::default() }
    }

    /// Is it on its way into the bucket? From [`Known::begin_copy`] until it counts, or is an orphan, or the change that
    /// was to make it so failed: any other started one is nobody's.
    pub fn is_being_copied(&self, segment: Uuid) -> bool {
        self.copying.contains(&segment)
    }

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
        self.copying.insert(segment.uuid);
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
        self.copying.remove(&segment.uuid);
        let done = store.finish_copy(id, epoch, self.remote.generation, segment.clone()).await;
        self.remote.generation = self.settle(store, id, done).await?;
        self.is_not_clean(segment.base_offset);
        self.put(RemoteSegment { state: SegmentState::CopyFinished, ..segment });
        self.unrooted += 1;
        Ok(())
    }

    /// A round has ended there.
    pub fn was_cleaned(&mut self, end: Offset) {
        self.cleaned_end = end;
        self.unrooted += 1;
    }

    /// What lies at `from` or above came by a copy.
    pub fn is_not_clean(&mut self, from: Offset) {
        self.cleaned_end = self.cleaned_end.min(from);
    }

    /// New segments count in place of those that they replace. Whoever calls gives the partition the new chain and says
    /// that the root is behind.
    pub async fn replace(
        &mut self,
        store: &dyn RemoteLogMetadata,
        id: PartitionId,
        epoch: LeaderEpoch,
        replacement: &Replacement,
    ) -> Result<(), RemoteLogError> {
        for segment in &replacement.by {
            self.copying.remove(&segment.uuid);
        }
        let (first, last) = replacement.offsets().unwrap_or_default();
        let changed = replacement.rows(self.beginning_in(first, last).iter().map(|row| &**row))?;
        let done = store.replace(id, epoch, self.remote.generation, replacement).await;
        self.remote.generation = self.settle(store, id, done).await?;
        changed.into_iter().for_each(|segment| self.put(segment));
        self.unrooted += 1;
        Ok(())
    }

    /// All segments, in whatever state, that begin at `first` to `last`.
    pub fn beginning_in(&self, first: Offset, last: Offset) -> &[Arc<RemoteSegment>] {
        let segments = &self.remote.segments;
        let from = segments.partition_point(|segment| segment.base_offset < first);
        let to = segments.partition_point(|segment| segment.base_offset <= last);
        segments.get(from..to).unwrap_or_default()
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
        self.copying.remove(&uuid);
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

/// What a manifest says of a segment.
pub(crate) fn manifest_entry(segment: &RemoteSegment) -> ManifestEntry {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::fake::FakeStore;

    const P: PartitionId = PartitionId { topic: Uuid::from_u128(5), partition: 2 };

    fn segment(base_offset: Offset, last_offset: Offset) -> RemoteSegment {
        RemoteSegment { state: SegmentState::CopyStarted, ..RemoteSegment::covering(base_offset, last_offset) }
    }

    #[tokio::test]
    async fn a_replacement_is_the_same_in_memory_and_in_the_rows() {
        let store = FakeStore::new();
        let mut known = Known::default();
        for base in [0, 10, 20, 30] {
            known.begin_copy(&*store, P, 0, segment(base, base + 9)).await.unwrap();
            known.finish_copy(&*store, P, 0, segment(base, base + 9)).await.unwrap();
        }
        let new = [segment(10, 14), segment(15, 29)];
        for segment in &new {
            known.begin_copy(&*store, P, 0, segment.clone()).await.unwrap();
        }
        let replaced = vec![segment(10, 19).uuid, segment(20, 29).uuid];
        let replacement = Replacement { replaced, by: new.to_vec(), now_ms: 7 };
        let is_as_stored = async |known: &Known| {
            let stored = store.load(P).await.unwrap();
            assert_eq!((known.remote.generation, &known.remote.segments), (stored.generation, &stored.segments));
            known.entries().iter().map(|entry| (entry.base_offset, entry.last_offset)).collect::<Vec<_>>()
        };

        store.fail_remote(0, RemoteLogError::Store("disk is full".to_owned()));
        assert!(known.replace(&*store, P, 0, &replacement).await.is_err());
        assert_eq!(is_as_stored(&known).await, [(0, 9), (10, 19), (20, 29), (30, 39)]);

        known.unrooted = 0;
        known.replace(&*store, P, 0, &replacement).await.unwrap();
        assert_eq!(is_as_stored(&known).await, [(0, 9), (10, 14), (15, 29), (30, 39)]);
        assert_eq!((known.unrooted, known.tier_end()), (1, Some(40)), "the root is behind, the tier ends where it did");

        let again = known.replace(&*store, P, 0, &replacement).await;
        assert!(matches!(again, Err(RemoteLogError::BadState(_))), "{again:?}");
    }

    #[tokio::test]
    async fn what_is_begun_is_on_its_way_until_it_counts_or_is_given_up() {
        let store = FakeStore::new();
        let mut known = Known::default();
        let [finished, replacing, orphan, failed] = [segment(0, 9), segment(0, 9), segment(10, 19), segment(20, 29)];
        let replacing = RemoteSegment { uuid: Uuid::from_u128(7), ..replacing };
        for segment in [&finished, &replacing, &orphan, &failed] {
            known.begin_copy(&*store, P, 0, segment.clone()).await.unwrap();
            assert!(known.is_being_copied(segment.uuid));
        }
        known.finish_copy(&*store, P, 0, finished.clone()).await.unwrap();
        assert!(!known.is_being_copied(finished.uuid) && known.is_being_copied(replacing.uuid));
        let replacement = Replacement { replaced: vec![finished.uuid], by: vec![replacing.clone()], now_ms: 7 };
        known.replace(&*store, P, 0, &replacement).await.unwrap();
        known.orphan(&*store, P, 0, orphan.uuid, 8).await.unwrap();
        store.fail_remote(0, RemoteLogError::Store("disk is full".to_owned()));
        known.finish_copy(&*store, P, 0, failed).await.unwrap_err();
        assert_eq!(known.copying, HashSet::new());
    }
}
