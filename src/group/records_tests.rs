use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-zA-Zäß€0-9.-]{0,12}".prop_map(Arc::from)
}

fn blob() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..20).prop_map(Bytes::from)
}

prop_compose! {
    fn committed()(
        offset: i64, leader_epoch: i32, metadata in text(), commit_timestamp: i64,
        expire_timestamp in option::of(0..i64::MAX), topic_id: u128,
    ) -> Committed {
        // The version that carries an expiry carries neither leader epoch nor topic id.
        let (leader_epoch, topic_id) = if expire_timestamp.is_some() { (-1, 0) } else { (leader_epoch, topic_id) };
        let topic_id = Uuid::from_u128(topic_id);
        Committed { offset, leader_epoch, metadata, commit_timestamp, expire_timestamp, topic_id }
    }
}

prop_compose! {
    fn member()(
        member_id in text(), instance_id in option::of(text()), client_id in text(), client_host in text(),
        rebalance_timeout_ms: i32, session_timeout_ms: i32, subscription in blob(), assignment in blob(),
    ) -> MemberMetadata {
        MemberMetadata {
            member_id, instance_id, client_id, client_host, rebalance_timeout_ms, session_timeout_ms, subscription,
            assignment,
        }
    }
}

prop_compose! {
    fn group()(
        protocol_type in text(), generation: i32, protocol in option::of(text()), leader in option::of(text()),
        state_timestamp: i64, members in vec(member(), 0..4),
    ) -> GroupMetadata {
        GroupMetadata { protocol_type, generation, protocol, leader, state_timestamp, members }
    }
}

fn record() -> impl Strategy<Value = Record> {
    let key =
        (text(), text(), any::<i32>()).prop_map(|(group, topic, partition)| OffsetKey { group, topic, partition });
    prop_oneof![
        (key, option::of(committed())).prop_map(|(key, value)| Record::Offset(key, value)),
        (text(), option::of(group())).prop_map(|(name, value)| Record::Group(name, value)),
    ]
}

proptest! {
    #[test]
    fn a_record_reads_back(record in record()) {
        let Encoded { key, value } = record.encode().unwrap();
        prop_assert_eq!(Record::decode(&key, value.as_deref()), Ok(record));
    }

    #[test]
    fn any_bytes_read_or_are_refused(key in vec(any::<u8>(), 0..40), value in vec(any::<u8>(), 0..80), kind in 0i16..3,
                                     version in 0i16..6) {
        let _ = Record::decode(&key, Some(&value));
        let typed = [&kind.to_be_bytes()[..], &key].concat();
        let versioned = [&version.to_be_bytes()[..], &value].concat();
        let _ = Record::decode(&typed, Some(&versioned));
        let known = Record::Group("g".into(), None).encode().unwrap().key;
        let _ = Record::decode(&known, Some(&versioned));
    }

    #[test]
    fn a_cut_record_is_refused(record in record(), cut in 1usize..8) {
        let Encoded { key, value } = record.encode().unwrap();
        prop_assert!(Record::decode(&key[..key.len() - cut.min(key.len())], value.as_deref()).is_err());
        if let Some(value) = value {
            let cut = cut.min(value.len());
            // A value that ends inside of its last field, tags included, has no reading.
            prop_assert!(Record::decode(&key, Some(&value[..value.len() - cut])).is_err());
        }
    }
}

#[test]
fn an_offset_without_retention_time_has_kafkas_bytes_of_version_4() {
    let key = OffsetKey { group: "g".into(), topic: "t".into(), partition: 7 };
    let topic_id = Uuid::from_u128(1 << 127 | 5);
    let value = Committed {
        offset: 42,
        leader_epoch: 3,
        metadata: "m".into(),
        commit_timestamp: 9,
        expire_timestamp: None,
        topic_id,
    };
    let encoded = Record::Offset(key, Some(value)).encode().unwrap();
    assert_eq!(encoded.key, b"\0\x01\0\x01g\0\x01t\0\0\0\x07");
    let expected = b"\0\x04\0\0\0\0\0\0\0\x2a\0\0\0\x03\x02m\0\0\0\0\0\0\0\x09\x01\0\x10";
    assert_eq!(encoded.value.unwrap(), [&expected[..], topic_id.as_bytes()].concat());
}

/// Offset 1, metadata "m", commit time 2, and what each version adds.
#[rstest]
#[case::v0(b"\0\0\0\0\0\0\0\0\0\x01\0\x01m\0\0\0\0\0\0\0\x02".as_slice(), -1, None)]
#[case::v1(b"\0\x01\0\0\0\0\0\0\0\x01\0\x01m\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03", -1, Some(3))]
#[case::v1_never(b"\0\x01\0\0\0\0\0\0\0\x01\0\x01m\0\0\0\0\0\0\0\x02\xff\xff\xff\xff\xff\xff\xff\xff", -1, None)]
#[case::v2(b"\0\x02\0\0\0\0\0\0\0\x01\0\x01m\0\0\0\0\0\0\0\x02", -1, None)]
#[case::v3(b"\0\x03\0\0\0\0\0\0\0\x01\0\0\0\x04\0\x01m\0\0\0\0\0\0\0\x02", 4, None)]
#[case::v4(b"\0\x04\0\0\0\0\0\0\0\x01\0\0\0\x04\x02m\0\0\0\0\0\0\0\x02\0", 4, None)]
fn offsets_of_every_version_are_read(
    #[case] value: &[u8],
    #[case] leader_epoch: i32,
    #[case] expire_timestamp: Option<i64>,
    #[values(0, 1)] key_type: u8,
) {
    let key = [&[0, key_type][..], b"\0\x01g\0\x01t\0\0\0\x07"].concat();
    let expected = Committed {
        offset: 1,
        leader_epoch,
        metadata: "m".into(),
        commit_timestamp: 2,
        expire_timestamp,
        topic_id: Uuid::nil(),
    };
    let Ok(Record::Offset(key, Some(read))) = Record::decode(&key, Some(value)) else { panic!("not an offset") };
    assert_eq!((&*key.group, &*key.topic, key.partition), ("g", "t", 7));
    assert_eq!(read, expected);
}

/// An empty group of type "c", generation 1, no protocol, no leader; and one member of the oldest version.
#[rstest]
#[case::v0(b"\0\0\0\x01c\0\0\0\x01\xff\xff\xff\xff\0\0\0\0".as_slice(), -1, 0)]
#[case::v0_member(b"\0\0\0\x01c\0\0\0\x01\xff\xff\xff\xff\0\0\0\x01\0\x01m\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0", -1, 1)]
#[case::v2(b"\0\x02\0\x01c\0\0\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\x06\0\0\0\0", 6, 0)]
#[case::v4(b"\0\x04\x02c\0\0\0\x01\0\0\0\0\0\0\0\0\0\x06\x01\0", 6, 0)]
fn groups_of_every_version_are_read(#[case] value: &[u8], #[case] state_timestamp: i64, #[case] members: usize) {
    let Ok(Record::Group(name, Some(read))) = Record::decode(b"\0\x02\0\x01g", Some(value)) else {
        panic!("not a group")
    };
    assert_eq!((&*name, &*read.protocol_type, read.generation), ("g", "c", 1));
    assert_eq!((read.state_timestamp, read.members.len()), (state_timestamp, members));
    assert!(read.members.iter().all(|m| m.rebalance_timeout_ms == -1 && m.session_timeout_ms == 5));
}

#[test]
fn newer_types_are_unknown_and_newer_values_refused() {
    assert_eq!(Record::decode(b"\0\x18\0\x01g", Some(b"\0\0")), Ok(Record::Unknown { key_type: 24 }));
    assert_eq!(Record::decode(b"\0\x02\0\x01g", Some(b"\0\x05")), Err(ReadError::Version(5)));
    assert_eq!(Record::Unknown { key_type: 3 }.encode(), None);
}
