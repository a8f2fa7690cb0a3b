//! What a tier does, on every store: memory, a local directory, MinIO (its binary below `target/peers/bin` or on the
//! PATH) or, with `TERRACE_TEST_S3_URI=s3://bucket/prefix` and the usual AWS variables, any S3.

mod fixture;

use std::collections::HashSet;

use bytes::Bytes;
use fixture::{Backend, Minio, Segment, TOPIC};
use terrace_tiering::cluster::owner::{OwnerClaim, OwnerError};
use terrace_tiering::cluster::snapshot::{Snapshot, SnapshotError, SnapshotSection};
use terrace_tiering::manifest::commit::RootContent;
use terrace_tiering::manifest::{ManifestEntry, ManifestError};
use terrace_tiering::read::{ReadError, ReadHint};
use terrace_tiering::{ObjectRef, Tier};
use uuid::Uuid;

macro_rules! contract {
    ($($name:ident,)*) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::$name(&super::Backend::memory()).await; })*
        }
        mod directory {
            $(#[tokio::test] async fn $name() { super::$name(&super::Backend::directory()).await; })*
        }
        async fn whole_contract(backend: &Backend) {
            $(
                println!("{}", stringify!($name));
                $name(backend).await;
            )*
        }
    };
}

contract! {
    a_small_segment_comes_back_chunk_by_chunk,
    a_large_segment_goes_in_parts,
    a_reader_crosses_the_border_of_segments,
    deleting_twice_is_fine,
    the_cluster_file_is_made_once,
    a_later_owner_fences,
    snapshots_are_created_once_and_the_newest_is_found,
    roots_fence_and_are_loaded,
    a_chain_is_rebuilt_from_its_objects,
    orphans_are_found_and_others_are_not,
}

#[tokio::test]
async fn minio() {
    if let Some(minio) = Minio::start().await {
        whole_contract(&minio.backend).await;
        a_missing_bucket_is_named(&minio.backend).await;
    }
}

async fn a_missing_bucket_is_named(backend: &Backend) {
    let Backend::S3 { endpoint, .. } = backend else { return };
    let nowhere = Backend::S3 { uri: "s3://nowhere".to_owned(), endpoint: endpoint.clone(), own_server: true };
    let error = nowhere.try_tier("cluster").await.unwrap_err().to_string();
    assert!(error.contains("the bucket of 's3://nowhere' does not exist"), "{error}");
}

#[tokio::test]
async fn s3_of_the_environment() {
    if let Ok(uri) = std::env::var("TERRACE_TEST_S3_URI") {
        let uri = format!("{uri}/{}", Uuid::new_v4());
        whole_contract(&Backend::S3 { uri, endpoint: None, own_server: false }).await;
    }
}

async fn read_all(tier: &Tier, object: &ObjectRef, next: Option<ObjectRef>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut offset = object.base_offset;
    while offset <= object.last_offset {
        let read = tier.read(object, offset, 3 << 20, ReadHint { next }).await.unwrap();
        assert_eq!(read.first_offset, offset);
        read.chunks.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
        offset = read.next_offset;
    }
    bytes
}

async fn a_small_segment_comes_back_chunk_by_chunk(backend: &Backend) {
    let tier = backend.tier("small").await;
    let segment = Segment::new(500, 50, 100_000);
    let uploaded = tier.upload(segment.upload.clone()).await.unwrap();
    let object = segment.object(&uploaded);
    let footer = tier.footer(&object).await.unwrap();
    assert_eq!(footer.chunks, segment.upload.chunks);
    assert_eq!(
        (footer.identity.clone(), footer.log_bytes),
        (segment.upload.identity.clone(), segment.upload.log_bytes)
    );
    assert_eq!(read_all(&tier, &object, None).await, segment.bytes);
    // The last offset of each chunk finds that chunk, in any order.
    for chunk in footer.chunks.iter().rev() {
        let read = tier.read(&object, chunk.first_offset, 1, ReadHint::default()).await.unwrap();
        let position = chunk.position as usize;
        assert_eq!(read.chunks, [Bytes::copy_from_slice(&segment.bytes[position..position + chunk.length as usize])]);
    }
    for outside in [499, 550] {
        let error = tier.read(&object, outside, 1, ReadHint::default()).await.unwrap_err();
        assert!(matches!(error, ReadError::OffsetOutOfRange(offset) if offset == outside), "{error}");
    }
}

async fn a_large_segment_goes_in_parts(backend: &Backend) {
    let tier = backend.tier("large").await;
    let segment = Segment::new(0, 370, 100_003);
    let uploaded = tier.upload(segment.upload.clone()).await.unwrap();
    assert!(uploaded.object_bytes > 32 << 20, "three parts");
    assert_eq!(read_all(&tier, &segment.object(&uploaded), None).await, segment.bytes);
}

async fn a_reader_crosses_the_border_of_segments(backend: &Backend) {
    let tier = backend.tier("border").await;
    let segments = [Segment::new(0, 60, 100_000), Segment::new(60, 60, 100_000), Segment::new(120, 3, 10)];
    let mut objects = Vec::new();
    for segment in &segments {
        objects.push(segment.object(&tier.upload(segment.upload.clone()).await.unwrap()));
    }
    for (at, segment) in segments.iter().enumerate() {
        assert_eq!(read_all(&tier, &objects[at], objects.get(at + 1).copied()).await, segment.bytes);
    }
}

async fn deleting_twice_is_fine(backend: &Backend) {
    let tier = backend.tier("delete").await;
    let segment = Segment::new(0, 3, 1000);
    let object = segment.object(&tier.upload(segment.upload.clone()).await.unwrap());
    tier.delete(&object).await.unwrap();
    tier.delete(&object).await.unwrap();
    let error = tier.read(&object, 0, 1, ReadHint::default()).await.unwrap_err();
    assert!(matches!(error, ReadError::Gone(_)), "{error}");
}

async fn the_cluster_file_is_made_once(backend: &Backend) {
    let tier = backend.tier("cluster-file").await;
    let first = tier.ensure_cluster_file().await.unwrap();
    assert_eq!(tier.ensure_cluster_file().await.unwrap(), first);
}

async fn a_later_owner_fences(backend: &Backend) {
    let tier = backend.tier("owner").await;
    assert_eq!(tier.newest_owner().await.unwrap(), None);
    let claim = |node_epoch| OwnerClaim { node_epoch, node_id: 1, process: Uuid::new_v4(), claimed_at_ms: 5 };
    let (first, second) = (claim(1), claim(2));
    tier.claim_owner(&first).await.unwrap();
    tier.claim_owner(&first).await.unwrap();
    let twin = tier.claim_owner(&claim(1)).await.unwrap_err();
    assert!(matches!(twin, OwnerError::Fenced { node_epoch: 1 }), "{twin}");
    tier.check_owner(&first).await.unwrap();
    tier.claim_owner(&second).await.unwrap();
    let fenced = tier.check_owner(&first).await.unwrap_err();
    assert!(matches!(fenced, OwnerError::Fenced { node_epoch: 2 }), "{fenced}");
    tier.check_owner(&second).await.unwrap();
    assert_eq!(tier.newest_owner().await.unwrap(), Some(2));
    let topic = Uuid::new_v4();
    tier.put_tombstone(topic).await.unwrap();
    tier.put_tombstone(topic).await.unwrap();
    assert_eq!(tier.tombstones().await.unwrap(), [topic]);
    tier.delete_tombstone(topic).await.unwrap();
    assert!(tier.tombstones().await.unwrap().is_empty());
}

async fn snapshots_are_created_once_and_the_newest_is_found(backend: &Backend) {
    let tier = backend.tier("snapshot").await;
    assert_eq!(tier.newest_snapshot().await.unwrap(), None);
    let snapshot = |number, bytes: &'static [u8]| Snapshot {
        number,
        sections: vec![SnapshotSection { kind: 4, bytes: bytes.into() }],
    };
    for number in [1, 2, 10] {
        tier.put_snapshot(&snapshot(number, b"image")).await.unwrap();
    }
    tier.put_snapshot(&snapshot(10, b"image")).await.unwrap();
    let fenced = tier.put_snapshot(&snapshot(10, b"other")).await.unwrap_err();
    assert!(matches!(fenced, SnapshotError::Fenced(10)), "{fenced}");
    assert_eq!(tier.newest_snapshot().await.unwrap(), Some(snapshot(10, b"image")));
    for number in 11..30 {
        tier.put_snapshot(&snapshot(number, b"image")).await.unwrap();
    }
    let removed = tier.prune_snapshots().await.unwrap();
    assert!(removed >= 4, "all were written within two hours: {removed}");
    assert_eq!(tier.newest_snapshot_number().await.unwrap(), Some(29));
}

fn entry(segment: &Segment, object: &ObjectRef) -> ManifestEntry {
    let identity = &segment.upload.identity;
    ManifestEntry {
        uuid: object.uuid,
        base_offset: object.base_offset,
        last_offset: object.last_offset,
        leader_epoch: object.leader_epoch,
        log_bytes: segment.upload.log_bytes,
        object_bytes: object.object_bytes,
        first_timestamp: identity.first_timestamp,
        max_timestamp: identity.max_timestamp,
        max_timestamp_offset: identity.max_timestamp_offset,
        epochs: segment.upload.epochs.clone(),
    }
}

fn root(writer: Uuid, entries: &[ManifestEntry]) -> RootContent<'_> {
    RootContent { topic: TOPIC, partition: 0, leader_epoch: 1, writer, log_start: 0, cleaned_end: 0, entries }
}

async fn roots_fence_and_are_loaded(backend: &Backend) {
    let tier = backend.tier("root").await;
    let (us, others) = (Uuid::new_v4(), Uuid::new_v4());
    let segment = Segment::new(0, 3, 1000);
    let object = segment.object(&tier.upload(segment.upload.clone()).await.unwrap());
    let entries = [entry(&segment, &object)];
    let first = tier.commit_root(None, root(us, &entries)).await.unwrap();
    let fenced = tier.commit_root(None, root(others, &entries)).await.unwrap_err();
    assert!(matches!(fenced, ManifestError::Fenced { generation: 1, .. }), "{fenced}");
    tier.commit_root(Some(&first), root(us, &[])).await.unwrap();
    let loaded = tier.load_manifest(TOPIC, 0).await.unwrap().unwrap();
    assert_eq!((loaded.committed.root.generation, loaded.entries.len()), (2, 0));
}

async fn a_chain_is_rebuilt_from_its_objects(backend: &Backend) {
    let tier = backend.tier("rebuild").await;
    let mut expected = Vec::new();
    for base in [0, 10, 20] {
        let segment = Segment::new(base, 10, 500);
        let object = segment.object(&tier.upload(segment.upload.clone()).await.unwrap());
        expected.push(entry(&segment, &object));
    }
    // The same offsets again, by a later broker: these win.
    let mut again = Segment::new(10, 10, 500);
    again.upload.identity.leader_epoch = 2;
    let object = again.object(&tier.upload(again.upload.clone()).await.unwrap());
    expected[1] = entry(&again, &object);
    assert_eq!(tier.rebuild_manifest(TOPIC, 0).await.unwrap(), expected);
}

async fn orphans_are_found_and_others_are_not(backend: &Backend) {
    let tier = backend.tier("orphans").await;
    let mut objects = Vec::new();
    let mut entries = Vec::new();
    for base in [0, 10, 20, 30] {
        let segment = Segment::new(base, 10, 500);
        objects.push(segment.object(&tier.upload(segment.upload.clone()).await.unwrap()));
        entries.push(entry(&segment, objects.last().unwrap()));
    }
    // The first is named by an old root only, the second by the newest, the third is known to the caller.
    let us = Uuid::new_v4();
    let first = tier.commit_root(None, root(us, &entries[..2])).await.unwrap();
    tier.commit_root(Some(&first), root(us, &entries[1..2])).await.unwrap();
    let known = HashSet::from([objects[2].uuid]);
    // A store's clock may be a little ahead of ours.
    assert_eq!(tier.find_orphans(&known, -60_000).await.unwrap(), [objects[3]]);
    assert!(tier.find_orphans(&known, 3_600_000).await.unwrap().is_empty(), "none is an hour old");
    tier.prune_manifests(TOPIC, 0).await.unwrap();
    assert_eq!(tier.remove_stale_uploads(0).await.unwrap(), 0);
}
