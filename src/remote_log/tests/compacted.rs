//! Compacted topics in the tier: what goes up and when, and readers over what compaction has left.

mod model;

use std::collections::BTreeMap;
use std::sync::Arc;

use rstest::rstest;
use terrace_tiering::store::faulty::Fault;
use terrace_tiering::store::meter::Op;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::super::copier::Outcome;
use super::super::partition::PartitionSource;
use super::node::{Machines, Running, keep_local};
use super::world::P;
use crate::config::topic::TopicConfig;
use crate::partition::append::AppendOrigin;
use crate::partition::read::{AbortedTransaction, Isolation, ReadSpec, Records};
use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::control::EndTransaction;
use crate::protocol::record_batch::{BatchView, Offset};
use crate::protocol::records::records;

/// What a reader gets of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    key: String,
    value: Option<String>,
    timestamp: i64,
}

type Content = BTreeMap<Offset, Seen>;

fn compacted(change: impl FnOnce(&mut TopicConfig)) -> Machines {
    Machines::of(|config| {
        (config.cleanup_policy.compact, config.cleanup_policy.delete) = (true, false);
        (config.segment_bytes, config.index_interval_bytes) = (500, 64);
        config.file_delete_delay_ms = 0;
        // Never reached: what is never above it must not wait for it.
        config.min_cleanable_dirty_ratio = 1.0;
        // For compacted topics they say nothing.
        (config.retention_ms, config.retention_bytes) = (Some(1), Some(1));
        (config.local_retention_ms, config.local_retention_bytes) = (None, None);
        change(config);
    })
}

/// Cleaned as any local topic, until it is tiered.
fn never_tiered_yet(config: &mut TopicConfig) {
    (config.remote_storage_enable, config.min_cleanable_dirty_ratio) = (false, 0.0);
}

impl Running {
    /// One record; without a value it deletes.
    fn put(&self, key: &str, value: Option<&str>, timestamp: i64) -> Offset {
        let mut builder = BatchBuilder::new(0);
        builder.push(0, timestamp, Some(key.as_bytes()), value.map(str::as_bytes), [].into_iter());
        self.partition().append(&mut builder.finish(), AppendOrigin::Client, None).unwrap().base_offset
    }

    /// Lets the cleaner look at what is on the disk, durably.
    fn clean(&self, machines: &Machines) {
        self.partition().sync_now().unwrap();
        machines.clock.advance(1_000);
        self.partitions.do_due_work();
    }

    /// Frees the local log of all that is copied.
    fn only_remote(&self, machines: &Machines) {
        machines.configure(Some(self), |config| config.local_retention_bytes = Some(0));
        machines.clock.advance(1_000);
        self.partitions.do_due_work();
        machines.configure(Some(self), |config| config.local_retention_bytes = None);
    }

    /// First and last offsets of what is in the tier, which has no gap.
    fn chain(&self) -> Vec<(Offset, Offset)> {
        let chain = self.partition().remote_chain();
        let chain: Vec<_> = chain.segments.iter().map(|segment| (segment.base_offset, segment.last_offset)).collect();
        assert!(chain.windows(2).all(|two| two[0].1 + 1 == two[1].0), "{chain:?}");
        chain
    }

    /// The next batches at or behind `offset`, and the aborted transactions in them.
    async fn next_batches(&self, offset: Offset, isolation: Isolation) -> (Vec<u8>, Vec<AbortedTransaction>) {
        let outcome = self.partition().read(&ReadSpec { isolation, ..Machines::spec(offset) }).unwrap();
        let from_file = |range: crate::log::view::FileRange| {
            let mut bytes = vec![0; range.len as usize];
            range.file.read_exact_at(&mut bytes, range.position).unwrap();
            bytes
        };
        match outcome.records {
            Records::Empty => (Vec::new(), Vec::new()),
            Records::File(range) => (from_file(range), outcome.aborted),
            Records::Cold(cold) => {
                let loaded = cold.load().await.unwrap();
                (loaded.range.map_or_else(|| loaded.chunks.concat(), from_file), loaded.aborted)
            }
        }
    }

    /// What a consumer gets that begins at `from`: as Kafka's, it goes on behind the last batch it was given, and drops
    /// what it was told is aborted.
    async fn consume(&self, from: Offset, isolation: Isolation) -> Content {
        self.consume_with_times(from, isolation).await.0
    }

    /// As [`Running::consume`], and the times of all records, markers included.
    async fn consume_with_times(&self, from: Offset, isolation: Isolation) -> (Content, BTreeMap<Offset, i64>) {
        let offsets = self.partition().offsets();
        let end = match isolation {
            Isolation::ReadUncommitted => offsets.high_watermark,
            Isolation::ReadCommitted => offsets.last_stable,
        };
        let (mut content, mut times, mut offset) = (Content::new(), BTreeMap::new(), from);
        while offset < end {
            let (bytes, aborted) = self.next_batches(offset, isolation).await;
            let mut rest = &bytes[..];
            let before = offset;
            let (mut waiting, mut undone) = (aborted, Vec::new());
            waiting.sort_unstable_by_key(|each| each.first_offset);
            while let Ok((batch, behind)) = BatchView::split_first(rest) {
                batch.check_crc().unwrap();
                rest = behind;
                assert!(batch.last_offset() >= offset, "nothing twice");
                while waiting.first().is_some_and(|each| each.first_offset <= batch.last_offset()) {
                    undone.push(waiting.remove(0).producer_id);
                }
                let skipped = offset;
                offset = batch.next_offset();
                let opened = records(&batch, 1 << 20).unwrap();
                let wanted = || opened.iter().flatten().filter(|record| record.offset >= skipped);
                times.extend(wanted().map(|record| (record.offset, record.timestamp)));
                if batch.is_control() {
                    if EndTransaction::read(&batch).is_some_and(|end| !end.commit) {
                        undone.retain(|producer| *producer != batch.producer_id());
                    }
                } else if !(batch.is_transactional() && undone.contains(&batch.producer_id())) {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    content.extend(wanted().map(|record| {
                        let (key, value) = (text(record.key.unwrap_or_default()), record.value.map(text));
                        (record.offset, Seen { key, value, timestamp: record.timestamp })
                    }));
                }
            }
            assert!(offset > before, "a consumer hangs at {offset} of {end}");
        }
        (content, times)
    }
}

fn values<'c>(content: &'c Content, key: &str) -> Vec<Option<&'c str>> {
    content.values().filter(|seen| seen.key == key).map(|seen| seen.value.as_deref()).collect()
}

/// Keys `hot` and one of its own each time.
fn fill(node: &Running, numbers: std::ops::Range<i64>) {
    for n in numbers {
        node.put("hot", Some(&format!("hot value {n}, of which only the last is to be kept")), 900_000 + n);
        node.put(&format!("cold {n}"), Some("kept"), 900_000 + n);
    }
}

#[tokio::test]
async fn a_compacted_topic_goes_up_once_it_is_clean() {
    let machines = compacted(|_| {});
    let node = machines.start().await;
    fill(&node, 0..20);
    node.copy_all().await;
    assert_eq!(node.chain(), [], "nothing was cleaned");
    node.rolls.next().await;
    node.rolls.done(P, None);
    node.clean(&machines);
    let woken = tokio::time::timeout(std::time::Duration::from_secs(5), node.rolls.next()).await;
    assert_eq!(woken, Ok(P), "copies wait for no other event");
    node.copy_all().await;
    let sealed_end = node.partition().local_info().sealed.last().unwrap().next_offset;
    assert_eq!(node.chain().last().unwrap().1 + 1, sealed_end);

    fill(&node, 20..40);
    node.clean(&machines);
    node.copy_all().await;
    node.only_remote(&machines);
    assert!(node.partition().offsets().local_start > sealed_end, "local copies go like those of any topic");
    assert_eq!(node.partition().offsets().log_start, 0, "total retention is for topics that are deleted");
    let content = node.consume(0, Isolation::ReadUncommitted).await;
    let hot = values(&content, "hot").len();
    assert!((1..20).contains(&hot), "{hot}");
    for n in 0..40 {
        assert_eq!(values(&content, &format!("cold {n}")), [Some("kept")]);
    }
    assert_eq!(values(&content, "hot").last().unwrap().unwrap(), "hot value 39, of which only the last is to be kept");
}

#[tokio::test]
async fn what_may_not_be_cleaned_yet_is_not_copied() {
    let machines = compacted(|config| config.min_compaction_lag_ms = 500_000);
    let node = machines.start().await;
    fill(&node, 0..20);
    node.clean(&machines);
    node.copy_all().await;
    assert_eq!(node.chain(), []);
    machines.clock.advance(500_000);
    node.clean(&machines);
    node.copy_all().await;
    assert!(!node.chain().is_empty());
}

#[tokio::test]
async fn a_lag_of_copies_lets_more_be_cleaned_before_it_goes_up() {
    let machines = compacted(|config| (config.remote_copy_lag_ms, config.remote_copy_lag_bytes) = (-1, 3_000));
    let node = machines.start().await;
    fill(&node, 0..10);
    let before = node.partition().local_info();
    node.clean(&machines);
    assert_eq!(node.partition().local_info(), before, "nothing waits for a round");
    fill(&node, 10..80);
    node.clean(&machines);
    node.copy_all().await;
    assert!(!node.chain().is_empty());
    let content = node.consume(0, Isolation::ReadUncommitted).await;
    assert!(values(&content, "hot").len() < 8, "one round has met all of them");
}

/// A copy is on its way, with all that the segment had; meanwhile the cleaner finds that it could join it with others.
#[tokio::test]
async fn the_cleaner_leaves_alone_what_is_on_its_way_to_the_tier() {
    let machines = compacted(|config| config.delete_retention_ms = 0);
    let node = machines.start().await;
    let old = node.put("gone", Some("must not come back"), 900_000);
    fill(&node, 0..5);
    node.clean(&machines);
    let first = node.partition().local_info().sealed[0];
    let (may_end, running) = (Arc::new(Semaphore::new(0)), CancellationToken::new());
    let before = machines.bucket.count(Op::Put);
    machines.bucket.next(Op::Put, Fault::Wait(Arc::clone(&may_end)));
    let clean = async {
        while machines.bucket.count(Op::Put) == before {
            tokio::task::yield_now().await;
        }
        node.put("gone", None, 900_001);
        fill(&node, 5..20);
        (0..3).for_each(|_| node.clean(&machines));
        assert_eq!(node.partition().local_info().sealed[0], first);
        may_end.add_permits(1);
    };
    let (copied, ()) = tokio::join!(node.log.copy_next(P, &running), clean);
    assert_eq!(copied.unwrap(), Outcome::Copied);
    fill(&node, 20..30);
    (0..3).for_each(|_| node.clean(&machines));
    node.copy_all().await;
    assert!(old <= first.next_offset && node.chain().len() > 1);
    let content = node.consume(0, Isolation::ReadUncommitted).await;
    assert_eq!(values(&content, "gone"), [Some("must not come back"), None]);
}

/// While the tier has the value its tombstone stays, however old it is.
#[tokio::test]
async fn a_tombstone_stays_as_long_as_the_tier_may_have_what_it_deletes() {
    let machines = compacted(|config| config.delete_retention_ms = 1_000);
    let node = machines.start().await;
    node.put("in the tier", Some("value"), 900_000);
    fill(&node, 0..10);
    node.clean(&machines);
    node.copy_all().await;
    assert!(!node.chain().is_empty());
    node.put("in the tier", None, 900_001);
    fill(&node, 10..30);
    for n in 3..8 {
        machines.clock.advance(100_000);
        node.clean(&machines);
        fill(&node, 10 * n..10 * n + 10);
    }
    node.copy_all().await;
    for remote in [false, true] {
        if remote {
            node.only_remote(&machines);
        }
        let content = node.consume(0, Isolation::ReadUncommitted).await;
        assert_eq!(values(&content, "in the tier").last(), Some(&None));
    }
}

/// Where nothing was copied the cleaner goes by Kafka's rules.
#[tokio::test]
async fn a_tombstone_goes_where_the_round_sees_all_of_the_log() {
    let machines = compacted(|config| {
        config.delete_retention_ms = 1_000;
        config.min_cleanable_dirty_ratio = 0.0;
        config.remote_log_copy_disable = true;
    });
    let node = machines.start().await;
    node.put("local", Some("value"), 900_000);
    node.put("local", None, 900_001);
    for n in 1..4 {
        fill(&node, 10 * n..10 * n + 10);
        machines.clock.advance(100_000);
        node.clean(&machines);
    }
    let content = node.consume(0, Isolation::ReadUncommitted).await;
    assert_eq!(values(&content, "local"), []);
}

/// Of some segments nothing is left: the next one's copy covers their offsets, and readers pass over them.
#[rstest]
#[case::restarted(false)]
#[case::without_its_disk(true)]
#[tokio::test]
async fn emptied_segments_are_covered_by_the_copy_behind_them(#[case] disk_is_lost: bool) {
    let machines = compacted(|config| {
        (config.segment_bytes, config.segment_index_bytes) = (150, 12);
        never_tiered_yet(config);
    });
    let node = machines.start().await;
    node.put("first", Some("kept"), 900_000);
    for n in 0..30 {
        node.put("hot", Some("a value that fills more than half of a segment, or so"), 900_001 + n);
    }
    node.put("last", Some("kept"), 900_100);
    node.put("active", Some("kept"), 900_100);
    node.clean(&machines);
    machines.configure(Some(&node), |config| config.remote_storage_enable = true);
    let local = node.partition().local_info();
    assert!(local.sealed.iter().filter(|segment| segment.bytes == 0).count() > 0, "{local:?}");
    node.copy_all().await;
    let chain = node.chain();
    assert!(chain[0].0 == 0 && chain.iter().any(|(first, last)| last - first > 5), "{chain:?}");
    let before = node.consume(0, Isolation::ReadUncommitted).await;
    let node = if disk_is_lost {
        node.lose_disk(&machines);
        machines.start().await
    } else {
        machines.fresh_tier(node).await
    };
    assert_eq!(node.partition().offline_reason(), None, "bucket and local log agree");
    node.only_remote(&machines);
    let end = node.partition().offsets().log_end;
    for from in 0..end {
        let mut expected = before.clone();
        expected.retain(|offset, _| (from..end).contains(offset));
        assert_eq!(node.consume(from, Isolation::ReadUncommitted).await, expected, "from {from}");
    }
}

/// Local retention frees the emptied segments that a copy covers, and not the one with its records.
#[tokio::test]
async fn a_copy_whose_records_are_all_local_comes_back_as_an_empty_segment() {
    let machines = compacted(|config| {
        (config.segment_bytes, config.segment_index_bytes) = (150, 12);
        never_tiered_yet(config);
    });
    let node = machines.start().await;
    for n in 0..30 {
        node.put("hot", Some("a value that fills more than half of a segment, or so"), 900_001 + n);
    }
    node.put("last", Some("kept"), 900_100);
    node.put("active", Some("kept"), 900_100);
    node.clean(&machines);
    machines.configure(Some(&node), |config| config.remote_storage_enable = true);
    node.copy_all().await;
    let before = node.consume(0, Isolation::ReadUncommitted).await;
    let chain = node.chain();
    let is_across = |start: &Offset| chain.iter().any(|(first, last)| first < start && start <= last);
    let mut kept = (0..1000).rev().step_by(10).map(|bytes| keep_local(&machines, &node, bytes));
    let local_start = kept.find(is_across).expect("some of what a copy covers is local");
    let records = before.keys().find(|offset| **offset >= local_start);
    assert!(records.is_some_and(|offset| chain.iter().any(|(first, last)| (first..=last).contains(&offset))));
    machines.configure(Some(&node), |config| {
        config.remote_storage_enable = false;
        config.remote_log_drain_on_disable = true;
    });
    let partition = PartitionSource::get(&*node.partitions, P).unwrap();
    node.log.drain(&node.log.state(P), &partition).await.unwrap();
    assert_eq!(node.partition().offsets().local_start, 0);
    assert_eq!(node.consume(0, Isolation::ReadUncommitted).await, before);
    let node = machines.fresh_tier(node).await;
    assert_eq!((node.partition().offline_reason(), node.partition().offsets().local_start), (None, 0));
    assert_eq!(node.consume(0, Isolation::ReadUncommitted).await, before);
}

/// A copy that covers emptied segments is found damaged while its segment is local still.
#[tokio::test]
async fn a_damaged_copy_is_made_again_with_all_that_it_covers() {
    let machines = compacted(|config| {
        (config.segment_bytes, config.segment_index_bytes) = (150, 12);
        never_tiered_yet(config);
    });
    let node = machines.start().await;
    for n in 0..30 {
        node.put("hot", Some("a value that fills more than half of a segment, or so"), 900_001 + n);
    }
    node.put("last", Some("kept"), 900_100);
    node.put("active", Some("kept"), 900_100);
    node.clean(&machines);
    machines.configure(Some(&node), |config| config.remote_storage_enable = true);
    node.copy_all().await;
    let (chain, before) = (node.chain(), node.consume(0, Isolation::ReadUncommitted).await);
    let damaged = Arc::clone(&node.partition().remote_chain().segments[0]);
    assert!(damaged.last_offset - damaged.base_offset > 5, "{chain:?}");
    node.log.is_damaged(P, damaged.uuid, "rotten".to_owned()).await;
    node.log.mend(&CancellationToken::new()).await;
    assert_eq!((node.log.damage(), node.chain()), (None, chain));
    assert_ne!(node.partition().remote_chain().segments[0].uuid, damaged.uuid);
    node.only_remote(&machines);
    assert_eq!(node.consume(0, Isolation::ReadUncommitted).await, before);
}

#[tokio::test]
async fn a_copy_of_a_clean_segment_with_other_bytes_keeps_the_partition_offline() {
    let machines = compacted(|_| {});
    let node = machines.start().await;
    fill(&node, 0..20);
    node.clean(&machines);
    node.copy_all().await;
    let last = node.partition().local_info().sealed.pop().unwrap();
    assert_eq!(node.chain().last().unwrap().1, last.next_offset - 1);
    node.stop().await;
    let file = machines.log_dir().join("t-0").join(format!("{:020}.log", last.base_offset));
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let node = machines.start().await;
    assert!(node.partition().offline_reason().is_some());
}

/// What was compacted away does not come back with a drain, and nothing else is missing.
#[tokio::test]
async fn copies_of_a_compacted_topic_come_back_into_the_local_log() {
    let machines = compacted(|config| config.segment_bytes = 300);
    let node = machines.start().await;
    fill(&node, 0..30);
    node.clean(&machines);
    node.copy_all().await;
    node.only_remote(&machines);
    let before = node.consume(0, Isolation::ReadUncommitted).await;
    machines.configure(Some(&node), |config| {
        config.remote_storage_enable = false;
        config.remote_log_drain_on_disable = true;
    });
    let partition = PartitionSource::get(&*node.partitions, P).unwrap();
    node.log.drain(&node.log.state(P), &partition).await.unwrap();
    assert_eq!(node.partition().offsets().local_start, 0);
    assert_eq!(node.consume(0, Isolation::ReadUncommitted).await, before);
    let node = machines.fresh_tier(node).await;
    assert_eq!(node.consume(0, Isolation::ReadUncommitted).await, before);
}
