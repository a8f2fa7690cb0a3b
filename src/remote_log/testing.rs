//! What the tests of the jobs share: batches, segments, and a partition without a log.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::Notify;

pub(super) use super::merge::memory_file::MemoryFile;
use super::partition::{PartitionSource, SharedPartition, TieredPartition};
use crate::config::layers::Dynamic;
use crate::config::server::BrokerConfig;
use crate::config::topic::TopicConfig;
use crate::log::pulled::{Pulled, PulledFile};
use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::RemoteChain;
use crate::partition::Offsets;
use crate::partition::read::ReadError;
use crate::partition::tiered::{CopyHold, LocalInfo, SealedInfo, SealedParts};
use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// A tiered topic: copied at once, kept for ever.
pub(super) fn topic_config() -> TopicConfig {
    let mut config = TopicConfig::resolve(&BrokerConfig::defaults(), Dynamic::none(), "t", &BTreeMap::new());
    config.remote_storage_enable = true;
    config.remote_log_copy_disable = false;
    (config.remote_copy_lag_ms, config.remote_copy_lag_bytes) = (0, 0);
    (config.retention_ms, config.retention_bytes) = (None, None);
    (config.local_retention_ms, config.local_retention_bytes) = (None, None);
    config
}

/// `count` records from `base_offset` on, all with one timestamp.
pub(super) fn batch(base_offset: Offset, count: i32, epoch: LeaderEpoch, timestamp_ms: i64) -> Vec<u8> {
    batch_of(base_offset, count, epoch, timestamp_ms, b"value")
}

/// The same with this value in each record.
fn batch_of(base_offset: Offset, count: i32, epoch: LeaderEpoch, timestamp_ms: i64, value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(base_offset);
    for delta in 0..count {
        builder.push(delta, timestamp_ms, None, Some(value), [].into_iter());
    }
    let mut bytes = builder.finish();
    crate::protocol::record_batch::stamp(&mut bytes, base_offset, epoch);
    bytes
}

/// A partition of topic `t`: sealed segments in memory, no active one.
#[derive(Debug)]
pub(super) struct FakePartition {
    id: PartitionId,
    inner: Mutex<Fake>,
    published: Notify,
}

#[derive(Debug)]
pub(super) struct Fake {
    pub config: TopicConfig,
    pub offsets: Offsets,
    pub segments: Vec<(SealedInfo, Vec<u8>)>,
    pub chain: Arc<RemoteChain>,
    /// Its files cannot be used.
    pub is_offline: bool,
    /// What the next move of the log start answers instead of moving.
    pub log_start_error: Option<ReadError>,
}

impl FakePartition {
    pub fn new(id: PartitionId) -> Arc<Self> {
        let offsets =
            Offsets { log_start: 0, local_start: 0, high_watermark: 0, last_stable: 0, log_end: 0, leader_epoch: 0 };
        let (config, chain) = (topic_config(), Arc::default());
        let inner = Fake { config, offsets, segments: Vec::new(), chain, is_offline: false, log_start_error: None };
        Arc::new(Self { id, inner: Mutex::new(inner), published: Notify::new() })
    }

    /// Looks at the inside or changes it.
    pub fn with<T>(&self, work: impl FnOnce(&mut Fake) -> T) -> T {
        work(&mut self.inner.lock().expect("no panic under this lock"))
    }

    /// Seals a segment of ten records with this time behind the others.
    pub fn seal(&self, timestamp_ms: i64) {
        self.seal_of(timestamp_ms, b"value");
    }

    /// The same with this value in each record.
    pub fn seal_of(&self, timestamp_ms: i64, value: &[u8]) {
        self.with(|fake| {
            let (base_offset, epoch) = (fake.offsets.log_end, fake.offsets.leader_epoch);
            let batch = |base_offset, count| batch_of(base_offset, count, epoch, timestamp_ms, value);
            let bytes = [batch(base_offset, 4), batch(base_offset + 4, 6)].concat();
            let segment = SealedInfo {
                base_offset,
                covers_from: base_offset,
                next_offset: base_offset + 10,
                bytes: bytes.len() as u64,
                first_timestamp: timestamp_ms,
                max_timestamp: timestamp_ms,
            };
            fake.segments.push((segment, bytes));
            let end = base_offset + 10;
            (fake.offsets.log_end, fake.offsets.high_watermark, fake.offsets.last_stable) = (end, end, end);
        });
    }

    /// Waits until readers find this many segments in the tier.
    pub async fn until_readable(&self, count: usize) {
        while self.readable().len() != count {
            self.published.notified().await;
        }
    }

    /// First and last offsets of what readers find in the tier.
    pub fn readable(&self) -> Vec<(Offset, Offset)> {
        self.with(|fake| fake.chain.segments.iter().map(|s| (s.base_offset, s.last_offset)).collect())
    }
}

#[async_trait::async_trait]
impl TieredPartition for FakePartition {
    fn id(&self) -> PartitionId {
        self.id
    }

    fn topic_name(&self) -> Arc<str> {
        "t".into()
    }

    fn topic_config(&self) -> Arc<TopicConfig> {
        self.with(|fake| Arc::new(fake.config.clone()))
    }

    async fn opened(&self) {}

    fn offsets(&self) -> Offsets {
        self.with(|fake| fake.offsets)
    }

    fn log_start(&self) -> Option<Offset> {
        self.with(|fake| (!fake.is_offline).then_some(fake.offsets.log_start))
    }

    fn local_info(&self) -> LocalInfo {
        let sealed = self.with(|fake| fake.segments.iter().map(|(segment, _)| *segment).collect());
        LocalInfo { sealed, ..LocalInfo::default() }
    }

    fn hold_for_copy(&self, _: Offset) -> CopyHold {
        CopyHold::default()
    }

    fn open_sealed(&self, wanted: &SealedInfo) -> io::Result<SealedParts> {
        let bytes = self.with(|fake| {
            let found = fake.segments.iter().find(|(segment, _)| segment == wanted);
            found.map(|(_, bytes)| bytes.clone())
        });
        let bytes = bytes.ok_or(io::ErrorKind::NotFound)?;
        let (log_bytes, producer_snapshot) = (bytes.len() as u64, Bytes::from_static(b"producers"));
        let log = Arc::new(MemoryFile::new(bytes));
        Ok(SealedParts { log, log_bytes, producer_snapshot, aborted: Vec::new() })
    }

    fn cleaning_memory(&self) -> usize {
        1 << 20
    }

    fn set_remote_chain(&self, chain: Arc<RemoteChain>) {
        self.with(|fake| fake.chain = chain);
        self.published.notify_one();
    }

    fn room_bytes(&self) -> Option<u64> {
        None
    }

    fn begin_pull(&self, _: Offset) -> io::Result<PulledFile> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn end_pull(&self, _: PulledFile, _: &Pulled) -> Result<bool, ReadError> {
        Ok(false)
    }

    fn let_go_of_copies(&self, _: Option<Offset>) -> bool {
        self.with(|fake| {
            let stands_alone = fake.offsets.local_start <= fake.offsets.log_start;
            if stands_alone {
                fake.chain = Arc::default();
            }
            stands_alone
        })
    }

    async fn raise_log_start(&self, to: Offset) -> Result<(), ReadError> {
        self.with(|fake| match fake.log_start_error.take() {
            Some(error) => Err(error),
            None => {
                fake.offsets.log_start = fake.offsets.log_start.max(to);
                Ok(())
            }
        })
    }
}

/// Partitions by id.
#[derive(Debug, Default)]
pub(super) struct FakePartitions(Mutex<HashMap<PartitionId, Arc<FakePartition>>>);

impl FakePartitions {
    pub fn add(&self, partition: &Arc<FakePartition>) {
        self.0.lock().expect("no panic under this lock").insert(partition.id(), Arc::clone(partition));
    }
}

impl PartitionSource for FakePartitions {
    fn get(&self, id: PartitionId) -> Option<SharedPartition> {
        self.0.lock().expect("no panic under this lock").get(&id).map(|partition| Arc::clone(partition) as _)
    }

    fn all(&self) -> Vec<SharedPartition> {
        let partitions = self.0.lock().expect("no panic under this lock");
        partitions.values().map(|partition| Arc::clone(partition) as _).collect()
    }
}
