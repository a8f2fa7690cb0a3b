use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use terrace_tiering::ObjectRef;
use terrace_tiering::read::{ReadError, ReadHint};

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
    scrub(&life).await.unwrap();
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
