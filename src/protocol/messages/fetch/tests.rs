//! The crate `kafka-protocol` is the oracle: what it encodes is read to the same values, what is written it decodes.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::fetch_request::{
    FetchPartition as CratePartition, FetchRequest as CrateRequest, FetchTopic as CrateTopic, ForgottenTopic,
    ReplicaState,
};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch,
    NodeEndpoint as CrateEndpoint, PartitionData,
};
use kafka_protocol::messages::{BrokerId, ProducerId, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

type OwnedTopic = (String, u128, Vec<(i32, i32, i64)>);

prop_compose! {
    fn request()(
        cluster_id in option::of("[a-z]{0,9}"),
        replica: (i32, i64),
        numbers: (i32, i32, i32, i8, i32, i32),
        topics in vec(("[a-zé]{0,9}", any::<u128>(), vec(any::<(i32, i32, i64)>(), 0..4)), 0..4),
        forgotten in vec(("[a-z]{0,9}", any::<u128>(), vec(any::<(i32, i32, i64)>(), 0..4)), 0..3),
        rack_id in "[a-z]{0,9}",
        version in VERSIONS,
    ) -> (CrateRequest, i16) {
        let name = |name: &str| if version < 13 { TopicName(text(name)) } else { TopicName::default() };
        let id = |id: u128| if version < 13 { Uuid::nil() } else { Uuid::from_u128(id) };
        let tags = || if version >= 12 { [(9, Bytes::from_static(b"later"))].into() } else { [].into() };
        let topic = |(topic, topic_id, partitions): &OwnedTopic| CrateTopic::default()
            .with_topic(name(topic)).with_topic_id(id(*topic_id)).with_unknown_tagged_fields(tags())
            .with_partitions(partitions.iter().map(|&(partition, number, offset)| CratePartition::default()
                .with_partition(partition).with_current_leader_epoch(number).with_fetch_offset(offset)
                .with_last_fetched_epoch(if version >= 12 { number / 2 } else { -1 })
                .with_log_start_offset(offset / 2).with_partition_max_bytes(number / 3)
                .with_replica_directory_id(id((offset as u128) / 3)).with_high_watermark(offset / 4)
                .with_unknown_tagged_fields(tags())).collect());
        let forget = |(topic, topic_id, partitions): &OwnedTopic| ForgottenTopic::default()
            .with_topic(name(topic)).with_topic_id(id(*topic_id)).with_unknown_tagged_fields(tags())
            .with_partitions(partitions.iter().map(|partition| partition.0).collect());
        let mut request = CrateRequest::default()
            .with_cluster_id(cluster_id.as_deref().map(text))
            .with_max_wait_ms(numbers.0).with_min_bytes(numbers.1).with_max_bytes(numbers.2).with_isolation_level(numbers.3)
            .with_session_id(numbers.4).with_session_epoch(numbers.5).with_rack_id(text(&rack_id))
            .with_topics(topics.iter().map(topic).collect())
            .with_unknown_tagged_fields(tags());
        if version >= 7 {
            request.forgotten_topics_data = forgotten.iter().map(forget).collect();
        } else {
            (request.session_id, request.session_epoch) = (0, -1);
        }
        if version >= 15 {
            request.replica_state = ReplicaState::default().with_replica_id(BrokerId(replica.0)).with_replica_epoch(replica.1);
        } else {
            request.replica_id = BrokerId(replica.0);
        }
        (request, version)
    }
}

fn names(topic: FetchTopic<'_>) -> (TopicName, Uuid) {
    match topic {
        FetchTopic::Name(name) => (TopicName(text(name)), Uuid::nil()),
        FetchTopic::Id(id) => (TopicName::default(), id),
    }
}

type Flat = (Vec<(TopicName, Uuid, CratePartition)>, Vec<(TopicName, Uuid, i32)>);

/// The partitions of the crate's request one after another.
fn flat(request: &CrateRequest) -> Flat {
    let partitions = request.topics.iter().flat_map(|topic| {
        let partition = |partition: &CratePartition| partition.clone().with_unknown_tagged_fields([].into());
        topic.partitions.iter().map(move |each| (topic.topic.clone(), topic.topic_id, partition(each)))
    });
    let forgotten = request
        .forgotten_topics_data
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|&partition| (topic.topic.clone(), topic.topic_id, partition)));
    (partitions.collect(), forgotten.collect())
}

fn ours(request: &FetchRequest<'_>) -> Flat {
    let partition = |partition: FetchPartition<'_>| {
        let (name, id) = names(partition.topic);
        let read = CratePartition::default()
            .with_partition(partition.partition)
            .with_current_leader_epoch(partition.current_leader_epoch)
            .with_fetch_offset(partition.fetch_offset)
            .with_last_fetched_epoch(partition.last_fetched_epoch)
            .with_log_start_offset(partition.log_start_offset)
            .with_partition_max_bytes(partition.max_bytes)
            .with_replica_directory_id(partition.replica_directory_id)
            .with_high_watermark(partition.high_watermark);
        (name, id, read)
    };
    let forgotten = |(topic, partition)| {
        let (name, id) = names(topic);
        (name, id, partition)
    };
    (request.partitions().map(partition).collect(), request.forgotten().map(forgotten).collect())
}

proptest! {
    #[test]
    fn requests_are_read_as_the_crate_decodes_them((request, version) in request()) {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).expect("encodes");
        let expected = CrateRequest::decode(&mut body.clone(), version).expect("decodes");
        let read = FetchRequest::parse(version, &body).expect("readable");
        prop_assert_eq!(ours(&read), flat(&expected));
        prop_assert_eq!(read.cluster_id.map(text), expected.cluster_id);
        let (id, epoch) = if version >= 15 {
            (expected.replica_state.replica_id, expected.replica_state.replica_epoch)
        } else {
            (expected.replica_id, -1)
        };
        prop_assert_eq!((read.replica_id, read.replica_epoch), (id.0, epoch));
        prop_assert_eq!(
            (read.max_wait_ms, read.min_bytes, read.max_bytes, read.isolation_level, read.session_id, read.session_epoch),
            (expected.max_wait_ms, expected.min_bytes, expected.max_bytes, expected.isolation_level, expected.session_id, expected.session_epoch)
        );
        prop_assert_eq!(text(read.rack_id), expected.rack_id);
    }

    #[test]
    fn every_cut_and_any_damage_is_an_error_or_a_request((request, version) in request(), at: usize, byte: u8) {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).expect("encodes");
        for end in 0..body.len() {
            prop_assert!(FetchRequest::parse(version, &body[..end]).is_err());
        }
        let at = at % body.len();
        body[at] = byte;
        if let Ok(read) = FetchRequest::parse(version, &body) {
            ours(&read);
        }
    }

    #[test]
    fn answers_with_their_records_spliced_in_are_decoded_by_the_crate(
        version in VERSIONS,
        numbers: (i32, i32, i16, i32),
        topics in vec(("[a-z]{1,9}", any::<u128>(), vec(
            (any::<(i32, i16, i64)>(), option::of(vec(any::<(i64, i64)>(), 0..3)), any::<(bool, bool)>(), vec(any::<u8>(), 0..300)),
            0..3,
        )), 0..3),
        endpoints in vec((any::<i32>(), "[a-z]{0,9}", option::of("[a-z]{0,9}")), 0..3),
    ) {
        let (correlation_id, throttle_time_ms, error_code, session_id) = numbers;
        let mut out = BytesMut::new();
        let head = FetchResponseHead { correlation_id, throttle_time_ms, error_code, session_id, topics: topics.len() };
        let mut writer = FetchResponseWriter::begin(&mut out, version, &head);
        let mut expected = FetchResponse::default().with_throttle_time_ms(throttle_time_ms);
        if version >= 7 {
            (expected.error_code, expected.session_id) = (error_code, session_id);
        }
        let mut pieces = Vec::new();
        for (name, id, partitions) in &topics {
            writer.topic(name, Uuid::from_u128(*id), partitions.len());
            let mut topic = FetchableTopicResponse::default();
            if version >= 13 { topic.topic_id = Uuid::from_u128(*id) } else { topic.topic = TopicName(text(name)) }
            for ((index, code, offset), aborted, (diverges, moved), records) in partitions {
                let flexible = version >= 12;
                let diverging = (flexible && *diverges).then_some((*index, *offset));
                let leader = (flexible && *moved).then_some(CurrentLeader { id: *index, epoch: 4 });
                let position = writer.partition(&FetchedPartition {
                    index: *index,
                    error_code: *code,
                    high_watermark: *offset,
                    last_stable_offset: offset / 2,
                    log_start_offset: offset / 3,
                    diverging,
                    current_leader: leader,
                    aborted: aborted.as_deref(),
                    preferred_read_replica: index / 2,
                    records_bytes: records.len(),
                });
                pieces.push((position, records));
                let mut partition = PartitionData::default()
                    .with_partition_index(*index).with_error_code(*code).with_high_watermark(*offset)
                    .with_last_stable_offset(offset / 2).with_records(Some(Bytes::copy_from_slice(records)))
                    .with_aborted_transactions(aborted.as_ref().map(|list| list.iter().map(|&(producer, first)| {
                        AbortedTransaction::default().with_producer_id(ProducerId(producer)).with_first_offset(first)
                    }).collect()));
                if version >= 5 {
                    partition.log_start_offset = offset / 3;
                }
                if version >= 11 {
                    partition.preferred_read_replica = BrokerId(index / 2);
                }
                if let Some((epoch, end)) = diverging {
                    partition.diverging_epoch = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end);
                }
                if let Some(leader) = leader {
                    partition.current_leader = LeaderIdAndEpoch::default()
                        .with_leader_id(BrokerId(leader.id)).with_leader_epoch(leader.epoch);
                }
                topic.partitions.push(partition);
            }
            expected.responses.push(topic);
        }
        let nodes: Vec<_> = endpoints.iter()
            .map(|(id, host, rack)| NodeEndpoint { id: *id, host, port: 9092, rack: rack.as_deref() }).collect();
        writer.finish(&nodes);
        if version >= 16 {
            expected.node_endpoints = endpoints.iter().map(|(id, host, rack)| CrateEndpoint::default()
                .with_node_id(BrokerId(*id)).with_host(text(host)).with_port(9092).with_rack(rack.as_deref().map(text))).collect();
        }

        let (mut answer, mut from) = (BytesMut::new(), 0);
        for (position, records) in pieces {
            answer.extend_from_slice(&out[from..position]);
            answer.extend_from_slice(records);
            from = position;
        }
        answer.extend_from_slice(&out[from..]);
        let mut answer = answer.freeze();
        prop_assert_eq!(answer.get_i32() as usize, answer.len());
        let header = ResponseHeader::decode(&mut answer, if version >= 12 { 1 } else { 0 }).expect("header");
        prop_assert_eq!(header.correlation_id, correlation_id);
        prop_assert_eq!(FetchResponse::decode(&mut answer, version).expect("decodes"), expected);
        prop_assert!(answer.is_empty());
    }
}

#[test]
fn versions_outside_are_refused() {
    assert_eq!(FetchRequest::parse(3, &[0; 64]).map(|_| ()), Err(ReadError::Version(3)));
    assert_eq!(FetchRequest::parse(19, &[0; 64]).map(|_| ()), Err(ReadError::Version(19)));
}
