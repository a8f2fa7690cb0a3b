use std::collections::BTreeMap;

use proptest::prelude::*;

use super::node::*;
use crate::partition::append::{AppendError, AppendOrigin, Appended};
use crate::partition::list_offsets::OffsetSpec;
use crate::partition::read::{Isolation, ReadSpec};
use crate::partition::transactions::EndMarker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::Offset;
use crate::wal::partition_sync::SyncTarget;

/// Writers of transactions on a node: the sequences that their clients would keep, and nobody to verify.
pub(super) struct Writers {
    pub(super) node: TestNode,
    /// Next sequence by producer.
    sequences: BTreeMap<i64, i32>,
}

impl Writers {
    pub(super) fn on(node: TestNode) -> Self {
        Self { node, sequences: BTreeMap::new() }
    }

    fn plain() -> Self {
        Self::on(TestNode::with(|_| {}))
    }

    /// Two records of the producer's transaction, verified as the coordinator would.
    pub(super) fn write(&mut self, producer_id: i64) -> Appended {
        let sequence = self.sequences.entry(producer_id).or_default();
        let mut bytes = Batch { transactional: true, ..Batch::by(2, producer_id, 0, *sequence) }.bytes();
        let partition = self.node.partition();
        let guard = partition.begin_verification(producer_id, 0, *sequence, false).unwrap();
        *sequence += 2;
        partition.append_verified(&mut bytes, AppendOrigin::Client, None, guard).unwrap()
    }

    pub(super) fn end(&self, producer_id: i64, commit: bool) -> Appended {
        self.node.partition().append_marker(&end(producer_id, commit)).unwrap()
    }

    pub(super) fn stable(&self) -> Offset {
        self.node.partition().offsets().last_stable
    }

    /// Offsets below which a reader of committed records ends, and the aborted transactions it is told from `offset` on.
    fn committed(&self, offset: Offset) -> (Offset, Vec<(i64, Offset)>) {
        let outcome =
            self.node.partition().read(&ReadSpec { isolation: Isolation::ReadCommitted, ..spec(offset) }).unwrap();
        let aborted = outcome.aborted.iter().map(|one| (one.producer_id, one.first_offset)).collect();
        (last_offset(&bytes_of(&outcome)), aborted)
    }
}

fn end(producer_id: i64, commit: bool) -> EndMarker {
    EndMarker { producer_id, producer_epoch: 0, coordinator_epoch: 0, commit, transaction_version: 1 }
}

fn last_offset(mut bytes: &[u8]) -> Offset {
    let mut last = -1;
    while let Ok((batch, rest)) = crate::protocol::record_batch::BatchView::split_first(bytes) {
        (last, bytes) = (batch.last_offset(), rest);
    }
    last
}

#[test]
fn committed_readers_end_at_the_first_open_transaction() {
    let mut writers = Writers::plain();
    writers.node.append(Batch::of(3)).unwrap();
    writers.write(1);
    writers.write(2);
    writers.node.append(Batch::of(1)).unwrap();
    assert_eq!((writers.stable(), writers.node.partition().offsets().high_watermark), (3, 8));
    assert_eq!(writers.committed(0), (2, vec![]));
    writers.end(1, false);
    assert_eq!(writers.stable(), 5, "the second one is open");
    assert_eq!(writers.committed(0), (4, vec![(1, 3)]));
    writers.end(2, true);
    assert_eq!(writers.stable(), 10);
    assert_eq!(writers.committed(0), (9, vec![(1, 3)]));
    assert_eq!(writers.committed(9), (9, vec![]), "the transaction ended before");
    assert_eq!(writers.node.files().iter().filter(|name| name.ends_with(".txnindex")).count(), 1);
}

#[test]
fn an_unverified_batch_opens_no_transaction() {
    let node = TestNode::with(|_| {});
    let batch = Batch { transactional: true, ..Batch::by(2, 1, 0, 0) };
    assert_eq!(node.append(batch).unwrap_err().code(), ErrorCode::InvalidTxnState);
    assert_eq!(node.partition().offsets().log_end, 0);
}

#[test]
fn a_fenced_marker_leaves_the_transaction_open() {
    let mut writers = Writers::plain();
    writers.write(1);
    let partition = writers.node.partition();
    let fenced = |marker: EndMarker| partition.append_marker(&marker).map(|_| ()).map_err(|error| error.code());
    assert_eq!(fenced(EndMarker { producer_epoch: -1, ..end(1, true) }), Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(fenced(EndMarker { transaction_version: 2, ..end(1, true) }), Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(writers.stable(), 0);
    partition.append_marker(&EndMarker { coordinator_epoch: 4, ..end(1, true) }).unwrap();
    assert_eq!(
        fenced(EndMarker { coordinator_epoch: 3, ..end(1, true) }),
        Err(ErrorCode::TransactionCoordinatorFenced)
    );
    assert_eq!(writers.stable(), 3);
}

#[tokio::test]
async fn a_marker_counts_when_it_is_durable() {
    let mut writers = Writers::on(TestNode::with(|config| config.flush_messages = Some(1)));
    writers.write(1).ticket.wait().await.unwrap();
    let marker = writers.end(1, false);
    marker.ticket.wait().await.unwrap();
    assert_eq!(writers.stable(), 3);
}

#[tokio::test]
async fn latest_is_the_last_stable_offset_for_committed_readers() {
    let mut writers = Writers::plain();
    writers.node.append(Batch::of(1)).unwrap();
    writers.write(1);
    let partition = writers.node.partition();
    let ask = async |spec, isolation| partition.list_offset(spec, isolation).await.unwrap().offset;
    assert_eq!(ask(OffsetSpec::Latest, Isolation::ReadCommitted).await, 1);
    assert_eq!(ask(OffsetSpec::Latest, Isolation::ReadUncommitted).await, 3);
    assert_eq!(ask(OffsetSpec::Time(NOW_MS + 1), Isolation::ReadUncommitted).await, 2);
    assert_eq!(ask(OffsetSpec::Time(NOW_MS + 1), Isolation::ReadCommitted).await, -1);
}

#[tokio::test]
async fn deleting_records_under_an_open_transaction_moves_the_last_stable_offset() {
    let mut writers = Writers::plain();
    writers.write(1);
    writers.write(1);
    assert_eq!(writers.stable(), 0);
    assert_eq!(writers.node.partition().delete_records(3).await, Ok(3));
    assert_eq!(writers.stable(), 3);
    writers.end(1, false);
    assert_eq!((writers.stable(), writers.committed(3)), (5, (4, vec![(1, 0)])));
}

#[test]
fn retention_keeps_what_is_undecided() {
    let mut writers = Writers::on(TestNode::with(|config| {
        config.segment_bytes = 400;
        config.retention_bytes = Some(1);
    }));
    writers.write(1);
    writers.node.fill(20, 10);
    writers.node.partition().retention_due(NOW_MS).unwrap();
    assert_eq!(writers.node.partition().offsets().log_start, 0);
    writers.end(1, true);
    writers.node.partition().retention_due(NOW_MS).unwrap();
    assert!(writers.node.partition().offsets().log_start > 0);
}

#[test]
fn nobody_writes_outside_of_an_open_transaction() {
    let mut writers = Writers::plain();
    writers.write(1);
    let error: AppendError = writers.node.append(Batch::by(1, 1, 0, 2)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidTxnState);
}

/// What happens to a partition.
#[derive(Debug, Clone, Copy)]
enum Step {
    Plain,
    Write(i64),
    End(i64, bool),
    Roll,
    Sync,
    Checkpoint,
    Crash,
    PowerLoss,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Plain),
        6 => (1..5i64).prop_map(Step::Write),
        4 => (1..5i64, any::<bool>()).prop_map(|(id, commit)| Step::End(id, commit)),
        2 => Just(Step::Roll),
        1 => Just(Step::Sync),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Crash),
        1 => Just(Step::PowerLoss),
    ]
}

/// The simplest thing that knows what is open and what was aborted.
#[derive(Default)]
struct Model {
    end: Offset,
    open: BTreeMap<i64, Offset>,
    /// Producer, first offset, marker.
    aborted: Vec<(i64, Offset, Offset)>,
}

impl Model {
    fn stable(&self) -> Offset {
        self.open.values().copied().min().unwrap_or(self.end)
    }

    /// Transactions that a reader of `from..upto` must be told.
    fn told(&self, from: Offset, upto: Offset) -> Vec<(i64, Offset)> {
        let overlaps = |(_, first, marker): &&(i64, Offset, Offset)| *marker >= from && *first < upto;
        self.aborted.iter().filter(overlaps).map(|(id, first, _)| (*id, *first)).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn the_log_agrees_with_a_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut writers = Writers::on(TestNode::with(|config| config.index_interval_bytes = 200));
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Plain => {
                    writers.node.append(Batch::of(1)).unwrap();
                    model.end += 1;
                }
                Step::Write(id) => {
                    writers.write(id);
                    model.open.entry(id).or_insert(model.end);
                    model.end += 2;
                }
                Step::End(id, commit) => {
                    writers.end(id, commit);
                    if let Some(first) = model.open.remove(&id)
                        && !commit
                    {
                        model.aborted.push((id, first, model.end));
                    }
                    model.end += 1;
                }
                // On this thread alone: the sync thread of a node that "crashed" would go on beside the next one.
                Step::Roll => {
                    let partition = writers.node.partition();
                    partition.roll(partition.lock().online().unwrap(), &plain_config()).unwrap();
                }
                Step::Sync => writers.node.partition().sync().unwrap(),
                Step::Checkpoint => writers.node.partitions.checkpoint(),
                Step::Crash => writers.node.crash(),
                Step::PowerLoss => writers.node.power_loss(),
            }
            let partition = writers.node.partition();
            let offsets = partition.offsets();
            prop_assert_eq!((offsets.last_stable, offsets.log_end), (model.stable(), model.end));
            let view = partition.view().unwrap();
            for from in 0..model.end {
                for upto in [from + 1, from + 7, model.end] {
                    let upto = upto.min(model.stable());
                    if from < upto {
                        let told: Vec<_> = view.aborted(from, upto).unwrap();
                        let told: Vec<_> = told.iter().map(|one| (one.producer_id, one.first_offset)).collect();
                        prop_assert_eq!(told, model.told(from, upto), "from {} to {}", from, upto);
                    }
                }
                if from < model.stable() {
                    let (last, told) = writers.committed(from);
                    prop_assert!(last < model.stable());
                    for needed in model.told(from, last + 1) {
                        prop_assert!(told.contains(&needed), "{:?} from {} to {} in {:?}", needed, from, last, told);
                    }
                }
            }
        }
    }
}
