//! The crate `kafka-protocol` is the oracle: what it encodes is read to the same values, what is written it decodes.

use bytes::{Buf, Bytes};
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint as CrateEndpoint, PartitionProduceResponse,
    ProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{BrokerId, ResponseHeader, TopicName, TransactionalId};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

type OwnedTopic = (String, u128, Vec<(i32, Option<Vec<u8>>)>);

prop_compose! {
    fn request()(
        transactional_id in option::of("[a-z]{0,9}"),
        acks: i16,
        timeout_ms: i32,
        topics in vec(("[a-zé]{0,9}", any::<u128>(), vec((any::<i32>(), option::of(vec(any::<u8>(), 0..40))), 0..4)), 0..4),
        extra in any::<bool>(),
    ) -> ProduceRequest {
        let tags = || if extra { [(9, Bytes::from_static(b"later"))].into() } else { [].into() };
        let topic = |(name, id, partitions): OwnedTopic| {
            let partition = |(index, records): (i32, Option<Vec<u8>>)| PartitionProduceData::default()
                .with_index(index).with_records(records.map(Bytes::from)).with_unknown_tagged_fields(tags());
            TopicProduceData::default().with_name(TopicName(text(&name))).with_topic_id(Uuid::from_u128(id))
                .with_partition_data(partitions.into_iter().map(partition).collect()).with_unknown_tagged_fields(tags())
        };
        ProduceRequest::default()
            .with_transactional_id(transactional_id.map(|id| TransactionalId(text(&id))))
            .with_acks(acks).with_timeout_ms(timeout_ms)
            .with_topic_data(topics.into_iter().map(topic).collect())
            .with_unknown_tagged_fields(tags())
    }
}

/// What our reader sees, as the crate's struct; extra tags are dropped.
fn read(version: i16, frame: &[u8], body: usize) -> Result<ProduceRequest, ReadError> {
    let (head, mut reader) = ProduceReader::parse(version, frame, body)?;
    let mut topics: Vec<TopicProduceData> = Vec::new();
    while let Some(part) = reader.next(frame) {
        match part {
            ProducePart::Topic { topic, .. } => topics.push(match &topic {
                ProduceTopic::Name(_) => {
                    TopicProduceData::default().with_name(TopicName(text(topic.name(frame).expect("a name"))))
                }
                ProduceTopic::Id(id) => TopicProduceData::default().with_topic_id(*id),
            }),
            ProducePart::Partition { index, records } => {
                let records = records.map(|range| Bytes::copy_from_slice(&frame[range]));
                let partition = PartitionProduceData::default().with_index(index).with_records(records);
                topics.last_mut().expect("a topic comes first").partition_data.push(partition);
            }
        }
    }
    assert_eq!(topics.len(), head.topics);
    Ok(ProduceRequest::default()
        .with_transactional_id(head.transactional_id.map(|id| TransactionalId(text(id))))
        .with_acks(head.acks)
        .with_timeout_ms(head.timeout_ms)
        .with_topic_data(topics))
}

fn without_tags(mut request: ProduceRequest) -> ProduceRequest {
    request.unknown_tagged_fields.clear();
    for topic in &mut request.topic_data {
        topic.unknown_tagged_fields.clear();
        topic.partition_data.iter_mut().for_each(|partition| partition.unknown_tagged_fields.clear());
    }
    request
}

/// In front of the body, where the header lies.
const HEADER: &[u8] = b"header";

fn frame(request: &ProduceRequest, version: i16) -> BytesMut {
    let mut request = request.clone();
    if version < 9 {
        request = without_tags(request);
    }
    for topic in &mut request.topic_data {
        if version >= 13 { topic.name = TopicName::default() } else { topic.topic_id = Uuid::nil() }
    }
    let mut frame = BytesMut::from(HEADER);
    request.encode(&mut frame, version).expect("encodes");
    frame
}

proptest! {
    #[test]
    fn requests_are_read_as_the_crate_decodes_them(request in request(), version in VERSIONS) {
        let frame = frame(&request, version);
        let mut body = Bytes::copy_from_slice(&frame[HEADER.len()..]);
        let expected = without_tags(ProduceRequest::decode(&mut body, version).expect("decodes"));
        prop_assert_eq!(read(version, &frame, HEADER.len()), Ok(expected));
    }

    #[test]
    fn every_cut_and_any_damage_is_an_error_or_a_request(request in request(), version in VERSIONS, at: usize, byte: u8) {
        let mut frame = frame(&request, version);
        for end in HEADER.len()..frame.len() {
            prop_assert!(read(version, &frame[..end], HEADER.len()).is_err());
        }
        let at = HEADER.len() + at % (frame.len() - HEADER.len());
        frame[at] = byte;
        let _ = read(version, &frame, HEADER.len());
    }

    #[test]
    fn answers_are_decoded_by_the_crate(
        version in VERSIONS,
        correlation_id: i32,
        throttle: i32,
        topics in vec(("[a-z]{1,9}", any::<u128>(), vec(
            (any::<i32>(), any::<i16>(), any::<i64>(), vec((any::<i32>(), option::of("[a-z]{0,9}")), 0..3), option::of("[a-z]{0,9}"), option::of(any::<i32>())),
            0..3,
        )), 0..3),
        endpoints in vec((any::<i32>(), "[a-z]{0,9}", option::of("[a-z]{0,9}")), 0..3),
    ) {
        let mut out = BytesMut::from("earlier answer");
        let mut writer = ProduceResponseWriter::begin(&mut out, version, correlation_id, topics.len());
        let mut expected = ProduceResponse::default().with_throttle_time_ms(throttle);
        for (name, id, partitions) in &topics {
            writer.topic(name, Uuid::from_u128(*id), partitions.len());
            let mut topic = TopicProduceResponse::default();
            if version >= 13 { topic.topic_id = Uuid::from_u128(*id) } else { topic.name = TopicName(text(name)) }
            for (index, error_code, offset, errors, message, leader) in partitions {
                let record_errors: Vec<_> = errors.iter().map(|(index, text)| (*index, text.as_deref())).collect();
                let leader = leader.map(|id| CurrentLeader { id, epoch: 5 });
                writer.partition(&ProducedPartition {
                    index: *index,
                    error_code: *error_code,
                    base_offset: *offset,
                    log_append_time_ms: offset / 2,
                    log_start_offset: offset / 3,
                    record_errors: &record_errors,
                    error_message: message.as_deref(),
                    current_leader: leader,
                });
                let mut partition = PartitionProduceResponse::default()
                    .with_index(*index).with_error_code(*error_code).with_base_offset(*offset)
                    .with_log_append_time_ms(offset / 2);
                if version >= 5 {
                    partition.log_start_offset = offset / 3;
                }
                if version >= 8 {
                    partition.error_message = message.as_deref().map(text);
                    partition.record_errors = errors.iter().map(|(index, message)| {
                        BatchIndexAndErrorMessage::default().with_batch_index(*index)
                            .with_batch_index_error_message(message.as_deref().map(text))
                    }).collect();
                }
                if let (true, Some(leader)) = (version >= 10, leader) {
                    partition.current_leader = LeaderIdAndEpoch::default()
                        .with_leader_id(BrokerId(leader.id)).with_leader_epoch(leader.epoch);
                }
                topic.partition_responses.push(partition);
            }
            expected.responses.push(topic);
        }
        let nodes: Vec<_> = endpoints.iter()
            .map(|(id, host, rack)| NodeEndpoint { id: *id, host, port: 9092, rack: rack.as_deref() }).collect();
        writer.finish(throttle, &nodes);
        if version >= 10 {
            expected.node_endpoints = endpoints.iter().map(|(id, host, rack)| CrateEndpoint::default()
                .with_node_id(BrokerId(*id)).with_host(text(host)).with_port(9092).with_rack(rack.as_deref().map(text))).collect();
        }

        let mut answer = out.freeze().split_off("earlier answer".len());
        prop_assert_eq!(answer.get_i32() as usize, answer.len());
        let header = ResponseHeader::decode(&mut answer, if version >= 9 { 1 } else { 0 }).expect("header");
        prop_assert_eq!(header.correlation_id, correlation_id);
        prop_assert_eq!(ProduceResponse::decode(&mut answer, version).expect("decodes"), expected);
        prop_assert!(answer.is_empty());
    }
}

#[test]
fn versions_before_3_are_refused() {
    assert_eq!(ProduceReader::parse(2, &[0; 64], 0).map(|_| ()), Err(ReadError::Version(2)));
}

#[test]
fn a_partition_without_room_for_its_records_is_refused() {
    let mut frame = vec![0xff, 0xff, 0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0];
    frame.extend_from_slice(&i32::MAX.to_be_bytes());
    assert_eq!(ProduceReader::parse(3, &frame, 0).map(|_| ()), Err(ReadError::Truncated));
}
