use rstest::rstest;

use super::node::*;
use crate::config::topic::{TimestampType, TopicCompression};
use crate::partition::append::{AppendError, AppendOrigin};
use crate::partition::read::ReadSpec;
use crate::protocol::compression::Compression;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::BatchView;
use crate::protocol::records;

#[test]
fn nothing_is_on_disk_before_the_first_append() {
    let node = TestNode::with(|_| {});
    assert!(!node.path().exists());
    node.append(Batch::of(3)).unwrap();
    assert_eq!(node.files(), ["00000000000000000000.log", "partition.metadata"]);
}

#[test]
fn offsets_follow_on_and_carry_the_epoch() {
    let node = TestNode::with(|_| {});
    assert_eq!(node.append(Batch::of(3)).unwrap().base_offset, 0);
    let second = node.append(Batch::of(2)).unwrap();
    assert_eq!((second.base_offset, second.log_append_time_ms, second.ticket.is_done()), (3, -1, true));
    assert_eq!(node.read_all(0), [(0, 2, 3), (3, 4, 3)]);
    let offsets = node.partition().offsets();
    assert_eq!((offsets.log_start, offsets.high_watermark, offsets.log_end, offsets.leader_epoch), (0, 5, 5, 3));
}

#[rstest]
#[case::crc(|b: &mut Vec<u8>| b[70] ^= 1, ErrorCode::CorruptMessage)]
#[case::magic(|b: &mut Vec<u8>| b[16] = 1, ErrorCode::InvalidRecord)]
#[case::length(|b: &mut Vec<u8>| b[8..12].copy_from_slice(&7i32.to_be_bytes()), ErrorCode::CorruptMessage)]
#[case::cut(|b: &mut Vec<u8>| b.truncate(80), ErrorCode::InvalidRecord)]
#[case::empty(|b: &mut Vec<u8>| b.clear(), ErrorCode::InvalidRecord)]
#[case::two(|b: &mut Vec<u8>| b.extend_from_within(..), ErrorCode::InvalidRecord)]
#[case::count(|b: &mut Vec<u8>| patched(b, 57, &4i32.to_be_bytes()), ErrorCode::InvalidRecord)]
#[case::no_records(|b: &mut Vec<u8>| { patched(b, 57, &0i32.to_be_bytes()); patched(b, 23, &(-1i32).to_be_bytes()) }, ErrorCode::InvalidRecord)]
#[case::control(|b: &mut Vec<u8>| patched(b, 21, &0x20i16.to_be_bytes()), ErrorCode::InvalidRecord)]
#[case::transactional_without_producer(|b: &mut Vec<u8>| patched(b, 21, &0x10i16.to_be_bytes()), ErrorCode::InvalidRecord)]
#[case::no_sequence(|b: &mut Vec<u8>| patched(b, 43, &9i64.to_be_bytes()), ErrorCode::InvalidRecord)]
#[case::compression(|b: &mut Vec<u8>| patched(b, 21, &5i16.to_be_bytes()), ErrorCode::UnsupportedCompressionType)]
#[case::append_time_bit(|b: &mut Vec<u8>| patched(b, 21, &8i16.to_be_bytes()), ErrorCode::InvalidTimestamp)]
#[case::from_the_future(|b: &mut Vec<u8>| patched(b, 35, &(NOW_MS + 3_600_001).to_be_bytes()), ErrorCode::InvalidTimestamp)]
fn a_bad_batch_is_refused(#[case] spoil: fn(&mut Vec<u8>), #[case] expected: ErrorCode) {
    let node = TestNode::with(|_| {});
    let mut bytes = Batch::of(3).bytes();
    spoil(&mut bytes);
    let error = node.partition().append(&mut bytes, AppendOrigin::Client, None).unwrap_err();
    assert_eq!(error.code(), expected, "{error}");
    assert_eq!(node.partition().offsets().log_end, 0);
}

/// Changes a header field and makes the CRC right again.
fn patched(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

#[test]
fn sizes_are_measured_as_sent() {
    let size = Batch::of(3).bytes().len() as u32;
    let node = TestNode::with(|config| config.max_message_bytes = size);
    node.append(Batch::of(3)).unwrap();
    assert_eq!(node.append(Batch::of(4)).unwrap_err().code(), ErrorCode::MessageTooLarge);
    let node = TestNode::with(|config| config.segment_bytes = size);
    assert_eq!(node.append(Batch::of(4)).unwrap_err().code(), ErrorCode::RecordListTooLarge);
}

#[test]
fn compacted_topics_need_keys() {
    let node = TestNode::with(|config| config.cleanup_policy.compact = true);
    node.append(Batch::of(3)).unwrap();
    let error = node.append(Batch { key: None, ..Batch::of(3) }).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidRecord);
}

#[test]
fn the_brokers_time_replaces_the_producers() {
    let node = TestNode::with(|config| config.timestamp_type = TimestampType::LogAppendTime);
    // Even a time far out of range: it is not kept.
    let appended = node.append(Batch { timestamp: 5, ..Batch::of(3) }).unwrap();
    assert_eq!(appended.log_append_time_ms, NOW_MS);
    let bytes = read(&node.partition(), 0, u64::MAX).unwrap();
    let (batch, _) = BatchView::split_first(&bytes).unwrap();
    batch.check_crc().unwrap();
    assert!(batch.is_log_append_time());
    assert_eq!(batch.max_timestamp(), NOW_MS);
}

#[test]
fn a_topics_codec_replaces_the_producers() {
    let node = TestNode::with(|config| {
        config.compression = TopicCompression::Fixed { codec: Compression::Lz4.id(), level: None }
    });
    node.append(Batch { compression: Compression::Gzip, ..Batch::of(3) }).unwrap();
    let bytes = read(&node.partition(), 0, u64::MAX).unwrap();
    let (batch, _) = BatchView::split_first(&bytes).unwrap();
    batch.check_crc().unwrap();
    assert_eq!(batch.compression_id(), Compression::Lz4.id());
    assert_eq!(records::records(&batch, 1 << 20).unwrap().iter().filter(Result::is_ok).count(), 3);
}

#[test]
fn a_batch_that_grows_beyond_the_limit_in_the_topics_codec_is_refused() {
    let batch = || Batch { compression: Compression::Gzip, ..Batch::of(300) };
    let sent = batch().bytes().len();
    assert!(sent < Batch::of(300).bytes().len());
    let node = TestNode::with(|config| {
        config.compression = TopicCompression::Fixed { codec: Compression::None.id(), level: None };
        config.max_message_bytes = sent as u32;
    });
    assert_eq!(node.append(batch()).unwrap_err().code(), ErrorCode::MessageTooLarge);
    assert_eq!(node.partition().offsets().log_end, 0);
}

#[test]
fn a_batch_of_bad_records_makes_no_large_answer() {
    let node = TestNode::with(|config| config.cleanup_policy.compact = true);
    let AppendError::BadRecords(bad) = node.append(Batch { key: None, ..Batch::of(5000) }).unwrap_err() else {
        panic!("records are to blame");
    };
    assert_eq!((bad.named.len(), bad.count), (1000, 5000));
    assert!(bad.summary(&"t-0").contains("due to 5000 record errors in total"));
}

#[test]
fn the_records_to_blame_are_named() {
    let node = TestNode::with(|config| config.timestamp_after_max_ms = 1);
    let AppendError::BadRecords(bad) = node.append(Batch { timestamp: NOW_MS, ..Batch::of(3) }).unwrap_err() else {
        panic!("a record is to blame");
    };
    // Each is a millisecond later than the one before.
    assert_eq!(bad.named.iter().map(|record| record.place).collect::<Vec<_>>(), [2]);
    let node = TestNode::with(|config| config.timestamp_type = TimestampType::LogAppendTime);
    let mut bytes = Batch::of(3).bytes();
    patched(&mut bytes, 21, &8i16.to_be_bytes());
    let error = node.partition().append(&mut bytes, AppendOrigin::Client, None).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidTimestamp);
}

#[test]
fn leader_epochs_are_compared() {
    let node = TestNode::with(|_| {});
    let append = |epoch| node.partition().append(&mut Batch::of(1).bytes(), AppendOrigin::Client, Some(epoch));
    assert_eq!(append(2).unwrap_err().code(), ErrorCode::FencedLeaderEpoch);
    assert_eq!(append(4).unwrap_err().code(), ErrorCode::UnknownLeaderEpoch);
    append(3).unwrap();
    let read = |epoch| node.partition().read(&ReadSpec { current_leader_epoch: Some(epoch), ..spec(0) });
    assert_eq!(read(2).unwrap_err().code(), ErrorCode::FencedLeaderEpoch);
    assert_eq!(read(4).unwrap_err().code(), ErrorCode::UnknownLeaderEpoch);
}

#[test]
fn a_retry_gets_the_originals_offset_once() {
    let node = TestNode::with(|_| {});
    for batch in 0..6 {
        node.append(Batch::by(2, 9, 0, batch * 2)).unwrap();
    }
    let retry = node.append(Batch::by(2, 9, 0, 2)).unwrap();
    assert_eq!((retry.base_offset, retry.ticket.is_done()), (2, true));
    // The sixth last is no longer remembered, and a gap is none.
    assert_eq!(node.append(Batch::by(2, 9, 0, 0)).unwrap_err().code(), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(node.append(Batch::by(2, 9, 0, 14)).unwrap_err().code(), ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(node.partition().offsets().log_end, 12);
}

#[test]
fn own_batches_may_come_together() {
    let node = TestNode::with(|config| config.cleanup_policy.compact = true);
    let mut bytes = [Batch::of(2).bytes(), Batch::of(3).bytes()].concat();
    let appended = node.partition().append(&mut bytes, AppendOrigin::Coordinator, Some(3)).unwrap();
    assert_eq!(appended.base_offset, 0);
    assert_eq!(node.read_all(0), [(0, 1, 3), (2, 4, 3)]);
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    let node = TestNode::with(|_| {});
    node.fill(2, 10);
    let before = std::fs::metadata(node.path().join("00000000000000000000.log")).unwrap().len();
    node.faults.write_fails.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(node.append(Batch::of(1)).unwrap_err(), AppendError::Storage);
    assert_eq!(std::fs::metadata(node.path().join("00000000000000000000.log")).unwrap().len(), before);
    node.faults.write_fails.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(node.append(Batch::of(1)).unwrap().base_offset, 20);
}

#[test]
fn a_write_that_cannot_be_undone_takes_the_directory_offline() {
    let node = TestNode::with(|_| {});
    node.fill(1, 10);
    node.faults.write_fails.store(true, std::sync::atomic::Ordering::SeqCst);
    node.faults.cut_fails.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(node.append(Batch::of(1)).unwrap_err().code(), ErrorCode::KafkaStorageError);
    assert_eq!(node.partition().read(&spec(0)).unwrap_err().code(), ErrorCode::KafkaStorageError);
    assert!(node.partitions.log_dirs().all(|(_, works)| !works));
}

#[test]
fn segments_roll_by_size_and_reads_cross_them() {
    let node = TestNode::with(|config| config.segment_bytes = 4096);
    node.fill(40, 100);
    let logs = node.files().iter().filter(|name| name.ends_with(".log")).count();
    assert!(logs > 5, "{logs} segments");
    let seen = node.read_all(0);
    assert_eq!(seen.len(), 40);
    assert!(seen.windows(2).all(|w| w[0].1 + 1 == w[1].0));
    // In the middle of a batch the whole batch is the answer.
    assert_eq!(node.read_all(205)[0], (200, 209, 3));
}

#[test]
fn segments_roll_by_the_records_time() {
    let node = TestNode::with(|config| {
        config.segment_ms = 1000;
        config.segment_jitter_ms = 0;
    });
    for timestamp in [0, 1000, 1001, 1500, 2002] {
        node.append(Batch { timestamp: NOW_MS + timestamp, ..Batch::of(1) }).unwrap();
    }
    let bases: Vec<_> = node.partition().view().unwrap().segments().iter().map(|segment| segment.base()).collect();
    assert_eq!(bases, [0, 2, 4]);
}

#[test]
fn limits_cut_as_kafka_does() {
    let node = TestNode::with(|_| {});
    node.fill(3, 100);
    let partition = node.partition();
    let one = Batch { value_bytes: 100, ..Batch::of(10) }.bytes().len();
    assert_eq!(read(&partition, 0, 10).unwrap().len(), one, "the first batch is whole whatever the limit");
    assert_eq!(read(&partition, 0, one as u64 + 10).unwrap().len(), one + 10, "a later one is cut");
    let small = ReadSpec { max_bytes: 10, min_one: false, ..spec(0) };
    assert!(bytes_of(&partition.read(&small).unwrap()).is_empty());
    let nothing = ReadSpec { max_bytes: 0, ..small };
    assert!(bytes_of(&partition.read(&nothing).unwrap()).is_empty());
    let first = ReadSpec { max_bytes: 0, min_one: true, ..small };
    assert_eq!(bytes_of(&partition.read(&first).unwrap()).len(), one, "nor is it left out");
    assert!(bytes_of(&partition.read(&spec(30)).unwrap()).is_empty(), "the high watermark has nothing yet");
    assert_eq!(partition.read(&spec(31)).unwrap_err().code(), ErrorCode::OffsetOutOfRange);
    assert_eq!(partition.read(&spec(-1)).unwrap_err().code(), ErrorCode::OffsetOutOfRange);
}
