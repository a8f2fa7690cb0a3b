use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use super::node::*;
use crate::log::checkpoint::Checkpoint;
use crate::log::names::MOVED;
use crate::partition::moving::MoveError;
use crate::partition::tuning::Tuned;
use crate::protocol::record_batch::BatchView;

fn ask(node: &TestNode, to: usize) -> Result<(), MoveError> {
    node.partitions.move_partition("t", 0, &node.settings.log_dirs[to])
}

fn move_to(node: &TestNode, to: usize) {
    ask(node, to).unwrap();
    node.partitions.do_due_work();
    assert_eq!(*node.partition().log_dir(), node.settings.log_dirs[to]);
    assert_eq!(node.partition().future_replica(), None);
}

/// Names in a log directory that belong to partitions, what is unique in them cut off.
fn directories(node: &TestNode, at: usize) -> Vec<String> {
    let names = std::fs::read_dir(&node.settings.log_dirs[at]).unwrap().map(|entry| entry.unwrap());
    let names = names.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap());
    let short = |name: String| match name.split_once('.') {
        Some((partition, rest)) => format!("{partition}-{}", rest.rsplit_once('-').unwrap().1),
        None => name,
    };
    let mut names: Vec<_> = names.map(short).collect();
    names.sort();
    names
}

/// The partition's files in a log directory, with their bytes.
fn contents(node: &TestNode, at: usize) -> Vec<(String, Vec<u8>)> {
    let path = node.settings.log_dirs[at].join("t-0");
    let mut all: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn a_moved_partition_has_the_same_files_elsewhere() {
    let mut node = TestNode::over(2, |config| config.segment_bytes = 4096);
    for sequence in 0..40 {
        node.append(Batch { value_bytes: 100, ..Batch::by(10, 5, 0, sequence * 10) }).unwrap();
    }
    let (before, epoch) = (node.read_all(0), node.partition().epoch_of(0));
    move_to(&node, 1);
    assert_eq!(node.read_all(0), before);
    assert_eq!((directories(&node, 0), directories(&node, 1)), (vec!["t-0-delete".into()], vec!["t-0".into()]));
    let mut aside = std::fs::read_dir(&node.settings.log_dirs[0]).unwrap().map(|entry| entry.unwrap().path());
    let aside = aside.find(|path| path.is_dir()).unwrap();
    for (name, bytes) in contents(&node, 1) {
        assert_eq!(std::fs::read(aside.join(&name)).ok(), Some(bytes), "{name}");
    }
    // The producer goes on, and a retry of its last batch is known.
    let retried = node.append(Batch { value_bytes: 100, ..Batch::by(10, 5, 0, 390) }).unwrap();
    assert_eq!(retried.base_offset, 390);
    assert_eq!(node.append(Batch::by(10, 5, 0, 400)).unwrap().base_offset, 400);
    node.clock.advance(60_000);
    node.partitions.do_due_work();
    assert!(directories(&node, 0).is_empty());
    let all = node.read_all(0);
    for _ in 0..2 {
        node.crash();
        assert_eq!(*node.partition().log_dir(), node.settings.log_dirs[1]);
        assert_eq!(node.read_all(0), all);
        assert_eq!(node.partition().epoch_of(0), epoch);
        assert_eq!(node.append(Batch::by(10, 5, 0, 400)).unwrap().base_offset, 400, "known after the crash too");
        node.partitions.checkpoint();
    }
    node.partitions.close();
    node.crash();
    assert_eq!(node.read_all(0), all);
}

#[test]
fn a_partition_without_records_moves_too_and_stays_there() {
    let mut node = TestNode::over(2, |_| {});
    move_to(&node, 1);
    node.crash();
    assert_eq!(*node.partition().log_dir(), node.settings.log_dirs[1]);
    node.fill(1, 10);
    assert_eq!(node.read_all(0).len(), 1);
}

#[test]
fn a_log_start_moves_along() {
    let mut node = TestNode::over(2, |config| config.segment_bytes = 4096);
    node.fill(40, 100);
    node.partition().raise_log_start_blocking(205).unwrap();
    move_to(&node, 1);
    node.crash();
    assert_eq!(node.partition().offsets().log_start, 205);
    move_to(&node, 0);
    node.partition().raise_log_start_blocking(-1).unwrap();
    move_to(&node, 1);
    node.crash();
    assert_eq!((node.partition().offsets().log_start, node.partition().offsets().log_end), (400, 400));
}

#[test]
fn appends_and_reads_go_on_while_it_moves_to_and_fro() {
    for flush_messages in [None, Some(1)] {
        let mut node = TestNode::over(2, |config| {
            config.segment_bytes = 1 << 20;
            config.flush_messages = flush_messages;
        });
        // So much in each round: a log that grew as fast as it is copied would never arrive.
        let (partition, stop, allowed) = (node.partition(), AtomicBool::new(false), AtomicI64::new(0));
        let (appended, seen) = std::thread::scope(|scope| {
            let appender = scope.spawn(|| {
                let (mut sequence, mut tickets) = (0, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    if i64::from(sequence) >= allowed.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                        continue;
                    }
                    let mut bytes = Batch { value_bytes: 500, ..Batch::by(10, 7, 0, sequence) }.bytes();
                    let done =
                        partition.append(&mut bytes, crate::partition::append::AppendOrigin::Client, None).unwrap();
                    assert_eq!(done.base_offset, i64::from(sequence));
                    sequence += 10;
                    tickets.push(done.ticket);
                }
                for ticket in tickets {
                    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(ticket.wait()).unwrap();
                }
                i64::from(sequence)
            });
            let reader = scope.spawn(|| {
                let mut at = 0;
                while !stop.load(Ordering::Relaxed) {
                    let bytes = read(&partition, at, 1 << 20).unwrap();
                    let mut rest = &bytes[..];
                    while let Ok((batch, behind)) = BatchView::split_first(rest) {
                        batch.check_crc().unwrap();
                        assert_eq!(batch.base_offset(), at);
                        at = batch.next_offset();
                        rest = behind;
                    }
                }
                at
            });
            for round in 0..12 {
                let upto = allowed.fetch_add(3000, Ordering::Relaxed) + 3000;
                move_to(&node, 1 - round % 2);
                while partition.offsets().log_end < upto {
                    std::thread::yield_now();
                }
            }
            stop.store(true, Ordering::Relaxed);
            (appender.join().unwrap(), reader.join().unwrap())
        });
        assert!(seen > 0 && seen <= appended);
        let whole = |node: &TestNode| {
            let all = node.read_all(0);
            assert!(all.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
            all.last().map(|batch| batch.1 + 1)
        };
        assert_eq!(whole(&node), Some(appended));
        node.crash();
        assert_eq!(whole(&node), Some(appended));
    }
}

#[test]
fn what_is_asked_wrongly_is_refused_as_in_kafka() {
    let node = TestNode::over(2, |_| {});
    let ask = |topic: &str, number, path: &std::path::Path| node.partitions.move_partition(topic, number, path);
    let dir = &node.settings.log_dirs[1];
    assert_eq!(ask("t", 0, std::path::Path::new("/nowhere")), Err(MoveError::UnknownDir));
    assert_eq!(ask("t", 0, &dir.join("")), Err(MoveError::UnknownDir), "names are compared as they are spelt");
    assert_eq!(ask("t", 9, dir), Err(MoveError::UnknownPartition));
    assert_eq!(ask(&"t".repeat(214), 0, dir), Err(MoveError::NameTooLong));
    assert_eq!(ask(&"t".repeat(213), 0, dir), Err(MoveError::UnknownPartition));
    assert_eq!(ask("t", 0, &node.settings.log_dirs[0]), Ok(()), "it is there");
    node.partition().set_offline("for the test");
    assert_eq!(ask("t", 0, dir), Err(MoveError::Storage));
}

#[test]
fn a_partition_is_created_where_somebody_wished_it() {
    let node = TestNode::over(3, |_| {});
    for number in 1..4 {
        let asked = node.partitions.move_partition("t", number, &node.settings.log_dirs[2]);
        assert_eq!(asked, Err(MoveError::UnknownPartition));
    }
    node.partitions.follow(&image_of(vec![topic("t", 7, 4)], 2, 3));
    let dirs: Vec<_> =
        node.partitions.all().iter().filter(|p| p.id().partition > 0).map(|p| p.log_dir().clone()).collect();
    assert_eq!(dirs, vec![node.settings.log_dirs[2].clone(); 3]);
}

/// A node whose partition is in the middle of a slow move to directory 1.
fn while_moving(node: &TestNode, then: impl FnOnce()) {
    node.fill(300, 1000);
    let slow = Tuned { move_bytes_per_second: 1_000_000, ..node.settings.tuning.get() };
    node.settings.tuning.set(slow);
    ask(node, 1).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| node.partitions.do_due_work());
        let begun = Instant::now();
        while node.partition().future_replica().is_some_and(|future| future.size_bytes == 0) {
            assert!(begun.elapsed() < Duration::from_secs(20), "the copy begins");
            std::thread::yield_now();
        }
        assert_eq!(directories(node, 1), ["t-0-future"]);
        then();
    });
    node.partitions.do_due_work();
}

#[test]
fn a_move_is_given_up_when_nobody_wants_it_any_more() {
    let node = TestNode::over(2, |_| {});
    while_moving(&node, || {
        ask(&node, 1).unwrap();
        assert!(node.partition().future_replica().is_some(), "asking again changes nothing");
        ask(&node, 0).unwrap();
        assert_eq!(node.partition().future_replica(), None);
    });
    assert_eq!((directories(&node, 0), directories(&node, 1)), (vec!["t-0".to_owned()], vec![]));
    assert_eq!(node.read_all(0).len(), 300);
    move_to(&node, 1);
}

#[test]
fn a_deleted_topic_takes_its_move_with_it() {
    let node = TestNode::over(2, |_| {});
    while_moving(&node, || node.partitions.follow(&image_of(vec![], 2, 3)));
    assert_eq!((directories(&node, 0), directories(&node, 1)), (vec!["t-0-delete".to_owned()], vec![]));
}

#[test]
fn a_start_takes_an_unfinished_move_up_again() {
    let mut node = TestNode::over(2, |_| {});
    node.fill(3, 100);
    ask(&node, 1).unwrap();
    std::fs::write(node.settings.log_dirs[1].join(future_of(&node)).join("00000000000000000000.log"), b"half").unwrap();
    node.crash();
    assert!(node.partition().future_replica().is_some());
    assert_eq!(*node.partition().log_dir(), node.settings.log_dirs[0]);
    node.partitions.do_due_work();
    assert_eq!((directories(&node, 0), directories(&node, 1)), (vec!["t-0-delete".into()], vec!["t-0".into()]));
    assert_eq!(node.read_all(0).len(), 3);
}

fn future_of(node: &TestNode) -> String {
    let names = std::fs::read_dir(&node.settings.log_dirs[1]).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).find(|name| name.ends_with("-future")).unwrap()
}

/// As a crash behind the commit of a move leaves it: the old directory without its name, the whole copy without one yet.
fn between_the_renames(node: &TestNode) {
    let (old, new) = (node.settings.log_dirs[0].join("t-0"), node.settings.log_dirs[1].join("t-0"));
    move_to(node, 1);
    let checkpoint = node.settings.log_dirs[1].join(crate::log::checkpoint::FILE_NAME);
    let bytes = std::fs::read(&checkpoint).unwrap();
    std::fs::write(new.join(MOVED), &bytes).unwrap();
    let nothing = Checkpoint { partitions: Vec::new(), ..Checkpoint::decode(&bytes).unwrap() };
    std::fs::write(&checkpoint, nothing.encode()).unwrap();
    let future = node.settings.log_dirs[1].join("t-0.00000000000000000000000000000000-future");
    let moved = std::process::Command::new("mv").args([&new, &future]).status().unwrap();
    assert!(moved.success() && !old.exists());
}

#[test]
fn a_start_completes_a_move_that_was_decided() {
    let mut node = TestNode::over(2, |_| {});
    node.fill(30, 100);
    node.partition().raise_log_start_blocking(105).unwrap();
    between_the_renames(&node);
    node.crash();
    assert_eq!((directories(&node, 0), directories(&node, 1)), (vec![], vec!["t-0".to_owned()]));
    let offsets = node.partition().offsets();
    assert_eq!((offsets.log_start, offsets.log_end), (105, 300));
    assert!(!node.settings.log_dirs[1].join("t-0").join(MOVED).exists());
    node.crash();
    assert_eq!(node.partition().offsets().log_start, 105, "the checkpoint says it now");
}

#[test]
fn a_copy_without_a_name_waits_for_the_directory_that_failed() {
    let mut node = TestNode::over(2, |_| {});
    node.fill(30, 100);
    between_the_renames(&node);
    node.settings.failed_dirs = vec![(node.settings.log_dirs[0].clone(), "for the test".to_owned())];
    node.crash();
    assert!(node.partition().offline_reason().is_some(), "the failed directory may have the partition");
    assert_eq!(directories(&node, 1), ["t-0-future"]);
    node.settings.failed_dirs.clear();
    node.crash();
    assert_eq!(node.partition().offsets().log_end, 300);
}

#[test]
fn a_partition_in_two_directories_is_served_from_the_first() {
    let mut node = TestNode::over(2, |_| {});
    node.fill(3, 100);
    let copied = std::process::Command::new("cp")
        .args(["-r".as_ref(), node.path().as_os_str(), node.settings.log_dirs[1].as_os_str()])
        .status();
    assert!(copied.unwrap().success());
    node.fill(2, 100);
    for _ in 0..2 {
        node.crash();
        assert_eq!(*node.partition().log_dir(), node.settings.log_dirs[0]);
        assert_eq!(node.read_all(0).len(), 5);
    }
}
