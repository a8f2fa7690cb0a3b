//! Share partitions of a whole broker, whose callers go away at bad moments.

use std::sync::Arc;
use std::task::Poll;

use super::*;
use crate::partition::append::AppendOrigin;
use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::error_code::ErrorCode;
use crate::share::in_flight::{Acknowledgement, Acquired};
use crate::share::partition::SharePartition;
use crate::share::settings::{Reset, ShareLimits};
use crate::share::state::records::ShareKey;
use crate::share::state::shard::Initialized;
use crate::share::{AcknowledgedBatch, Acquire, Reader};

struct Group {
    broker: Broker,
    key: ShareKey,
    member: Arc<str>,
    _dir: tempfile::TempDir,
}

/// Asks a future once, and drops it.
async fn begin(work: impl Future) {
    let mut work = Box::pin(work);
    std::future::poll_fn(|context| {
        assert!(work.as_mut().poll(context).is_pending(), "it waits for the share coordinator");
        Poll::Ready(())
    })
    .await;
}

fn all(first: i64, last: i64, said: Acknowledgement) -> [AcknowledgedBatch; 1] {
    [AcknowledgedBatch { first, last, said: vec![said] }]
}

impl Group {
    /// With a topic "t" of `records`, each a batch, and a state that begins with the first.
    async fn new(records: usize) -> Self {
        let dir = tempfile::tempdir().expect("folder");
        let broker = broker(&dir).await;
        let mut stream = connect(&broker).await;
        // Metadata 1 creates the topic.
        stream.write_all(&request(3, 1, 0, &[0, 0, 0, 1, 0, 1, b't'])).await.expect("sent");
        answer(&mut stream).await;
        let topic = broker.node.metadata.image().topic("t").expect("made").id;
        let key = ShareKey { group: "g".into(), topic, partition: 0 };
        let log = broker.node.partitions.by_name("t", 0).expect("here");
        log.opened().await;
        for _ in 0..records {
            let mut batch = BatchBuilder::new(0);
            batch.push(0, 1, None, Some(b"v"), [].into_iter());
            let appended = log.append(&mut batch.finish(), AppendOrigin::Client, None).expect("appended");
            appended.ticket.wait().await.expect("durable");
        }
        let begun = Initialized { state_epoch: 0, start_offset: 0 };
        broker.node.shares.states().initialize(key.clone(), begun).await.expect("kept");
        Self { broker, key, member: "m".into(), _dir: dir }
    }

    fn limits(&self) -> ShareLimits {
        self.broker.node.shares.limits("g")
    }

    async fn open(&self) -> Arc<SharePartition> {
        let share = self.broker.node.shares.open(&self.key).expect("here");
        share.load(&self.limits(), self.broker.node.shares.now()).await.expect("kept");
        share
    }

    async fn acquire(&self, share: &SharePartition, limits: &ShareLimits, is_live: bool) -> Vec<Acquired> {
        let ask = Acquire { most: 100, exact: false, bytes: 1 << 20 };
        let reader = Reader { member: &self.member, is_live: &|| is_live };
        let now = self.broker.node.shares.now();
        share.acquire(share.turn().await, reader, ask, limits, now).await.expect("acquires").acquired
    }

    async fn say(&self, share: &SharePartition, said: &[AcknowledgedBatch]) -> Result<(), ErrorCode> {
        share.acknowledge(&self.member, said, &self.limits(), self.broker.node.shares.now()).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_whose_acknowledgement_was_dropped_do_not_settle_for_good() {
    let group = Group::new(3).await;
    let share = group.open().await;
    assert_eq!(group.acquire(&share, &group.limits(), true).await, [Acquired { first: 0, last: 2, count: 1 }]);
    begin(group.say(&share, &all(0, 1, Acknowledgement::Accept))).await;
    assert_eq!(group.say(&share, &all(0, 2, Acknowledgement::Accept)).await, Ok(()));
    group.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_was_dropped_gives_out_nothing_and_is_done_again() {
    let group = Group::new(1).await;
    group.broker.node.shares.states().set(group.key.clone(), -1).await.expect("set");
    let limits = ShareLimits { reset: Reset::Earliest, ..group.limits() };
    let share = group.broker.node.shares.open(&group.key).expect("here");
    begin(share.load(&limits, group.broker.node.shares.now())).await;
    assert_eq!(group.say(&share, &all(0, 0, Acknowledgement::Accept)).await, Err(ErrorCode::NotLeaderOrFollower));
    assert!(!share.is_dead(), "who asks early does not end it");
    assert_eq!(share.load(&limits, group.broker.node.shares.now()).await, Ok(()));
    assert_eq!(group.acquire(&share, &limits, true).await.len(), 1);
    let kept = group.broker.node.shares.states().read(group.key.clone()).await.expect("read").expect("kept");
    assert_eq!(kept.start_offset, 0, "the start is durable before anything is given out");
    group.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_record_stops_new_ones_and_not_those_that_came_back() {
    let group = Group::new(8).await;
    let limits = ShareLimits { record_locks_max: 4, ..group.limits() };
    let share = group.open().await;
    assert_eq!(group.acquire(&share, &limits, true).await, [Acquired { first: 0, last: 3, count: 1 }]);
    assert_eq!(group.say(&share, &all(1, 2, Acknowledgement::Accept)).await, Ok(()));
    assert_eq!(group.acquire(&share, &limits, true).await, [], "0 is held, and what is done behind it counts");
    assert_eq!(group.say(&share, &all(3, 3, Acknowledgement::Release)).await, Ok(()));
    let again = group.acquire(&share, &limits, true).await;
    assert_eq!(again, [Acquired { first: 3, last: 3, count: 2 }], "and none behind it");
    let rung = group.broker.node.shares.bell(&group.key.group);
    let rung = rung.notified();
    let mut rung = std::pin::pin!(rung);
    rung.as_mut().enable();
    assert_eq!(group.say(&share, &all(0, 0, Acknowledgement::Accept)).await, Ok(()));
    timeout(PATIENCE, rung).await.expect("who waits for room looks again");
    assert_eq!(group.acquire(&share, &limits, true).await, [Acquired { first: 4, last: 6, count: 1 }]);
    group.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_that_was_forgotten_nothing_is_had() {
    let group = Group::new(2).await;
    let shares = &group.broker.node.shares;
    let old = group.open().await;
    group.acquire(&old, &group.limits(), true).await;
    shares.states().set(group.key.clone(), 1).await.expect("set");
    // The refused write tells that the state is of another life.
    let refused = group.say(&old, &all(0, 1, Acknowledgement::Accept)).await;
    assert_eq!((refused, old.is_dead()), (Err(ErrorCode::NotLeaderOrFollower), true));
    let new = group.open().await;
    shares.forget_this(&old);
    assert!(shares.get(&group.key).is_some_and(|known| Arc::ptr_eq(&known, &new)), "the new one stays");
    assert_eq!(old.load(&group.limits(), shares.now()).await, Err(ErrorCode::NotLeaderOrFollower));
    assert_eq!(group.acquire(&new, &group.limits(), true).await, [Acquired { first: 1, last: 1, count: 1 }]);
    shares.forget(&group.key);
    assert_eq!((new.is_dead(), shares.get(&group.key).is_none()), (true, true));
    group.broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_gone_gets_nothing() {
    let group = Group::new(1).await;
    let share = group.open().await;
    assert_eq!(group.acquire(&share, &group.limits(), false).await, []);
    assert_eq!(group.acquire(&share, &group.limits(), true).await, [Acquired { first: 0, last: 0, count: 1 }]);
    group.broker.stop().await;
}
