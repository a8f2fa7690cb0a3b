//! Random keys, tombstones, transactions, rounds, copies, merges, losses: what a reader gets is a compacted log of what was
//! written, whatever happened.

use std::collections::BTreeMap;

use rstest::rstest;
use terrace_tiering::platform::clock::Clock;
use terrace_tiering::platform::random::{Random, SeededRandom};
use terrace_tiering::store::faulty::Fault;
use terrace_tiering::store::meter::Op;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::partition::list_offsets::OffsetSpec;
use crate::partition::transactions::EndMarker;

const DELETE_RETENTION_MS: i64 = 20_000;
const KEYS: u64 = 9;
const STEPS: usize = 400;

/// A record as it was written.
#[derive(Debug, Clone)]
struct Written {
    seen: Seen,
    is_committed: bool,
    leader_epoch: i32,
    at_ms: i64,
}

struct Model {
    machines: Machines,
    random: Arc<SeededRandom>,
    written: BTreeMap<Offset, Written>,
    number: u64,
    next_producer: i64,
    /// Keys that lost their last value with a disk, and where the log ended then.
    torn: BTreeMap<String, Offset>,
}

impl Model {
    fn below(&self, bound: u64) -> u64 {
        self.random.next_u64() % bound
    }

    /// A batch of some records; of a transaction where it has a producer.
    fn append(&mut self, node: &Running, producer: Option<i64>, is_committed: bool) {
        let mut builder = BatchBuilder::new(0);
        if let Some(producer) = producer {
            builder = builder.with_producer(producer, 0, 0).transactional();
        }
        let mut batch = Vec::new();
        for delta in 0..1 + self.below(3) {
            self.number += 1;
            let key = format!("k{}", self.below(KEYS));
            let value = (self.below(4) > 0).then(|| format!("{}{}", self.number, ".".repeat(self.below(80) as usize)));
            let timestamp = 800_000 + self.below(100_000) as i64;
            let delta = delta as i32;
            builder.push(delta, timestamp, Some(key.as_bytes()), value.as_deref().map(str::as_bytes), [].into_iter());
            batch.push(Seen { key, value, timestamp });
        }
        let partition = node.partition();
        let appended = match producer {
            None => partition.append(&mut builder.finish(), AppendOrigin::Client, None).unwrap(),
            Some(producer) => {
                let guard = partition.begin_verification(producer, 0, 0, false).unwrap();
                partition.append_verified(&mut builder.finish(), AppendOrigin::Client, None, guard).unwrap()
            }
        };
        let (leader_epoch, at_ms) = (partition.leader_epoch(), self.machines.clock.now_ms());
        for (offset, seen) in (appended.base_offset..).zip(batch) {
            self.written.insert(offset, Written { seen, is_committed, leader_epoch, at_ms });
        }
    }

    fn transaction(&mut self, node: &Running) {
        let (producer_id, commit) = (self.next_producer, self.below(2) == 0);
        self.next_producer += 1;
        self.append(node, Some(producer_id), commit);
        for _ in 0..self.below(12) {
            self.append(node, None, true);
        }
        let marker = EndMarker { producer_id, producer_epoch: 0, coordinator_epoch: 0, commit, transaction_version: 1 };
        node.partition().append_marker(&marker).unwrap();
    }

    async fn step(&mut self, node: Running) -> Running {
        match self.below(40) {
            0..=19 => self.append(&node, None, true),
            20..=23 => self.transaction(&node),
            24..=28 => node.clean(&self.machines),
            29..=32 => {
                if self.below(4) == 0 {
                    self.machines.bucket.next(Op::Put, Fault::Error);
                }
                // A copy that fails is tried again; its row is an orphan meanwhile.
                for _ in 0..self.below(5) {
                    let _ = node.log.copy_next(P, &CancellationToken::new()).await;
                }
            }
            33 => {
                let _ = node.log.merge_next(P, &CancellationToken::new()).await;
                node.expire().await;
            }
            34 => node.only_remote(&self.machines),
            35 => self.machines.clock.advance(DELETE_RETENTION_MS),
            36 => node.partitions.checkpoint(),
            37 => {
                node.stop().await;
                return self.machines.start().await;
            }
            38 => {
                drop(node);
                return self.machines.start().await;
            }
            _ => {
                node.lose_disk(&self.machines);
                let node = self.machines.start().await;
                // What was not copied is lost, and its offsets are given away again. The cleaner may have dropped older
                // values for it.
                let end = node.partition().offsets().log_end;
                let lost = self.written.split_off(&end).into_values().filter(|written| written.is_committed);
                self.torn.extend(lost.map(|written| (written.seen.key, end)));
                return node;
            }
        }
        node
    }

    async fn check(&self, node: &Running) {
        assert_eq!(node.partition().offline_reason(), None);
        node.chain();
        let offsets = node.partition().offsets();
        assert_eq!(offsets.log_start, 0);
        let (all, times) = node.consume_with_times(0, Isolation::ReadUncommitted).await;
        let committed = node.consume(0, Isolation::ReadCommitted).await;
        for (offset, seen) in &all {
            assert_eq!(self.written.get(offset).map(|written| &written.seen), Some(seen), "content at {offset}");
        }
        let is_valid = |offset: &Offset| self.written[offset].is_committed;
        assert!(committed.keys().all(is_valid), "readers of committed records get nothing else");
        assert!(all.keys().filter(|offset| is_valid(offset)).all(|offset| committed.contains_key(offset)));

        // What each key was last: readable, or deleted long enough ago, with all that it was before.
        let valid = self.written.iter().filter(|(_, written)| written.is_committed);
        let last: BTreeMap<&str, (Offset, &Written)> =
            valid.map(|(offset, written)| (written.seen.key.as_str(), (*offset, written))).collect();
        for (key, (offset, written)) in last {
            if committed.contains_key(&offset) || self.torn.get(key).is_some_and(|end| offset < *end) {
                continue;
            }
            assert_eq!(written.seen.value, None, "the last value of {key}, at {offset}, is gone");
            let age_ms = self.machines.clock.now_ms() - written.at_ms;
            assert!(age_ms >= DELETE_RETENTION_MS, "the tombstone of {key} went after {age_ms} ms");
            assert_eq!(values(&committed, key), [], "{key} came back to life");
        }

        // From any offset, the reader gets the rest.
        for _ in 0..10 {
            let from = self.below(offsets.log_end.max(1) as u64) as Offset;
            let mut rest = all.clone();
            assert_eq!(node.consume(from, Isolation::ReadUncommitted).await, rest.split_off(&from), "from {from}");
        }
        self.check_times(node, &times).await;
        self.check_epochs(node, &all);
    }

    async fn check_times(&self, node: &Running, times: &BTreeMap<Offset, i64>) {
        let list = async |spec| {
            let found = node.partition().list_offset(spec, Isolation::ReadUncommitted).await.unwrap();
            (found.offset, found.timestamp)
        };
        for _ in 0..5 {
            let time = 795_000 + self.below(110_000) as i64;
            let first = times.iter().find(|(_, each)| **each >= time).map(|(offset, each)| (*offset, *each));
            assert_eq!(list(OffsetSpec::Time(time)).await, first.unwrap_or((-1, -1)), "the first record at {time}");
        }
        let newest = times.values().max();
        let first = times.iter().find(|(_, each)| Some(*each) == newest).map(|(offset, each)| (*offset, *each));
        assert_eq!(list(OffsetSpec::MaxTimestamp).await, first.unwrap_or((-1, -1)), "the largest time");
    }

    fn check_epochs(&self, node: &Running, all: &Content) {
        let mut before = 0;
        for epoch in 0..=node.partition().leader_epoch() {
            let (found, end) = node.partition().epoch_end(epoch).unwrap();
            if found < 0 {
                continue;
            }
            assert!(found <= epoch && end >= before, "epoch {epoch} ends at {end}");
            before = end;
            let outside = |offset: &&Offset| (self.written[offset].leader_epoch <= epoch) != (**offset < end);
            let rows = node.partition().remote_chain().epochs();
            assert_eq!(all.keys().find(outside), None, "epoch {epoch} ends at {end}, the tier has {rows:?}");
        }
    }
}

#[rstest]
#[tokio::test]
async fn whatever_happens_a_compacted_log_of_what_was_written_is_read(#[values(1, 2, 3, 4)] seed: u64) {
    let mut machines = compacted(|config| {
        config.delete_retention_ms = DELETE_RETENTION_MS;
        // Larger than their footers, or nothing would be worth a merge.
        config.segment_bytes = 900;
    });
    machines.merge_target_bytes = 4_000;
    let random = SeededRandom::new(seed);
    let mut model =
        Model { machines, random, written: BTreeMap::new(), number: 0, next_producer: 100, torn: BTreeMap::new() };
    let mut node = model.machines.start().await;
    for step in 0..STEPS {
        node = model.step(node).await;
        if step % 7 == 0 {
            model.check(&node).await;
        }
    }
    node.clean(&model.machines);
    node.copy_all().await;
    node.only_remote(&model.machines);
    model.check(&node).await;
    let chain = node.chain();
    assert!(chain.iter().any(|(first, last)| last - first > 12), "some were merged: {chain:?}");
}
