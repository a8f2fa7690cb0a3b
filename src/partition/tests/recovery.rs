use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use rstest::rstest;

use super::node::*;
use crate::protocol::error_code::ErrorCode;
use crate::wal::partition_sync::Running;

const FIRST: &str = "00000000000000000000.log";

#[test]
fn a_clean_stop_leaves_kafkas_files_and_reads_nothing_again() {
    let mut node = TestNode::with(|config| config.segment_bytes = 4096);
    node.fill(30, 100);
    let seen = node.read_all(0);
    node.partitions.close();
    let log_dir = node.settings.log_dirs[0].clone();
    let text = |name: &str| std::fs::read_to_string(log_dir.join(name)).unwrap();
    assert_eq!(text("recovery-point-offset-checkpoint"), "0\n1\nt 0 300\n");
    assert_eq!(text("replication-offset-checkpoint"), "0\n1\nt 0 300\n");
    assert_eq!(text("log-start-offset-checkpoint"), "0\n1\nt 0 0\n");
    assert!(log_dir.join(".kafka_cleanshutdown").exists());
    assert_eq!(node.append(Batch::of(1)).unwrap_err().code(), ErrorCode::KafkaStorageError);
    node.crash();
    assert!(!log_dir.join(".kafka_cleanshutdown").exists());
    assert_eq!(node.read_all(0), seen);
    assert_eq!(node.append(Batch::of(1)).unwrap().base_offset, 300);
    assert_eq!(std::fs::read_to_string(node.path().join("leader-epoch-checkpoint")).unwrap(), "0\n1\n3 0\n");
    node.partitions.checkpoint();
    assert_eq!(std::fs::read_to_string(node.path().join("leader-epoch-checkpoint")).unwrap(), "0\n2\n3 0\n4 300\n");
}

#[rstest]
#[case::without_a_checkpoint(false)]
#[case::with_a_checkpoint(true)]
fn a_crash_loses_nothing_that_was_written(#[case] checkpoint: bool, #[values(false, true)] power_loss: bool) {
    let mut node = TestNode::with(|config| {
        config.segment_bytes = 4096;
        config.index_interval_bytes = 256;
    });
    node.fill(30, 100);
    node.append(Batch::by(1, 9, 0, 0)).unwrap();
    if checkpoint {
        node.partitions.checkpoint();
    }
    node.append(Batch::by(1, 9, 0, 1)).unwrap();
    node.fill(3, 100);
    let seen = node.read_all(0);
    if power_loss {
        node.power_loss()
    } else {
        node.crash()
    }
    assert_eq!(node.read_all(0), seen);
    // The retry of the last batch is known, also where only a segment's snapshot was left to tell.
    assert_eq!(node.append(Batch::by(1, 9, 0, 1)).unwrap().base_offset, 301);
    assert_eq!(node.append(Batch::by(1, 9, 0, 2)).unwrap().base_offset, 332);
    assert_eq!(node.partition().epoch_end(3).unwrap(), (3, 332));
}

#[rstest]
#[case::half_a_batch(|file: &std::fs::File, len: u64| file.set_len(len - 40).unwrap(), 29)]
#[case::half_a_header(|file: &std::fs::File, len: u64| file.set_len(len / 30 * 20 + 30).unwrap(), 20)]
#[case::garbage_behind(|file: &std::fs::File, len: u64| file.write_all_at(&[0xFF; 500], len).unwrap(), 30)]
#[case::zeros_behind(|file: &std::fs::File, len: u64| file.set_len(len + 5000).unwrap(), 30)]
#[case::a_flipped_bit(|file: &std::fs::File, len: u64| file.write_all_at(&[0xFF], len / 30 * 10 + 100).unwrap(), 10)]
fn a_torn_tail_is_cut_and_kept_aside(#[case] tear: fn(&std::fs::File, u64), #[case] batches_left: usize) {
    let mut node = TestNode::with(|config| config.index_interval_bytes = 256);
    node.fill(30, 100);
    let file = OpenOptions::new().write(true).open(node.path().join(FIRST)).unwrap();
    let len = file.metadata().unwrap().len();
    tear(&file, len);
    let torn = file.metadata().unwrap().len();
    node.crash();
    assert_eq!(node.read_all(0).len(), batches_left);
    let kept = std::fs::metadata(node.path().join(format!("{FIRST}.truncated"))).unwrap().len();
    assert_eq!(kept, torn - len / 30 * batches_left as u64);
    assert_eq!(node.append(Batch::of(1)).unwrap().base_offset, batches_left as i64 * 10);
    node.crash();
    assert_eq!(node.read_all(0).len(), batches_left + 1);
}

#[test]
fn damage_in_the_middle_ends_the_log_there() {
    let mut node = TestNode::with(|config| config.segment_bytes = 4096);
    node.fill(30, 100);
    let second = node.partition().view().unwrap().segments()[1].base();
    let file = OpenOptions::new().write(true).open(node.path().join(format!("{second:020}.log"))).unwrap();
    file.write_all_at(&[0xFF; 8], 100).unwrap();
    node.crash();
    assert_eq!(node.partition().offsets().log_end, second);
    let logs = node.files().into_iter().filter(|name| name.ends_with(".log")).count();
    assert_eq!(logs, 2, "{:?}", node.files());
    assert!(node.files().iter().filter(|name| name.ends_with(".truncated")).count() > 1);
}

#[rstest]
#[case::a_checkpoint_tells_of_it(true)]
#[case::it_is_younger_than_the_checkpoint(false)]
fn a_hole_is_refused_also_without_an_epoch_file(#[case] known: bool, #[values(false, true)] epochs: bool) {
    let mut node = TestNode::with(|_| {});
    node.partitions.checkpoint();
    node.fill(30, 100);
    if known {
        node.partitions.checkpoint();
    }
    let file = OpenOptions::new().write(true).open(node.path().join(FIRST)).unwrap();
    let batch_bytes = file.metadata().unwrap().len() / 30;
    for batch in 20..30 {
        // The base offset, which no CRC covers: one batch is missing before these.
        file.write_all_at(&(batch as i64 * 10 + 10).to_be_bytes(), batch * batch_bytes).unwrap();
    }
    let path = node.path().join("leader-epoch-checkpoint");
    match epochs {
        true => std::fs::write(path, "0\n1\n3 0\n").unwrap(),
        false => drop(std::fs::remove_file(path)),
    }
    node.power_loss();
    assert_eq!(node.partition().offsets().log_end, 200);
    assert!(node.files().iter().any(|name| name.ends_with(".truncated")), "{:?}", node.files());
}

#[test]
fn below_the_checked_end_nothing_is_checked_again() {
    let mut node = TestNode::with(|config| config.index_interval_bytes = 256);
    // Long enough to have a file of its leader epochs.
    node.fill(30, 500);
    node.partitions.checkpoint();
    node.fill(1, 100);
    let file = OpenOptions::new().write(true).open(node.path().join(FIRST)).unwrap();
    // In a record, where only a CRC would notice.
    file.write_all_at(&[0xFF], 100).unwrap();
    node.crash();
    assert_eq!(node.partition().offsets().log_end, 310);
    // With another page cache behind it, all of it is.
    node.power_loss();
    assert_eq!(node.partition().offsets().log_end, 0);
}

#[rstest]
#[case::missing(|path: &std::path::Path| std::fs::remove_file(path).unwrap())]
#[case::garbage(|path: &std::path::Path| std::fs::write(path, [7; 64]).unwrap())]
#[case::zeros(|path: &std::path::Path| std::fs::write(path, [0; 4096]).unwrap())]
#[case::stale(|path: &std::path::Path| {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, bytes.repeat(2)).unwrap();
})]
#[tokio::test]
async fn a_damaged_index_is_built_anew(
    #[case] damage: fn(&std::path::Path),
    #[values("index", "timeindex")] extension: &str,
) {
    let mut node = TestNode::with(|config| {
        config.segment_bytes = 64 << 10;
        config.index_interval_bytes = 256;
    });
    // So many that the active segment's index is in its files too.
    for batch in 0..260 {
        node.append(Batch { timestamp: NOW_MS + batch * 100, value_bytes: 100, ..Batch::of(10) }).unwrap();
    }
    node.partitions.checkpoint();
    let bases: Vec<_> = node.partition().view().unwrap().segments().iter().map(|segment| segment.base()).collect();
    for base in bases {
        damage(&node.path().join(format!("{base:020}.{extension}")));
    }
    node.crash();
    for offset in [0, 9, 10, 155, 1399, 2599] {
        assert_eq!(node.read_all(offset)[0].0, offset / 10 * 10);
        let spec = crate::partition::list_offsets::OffsetSpec::Time(NOW_MS + offset / 10 * 100);
        let isolation = crate::partition::read::Isolation::ReadUncommitted;
        assert_eq!(node.partition().list_offset(spec, isolation).await.unwrap().offset, offset / 10 * 10);
    }
}

#[test]
fn epochs_never_fall() {
    let mut node = TestNode::with(|_| {});
    node.fill(5, 100);
    let len = std::fs::metadata(node.path().join(FIRST)).unwrap().len();
    let file = OpenOptions::new().write(true).open(node.path().join(FIRST)).unwrap();
    file.write_all_at(&2i32.to_be_bytes(), len / 5 * 4 + 12).unwrap();
    node.crash();
    assert_eq!(node.partition().offsets().log_end, 40);
}

#[test]
fn a_directory_that_was_taken_away_begins_anew() {
    let mut node = TestNode::with(|_| {});
    node.fill(3, 100);
    node.partitions.close();
    std::fs::remove_dir_all(node.path()).unwrap();
    node.crash();
    let offsets = node.partition().offsets();
    assert_eq!((offsets.log_start, offsets.log_end), (0, 0));
    let text = std::fs::read_to_string(node.settings.log_dirs[0].join("meta.properties")).unwrap();
    assert!(text.contains("node.id=1\n") && text.contains("version=1\n"), "{text}");
}

#[test]
fn an_epochs_file_that_a_crash_left_empty_counts_as_none() {
    let mut node = TestNode::with(|_| {});
    node.fill(3, 5_000);
    let epochs = node.path().join("leader-epoch-checkpoint");
    std::fs::write(&epochs, "").unwrap();
    node.crash();
    assert_eq!(node.partition().epoch_end(3).unwrap(), (3, 30));
    node.partitions.checkpoint();
    assert_eq!(std::fs::read_to_string(&epochs).unwrap(), "0\n1\n3 0\n");
}

#[rstest]
#[case::from_the_beginning(false)]
#[case::behind_one_that_has_it(true)]
fn a_short_log_does_without_a_file_of_its_epochs(#[case] synced_first: bool) {
    let mut node = TestNode::with(|_| {});
    let epochs = node.path().join("leader-epoch-checkpoint");
    node.fill(3, 100);
    if synced_first {
        node.partitions.close();
    }
    for life in 1..4 {
        node.partitions.checkpoint();
        node.crash();
        node.fill(3, 100);
        assert_eq!(node.partition().epoch_end(3).unwrap(), (3, 30), "life {life}");
    }
    node.partitions.checkpoint();
    let written = std::fs::read_to_string(&epochs).ok();
    assert_eq!(written, synced_first.then(|| "0\n1\n3 0\n".to_owned()));
    // Grown, it has one, and nothing below is checked again, nor are epochs looked for in the batches.
    node.fill(3, 5_000);
    node.partitions.checkpoint();
    assert_eq!(std::fs::read_to_string(&epochs).unwrap(), "0\n4\n3 0\n4 30\n5 60\n6 90\n");
    for _ in 0..2 {
        node.crash();
        node.fill(1, 100);
        node.partitions.checkpoint();
    }
    let ends: Vec<_> = (3..=8).map(|epoch| node.partition().epoch_end(epoch).unwrap().1).collect();
    assert_eq!(ends, [30, 60, 90, 150, 160, 170]);
}

#[test]
fn a_log_cut_below_its_checked_end_opens_with_the_producers_of_what_is_left() {
    let mut node = TestNode::with(|config| config.segment_bytes = 2048);
    for sequence in 0..100 {
        node.append(Batch::by(1, 9, 0, sequence)).unwrap();
    }
    node.partitions.checkpoint();
    let last = node.files().into_iter().rfind(|name| name.ends_with(".log")).unwrap();
    let file = OpenOptions::new().write(true).open(node.path().join(last)).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    node.crash();
    let end = node.partition().offsets().log_end;
    assert!((80..100).contains(&end), "{end}");
    let sequence = i32::try_from(end).unwrap();
    assert_eq!(node.append(Batch::by(1, 9, 0, sequence - 1)).unwrap().base_offset, end - 1, "a retry is known");
    assert_eq!(node.append(Batch::by(1, 9, 0, sequence)).unwrap().base_offset, end);
}

#[rstest]
#[case::with_a_file_of_its_epochs(true)]
#[case::without_one(false)]
fn retention_that_leaves_a_short_log_forgets_no_producer(#[case] epochs_written: bool) {
    let mut node = TestNode::with(|config| {
        config.segment_bytes = 4096;
        config.retention_bytes = Some(1);
    });
    // Nothing is synced: what a start trusts is the checked end alone.
    node.settings.syncs.running = Running::ByHand;
    node.crash();
    node.append(Batch::by(1, 9, 0, 0)).unwrap();
    node.fill(31, 100);
    if epochs_written {
        node.partitions.checkpoint();
    }
    node.clock.advance(1_000);
    node.partitions.do_due_work();
    assert_eq!(node.partition().view().unwrap().segments().len(), 1);
    for life in 0..3 {
        assert_eq!(node.append(Batch::by(1, 9, 0, 0)).unwrap().base_offset, 0, "life {life}: a retry is known");
        node.fill(1, 10);
        node.partitions.checkpoint();
        assert_eq!(node.partition().view().unwrap().segments().len(), 1);
        node.crash();
    }
}
