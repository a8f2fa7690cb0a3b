use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use terrace_tiering::platform::clock::ManualClock;
use terrace_tiering::platform::random::SeededRandom;

use super::*;
use crate::coordinator::log::fake::{FakeLog, FakeLogs};
use crate::metadata::fake::FakeStore;
use crate::partition::transactions::EndMarker;
use crate::transaction::markers::Written;
use crate::transaction::shard::tests::settings;
use crate::transaction::state::State;

/// Partitions that take their markers when the test lets them.
#[derive(Default)]
struct Partitions {
    blocked: Mutex<HashMap<i32, ()>>,
    written: Mutex<Vec<(i32, EndMarker)>>,
}

#[async_trait]
impl MarkerTarget for Partitions {
    async fn write(&self, at: &TopicPartition, marker: EndMarker) -> Written {
        if self.blocked.lock().unwrap().contains_key(&at.partition) {
            return Written::NotNow("as the test wants".to_owned());
        }
        self.written.lock().unwrap().push((at.partition, marker));
        Written::Done
    }
}

struct Node {
    transactions: Arc<TransactionCoordinator>,
    partitions: Arc<Partitions>,
    log: Arc<FakeLog>,
    deps: ShardsDeps,
}

async fn started(log: Arc<FakeLog>, metadata: Arc<FakeStore>, partitions: Arc<Partitions>) -> Node {
    let deps = ShardsDeps {
        metadata,
        logs: Arc::new(FakeLogs(Arc::clone(&log))),
        clock: ManualClock::at(5000),
        random: SeededRandom::new(2),
        tasks: Tasks::new(),
    };
    let transactions = TransactionCoordinator::new(deps.clone(), settings());
    transactions.start(Arc::clone(&partitions) as Arc<dyn MarkerTarget>);
    transactions.find().await.unwrap();
    while !transactions.is_loaded() {
        tokio::task::yield_now().await;
    }
    Node { transactions, partitions, log, deps }
}

async fn node() -> Node {
    started(Arc::default(), FakeStore::new(), Arc::default()).await
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: "t".into(), partition }
}

const REQUEST: InitRequest = InitRequest { timeout_ms: 1000, expected: None };

impl Node {
    async fn begin(&self, partitions: &[i32]) -> Producer {
        let producer = self.transactions.init("a".into(), REQUEST).await.unwrap();
        let partitions = partitions.iter().map(|partition| at(*partition)).collect();
        self.transactions.add_partitions("a".into(), producer, partitions, 2).await.unwrap();
        producer
    }

    async fn end(&self, producer: Producer, commit: bool) -> Result<Producer, ErrorCode> {
        self.transactions.end("a".into(), EndRequest { producer, commit, client_version: 2 }).await
    }

    async fn state(&self) -> State {
        self.transactions.describe("a".into()).await.unwrap().state
    }
}

#[tokio::test(start_paused = true)]
async fn every_partition_gets_its_marker() {
    let node = node().await;
    let producer = node.begin(&[0, 1]).await;
    let next = node.end(producer, true).await.unwrap();
    assert_eq!(next, Producer { epoch: 1, ..producer });
    while node.state().await != State::CompleteCommit {
        tokio::task::yield_now().await;
    }
    let written = node.partitions.written.lock().unwrap().clone();
    assert_eq!(written.iter().map(|(partition, _)| *partition).collect::<Vec<_>>(), [0, 1]);
    assert!(written.iter().all(|(_, marker)| marker.commit && marker.producer_epoch == 1));
    let log = Arc::clone(&node.log);
    assert_eq!(log.batches(), 4, "empty, ongoing, prepared, complete");
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_not_there_holds_up_its_own_transaction_only() {
    let node = node().await;
    node.partitions.blocked.lock().unwrap().insert(0, ());
    let producer = node.begin(&[0, 1]).await;
    node.end(producer, true).await.unwrap();
    let other = node.transactions.init("b".into(), REQUEST).await.unwrap();
    node.transactions.add_partitions("b".into(), other, vec![at(2)], 2).await.unwrap();
    node.transactions.end("b".into(), EndRequest { producer: other, commit: false, client_version: 2 }).await.unwrap();
    while node.transactions.describe("b".into()).await.unwrap().state != State::CompleteAbort {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(node.state().await, State::PrepareCommit);
    let written = || node.partitions.written.lock().unwrap().iter().filter(|(at, _)| *at == 1).count();
    assert_eq!(written(), 1, "not again with every retry");
    node.partitions.blocked.lock().unwrap().clear();
    while node.state().await != State::CompleteCommit {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(written(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_prepared_is_completed_after_a_restart() {
    let before = node().await;
    before.partitions.blocked.lock().unwrap().insert(0, ());
    let producer = before.begin(&[0]).await;
    before.end(producer, true).await.unwrap();
    assert!(before.deps.tasks.stop(Duration::from_secs(5)).await);
    assert_eq!(before.end(producer, true).await, Err(ErrorCode::NotCoordinator));

    let store = FakeStore::new();
    let after = started(before.log, store, Arc::default()).await;
    while after.state().await != State::CompleteCommit {
        tokio::task::yield_now().await;
    }
    assert_eq!(after.partitions.written.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn requests_without_sense_are_refused_without_a_shard() {
    let node = node().await;
    let none = || Arc::from("");
    let producer = Producer::NONE;
    let invalid = ErrorCode::InvalidRequest;
    assert_eq!(node.transactions.init(none(), REQUEST).await, Err(invalid));
    assert_eq!(node.transactions.add_partitions(none(), producer, vec![], 0).await, Err(invalid));
    assert_eq!(node.transactions.verify_partitions(none(), producer, vec![]).await, Err(invalid));
    let request = EndRequest { producer, commit: true, client_version: 0 };
    assert_eq!(node.transactions.end(none(), request).await, Err(invalid));
    assert_eq!(node.transactions.describe(none()).await.unwrap_err(), invalid);
    for timeout_ms in [i32::MIN, -1, 0, 900_001] {
        let refused = node.transactions.init("a".into(), InitRequest { timeout_ms, ..REQUEST }).await;
        assert_eq!(refused, Err(ErrorCode::InvalidTransactionTimeout));
    }
    assert_eq!(node.transactions.describe("a".into()).await.unwrap_err(), ErrorCode::TransactionalIdNotFound);
}

#[tokio::test(start_paused = true)]
async fn a_produce_waits_a_moment_for_the_markers_of_the_last_transaction() {
    let node = node().await;
    node.partitions.blocked.lock().unwrap().insert(0, ());
    let producer = node.begin(&[0]).await;
    let next = node.end(producer, true).await.unwrap();
    let permit = |version| node.transactions.permit_produce("a".into(), next.id, next.epoch, version, vec![at(1)]);
    let refused = permit(12).await.remove(0).unwrap_err();
    assert_eq!((refused.error, refused.message), (ErrorCode::ConcurrentTransactions, None));
    // Older producers only know of errors of partitions.
    let refused = permit(11).await.remove(0).unwrap_err();
    assert_eq!(refused.error, ErrorCode::NotEnoughReplicas);
    assert!(refused.message.unwrap().ends_with("Underlying error: CONCURRENT_TRANSACTIONS"));

    let (permitted, ()) = tokio::join!(permit(12), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        node.partitions.blocked.lock().unwrap().clear();
    });
    assert!(permitted[0].is_ok() || permitted[0].as_ref().unwrap_err().error == ErrorCode::ConcurrentTransactions);
    while node.state().await.is_prepared() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(permit(12).await, [Ok(())], "added by that");
    assert_eq!(node.state().await, State::Ongoing);
    assert_eq!(permit(11).await, [Ok(())], "it is part of it now");
}
