use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use terrace_tiering::cluster::owner::OwnerClaim;
use terrace_tiering::manifest::commit::RootContent;
use terrace_tiering::names::ManifestName;
use terrace_tiering::platform::fs::RealFs;
use uuid::Uuid;

use super::super::copier::CopyError;
use super::super::expirer::ExpireError;
use super::super::manifests::RootError;
use super::super::ownership::NotOwner;
use super::super::snapshots::{COORDINATORS, IMAGE, SectionSource, TIERED};
use super::super::start::StartError;
use super::world::{GRACE_MS, Life, P, World};
use crate::metadata::embedded::EmbeddedStore;
use crate::metadata::image::Change;
use crate::metadata::store::MetadataStore;

/// After the prefix was lost: reads go on, nothing is written.
async fn check_lost(world: &World, life: &Life) {
    assert!(life.log.status().lost.is_some());
    world.partition.seal(9000);
    let objects = world.objects(life).await;
    assert!(matches!(
        life.log.copy_next(P, &CancellationToken::new()).await,
        Err(CopyError::NotOwner(NotOwner::Lost(_)))
    ));
    world.partition.with(|fake| fake.offsets.log_start = 10);
    world.clock.advance(GRACE_MS);
    assert!(matches!(life.log.expire(&life.state()).await, Err(ExpireError::NotOwner(NotOwner::Lost(_)))));
    life.log.close().await;
    assert_eq!(world.objects(life).await, objects);
    assert_eq!(world.partition.readable(), [(0, 9)], "what was copied stays readable");
}

#[tokio::test]
async fn a_newer_claim_fences() {
    let world = World::new();
    let life = world.begin(1).await;
    life.copy_all().await;
    let other = OwnerClaim { node_epoch: 7, node_id: 2, process: Uuid::from_u128(2), claimed_at_ms: 0 };
    life.tier.claim_owner(&other).await.unwrap();
    let fenced = life.log.write_root(&life.state()).await;
    assert!(matches!(fenced, Err(RootError::NotOwner(NotOwner::Lost(_)))), "{fenced:?}");
    assert!(life.rooted().await.is_empty());
    check_lost(&world, &life).await;
}

#[tokio::test]
async fn a_broker_that_lost_its_prefix_stops_copying_and_deleting() {
    let world = World::new();
    let life = world.begin(1).await;
    life.copy_all().await;
    let content = RootContent {
        topic: P.topic,
        partition: P.partition,
        leader_epoch: 0,
        writer: Uuid::from_u128(2),
        log_start: 0,
        cleaned_end: 0,
        entries: &[],
    };
    life.tier.commit_root(None, content).await.unwrap();
    assert!(matches!(life.log.write_root(&life.state()).await, Err(RootError::Manifest(_))));
    check_lost(&world, &life).await;
}

#[tokio::test]
async fn a_broker_whose_leadership_was_taken_writes_nothing() {
    let world = World::new();
    let life = world.begin(1).await;
    life.copy_all().await;
    life.meta.take_leadership();
    assert!(life.log.write_root(&life.state()).await.is_err());
    check_lost(&world, &life).await;
}

#[tokio::test]
async fn a_bucket_of_a_later_life_stops_the_start() {
    let world = World::new();
    drop(world.begin(1).await);
    let old = std::fs::read(world.metadata_file()).unwrap();
    drop(world.start().await.unwrap());
    drop(world.start().await.unwrap());
    std::fs::write(world.metadata_file(), old).unwrap();
    let refused = world.start().await.err().unwrap();
    assert!(matches!(refused, StartError::OtherOwner { owner: 2, ours: 1 }), "{refused}");
}

#[tokio::test]
async fn a_bucket_ahead_of_the_rows_stops_the_start() {
    let world = World::new();
    drop(world.begin(1).await);
    let old = std::fs::read(world.metadata_file()).unwrap();
    let life = world.start().await.unwrap();
    life.copy_all().await;
    life.log.close().await;
    drop(life);
    std::fs::write(world.metadata_file(), old).unwrap();
    // As if the old directory had been started elsewhere meanwhile: its epoch alone does not give it away.
    for _ in 0..3 {
        drop(EmbeddedStore::open(&RealFs, &world.metadata_file(), None, &*world.random).unwrap());
    }
    let refused = world.start().await.err().unwrap();
    assert!(matches!(refused, StartError::BucketAhead { offset: 0, .. }), "{refused}");
}

#[tokio::test]
async fn a_root_that_is_behind_is_written_at_the_next_start() {
    let world = World::new();
    let life = world.begin(2).await;
    life.copy_all().await;
    assert!(life.rooted().await.is_empty());
    drop(life);
    let life = world.start().await.unwrap();
    assert_eq!(world.partition.readable().len(), 2);
    life.log.close().await;
    assert_eq!(life.rooted().await, [(0, 9), (10, 19)]);
    drop(life);
    let life = world.start().await.unwrap();
    life.log.write_root(&life.state()).await.unwrap();
    let root = life.tier.load_manifest(P.topic, P.partition).await.unwrap().unwrap().committed.root;
    assert_eq!(root.generation, 1, "a root that is current is not written again");
}

#[tokio::test]
async fn a_root_that_cannot_be_read_is_written_anew() {
    let world = World::new();
    let life = world.begin(1).await;
    life.copy_all().await;
    life.log.close().await;
    let name = ManifestName::Root { leader_epoch: 0, generation: 1 };
    let key = life.tier.names().manifest(P.topic, P.partition, name);
    drop(life);
    world.store.put(&key, "not a root".into()).await.unwrap();
    let life = world.start().await.unwrap();
    life.log.close().await;
    assert_eq!(life.rooted().await, [(0, 9)]);
}

/// A coordinator.
#[derive(Default)]
struct Offsets(AtomicU64);

#[async_trait::async_trait]
impl SectionSource for Offsets {
    fn kind(&self) -> u16 {
        COORDINATORS
    }

    fn version(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    async fn section(&self) -> Option<Bytes> {
        (self.version() > 0).then(|| Bytes::from(format!("offsets {}", self.version())))
    }
}

#[tokio::test]
async fn a_snapshot_is_written_when_something_changed_and_only_then() {
    let offsets = Arc::new(Offsets::default());
    let world = World { sections: vec![offsets.clone()], ..World::new() };
    let life = world.begin(1).await;
    let newest = async |life: &Life| life.tier.newest_snapshot().await.unwrap();

    life.log.write_snapshot().await;
    assert_eq!(newest(&life).await, None, "a coordinator that is still loading has no state yet");
    offsets.0.store(1, Ordering::SeqCst);
    life.log.write_snapshot().await;
    let first = newest(&life).await.unwrap();
    let kinds: Vec<u16> = first.sections.iter().map(|section| section.kind).collect();
    assert_eq!((first.number, kinds), (0, vec![IMAGE, TIERED, COORDINATORS]));
    assert!(String::from_utf8_lossy(&first.sections[0].bytes).contains(r#""name":"t""#));
    assert_eq!(first.sections[2].bytes, "offsets 1");

    let mut expected = 0;
    life.log.write_snapshot().await;
    assert_eq!(newest(&life).await.unwrap().number, expected, "nothing changed");
    for step in 0..4 {
        match step {
            0 => life.copy_all().await,
            1 => offsets.0.store(2, Ordering::SeqCst),
            2 => world.partition.with(|fake| fake.offsets.log_start = 3),
            _ => drop(life.meta.commit(None, vec![Change::DeleteTopic(P.topic)]).await.unwrap()),
        }
        life.log.write_snapshot().await;
        expected += 1;
        assert_eq!(newest(&life).await.unwrap().number, expected, "step {step}");
    }
    drop(life);
    let life = world.start().await.unwrap();
    life.log.close().await;
    assert_eq!(newest(&life).await.unwrap().number, expected + 1, "a new life goes on behind the newest");
}
