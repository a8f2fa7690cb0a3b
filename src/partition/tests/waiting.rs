use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::node::*;
use crate::partition::read::Isolation;
use crate::partition::waiters::{Visible, Watcher};

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(50)
}

fn moved(watcher: &Watcher) -> Vec<u32> {
    let mut slots = Vec::new();
    watcher.take_moved(|slot| slots.push(slot));
    slots
}

fn seen(node: &TestNode) -> Visible {
    node.partition().read(&spec(0)).unwrap().visible
}

fn arm(watcher: &Watcher, bytes: u64) {
    watcher.arm(bytes, Isolation::ReadUncommitted);
}

#[tokio::test(start_paused = true)]
async fn the_bytes_that_were_waited_for_wake_once() {
    let node = TestNode::with(|_| {});
    let one = Batch::of(1).bytes().len() as u64;
    let watcher = Watcher::new();
    let watch = node.partition().watch(&watcher, 3, None);
    arm(&watcher, 2 * one);
    assert!(!watcher.wait(soon()).await, "nothing came");
    node.append(Batch::of(1)).unwrap();
    assert!(!watcher.wait(soon()).await, "half of it came");
    node.append(Batch::of(1)).unwrap();
    assert!(watcher.wait(soon()).await);
    assert_eq!(moved(&watcher), [3], "marked once");
    drop(watch);
}

#[tokio::test(start_paused = true)]
async fn every_move_after_the_marks_were_taken_is_marked() {
    let node = TestNode::with(|_| {});
    let watcher = Watcher::new();
    let watch = node.partition().watch(&watcher, 0, None);
    assert!(!watcher.has_moved());
    for _ in 0..3 {
        node.append(Batch::of(1)).unwrap();
        node.append(Batch::of(1)).unwrap();
        assert_eq!(moved(&watcher), [0]);
        assert_eq!(moved(&watcher), [] as [u32; 0]);
    }
    node.partition().raise_log_start_blocking(2).unwrap();
    assert_eq!(moved(&watcher), [0], "the log start is told too");
    drop(watch);
    node.append(Batch::of(1)).unwrap();
    assert!(!watcher.has_moved(), "nobody watches");
}

#[tokio::test(start_paused = true)]
async fn what_came_between_the_read_and_the_watch_counts() {
    let node = TestNode::with(|_| {});
    let partition = node.partition();
    let watcher = Watcher::new();
    let before = seen(&node);
    node.append(Batch::of(1)).unwrap();
    arm(&watcher, 1);
    let watch = partition.watch(&watcher, 0, Some(before));
    assert!(watcher.wait(soon()).await);
    drop(watch);
    // Of what the read saw already, nothing.
    moved(&watcher);
    arm(&watcher, 1);
    let watch = partition.watch(&watcher, 0, Some(seen(&node)));
    assert!(!watcher.wait(soon()).await);
    drop(watch);
}

#[tokio::test(start_paused = true)]
async fn a_synced_topic_wakes_by_its_sync() {
    let node = TestNode::with(|config| config.flush_messages = Some(1));
    let partition = node.partition();
    let watcher = Watcher::new();
    let watch = partition.watch(&watcher, 0, None);
    arm(&watcher, 1);
    let ticket = node.append(Batch::of(1)).unwrap().ticket;
    ticket.wait().await.unwrap();
    // The ticket is accepted before the watchers are told, by the same thread.
    while !watcher.wait(Instant::now() + Duration::from_millis(1)).await {
        std::thread::yield_now();
    }
    assert_eq!(partition.offsets().high_watermark, 1);
    drop(watch);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_vanishes_wakes_its_watchers() {
    let node = TestNode::with(|_| {});
    let watcher = Watcher::new();
    let watch = node.partition().watch(&watcher, 0, None);
    arm(&watcher, 1 << 40);
    node.partitions.follow(&image_of(Vec::new(), 2, 3));
    assert!(watcher.wait(soon()).await);
    drop(watch);
}

#[test]
fn appends_of_other_threads_are_never_missed() {
    let node = Arc::new(TestNode::with(|_| {}));
    let watcher = Watcher::new();
    let watch = node.partition().watch(&watcher, 0, None);
    let appends = 200;
    let appender = {
        let node = Arc::clone(&node);
        std::thread::spawn(move || (0..appends).for_each(|_| drop(node.append(Batch::of(1)).unwrap())))
    };
    let (mut seen, begun) = (0, std::time::Instant::now());
    while seen < appends {
        assert!(begun.elapsed() < Duration::from_secs(60), "a move was missed at {seen}");
        if moved(&watcher).is_empty() {
            std::thread::yield_now();
        } else {
            seen = node.partition().offsets().high_watermark;
        }
    }
    appender.join().unwrap();
    drop(watch);
}
