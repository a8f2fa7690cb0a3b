use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::node::*;
use super::offsets::chain;
use crate::log::view::{Mark, Wanted};
use crate::log::walk::Reach;
use crate::partition::read::{ReadSpec, Records};
use crate::protocol::error_code::ErrorCode;

/// 40 batches of ten records over several segments; the bases of these.
fn filled(node: &TestNode) -> Vec<i64> {
    for batch in 0..40 {
        node.append(Batch { timestamp: NOW_MS + batch * 100, value_bytes: 100, ..Batch::of(10) }).unwrap();
    }
    node.partition().view().unwrap().segments().iter().map(|segment| segment.base()).collect()
}

fn later(node: &TestNode, by_ms: i64) {
    node.clock.advance(by_ms);
    node.partitions.do_due_work();
}

#[tokio::test]
async fn deleted_records_stay_deleted() {
    let mut node = TestNode::with(|config| config.segment_bytes = 4096);
    let bases = filled(&node);
    let partition = node.partition();
    assert_eq!(partition.delete_records(401).await.unwrap_err().code(), ErrorCode::OffsetOutOfRange);
    assert_eq!(partition.delete_records(bases[2] + 5).await.unwrap(), bases[2] + 5);
    assert_eq!(partition.delete_records(3).await.unwrap(), bases[2] + 5, "it never falls");
    assert_eq!(partition.read(&spec(bases[2] + 4)).unwrap_err().code(), ErrorCode::OffsetOutOfRange);
    assert_eq!(partition.view().unwrap().segments()[0].base(), bases[2]);
    assert!(!node.path().join(format!("{:020}.log", 0)).exists());
    let deleted = |node: &TestNode| node.files().iter().filter(|name| name.ends_with(".deleted")).count();
    assert!(deleted(&node) >= 2, "they keep another name for file.delete.delay.ms, as in Kafka");
    later(&node, 59_999);
    assert!(deleted(&node) >= 2);
    later(&node, 1);
    assert_eq!(deleted(&node), 0);
    node.crash();
    assert_eq!(node.partition().offsets().log_start, bases[2] + 5);
    assert_eq!(node.partition().delete_records(-1).await.unwrap(), 400);
    node.power_loss();
    let offsets = node.partition().offsets();
    assert_eq!((offsets.log_start, offsets.log_end), (400, 400));
    assert_eq!(node.append(Batch::of(1)).unwrap().base_offset, 400);
}

#[test]
fn retention_by_size_keeps_the_newest() {
    let node = TestNode::with(|config| {
        config.segment_bytes = 4096;
        config.retention_bytes = Some(9000);
    });
    let bases = filled(&node);
    later(&node, 1_000);
    let offsets = node.partition().offsets();
    assert!(offsets.log_start > 0 && bases.contains(&offsets.log_start));
    assert_eq!(offsets.local_start, offsets.log_start);
    let size = node.partition().size_bytes();
    assert!((9000..9000 + 4096).contains(&size), "{size}");
    assert_eq!(node.read_all(offsets.log_start).last().unwrap().1, 399);
}

#[test]
fn retention_by_time_takes_all_of_an_old_log() {
    let mut node = TestNode::with(|config| {
        config.segment_bytes = 4096;
        config.retention_ms = Some(10_000);
    });
    filled(&node);
    later(&node, 3_000);
    assert_eq!(node.partition().offsets().log_start, 0);
    later(&node, 20_000);
    let offsets = node.partition().offsets();
    assert_eq!((offsets.log_start, offsets.high_watermark), (400, 400));
    assert_eq!(node.partition().size_bytes(), 0);
    node.crash();
    assert_eq!(node.append(Batch::of(1)).unwrap().base_offset, 400);
}

#[test]
fn nothing_local_goes_before_its_copy_is_finished() {
    let node = TestNode::with(|config| {
        config.segment_bytes = 4096;
        config.remote_storage_enable = true;
        config.local_retention_bytes = Some(0);
    });
    let bases = filled(&node);
    later(&node, 1_000);
    assert_eq!(node.partition().offsets().local_start, 0);
    node.partition().set_remote_chain(chain(&[(0, bases[1] - 1), (bases[1], bases[2] - 1)], -1));
    later(&node, 1_000);
    let offsets = node.partition().offsets();
    assert_eq!((offsets.log_start, offsets.local_start), (0, bases[2]));
    // Without a tier to ask, what only the bucket has is an error, not an answer.
    assert_eq!(node.partition().read(&spec(0)).unwrap_err().code(), ErrorCode::KafkaStorageError);
    let local = node.partition().read(&ReadSpec { ..spec(bases[2]) }).unwrap();
    assert!(matches!(local.records, Records::File(_)));
}

#[test]
fn a_local_log_without_a_checkpoint_learns_its_start_from_the_bucket() {
    let mut node = TestNode::with(|config| {
        config.segment_bytes = 4096;
        config.remote_storage_enable = true;
        config.local_retention_bytes = Some(0);
    });
    let bases = filled(&node);
    let copied = chain(&[(0, bases[2] - 1)], -1);
    node.partition().set_remote_chain(Arc::clone(&copied));
    later(&node, 1_000);
    std::fs::remove_file(node.settings.log_dirs[0].join(crate::log::checkpoint::FILE_NAME)).unwrap_or_default();
    node.crash();
    assert_eq!(node.partition().offsets().log_start, bases[2]);
    node.partition().set_remote_chain(copied);
    assert_eq!(node.partition().offsets().log_start, 0);
}

#[test]
fn a_quiet_tiered_segment_rolls() {
    let node = TestNode::with(|config| config.remote_storage_enable = true);
    node.fill(1, 10);
    later(&node, 3_599_999);
    assert_eq!(node.partition().local_info().sealed.len(), 0);
    later(&node, 1);
    let sealed = node.partition().local_info().sealed;
    assert_eq!((sealed.len(), sealed[0].base_offset, sealed[0].next_offset), (1, 0, 10));
    // An empty active segment stays as it is.
    later(&node, 3_600_000);
    assert_eq!(node.partition().local_info().sealed.len(), 1);
    let parts = node.partition().open_sealed(&node.partition().local_info().sealed[0]).unwrap();
    assert_eq!(parts.log_bytes, sealed[0].bytes);
    assert!(!parts.producer_snapshot.is_empty());
}

#[test]
fn a_deleted_topics_directory_goes_after_its_delay() {
    let mut node = TestNode::with(|config| config.file_delete_delay_ms = 5_000);
    node.fill(1, 10);
    node.image = image_of(vec![topic("t", 8, 1)], 2, 3);
    node.partitions.follow(&node.image);
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(&node.settings.log_dirs[0]).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).filter(|n| n.starts_with("t-")).collect()
    };
    assert!(matches!(&names()[..], [one] if one.ends_with("-delete")), "{:?}", names());
    let successor = node.partitions.by_name("t", 0).unwrap();
    assert_eq!(successor.offsets().log_end, 0, "the new topic of that name is another");
    later(&node, 4_999);
    assert_eq!(names().len(), 1);
    later(&node, 1);
    assert!(names().is_empty());
}

#[test]
fn a_start_removes_deleted_directories_and_sets_unknown_ones_aside() {
    let mut node = TestNode::with(|_| {});
    node.fill(1, 10);
    let log_dir = node.settings.log_dirs[0].clone();
    std::fs::create_dir_all(log_dir.join("x-0.00000000000000000000000000000000-delete")).unwrap();
    std::fs::create_dir_all(log_dir.join("not ours")).unwrap();
    node.image = image_of(vec![topic("t", 8, 1)], 2, 3);
    node.crash();
    let mut names: Vec<_> = std::fs::read_dir(&log_dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0] == "not ours" && names[1].starts_with("t-0.") && names[1].ends_with("-stray"), "{names:?}");
    assert_eq!(node.partitions.by_name("t", 0).unwrap().offsets().log_end, 0);
}

#[test]
fn images_create_grow_and_configure() {
    let mut node = TestNode::with(|_| {});
    node.image = image_of(vec![topic("t", 7, 3), topic("u", 9, 1)], 2, 3);
    node.config.lock().unwrap().max_message_bytes = 77;
    node.partitions.follow(&node.image);
    assert_eq!(node.partitions.all().len(), 4);
    assert!(node.partitions.by_name("t", 3).is_none() && node.partitions.by_name("t", -1).is_none());
    assert_eq!(node.partition().topic_config().max_message_bytes, 77);
}

#[test]
fn an_emptied_log_goes_on_behind_the_bucket() {
    let mut node = TestNode::with(|config| config.remote_storage_enable = true);
    node.fill(2, 10);
    let partition = node.partition();
    partition.set_remote_chain(chain(&[(0, 99)], 0));
    partition.restart_at(100, &[(1, 0), (3, 50)], &[]).unwrap();
    let offsets = partition.offsets();
    assert_eq!((offsets.log_start, offsets.local_start, offsets.high_watermark), (0, 100, 100));
    assert_eq!(partition.epochs_within(0, 100), [(1, 0), (3, 50)]);
    assert_eq!(node.append(Batch::of(1)).unwrap().base_offset, 100);
    node.partitions.checkpoint();
    node.crash();
    assert_eq!(node.partition().offsets().log_end, 101);
    assert_eq!(node.partition().epoch_end(1).unwrap(), (1, 50));
}

#[test]
fn compaction_keeps_the_last_of_each_key_and_readers_keep_their_view() {
    let mut node = TestNode::with(|config| {
        config.cleanup_policy.compact = true;
        config.segment_bytes = 4096;
        config.index_interval_bytes = 256;
    });
    let bases = filled(&node);
    let partition = node.partition();
    let before = partition.view().unwrap();
    let old = partition.read(&spec(bases[1])).unwrap();
    let old_bytes = bytes_of(&old);
    crate::wal::partition_sync::SyncTarget::sync(&*partition).unwrap();
    later(&node, 1_000);
    let active = *bases.last().unwrap();
    let seen = node.read_all(0);
    assert!(seen.len() < 40 && seen.last().unwrap().1 == 399, "{seen:?}");
    assert!(seen.iter().all(|(_, last, _)| *last == active - 1 || *last >= active), "one key, its last record stays");
    // Who was reading goes on with what it was shown.
    assert_eq!(bytes_of(&old), old_bytes);
    let mark = Mark { offset: 400, segment: active, position: 1, bytes: 0 };
    let wanted =
        Wanted { from: bases[1], upto: mark, max_bytes: u64::MAX, min_one: true, reach: Reach::Disk, place: None };
    let again = before.read(&wanted, None).unwrap().unwrap().range;
    assert_eq!(again.len, old_bytes.len() as u64);
    node.partitions.checkpoint();
    node.crash();
    assert_eq!(node.read_all(0), seen);
    std::fs::remove_file(node.settings.log_dirs[0].join(crate::log::checkpoint::FILE_NAME)).unwrap();
    node.crash();
    assert_eq!(node.read_all(0), seen);
    assert_eq!(node.append(Batch::of(1)).unwrap().base_offset, 400);
}

#[test]
fn nobody_sees_a_log_start_before_it_is_durable() {
    let mut node = TestNode::with(|_| {});
    node.fill(3, 100);
    node.faults.sync_fails.store(true, Ordering::SeqCst);
    assert!(node.partition().raise_log_start_blocking(10).is_err(), "the checkpoint cannot be written");
    assert_eq!(node.partition().offsets().log_start, 0);
    node.faults.sync_fails.store(false, Ordering::SeqCst);
    assert_eq!(node.partition().raise_log_start_blocking(10), Ok(10));
    assert_eq!(node.partition().offsets().log_start, 10);
    node.crash();
    assert_eq!(node.partition().offsets().log_start, 10);
    assert_eq!(node.partition().epoch_end(3).unwrap(), (3, 30));
}
