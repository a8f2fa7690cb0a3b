//! Small segments become one object, step by step, while readers, retention, switches and restores go on.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use rstest::rstest;
use terrace_tiering::platform::clock::Clock;
use terrace_tiering::platform::random::Random;
use terrace_tiering::restore::chain::Limit;
use terrace_tiering::store::faulty::Fault;
use terrace_tiering::store::meter::{Op, Purpose};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::super::merge::{MergeError, Merged, join};
use super::super::partition::PartitionSource;
use super::super::state::object_of;
use super::node::{Machines, Running, keep_local, with_aborted_transaction};
use super::world::{GRACE_MS, Life, P, World};
use crate::metadata::image::Change;
use crate::metadata::remote_log::{RemoteLogMetadata, RemoteSegment, SegmentState};
use crate::metadata::store::MetadataStore;
use crate::partition::list_offsets::OffsetSpec;
use crate::partition::read::{Isolation, ReadSpec, Records};
use crate::protocol::record_batch::{BatchView, Offset};

/// Three segments fit.
const TARGET: u64 = 80_000;
/// Of each record, ten of which are a segment.
const VALUE: [u8; 2_000] = [b'v'; 2_000];

/// A life with so many copies of which three fit into one object.
pub async fn begin(copies: i64) -> (World, Life) {
    let mut world = World::new();
    world.merge_target_bytes = TARGET;
    let life = world.begin(0).await;
    (0..copies).for_each(|n| world.partition.seal_of(1000 * (n + 1), &VALUE));
    life.copy_all().await;
    (world, life)
}

/// The bytes of all sealed segments.
pub fn records(world: &World) -> Vec<u8> {
    world.partition.with(|fake| fake.segments.iter().flat_map(|(_, bytes)| bytes.clone()).collect())
}

/// The bytes of all readable segments in the bucket.
pub async fn stored(life: &Life) -> Vec<u8> {
    let mut all = Vec::new();
    for segment in life.meta.load(P).await.unwrap().chain().segments {
        all.extend(life.tier.whole(&object_of(P, &segment)).await.unwrap().log);
    }
    all
}

impl Life {
    async fn merge(&self) -> Result<Merged, MergeError> {
        self.log.merge_next(P, &CancellationToken::new()).await
    }

    /// What is marked goes.
    async fn expire(&self, world: &World) {
        self.log.expire(&self.state()).await.unwrap();
        world.clock.advance(GRACE_MS);
        self.log.expire(&self.state()).await.unwrap();
    }
}

#[tokio::test]
async fn segments_of_a_partition_that_is_offline_stay_as_they_are() {
    let (world, life) = begin(5).await;
    world.partition.with(|fake| fake.is_offline = true);
    assert_eq!(life.merge().await.unwrap(), Merged::Nothing);
    world.partition.with(|fake| fake.is_offline = false);
    assert_eq!(life.merge().await.unwrap(), Merged::Segments(3));
}

#[tokio::test]
async fn small_segments_become_one_object() {
    let (world, life) = begin(5).await;
    let before = records(&world);
    assert_eq!(life.merge().await.unwrap(), Merged::Segments(3));
    assert_eq!(world.partition.readable(), [(0, 29), (30, 39), (40, 49)]);
    assert_eq!(
        (life.rows().await, world.objects(&life).await.len()),
        ([0, 3, 3], 6),
        "readers have the old ones still"
    );
    assert_eq!(life.merge().await.unwrap(), Merged::Nothing, "one of the others is the newest");
    let usage = life.tier.usage();
    let of_merging = usage.0.iter().find(|usage| usage.purpose == Purpose::Merge).unwrap();
    let requests = |op: Op| of_merging.requests[op as usize].iter().sum::<u64>();
    assert_eq!((requests(Op::Get), requests(Op::Put), requests(Op::Head)), (3 + 2, 1, 1), "two GETs verify all of it");
    assert_eq!(stored(&life).await, before);
    world.check(&life).await;

    life.expire(&world).await;
    assert_eq!(life.rooted().await, [(0, 29), (30, 39), (40, 49)]);
    assert_eq!((life.rows().await, world.objects(&life).await.len()), ([0, 3, 0], 3));
    world.check(&life).await;

    // What it says of itself is what its segments said.
    let remote = life.meta.load(P).await.unwrap();
    let merged = &remote.segments[0];
    assert_eq!((merged.first_timestamp, merged.max_timestamp, merged.max_timestamp_offset), (1000, 3000, 23));
    assert_eq!((merged.copy_epoch, &merged.epochs), (0, &vec![(0, 0)]));
    let footer = life.tier.footer(&object_of(P, merged)).await.unwrap();
    assert_eq!((footer.identity.record_count, footer.identity.batch_count), (30, 6));
    assert_eq!(&footer.producer_snapshot[..], b"producers");

    // The next life finds what this one left.
    drop(life);
    let life = world.start().await.unwrap();
    assert_eq!(stored(&life).await, before);
    world.partition.seal_of(9000, &VALUE);
    life.copy_all().await;
    assert_eq!(world.partition.readable().last(), Some(&(50, 59)), "copies go on behind");
}

#[tokio::test]
async fn what_is_read_and_written_counts_as_memory_of_copies() {
    let (world, life) = begin(4).await;
    let bytes: u64 = life.meta.load(P).await.unwrap().segments[..3].iter().map(|segment| segment.object_bytes).sum();
    let held = || life.tier.budgets().into_iter().find(|budget| budget.name == "copy").unwrap().held;
    let gate = Arc::new(Semaphore::new(0));
    world.store.next(Op::Put, Fault::Wait(Arc::clone(&gate)));
    let puts = world.store.count(Op::Put);
    let look = async {
        while world.store.count(Op::Put) == puts {
            tokio::task::yield_now().await;
        }
        let held = held();
        gate.add_permits(1);
        held
    };
    let (merged, during) = tokio::join!(life.merge(), look);
    assert_eq!(merged.unwrap(), Merged::Segments(3));
    assert!((2 * bytes..2 * bytes + 1024).contains(&during), "{during} of {bytes}");
    assert_eq!(held(), 0);
}

#[rstest]
#[case::not_tiered(|world: &World| world.partition.with(|fake| fake.config.remote_storage_enable = false))]
#[case::no_copies(|world: &World| world.partition.with(|fake| fake.config.remote_log_copy_disable = true))]
#[case::coming_back(|world: &World| world.partition.with(|fake| {
    fake.config.remote_storage_enable = false;
    fake.config.remote_log_drain_on_disable = true;
}))]
#[case::log_start_in_the_second(|world: &World| world.partition.with(|fake| fake.offsets.log_start = 11))]
#[tokio::test]
async fn what_is_not_to_be_merged_stays_as_it_is(#[case] change: fn(&World)) {
    let (world, life) = begin(4).await;
    change(&world);
    let before = life.uuids().await;
    assert_eq!(life.merge().await.unwrap(), Merged::Nothing);
    assert_eq!(life.uuids().await, before);
}

#[tokio::test]
async fn nothing_is_merged_where_it_is_switched_off() {
    let (mut world, life) = begin(40).await;
    drop(life);
    world.merge_target_bytes = 0;
    let life = world.start().await.unwrap();
    assert_eq!(life.merge().await.unwrap(), Merged::Nothing);
}

/// A merge during whose upload `change` happens, so that nothing comes of it; then what it left is deleted.
async fn merge_too_late(world: &World, life: &Life, expires_meanwhile: bool, change: impl Future<Output = ()>) {
    let gate = Arc::new(Semaphore::new(0));
    let puts = world.store.count(Op::Put);
    world.store.next(Op::Put, Fault::Wait(Arc::clone(&gate)));
    let meanwhile = async {
        while world.store.count(Op::Put) == puts {
            tokio::task::yield_now().await;
        }
        change.await;
        if expires_meanwhile {
            life.expire(world).await;
        }
        gate.add_permits(1);
    };
    let (merged, ()) = tokio::join!(life.merge(), meanwhile);
    assert_eq!(merged.unwrap(), Merged::Other);
    for _ in 0..3 {
        life.expire(world).await;
    }
}

/// What happens while the merged object is on its way: it is not there afterwards, and what is left is what would be left
/// without it.
#[rstest]
#[case::records_deleted(|world: &World, _: &Life| world.partition.with(|fake| fake.offsets.log_start = 5), 4)]
#[case::a_segment_expired(|world: &World, _: &Life| world.partition.with(|fake| fake.offsets.log_start = 10), 3)]
#[case::all_deleted(|world: &World, _: &Life| world.partition.with(|fake| fake.offsets.log_start = 40), 0)]
#[case::copying_switched_off(|world: &World, _: &Life| world.partition.with(|fake| {
    fake.config.remote_log_copy_disable = true;
}), 4)]
#[case::tier_given_up(|world: &World, _: &Life| world.partition.with(|fake| {
    fake.config.remote_storage_enable = false;
    fake.config.remote_log_delete_on_disable = true;
}), 0)]
#[case::draining(|world: &World, _: &Life| world.partition.with(|fake| {
    fake.config.remote_storage_enable = false;
    fake.config.remote_log_drain_on_disable = true;
    fake.offsets.local_start = 20;
}), 4)]
#[tokio::test]
async fn a_merge_that_comes_too_late_is_an_orphan(#[case] change: fn(&World, &Life), #[case] left: usize) {
    for expires_meanwhile in [false, true] {
        let (world, life) = begin(4).await;
        merge_too_late(&world, &life, expires_meanwhile, async { change(&world, &life) }).await;
        assert_eq!(life.rows().await, [0, left, 0], "{expires_meanwhile}");
        assert_eq!(world.objects(&life).await.len(), left, "{expires_meanwhile}");
        world.check(&life).await;
    }
}

#[tokio::test]
async fn a_topic_that_is_deleted_while_it_is_merged_leaves_nothing() {
    for expires_meanwhile in [false, true] {
        let (world, life) = begin(4).await;
        let delete = async { drop(life.meta.commit(None, vec![Change::DeleteTopic(P.topic)]).await.unwrap()) };
        merge_too_late(&world, &life, expires_meanwhile, delete).await;
        assert!(world.objects(&life).await.is_empty(), "{expires_meanwhile}");
        assert!(life.meta.partitions().await.unwrap().is_empty(), "{expires_meanwhile}");
    }
}

#[tokio::test]
async fn a_broker_that_lost_its_prefix_while_it_merged_changes_nothing() {
    let (world, life) = begin(4).await;
    let before = world.partition.readable();
    let gate = Arc::new(Semaphore::new(0));
    let puts = world.store.count(Op::Put);
    world.store.next(Op::Put, Fault::Wait(Arc::clone(&gate)));
    let meanwhile = async {
        while world.store.count(Op::Put) == puts {
            tokio::task::yield_now().await;
        }
        life.meta.take_leadership();
        gate.add_permits(1);
    };
    let (merged, ()) = tokio::join!(life.merge(), meanwhile);
    assert!(matches!(merged, Err(MergeError::NotOwner(_))), "{merged:?}");
    assert_eq!((world.partition.readable(), life.rows().await), (before, [1, 4, 0]));
}

#[tokio::test]
async fn a_store_that_fails_costs_a_merge_and_nothing_else() {
    let (world, life) = begin(4).await;
    // A request is tried again some times.
    (0..20).for_each(|_| world.store.next(Op::Put, Fault::Denied));
    assert!(life.merge().await.is_err());
    world.store.clear();
    life.expire(&world).await;
    assert_eq!((life.rows().await, world.objects(&life).await.len()), ([0, 4, 0], 4));
    assert_eq!(life.merge().await.unwrap(), Merged::Segments(3));
}

#[tokio::test]
async fn a_damaged_segment_stays_and_keeps_no_other_from_being_merged() {
    let (world, life) = begin(10).await;
    let second = Arc::clone(&life.meta.load(P).await.unwrap().segments[1]);
    let key = life.tier.names().segment(&object_of(P, &second));
    let mut bytes = world.store.get(&key).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[100] ^= 1;
    world.store.put(&key, bytes.into()).await.unwrap();
    assert_eq!(life.merge().await.unwrap(), Merged::Other);
    while life.merge().await.unwrap() != Merged::Nothing {}
    assert_eq!(world.partition.readable(), [(0, 9), (10, 19), (20, 49), (50, 79), (80, 89), (90, 99)]);
}

#[tokio::test]
async fn copies_wake_the_job() {
    let (mut world, life) = begin(3).await;
    drop(life);
    // Two are not half of it.
    world.merge_target_bytes = 90_000;
    let life = world.start().await.unwrap();
    life.log.start(&life.tasks);
    world.partition.seal_of(4000, &VALUE);
    life.rolls.wake(P);
    world.partition.until_readable(2).await;
    assert_eq!(world.partition.readable(), [(0, 29), (30, 39)]);
    life.tasks.stop(std::time::Duration::from_secs(5)).await;
}

/// What an older cut names is found in what it was merged into, also by a later life that merged it again.
#[rstest]
#[case::in_the_same_life(false)]
#[case::in_a_later_one(true)]
#[tokio::test]
async fn an_older_cut_finds_its_records_in_what_they_were_merged_into(#[case] in_later_life: bool) {
    let (world, life) = begin(4).await;
    life.log.close().await;
    let made_ms = world.store_time().await;
    let at_cut = records(&world);
    let mut life = life;
    if in_later_life {
        drop(life);
        life = world.start().await.unwrap();
        world.partition.with(|fake| fake.offsets.leader_epoch = 1);
    }
    // The third object of the cut goes together with one that came later.
    (4..8).for_each(|n| world.partition.seal_of(1000 * (n + 1), &VALUE));
    life.copy_all().await;
    while life.merge().await.unwrap() != Merged::Nothing {}
    assert_eq!(world.partition.readable(), [(0, 29), (30, 59), (60, 69), (70, 79)]);
    life.expire(&world).await;
    assert_eq!(world.objects(&life).await.len(), 4, "nothing of the cut is there under its own name");

    let objects = life.tier.all_segments().await.unwrap().remove(&(P.topic, P.partition)).unwrap();
    let limit = Limit { written_ms: made_ms, tier_end: 40, leader_epoch: 0 };
    let cut = life.tier.restore_chain(P.topic, P.partition, &objects, 0, Some(&limit)).await.unwrap();
    let entries: Vec<_> = cut.entries.iter().map(|entry| (entry.base_offset, entry.last_offset)).collect();
    assert_eq!((entries, cut.cut_at), (vec![(0, 29), (30, 59)], Some(40)), "the last reaches beyond it");
    assert!(cut.missing.is_empty());
    // What a restore writes in place of the last, so that the cut ends where it did.
    let [first, last] = [0, 1].map(|n| cut.entries[n].object(P.topic, P.partition));
    let joined = join::join(&life.tier, &[last], cut.cut_at).await.unwrap();
    let (row, upload) = joined.into_copy(world.random.uuid(), 9);
    assert_eq!((row.base_offset, row.last_offset), (30, 39));
    let memory = life.tier.copy_memory(1).await;
    let object_bytes = life.tier.upload_merged(upload, &memory).await.unwrap().object_bytes;
    let shortened = object_of(P, &RemoteSegment { object_bytes, ..row });
    let mut restored = Vec::new();
    for object in [first, shortened] {
        restored.extend(life.tier.whole(&object).await.unwrap().log);
    }
    assert!(restored == at_cut, "the records of the cut and no others");
}

fn machines() -> Machines {
    let mut machines = Machines::of(|config| config.segment_bytes = 2_000);
    machines.merge_target_bytes = 8_000;
    machines
}

impl Running {
    async fn merge_all(&self) -> usize {
        let mut merged = 0;
        while let Merged::Segments(segments) = self.log.merge_next(P, &CancellationToken::new()).await.unwrap() {
            merged += segments;
        }
        merged
    }

    async fn expire_marked(&self, machines: &Machines) {
        self.log.expire(&self.log.state(P)).await.unwrap();
        machines.clock.advance(10_000);
        self.log.expire(&self.log.state(P)).await.unwrap();
        let rows = self.meta.load(P).await.unwrap().segments;
        assert!(rows.iter().all(|row| row.state == SegmentState::CopyFinished), "what was merged is gone");
    }
}

#[tokio::test]
async fn a_reader_whose_object_was_merged_meanwhile_gets_its_records() {
    let machines = machines();
    let node = machines.start().await;
    (0..120).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    let (all, _) = node.read_all(0).await;
    let local_start = keep_local(&machines, &node, 0);
    let begun: Vec<_> = (0..local_start / 5).map(|n| node.partition().read(&Machines::spec(5 * n)).unwrap()).collect();
    assert!(node.merge_all().await > 3);
    node.expire_marked(&machines).await;
    for (n, outcome) in begun.into_iter().enumerate() {
        let Records::Cold(cold) = outcome.records else { panic!("{n} is local") };
        let bytes = cold.load().await.unwrap_or_else(|error| panic!("batch {n}: {error}")).chunks.concat();
        let (first, _) = BatchView::split_first(&bytes).unwrap();
        assert_eq!(first.base_offset(), 5 * n as i64);
    }
    assert_eq!(node.read_all(0).await.0, all);
}

#[tokio::test]
async fn a_lookup_by_time_finds_what_is_merged_meanwhile() {
    let machines = machines();
    let node = machines.start().await;
    (0..120).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    keep_local(&machines, &node, 0);
    let node = machines.fresh_tier(node).await;
    let gate = Arc::new(Semaphore::new(0));
    let gets = machines.bucket.count(Op::Get);
    machines.bucket.next(Op::Get, Fault::Wait(Arc::clone(&gate)));
    let merge = async {
        while machines.bucket.count(Op::Get) == gets {
            tokio::task::yield_now().await;
        }
        assert!(node.merge_all().await > 3);
        node.expire_marked(&machines).await;
        gate.add_permits(1);
    };
    let partition = node.partition();
    let lookup = partition.list_offset(OffsetSpec::Time(900_050), Isolation::ReadUncommitted);
    let (found, ()) = tokio::join!(lookup, merge);
    assert_eq!(found.unwrap().offset, 50);
}

#[tokio::test]
async fn a_merged_segment_may_lie_across_the_first_local_offset() {
    let machines = machines();
    let node = machines.start().await;
    (0..120).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    let (all, _) = node.read_all(0).await;
    let local_start = keep_local(&machines, &node, 8_000);
    assert!(node.merge_all().await > 3);
    node.expire_marked(&machines).await;
    let across = |node: &Running| {
        let chain = node.partition().remote_chain();
        let is_across = |base: Offset, last: Offset| base < local_start && local_start <= last;
        chain.segments.iter().any(|segment| is_across(segment.base_offset, segment.last_offset))
    };
    assert!(across(&node), "{local_start}");
    assert_eq!(node.read_all(0).await.0, all);

    // A restart finds bucket and local log in agreement, copies go on, local retention too.
    node.stop().await;
    let node = machines.start().await;
    assert_eq!(node.partition().offline_reason(), None);
    assert_eq!((node.partition().offsets().local_start, node.read_all(0).await.0.len()), (local_start, all.len()));
    (120..160).for_each(|n| drop(node.append(5 * n)));
    let end = node.partition().remote_chain().end();
    node.copy_all().await;
    assert!(node.partition().remote_chain().end() > end && across(&node));
    let (more, _) = node.read_all(0).await;
    assert!(more.starts_with(&all));

    // What only the tier has comes back, cut at the first local offset.
    machines.configure(Some(&node), |config| {
        config.remote_storage_enable = false;
        config.remote_log_drain_on_disable = true;
    });
    let partition = PartitionSource::get(&*node.partitions, P).unwrap();
    node.log.drain(&node.log.state(P), &partition).await.unwrap();
    let (back, cold) = node.read_all(0).await;
    assert!(back == more && cold == 0, "{cold}");
}

#[tokio::test]
async fn a_lost_disk_goes_on_behind_merged_segments() {
    let machines = machines();
    let node = machines.start().await;
    (0..120).for_each(|n| drop(node.append(5 * n)));
    node.copy_all().await;
    let (all, _) = node.read_all(0).await;
    assert!(node.merge_all().await > 3);
    let tier_end = node.partition().remote_chain().end().unwrap();
    node.lose_disk(&machines);
    let node = machines.start().await;
    let (kept, _) = node.read_all(0).await;
    assert!(all.starts_with(&kept) && !kept.is_empty());
    let next = node.append(i32::try_from(tier_end).unwrap());
    assert_eq!(next.base_offset, tier_end, "producers came with the last segment");
}

#[tokio::test]
async fn committed_readers_are_told_of_aborted_transactions_by_a_merged_segment() {
    let mut machines = Machines::of(|config| config.segment_bytes = 600);
    machines.merge_target_bytes = 12_000;
    let (node, first, marker) = with_aborted_transaction(&machines).await;
    assert!(node.merge_all().await > 3);
    let chain = node.partition().remote_chain();
    let merged = chain.find(first).unwrap();
    assert!(merged.base_offset <= first && marker <= merged.last_offset, "all of it is in one object: {chain:?}");
    let footer = node.tier.footer(&object_of(P, merged)).await.unwrap();
    assert_eq!(footer.aborted.len(), 1, "it was in many footers");
    node.lose_disk(&machines);
    let node = machines.start().await;
    for offset in first..=marker {
        let spec = ReadSpec { isolation: Isolation::ReadCommitted, ..Machines::spec(offset) };
        let Records::Cold(cold) = node.partition().read(&spec).unwrap().records else { panic!("{offset} is local") };
        let told: Vec<_> = cold.load().await.unwrap().aborted.iter().map(|one| one.first_offset).collect();
        assert_eq!(told, [first], "{offset}");
    }
}

impl World {
    /// A time of the store behind all that is in it.
    async fn store_time(&self) -> i64 {
        let listed: Vec<_> = self.store.list(None).try_collect().await.unwrap();
        let written = listed.iter().map(|meta| meta.last_modified.timestamp_millis()).max().unwrap_or(0);
        written.max(self.clock.now_ms())
    }
}
