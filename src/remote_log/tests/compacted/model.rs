//! Random keys, tombstones, transactions, rounds, copies, merges, losses: what a reader gets is a compacted log of what was
//! written, whatever happened.

use std::collections::BTreeMap;

use rstest::rstest;
use terrace_tiering::platform::clock::Clock;
use terrace_tiering::platform::random::{Random, SeededRandom};
use terrace_tiering::store::faulty::Fault;
use terrace_tiering::store::meter::Op;
use tokio_util::sync::CancellationToken;

use super::super::super::clean::Cleaned;
use super::super::super::state::object_of;
use super::super::dying::cut;
use super::*;
use crate::metadata::remote_log::RemoteLogMetadata;
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
    /// Records are deleted from the front.
    deletes: bool,
    /// Rounds over the tier that came to their end.
    rounds: usize,
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
        match self.below(46) {
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
                self.machines.bucket.clear();
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
            39..=41 => {
                self.round(&node).await;
                node.expire().await;
            }
            42 => {
                let (op, n) = ([Op::Get, Op::Put][self.below(2) as usize], self.below(4));
                (0..=n).for_each(|_| self.machines.bucket.next(op, Fault::Error));
                let _ = node.log.clean_next(P, &CancellationToken::new()).await;
                self.machines.bucket.clear();
            }
            43 => {
                self.machines.bucket.set_stepwise(true);
                let moments = self.below(120) as usize;
                let _ = cut(node.log.clean_next(P, &CancellationToken::new()), moments).await;
                self.machines.bucket.set_stepwise(false);
                drop(node);
                return self.machines.start().await;
            }
            44 if self.deletes => {
                let offsets = node.partition().offsets();
                let to = offsets.log_start + self.below(20) as Offset;
                node.partition().raise_log_start(to.min(offsets.last_stable)).await.unwrap();
                node.expire().await;
            }
            44 => {}
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

    /// Rounds over the tier, as long as one is due. Of what they have met each key has one record at most.
    async fn round(&mut self, node: &Running) {
        while node.log.clean_next(P, &CancellationToken::new()).await.unwrap() == Cleaned::Round {
            self.rounds += 1;
            let (mut keys, met) = (BTreeMap::new(), node.log.state(P).lock().await.cleaned_end);
            for seen in self.stored(node).await.into_iter().filter(|seen| seen.0 < met) {
                let before = keys.insert(seen.1.key.clone(), seen.0);
                assert_eq!(before, None, "{} is there twice: {seen:?}", seen.1.key);
            }
        }
    }

    /// All data records in the bucket from the log start on.
    async fn stored(&self, node: &Running) -> Content {
        let (mut content, log_start) = (Content::new(), node.partition().offsets().log_start);
        for segment in &node.partition().remote_chain().segments {
            let whole = node.tier.whole(&object_of(P, segment)).await.unwrap();
            let mut rest = &whole.log[..];
            while let Ok((batch, behind)) = BatchView::split_first(rest) {
                rest = behind;
                let opened = records(&batch, 1 << 20).unwrap();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let data = opened.iter().flatten().filter(|_| !batch.is_control());
                content.extend(data.filter(|record| record.offset >= log_start).map(|record| {
                    let (key, value) = (text(record.key.unwrap_or_default()), record.value.map(text));
                    (record.offset, Seen { key, value, timestamp: record.timestamp })
                }));
            }
        }
        content
    }

    /// All that was written is cleaned, copied, and met by rounds until they find nothing to take away.
    async fn settle(&mut self, node: &Running) {
        for n in 0..6 {
            for _ in 0..30 {
                self.append(node, None, true);
            }
            node.clean(&self.machines);
            node.copy_all().await;
            self.machines.clock.advance(DELETE_RETENTION_MS);
            self.round(node).await;
            node.expire().await;
            assert!(n > 0 || self.rounds > 0);
        }
        let rows = node.meta.load(P).await.unwrap().segments;
        let mut objects = node.bucket_objects(&self.machines).await;
        let mut named: Vec<_> = rows.iter().map(|row| node.tier.names().segment(&object_of(P, row))).collect();
        objects.sort();
        named.sort();
        assert_eq!(objects, named, "an object without a row");
    }

    async fn check(&self, node: &Running) {
        assert_eq!(node.partition().offline_reason(), None);
        node.chain();
        let offsets = node.partition().offsets();
        assert!(self.deletes || offsets.log_start == 0);
        let log_start = offsets.log_start;
        let (all, times) = node.consume_with_times(log_start, Isolation::ReadUncommitted).await;
        let committed = node.consume(log_start, Isolation::ReadCommitted).await;
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
            if offset < log_start
                || committed.contains_key(&offset)
                || self.torn.get(key).is_some_and(|end| offset < *end)
            {
                continue;
            }
            assert_eq!(written.seen.value, None, "the last value of {key}, at {offset}, is gone");
            let age_ms = self.machines.clock.now_ms() - written.at_ms;
            assert!(age_ms >= DELETE_RETENTION_MS, "the tombstone of {key} went after {age_ms} ms");
            assert_eq!(values(&committed, key), [], "{key} came back to life");
        }

        // From any offset, the reader gets the rest. What is local has not lost what rounds took from the tier: a reader that
        // begins there gets more, which says the same.
        let living = |content: &Content| {
            let mut last: BTreeMap<String, Offset> = BTreeMap::new();
            for (offset, seen) in content.iter().filter(|(offset, _)| is_valid(offset)) {
                match seen.value {
                    Some(_) => drop(last.insert(seen.key.clone(), *offset)),
                    None => drop(last.remove(&seen.key)),
                }
            }
            last
        };
        let overlaps = node.partition().remote_chain().end().is_some_and(|end| offsets.local_start < end);
        for _ in 0..10 {
            let from = log_start + self.below((offsets.log_end - log_start).max(1) as u64) as Offset;
            let mut rest = all.clone();
            let (rest, found) = (rest.split_off(&from), node.consume(from, Isolation::ReadUncommitted).await);
            assert_eq!(living(&found), living(&rest), "from {from}");
            if !overlaps {
                assert_eq!(found, rest, "from {from}");
            }
            assert!(found.iter().all(|(offset, seen)| self.written[offset].seen == *seen), "from {from}");
        }
        // What is local still has records that rounds took from the tier, and their times.
        self.check_times(node, &times, overlaps).await;
        self.check_epochs(node, &all);
    }

    async fn check_times(&self, node: &Running, times: &BTreeMap<Offset, i64>, overlaps: bool) {
        let list = async |spec| {
            let found = node.partition().list_offset(spec, Isolation::ReadUncommitted).await.unwrap();
            (found.offset, found.timestamp)
        };
        for _ in 0..5 {
            let time = 795_000 + self.below(110_000) as i64;
            let first = times.iter().find(|(_, each)| **each >= time).map(|(offset, each)| (*offset, *each));
            let found = list(OffsetSpec::Time(time)).await;
            match overlaps {
                true => assert!(first.is_none() || found.1 >= time, "{found:?} at {time}"),
                false => assert_eq!(found, first.unwrap_or((-1, -1)), "the first record at {time}"),
            }
        }
        let newest = times.values().max();
        let first = times.iter().find(|(_, each)| Some(*each) == newest).map(|(offset, each)| (*offset, *each));
        let found = list(OffsetSpec::MaxTimestamp).await;
        match overlaps {
            true => assert!(first.is_none_or(|first| found.1 >= first.1), "{found:?} has the largest time"),
            false => assert_eq!(found, first.unwrap_or((-1, -1)), "the largest time"),
        }
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
async fn whatever_happens_a_compacted_log_of_what_was_written_is_read(
    #[values((1, false), (2, false), (3, false), (4, false), (5, true), (6, true))] (seed, deletes): (u64, bool),
) {
    let mut machines = compacted(|config| {
        config.delete_retention_ms = DELETE_RETENTION_MS;
        // Larger than their footers, or nothing would be worth a merge.
        config.segment_bytes = 900;
        config.min_cleanable_dirty_ratio = 0.3;
    });
    machines.merge_target_bytes = 4_000;
    let random = SeededRandom::new(seed);
    let mut model = Model {
        machines,
        random,
        written: BTreeMap::new(),
        number: 0,
        next_producer: 100,
        torn: BTreeMap::new(),
        deletes,
        rounds: 0,
    };
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
    assert!(model.rounds > 2, "{} rounds", model.rounds);

    // What is stored follows the keys: the records of each once, the newest segment, and what came after the last round.
    model.settle(&node).await;
    model.check(&node).await;
    let met = node.log.state(P).lock().await.cleaned_end;
    let stored = model.stored(&node).await;
    assert!(stored.range(..met).count() <= KEYS as usize, "{stored:?}");
    let horizon = model.machines.clock.now_ms() - 3 * DELETE_RETENTION_MS;
    let is_late = |offset: &Offset| model.written[offset].at_ms < horizon;
    let tombstones = stored.iter().filter(|(offset, seen)| seen.value.is_none() && is_late(offset));
    assert_eq!(tombstones.collect::<Vec<_>>(), [], "tombstones go in the end");

    // The copies come back, and nothing else does.
    drain(&model.machines, &node).await;
    model.check(&node).await;
    for n in 0..4 {
        for _ in 0..20 {
            model.append(&node, None, true);
        }
        node.clean(&model.machines);
        model.machines.clock.advance(DELETE_RETENTION_MS);
        node.clean(&model.machines);
        model.check(&node).await;
        if n == 1 {
            node = model.machines.fresh_tier(node).await;
        }
    }
}

/// The topic is no longer tiered, and all that was only in the tier comes back.
async fn drain(machines: &Machines, node: &Running) {
    machines.configure(Some(node), |config| {
        config.remote_storage_enable = false;
        config.remote_log_drain_on_disable = true;
    });
    let partition = PartitionSource::get(&*node.partitions, P).unwrap();
    node.log.drain(&node.log.state(P), &partition).await.unwrap();
    node.partition().sync_now().unwrap();
    node.expire().await;
    node.expire().await;
    assert_eq!(node.partition().remote_chain().segments.len(), 0, "nothing hangs on the copies");
}
