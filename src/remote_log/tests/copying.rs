use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use rstest::rstest;
use terrace_tiering::store::faulty::Fault;
use terrace_tiering::store::health::StoreHealth;
use terrace_tiering::store::meter::Op;
use terrace_tiering::store::retry::ATTEMPTS_MAX;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::super::copier::{CopyError, Outcome};
use super::super::state::object_of;
use super::world::{GRACE_MS, P, World};
use crate::metadata::image::Change;
use crate::metadata::remote_log::{RemoteLogError, RemoteLogMetadata};
use crate::metadata::store::MetadataStore;

#[tokio::test]
async fn a_copied_segment_is_published_and_rooted() {
    let world = World::new();
    let life = world.begin(2).await;
    assert_eq!(life.log.copy_next(P, &CancellationToken::new()).await.unwrap(), Outcome::Copied);
    assert_eq!(world.partition.readable(), [(0, 9)], "in order");
    assert_eq!(life.log.copy_next(P, &CancellationToken::new()).await.unwrap(), Outcome::Copied);
    assert_eq!(life.log.copy_next(P, &CancellationToken::new()).await.unwrap(), Outcome::Wait(None));
    assert_eq!(world.partition.readable(), [(0, 9), (10, 19)]);
    life.log.write_root(&life.state()).await.unwrap();
    assert_eq!(life.rooted().await, [(0, 9), (10, 19)]);

    let remote = life.meta.load(P).await.unwrap();
    let footer = life.tier.footer(&object_of(P, &remote.segments[1])).await.unwrap();
    assert_eq!(footer.producer_snapshot, "producers");
    assert_eq!((footer.identity.record_count, footer.identity.batch_count), (10, 2));
    assert_eq!(footer.epochs, [(0, 10)]);
    assert!(remote.segments[1].object_bytes > remote.segments[1].log_bytes);
    world.check(&life).await;
}

#[rstest]
#[case::nothing_stored(Op::Put, Fault::Error)]
#[case::stored_wrong(Op::Put, Fault::FlipBit)]
#[case::stored_but_not_verified(Op::Get, Fault::Error)]
#[case::read_back_wrong(Op::Get, Fault::FlipBit)]
#[tokio::test]
async fn what_a_failed_copy_left_is_deleted(#[case] op: Op, #[case] fault: Fault) {
    let world = World::new();
    let life = world.begin(1).await;
    (0..ATTEMPTS_MAX).for_each(|_| world.store.next(op, fault.clone()));
    let failed = life.log.copy_next(P, &CancellationToken::new()).await;
    assert!(matches!(failed, Err(CopyError::Upload(_))), "{failed:?}");
    assert_eq!(world.partition.readable(), []);
    assert_eq!(life.rows().await, [0, 0, 1]);

    let left = life.uuids().await;
    drop(life);
    world.store.clear();
    let life = world.start().await.unwrap();
    life.copy_all().await;
    assert_eq!(world.partition.readable(), [(0, 9)]);
    assert_eq!(life.rows().await, [0, 1, 1], "under a uuid of its own");
    world.check(&life).await;
    world.clock.advance(GRACE_MS);
    life.log.expire(&life.state()).await.unwrap();
    assert_eq!(life.rows().await, [0, 1, 0]);
    assert!(world.objects(&life).await.iter().all(|uuid| !left.contains(uuid)));
    world.check(&life).await;
}

#[rstest]
#[case::begin(0, [0, 0, 0])]
#[case::finish(1, [1, 0, 0])]
#[tokio::test]
async fn a_copy_whose_row_is_not_written_does_not_exist(#[case] passing: usize, #[case] left: [usize; 3]) {
    let world = World::new();
    let life = world.begin(1).await;
    life.meta.fail_remote(passing, RemoteLogError::Store("disk".to_owned()));
    assert!(matches!(life.log.copy_next(P, &CancellationToken::new()).await, Err(CopyError::Metadata(_))));
    assert_eq!((world.partition.readable(), life.rows().await), (vec![], left));
    world.check(&life).await;
    life.copy_all().await;
    life.log.expire(&life.state()).await.unwrap();
    world.clock.advance(GRACE_MS);
    life.log.expire(&life.state()).await.unwrap();
    assert_eq!((world.partition.readable(), life.rows().await), (vec![(0, 9)], [0, 1, 0]));
    world.check(&life).await;
}

#[tokio::test]
async fn a_started_copy_of_an_earlier_run_is_deleted_and_copied_again() {
    let world = World::new();
    let life = world.begin(1).await;
    let gate = Arc::new(Semaphore::new(0));
    world.store.next(Op::Put, Fault::Wait(gate));
    let announced = async {
        while life.rows().await != [1, 0, 0] {
            tokio::task::yield_now().await;
        }
    };
    let running = CancellationToken::new();
    tokio::select! {
        outcome = life.log.copy_next(P, &running) => panic!("{outcome:?}"),
        () = announced => {}
    }
    drop(life);

    let life = world.start().await.unwrap();
    assert_eq!(world.partition.readable(), [], "a started copy is never read");
    life.log.expire(&life.state()).await.unwrap();
    assert_eq!(life.rows().await, [0, 0, 1]);
    life.copy_all().await;
    world.clock.advance(GRACE_MS);
    life.log.expire(&life.state()).await.unwrap();
    assert_eq!(life.rows().await, [0, 1, 0]);
    assert_eq!(world.objects(&life).await.len(), 1);
    world.check(&life).await;
}

#[rstest]
#[case::below_the_log_start(false)]
#[case::topic_deleted(true)]
#[tokio::test]
async fn a_copy_that_comes_too_late_is_an_orphan(#[case] delete_topic: bool) {
    let world = World::new();
    let life = world.begin(2).await;
    let gate = Arc::new(Semaphore::new(0));
    world.store.next(Op::Put, Fault::Wait(Arc::clone(&gate)));
    let meanwhile = async {
        while life.rows().await != [1, 0, 0] {
            tokio::task::yield_now().await;
        }
        if delete_topic {
            life.meta.commit(None, vec![Change::DeleteTopic(P.topic)]).await.unwrap();
        } else {
            world.partition.with(|fake| fake.offsets.log_start = 10);
        }
        life.log.expire(&life.state()).await.unwrap();
        assert_eq!(life.rows().await, [1, 0, 0], "a copy on its way is left alone");
        gate.add_permits(9);
    };
    let running = CancellationToken::new();
    let (outcome, ()) = tokio::join!(life.log.copy_next(P, &running), meanwhile);
    assert_eq!(outcome.unwrap(), Outcome::Orphaned);
    assert_eq!((world.partition.readable(), life.rows().await), (vec![], [0, 0, 1]));
    world.clock.advance(GRACE_MS);
    life.log.expire(&life.state()).await.unwrap();
    assert!(world.objects(&life).await.is_empty());
}

#[tokio::test]
async fn a_corrupt_segment_stays_local_and_so_does_what_is_behind_it() {
    let world = World::new();
    let life = world.begin(2).await;
    world.partition.with(|fake| fake.segments[0].1[70] ^= 1);
    for _ in 0..2 {
        assert_eq!(life.log.copy_next(P, &CancellationToken::new()).await.unwrap(), Outcome::Wait(None));
    }
    assert_eq!(life.rows().await, [0, 0, 0]);
    assert!(world.objects(&life).await.is_empty());
    // The operator deletes its records.
    world.partition.with(|fake| fake.offsets.log_start = 10);
    life.copy_all().await;
    assert_eq!(world.partition.readable(), [(10, 19)]);
}

#[tokio::test]
async fn nothing_is_copied_where_copying_is_off() {
    let world = World::new();
    let life = world.begin(1).await;
    world.partition.with(|fake| fake.config.remote_log_copy_disable = true);
    assert_eq!(life.log.copy_next(P, &CancellationToken::new()).await.unwrap(), Outcome::Wait(None));
    world.partition.with(|fake| {
        fake.config.remote_log_copy_disable = false;
        fake.config.remote_storage_enable = false;
    });
    assert_eq!(life.log.copy_next(P, &CancellationToken::new()).await.unwrap(), Outcome::Wait(None));
    assert_eq!(life.rows().await, [0, 0, 0]);
}

#[tokio::test]
async fn a_roll_wakes_the_copiers_and_an_outage_only_delays_them() {
    let world = World::new();
    let life = world.begin(1).await;
    life.log.start(&life.tasks);
    life.rolls.wake(P);
    world.partition.until_readable(1).await;

    world.store.set_down(true);
    (0..3).for_each(|n| world.partition.seal(5000 + n));
    life.rolls.wake(P);
    while life.rows().await[2] == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.partition.readable().len(), 1);
    world.store.set_down(false);
    world.partition.until_readable(4).await;
    assert!(life.tasks.stop(Duration::from_secs(5)).await);
    life.log.close().await;
    assert_eq!(life.rooted().await.len(), 4);
    world.check(&life).await;
}

#[tokio::test(start_paused = true)]
async fn retries_wait_longer_each_time_until_one_succeeds() {
    let world = World::new();
    let life = world.begin(0).await;
    let waits: Vec<_> = (0..9).map(|_| (life.log.retry_at(P) - Instant::now()).as_millis()).collect();
    let most = |n: usize| 60_000.min(1000 << n);
    assert!(waits.iter().enumerate().all(|(n, wait)| (most(n) / 2..=most(n)).contains(wait)), "{waits:?}");
    life.log.succeeded(P);
    assert!((life.log.retry_at(P) - Instant::now()).as_millis() <= 1000);
}

#[tokio::test]
async fn a_store_that_is_down_gets_no_copies() {
    let world = World::new();
    let life = world.begin(1).await;
    world.store.set_down(true);
    while matches!(life.tier.health(), StoreHealth::Up { .. }) {
        let _ = life.tier.newest_owner().await;
    }
    assert!(matches!(life.log.copy_next(P, &CancellationToken::new()).await, Err(CopyError::StoreDown(_))));
    assert_eq!(life.rows().await, [0, 0, 0], "an outage does not fill the metadata");
}

#[tokio::test]
async fn what_is_not_copied_is_measured() {
    let world = World::new();
    let life = world.begin(2).await;
    life.copy_all().await;
    world.partition.seal(900_000);
    life.log.sweep().await;
    let status = life.log.status();
    assert_eq!((status.uncopied_segments, status.oldest_uncopied_age_ms), (1, 100_000));
    life.copy_all().await;
    life.log.sweep().await;
    assert_eq!(life.log.status().oldest_uncopied_age_ms, 0);
}
