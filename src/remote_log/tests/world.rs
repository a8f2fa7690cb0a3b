//! One broker's tier in a test: the bucket and the metadata file outlive it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use terrace_tiering::cluster::owner::OwnerClaim;
use terrace_tiering::platform::clock::{Clock, ManualClock};
use terrace_tiering::platform::fs::RealFs;
use terrace_tiering::platform::random::{Random, SeededRandom};
use terrace_tiering::platform::task::Tasks;
use terrace_tiering::store::faulty::Faulty;
use terrace_tiering::store::open::StoreKind;
use terrace_tiering::tier::Machine;
use terrace_tiering::{Tier, TierOptions};
use uuid::Uuid;

use super::super::due::DueQueue;
use super::super::partition::{PartitionSource, TieredPartition};
use super::super::snapshots::SectionSource;
use super::super::start::{self, StartError};
use super::super::state::{PartitionState, object_of};
use super::super::testing::{FakePartition, FakePartitions};
use super::super::{RemoteLog, RemoteLogParts, RemoteLogSettings};
use crate::metadata::embedded::EmbeddedStore;
use crate::metadata::fake::FakeStore;
use crate::metadata::image::{Change, PartitionId, Topic};
use crate::metadata::remote_log::{RemoteLogMetadata, SegmentState};
use crate::metadata::store::MetadataStore;

/// The partition of all tests.
pub const P: PartitionId = PartitionId { topic: Uuid::from_u128(0xABC), partition: 0 };
/// `remote.delete.grace.ms` of all tests.
pub const GRACE_MS: i64 = 1000;

/// Topic `t` under this id.
pub fn topic(id: Uuid) -> Topic {
    Topic { id, name: "t".into(), partition_count: 1, replication_factor: 1, config: BTreeMap::new() }
}

/// What outlives a broker.
pub struct World {
    pub store: Faulty,
    pub clock: Arc<ManualClock>,
    pub random: Arc<SeededRandom>,
    pub dir: tempfile::TempDir,
    pub partition: Arc<FakePartition>,
    /// Partitions of other topics.
    pub others: Vec<Arc<FakePartition>>,
    pub sections: Vec<Arc<dyn SectionSource>>,
    /// `remote.merge.target.bytes`; 0 where nobody sets it.
    pub merge_target_bytes: u64,
    /// `remote.scrub.ratio.per.day`
    pub scrub_ratio_per_day: f64,
}

/// One life of the broker.
pub struct Life {
    pub log: Arc<RemoteLog>,
    pub tier: Arc<Tier>,
    pub meta: Arc<FakeStore>,
    pub rolls: Arc<DueQueue>,
    pub tasks: Tasks,
}

impl World {
    pub fn new() -> Self {
        Self {
            store: Faulty::new(Arc::new(InMemory::new()), 1),
            clock: ManualClock::at(1_000_000),
            random: SeededRandom::new(5),
            dir: tempfile::tempdir().unwrap(),
            partition: FakePartition::new(P),
            others: Vec::new(),
            sections: Vec::new(),
            merge_target_bytes: 0,
            scrub_ratio_per_day: 0.01,
        }
    }

    /// The first life, with the topic, and `sealed` segments to copy.
    pub async fn begin(&self, sealed: usize) -> Life {
        let life = self.start().await.unwrap();
        life.meta.commit(None, vec![Change::CreateTopic(topic(P.topic))]).await.unwrap();
        for n in 0..sealed {
            self.partition.seal(1000 * (n as i64 + 1));
        }
        life
    }

    pub fn metadata_file(&self) -> std::path::PathBuf {
        self.dir.path().join("meta.redb")
    }

    pub async fn tier(&self, tasks: &Tasks) -> Arc<Tier> {
        let machine = Machine {
            clock: self.clock.clone(),
            random: self.random.clone(),
            fs: RealFs::shared(),
            tasks: tasks.clone(),
        };
        let (store, options) = (Arc::new(self.store.clone()), TierOptions::new("memory:", "cluster"));
        Tier::over(store, StoreKind::Memory, Path::default(), options, machine).await.unwrap()
    }

    /// The next life of the broker.
    pub async fn start(&self) -> Result<Life, StartError> {
        let tasks = Tasks::new();
        let tier = self.tier(&tasks).await;
        let embedded = EmbeddedStore::open(&RealFs, &self.metadata_file(), Some("cluster"), &*self.random).unwrap();
        let meta = FakeStore::over(embedded);
        let epoch = meta.image().node_epoch;
        let claim = OwnerClaim {
            node_epoch: epoch,
            node_id: 1,
            process: self.random.uuid(),
            claimed_at_ms: self.clock.now_ms(),
        };
        let started = start::start(&tier, &*meta, claim).await?;
        let partitions = Arc::new(FakePartitions::default());
        for partition in self.others.iter().chain([&self.partition]) {
            if let Some(loaded) = started.loaded.get(&partition.id()) {
                partition.set_remote_chain(Arc::new(loaded.remote.chain()));
            }
            partitions.add(partition);
        }
        let rolls = Arc::new(DueQueue::default());
        let settings = RemoteLogSettings {
            copiers: 2,
            task_interval_ms: 1000,
            delete_grace_ms: GRACE_MS,
            snapshot_interval_ms: 60_000,
            merge_target_bytes: self.merge_target_bytes,
            orphan_age_ms: 86_400_000,
            scrub_ratio_per_day: self.scrub_ratio_per_day,
        };
        let log = RemoteLog::new(RemoteLogParts {
            tier: Arc::clone(&tier),
            metadata: meta.clone(),
            segments: meta.clone(),
            partitions: partitions as Arc<dyn PartitionSource>,
            ownership: started.ownership,
            loaded: started.loaded,
            rolls: Arc::clone(&rolls),
            sections: self.sections.clone(),
            clock: self.clock.clone(),
            random: self.random.clone(),
            settings,
        });
        Ok(Life { log, tier, meta, rolls, tasks })
    }

    /// The uuids of all segment objects in the bucket.
    pub async fn objects(&self, life: &Life) -> BTreeSet<Uuid> {
        let listed: Vec<_> =
            self.store.list(Some(&life.tier.names().all_segments())).try_collect().await.expect("store answers");
        let parse = |meta: &object_store::ObjectMeta| life.tier.names().parse_segment(&meta.location, meta.size);
        listed.iter().map(|meta| parse(meta).expect("a segment's key").uuid).collect()
    }

    /// What must be true at every moment: each readable segment exists in full, each object has a row, the newest root
    /// names only what exists and has a row.
    pub async fn check(&self, life: &Life) {
        let remote = life.meta.load(P).await.unwrap();
        let objects = self.objects(life).await;
        let rows: BTreeSet<Uuid> = remote.segments.iter().map(|segment| segment.uuid).collect();
        for segment in remote.segments.iter().filter(|segment| segment.state == SegmentState::CopyFinished) {
            assert!(objects.contains(&segment.uuid), "readable segment at {} is gone", segment.base_offset);
            let footer = life.tier.footer(&object_of(P, segment)).await.unwrap();
            assert_eq!(footer.identity.last_offset, segment.last_offset);
        }
        assert!(objects.is_subset(&rows), "an object without a row");
        if let Some(manifest) = life.tier.load_manifest(P.topic, P.partition).await.unwrap() {
            let rooted: BTreeSet<Uuid> = manifest.entries.iter().map(|entry| entry.uuid).collect();
            assert!(rooted.is_subset(&rows) && rooted.is_subset(&objects), "the root names what is not there");
        }
    }
}

impl Life {
    pub fn state(&self) -> Arc<PartitionState> {
        self.log.state(P)
    }

    /// Copies until nothing is due.
    pub async fn copy_all(&self) {
        while self.log.copy_next(P, &CancellationToken::new()).await.unwrap() == super::super::copier::Outcome::Copied {
        }
    }

    /// First and last offsets that the newest root names.
    pub async fn rooted(&self) -> Vec<(i64, i64)> {
        let manifest = self.tier.load_manifest(P.topic, P.partition).await.unwrap();
        let entries = manifest.map(|manifest| manifest.entries).unwrap_or_default();
        entries.iter().map(|entry| (entry.base_offset, entry.last_offset)).collect()
    }

    /// How many rows there are of each state: started, finished, marked.
    pub async fn rows(&self) -> [usize; 3] {
        let mut count = [0; 3];
        for segment in self.meta.load(P).await.unwrap().segments {
            count[match segment.state {
                SegmentState::CopyStarted => 0,
                SegmentState::CopyFinished => 1,
                SegmentState::DeleteStarted { .. } => 2,
            }] += 1;
        }
        count
    }

    pub async fn uuids(&self) -> HashSet<Uuid> {
        self.meta.load(P).await.unwrap().segments.iter().map(|segment| segment.uuid).collect()
    }
}
