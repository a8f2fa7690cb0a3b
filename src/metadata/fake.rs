//! A store for tests: the embedded one over memory, which can be told to conflict, to fail, and to take the node's
//! leadership away.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use redb::backends::InMemoryBackend;
use terrace_tiering::platform::random::SeededRandom;
use tokio::sync::watch;
use uuid::Uuid;

use super::embedded::EmbeddedStore;
use super::image::{Change, Image, PartitionId};
use super::remote_log::{KnownDamage, RemoteLogError, RemoteLogMetadata, RemotePartition, RemoteSegment};
use super::remote_replacement::Replacement;
use super::store::{CommitError, MetadataStore};
use crate::protocol::record_batch::{LeaderEpoch, Offset, ProducerId};

/// See the module.
#[derive(Debug)]
pub struct FakeStore {
    inner: Arc<EmbeddedStore>,
    commit_errors: Mutex<VecDeque<CommitError>>,
    remote_errors: Mutex<VecDeque<Option<RemoteLogError>>>,
    /// Set once the leadership was taken: the image with the other's epoch.
    taken: watch::Sender<Arc<Image>>,
}

impl FakeStore {
    /// An empty store with node epoch 0.
    pub fn new() -> Arc<Self> {
        let inner = EmbeddedStore::open_backend(InMemoryBackend::new(), None, &*SeededRandom::new(1));
        Self::over(inner.expect("memory does not fail"))
    }

    /// The same over a store that outlives it in its file.
    pub fn over(inner: Arc<EmbeddedStore>) -> Arc<Self> {
        let taken = watch::channel(inner.image()).0;
        Arc::new(Self { inner, commit_errors: Mutex::default(), remote_errors: Mutex::default(), taken })
    }

    /// The next commit answers this and changes nothing.
    pub fn fail_commit(&self, error: CommitError) {
        self.commit_errors.lock().expect("no panic under this lock").push_back(error);
    }

    /// The remote log change after `passing` more ones answers this and changes nothing.
    pub fn fail_remote(&self, passing: usize, error: RemoteLogError) {
        let mut errors = self.remote_errors.lock().expect("no panic under this lock");
        errors.extend(std::iter::repeat_with(|| None).take(passing));
        errors.push_back(Some(error));
    }

    /// Somebody else leads from now on: the image shows a higher epoch, changes with the old one are refused.
    pub fn take_leadership(&self) {
        let mut image = Image::clone(&self.image());
        image.node_epoch += 1;
        image.generation += 1;
        self.taken.send_replace(Arc::new(image));
    }

    fn planned(&self, leader_epoch: LeaderEpoch) -> Result<(), RemoteLogError> {
        if leader_epoch < self.image().node_epoch {
            return Err(RemoteLogError::Fenced);
        }
        let planned = self.remote_errors.lock().expect("no panic under this lock").pop_front();
        planned.flatten().map_or(Ok(()), Err)
    }
}

#[async_trait::async_trait]
impl MetadataStore for FakeStore {
    fn image(&self) -> Arc<Image> {
        Arc::clone(&self.taken.borrow())
    }

    fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.taken.subscribe()
    }

    async fn commit(&self, expected: Option<u64>, changes: Vec<Change>) -> Result<Arc<Image>, CommitError> {
        if let Some(error) = self.commit_errors.lock().expect("no panic under this lock").pop_front() {
            return Err(error);
        }
        if self.image().node_epoch != self.inner.image().node_epoch {
            return Err(CommitError::Conflict);
        }
        let image = self.inner.commit(expected, changes).await?;
        self.taken.send_replace(Arc::clone(&image));
        Ok(image)
    }

    async fn allocate_producer_ids(&self, count: i64) -> Result<Range<ProducerId>, CommitError> {
        self.inner.allocate_producer_ids(count).await
    }
}

#[async_trait::async_trait]
impl RemoteLogMetadata for FakeStore {
    async fn load(&self, partition: PartitionId) -> Result<RemotePartition, RemoteLogError> {
        self.inner.load(partition).await
    }

    async fn partitions(&self) -> Result<Vec<PartitionId>, RemoteLogError> {
        self.inner.partitions().await
    }

    async fn begin_copy(
        &self,
        partition: PartitionId,
        leader_epoch: LeaderEpoch,
        expected: u64,
        segment: RemoteSegment,
    ) -> Result<u64, RemoteLogError> {
        self.planned(leader_epoch)?;
        self.inner.begin_copy(partition, leader_epoch, expected, segment).await
    }

    async fn finish_copy(
        &self,
        partition: PartitionId,
        leader_epoch: LeaderEpoch,
        expected: u64,
        segment: RemoteSegment,
    ) -> Result<u64, RemoteLogError> {
        self.planned(leader_epoch)?;
        self.inner.finish_copy(partition, leader_epoch, expected, segment).await
    }

    async fn mark_deleted(
        &self,
        partition: PartitionId,
        leader_epoch: LeaderEpoch,
        expected: u64,
        segments: &[Uuid],
        log_start: Offset,
        now_ms: i64,
    ) -> Result<u64, RemoteLogError> {
        self.planned(leader_epoch)?;
        self.inner.mark_deleted(partition, leader_epoch, expected, segments, log_start, now_ms).await
    }

    async fn replace(
        &self,
        partition: PartitionId,
        leader_epoch: LeaderEpoch,
        expected: u64,
        replacement: &Replacement,
    ) -> Result<u64, RemoteLogError> {
        self.planned(leader_epoch)?;
        self.inner.replace(partition, leader_epoch, expected, replacement).await
    }

    async fn finish_delete(
        &self,
        partition: PartitionId,
        leader_epoch: LeaderEpoch,
        expected: u64,
        segments: &[Uuid],
    ) -> Result<u64, RemoteLogError> {
        self.planned(leader_epoch)?;
        self.inner.finish_delete(partition, leader_epoch, expected, segments).await
    }

    async fn damage(&self) -> Result<Vec<KnownDamage>, RemoteLogError> {
        self.inner.damage().await
    }

    async fn note_damage(
        &self,
        partition: PartitionId,
        segment: Uuid,
        what: Option<&str>,
    ) -> Result<(), RemoteLogError> {
        self.inner.note_damage(partition, segment, what).await
    }

    async fn forget(&self, partition: PartitionId) -> Result<(), RemoteLogError> {
        self.inner.forget(partition).await
    }
}
