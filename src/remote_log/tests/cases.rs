//! Single cases that a store, a clock or a deletion makes hard, over a partition without a log.

use std::sync::Arc;

use rstest::rstest;
use terrace_tiering::store::faulty::Fault;
use terrace_tiering::store::health::StoreHealth;
use terrace_tiering::store::meter::Op;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::super::copier::{CopyError, Outcome};
use super::super::state::object_of;
use super::super::testing::FakePartition;
use super::world::{GRACE_MS, Life, P, World, topic};
use crate::metadata::image::{Change, PartitionId};
use crate::metadata::remote_log::RemoteLogMetadata;
use crate::metadata::store::MetadataStore;

/// Another topic of the same name.
const AGAIN: PartitionId = PartitionId { topic: Uuid::from_u128(0xDEF), partition: 0 };
const YEARS_MS: i64 = 10 * 365 * 86_400_000;

async fn until_started(life: &Life) {
    while life.rows().await[0] == 0 {
        tokio::task::yield_now().await;
    }
}

async fn expire_all(life: &Life) {
    for state in life.log.all_states() {
        life.log.expire(&state).await.unwrap();
    }
}

#[tokio::test]
async fn a_topic_made_again_under_its_name_keeps_what_is_its_own() {
    let again = FakePartition::new(AGAIN);
    let world = World { others: vec![Arc::clone(&again)], ..World::new() };
    let life = world.begin(2).await;
    life.copy_all().await;
    life.log.write_root(&life.state()).await.unwrap();
    let old = world.objects(&life).await;
    life.meta.commit(None, vec![Change::DeleteTopic(P.topic)]).await.unwrap();
    life.meta.commit(None, vec![Change::CreateTopic(topic(AGAIN.topic))]).await.unwrap();
    again.seal(5000);
    assert_eq!(life.log.copy_next(AGAIN, &CancellationToken::new()).await.unwrap(), Outcome::Copied);
    // The bucket is down in the middle of the purge, and the broker ends meanwhile.
    world.store.set_down(true);
    for state in life.log.all_states() {
        let _ = life.log.expire(&state).await;
    }
    drop(life);
    world.store.set_down(false);
    let life = world.start().await.unwrap();
    assert_eq!(again.readable(), [(0, 9)]);
    for _ in 0..3 {
        expire_all(&life).await;
        world.clock.advance(GRACE_MS);
    }
    let kept = world.objects(&life).await;
    assert!(kept.len() == 1 && kept.is_disjoint(&old));
    life.log.close().await;
    let manifest = life.tier.load_manifest(AGAIN.topic, 0).await.unwrap().unwrap();
    assert_eq!(
        manifest.entries.iter().map(|entry| entry.uuid).collect::<Vec<_>>(),
        kept.into_iter().collect::<Vec<_>>()
    );
    drop(life);
    world.start().await.expect("nothing of the old topic stops a start");
    assert_eq!(again.readable(), [(0, 9)]);
}

/// The bucket does not answer at any request of a purge, one after the other: it goes on where it was.
#[tokio::test(start_paused = true)]
async fn a_purge_goes_on_when_the_bucket_is_back() {
    let world = World::new();
    let life = world.begin(2).await;
    life.copy_all().await;
    life.log.write_root(&life.state()).await.unwrap();
    life.meta.commit(None, vec![Change::DeleteTopic(P.topic)]).await.unwrap();
    let state = life.state();
    let mut failures = 0;
    while !life.meta.partitions().await.unwrap().is_empty() {
        for op in [Op::Put, Op::List, Op::Delete, Op::Get] {
            world.store.set_down(false);
            (0..3).for_each(|_| world.store.next(op, Fault::Hang));
            failures += usize::from(life.log.expire(&state).await.is_err());
            world.store.clear();
        }
        world.store.set_down(true);
        failures += usize::from(life.log.expire(&state).await.is_err());
        world.store.set_down(false);
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        world.clock.advance(GRACE_MS);
        if life.meta.partitions().await.unwrap().is_empty() {
            break;
        }
        let _ = life.log.expire(&state).await;
    }
    assert!(failures > 2, "{failures}");
    assert!(world.objects(&life).await.is_empty());
    assert!(life.tier.newest_roots().await.unwrap().is_empty());
}

/// The sweeper looked before the copy began, and the clock has jumped by years: age alone would call the object an orphan.
#[tokio::test]
async fn an_upload_in_flight_is_no_orphan_whatever_the_clock_says() {
    let world = World::new();
    let life = world.begin(2).await;
    life.copy_all().await;
    world.partition.seal(9000);
    let gate = Arc::new(Semaphore::new(0));
    let before = world.store.count(Op::List);
    world.store.next(Op::List, Fault::Wait(Arc::clone(&gate)));
    let copy = async {
        while world.store.count(Op::List) == before {
            tokio::task::yield_now().await;
        }
        assert_eq!(life.log.copy_next(P, &CancellationToken::new()).await.unwrap(), Outcome::Copied);
        world.clock.set(i64::MAX / 2);
        gate.add_permits(1);
    };
    let (deleted, ()) = tokio::join!(life.log.delete_orphans(), copy);
    assert_eq!(deleted.unwrap(), 0);
    world.check(&life).await;
    assert_eq!(world.partition.readable(), [(0, 9), (10, 19), (20, 29)]);
}

#[rstest]
#[case::forward(YEARS_MS)]
#[case::back(-YEARS_MS)]
#[tokio::test]
async fn a_clock_that_jumps_while_a_segment_is_copied_loses_nothing(#[case] by_ms: i64) {
    let world = World::new();
    world.clock.set(2 * YEARS_MS);
    let life = world.begin(3).await;
    let gate = Arc::new(Semaphore::new(0));
    world.store.next(Op::Put, Fault::Wait(Arc::clone(&gate)));
    let jump = async {
        until_started(&life).await;
        world.clock.advance(by_ms);
        life.log.expire(&life.state()).await.unwrap();
        assert_eq!(life.rows().await, [1, 0, 0], "a copy on its way is left alone");
        gate.add_permits(1);
    };
    let running = CancellationToken::new();
    let (outcome, ()) = tokio::join!(life.log.copy_next(P, &running), jump);
    assert_eq!(outcome.unwrap(), Outcome::Copied);
    life.copy_all().await;
    life.log.write_root(&life.state()).await.unwrap();
    assert_eq!(life.rooted().await.len(), 3);
    drop(life);
    world.clock.advance(-2 * by_ms);
    let life = world.start().await.expect("a claim of another time is a claim all the same");
    assert_eq!(world.partition.readable().len(), 3);
    // Roots of another time are neither newer nor older by it.
    world.partition.with(|fake| fake.offsets.log_start = 10);
    life.log.expire(&life.state()).await.unwrap();
    assert_eq!(life.rooted().await, [(10, 19), (20, 29)]);
    world.check(&life).await;
}

/// A mark made while the clock was years ahead: its grace time would never be over.
#[tokio::test]
async fn a_mark_of_a_wrong_clock_is_no_reason_to_keep_an_object_for_years() {
    let world = World::new();
    let life = world.begin(2).await;
    life.copy_all().await;
    world.partition.with(|fake| fake.offsets.log_start = 10);
    world.clock.advance(YEARS_MS);
    life.log.expire(&life.state()).await.unwrap();
    assert_eq!(life.rows().await, [0, 1, 1]);
    // A second back is what clocks do; it keeps the mark.
    world.clock.advance(-GRACE_MS / 2);
    life.log.expire(&life.state()).await.unwrap();
    assert_eq!(life.rows().await, [0, 1, 1]);
    world.clock.advance(-YEARS_MS);
    life.log.expire(&life.state()).await.unwrap();
    assert_eq!((life.rows().await, world.objects(&life).await.len()), ([0, 1, 0], 1));
    world.check(&life).await;
}

/// Nobody may write: reads go on, no row is made for a copy that cannot be, and copies go on when it may be written again.
#[tokio::test(start_paused = true)]
async fn a_read_only_bucket_gets_no_rows_for_ever() {
    let world = World::new();
    let life = world.begin(1).await;
    life.copy_all().await;
    world.partition.seal(5000);
    world.store.deny(&[Op::Put, Op::PutPart, Op::Delete]);
    let mut failures = 0;
    for _ in 0..100 {
        failures += usize::from(life.log.copy_next(P, &CancellationToken::new()).await.is_err());
        // Another process would see who owns the prefix.
        life.tier.newest_owner().await.unwrap();
        tokio::time::advance(std::time::Duration::from_millis(1500)).await;
    }
    assert_eq!(failures, 100);
    let [started, finished, marked] = life.rows().await;
    assert!(started == 0 && finished == 1 && marked <= 5, "{started} {finished} {marked}");
    assert!(matches!(life.tier.health(), StoreHealth::Down { .. }));
    let remote = life.meta.load(P).await.unwrap();
    let copied = remote.segments.iter().find(|segment| segment.base_offset == 0).unwrap();
    life.tier.footer(&object_of(P, copied)).await.unwrap();
    world.store.deny(&[]);
    life.copy_all().await;
    assert_eq!(world.partition.readable(), [(0, 9), (10, 19)]);
    assert!(matches!(life.tier.health(), StoreHealth::Up { .. }));
}

#[tokio::test(start_paused = true)]
async fn expired_credentials_get_no_rows_and_copies_go_on_with_new_ones() {
    let world = World::new();
    let life = world.begin(2).await;
    world.store.deny(&[Op::Put, Op::PutPart, Op::Delete, Op::Get, Op::Head, Op::List]);
    for _ in 0..50 {
        let refused = life.log.copy_next(P, &CancellationToken::new()).await;
        assert!(matches!(refused, Err(CopyError::Upload(_) | CopyError::StoreDown(_))), "{refused:?}");
        tokio::time::advance(std::time::Duration::from_millis(1500)).await;
    }
    assert!(life.rows().await[2] <= 5, "{:?}", life.rows().await);
    world.store.deny(&[]);
    // The owner check finds out.
    while matches!(life.tier.health(), StoreHealth::Down { .. }) {
        let _ = life.tier.newest_owner().await;
        let _ = life.tier.takes_writes().await;
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
    }
    life.copy_all().await;
    assert_eq!(world.partition.readable(), [(0, 9), (10, 19)]);
}
