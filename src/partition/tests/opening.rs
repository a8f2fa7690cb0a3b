use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use tokio_util::sync::CancellationToken;

use super::node::*;
use super::offsets::chain;
use crate::partition::append::AppendOrigin;
use crate::partition::producers::ProducerTable;
use crate::partition::read::ReadSpec;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::BatchView;

#[rstest]
#[case::by_a_read(|node: &TestNode| drop(node.partition().read(&spec(0))))]
#[case::by_an_append(|node: &TestNode| drop(node.append(Batch::of(1))))]
#[case::by_the_opener(|node: &TestNode| node.partitions.open_rest(&CancellationToken::new()))]
fn a_partition_opens_at_its_first_use(#[case] usage: fn(&TestNode)) {
    let mut node = TestNode::with(|_| {});
    // Of a log so long the checkpoint says where it ends.
    node.fill(3, 5_000);
    node.partitions.checkpoint();
    let (offsets, size_bytes) = (node.partition().offsets(), node.partition().size_bytes());
    node.crash();
    assert!(!node.partitions.all_open());
    // What the checkpoint says is shown without a look at the files.
    assert_eq!(node.partition().known_offsets().high_watermark, offsets.high_watermark);
    assert_eq!(node.partition().size_bytes(), size_bytes);
    assert!(!node.partitions.all_open());
    usage(&node);
    assert!(node.partitions.all_open());
    assert_eq!(node.read_all(0)[..3].last().unwrap().1, 29);
}

#[test]
fn what_nobody_opens_stays_in_the_checkpoint() {
    let mut node = TestNode::with(|_| {});
    node.fill(3, 100);
    node.partitions.close();
    for _ in 0..2 {
        node.crash();
        node.partitions.checkpoint();
        assert!(!node.partitions.all_open(), "a checkpoint opens nothing");
    }
    node.partitions.close();
    let text = std::fs::read_to_string(node.settings.log_dirs[0].join("recovery-point-offset-checkpoint")).unwrap();
    assert_eq!(text, "0\n1\nt 0 30\n", "a stop opens nothing either, and knows its end");
    node.crash();
    assert_eq!(node.partition().offsets().log_end, 30);
}

#[test]
fn a_topic_is_deleted_unopened() {
    let mut node = TestNode::with(|_| {});
    node.fill(3, 100);
    node.crash();
    node.image = image_of(Vec::new(), node.image.generation + 1, node.image.node_epoch);
    node.partitions.follow(&node.image);
    assert!(node.partitions.all_open());
    assert!(!node.path().exists());
}

#[tokio::test]
async fn tiered_partitions_wait_for_the_comparison_of_the_bucket() {
    let mut node = TestNode::with(|config| config.remote_storage_enable = true);
    node.fill(3, 100);
    node.crash();
    node.partitions.hold_tiered();
    let partition = node.partition();
    let waiting = tokio::time::timeout(Duration::from_millis(20), partition.opened());
    assert!(waiting.await.is_err());
    node.partitions.tier_was_compared();
    partition.opened().await;
    assert!(node.partitions.all_open());
    node.config.lock().unwrap().remote_storage_enable = false;
    node.crash();
    node.partitions.hold_tiered();
    node.partition().opened().await;
    assert!(!node.partitions.all_open(), "tiered topics made later would wait");
    // No longer tiered, and with records that only the bucket has.
    node.partition().set_remote_chain(chain(&[(0, 9)], -1));
    let partition = node.partition();
    let waiting = tokio::time::timeout(Duration::from_millis(20), partition.opened());
    assert!(waiting.await.is_err());
}

#[test]
fn a_log_that_ends_before_the_tier_waits_for_the_store() {
    let mut node = TestNode::with(|config| config.remote_storage_enable = true);
    node.fill(3, 100);
    node.crash();
    node.partition().set_remote_chain(chain(&[(0, 49)], -1));
    assert_eq!(node.partition().behind_tier(), Some(50));
    assert_eq!(node.append(Batch::of(1)).unwrap_err().code(), ErrorCode::KafkaStorageError);
    assert_eq!(node.partition().read(&ReadSpec { ..spec(0) }).unwrap_err().code(), ErrorCode::KafkaStorageError);
    node.partition().restart_at(50, &[(3, 0)], &[]).unwrap();
    assert_eq!(node.append(Batch::of(1)).unwrap().base_offset, 50);
}

#[test]
fn a_log_behind_the_tier_that_lost_its_first_segment_begins_there_again() {
    let mut node = TestNode::with(|config| config.remote_storage_enable = true);
    let mut producers = ProducerTable::default();
    let batch = Batch::by(1, 9, 0, 4).bytes();
    producers.update(&BatchView::split_first(&batch).unwrap().0, NOW_MS);
    let rows = || chain(&[(0, 49)], -1);
    node.partition().set_remote_chain(rows());
    assert_eq!(node.partition().behind_tier(), Some(50));
    node.partition().restart_at(50, &[(3, 0)], &producers.snapshot()).unwrap();
    assert_eq!(node.append(Batch::by(1, 9, 0, 5)).unwrap().base_offset, 50);
    node.partitions.checkpoint();
    // Never synced.
    std::fs::remove_file(node.path().join("00000000000000000050.log")).unwrap();
    node.power_loss();
    node.partition().set_remote_chain(rows());
    assert_eq!(node.partition().behind_tier(), None);
    assert_eq!(node.partition().offsets().log_end, 50);
    assert_eq!(node.append(Batch::by(1, 9, 0, 4)).unwrap().base_offset, 0, "the producer is known as the tier has it");
    assert_eq!(node.append(Batch::by(1, 9, 0, 5)).unwrap().base_offset, 50);
}

#[test]
fn a_partition_without_files_waits_too_when_the_tier_has_records() {
    let node = TestNode::with(|config| config.remote_storage_enable = true);
    node.partition().set_remote_chain(chain(&[(0, 49)], -1));
    assert_eq!(node.partition().behind_tier(), Some(50));
}

#[test]
fn local_segments_stay_until_the_copies_are_trusted() {
    let mut node = TestNode::with(|config| {
        config.remote_storage_enable = true;
        config.segment_bytes = 4096;
        config.local_retention_bytes = Some(0);
    });
    node.fill(40, 100);
    let bases: Vec<_> = node.partition().view().unwrap().segments().iter().map(|segment| segment.base()).collect();
    node.crash();
    node.partitions.hold_tiered();
    node.partition().set_remote_chain(Arc::clone(&chain(&[(0, bases[2] - 1)], -1)));
    let later = |node: &TestNode| {
        node.clock.advance(1_000);
        node.partitions.do_due_work();
    };
    node.partitions.open_rest(&CancellationToken::new());
    later(&node);
    assert_eq!(node.partition().offsets().local_start, 0);
    node.partitions.trust_copies();
    later(&node);
    assert_eq!(node.partition().offsets().local_start, bases[2]);
}

#[test]
fn a_clean_stop_of_many_partitions_survives_a_power_loss() {
    let mut node = TestNode::with(|_| {});
    node.image = image_of(vec![topic("t", 7, 40)], node.image.generation + 1, node.image.node_epoch);
    node.partitions.follow(&node.image);
    for partition in node.partitions.all() {
        partition.append(&mut Batch::of(10).bytes(), AppendOrigin::Client, None).unwrap();
    }
    node.partitions.close();
    let text = std::fs::read_to_string(node.settings.log_dirs[0].join("recovery-point-offset-checkpoint")).unwrap();
    assert_eq!(text.lines().filter(|line| line.ends_with(" 10")).count(), 40);
    node.power_loss();
    for partition in node.partitions.all() {
        assert_eq!(partition.offsets().log_end, 10);
        assert_eq!(partition.epoch_end(3).unwrap(), (3, 10));
    }
}

#[test]
fn a_clean_stop_adds_nothing_but_the_epochs_to_a_small_partition() {
    let mut node = TestNode::with(|_| {});
    node.fill(3, 100);
    node.partitions.checkpoint();
    assert_eq!(node.files(), ["00000000000000000000.log", "partition.metadata"]);
    node.partitions.close();
    assert_eq!(node.files(), ["00000000000000000000.log", "leader-epoch-checkpoint", "partition.metadata"]);
    node.power_loss();
    assert_eq!(node.append(Batch::by(1, 9, 0, 0)).unwrap().base_offset, 30);
    // Kafka learns of producers from a snapshot alone.
    node.partitions.close();
    assert!(node.files().contains(&"00000000000000000031.snapshot".to_owned()), "{:?}", node.files());
    node.power_loss();
    assert_eq!(node.append(Batch::by(1, 9, 0, 0)).unwrap().base_offset, 30, "the retry is recognised");
}
