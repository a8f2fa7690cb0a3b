use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use terrace_tiering::ObjectRef;
use terrace_tiering::read::{ReadError, ReadHint};
use terrace_tiering::store::faulty::Fault;
use terrace_tiering::store::meter::Op;
use tokio_util::sync::CancellationToken;

use super::super::scrubber::Place;
use super::super::state::object_of;
use super::world::{GRACE_MS, Life, P, World};
use crate::metadata::remote_log::RemoteLogMetadata;

async fn objects(life: &Life) -> Vec<ObjectRef> {
    life.meta.load(P).await.unwrap().segments.iter().map(|segment| object_of(P, segment)).collect()
}

/// Everything has its turn.
async fn scrub(life: &Life) -> Result<(), terrace_tiering::store::StoreError> {
    life.log.scrub(Place::at(0, 1.0), Place::at(86_400_000, 1.0)).await
}

/// Changes one byte of an object's first batch, behind the back of everybody.
async fn rot(world: &World, key: &Path) {
    let mut bytes = world.store.get(key).await.unwrap().bytes().await.unwrap().to_vec();
    bytes[20] ^= 1;
    world.store.put(key, PutPayload::from(bytes)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_rotted_is_reported_and_never_served() {
    let world = World::new();
    let life = world.begin(3).await;
    life.copy_all().await;
    scrub(&life).await.unwrap();
    assert_eq!(life.log.damage(), None);
    let all = objects(&life).await;
    let key = life.tier.names().segment(&all[1]);
    rot(&world, &key).await;
    scrub(&life).await.unwrap();
    let told = life.log.damage().expect("it is found");
    assert!(told.starts_with("1 damaged segments") && told.contains(key.as_ref()) && told.contains("offsets 10..=19"));
    assert_eq!(life.tier.memory_cache_bytes(), 0, "no cache was filled");
    let served = life.tier.read(&all[1], 10, 1, ReadHint::default()).await;
    assert!(matches!(served, Err(ReadError::Corrupt { .. })), "{served:?}");

    // Mended, it is whole again.
    rot(&world, &key).await;
    scrub(&life).await.unwrap();
    assert_eq!(life.log.damage(), None);
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_reported_until_nothing_names_it() {
    let world = World::new();
    let life = world.begin(3).await;
    life.copy_all().await;
    let first = objects(&life).await[0];
    world.store.delete(&life.tier.names().segment(&first)).await.unwrap();
    scrub(&life).await.unwrap();
    assert!(life.log.damage().expect("it is missed").contains("it is not there"));
    world.partition.with(|fake| fake.offsets.log_start = 10);
    for _ in 0..2 {
        life.log.expire(&life.state()).await.unwrap();
        world.clock.advance(GRACE_MS);
    }
    life.log.forget_what_is_gone().await;
    assert_eq!(life.log.damage(), None, "its records were deleted");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_no_damage() {
    let world = World::new();
    let life = world.begin(2).await;
    life.copy_all().await;
    world.store.set_down(true);
    assert!(scrub(&life).await.is_err());
    assert_eq!(life.log.damage(), None);
}

/// While the local segment is there, damage costs another copy and nothing else.
#[tokio::test(start_paused = true)]
async fn what_rotted_is_copied_again_while_it_is_local() {
    let world = World::new();
    let life = world.begin(3).await;
    life.copy_all().await;
    let before = objects(&life).await;
    rot(&world, &life.tier.names().segment(&before[0])).await;
    world.store.delete(&life.tier.names().segment(&before[1])).await.unwrap();
    scrub(&life).await.unwrap();
    assert!(life.log.damage().expect("found").starts_with("2 damaged"));
    life.log.mend(&CancellationToken::new()).await;
    assert_eq!((life.log.damage(), life.meta.damage().await.unwrap()), (None, Vec::new()));
    assert_eq!(life.rows().await, [0, 3, 2]);
    assert_eq!(world.partition.readable(), [(0, 9), (10, 19), (20, 29)]);
    for segment in world.partition.with(|fake| fake.chain.segments.clone()) {
        life.tier.read(&object_of(P, &segment), segment.base_offset, 1, ReadHint::default()).await.unwrap();
    }
    for _ in 0..2 {
        world.clock.advance(GRACE_MS);
        life.log.expire(&life.state()).await.unwrap();
    }
    world.check(&life).await;
    assert_eq!((life.rows().await, life.rooted().await.len()), ([0, 3, 0], 3));
}

/// What a try left behind is an orphan, and the damaged copy stays known.
#[tokio::test(start_paused = true)]
async fn a_copy_that_was_to_take_a_damaged_ones_place_and_failed_changes_nothing() {
    let world = World::new();
    let life = world.begin(2).await;
    life.copy_all().await;
    let before = objects(&life).await;
    rot(&world, &life.tier.names().segment(&before[0])).await;
    scrub(&life).await.unwrap();
    (0..9).for_each(|_| world.store.next(Op::Put, Fault::Error));
    life.log.mend(&CancellationToken::new()).await;
    assert!(life.log.damage().is_some());
    assert_eq!(life.rows().await, [0, 2, 1]);
    world.store.clear();
    tokio::time::sleep(Duration::from_secs(2)).await;
    life.log.mend(&CancellationToken::new()).await;
    assert_eq!((life.log.damage(), life.rows().await), (None, [0, 2, 2]));
}

#[tokio::test(start_paused = true)]
async fn a_restart_knows_what_was_damaged() {
    let world = World::new();
    let life = world.begin(3).await;
    life.copy_all().await;
    let first = objects(&life).await[0];
    rot(&world, &life.tier.names().segment(&first)).await;
    scrub(&life).await.unwrap();
    let told = life.log.damage().expect("it is found");
    // Nothing local is left to copy it from.
    world.partition.with(|fake| fake.segments.clear());
    drop(life);

    let life = world.start().await.unwrap();
    assert_eq!(life.log.damage(), None);
    life.log.recall_damage().await;
    life.log.mend(&CancellationToken::new()).await;
    assert_eq!(life.log.damage(), Some(told));
    // Mended, it is whole again, for the next life too.
    rot(&world, &life.tier.names().segment(&first)).await;
    scrub(&life).await.unwrap();
    assert_eq!((life.log.damage(), life.meta.damage().await.unwrap()), (None, Vec::new()));
}

/// Nothing is read back in turn; what is noted becomes whole again all the same, each in its way.
#[tokio::test(start_paused = true)]
async fn what_was_noted_is_cleared_where_nothing_is_scrubbed() {
    let world = World { scrub_ratio_per_day: 0.0, ..World::new() };
    let life = world.begin(3).await;
    life.copy_all().await;
    let all = objects(&life).await;
    for object in &all {
        rot(&world, &life.tier.names().segment(object)).await;
    }
    scrub(&life).await.unwrap();
    assert!(life.log.damage().expect("found").starts_with("3 damaged"));
    // The records of one are deleted, somebody puts back the second, the third is local still and the store is down.
    world.partition.with(|fake| {
        fake.offsets.log_start = 10;
        fake.segments.retain(|(segment, _)| segment.base_offset == 20);
    });
    for _ in 0..2 {
        life.log.expire(&life.state()).await.unwrap();
        world.clock.advance(GRACE_MS);
    }
    rot(&world, &life.tier.names().segment(&all[1])).await;
    world.store.set_down(true);
    life.tasks.spawn("scrubber", Arc::clone(&life.log).scrub_until(life.tasks.stopping()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(life.log.damage().is_some());
    world.store.set_down(false);
    // The metadata's thread does not wait for a clock that is turned.
    let given_up = std::time::Instant::now() + Duration::from_secs(30);
    while !life.meta.damage().await.unwrap().is_empty() {
        assert!(std::time::Instant::now() < given_up, "{:?}", life.log.damage());
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    assert_eq!((life.log.damage(), life.rows().await), (None, [0, 2, 1]));
    assert!(life.tasks.stop(Duration::from_secs(60)).await);
}
