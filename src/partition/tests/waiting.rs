use std::time::Duration;

use tokio::time::Instant;

use super::node::*;
use crate::partition::read::Isolation;
use crate::partition::waiters::FetchWaiter;

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(50)
}

#[tokio::test(start_paused = true)]
async fn the_bytes_that_were_waited_for_wake_once() {
    let node = TestNode::with(|_| {});
    let partition = node.partition();
    let one = Batch::of(1).bytes().len() as u64;
    let waiter = FetchWaiter::new(2 * one);
    let guard = partition.watch(0, Isolation::ReadUncommitted, 0, &waiter);
    assert!(!waiter.wait(soon()).await, "nothing came");
    node.append(Batch::of(1)).unwrap();
    assert!(!waiter.wait(soon()).await, "half of it came");
    node.append(Batch::of(1)).unwrap();
    assert!(waiter.wait(soon()).await);
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn what_came_before_the_watch_counts() {
    let node = TestNode::with(|_| {});
    let partition = node.partition();
    node.fill(3, 100);
    let size = partition.size_bytes();
    let waiter = FetchWaiter::new(size);
    let guard = partition.watch(0, Isolation::ReadUncommitted, 0, &waiter);
    assert!(waiter.wait(soon()).await);
    drop(guard);
    // Two thirds lie behind the second batch's end, and are not enough.
    let waiter = FetchWaiter::new(size);
    let guard = partition.watch(10, Isolation::ReadUncommitted, 0, &waiter);
    assert!(!waiter.wait(soon()).await);
    node.fill(1, 100);
    assert!(waiter.wait(soon()).await);
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn a_synced_topic_wakes_by_its_sync() {
    let node = TestNode::with(|config| config.flush_messages = Some(1));
    let partition = node.partition();
    let waiter = FetchWaiter::new(1);
    let guard = partition.watch(0, Isolation::ReadUncommitted, 0, &waiter);
    let ticket = node.append(Batch::of(1)).unwrap().ticket;
    ticket.wait().await.unwrap();
    // The ticket is accepted before the waiters are woken, by the same thread.
    while !waiter.wait(Instant::now() + Duration::from_millis(1)).await {
        std::thread::yield_now();
    }
    assert_eq!(partition.offsets().high_watermark, 1);
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_vanishes_wakes_its_waiters() {
    let node = TestNode::with(|_| {});
    let waiter = FetchWaiter::new(1);
    let guard = node.partition().watch(0, Isolation::ReadUncommitted, 0, &waiter);
    node.partitions.follow(&image_of(Vec::new(), 2, 3));
    assert!(waiter.wait(soon()).await);
    drop(guard);
}
