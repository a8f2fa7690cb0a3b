//! What the coordinators may still say at the cut. The tail of a partition that was only local is lost, so what they knew of
//! it must not come back: an offset behind the end of its log is set to the end, a transaction that was open is aborted, and
//! no producer begins below an epoch that the bucket has seen.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use crate::coordinator::Encoded;
use crate::coordinator::section::ShardSection;
use crate::group::records::{Committed, OffsetKey, Record};
use crate::protocol::record_batch::{Offset, ProducerId};
use crate::share::state::records::Record as ShareRecord;
use crate::transaction::records as transaction_records;
use crate::transaction::state::{Live, NO_EPOCH, State};
use crate::transaction::transition;

/// How far the log of each partition reaches at the cut, by topic name.
pub type Ends = HashMap<Arc<str>, (Uuid, Vec<Offset>)>;

/// How many there were of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Committed offsets that came back.
    pub offsets: usize,
    /// Those of them that lay behind the end of their log.
    pub offsets_set_back: usize,
    /// Committed offsets of topics and partitions that are not there.
    pub offsets_dropped: usize,
    /// Transactional ids.
    pub transactional_ids: usize,
    /// Those of them with an open transaction, which is aborted.
    pub transactions_aborted: usize,
}

/// The records of the groups' shards as they may come back.
pub fn groups(shards: Vec<ShardSection>, ends: &Ends, counts: &mut Counts) -> Vec<ShardSection> {
    let keep = |record: Encoded, counts: &mut Counts| match Record::decode(&record.key, record.value.as_deref()) {
        Ok(Record::Offset(key, Some(committed))) => {
            let Some(kept) = within(&key, committed, ends, counts) else {
                counts.offsets_dropped += 1;
                return None;
            };
            counts.offsets += 1;
            Record::Offset(key, Some(kept)).encode()
        }
        // What this program cannot read a later one may.
        _ => Some(record),
    };
    map_records(shards, |record| keep(record, counts))
}

/// The offset as its partition still has it; `None` when the partition is not there, or another topic has its name.
fn within(key: &OffsetKey, committed: Committed, ends: &Ends, counts: &mut Counts) -> Option<Committed> {
    let (id, ends) = ends.get(&key.topic)?;
    let end = *ends.get(usize::try_from(key.partition).ok()?)?;
    if !committed.topic_id.is_nil() && committed.topic_id != *id {
        return None;
    }
    if committed.offset <= end {
        return Some(committed);
    }
    counts.offsets_set_back += 1;
    // The epoch is that of a record which is lost.
    Some(Committed { offset: end, leader_epoch: -1, ..committed })
}

/// The records of the transactions' shards as they may come back. `epochs` are the highest ones that the bucket knows of each
/// producer: the next transaction of an id begins above them, or its partitions would refuse it. An open transaction becomes
/// one that is being aborted; the first load sends its markers.
pub fn transactions(
    shards: Vec<ShardSection>,
    epochs: &HashMap<ProducerId, i16>,
    server_version: i16,
    now_ms: i64,
    counts: &mut Counts,
) -> Vec<ShardSection> {
    let change = |record: Encoded, counts: &mut Counts| {
        let Ok(transaction_records::Record::Transaction(id, Some(mut logged))) =
            transaction_records::decode(&record.key, record.value.as_deref())
        else {
            return Some(record);
        };
        counts.transactional_ids += 1;
        if let Some(&seen) = epochs.get(&logged.producer_id) {
            logged.epoch = logged.epoch.max(seen);
        }
        if logged.state == State::Ongoing {
            counts.transactions_aborted += 1;
            logged = transition::fence(&Live { logged, last_epoch: NO_EPOCH }, server_version, now_ms).logged;
        }
        Some(transaction_records::encode(&id, Some(&logged), server_version))
    };
    map_records(shards, |record| change(record, counts))
}

/// The records of the share partitions' shards as they may come back: nothing is done with behind the end of its log. One of a
/// partition that is not there does not come back.
pub fn shares(shards: Vec<ShardSection>, ends: &Ends) -> Vec<ShardSection> {
    let by_id: HashMap<Uuid, &Vec<Offset>> = ends.values().map(|(id, ends)| (*id, ends)).collect();
    map_records(shards, |record| {
        let Ok(ShareRecord::Snapshot(key, Some(mut snapshot))) =
            ShareRecord::decode(&record.key, record.value.as_deref())
        else {
            return Some(record);
        };
        let end = *by_id.get(&key.topic)?.get(usize::try_from(key.partition).ok()?)?;
        snapshot.cut_at(end);
        ShareRecord::Snapshot(key, Some(snapshot)).encode()
    })
}

fn map_records(shards: Vec<ShardSection>, mut change: impl FnMut(Encoded) -> Option<Encoded>) -> Vec<ShardSection> {
    let of_shard = |shard: ShardSection| ShardSection {
        records: shard.records.into_iter().filter_map(&mut change).collect(),
        ..shard
    };
    shards.into_iter().map(of_shard).collect()
}

/// The section of a coordinator's shards.
pub fn encode(shards: &[ShardSection]) -> Bytes {
    let mut out = BytesMut::new();
    for shard in shards {
        // What was read from a section fits into one.
        let _ = shard.encode(&mut out);
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::share::state::lines::{Delivery, StateBatch};
    use crate::share::state::records::{ShareKey, Snapshot};
    use crate::transaction::state::{TopicPartition, Transaction};

    const TOPIC: Uuid = Uuid::from_u128(7);

    fn shard(records: Vec<Encoded>) -> Vec<ShardSection> {
        vec![ShardSection { partition: 3, next_offset: 40, records }]
    }

    fn offset(topic: &str, partition: i32, offset: Offset, topic_id: Uuid) -> Encoded {
        let key = OffsetKey { group: "g".into(), topic: topic.into(), partition };
        let committed = Committed {
            offset,
            leader_epoch: 5,
            metadata: "note".into(),
            commit_timestamp: 9,
            expire_timestamp: None,
            topic_id,
        };
        Record::Offset(key, Some(committed)).encode().expect("an offset")
    }

    fn committed(record: &Encoded) -> (Offset, i32) {
        match Record::decode(&record.key, record.value.as_deref()) {
            Ok(Record::Offset(_, Some(committed))) => (committed.offset, committed.leader_epoch),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_offset_behind_the_end_of_its_log_is_set_back_to_it() {
        let ends = Ends::from([("t".into(), (TOPIC, vec![10, 20]))]);
        let foreign = Encoded { key: b"\0\x09x".to_vec(), value: Some(b"y".to_vec()) };
        let records = vec![
            offset("t", 0, 10, TOPIC),
            offset("t", 1, 21, Uuid::nil()),
            offset("t", 2, 0, TOPIC),
            offset("gone", 0, 0, Uuid::nil()),
            offset("t", 0, 0, Uuid::from_u128(8)),
            foreign.clone(),
        ];
        let mut counts = Counts::default();
        let kept = groups(shard(records), &ends, &mut counts);
        assert_eq!((kept[0].partition, kept[0].next_offset), (3, 40));
        assert_eq!(kept[0].records.len(), 3);
        assert_eq!(committed(&kept[0].records[0]), (10, 5));
        assert_eq!(committed(&kept[0].records[1]), (20, -1));
        assert_eq!(kept[0].records[2], foreign, "what this program cannot read stays");
        assert_eq!(counts, Counts { offsets: 2, offsets_set_back: 1, offsets_dropped: 3, ..Counts::default() });
    }

    proptest! {
        #[test]
        fn no_offset_lies_behind_the_end(
            ends in proptest::collection::vec(0i64..50, 1..4),
            offsets in proptest::collection::vec((0i32..5, 0i64..100), 0..20),
        ) {
            let records = offsets.iter().map(|&(partition, at)| offset("t", partition, at, TOPIC)).collect();
            let all = Ends::from([("t".into(), (TOPIC, ends.clone()))]);
            let mut counts = Counts::default();
            let kept = groups(shard(records), &all, &mut counts);
            prop_assert_eq!(counts.offsets + counts.offsets_dropped, offsets.len());
            for record in &kept[0].records {
                let Ok(Record::Offset(key, Some(committed))) = Record::decode(&record.key, record.value.as_deref()) else {
                    panic!("an offset");
                };
                prop_assert!(committed.offset <= ends[key.partition as usize]);
            }
        }
    }

    fn transaction(state: State, epoch: i16) -> Encoded {
        let partitions = if state == State::Empty {
            BTreeSet::new()
        } else {
            BTreeSet::from([TopicPartition { topic: "t".into(), partition: 0 }])
        };
        let logged = Transaction { epoch, state, partitions, client_version: 2, ..Transaction::new(77, 60_000, 5) };
        transaction_records::encode("id", Some(&logged), 2)
    }

    fn restored(record: Encoded, seen: Option<i16>) -> (Transaction, Counts) {
        let epochs = seen.map(|epoch| (77, epoch)).into_iter().collect();
        let mut counts = Counts::default();
        let kept = transactions(shard(vec![record]), &epochs, 2, 1000, &mut counts);
        let record = &kept[0].records[0];
        match transaction_records::decode(&record.key, record.value.as_deref()) {
            Ok(transaction_records::Record::Transaction(_, Some(transaction))) => (transaction, counts),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_share_partition_goes_no_further_than_its_log() {
        let ends = Ends::from([("t".into(), (TOPIC, vec![10]))]);
        let record = |topic, start_offset, lines: &[(Offset, Offset)]| {
            let key = ShareKey { group: "g".into(), topic, partition: 0 };
            let line = |(first, last): &(Offset, Offset)| StateBatch {
                first: *first,
                last: *last,
                delivery: Delivery::Acknowledged,
                count: 1,
            };
            let lines: Vec<_> = lines.iter().map(line).collect();
            let snapshot = Snapshot {
                snapshot_epoch: 0,
                state_epoch: 0,
                leader_epoch: 0,
                start_offset,
                complete_count: lines.iter().map(|line| (line.last - line.first + 1) as i32).sum(),
                created_ms: 0,
                written_ms: 0,
                lines,
            };
            ShareRecord::Snapshot(key, Some(snapshot)).encode().expect("a snapshot")
        };
        let records = vec![
            record(TOPIC, 12, &[]),
            record(TOPIC, 5, &[(6, 7), (9, 20), (22, 23)]),
            record(TOPIC, -1, &[]),
            record(Uuid::from_u128(8), 0, &[]),
        ];
        let kept = shares(shard(records), &ends);
        assert_eq!(
            kept[0].records,
            [record(TOPIC, 10, &[]), record(TOPIC, 5, &[(6, 7), (9, 9)]), record(TOPIC, -1, &[])]
        );
    }

    #[test]
    fn an_open_transaction_is_aborted_and_its_producer_fenced() {
        let (transaction, counts) = restored(transaction(State::Ongoing, 3), None);
        assert_eq!((transaction.state, transaction.epoch, transaction.partitions.len()), (State::PrepareAbort, 4, 1));
        assert_eq!((counts.transactional_ids, counts.transactions_aborted), (1, 1));
    }

    #[test]
    fn a_decided_transaction_stays_decided() {
        for state in State::ALL.into_iter().filter(|state| *state != State::Ongoing) {
            let (transaction, counts) = restored(transaction(state, 3), Some(2));
            assert_eq!((transaction.state, transaction.epoch, counts.transactions_aborted), (state, 3, 0));
        }
    }

    #[test]
    fn no_producer_falls_behind_what_the_bucket_has_seen() {
        assert_eq!(restored(transaction(State::CompleteCommit, 3), Some(9)).0.epoch, 9);
        assert_eq!(restored(transaction(State::Ongoing, 3), Some(9)).0.epoch, 10);
    }
}
