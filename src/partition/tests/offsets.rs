use std::sync::Arc;

use rstest::rstest;

use super::node::*;
use crate::metadata::remote_log::{RemoteChain, RemoteSegment};
use crate::partition::list_offsets::{Found, OffsetSpec};
use crate::partition::read::{Isolation, ReadSpec};
use crate::protocol::compression::Compression;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::Offset;

async fn ask(node: &TestNode, spec: OffsetSpec) -> Found {
    node.partition().list_offset(spec, Isolation::ReadUncommitted).await.unwrap()
}

fn found(offset: Offset, timestamp: i64, leader_epoch: i32) -> Found {
    Found { offset, timestamp, leader_epoch }
}

/// 60 batches of ten records; record n of batch b has the time `NOW_MS - 100_000 + b * 100 + n`.
fn filled(compression: Compression) -> TestNode {
    let node = TestNode::with(|config| {
        config.segment_bytes = 8192;
        config.index_interval_bytes = 512;
    });
    for batch in 0..60 {
        let timestamp = NOW_MS - 100_000 + batch * 100;
        node.append(Batch { timestamp, compression, value_bytes: 40, ..Batch::of(10) }).unwrap();
    }
    node
}

#[rstest]
#[case::plain(Compression::None)]
#[case::compressed(Compression::Zstd)]
#[tokio::test]
async fn times_are_found_to_the_record(#[case] compression: Compression) {
    let node = filled(compression);
    let start = NOW_MS - 100_000;
    for batch in 0..60 {
        let first = batch * 10;
        let at = |ms| OffsetSpec::Time(start + batch * 100 + ms);
        assert_eq!(ask(&node, at(0)).await, found(first, start + batch * 100, 3));
        assert_eq!(ask(&node, at(7)).await, found(first + 7, start + batch * 100 + 7, 3));
        let next = if batch == 59 { Found::NOTHING } else { found(first + 10, start + batch * 100 + 100, 3) };
        assert_eq!(ask(&node, at(10)).await, next);
    }
    assert_eq!(ask(&node, OffsetSpec::Time(0)).await, found(0, start, 3));
    assert_eq!(ask(&node, OffsetSpec::MaxTimestamp).await, found(599, start + 5909, 3));
}

#[tokio::test]
async fn the_first_of_equal_times_is_the_answer_even_if_time_falls() {
    let node = TestNode::with(|config| config.index_interval_bytes = 0);
    for timestamp in [50, 40, 70, 60, 70, 10] {
        node.append(Batch { timestamp: NOW_MS + timestamp, ..Batch::of(1) }).unwrap();
    }
    assert_eq!(ask(&node, OffsetSpec::Time(NOW_MS + 51)).await, found(2, NOW_MS + 70, 3));
    assert_eq!(ask(&node, OffsetSpec::Time(NOW_MS + 50)).await, found(0, NOW_MS + 50, 3));
    assert_eq!(ask(&node, OffsetSpec::MaxTimestamp).await, found(2, NOW_MS + 70, 3));
}

#[tokio::test]
async fn a_lookup_skips_a_batch_that_lies() {
    let node = TestNode::with(|_| {});
    let mut liar = Batch::of(2).bytes();
    liar[35..43].copy_from_slice(&(NOW_MS + 500).to_be_bytes());
    let crc = crc32c::crc32c(&liar[21..]);
    liar[17..21].copy_from_slice(&crc.to_be_bytes());
    node.partition().append(&mut liar, crate::partition::append::AppendOrigin::Client, None).unwrap();
    node.append(Batch { timestamp: NOW_MS + 400, ..Batch::of(1) }).unwrap();
    assert_eq!(ask(&node, OffsetSpec::Time(NOW_MS + 300)).await, found(2, NOW_MS + 400, 3));
}

#[tokio::test]
async fn names_of_an_empty_log() {
    let node = TestNode::with(|_| {});
    assert_eq!(ask(&node, OffsetSpec::Earliest).await, found(0, -1, -1));
    assert_eq!(ask(&node, OffsetSpec::Latest).await, found(0, -1, 3));
    assert_eq!(ask(&node, OffsetSpec::MaxTimestamp).await, Found::NOTHING);
    assert_eq!(ask(&node, OffsetSpec::Time(0)).await, Found::NOTHING);
    assert_eq!(ask(&node, OffsetSpec::LatestTiered).await, Found::NOTHING);
}

pub(super) fn chain(segments: &[(Offset, Offset)], log_start: Offset) -> Arc<RemoteChain> {
    let segment = |&(base_offset, last_offset): &(Offset, Offset)| {
        Arc::new(RemoteSegment {
            copy_epoch: 3,
            log_bytes: 1000,
            first_timestamp: NOW_MS,
            max_timestamp: NOW_MS,
            max_timestamp_offset: last_offset,
            epochs: vec![(3, base_offset)],
            ..RemoteSegment::covering(base_offset, last_offset)
        })
    };
    let segments = segments.iter().map(segment).collect();
    Arc::new(RemoteChain { generation: 1, segments, log_start, ..RemoteChain::default() })
}

#[tokio::test]
async fn names_over_both_tiers() {
    let node = filled(Compression::None);
    node.config.lock().unwrap().remote_storage_enable = true;
    node.partition().set_topic_config(Arc::new(node.config.lock().unwrap().clone()));
    assert_eq!(ask(&node, OffsetSpec::LatestTiered).await, Found::NOTHING);
    assert_eq!(ask(&node, OffsetSpec::EarliestPendingUpload).await, found(0, -1, 3));
    node.partition().set_remote_chain(chain(&[(0, 99)], -1));
    assert_eq!(ask(&node, OffsetSpec::LatestTiered).await, found(99, -1, 3));
    assert_eq!(ask(&node, OffsetSpec::EarliestPendingUpload).await, found(100, -1, 3));
    assert_eq!(ask(&node, OffsetSpec::EarliestLocal).await, found(0, -1, 3));
}

#[tokio::test]
async fn a_diverging_reader_is_told_where() {
    let mut node = TestNode::with(|_| {});
    node.fill(2, 10);
    node.crash();
    node.fill(1, 10);
    let partition = node.partition();
    assert_eq!(partition.epoch_end(3).unwrap(), (3, 20));
    assert_eq!(partition.epoch_end(4).unwrap(), (4, 30));
    assert_eq!(partition.epoch_end(9).unwrap(), (-1, -1));
    let read = |offset, epoch| partition.read(&ReadSpec { last_fetched_epoch: Some(epoch), ..spec(offset) });
    assert_eq!(read(20, 3).unwrap().diverging, None);
    assert_eq!(read(25, 3).unwrap().diverging, Some((3, 20)));
    assert_eq!(read(25, 9).unwrap_err().code(), ErrorCode::OffsetOutOfRange);
}
