//! What the scenarios share: a connection, a transcript, and the requests they all need.

use std::fmt::Display;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    AlterConfigsRequest, BrokerId, CreateTopicsRequest, DescribeConfigsRequest, FetchRequest, FetchResponse,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest,
};
use terrace::protocol::compression::{Compression, compress};
use terrace_protocol_tests::batch::Batch;
use terrace_protocol_tests::broker::Options;
use terrace_protocol_tests::compare::{apart_configured, both, both_configured, fresh_name, ours};
use terrace_protocol_tests::raw_client::RawClient;
pub use terrace_protocol_tests::requests::{text, topic_name};
use uuid::Uuid;

/// Runs a script on a fresh broker of ours and on Apache Kafka; what it says must be `expected` on both.
pub fn scenario(script: impl Fn(&mut Scenario), expected: &str) {
    scenario_with(&Options::new(), script, expected);
}

/// The same with options for our broker.
pub fn scenario_with(options: &Options, script: impl Fn(&mut Scenario), expected: &str) {
    both(options, |address| Scenario::transcript(address, &script), expected);
}

/// The same on two brokers that are started for it with `lines` in their server.properties; see [`both_configured`].
pub fn scenario_configured(lines: &[&str], script: impl Fn(&mut Scenario), expected: &str) {
    both_configured(lines, |address| Scenario::transcript(address, &script), expected);
}

/// The same where the two differ: what it says on ours, and what on Apache Kafka.
pub fn scenario_apart(lines: &[&str], script: impl Fn(&mut Scenario), ours: &str, kafkas: &str) {
    apart_configured(lines, |address| Scenario::transcript(address, &script), ours, kafkas);
}

/// The same on ours alone: where we differ on purpose, or Kafka cannot be configured the same way.
pub fn scenario_of_ours(options: &Options, script: impl Fn(&mut Scenario), expected: &str) {
    ours(options, |address| Scenario::transcript(address, &script), expected);
}

/// Types of resources that have settings.
const TOPIC: i8 = 2;
const GROUP: i8 = 32;

/// One scenario on one broker.
pub struct Scenario {
    /// Where the broker listens, for more connections.
    pub address: SocketAddr,
    /// Its connection.
    pub client: RawClient,
    transcript: String,
}

impl Scenario {
    /// Connects.
    pub fn on(address: SocketAddr) -> Self {
        Self { address, client: RawClient::connect(address), transcript: String::new() }
    }

    fn transcript(address: SocketAddr, script: impl Fn(&mut Self)) -> String {
        let mut s = Self::on(address);
        script(&mut s);
        s.end()
    }

    /// Writes a line of the transcript.
    pub fn say(&mut self, line: impl Display) {
        self.transcript.push_str(&line.to_string());
        self.transcript.push('\n');
    }

    /// The transcript.
    pub fn end(self) -> String {
        self.transcript
    }

    /// A fresh topic; waits until it can be used.
    pub fn topic(&mut self, partitions: i32, configs: &[(&str, &str)]) -> String {
        let name = fresh_name("t");
        self.create(&name, partitions, configs);
        name
    }

    /// The same with a name of the caller's.
    pub fn create(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs = configs
            .iter()
            .map(|(k, v)| CreatableTopicConfig::default().with_name(text(k)).with_value(Some(text(v))))
            .collect();
        let answer = self.client.call(
            7,
            &CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![
                CreatableTopic::default()
                    .with_name(topic_name(name))
                    .with_num_partitions(partitions)
                    .with_replication_factor(1)
                    .with_configs(configs),
            ]),
        );
        assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0].error_message);
        // Apache Kafka answers before its broker has the metadata.
        while self.topic_id(name).is_none() {}
        for partition in 0..partitions {
            while self.list_offset(name, partition, -1).0 != 0 {}
        }
    }

    /// Replaces a topic's settings; waits until the broker goes by the new ones.
    pub fn set_topic_config(&mut self, topic: &str, configs: &[(&str, &str)]) {
        self.set_config(TOPIC, topic, configs);
        // Apache Kafka tells of a change before its logs go by it, but of the next one only behind that.
        self.set_config(GROUP, &fresh_name("g"), &[("consumer.session.timeout.ms", "46000")]);
    }

    /// Replaces the settings of a resource; waits until they are told.
    fn set_config(&mut self, resource_type: i8, name: &str, configs: &[(&str, &str)]) {
        let settings =
            configs.iter().map(|(k, v)| AlterableConfig::default().with_name(text(k)).with_value(Some(text(v))));
        let resource = AlterConfigsResource::default()
            .with_resource_type(resource_type)
            .with_resource_name(text(name))
            .with_configs(settings.collect());
        let answer = self.client.call(2, &AlterConfigsRequest::default().with_resources(vec![resource]));
        assert_eq!(answer.responses[0].error_code, 0, "{:?}", answer.responses[0].error_message);
        let keys = configs.iter().map(|(key, _)| text(key)).collect();
        let resource = DescribeConfigsResource::default()
            .with_resource_type(resource_type)
            .with_resource_name(text(name))
            .with_configuration_keys(Some(keys));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        loop {
            let answer = self.client.call(4, &request);
            let is_set = |(key, value): &(&str, &str)| {
                answer.results[0].configs.iter().any(|c| &*c.name == *key && c.value.as_deref() == Some(value))
            };
            if configs.iter().all(is_set) {
                return;
            }
        }
    }

    /// The id of a topic.
    pub fn topic_id(&mut self, name: &str) -> Option<Uuid> {
        let answer = self.client.call(
            12,
            &MetadataRequest::default()
                .with_allow_auto_topic_creation(false)
                .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(topic_name(name)))])),
        );
        (answer.topics[0].error_code == 0).then_some(answer.topics[0].topic_id)
    }

    /// A producer id for an idempotent producer.
    pub fn producer_id(&mut self) -> (i64, i16) {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        loop {
            let answer = self.client.call(4, &request);
            // Apache Kafka has no block of ids yet just after its start.
            if answer.error_code != 14 {
                assert_eq!(answer.error_code, 0);
                return (answer.producer_id.0, answer.producer_epoch);
            }
        }
    }

    /// Produces to one partition with acks=all; the partition's answer.
    pub fn produce(&mut self, topic: &str, partition: i32, records: Bytes) -> PartitionProduceResponse {
        let answer = self.client.call(9, &produce_request(topic, -1, &[(partition, Some(records))]));
        answer.responses[0].partition_responses[0].clone()
    }

    /// The leader epoch of partition 0.
    pub fn leader_epoch(&mut self, topic: &str) -> i32 {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
        let answer = self.client.call(12, &MetadataRequest::default().with_topics(Some(vec![topic])));
        answer.topics[0].partitions[0].leader_epoch
    }

    /// ListOffsets of one partition: error, timestamp, offset.
    pub fn list_offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> (i16, i64, i64) {
        let answer = self.client.call(
            10,
            &ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![
                ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![
                    ListOffsetsPartition::default()
                        .with_partition_index(partition)
                        .with_current_leader_epoch(-1)
                        .with_timestamp(timestamp),
                ]),
            ]),
        );
        let partition = &answer.topics[0].partitions[0];
        (partition.error_code, partition.timestamp, partition.offset)
    }
}

/// A batch whose records are compressed.
pub fn compressed(batch: &Batch, codec: Compression) -> Bytes {
    let plain = batch.build();
    let mut packed = BytesMut::from(&plain[..61]);
    packed.extend_from_slice(&compress(codec, &plain[61..]));
    let length = i32::try_from(packed.len() - 12).expect("tests are small");
    packed[8..12].copy_from_slice(&length.to_be_bytes());
    packed[22] |= codec.id() as u8;
    let crc = crc32c::crc32c(&packed[21..]);
    packed[17..21].copy_from_slice(&crc.to_be_bytes());
    packed.freeze()
}

/// A Produce of up to version 12.
pub fn produce_request(topic: &str, acks: i16, partitions: &[(i32, Option<Bytes>)]) -> ProduceRequest {
    ProduceRequest::default().with_acks(acks).with_timeout_ms(5_000).with_topic_data(vec![
        TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(
            partitions
                .iter()
                .map(|(index, records)| {
                    PartitionProduceData::default().with_index(*index).with_records(records.clone())
                })
                .collect(),
        ),
    ])
}

/// A Fetch without a session of one partition, up to version 12.
pub fn fetch_request(topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> FetchRequest {
    FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![fetch_topic(topic, &[(partition, offset)])])
}

/// One topic of a Fetch: partitions with their offsets.
pub fn fetch_topic(topic: &str, partitions: &[(i32, i64)]) -> FetchTopic {
    FetchTopic::default().with_topic(topic_name(topic)).with_partitions(
        partitions
            .iter()
            .map(|(partition, offset)| {
                FetchPartition::default()
                    .with_partition(*partition)
                    .with_current_leader_epoch(-1)
                    .with_last_fetched_epoch(-1)
                    .with_fetch_offset(*offset)
                    .with_log_start_offset(-1)
                    .with_partition_max_bytes(1 << 20)
            })
            .collect(),
    )
}

/// An answer of Fetch in words: error of the answer, then each partition with error, high watermark, values.
pub fn describe_fetch(answer: &FetchResponse) -> String {
    let mut words = format!("error {}", answer.error_code);
    for topic in &answer.responses {
        for partition in &topic.partitions {
            let values = partition.records.as_ref().map_or_else(
                || "null records".to_owned(),
                |bytes| terrace_protocol_tests::batch::values(bytes).join(","),
            );
            words += &format!(
                "; p{} error {} hw {} [{}]",
                partition.partition_index, partition.error_code, partition.high_watermark, values
            );
        }
    }
    words
}
