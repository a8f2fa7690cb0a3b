//! The broker dies at every moment of a job, once each: between any two requests to the store and between any two changes
//! of its rows. Whatever that leaves, the next life ends with one copy of each segment and nothing else.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use rstest::rstest;
use terrace_tiering::store::faulty::Fault;
use terrace_tiering::store::meter::Op;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::super::merge::Merged;
use super::super::testing::batch;
use super::merging;
use super::world::{GRACE_MS, Life, P, World};
use crate::metadata::image::Change;
use crate::metadata::remote_log::RemoteLogMetadata;
use crate::metadata::store::MetadataStore;
use crate::partition::tiered::SealedInfo;

/// More moments than any job has.
const MOMENTS_MAX: usize = 2000;

/// Runs `work` until it has given way so often; `None` when that was before its end.
pub(super) async fn cut<T>(work: impl Future<Output = T>, moments: usize) -> Option<T> {
    let mut work = pin!(work);
    let mut left = moments;
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// Everything that is due until the grace time of all marks is over.
async fn settle(world: &World, life: &Life) {
    for _ in 0..3 {
        life.copy_all().await;
        for state in life.log.all_states() {
            life.log.expire(&state).await.unwrap();
        }
        world.clock.advance(GRACE_MS);
    }
}

#[tokio::test]
async fn a_copy_may_die_at_any_moment() {
    for moments in 0..MOMENTS_MAX {
        let world = World::new();
        let life = world.begin(1).await;
        world.store.set_stepwise(true);
        let done = cut(life.log.copy_next(P, &CancellationToken::new()), moments).await;
        drop(life);
        world.store.set_stepwise(false);
        let life = world.start().await.unwrap();
        world.check(&life).await;
        let readable = world.partition.readable();
        assert!(readable.is_empty() || readable == [(0, 9)], "{readable:?} after {moments}");
        settle(&world, &life).await;
        life.log.close().await;
        assert_eq!((world.partition.readable(), life.rows().await), (vec![(0, 9)], [0, 1, 0]), "{moments}");
        assert_eq!((life.rooted().await, world.objects(&life).await.len()), (vec![(0, 9)], 1), "{moments}");
        if done.is_some() {
            assert!(moments >= 8, "it gives way at its requests: {moments}");
            return;
        }
    }
    panic!("the copy does not end");
}

#[tokio::test]
async fn a_deletion_may_die_at_any_moment() {
    for moments in 0..MOMENTS_MAX {
        let world = World::new();
        let life = world.begin(3).await;
        life.copy_all().await;
        life.log.write_root(&life.state()).await.unwrap();
        world.partition.with(|fake| fake.offsets.log_start = 20);
        world.store.set_stepwise(true);
        let work = async {
            life.log.expire(&life.state()).await.unwrap();
            world.clock.advance(GRACE_MS);
            life.log.expire(&life.state()).await.unwrap();
        };
        let done = cut(work, moments).await;
        drop(life);
        world.store.set_stepwise(false);
        let life = world.start().await.unwrap();
        world.check(&life).await;
        settle(&world, &life).await;
        assert_eq!((world.partition.readable(), life.rows().await), (vec![(20, 29)], [0, 1, 0]), "{moments}");
        assert_eq!((life.rooted().await, world.objects(&life).await.len()), (vec![(20, 29)], 1), "{moments}");
        if done.is_some() {
            assert!(moments >= 8, "it gives way at its requests: {moments}");
            return;
        }
    }
    panic!("the deletion does not end");
}

#[tokio::test]
async fn the_purge_of_a_topic_may_die_at_any_moment() {
    for moments in 0..MOMENTS_MAX {
        let world = World::new();
        let life = world.begin(2).await;
        life.copy_all().await;
        life.log.write_root(&life.state()).await.unwrap();
        world.store.set_stepwise(true);
        let work = async {
            life.meta.commit(None, vec![Change::DeleteTopic(P.topic)]).await.unwrap();
            life.log.expire(&life.state()).await.unwrap();
            world.clock.advance(GRACE_MS);
            life.log.expire(&life.state()).await.unwrap();
        };
        let done = cut(work, moments).await;
        drop(life);
        world.store.set_stepwise(false);
        let life = world.start().await.unwrap();
        if life.meta.image().topic_by_id(&P.topic).is_some() {
            life.meta.commit(None, vec![Change::DeleteTopic(P.topic)]).await.unwrap();
        }
        for _ in 0..3 {
            // Its last object gone, it is no state any more.
            for state in life.log.all_states() {
                life.log.expire(&state).await.unwrap();
            }
            world.clock.advance(GRACE_MS);
        }
        assert!(world.objects(&life).await.is_empty(), "{moments}");
        assert!(life.meta.partitions().await.unwrap().is_empty(), "{moments}");
        assert!(life.tier.newest_roots().await.unwrap().is_empty(), "{moments}");
        assert_eq!(life.tier.tombstones().await.unwrap(), [P.topic], "{moments}");
        if done.is_some() {
            return;
        }
    }
    panic!("the purge does not end");
}

#[tokio::test]
async fn a_merge_may_die_at_any_moment() {
    for moments in 0..MOMENTS_MAX {
        let (world, life) = merging::begin(5).await;
        let held = merging::records(&world);
        life.log.write_root(&life.state()).await.unwrap();
        world.store.set_stepwise(true);
        let running = CancellationToken::new();
        let work = async {
            life.log.merge_next(P, &running).await.unwrap();
            life.log.expire(&life.state()).await.unwrap();
            world.clock.advance(GRACE_MS);
            life.log.expire(&life.state()).await.unwrap();
        };
        let done = cut(work, moments).await;
        drop(life);
        world.store.set_stepwise(false);
        let life = world.start().await.unwrap();
        world.check(&life).await;
        let readable = world.partition.readable();
        assert!(readable.len() == 5 || readable == [(0, 29), (30, 39), (40, 49)], "{readable:?} after {moments}");
        assert_eq!(merging::stored(&life).await, held, "{moments}");
        settle(&world, &life).await;
        while life.log.merge_next(P, &running).await.unwrap() != Merged::Nothing {}
        settle(&world, &life).await;
        let merged = vec![(0, 29), (30, 39), (40, 49)];
        assert_eq!((world.partition.readable(), life.rows().await), (merged.clone(), [0, 3, 0]), "{moments}");
        life.log.close().await;
        assert_eq!((life.rooted().await, world.objects(&life).await.len()), (merged, 3), "{moments}");
        assert_eq!(merging::stored(&life).await, held, "{moments}");
        if done.is_some() {
            assert!(moments >= 12, "it gives way at its requests: {moments}");
            return;
        }
    }
    panic!("the merge does not end");
}

/// A segment of 17 MiB, which goes in two parts.
fn seal_large(world: &World) {
    let value = vec![b'v'; 17 << 20];
    let mut builder = crate::protocol::batch_builder::BatchBuilder::new(0);
    builder.push(0, 1000, None, Some(&value), [].into_iter());
    let large = [builder.finish(), batch(1, 9, 0, 1000)].concat();
    world.partition.with(|fake| {
        let bytes = large.len() as u64;
        let (first_timestamp, max_timestamp) = (1000, 1000);
        fake.segments.push((
            SealedInfo { base_offset: 0, covers_from: 0, next_offset: 10, bytes, first_timestamp, max_timestamp },
            large,
        ));
        (fake.offsets.log_end, fake.offsets.high_watermark, fake.offsets.last_stable) = (10, 10, 10);
    });
}

#[rstest]
#[case::before_the_first_part(0)]
#[case::between_the_parts(1)]
#[tokio::test]
async fn a_copy_that_dies_between_its_parts_leaves_nothing(#[case] parts: usize) {
    let world = World::new();
    let life = world.begin(0).await;
    seal_large(&world);
    let gate = Arc::new(Semaphore::new(parts));
    (0..2).for_each(|_| world.store.next(Op::PutPart, Fault::Wait(Arc::clone(&gate))));
    let running = CancellationToken::new();
    let stuck = async {
        while world.store.count(Op::PutPart) < 2 || gate.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        outcome = life.log.copy_next(P, &running) => panic!("{outcome:?}"),
        () = stuck => {}
    }
    drop(life);
    world.store.clear();
    let life = world.start().await.unwrap();
    assert!(world.objects(&life).await.is_empty(), "no object before all of it");
    settle(&world, &life).await;
    assert_eq!((world.partition.readable(), life.rows().await), (vec![(0, 9)], [0, 1, 0]));
    assert_eq!(world.objects(&life).await.len(), 1);
    world.check(&life).await;
}
