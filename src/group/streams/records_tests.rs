use std::collections::BTreeSet;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::group::records::Record;
use crate::group::streams::topology::{CopartitionGroup, InternalTopic, Subtopology};

fn bytes(hex: &str) -> Vec<u8> {
    let digits = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16));
    digits.collect::<Result<_, _>>().unwrap()
}

fn tasks(id: &str, partitions: &[i32]) -> TaskSet {
    [(id.into(), partitions.iter().copied().collect())].into()
}

fn member() -> Subscription {
    Subscription {
        instance_id: None,
        rack_id: Some("r".into()),
        client_id: "c".into(),
        client_host: "/h".into(),
        rebalance_timeout_ms: 9,
        topology_epoch: 3,
        process_id: "p".into(),
        endpoint: Some(Endpoint { host: "e".into(), port: 40_000 }),
        client_tags: [("k".into(), "v".into())].into(),
    }
}

fn current() -> Current {
    Current {
        epoch: 7,
        previous_epoch: 6,
        state: MemberState::Unrevoked,
        assigned: OwnedTasks {
            active: [("0".into(), [(0, 5), (2, 6)].into())].into(),
            standby: tasks("1", &[1]),
            ..OwnedTasks::default()
        },
        revoking: OwnedTasks { active: [("0".into(), [(1, 4)].into())].into(), ..OwnedTasks::default() },
    }
}

fn topology() -> Topology {
    let internal = |name: &str, partitions, replication_factor| InternalTopic {
        name: name.into(),
        partitions,
        replication_factor,
        configs: Vec::new(),
    };
    let one = Subtopology {
        source_topics: vec!["s".into()],
        source_topic_regex: Vec::new(),
        changelog_topics: vec![InternalTopic { configs: vec![("k".into(), "v".into())], ..internal("c", 0, 1) }],
        repartition_sinks: vec!["x".into()],
        repartition_sources: vec![internal("y", 4, 0)],
        copartition_groups: vec![CopartitionGroup {
            source_topics: vec![0],
            source_topic_regex: Vec::new(),
            repartition_sources: vec![0],
        }],
    };
    Topology { epoch: 3, subtopologies: [("0".into(), one)].into() }
}

// As serialised by the message classes of Kafka 4.3.1's group coordinator.
#[rstest]
#[case::epoch(
    "0011000167",
    "000000000007000000000000002a02000400000000010602026b027600",
    StreamsRecord::Epoch(Some(GroupEpoch {
        epoch: 7, metadata_hash: 42, validated_topology_epoch: 0, assignment_configs: [("k".into(), "v".into())].into(),
    }))
)]
#[case::epoch_not_validated(
    "0011000167",
    "000000000007000000000000002a00",
    StreamsRecord::Epoch(Some(GroupEpoch { epoch: 7, metadata_hash: 42, ..GroupEpoch::default() }))
)]
#[case::target_epoch(
    "0014000167",
    "0000000000070100080000000000000100",
    StreamsRecord::TargetEpoch(Some(TargetEpoch { epoch: 7, timestamp: 256 }))
)]
#[case::member(
    "001300016700016d",
    "00000002720263032f68000000090000000302700102659c400002026b02760000",
    StreamsRecord::Member("m".into(), Some(member()))
)]
#[case::target(
    "001500016700016d",
    "0000020230030000000000000002000202310200000001000100",
    StreamsRecord::Target("m".into(), Some(Tasks {
        active: tasks("0", &[0, 2]), standby: tasks("1", &[1]), ..Tasks::default()
    }))
)]
#[case::current(
    "001600016700016d",
    "00000000000700000006020202300300000000000000020100090300000005000000060202310200000001000102023002000000010100050200\
     000004010100",
    StreamsRecord::Current("m".into(), Some(current()))
)]
#[case::topology(
    "0017000167",
    "0000000000030202300202730102026300000000000102026b0276000002027802027900000004000001000202000001020000000000",
    StreamsRecord::Topology(Some(topology()))
)]
fn bytes_are_those_of_kafka(#[case] key: &str, #[case] value: &str, #[case] expected: StreamsRecord) {
    let (key, value) = (bytes(key), bytes(value));
    assert_eq!(expected.encode("g"), (key.clone(), Some(value.clone())));
    assert_eq!(Record::decode(&key, Some(&value)), Ok(Record::Streams("g".into(), expected.clone())));
    // Its end.
    let Ok(Record::Streams(_, ended)) = Record::decode(&key, None) else { panic!("no record") };
    assert!(ended.is_tombstone() && !expected.is_tombstone());
    assert_eq!(ended.encode("g"), (key, None));
}

#[test]
fn tasks_without_epochs_came_with_the_members() {
    let value = bytes("0000000000070000000601020230020000000300010101010100");
    let Ok(Record::Streams(_, StreamsRecord::Current(_, Some(read)))) =
        Record::decode(&bytes("001600016700016d"), Some(&value))
    else {
        panic!("no record")
    };
    assert_eq!(read.assigned.active, [("0".into(), [(3, 7)].into())].into());
}

fn task_sets() -> impl Strategy<Value = TaskSet> {
    btree_map("[a-c]".prop_map(Arc::from), btree_set(any::<i32>(), 0..4), 0..3)
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        target in (task_sets(), task_sets(), task_sets()),
        active in btree_map("[a-c]".prop_map(Arc::from), btree_map(any::<i32>(), any::<i32>(), 1..4), 0..3),
        epochs: (i32, i32, i8),
    ) {
        let (epoch, previous_epoch, state) = epochs;
        let owned = OwnedTasks { active, standby: target.1.clone(), warmup: target.2.clone() };
        let current = Current {
            epoch,
            previous_epoch,
            state: MemberState::from_code(state),
            revoking: owned.clone(),
            assigned: owned,
        };
        let target = Tasks { active: target.0, standby: target.1, warmup: target.2 };
        for record in [StreamsRecord::Target("m".into(), Some(target)), StreamsRecord::Current("m".into(), Some(current))] {
            let (key, value) = record.encode("g");
            prop_assert_eq!(Record::decode(&key, value.as_deref()), Ok(Record::Streams("g".into(), record)));
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read(key_type in KEY_EPOCH..=KEY_TOPOLOGY, key: Vec<u8>, value in vec(any::<u8>(), 0..64)) {
        let value = [&[0, 0][..], &value].concat();
        let _ = StreamsRecord::decode(key_type, Cursor::new(&key, false), Some(&value));
        let _ = StreamsRecord::decode(key_type, Cursor::new(b"\0\x01g\0\x01m", false), Some(&value));
    }
}

#[test]
fn other_types_are_not_ours() {
    let ours: BTreeSet<_> = (0..64).filter(|key_type| StreamsRecord::has_type(*key_type)).collect();
    assert_eq!(ours, [17, 19, 20, 21, 22, 23].into());
}
