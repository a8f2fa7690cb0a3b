use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::node::*;
use crate::partition::append::AppendOrigin;
use crate::protocol::error_code::ErrorCode;
use crate::wal::ticket::Rejected;

#[tokio::test]
async fn a_synced_topic_shows_nothing_before_its_sync() {
    let node = TestNode::with(|config| config.flush_messages = Some(1));
    for base in 0..5 {
        let appended = node.append(Batch::by(1, 5, 0, base)).unwrap();
        assert!(node.partition().offsets().high_watermark <= i64::from(base) + 1);
        let retry = node.append(Batch::by(1, 5, 0, base)).unwrap();
        assert_eq!(retry.base_offset, i64::from(base));
        appended.ticket.wait().await.unwrap();
        assert_eq!(node.partition().offsets().high_watermark, i64::from(base) + 1);
        retry.ticket.wait().await.unwrap();
    }
    assert_eq!(node.read_all(0).len(), 5);
}

#[tokio::test]
async fn every_nth_record_waits() {
    let node = TestNode::with(|config| config.flush_messages = Some(10));
    for _ in 0..9 {
        assert!(node.append(Batch::of(1)).unwrap().ticket.is_done());
    }
    assert_eq!(node.partition().offsets().high_watermark, 9);
    node.append(Batch::of(1)).unwrap().ticket.wait().await.unwrap();
    assert_eq!(node.partition().offsets().high_watermark, 10);
    assert!(node.append(Batch::of(1)).unwrap().ticket.is_done());
}

#[tokio::test]
async fn a_failed_sync_acknowledges_nothing_ever_again() {
    let node = TestNode::with(|config| config.flush_messages = Some(1));
    node.append(Batch::of(1)).unwrap().ticket.wait().await.unwrap();
    node.faults.sync_fails.store(true, Ordering::SeqCst);
    let lost = node.append(Batch::of(1)).unwrap();
    assert_eq!(lost.ticket.wait().await, Err(Rejected::Storage));
    node.faults.sync_fails.store(false, Ordering::SeqCst);
    assert_eq!(node.append(Batch::of(1)).unwrap_err().code(), ErrorCode::KafkaStorageError);
    assert_eq!(node.partition().read(&spec(0)).unwrap_err().code(), ErrorCode::KafkaStorageError);
}

#[test]
fn a_failed_write_to_the_write_ahead_log_takes_the_directory_offline() {
    let node = TestNode::with(|config| config.flush_messages = Some(1));
    node.faults.wal_writes_fail.store(true, Ordering::SeqCst);
    assert_eq!(node.append(Batch::of(1)).unwrap_err().code(), ErrorCode::KafkaStorageError);
    node.faults.wal_writes_fail.store(false, Ordering::SeqCst);
    assert_eq!(node.append(Batch::of(1)).unwrap_err().code(), ErrorCode::KafkaStorageError);
    assert!(node.partitions.log_dirs().all(|(_, works)| !works));
}

#[tokio::test]
async fn a_topic_that_becomes_synced_waits_for_what_it_had_before() {
    let node = TestNode::with(|_| {});
    node.fill(3, 100);
    assert_eq!(node.partition().offsets().high_watermark, 30);
    node.config.lock().unwrap().flush_messages = Some(1);
    node.partition().set_topic_config(Arc::new(node.config.lock().unwrap().clone()));
    node.append(Batch::of(1)).unwrap().ticket.wait().await.unwrap();
    let flushed = |node: &TestNode| node.partition().lock().online().map(|online| online.log.flushed()).ok();
    assert!(flushed(&node) >= Some(30), "its files are synced up to its first record in the write-ahead log");
    let before = flushed(&node);
    node.append(Batch::of(1)).unwrap().ticket.wait().await.unwrap();
    assert_eq!(flushed(&node), before, "from then on the write-ahead log is enough");
    node.config.lock().unwrap().flush_messages = None;
    node.partition().set_topic_config(Arc::new(node.config.lock().unwrap().clone()));
    assert!(node.append(Batch::of(1)).unwrap().ticket.is_done());
    assert!(node.partition().lock().online().is_ok_and(|online| online.cover.is_none()));
}

#[tokio::test]
async fn a_failed_log_directory_takes_all_its_partitions_with_it() {
    let mut node = TestNode::with(|config| config.flush_messages = Some(1));
    node.image = image_of(vec![topic("t", 7, 1), topic("u", 8, 1)], 2, 3);
    node.partitions.follow(&node.image);
    let other = node.partitions.by_name("u", 0).unwrap();
    other.append(&mut Batch::of(1).bytes(), AppendOrigin::Client, None).unwrap().ticket.wait().await.unwrap();
    node.faults.sync_fails.store(true, Ordering::SeqCst);
    assert_eq!(node.append(Batch::of(1)).unwrap().ticket.wait().await, Err(Rejected::Storage));
    node.faults.sync_fails.store(false, Ordering::SeqCst);
    let refused = other.append(&mut Batch::of(1).bytes(), AppendOrigin::Client, None);
    assert_eq!(refused.unwrap_err().code(), ErrorCode::KafkaStorageError);
    assert_eq!(other.read(&spec(0)).unwrap_err().code(), ErrorCode::KafkaStorageError);
    assert!(other.offline_reason().is_some());
}

#[test]
fn a_nearly_full_directory_refuses_produce_until_there_is_space() {
    let node = TestNode::with(|_| {});
    let partition = node.partition();
    let append = |origin| partition.append(&mut Batch::of(1).bytes(), origin, None).map_err(|error| error.code());
    assert!(append(AppendOrigin::Client).is_ok());
    partition.dir().note_free_bytes(Some(999));
    assert_eq!(append(AppendOrigin::Client).unwrap_err(), ErrorCode::KafkaStorageError);
    assert!(append(AppendOrigin::Coordinator).is_ok(), "commits go on, so that consumers do");
    assert_eq!(node.partitions.full_dirs().count(), 1);
    assert_eq!(node.read_all(0).len(), 2);
    partition.dir().note_free_bytes(Some(1_000));
    assert!(append(AppendOrigin::Client).is_ok());
}

#[test]
fn a_fenced_broker_takes_no_records_and_goes_on_serving_them() {
    let node = TestNode::with(|_| {});
    node.fill(1, 10);
    node.partitions.fence();
    assert_eq!(node.append(Batch::of(1)).unwrap_err().code(), ErrorCode::NotLeaderOrFollower);
    assert_eq!(node.read_all(0).len(), 1);
}

#[tokio::test]
async fn a_deleted_topics_tickets_are_rejected() {
    let mut node = TestNode::with(|config| config.flush_messages = Some(100));
    for _ in 0..99 {
        assert!(node.append(Batch::of(1)).unwrap().ticket.is_done());
    }
    let partition = node.partition();
    node.image = image_of(Vec::new(), 2, 3);
    node.partitions.follow(&node.image);
    assert_eq!(partition.read(&spec(0)).unwrap_err().code(), ErrorCode::NotLeaderOrFollower);
}

#[test]
fn a_panic_under_the_lock_brings_the_partition_back_from_its_files() {
    let node = TestNode::with(|_| {});
    node.fill(5, 100);
    let partition = node.partition();
    let poisoner = Arc::clone(&partition);
    let panicked = std::thread::spawn(move || {
        let _guard = poisoner.lock();
        panic!("a test's panic under the partition's lock");
    });
    assert!(panicked.join().is_err());
    assert_eq!(partition.offsets().high_watermark, 50);
    assert_eq!(node.append(Batch::of(1)).unwrap().base_offset, 50);
    assert_eq!(node.read_all(0).len(), 6);
}

#[tokio::test]
async fn flush_ms_syncs_behind_the_answers() {
    let node = TestNode::with(|config| config.flush_ms = Some(500));
    assert!(node.append(Batch::of(1)).unwrap().ticket.is_done());
    node.clock.advance(499);
    node.partitions.do_due_work();
    let flushed = || node.partition().lock().online().map(|online| online.log.flushed()).ok();
    assert_eq!(flushed(), Some(0));
    node.clock.advance(1);
    node.partitions.do_due_work();
    // The thread tells nobody: ending it waits for what it has in hand.
    node.partition().dir().sync().close();
    assert_eq!(flushed(), Some(1));
}
