use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use terrace_tiering::store::faulty::Fault;
use terrace_tiering::store::meter::Op;
use terrace_tiering::store::retry::ATTEMPTS_MAX;
use tokio::sync::Semaphore;

use super::super::expirer::ExpireError;
use super::world::{GRACE_MS, Life, P, World};
use crate::metadata::image::Change;
use crate::metadata::remote_log::{RemoteLogError, RemoteLogMetadata};
use crate::metadata::store::MetadataStore;
use crate::partition::read::ReadError;

/// Three segments in the tier and in a root; the log start has passed the first two.
async fn with_two_expired(world: &World) -> Life {
    let life = world.begin(3).await;
    life.copy_all().await;
    life.log.write_root(&life.state()).await.unwrap();
    world.partition.with(|fake| fake.offsets.log_start = 20);
    life
}

#[tokio::test]
async fn expired_segments_go_in_order_and_after_the_grace_time() {
    let world = World::new();
    let life = with_two_expired(&world).await;
    life.log.expire(&life.state()).await.unwrap();
    assert_eq!(world.partition.readable(), [(20, 29)]);
    assert_eq!(life.rooted().await, [(20, 29)], "no root names what will be deleted");
    assert_eq!(world.objects(&life).await.len(), 3, "the grace time has not passed");
    world.clock.advance(GRACE_MS - 1);
    life.log.expire(&life.state()).await.unwrap();
    assert_eq!(world.objects(&life).await.len(), 3);
    world.clock.advance(1);
    life.log.expire(&life.state()).await.unwrap();
    assert_eq!((world.objects(&life).await.len(), life.rows().await), (1, [0, 1, 0]));
    assert_eq!(life.meta.load(P).await.unwrap().log_start, 20);
    world.check(&life).await;
}

#[tokio::test]
async fn deleted_records_take_their_segments_with_them() {
    let world = World::new();
    let life = world.begin(3).await;
    life.copy_all().await;
    world.partition.with(|fake| fake.offsets.log_start = 15);
    life.log.expire(&life.state()).await.unwrap();
    assert_eq!(world.partition.readable(), [(10, 19), (20, 29)], "the segment that holds the log start stays");
}

/// Where a pass is broken off.
#[derive(Debug, Clone, Copy)]
enum Broken {
    /// No answer of the metadata to this change of the pass.
    Row(usize),
    /// An error of the store.
    Store(Op),
    /// The store did it, and answered with an error.
    StoreAfter(Op),
}

#[rstest]
#[tokio::test]
async fn remote_deletion_resumes_after_each_step(
    #[values(
        Broken::Row(0),
        Broken::Row(1),
        Broken::Store(Op::Put),
        Broken::StoreAfter(Op::Put),
        Broken::Store(Op::Delete),
        Broken::StoreAfter(Op::Delete),
        Broken::Store(Op::List)
    )]
    broken: Broken,
    #[values(false, true)] restart: bool,
) {
    let world = World::new();
    let life = with_two_expired(&world).await;
    if let Broken::Row(passing) = broken {
        life.meta.fail_remote(passing, RemoteLogError::Store("disk".to_owned()));
    }
    let fault = match broken {
        Broken::Store(op) => Some((op, Fault::Error)),
        Broken::StoreAfter(op) => Some((op, Fault::ErrorAfter)),
        Broken::Row(_) => None,
    };
    if let Some((op, fault)) = fault {
        (0..ATTEMPTS_MAX).for_each(|_| world.store.next(op, fault.clone()));
    }
    // One pass marks, one deletes; each may break off.
    for _ in 0..2 {
        let _ = life.log.expire(&life.state()).await;
        world.clock.advance(GRACE_MS);
    }
    world.store.clear();
    world.check(&life).await;
    let life = if restart {
        drop(life);
        world.start().await.unwrap()
    } else {
        life
    };
    world.check(&life).await;
    for _ in 0..2 {
        life.log.expire(&life.state()).await.unwrap();
        world.clock.advance(GRACE_MS);
    }
    assert_eq!((life.rows().await, world.objects(&life).await.len()), ([0, 1, 0], 1));
    assert_eq!((life.rooted().await, world.partition.readable()), (vec![(20, 29)], vec![(20, 29)]));
    world.check(&life).await;
}

#[tokio::test]
async fn a_deleted_topic_leaves_a_tombstone_and_nothing_else() {
    let world = World::new();
    let life = world.begin(2).await;
    life.copy_all().await;
    life.meta.commit(None, vec![Change::DeleteTopic(P.topic)]).await.unwrap();
    life.log.expire(&life.state()).await.unwrap();
    assert_eq!(life.tier.tombstones().await.unwrap(), [P.topic]);
    assert_eq!(life.rows().await, [0, 0, 2]);
    drop(life);
    let life = world.start().await.unwrap();
    world.clock.advance(GRACE_MS);
    life.log.expire(&life.state()).await.unwrap();
    assert!(world.objects(&life).await.is_empty());
    assert!(life.meta.partitions().await.unwrap().is_empty());
    assert!(life.tier.newest_roots().await.unwrap().is_empty());
    drop(life);
    let life = world.start().await.expect("what is left of the topic does not stop a start");
    assert_eq!(life.tier.tombstones().await.unwrap(), [P.topic]);
}

#[tokio::test]
async fn a_topic_without_tiering_keeps_what_it_copied_unless_told_otherwise() {
    let world = World::new();
    let life = world.begin(2).await;
    life.copy_all().await;
    world.partition.with(|fake| {
        fake.config.remote_storage_enable = false;
        fake.offsets.local_start = 10;
    });
    life.log.expire(&life.state()).await.unwrap();
    assert_eq!(world.partition.readable().len(), 2);
    world.partition.with(|fake| {
        fake.config.remote_log_delete_on_disable = true;
        fake.log_start_error = Some(ReadError::Storage("disk".to_owned()));
    });
    assert!(matches!(life.log.expire(&life.state()).await, Err(ExpireError::LogStart(_))));
    assert_eq!(world.partition.readable().len(), 2, "nothing goes before the log start is durable");
    life.log.expire(&life.state()).await.unwrap();
    assert_eq!(world.partition.readable(), []);
    assert_eq!(world.partition.with(|fake| fake.offsets.log_start), 10, "what only the tier has is gone");
    world.clock.advance(GRACE_MS);
    life.log.expire(&life.state()).await.unwrap();
    assert!(world.objects(&life).await.is_empty());
}

#[tokio::test]
async fn what_nobody_knows_is_deleted_once_it_is_old() {
    let world = World::new();
    let life = world.begin(2).await;
    life.copy_all().await;
    let kept = life.uuids().await;
    // A row is lost: nobody will ever ask for its object.
    let lost = life.meta.load(P).await.unwrap().segments[0].clone();
    life.log.state(P).lock().await.remote.segments.remove(0);
    assert_eq!(life.log.delete_orphans().await.unwrap(), 0, "too young");
    world.clock.set(i64::MAX / 2);
    assert_eq!(life.log.delete_orphans().await.unwrap(), 1);
    let objects = world.objects(&life).await;
    assert!(kept.iter().all(|uuid| objects.contains(uuid) == (*uuid != lost.uuid)));
}

/// A store that takes its time to delete holds up nobody else.
#[tokio::test]
async fn copies_go_on_while_objects_are_deleted() {
    let world = World::new();
    let life = world.begin(2).await;
    life.copy_all().await;
    world.partition.with(|fake| fake.offsets.log_start = 10);
    life.log.expire(&life.state()).await.unwrap();
    world.clock.advance(GRACE_MS);
    let gate = Arc::new(Semaphore::new(0));
    let before = world.store.count(Op::Delete);
    world.store.next(Op::Delete, Fault::Wait(Arc::clone(&gate)));
    let state = life.state();
    let copy = async {
        while world.store.count(Op::Delete) == before {
            tokio::task::yield_now().await;
        }
        world.partition.seal(3000);
        // A delete is given up after 15 s.
        let copied = tokio::time::timeout(Duration::from_secs(10), life.copy_all()).await;
        gate.add_permits(1);
        copied.expect("the state is not held");
    };
    let (expired, ()) = tokio::join!(life.log.expire(&state), copy);
    expired.unwrap();
    assert_eq!((life.rows().await, world.partition.readable()), ([0, 2, 0], vec![(10, 19), (20, 29)]));
    world.check(&life).await;
}
