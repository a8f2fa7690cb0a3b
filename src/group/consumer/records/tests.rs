use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::group::records::Record;

fn record(key: &[u8], value: Option<&[u8]>) -> ConsumerRecord {
    match Record::decode(key, value).unwrap() {
        Record::Consumer(group, record) if &*group == "g" => record,
        other => panic!("{other:?}"),
    }
}

// As serialised by the message classes of Kafka 4.3.1's group coordinator.
#[rstest]
#[case::epoch(
    b"\0\x03\0\x01g", b"\0\0\0\0\0\x07\x01\0\x08\0\0\0\0\0\0\0\x2a",
    ConsumerRecord::Epoch(Some(GroupEpoch { epoch: 7, metadata_hash: 42 }))
)]
#[case::epoch_without_topics(
    b"\0\x03\0\x01g", b"\0\0\0\0\0\x07\0",
    ConsumerRecord::Epoch(Some(GroupEpoch { epoch: 7, metadata_hash: 0 }))
)]
#[case::target_epoch(
    b"\0\x06\0\x01g", b"\0\0\0\0\0\x07\x01\0\x08\0\0\0\0\0\0\x01\0",
    ConsumerRecord::TargetEpoch(Some(TargetEpoch { epoch: 7, timestamp: 256 }))
)]
#[case::target(
    b"\0\x07\0\x01g\0\x01m", b"\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x03\0\0\0\0\0\0\0\x02\0\0",
    ConsumerRecord::Target("m".into(), Some([(Uuid::from_u128(1), [0, 2].into())].into()))
)]
#[case::regex(
    b"\0\x10\0\x01g\0\x01r", b"\0\0\x02\x02t\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x09\0",
    ConsumerRecord::Regex("r".into(), Some(Resolved { topics: ["t".into()].into(), version: 5, timestamp: 9 }))
)]
fn bytes_are_those_of_kafka(#[case] key: &[u8], #[case] value: &[u8], #[case] expected: ConsumerRecord) {
    assert_eq!(expected.encode("g"), (key.to_vec(), Some(value.to_vec())));
    assert_eq!(record(key, Some(value)), expected);
}

#[test]
fn partitions_without_epochs_came_with_the_members() {
    // Before Kafka 4.3: epoch 7, previous 6, stable, one topic with partition 3 and no tags, nothing to revoke.
    let value = b"\0\0\0\0\0\x07\0\0\0\x06\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x02\0\0\0\x03\0\x01\0";
    let expected = Current {
        epoch: 7,
        previous_epoch: 6,
        state: MemberState::Stable,
        assigned: [(Uuid::from_u128(1), [(3, 7)].into())].into(),
        revoking: EpochPartitions::new(),
    };
    assert_eq!(record(b"\0\x08\0\x01g\0\x01m", Some(value)), ConsumerRecord::Current("m".into(), Some(expected)));
}

#[test]
fn another_version_is_an_error() {
    assert_eq!(Record::decode(b"\0\x03\0\x01g", Some(b"\0\x01\0\0\0\x07\0")), Err(ReadError::Version(1)));
}

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-zA-Z0-9._-]{0,12}".prop_map(Arc::from)
}

fn epoch_partitions() -> impl Strategy<Value = EpochPartitions> {
    let partitions = btree_map(any::<i32>(), any::<i32>(), 0..4);
    btree_map(any::<u128>().prop_map(Uuid::from_u128), partitions, 0..3)
}

fn subscription() -> impl Strategy<Value = Subscription> {
    let protocols = vec((text(), vec(any::<u8>(), 0..9).prop_map(Bytes::from)), 0..3);
    let classic = proptest::option::of((any::<i32>(), protocols));
    let ids = (proptest::option::of(text()), proptest::option::of(text()), text(), text());
    let said = (btree_set(text(), 0..4), proptest::option::of(text()), any::<i32>(), proptest::option::of(text()));
    (ids, said, classic).prop_map(|((instance_id, rack_id, client_id, client_host), said, classic)| {
        let (topics, regex, rebalance_timeout_ms, assignor) = said;
        let classic = classic.map(|(session_timeout_ms, protocols)| ClassicMember { session_timeout_ms, protocols });
        Subscription {
            instance_id,
            rack_id,
            client_id,
            client_host,
            topics,
            regex,
            rebalance_timeout_ms,
            assignor,
            classic,
        }
    })
}

fn records() -> impl Strategy<Value = ConsumerRecord> {
    let current = (any::<i32>(), any::<i32>(), any::<i8>(), epoch_partitions(), epoch_partitions());
    prop_oneof![
        (any::<i32>(), any::<i64>())
            .prop_map(|(epoch, metadata_hash)| ConsumerRecord::Epoch(Some(GroupEpoch { epoch, metadata_hash }))),
        (any::<i32>(), any::<i64>())
            .prop_map(|(epoch, timestamp)| ConsumerRecord::TargetEpoch(Some(TargetEpoch { epoch, timestamp }))),
        (text(), proptest::option::of(subscription())).prop_map(|(id, value)| ConsumerRecord::Member(id, value)),
        (text(), epoch_partitions()).prop_map(|(id, value)| ConsumerRecord::Target(id, Some(without_epochs(&value)))),
        (text(), current).prop_map(|(id, (epoch, previous_epoch, state, assigned, revoking))| {
            let state = MemberState::from_code(state);
            ConsumerRecord::Current(id, Some(Current { epoch, previous_epoch, state, assigned, revoking }))
        }),
        (text(), btree_set(text(), 0..4), any::<i64>(), any::<i64>()).prop_map(|(id, topics, version, timestamp)| {
            ConsumerRecord::Regex(id, Some(Resolved { topics, version, timestamp }))
        }),
        text().prop_map(|id| ConsumerRecord::Current(id, None)),
        Just(ConsumerRecord::PartitionMetadata(Some(()))),
        Just(ConsumerRecord::Epoch(None)),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(written in records()) {
        let (key, value) = written.encode("g");
        prop_assert_eq!(record(&key, value.as_deref()), written);
    }

    #[test]
    fn hostile_bytes_are_an_error_or_a_record(
        key_type in 3..17i16,
        key in vec(any::<u8>(), 0..24),
        value in vec(any::<u8>(), 0..64),
    ) {
        let key = [&key_type.to_be_bytes()[..], &key].concat();
        let _ = Record::decode(&key, Some(&value));
        let key = [&key_type.to_be_bytes()[..], b"\0\x01g\0\x01m"].concat();
        let _ = Record::decode(&key, Some(&[b"\0\0", &value[..]].concat()));
    }
}
