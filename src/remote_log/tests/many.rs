//! One partition with very many remote segments: what a start, its memory and a lookup by time cost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use terrace_tiering::manifest::commit::RootContent;
use terrace_tiering::platform::fs::RealFs;
use terrace_tiering::platform::random::Random;
use terrace_tiering::platform::task::Tasks;
use terrace_tiering::store::meter::Op;
use uuid::Uuid;

use super::super::state::Known;
use super::world::{P, World};
use crate::metadata::adopted::{self, Adopted};
use crate::metadata::remote_log::{RemoteLogMetadata, RemotePartition, RemoteSegment};

const RECORDS: i64 = 1000;
const LOOKUPS: u64 = 1000;
/// What a segment may take: its entry, twice named by a pointer, its epochs, and its place in the index by time.
const BYTES_PER_SEGMENT_MAX: usize = 256;

/// Segments as years of a topic leave them: two leader epochs here and there, times that mostly rise.
fn generate(count: usize) -> RemotePartition {
    let segment = |number: usize| {
        let base_offset = number as i64 * RECORDS;
        let epoch = (number / 100) as i32;
        let mut epochs = vec![(epoch, base_offset)];
        if number % 100 == 99 {
            epochs.push((epoch + 1, base_offset + RECORDS / 2));
        }
        Arc::new(RemoteSegment {
            copy_epoch: 1,
            log_bytes: 1 << 20,
            object_bytes: (1 << 20) + 300,
            first_timestamp: base_offset,
            // Every tenth segment is older than the one before.
            max_timestamp: if number % 10 == 9 { base_offset - RECORDS } else { base_offset + RECORDS - 1 },
            max_timestamp_offset: base_offset + RECORDS - 1,
            epochs,
            ..RemoteSegment::covering(base_offset, base_offset + RECORDS - 1)
        })
    };
    RemotePartition { generation: 1, leader_epoch: 1, segments: (0..count).map(segment).collect(), log_start: 0 }
}

/// Starts a broker whose metadata and bucket name `count` segments, and looks up times. `within` is how long the start may
/// take, far beyond what it does take.
async fn many(count: usize, within: Duration) {
    let world = World::new();
    let remote = generate(count);
    let known = Known::loaded(remote.clone(), None, 0);
    let content = RootContent {
        topic: P.topic,
        partition: P.partition,
        leader_epoch: 1,
        writer: Uuid::from_u128(7),
        log_start: 0,
        cleaned_end: 0,
        entries: &known.entries(),
    };
    let tier = world.tier(&Tasks::new()).await;
    tier.commit_root(None, content).await.unwrap();
    let adopted = Adopted {
        cluster_id: "cluster".to_owned(),
        node_epoch: 1,
        next_producer_id: 0,
        security: BTreeMap::new(),
        remote: vec![(P, remote.clone())],
    };
    adopted::prepare(&RealFs, &world.metadata_file(), &adopted).unwrap();

    // The bucket alone: a root, and a leaf for each 4 096 segments.
    let (gets, begun) = (world.store.count(Op::Get), Instant::now());
    let manifest = tier.load_manifest(P.topic, P.partition).await.unwrap().unwrap();
    let manifest_took = begun.elapsed();
    assert_eq!(manifest.entries.len(), count);
    let gets = world.store.count(Op::Get) - gets;
    assert!(gets as usize <= 1 + count.div_ceil(4096), "{gets} GETs for a manifest of {count} segments");

    // The owner's start: its rows, compared with the bucket's newest root.
    let begun = Instant::now();
    let life = world.start().await.unwrap();
    let start_took = begun.elapsed();
    assert!(start_took < within, "{count} segments: the start took {start_took:?}");
    let chain = life.meta.load(P).await.unwrap().chain();
    assert_eq!(chain.segments.len(), count);

    let epochs: usize = chain.segments.iter().map(|segment| segment.epochs.capacity()).sum();
    let entry =
        size_of::<RemoteSegment>() + 2 * size_of::<usize>() + 2 * size_of::<Arc<RemoteSegment>>() + size_of::<i64>();
    let bytes = entry + epochs * size_of::<(i32, i64)>() / count;
    assert!(bytes <= BYTES_PER_SEGMENT_MAX, "{bytes} bytes a segment");

    let mut took = Vec::new();
    for _ in 0..LOOKUPS {
        let time = (world.random.next_u64() % (count as u64 * RECORDS as u64)) as i64;
        let begun = Instant::now();
        let found = chain.from_time(time).first();
        took.push(begun.elapsed());
        let first = chain.segments.iter().find(|segment| segment.max_timestamp >= time);
        assert_eq!(found.map(|segment| segment.base_offset), first.map(|segment| segment.base_offset), "at {time}");
    }
    took.sort_unstable();
    let p99 = took[took.len() * 99 / 100];
    println!(
        "{count} segments: manifest {manifest_took:?} by {gets} GETs, start {start_took:?}, {bytes} bytes each, lookup \
         p99 {p99:?}"
    );
    // A walk over all of them takes longer, even of ten thousand.
    assert!(p99 < Duration::from_micros(100), "{count} segments: p99 of a lookup is {p99:?}");
}

#[tokio::test]
async fn ten_thousand_remote_segments_start_at_once_and_are_found_by_time() {
    many(10_000, Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_hundred_thousand_remote_segments_start_and_are_found_by_time() {
    many(100_000, Duration::from_secs(60)).await;
}
