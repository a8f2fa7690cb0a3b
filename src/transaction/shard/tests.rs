use proptest::prelude::*;
use tokio::sync::oneshot;

use super::*;
use crate::coordinator::log::ShardLog;
use crate::coordinator::log::fake::FakeLog;
use crate::coordinator::testing::replay;
use crate::metadata::fake::FakeStore;
use crate::partition::append::AppendError;
use crate::protocol::record_batch::ProducerId;
use crate::transaction::state::TopicPartition;
use crate::transaction::transition::{EndRequest, Producer};

const TIMEOUT_MS: i32 = 60_000;
const EXPIRATION_MS: i64 = 100_000;
const CHECK_MS: u64 = 10_000;

pub(in crate::transaction) fn settings() -> TransactionSettings {
    TransactionSettings {
        partitions: 1,
        replication_factor: 3,
        min_isr: 2,
        segment_bytes: 1 << 20,
        timeout_ms_max: 900_000,
        id_expiration_ms: EXPIRATION_MS,
        expiration_check_ms: 3_600_000,
        timeout_check_ms: CHECK_MS,
        add_retry_ms: 20,
        add_retry_ms_max: 100,
    }
}

struct Driven {
    shard: TransactionShard,
    context: Arc<TransactionContext>,
    log: Arc<FakeLog>,
    sent: mpsc::UnboundedReceiver<Completion>,
    now: Now,
    ids: ProducerId,
}

fn driven() -> Driven {
    let log = Arc::new(FakeLog::default());
    let (completions, sent) = mpsc::unbounded_channel();
    let context = Arc::new(TransactionContext { settings: settings(), metadata: FakeStore::new(), completions });
    let shard = TransactionShard::new(&context, Journal::new(Arc::clone(&log) as Arc<dyn ShardLog>));
    Driven { shard, context, log, sent, now: Now { mono_ms: 0, wall_ms: 5000 }, ids: 0 }
}

fn partition(partition: i32) -> TopicPartition {
    TopicPartition { topic: "t".into(), partition }
}

impl Driven {
    fn ask<T>(&mut self, ask: impl FnOnce(&mut TransactionShard, oneshot::Sender<T>, Now)) -> T {
        let (to, mut answer) = oneshot::channel();
        ask(&mut self.shard, to, self.now);
        answer.try_recv().expect("answered at once")
    }

    fn init(&mut self, id: &str) -> Result<Producer, ErrorCode> {
        let id = Arc::from(id);
        let request = InitRequest { timeout_ms: TIMEOUT_MS, expected: None };
        match self.ask(|shard, to, now| shard.init(&id, request, None, to, now))? {
            Asked::Producer(producer) => Ok(producer),
            Asked::NeedsProducerId => {
                self.ids += 1;
                let fresh = Some(self.ids);
                match self.ask(|shard, to, now| shard.init(&id, request, fresh, to, now))? {
                    Asked::Producer(producer) => Ok(producer),
                    Asked::NeedsProducerId => panic!("has one"),
                }
            }
        }
    }

    fn add(&mut self, id: &str, producer: Producer, at: i32) -> Result<(), ErrorCode> {
        let id = Arc::from(id);
        self.ask(|shard, to, now| shard.add_partitions(&id, producer, &[partition(at)], 2, to, now))
    }

    fn end(&mut self, id: &str, producer: Producer, commit: bool) -> Result<Producer, ErrorCode> {
        let id = Arc::from(id);
        let request = EndRequest { producer, commit, client_version: 2 };
        match self.ask(|shard, to, now| shard.end(&id, request, Some(1000), to, now))? {
            Asked::Producer(producer) => Ok(producer),
            Asked::NeedsProducerId => panic!("has one"),
        }
    }

    fn complete(&mut self, completion: &Completion) -> Result<(), ErrorCode> {
        let ended = Producer { id: completion.marker.producer_id, epoch: completion.marker.producer_epoch };
        let id = Arc::clone(&completion.transactional_id);
        self.ask(|shard, to, now| shard.complete(&id, ended, to, now))
    }

    fn state(&self, id: &str) -> Option<State> {
        self.shard.transactions.get(id).map(|live| live.logged.state)
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += i64::try_from(ms).unwrap();
        while self.shard.next_due().is_some_and(|due| due <= self.now.mono_ms) {
            self.shard.on_time(self.now);
        }
    }

    /// The shard that a load of the log builds.
    fn reloaded(&self) -> TransactionShard {
        let mut loaded = TransactionShard::new(&self.context, Journal::new(Arc::clone(&self.log) as Arc<dyn ShardLog>));
        replay(&mut loaded, &self.log.bytes(), 0, self.now);
        loaded
    }
}

fn snapshot(shard: &TransactionShard) -> Vec<Encoded> {
    let mut records = shard.snapshot();
    records.sort_by(|a, b| a.key.cmp(&b.key));
    records
}

#[test]
fn a_transaction_goes_through_its_life() {
    let mut driven = driven();
    let first = driven.init("a").unwrap();
    assert_eq!((first, driven.state("a")), (Producer { id: 1, epoch: 0 }, Some(State::Empty)));
    driven.add("a", first, 0).unwrap();
    driven.add("a", first, 1).unwrap();
    assert_eq!(driven.state("a"), Some(State::Ongoing));
    let second = driven.end("a", first, true).unwrap();
    assert_eq!((second, driven.state("a")), (Producer { id: 1, epoch: 1 }, Some(State::PrepareCommit)));
    let sent = driven.sent.try_recv().unwrap();
    assert_eq!((sent.marker.producer_id, sent.marker.producer_epoch), (1, 1));
    assert!(sent.marker.commit && sent.marker.transaction_version == 2 && sent.marker.coordinator_epoch == 3);
    assert_eq!(sent.partitions, [partition(0), partition(1)]);
    // Meanwhile everything else has to wait.
    assert_eq!(driven.add("a", second, 0), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(driven.init("a"), Err(ErrorCode::ConcurrentTransactions));
    assert_eq!(driven.end("a", first, true), Err(ErrorCode::ConcurrentTransactions));
    driven.complete(&sent).unwrap();
    assert_eq!(driven.state("a"), Some(State::CompleteCommit));
    // A second sender, after a load of the shard, comes too late to change anything.
    driven.add("a", second, 0).unwrap();
    driven.complete(&sent).unwrap();
    assert_eq!(driven.state("a"), Some(State::Ongoing));
}

#[test]
fn what_was_prepared_is_sent_again_after_a_load() {
    let mut driven = driven();
    let producer = driven.init("a").unwrap();
    driven.add("a", producer, 0).unwrap();
    driven.end("a", producer, false).unwrap();
    let sent = driven.sent.try_recv().unwrap();
    let mut loaded = driven.reloaded();
    loaded.loaded(driven.now);
    assert_eq!(driven.sent.try_recv(), Ok(sent.clone()));
    driven.shard = loaded;
    driven.complete(&sent).unwrap();
    driven.reloaded().loaded(driven.now);
    assert!(driven.sent.try_recv().is_err(), "complete");
}

#[tokio::test]
async fn markers_leave_once_the_outcome_is_durable() {
    let mut driven = driven();
    let producer = driven.init("a").unwrap();
    driven.add("a", producer, 0).unwrap();
    driven.log.hold();
    let (to, mut answer) = oneshot::channel();
    let request = EndRequest { producer, commit: true, client_version: 2 };
    driven.shard.end(&"a".into(), request, None, to, driven.now);
    assert!(answer.try_recv().is_err() && driven.sent.try_recv().is_err());
    driven.log.accept();
    driven.shard.journal.settle().await.unwrap();
    assert!(answer.try_recv().is_ok() && driven.sent.try_recv().is_ok());
}

#[test]
fn an_append_that_fails_changes_nothing() {
    let mut driven = driven();
    let producer = driven.init("a").unwrap();
    driven.add("a", producer, 0).unwrap();
    driven.log.fail(Some(AppendError::Gone));
    assert_eq!(driven.end("a", producer, true), Err(ErrorCode::NotCoordinator));
    assert_eq!(driven.init("a"), Err(ErrorCode::NotCoordinator));
    assert_eq!(driven.init("b"), Err(ErrorCode::NotCoordinator));
    assert_eq!((driven.state("a"), driven.state("b")), (Some(State::Ongoing), None));
    assert!(driven.sent.try_recv().is_err());
    driven.log.fail(None);
    driven.end("a", producer, true).unwrap();
}

#[test]
fn a_transaction_is_aborted_after_its_timeout() {
    let mut driven = driven();
    let producer = driven.init("a").unwrap();
    assert_eq!(driven.shard.next_due(), None, "nothing open, no timer");
    driven.add("a", producer, 0).unwrap();
    driven.pass(u64::try_from(TIMEOUT_MS).unwrap());
    assert_eq!(driven.state("a"), Some(State::Ongoing));
    driven.log.fail(Some(AppendError::Storage));
    driven.pass(CHECK_MS);
    assert_eq!(driven.state("a"), Some(State::Ongoing), "the log refused");
    driven.log.fail(None);
    driven.pass(CHECK_MS);
    assert_eq!((driven.state("a"), driven.shard.next_due()), (Some(State::PrepareAbort), None));
    let sent = driven.sent.try_recv().unwrap();
    assert_eq!((sent.marker.commit, sent.marker.producer_epoch), (false, 1), "the producer is fenced");
    driven.complete(&sent).unwrap();
    assert_eq!(driven.add("a", producer, 0), Err(ErrorCode::ProducerFenced));
    // What a commit of an aborted transaction is told: it is a retry by its epoch.
    assert_eq!(driven.end("a", producer, true), Err(ErrorCode::InvalidTxnState));
}

#[test]
fn transactional_ids_expire_unless_a_transaction_is_open() {
    let mut driven = driven();
    driven.init("idle").unwrap();
    let producer = driven.init("open").unwrap();
    driven.add("open", producer, 0).unwrap();
    driven.now.wall_ms += EXPIRATION_MS - 1;
    driven.shard.upkeep(driven.now);
    assert!(driven.state("idle").is_some());
    driven.now.wall_ms += 1;
    driven.shard.upkeep(driven.now);
    assert_eq!((driven.state("idle"), driven.state("open")), (None, Some(State::Ongoing)));
    assert_eq!(snapshot(&driven.reloaded()), snapshot(&driven.shard));
}

#[test]
fn an_epoch_overflow_replaces_the_producer_id() {
    let mut driven = driven();
    let producer = driven.init("a").unwrap();
    // Thirty thousand transactions later.
    let last = Producer { epoch: i16::MAX - 1, ..producer };
    driven.shard.transactions.get_mut("a").unwrap().logged.epoch = last.epoch;
    driven.add("a", last, 0).unwrap();
    let next = driven.end("a", last, true).unwrap();
    assert_eq!(next, Producer { id: 1000, epoch: 0 });
    let sent = driven.sent.try_recv().unwrap();
    assert_eq!((sent.marker.producer_id, sent.marker.producer_epoch), (1, i16::MAX));
    driven.shard = driven.reloaded();
    driven.complete(&sent).unwrap();
    assert_eq!(driven.end("a", last, true), Ok(next), "a retry");
    driven.add("a", next, 0).unwrap();
}

#[test]
fn transactions_are_listed_by_every_filter() {
    let mut driven = driven();
    let producer = driven.init("orders-1").unwrap();
    driven.init("orders-2").unwrap();
    driven.init("bills").unwrap();
    driven.add("orders-1", producer, 0).unwrap();
    driven.now.wall_ms += 100;
    let mut listed = |filter: ListFilter| {
        let mut ids: Vec<_> = driven
            .ask(|shard, to, now| shard.list(&filter, to, now))
            .into_iter()
            .map(|listed| listed.transactional_id.to_string())
            .collect();
        ids.sort();
        ids.join(" ")
    };
    let all = ListFilter::default();
    assert_eq!(listed(all.clone()), "bills orders-1 orders-2");
    assert_eq!(listed(ListFilter { producer_ids: [2, 3].into(), ..all.clone() }), "bills orders-2");
    assert_eq!(listed(ListFilter { states: Some([State::Ongoing].into()), ..all.clone() }), "orders-1");
    assert_eq!(listed(ListFilter { states: Some([].into()), ..all.clone() }), "");
    assert_eq!(listed(ListFilter { longer_than_ms: Some(100), ..all.clone() }), "bills orders-2", "began never");
    assert_eq!(listed(ListFilter { longer_than_ms: Some(99), ..all.clone() }), "bills orders-1 orders-2");
    let pattern = Some(regex::Regex::new("orders-.").unwrap());
    assert_eq!(listed(ListFilter { pattern, ..all }), "orders-1 orders-2");
}

#[derive(Debug, Clone)]
enum Step {
    Init(u8),
    Add(u8, i32),
    End(u8, bool),
    Complete,
    Reload,
    Pass(u64),
    Upkeep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3u8).prop_map(Step::Init),
        (0..3u8, 0..3i32).prop_map(|(id, at)| Step::Add(id, at)),
        (0..3u8, any::<bool>()).prop_map(|(id, commit)| Step::End(id, commit)),
        Just(Step::Complete),
        Just(Step::Reload),
        (0..80_000u64).prop_map(Step::Pass),
        Just(Step::Upkeep),
    ]
}

proptest! {
    /// Whatever happened, a load builds what the log's owner has, and everything that was prepared can be completed.
    #[test]
    fn the_state_is_the_fold_of_the_records(steps in proptest::collection::vec(step(), 0..60)) {
        let mut driven = driven();
        let mut producers: HashMap<u8, Producer> = HashMap::new();
        let name = |id: u8| ["a", "b", "c"][usize::from(id)];
        for step in steps {
            match step {
                Step::Init(id) => {
                    if let Ok(producer) = driven.init(name(id)) {
                        producers.insert(id, producer);
                    }
                }
                Step::Add(id, at) => {
                    if let Some(&producer) = producers.get(&id) {
                        let _ = driven.add(name(id), producer, at);
                    }
                }
                Step::End(id, commit) => {
                    if let Some(&producer) = producers.get(&id)
                        && let Ok(next) = driven.end(name(id), producer, commit)
                    {
                        producers.insert(id, next);
                    }
                }
                Step::Complete => {
                    while let Ok(sent) = driven.sent.try_recv() {
                        driven.complete(&sent).unwrap();
                    }
                }
                Step::Reload => {
                    driven.shard = driven.reloaded();
                    driven.shard.loaded(driven.now);
                }
                Step::Pass(ms) => driven.pass(ms),
                Step::Upkeep => driven.shard.upkeep(driven.now),
            }
            let open = driven.shard.transactions.values().filter(|live| live.logged.state == State::Ongoing).count();
            prop_assert_eq!(driven.shard.ongoing, open);
        }
        prop_assert_eq!(snapshot(&driven.reloaded()), snapshot(&driven.shard));
        driven.shard = driven.reloaded();
        driven.shard.loaded(driven.now);
        while let Ok(sent) = driven.sent.try_recv() {
            driven.complete(&sent).unwrap();
        }
        prop_assert!(driven.shard.transactions.values().all(|live| !live.logged.state.is_prepared()));
    }

    #[test]
    fn any_record_can_be_replayed(key in any::<Vec<u8>>(), value: Option<Vec<u8>>) {
        let replayed = Replayed { offset: 0, transaction: None, key: &key, value: value.as_deref() };
        driven().shard.replay(replayed, Now { mono_ms: 0, wall_ms: 0 });
    }
}
