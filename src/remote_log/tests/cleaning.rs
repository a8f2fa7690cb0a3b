//! Rounds of the cleaner over what is stored, step by step, while the broker dies and the topic changes. What a reader gets
//! of it over a long life is in `compacted/model.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::ObjectStoreExt;
use rstest::rstest;
use terrace_tiering::store::faulty::Fault;
use terrace_tiering::store::meter::{Op, Purpose};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::super::clean::Cleaned;
use super::super::merge::{MergeError, Merged};
use super::super::state::object_of;
use super::dying::cut;
use super::world::{GRACE_MS, Life, P, World};
use crate::metadata::image::Change;
use crate::metadata::remote_log::{RemoteLogMetadata, RemoteSegment};
use crate::metadata::remote_replacement::Replacement;
use crate::metadata::store::MetadataStore;
use crate::partition::tiered::SealedInfo;
use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::record_batch::{BatchView, Offset, stamp};
use crate::protocol::records::records;

/// Bytes of a value: four fill a piece of [`TARGET`].
const VALUE: usize = 2_000;
const TARGET: u64 = 9_000;

/// Seals a segment of one record a batch: key, and whether it has a value.
fn seal(world: &World, keys: &[(&str, bool)]) {
    world.partition.with(|fake| {
        let base_offset = fake.offsets.log_end;
        let batch = |(offset, (key, has_value)): (Offset, &(&str, bool))| {
            let mut builder = BatchBuilder::new(offset);
            let value = vec![b'v'; VALUE];
            builder.push(0, 1_000, Some(key.as_bytes()), has_value.then_some(&value[..]), [].into_iter());
            let mut bytes = builder.finish();
            stamp(&mut bytes, offset, 0);
            bytes
        };
        let bytes: Vec<u8> = (base_offset..).zip(keys).flat_map(batch).collect();
        let next_offset = base_offset + keys.len() as Offset;
        let segment = SealedInfo {
            base_offset,
            covers_from: base_offset,
            next_offset,
            bytes: bytes.len() as u64,
            first_timestamp: 1_000,
            max_timestamp: 1_000,
        };
        fake.segments.push((segment, bytes));
        let offsets = &mut fake.offsets;
        (offsets.log_end, offsets.high_watermark, offsets.last_stable) = (next_offset, next_offset, next_offset);
    });
}

fn set_compacted(world: &World, compact: bool) {
    world.partition.with(|fake| fake.config.cleanup_policy.compact = compact);
}

/// Copies what is sealed. What a local cleaner would have to do first is no part of this.
async fn copy(world: &World, life: &Life) {
    set_compacted(world, false);
    life.copy_all().await;
    set_compacted(world, true);
}

/// Copies of a topic that became compacted: five segments, the newest included.
async fn begin() -> (World, Life) {
    let mut world = World::new();
    world.merge_target_bytes = TARGET;
    let life = world.begin(0).await;
    world.partition.with(|fake| fake.config.delete_retention_ms = 100);
    for keys in [
        &[("a", true), ("b", true)][..],
        &[("a", true), ("c", true)],
        &[("d", true), ("a", true)],
        &[("b", false), ("e", true)],
        &[("a", true), ("a", true)],
    ] {
        seal(&world, keys);
    }
    copy(&world, &life).await;
    (world, life)
}

/// What a round leaves of it: the newest value of each key below the newest segment.
const LEFT: [(Offset, &str); 7] = [(3, "c"), (4, "d"), (5, "a"), (6, "-b"), (7, "e"), (8, "a"), (9, "a")];

/// All readable records by offset: their keys, those of tombstones with a dash.
async fn stored(life: &Life) -> BTreeMap<Offset, String> {
    let mut all = BTreeMap::new();
    for segment in life.meta.load(P).await.unwrap().chain().segments {
        let whole = life.tier.whole(&object_of(P, &segment)).await.unwrap();
        let mut rest = &whole.log[..];
        while let Ok((batch, behind)) = BatchView::split_first(rest) {
            rest = behind;
            for record in records(&batch, 1 << 20).unwrap().iter().flatten() {
                let dash = if record.value.is_none() { "-" } else { "" };
                all.insert(record.offset, format!("{dash}{}", String::from_utf8_lossy(record.key.unwrap())));
            }
        }
    }
    all
}

fn left() -> BTreeMap<Offset, String> {
    LEFT.iter().map(|(offset, key)| (*offset, (*key).to_owned())).collect()
}

impl Life {
    async fn clean(&self) -> Result<Cleaned, MergeError> {
        self.log.clean_next(P, &CancellationToken::new()).await
    }

    async fn expire_marked(&self, world: &World) {
        for _ in 0..2 {
            self.log.expire(&self.state()).await.unwrap();
            world.clock.advance(GRACE_MS);
        }
        self.log.expire(&self.state()).await.unwrap();
    }

    async fn cleaned_end(&self) -> Offset {
        self.state().lock().await.cleaned_end
    }
}

#[tokio::test]
async fn the_last_record_of_each_key_stays_in_the_bucket() {
    let (world, life) = begin().await;
    let cached = || life.tier.budgets().into_iter().find(|budget| budget.name == "chunk-cache").unwrap().held;
    let before = cached();
    assert_eq!(life.clean().await.unwrap(), Cleaned::Round);
    assert_eq!((stored(&life).await, cached()), (left(), before));
    let readable = world.partition.readable();
    assert_eq!((readable[0].0, readable.last()), (0, Some(&(8, 9))), "the newest is as it was");
    assert!(readable.windows(2).all(|two| two[0].1 + 1 == two[1].0), "{readable:?}");
    assert_eq!(life.clean().await.unwrap(), Cleaned::Nothing, "all was met");
    world.check(&life).await;
    life.expire_marked(&world).await;
    assert_eq!(life.rows().await, [0, readable.len(), 0]);
    assert_eq!(world.objects(&life).await.len(), readable.len());

    let usage = life.tier.usage();
    let of_cleaning = usage.0.iter().find(|usage| usage.purpose == Purpose::Clean).unwrap();
    let requests = |op: Op| of_cleaning.requests[op as usize].iter().sum::<u64>();
    let all = (requests(Op::Get), requests(Op::Put), requests(Op::Head));
    assert_eq!(all, (4 + 4 + 2, 1, 1), "keys, records, and two GETs that verify all of it");

    // The tombstone goes with the next round, once its time is over, and stays gone.
    world.clock.advance(100);
    (0..4).for_each(|_| seal(&world, &[("f", true), ("g", true)]));
    copy(&world, &life).await;
    assert_eq!(life.clean().await.unwrap(), Cleaned::Round);
    let all: Vec<String> = stored(&life).await.into_values().collect();
    assert_eq!(all, ["c", "d", "e", "a", "f", "g", "f", "g"], "the newest segment has a pair of its own");
}

#[tokio::test]
async fn a_round_is_not_done_again_by_the_next_life() {
    let (world, life) = begin().await;
    assert_eq!(life.clean().await.unwrap(), Cleaned::Round);
    assert_eq!(life.cleaned_end().await, 8);
    life.log.close().await;
    drop(life);
    let life = world.start().await.unwrap();
    assert_eq!(life.cleaned_end().await, 8);
    assert_eq!(life.clean().await.unwrap(), Cleaned::Nothing);
    // A copy from further below is not clean.
    life.state().lock().await.is_not_clean(4);
    assert_eq!(life.cleaned_end().await, 4);
}

/// The root was written before something else took the place of what it names.
#[tokio::test]
async fn an_end_of_other_segments_is_not_believed() {
    let (world, life) = begin().await;
    assert_eq!(life.clean().await.unwrap(), Cleaned::Round);
    life.log.close().await;
    seal(&world, &[("x", true)]);
    copy(&world, &life).await;
    drop(life);
    let life = world.start().await.unwrap();
    assert_eq!(life.cleaned_end().await, 8, "a copy more behind it changes nothing");
    // Another object has the place of one that the root names.
    let state = life.state();
    let mut known = state.lock().await;
    let first = known.remote.chain().segments[0].clone();
    let (store, epoch) = (&*life.meta, life.log.leader_epoch());
    let other = RemoteSegment { uuid: uuid::Uuid::from_u128(77), ..RemoteSegment::clone(&first) };
    known.begin_copy(store, P, epoch, other.clone()).await.unwrap();
    let replacement = Replacement { replaced: vec![first.uuid], by: vec![other], now_ms: 5 };
    known.replace(store, P, epoch, &replacement).await.unwrap();
    drop(known);
    drop(life);
    let life = world.start().await.unwrap();
    assert_eq!(life.cleaned_end().await, 0);
}

#[tokio::test]
async fn a_round_may_die_at_any_moment() {
    for moments in 0..2000 {
        let (world, life) = begin().await;
        life.log.write_root(&life.state()).await.unwrap();
        world.store.set_stepwise(true);
        let work = async {
            life.clean().await.unwrap();
            life.expire_marked(&world).await;
        };
        let done = cut(work, moments).await;
        drop(life);
        world.store.set_stepwise(false);
        let life = world.start().await.unwrap();
        world.check(&life).await;
        let found = stored(&life).await;
        assert!(left().iter().all(|(offset, key)| found.get(offset) == Some(key)), "{found:?} after {moments}");
        while life.clean().await.unwrap() == Cleaned::Round {}
        life.expire_marked(&world).await;
        life.log.close().await;
        assert_eq!(stored(&life).await, left(), "{moments}");
        let readable = world.partition.readable();
        assert_eq!((life.rows().await, life.rooted().await), ([0, readable.len(), 0], readable.clone()), "{moments}");
        assert_eq!(world.objects(&life).await.len(), readable.len(), "{moments}");
        if done.is_some() {
            assert!(moments >= 12, "it gives way at its requests: {moments}");
            return;
        }
    }
    panic!("the round does not end");
}

/// A round during whose first upload `change` happens.
async fn clean_too_late(world: &World, life: &Life, expires_meanwhile: bool, change: impl Future<Output = ()>) {
    let gate = Arc::new(Semaphore::new(0));
    let puts = world.store.count(Op::Put);
    world.store.next(Op::Put, Fault::Wait(Arc::clone(&gate)));
    let meanwhile = async {
        while world.store.count(Op::Put) == puts {
            tokio::task::yield_now().await;
        }
        assert_eq!(life.log.merge_next(P, &CancellationToken::new()).await.unwrap(), Merged::Nothing, "not at once");
        change.await;
        if expires_meanwhile {
            life.expire_marked(world).await;
        }
        gate.add_permits(1);
    };
    let (cleaned, ()) = tokio::join!(life.clean(), meanwhile);
    assert_eq!(cleaned.unwrap(), Cleaned::Other);
    life.expire_marked(world).await;
}

#[rstest]
#[case::a_segment_expired(|world: &World| world.partition.with(|fake| fake.offsets.log_start = 2), 4)]
#[case::all_deleted(|world: &World| world.partition.with(|fake| fake.offsets.log_start = 10), 0)]
#[case::copying_switched_off(|world: &World| world.partition.with(|fake| fake.config.remote_log_copy_disable = true), 5)]
#[case::no_longer_compacted(|world: &World| set_compacted(world, false), 5)]
#[case::tier_given_up(|world: &World| world.partition.with(|fake| {
    fake.config.remote_storage_enable = false;
    fake.config.remote_log_delete_on_disable = true;
}), 0)]
#[case::draining(|world: &World| world.partition.with(|fake| {
    fake.config.remote_storage_enable = false;
    fake.config.remote_log_drain_on_disable = true;
    fake.offsets.local_start = 4;
}), 5)]
#[tokio::test]
async fn a_round_that_comes_too_late_leaves_orphans(#[case] change: fn(&World), #[case] left: usize) {
    for expires_meanwhile in [false, true] {
        let (world, life) = begin().await;
        clean_too_late(&world, &life, expires_meanwhile, async { change(&world) }).await;
        assert_eq!(life.rows().await, [0, left, 0], "{expires_meanwhile}");
        assert_eq!(world.objects(&life).await.len(), left, "{expires_meanwhile}");
        world.check(&life).await;
    }
}

#[tokio::test]
async fn a_topic_that_is_deleted_while_it_is_cleaned_leaves_nothing() {
    for expires_meanwhile in [false, true] {
        let (world, life) = begin().await;
        let delete = async { drop(life.meta.commit(None, vec![Change::DeleteTopic(P.topic)]).await.unwrap()) };
        clean_too_late(&world, &life, expires_meanwhile, delete).await;
        assert!(world.objects(&life).await.is_empty(), "{expires_meanwhile}");
    }
}

#[tokio::test]
async fn records_deleted_within_the_first_segment_are_no_hindrance() {
    let (world, life) = begin().await;
    world.partition.with(|fake| fake.offsets.log_start = 1);
    assert_eq!(life.clean().await.unwrap(), Cleaned::Round);
    assert_eq!(stored(&life).await, left());
}

#[tokio::test]
async fn a_store_that_fails_costs_a_round_and_nothing_else() {
    for op in [Op::Get, Op::Put] {
        let (world, life) = begin().await;
        (0..20).for_each(|_| world.store.next(op, Fault::Denied));
        assert!(life.clean().await.is_err());
        world.store.clear();
        life.expire_marked(&world).await;
        assert_eq!((life.rows().await, world.objects(&life).await.len()), ([0, 5, 0], 5));
        assert_eq!(life.clean().await.unwrap(), Cleaned::Round);
        assert_eq!(stored(&life).await, left());
    }
}

#[rstest]
#[case::damaged(false)]
#[case::gone(true)]
#[tokio::test]
async fn a_segment_that_cannot_be_read_ends_the_rounds_of_its_partition(#[case] is_gone: bool) {
    let (world, life) = begin().await;
    let third = Arc::clone(&life.meta.load(P).await.unwrap().segments[2]);
    let key = life.tier.names().segment(&object_of(P, &third));
    match is_gone {
        true => world.store.delete(&key).await.unwrap(),
        false => {
            let mut bytes = world.store.get(&key).await.unwrap().bytes().await.unwrap().to_vec();
            bytes[100] ^= 1;
            world.store.put(&key, bytes.into()).await.unwrap();
        }
    }
    let before = life.uuids().await;
    assert_eq!(life.clean().await.unwrap(), Cleaned::Nothing);
    let gets = world.store.count(Op::Get);
    assert_eq!(life.clean().await.unwrap(), Cleaned::Nothing);
    assert_eq!((life.uuids().await, world.store.count(Op::Get)), (before, gets), "it is not tried again");
}

#[tokio::test]
async fn a_large_segment_becomes_pieces_or_stays() {
    let mut world = World::new();
    world.merge_target_bytes = TARGET;
    let life = world.begin(0).await;
    world.partition.with(|fake| fake.config.min_cleanable_dirty_ratio = 0.1);
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    let large: Vec<(&str, bool)> = keys.iter().map(|key| (key.as_str(), true)).collect();
    seal(&world, &large);
    seal(&world, &[("x", true)]);
    copy(&world, &life).await;
    let before = life.uuids().await;
    assert_eq!(life.clean().await.unwrap(), Cleaned::Round);
    assert_eq!(life.uuids().await, before, "nothing goes, and nothing is written");

    seal(&world, &large[3..5]);
    seal(&world, &[("y", true), ("z", true)]);
    seal(&world, &[("newest", true)]);
    copy(&world, &life).await;
    assert_eq!(life.clean().await.unwrap(), Cleaned::Round);
    let segments = life.meta.load(P).await.unwrap().chain().segments;
    assert!(segments.iter().all(|segment| segment.log_bytes <= TARGET), "{segments:?}");
    assert!(segments.len() > 5 && segments.windows(2).all(|two| two[0].last_offset + 1 == two[1].base_offset));
    assert!(segments.iter().all(|segment| segment.epochs == [(0, segment.base_offset)]), "{segments:?}");
    let found = stored(&life).await;
    assert!(!found.contains_key(&3) && !found.contains_key(&4) && found.len() == 20 - 2 + 6, "{found:?}");
    world.check(&life).await;
    let held = life.tier.budgets().into_iter().find(|budget| budget.name == "copy").unwrap().held;
    assert_eq!(held, 0);
}

#[tokio::test]
async fn copies_wake_the_rounds() {
    let (world, life) = begin().await;
    life.log.start(&life.tasks);
    let mut readable = world.partition.readable().len();
    while readable == 5 || life.cleaned_end().await == 0 {
        tokio::task::yield_now().await;
        readable = world.partition.readable().len();
    }
    assert_eq!(stored(&life).await, left());
    life.tasks.stop(std::time::Duration::from_secs(5)).await;
}
