use object_store::memory::InMemory;
use object_store::path::Path;
use terrace_tiering::TierOptions;
use terrace_tiering::cluster::snapshot::SnapshotSection;
use terrace_tiering::object::chunk::{BatchSpan, ChunkCutter};
use terrace_tiering::object::footer::SegmentIdentity;
use terrace_tiering::platform::clock::ManualClock;
use terrace_tiering::platform::fs::{Fs, Open, RealFs};
use terrace_tiering::platform::random::SeededRandom;
use terrace_tiering::platform::task::Tasks;
use terrace_tiering::store::open::StoreKind;
use terrace_tiering::tier::Machine;
use terrace_tiering::upload::SegmentUpload;

use super::*;
use crate::metadata::image::Image;

const EPOCH: LeaderEpoch = 4;

fn topic(id: u128, name: &str) -> Topic {
    Topic {
        id: Uuid::from_u128(id),
        name: name.into(),
        partition_count: 1,
        replication_factor: 1,
        config: BTreeMap::new(),
    }
}

fn id(topic: u128, partition: i32) -> PartitionId {
    PartitionId { topic: Uuid::from_u128(topic), partition }
}

async fn tier() -> Arc<Tier> {
    let machine = Machine {
        clock: ManualClock::at(1_000_000),
        random: SeededRandom::new(1),
        fs: RealFs::shared(),
        tasks: Tasks::new(),
    };
    let options = TierOptions::new("memory:", "cluster");
    Tier::over(Arc::new(InMemory::new()), StoreKind::Memory, Path::default(), options, machine).await.expect("a tier")
}

/// Ten records of one byte each, whatever they are.
async fn upload(tier: &Tier, partition: PartitionId, topic_name: &str, base_offset: Offset) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    std::fs::write(&path, [7; 10]).expect("a file");
    let mut cutter = ChunkCutter::new();
    let last_offset = base_offset + 9;
    cutter.batch(BatchSpan { position: 0, base_offset, last_offset, max_timestamp: 5 }, &[7; 10]).expect("in order");
    let identity = SegmentIdentity {
        cluster_id: "cluster".to_owned(),
        topic: partition.topic,
        topic_name: topic_name.to_owned(),
        partition: partition.partition,
        base_offset,
        last_offset,
        leader_epoch: EPOCH,
        uuid: Uuid::from_u128(partition.topic.as_u128() << 64 | base_offset as u128 | 1 << 32),
        record_count: 10,
        batch_count: 1,
        first_timestamp: 5,
        max_timestamp: 5,
        max_timestamp_offset: base_offset,
        flags: 0,
    };
    let upload = SegmentUpload {
        identity,
        log: RealFs.open(&path, Open::Read).expect("the file"),
        log_bytes: 10,
        chunks: cutter.finish(),
        epochs: vec![(EPOCH, base_offset)],
        producer_snapshot: Bytes::new(),
        aborted: Vec::new(),
    };
    tier.upload(upload).await.expect("uploaded");
}

/// The snapshot knows topics `kept`, `deleted` and `expired`; since then `deleted` was deleted, `made` was made, and `kept`
/// got another segment and another partition.
async fn after_the_cut() -> (Arc<Tier>, Snapshot) {
    let tier = tier().await;
    let mut image = Image { cluster_id: "cluster".into(), node_epoch: EPOCH, ..Image::default() };
    for topic in [topic(1, "kept"), topic(2, "deleted"), topic(3, "expired")] {
        let topic = Arc::new(topic);
        image.topics_by_id.insert(topic.id, Arc::clone(&topic));
        image.topics.insert(Arc::clone(&topic.name), topic);
    }
    let tiered = [(id(1, 0), 0, 10), (id(2, 0), 0, 10), (id(3, 0), 70, -1)];
    let section = |kind, bytes| SnapshotSection { kind, bytes };
    let sections =
        vec![section(IMAGE, content::encode_image(&image)), section(TIERED, content::encode_tiered(&tiered))];
    upload(&tier, id(1, 0), "kept", 0).await;
    upload(&tier, id(2, 0), "deleted", 0).await;
    upload(&tier, id(1, 0), "kept", 10).await;
    upload(&tier, id(1, 1), "kept", 0).await;
    upload(&tier, id(9, 0), "made", 0).await;
    tier.put_tombstone(Uuid::from_u128(2)).await.expect("put");
    (tier, Snapshot { number: 0, sections })
}

fn names(topics: &[Topic]) -> Vec<&str> {
    let mut names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
    names.sort_unstable();
    names
}

fn bounds(partitions: &[PartitionCut]) -> Vec<(PartitionId, Offset, Offset)> {
    let mut bounds: Vec<_> = partitions.iter().map(|each| (each.id, each.log_start, each.end)).collect();
    bounds.sort_unstable_by_key(|(id, ..)| (id.topic, id.partition));
    bounds
}

#[tokio::test]
async fn the_newest_cut_has_what_came_since_the_snapshot() {
    let (tier, snapshot) = after_the_cut().await;
    let cut = gather(&tier, &snapshot, None).await.expect("a cut");
    assert_eq!(names(&cut.topics), ["expired", "kept", "made"]);
    assert_eq!(
        (names(&cut.found), names(&cut.deleted), names(&cut.undeleted)),
        (vec!["made"], vec!["deleted"], vec![])
    );
    let kept = cut.topics.iter().find(|topic| &*topic.name == "kept").expect("it is kept");
    assert_eq!(kept.partition_count, 2);
    // What expired goes on where it ended.
    let expected = [(id(1, 0), 0, 20), (id(1, 1), 0, 10), (id(3, 0), 70, 70), (id(9, 0), 0, 10)];
    assert_eq!(bounds(&cut.partitions), expected);
    assert!(cut.emptied.is_empty() && cut.left.is_empty());
    assert_eq!(cut.next_producer_id, PRODUCER_IDS_SINCE);
}

#[tokio::test]
async fn an_older_cut_has_nothing_of_what_came_since() {
    let (tier, snapshot) = after_the_cut().await;
    let cut = gather(&tier, &snapshot, Some(2_000_000)).await.expect("a cut");
    assert_eq!(names(&cut.topics), ["deleted", "expired", "kept"]);
    assert_eq!((names(&cut.found), names(&cut.deleted), names(&cut.undeleted)), (vec![], vec![], vec!["deleted"]));
    assert_eq!(bounds(&cut.partitions), [(id(1, 0), 0, 10), (id(2, 0), 0, 10), (id(3, 0), 70, 70)]);
    // They stay in the bucket, and no start takes them for a history of its own.
    assert_eq!(bounds(&cut.emptied), [(id(1, 1), 0, 0), (id(9, 0), 0, 0)]);
    assert_eq!(cut.left.keys().copied().collect::<Vec<_>>(), [Uuid::from_u128(1), Uuid::from_u128(9)]);
}

#[tokio::test]
async fn a_snapshot_without_an_image_is_no_cut() {
    let tier = tier().await;
    let refused = gather(&tier, &Snapshot { number: 0, sections: Vec::new() }, None).await;
    assert!(matches!(refused, Err(RestoreError::Section(_))));
}
