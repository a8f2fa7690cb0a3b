//! The jobs over real partitions: log, metadata and bucket together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use terrace_tiering::cluster::owner::OwnerClaim;
use terrace_tiering::platform::clock::{Clock, ManualClock};
use terrace_tiering::platform::fs::RealFs;
use terrace_tiering::platform::random::{Random, SeededRandom};
use terrace_tiering::platform::task::Tasks;
use terrace_tiering::store::faulty::{Fault, Faulty};
use terrace_tiering::store::meter::Op;
use terrace_tiering::store::open::StoreKind;
use terrace_tiering::tier::Machine;
use terrace_tiering::{Tier, TierOptions};
use tokio_util::sync::CancellationToken;

use super::super::attach::{self, Unattached};
use super::super::due::DueQueue;
use super::super::testing::topic_config;
use super::super::{RemoteLog, RemoteLogParts, RemoteLogSettings, start};
use super::world::P;
use crate::config::topic::TopicConfig;
use crate::metadata::embedded::EmbeddedStore;
use crate::metadata::image::{Change, Topic};
use crate::metadata::remote_log::RemoteLogMetadata;
use crate::metadata::store::MetadataStore;
use crate::partition::Partition;
use crate::partition::append::{AppendOrigin, Appended};
use crate::partition::read::{Isolation, ReadError, ReadSpec, Records};
use crate::partition::registry::{LogSettings, PartitionDeps, Partitions};
use crate::partition::transactions::EndMarker;
use crate::partition::tuning::{Tuned, Tuning};
use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::record_batch::{BatchView, Offset};

/// What outlives a broker: its disk, its bucket, its topic's configuration.
pub(super) struct Machines {
    pub(super) dir: tempfile::TempDir,
    pub(super) bucket: Faulty,
    pub(super) clock: Arc<ManualClock>,
    pub(super) random: Arc<SeededRandom>,
    pub(super) config: Arc<Mutex<TopicConfig>>,
    /// `log.dir.min.free.bytes`.
    pub(super) min_free_bytes: u64,
    /// `remote.merge.target.bytes`; 0 where nobody sets it.
    pub(super) merge_target_bytes: u64,
}

pub(super) struct Running {
    pub(super) log: Arc<RemoteLog>,
    pub(super) tier: Arc<Tier>,
    pub(super) partitions: Arc<Partitions>,
    pub(super) rolls: Arc<DueQueue>,
    // Held: the store outlives the jobs.
    pub(super) meta: Arc<EmbeddedStore>,
}

impl Machines {
    pub(super) fn new() -> Self {
        Self::of(|config| config.segment_bytes = 600)
    }

    /// With a topic of this configuration.
    pub(super) fn of(change: impl FnOnce(&mut TopicConfig)) -> Self {
        let mut config = topic_config();
        change(&mut config);
        Self {
            dir: tempfile::tempdir().unwrap(),
            bucket: Faulty::new(Arc::new(InMemory::new()), 1),
            clock: ManualClock::at(1_000_000),
            random: SeededRandom::new(5),
            config: Arc::new(Mutex::new(config)),
            min_free_bytes: 0,
            merge_target_bytes: 0,
        }
    }

    /// Changes the topic's configuration, for a node that runs too.
    pub(super) fn configure(&self, node: Option<&Running>, change: impl FnOnce(&mut TopicConfig)) {
        let mut config = self.config.lock().unwrap();
        change(&mut config);
        if let Some(node) = node {
            node.partition().set_topic_config(Arc::new(config.clone()));
        }
    }

    /// A read of a few batches.
    pub(super) fn spec(offset: Offset) -> ReadSpec {
        ReadSpec {
            offset,
            max_bytes: 300,
            min_one: true,
            current_leader_epoch: None,
            last_fetched_epoch: None,
            isolation: Isolation::ReadUncommitted,
        }
    }

    pub(super) fn log_dir(&self) -> std::path::PathBuf {
        self.dir.path().join("log")
    }

    /// The same node once more, after a stop, so that nothing of the bucket is in memory.
    pub(super) async fn fresh_tier(&self, node: Running) -> Running {
        node.stop().await;
        self.start().await
    }

    pub(super) async fn start(&self) -> Running {
        self.try_start().await.expect("the bucket is ours")
    }

    pub(super) async fn try_start(&self) -> Result<Running, String> {
        let (clock, random, fs) = (self.clock.clone(), self.random.clone(), RealFs::shared());
        let meta_file = self.dir.path().join("meta.redb");
        let meta = EmbeddedStore::open(&*fs, &meta_file, Some("cluster"), &*self.random).unwrap();
        if meta.image().topics.is_empty() {
            let topic = Topic {
                id: P.topic,
                name: "t".into(),
                partition_count: 1,
                replication_factor: 1,
                config: BTreeMap::new(),
            };
            meta.commit(None, vec![Change::CreateTopic(topic)]).await.unwrap();
        }
        let config = Arc::clone(&self.config);
        let deps = PartitionDeps {
            fs: fs.clone(),
            clock: clock.clone(),
            random: random.clone(),
            settings: LogSettings {
                node_id: 1,
                log_dirs: vec![self.log_dir()],
                failed_dirs: Vec::new(),
                min_free_bytes: vec![self.min_free_bytes],
                tuning: Tuning::new(Tuned {
                    producer_id_expiration_ms: 86_400_000,
                    cleaner_backoff_ms: 1_000,
                    cleaner_map_bytes: 1 << 20,
                    move_bytes_per_second: u64::MAX,
                    transaction_verification: true,
                }),
                retention_check_interval_ms: 1000,
                remote_segment_roll_ms: None,
                open_files_max: 100,
                checkpoint_interval_ms: 1000,
                syncs: Default::default(),
            },
            resolve_config: Arc::new(move |_, _| Arc::new(config.lock().unwrap().clone())),
        };
        let partitions = Partitions::open(deps, &meta.image()).unwrap();
        let machine = Machine { clock: clock.clone(), random: random.clone(), fs, tasks: Tasks::new() };
        let options = TierOptions::new("memory:", "cluster");
        let store = Arc::new(self.bucket.clone());
        let tier = Tier::over(store, StoreKind::Memory, Path::default(), options, machine).await;
        let tier = tier.map_err(|error| error.to_string())?;
        partitions.set_tier(Arc::clone(&tier));
        attach::tell_rows(&*meta, &partitions).await.unwrap();
        let claim = OwnerClaim {
            node_epoch: meta.image().node_epoch,
            node_id: 1,
            process: self.random.uuid(),
            claimed_at_ms: self.clock.now_ms(),
        };
        let started = start::start(&tier, &*meta, claim).await.map_err(|error| error.to_string())?;
        let unattached = Unattached::all(&started.loaded, &partitions).attach(&tier).await;
        unattached.attach_at_last(&tier).await;
        let rolls = Arc::new(DueQueue::default());
        let woken = Arc::clone(&rolls);
        partitions.on_roll(Arc::new(move |id| woken.wake(id)));
        let log = RemoteLog::new(RemoteLogParts {
            tier: Arc::clone(&tier),
            metadata: meta.clone(),
            segments: meta.clone(),
            partitions: Arc::clone(&partitions) as _,
            ownership: started.ownership,
            loaded: started.loaded,
            rolls: Arc::clone(&rolls),
            sections: Vec::new(),
            clock,
            random,
            settings: RemoteLogSettings {
                copiers: 1,
                task_interval_ms: 1000,
                delete_grace_ms: 0,
                snapshot_interval_ms: 60_000,
                merge_target_bytes: self.merge_target_bytes,
                orphan_age_ms: 86_400_000,
                scrub_ratio_per_day: 0.01,
            },
        });
        Ok(Running { log, tier, partitions, rolls, meta })
    }
}

/// Frees so much of the local log of what is copied that about `bytes` stay.
pub(super) fn keep_local(machines: &Machines, node: &Running, bytes: u64) -> Offset {
    machines.configure(Some(node), |config| config.local_retention_bytes = Some(bytes));
    machines.clock.advance(2_000);
    node.partitions.do_due_work();
    node.partition().offsets().local_start
}

impl Running {
    pub(super) async fn stop(self) {
        self.partitions.close();
        self.log.close().await;
    }

    /// Ends, and nothing of the log directory is left.
    pub(super) fn lose_disk(self, machines: &Machines) {
        // Its sync thread would go on to make files while they are removed.
        self.partitions.close();
        std::fs::remove_dir_all(machines.log_dir()).unwrap();
    }

    pub(super) fn partition(&self) -> Arc<Partition> {
        self.partitions.get(P).unwrap()
    }

    /// Appends a batch of five records of producer 7.
    pub(super) fn append(&self, first_sequence: i32) -> Appended {
        let mut builder = BatchBuilder::new(0).with_producer(7, 0, first_sequence);
        for delta in 0..5 {
            builder.push(delta, 900_000 + i64::from(first_sequence), None, Some(b"some value"), [].into_iter());
        }
        self.partition().append(&mut builder.finish(), AppendOrigin::Client, None).unwrap()
    }

    /// The last offsets of all remote segments in any state.
    /// The first batch of a transaction.
    pub(super) fn begin_transaction(&self, producer_id: i64) -> Appended {
        let mut builder = BatchBuilder::new(0).with_producer(producer_id, 0, 0).transactional();
        builder.push(0, 900_000, None, Some(b"maybe"), [].into_iter());
        let guard = self.partition().begin_verification(producer_id, 0, 0, false).unwrap();
        self.partition().append_verified(&mut builder.finish(), AppendOrigin::Client, None, guard).unwrap()
    }

    /// Its marker.
    pub(super) fn end_transaction(&self, producer_id: i64, commit: bool) -> Appended {
        let marker = EndMarker { producer_id, producer_epoch: 0, coordinator_epoch: 0, commit, transaction_version: 1 };
        self.partition().append_marker(&marker).unwrap()
    }

    pub(super) async fn meta_rows(&self) -> Vec<Offset> {
        let remote = self.meta.load(P).await.unwrap();
        remote.segments.iter().map(|segment| segment.last_offset).collect()
    }

    pub(super) async fn copy_all(&self) {
        while self.log.copy_next(P, &CancellationToken::new()).await.unwrap() == super::super::copier::Outcome::Copied {
        }
    }

    /// The segment objects in the bucket.
    pub(super) async fn bucket_objects(&self, machines: &Machines) -> Vec<Path> {
        let prefix = self.log.tier().names().all_segments();
        let listed: Vec<_> = machines.bucket.list(Some(&prefix)).try_collect().await.unwrap();
        listed.into_iter().map(|meta| meta.location).collect()
    }

    /// All records from `from` on, as bytes, and how many answers came from the bucket.
    pub(super) async fn read_all(&self, from: Offset) -> (Vec<u8>, usize) {
        let (mut all, mut cold, mut offset) = (Vec::new(), 0, from);
        loop {
            let spec = Machines::spec(offset);
            let bytes = match self.partition().read(&spec).unwrap().records {
                Records::Empty => return (all, cold),
                Records::File(range) => {
                    let mut bytes = vec![0; range.len as usize];
                    range.file.read_exact_at(&mut bytes, range.position).unwrap();
                    bytes
                }
                Records::Cold(read) => {
                    cold += 1;
                    read.load().await.unwrap().chunks.concat()
                }
            };
            let mut rest = &bytes[..];
            while let Ok((batch, behind)) = BatchView::split_first(rest) {
                assert_eq!(batch.base_offset(), offset, "no gap, nothing twice");
                (offset, rest) = (batch.next_offset(), behind);
                all.extend(batch.bytes());
            }
        }
    }
}

#[tokio::test]
async fn a_lost_disk_costs_what_was_not_copied_and_nothing_else() {
    let machines = Machines::new();
    let node = machines.start().await;
    (0..20).for_each(|n| drop(node.append(5 * n)));
    assert_eq!(node.rolls.next().await, P, "rolls wake the copiers");
    node.copy_all().await;
    let tier_end = node.partition().remote_chain().end().unwrap();
    assert!((50..100).contains(&tier_end), "all but the active segment: {tier_end}");
    let (all, _) = node.read_all(0).await;

    node.lose_disk(&machines);
    let node = machines.start().await;
    let offsets = node.partition().offsets();
    assert_eq!((offsets.log_start, offsets.local_start, offsets.log_end), (0, tier_end, tier_end));
    let (kept, cold) = node.read_all(0).await;
    assert!(cold > 0 && all.starts_with(&kept) && !kept.is_empty());
    assert_eq!(node.partition().epoch_end(0).unwrap(), (0, tier_end));

    // The producer's state came with the last segment.
    let again = node.append(i32::try_from(tier_end).unwrap() - 5);
    assert_eq!(again.base_offset, tier_end - 5, "a retry of what is in the tier is known");
    let next = node.append(i32::try_from(tier_end).unwrap());
    assert_eq!(next.base_offset, tier_end);
    let (both, _) = node.read_all(0).await;
    assert!(both.starts_with(&kept) && both.len() > kept.len());
    assert_eq!(node.meta.image().node_epoch, 1);
}

/// The process dies before a checkpoint, a roll or a stop could say who the producers are.
#[tokio::test]
async fn a_lost_disk_and_a_crash_behind_it_forget_no_producer() {
    let machines = Machines::new();
    let node = machines.start().await;
    (0..20).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    let tier_end = node.partition().remote_chain().end().unwrap();
    node.lose_disk(&machines);
    let next = i32::try_from(tier_end).unwrap();
    for appended in [false, true, true] {
        let node = machines.start().await;
        assert_eq!(node.append(next - 5).base_offset, tier_end - 5, "a retry of what is in the tier is known");
        if appended {
            assert_eq!(node.append(next).base_offset, tier_end, "so is what came first");
        }
    }
}

/// Nothing in the tier can be read, and its rows know all the same how far the log came.
#[tokio::test]
async fn a_lost_disk_gives_no_offset_away_again_when_all_was_deleted() {
    let machines = Machines::new();
    let node = machines.start().await;
    (0..20).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    node.partition().raise_log_start(100).await.unwrap();
    node.log.expire(&node.log.state(P)).await.unwrap();
    assert_eq!(node.meta_rows().await, Vec::<Offset>::new());
    node.lose_disk(&machines);
    let node = machines.start().await;
    let offsets = node.partition().offsets();
    assert_eq!((offsets.log_start, offsets.local_start, offsets.log_end), (100, 100, 100));
    assert_eq!(node.append(0).base_offset, 100);
    node.stop().await;
    let node = machines.start().await;
    let (records, cold) = node.read_all(100).await;
    assert!(!records.is_empty() && cold == 0);
    assert_eq!(node.partition().offsets().log_end, 105);
}

/// Whoever gave up here would leave the partition offline until the next start.
#[tokio::test(start_paused = true)]
async fn a_store_that_fails_while_a_partition_is_attached_is_asked_again() {
    let machines = Machines::new();
    let node = machines.start().await;
    (0..20).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    let tier_end = node.partition().remote_chain().end().unwrap();
    node.lose_disk(&machines);
    let before = machines.bucket.count(Op::Get);
    let node = machines.start().await;
    let asked = machines.bucket.count(Op::Get) - before;

    node.lose_disk(&machines);
    // All questions are answered but the last, which is the one for the producers at the tier's end.
    (1..asked).for_each(|_| machines.bucket.next(Op::Get, Fault::Slow(Duration::ZERO)));
    (0..20).for_each(|_| machines.bucket.next(Op::Get, Fault::Error));
    let node = machines.start().await;
    assert_eq!(node.partition().offline_reason(), None);
    assert_eq!(node.append(i32::try_from(tier_end).unwrap()).base_offset, tier_end);
}

#[tokio::test]
async fn a_restart_keeps_what_is_local() {
    let machines = Machines::new();
    let node = machines.start().await;
    (0..20).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    let (before, _) = node.read_all(0).await;
    node.stop().await;
    let node = machines.start().await;
    assert_eq!(node.partition().offsets().log_end, 100);
    assert_eq!(node.read_all(0).await.0, before);
    assert!(node.partition().remote_chain().end().is_some());
}

#[tokio::test]
async fn a_copy_with_other_bytes_than_the_local_log_keeps_the_partition_offline() {
    let machines = Machines::new();
    let node = machines.start().await;
    (0..20).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    let last = node.partition().remote_chain().segments.last().map(Arc::clone).unwrap();
    node.stop().await;
    let file = machines.log_dir().join("t-0").join(format!("{:020}.log", last.base_offset));
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let node = machines.start().await;
    let why = node.partition().offline_reason().expect("it is offline");
    assert!(why.contains(&format!("offset {} ", last.base_offset)) && why.contains("move the partition"), "{why}");
}

#[tokio::test]
async fn deleted_records_disappear_from_the_bucket() {
    let machines = Machines::new();
    let node = machines.start().await;
    (0..20).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    let count = node.partition().remote_chain().segments.len();
    node.partition().raise_log_start(60).await.unwrap();
    node.log.expire(&node.log.state(P)).await.unwrap();
    let chain = node.partition().remote_chain();
    assert!(chain.segments.len() < count && chain.segments[0].last_offset >= 60);
    assert_eq!(chain.log_start, 60);
    // Even with the local log gone the deleted records stay deleted.
    node.lose_disk(&machines);
    let node = machines.start().await;
    assert_eq!(node.partition().offsets().log_start, 60);
}

#[tokio::test]
async fn a_read_whose_records_are_deleted_while_it_waits_is_out_of_range() {
    let machines = Machines::new();
    let node = machines.start().await;
    (0..20).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    node.lose_disk(&machines);
    let node = machines.start().await;
    let Records::Cold(cold) = node.partition().read(&Machines::spec(10)).unwrap().records else {
        panic!("it is local")
    };
    let high_watermark = node.partition().offsets().high_watermark;
    node.partition().raise_log_start(60).await.unwrap();
    node.log.expire(&node.log.state(P)).await.unwrap();
    let told = cold.load().await.unwrap_err();
    assert_eq!(told, ReadError::OutOfRange { offset: 10, log_start: 60, high_watermark });
}

/// A transaction that begins in the first segment and is aborted some segments later, then another one that is committed:
/// where the first begins, and its marker. All is copied.
pub(super) async fn with_aborted_transaction(machines: &Machines) -> (Running, Offset, Offset) {
    let node = machines.start().await;
    node.append(0);
    let first = node.begin_transaction(50).base_offset;
    (1..20).for_each(|n| drop(node.append(5 * n)));
    node.begin_transaction(51);
    (20..30).for_each(|n| drop(node.append(5 * n)));
    node.rolls.next().await;
    node.copy_all().await;
    assert_eq!(node.partition().remote_chain().end(), None, "nothing below it is decided");
    node.rolls.done(P, None);
    let marker = node.end_transaction(50, false).base_offset;
    let woken = tokio::time::timeout(Duration::from_secs(5), node.rolls.next()).await;
    assert_eq!(woken, Ok(P), "the marker wakes the copiers");
    node.end_transaction(51, true);
    (30..50).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    assert!(node.partition().remote_chain().end().is_some_and(|end| end > marker), "marker and all are copied");
    (node, first, marker)
}

#[tokio::test]
async fn committed_readers_are_told_of_aborted_transactions_by_the_bucket() {
    let machines = Machines::new();
    let (node, first, marker) = with_aborted_transaction(&machines).await;
    node.lose_disk(&machines);
    let node = machines.start().await;
    let offsets = node.partition().offsets();
    assert_eq!(offsets.last_stable, offsets.log_end, "what the snapshot calls open was decided");
    let mut told = Vec::new();
    for offset in 0..=marker {
        let spec = ReadSpec { isolation: Isolation::ReadCommitted, ..Machines::spec(offset) };
        let outcome = node.partition().read(&spec).unwrap();
        let Records::Cold(cold) = outcome.records else { panic!("offset {offset} is local") };
        let loaded = cold.load().await.unwrap();
        let bytes = loaded.chunks.concat();
        let (mut rest, mut last) = (&bytes[..], -1);
        while let Ok((batch, behind)) = BatchView::split_first(rest) {
            (last, rest) = (batch.last_offset(), behind);
        }
        let is_in = first <= last && offset <= marker;
        let aborted: Vec<_> = loaded.aborted.iter().map(|one| (one.producer_id, one.first_offset)).collect();
        assert_eq!(aborted, if is_in { vec![(50, first)] } else { vec![] }, "{offset}..={last}");
        told.push(is_in);
    }
    assert!(told.contains(&true));
}
