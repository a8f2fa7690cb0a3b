//! What the tests ask of a broker, in a line each.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AlterClientQuotasRequest, BrokerId, CreateTopicsRequest, DeleteRecordsRequest,
    DescribeClientQuotasRequest, DescribeConfigsRequest, EndTxnRequest, FindCoordinatorRequest, GroupId,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest,
    ProduceRequest, TransactionalId,
};
use terrace_protocol_tests::batch::{self, Batch};
use terrace_protocol_tests::raw_client::RawClient;
use terrace_protocol_tests::requests::{fetch, text, topic_name};
use uuid::Uuid;

pub const WITHIN: Duration = Duration::from_secs(30);
/// The transactional bit of a batch's attributes.
const TRANSACTIONAL: i16 = 0x10;

pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !holds() {
        assert!(Instant::now() < deadline, "{what} within 30 s");
        // Another process tells no event.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Producer id and epoch.
pub type Producer = (i64, i16);

pub struct Client(pub RawClient);

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self(RawClient::connect(address))
    }

    /// Asks until the answer is no error that passes by itself: coordinators load, markers are on their way, a partition
    /// learns its producers from the bucket.
    fn until_done(&mut self, mut ask: impl FnMut(&mut RawClient) -> i16) -> i16 {
        let deadline = Instant::now() + WITHIN;
        loop {
            match ask(&mut self.0) {
                3 | 14..=16 | 51 | 56 if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                code => return code,
            }
        }
    }

    pub fn create(&mut self, topic: &str, partitions: i32, configs: &[(&str, String)]) {
        let configs = configs
            .iter()
            .map(|(key, value)| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value))));
        let topic = CreatableTopic::default()
            .with_name(topic_name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let answer = self.0.call(7, &CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic]));
        assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0].error_message);
    }

    /// Name to id and number of partitions, of all topics.
    pub fn topics(&mut self) -> BTreeMap<String, (Uuid, usize)> {
        let answer = self.0.call(12, &MetadataRequest::default().with_topics(None));
        let named = answer.topics.iter().map(|topic| {
            let name = topic.name.as_ref().expect("a name").to_string();
            (name, (topic.topic_id, topic.partitions.len()))
        });
        named.collect()
    }

    /// What was set on a topic.
    pub fn config(&mut self, topic: &str) -> BTreeMap<String, Option<String>> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(topic))
            .with_configuration_keys(None);
        let answer = self.0.call(4, &DescribeConfigsRequest::default().with_resources(vec![resource]));
        let entries = answer.results[0].configs.iter().filter(|entry| entry.config_source == 1);
        entries.map(|entry| (entry.name.to_string(), entry.value.as_ref().map(ToString::to_string))).collect()
    }

    pub fn set_quota(&mut self, user: &str, key: &str, value: f64) {
        let entity = EntityData::default().with_entity_type(text("user")).with_entity_name(Some(text(user)));
        let op = OpData::default().with_key(text(key)).with_value(value);
        let entry = EntryData::default().with_entity(vec![entity]).with_ops(vec![op]);
        let answer = self.0.call(1, &AlterClientQuotasRequest::default().with_entries(vec![entry]));
        assert_eq!(answer.entries[0].error_code, 0);
    }

    pub fn quotas(&mut self) -> String {
        let answer = self.0.call(1, &DescribeClientQuotasRequest::default());
        format!("{:?}", answer.entries)
    }

    /// Deletes the records of partition 0 below `before`.
    pub fn delete_records(&mut self, topic: &str, before: i64) {
        let partition = DeleteRecordsPartition::default().with_partition_index(0).with_offset(before);
        let topic = DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let answer = self.0.call(2, &request);
        assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    }

    /// Timestamp -1 is the end, -2 the start, -5 the last offset in the bucket.
    pub fn offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> i64 {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let mut offset = -1;
        let code = self.until_done(|client| {
            let answer = client.call(9, &request);
            offset = answer.topics[0].partitions[0].offset;
            answer.topics[0].partitions[0].error_code
        });
        assert_eq!(code, 0);
        offset
    }

    fn send(&mut self, topic: &str, batch: &Batch, transactional_id: Option<&str>) -> (i16, i64) {
        let mut base = -1;
        let records = batch.build();
        let code = self.until_done(|client| {
            let data = PartitionProduceData::default().with_index(0).with_records(Some(records.clone()));
            let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
            let request = ProduceRequest::default()
                .with_transactional_id(transactional_id.map(|id| TransactionalId(text(id))))
                .with_acks(-1)
                .with_timeout_ms(10_000)
                .with_topic_data(vec![topic]);
            let answer = client.call(9, &request);
            base = answer.responses[0].partition_responses[0].base_offset;
            answer.responses[0].partition_responses[0].error_code
        });
        (code, base)
    }

    /// Appends to partition 0; the base offset.
    pub fn produce(&mut self, topic: &str, values: &[&str]) -> i64 {
        let (code, base) = self.send(topic, &Batch::of(values), None);
        assert_eq!(code, 0);
        base
    }

    pub fn produce_keyed(&mut self, topic: &str, pairs: &[(&str, &str)]) {
        assert_eq!(self.send(topic, &Batch::keyed(pairs), None).0, 0);
    }

    /// Values of partition 0 from an offset to the last stable one, or to the end, of transactions that were not aborted.
    pub fn read(&mut self, topic: &str, from: i64, committed: bool) -> Vec<(i64, String)> {
        let mut found = Vec::new();
        let mut at = from;
        let deadline = Instant::now() + WITHIN;
        loop {
            assert!(Instant::now() < deadline, "{topic} is read within 30 s, and not beyond {at}");
            let request = fetch(topic, 0, at).with_max_wait_ms(500).with_isolation_level(i8::from(committed));
            let answer = self.0.call(11, &request.with_min_bytes(0));
            let result = &answer.responses[0].partitions[0];
            if [3, 5, 6, 56].contains(&result.error_code) {
                continue;
            }
            assert_eq!(result.error_code, 0, "{topic} at {at}");
            let end = if committed { result.last_stable_offset } else { result.high_watermark };
            if at >= end {
                return found;
            }
            let records = result.records.clone().unwrap_or_default();
            let mut aborted: Vec<(i64, i64)> = result
                .aborted_transactions
                .iter()
                .flatten()
                .map(|each| (each.first_offset, each.producer_id.0))
                .collect();
            aborted.sort_unstable();
            at = take(&records, at, committed, aborted, &mut found);
        }
    }

    pub fn commit(&mut self, group: &str, topic: &str, partition: i32, offset: i64) {
        self.0.call(4, &FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]));
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(text("")));
        let topic = OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        let code = self.until_done(|client| client.call(8, &request).topics[0].partitions[0].error_code);
        assert_eq!(code, 0);
    }

    pub fn committed(&mut self, group: &str, topic: &str, partition: i32) -> i64 {
        self.0.call(4, &FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]));
        let topics =
            OffsetFetchRequestTopics::default().with_name(topic_name(topic)).with_partition_indexes(vec![partition]);
        let of_group =
            OffsetFetchRequestGroup::default().with_group_id(GroupId(text(group))).with_topics(Some(vec![topics]));
        let request = OffsetFetchRequest::default().with_groups(vec![of_group]);
        let mut offset = -1;
        let code = self.until_done(|client| {
            let answer = client.call(8, &request);
            let group = &answer.groups[0];
            offset = group.topics.first().map_or(-1, |topic| topic.partitions[0].committed_offset);
            group.error_code
        });
        assert_eq!(code, 0);
        offset
    }

    pub fn init(&mut self, id: Option<&str>) -> Producer {
        self.try_init(id, (-1, -1)).expect("a producer id")
    }

    /// The same for a producer that has an id and epoch; the error otherwise.
    pub fn try_init(&mut self, id: Option<&str>, (producer_id, epoch): Producer) -> Result<Producer, i16> {
        self.0.call(4, &FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![text("x")]));
        let request = InitProducerIdRequest::default()
            .with_transactional_id(id.map(|id| TransactionalId(text(id))))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(producer_id.into())
            .with_producer_epoch(epoch);
        let mut producer = (-1, -1);
        match self.until_done(|client| {
            let answer = client.call(4, &request);
            producer = (answer.producer_id.0, answer.producer_epoch);
            answer.error_code
        }) {
            0 => Ok(producer),
            code => Err(code),
        }
    }

    /// Adds partition 0 of a topic to the transaction and appends to it; the error code.
    pub fn write_in(&mut self, id: &str, producer: Producer, topic: &str, sequence: i32, values: &[&str]) -> i16 {
        let add = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(text(id)))
            .with_v3_and_below_producer_id(producer.0.into())
            .with_v3_and_below_producer_epoch(producer.1)
            .with_v3_and_below_topics(vec![
                AddPartitionsToTxnTopic::default().with_name(topic_name(topic)).with_partitions(vec![0]),
            ]);
        let added = self.until_done(|client| {
            client.call(3, &add).results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
        });
        if added != 0 {
            return added;
        }
        let batch = Batch::of(values).from_producer(producer.0, producer.1, sequence);
        let batch = Batch { attributes: TRANSACTIONAL, ..batch };
        self.send(topic, &batch, Some(id)).0
    }

    pub fn end(&mut self, id: &str, producer: Producer, commit: bool) -> i16 {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text(id)))
            .with_producer_id(producer.0.into())
            .with_producer_epoch(producer.1)
            .with_committed(commit);
        self.until_done(|client| client.call(3, &request).error_code)
    }
}

/// Adds the values of whole batches to `found`; where reading goes on.
fn take(records: &[u8], from: i64, committed: bool, aborted: Vec<(i64, i64)>, found: &mut Vec<(i64, String)>) -> i64 {
    let mut at = from;
    let mut rest = records;
    let mut open: Vec<i64> = Vec::new();
    let mut coming = aborted.into_iter().peekable();
    while rest.len() > 61 {
        let field = |position: usize, bytes: usize| {
            rest[position..position + bytes].iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte))
        };
        let length = 12 + field(8, 4) as usize;
        if rest.len() < length {
            break;
        }
        let (base, attributes, producer) = (field(0, 8) as i64, field(21, 2), field(43, 8) as i64);
        let next = base + field(23, 4) as i64 + 1;
        let (control, transactional) = (attributes & 0x20 != 0, attributes & 0x10 != 0);
        while let Some((_, producer)) = coming.next_if(|(first, _)| *first < next) {
            open.push(producer);
        }
        if control {
            open.retain(|each| *each != producer);
        } else if !(committed && transactional && open.contains(&producer)) {
            found.extend(batch::by_offset(&rest[..length]).into_iter().filter(|(offset, _)| *offset >= from));
        }
        at = at.max(next);
        rest = &rest[length..];
    }
    at
}

/// A counter of `/metrics`; 0 while it is not there.
pub fn metric(http: SocketAddr, name: &str) -> u64 {
    let mut stream = TcpStream::connect(http).expect("the admin port is open");
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let line = answer.lines().find(|line| line.split([' ', '{']).next() == Some(name));
    line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse::<f64>().ok()).map_or(0, |v| v as u64)
}
