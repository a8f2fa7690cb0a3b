use std::process::Command;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, IncrementalAlterConfigsRequest, ListOffsetsRequest, ProduceRequest, TransactionalId,
};
use terrace_protocol_tests::batch::Batch;
use terrace_protocol_tests::broker::Options;
use terrace_protocol_tests::compare::{both, fresh_name};
use terrace_protocol_tests::peers::{Peer, have, run, script};
use terrace_protocol_tests::raw_client::RawClient;
use terrace_protocol_tests::requests::{text, topic_name};

const VERIFICATION: &str = "transaction.partition.verification.enable";
const TRANSACTIONAL: i16 = 1 << 4;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
/// What a producer is told while the coordinator that has to consent loads.
const NOT_ENOUGH_REPLICAS: i16 = 19;
const INVALID_TXN_STATE: i16 = 48;
const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
const GHOST: i64 = 987_654_321;
const READ_COMMITTED: i8 = 1;

/// Records of a transaction that no coordinator knows of, as brokers took them before KIP-890, keep readers of committed
/// records waiting for ever. The tool finds them by their age and ends them.
#[test]
fn a_hanging_transaction_is_found_and_aborted_by_kafka_transactions() {
    if !have(&[Peer::Kafka]) {
        return;
    }
    both(
        &Options::new(),
        |address| {
            let mut client = RawClient::connect(address);
            let topic = fresh_name("hanging");
            create(&mut client, &topic);
            verify(&mut client, Some("false"));
            hang(&mut client, &topic);
            verify(&mut client, None);
            let tool = |words: &[&str]| {
                let mut command = script("kafka");
                command.args(["tool", "org.apache.kafka.tools.TransactionsCommand", "--bootstrap-server"]);
                rows(command.arg(address.to_string()).args(words)).replace(&topic, "TOPIC")
            };
            let mut transcript = String::new();
            let mut say = |line: String| transcript += &format!("{line}\n");
            say(format!("committed up to {}", last_stable_offset(&mut client, &topic)));
            say(tool(&["find-hanging", "--topic", &topic]));
            say(tool(&["abort", "--topic", &topic, "--partition", "0", "--start-offset", "0"]));
            say(format!("committed up to {}", last_stable_offset(&mut client, &topic)));
            say(tool(&["find-hanging", "--topic", &topic]));
            transcript
        },
        // Topic, Partition, ProducerId, ProducerEpoch, CoordinatorEpoch, StartOffset; then LastTimestamp and minutes.
        "committed up to 0
         Topic Partition ProducerId ProducerEpoch CoordinatorEpoch StartOffset
         TOPIC 0 987654321 3 -1 0

         committed up to 3
         Topic Partition ProducerId ProducerEpoch CoordinatorEpoch StartOffset",
    );
}

/// The first six columns of what a tool prints.
fn rows(command: &mut Command) -> String {
    let columns = |line: &str| line.split_whitespace().take(6).collect::<Vec<_>>().join(" ");
    run(command).lines().map(columns).collect::<Vec<_>>().join("\n")
}

fn create(client: &mut RawClient, topic: &str) {
    let named =
        CreatableTopic::default().with_name(topic_name(topic)).with_num_partitions(1).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![named]);
    assert_eq!(client.call(7, &request).topics[0].error_code, 0);
}

/// Sets whether a transaction's first batch needs its coordinator's consent, or gives the setting back.
fn verify(client: &mut RawClient, value: Option<&str>) {
    let config = AlterableConfig::default()
        .with_name(text(VERIFICATION))
        .with_config_operation(i8::from(value.is_none()))
        .with_value(value.map(text));
    let resource =
        AlterConfigsResource::default().with_resource_type(4).with_resource_name(text("1")).with_configs(vec![config]);
    let answer = client.call(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(answer.responses[0].error_code, 0, "{:?}", answer.responses[0].error_message);
}

/// Two records of an hour ago in a transaction of which nobody knows.
fn hang(client: &mut RawClient, topic: &str) {
    let hour_ago = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as i64 - 3_600_000;
    let mut batch = Batch::of(&["a", "b"]).from_producer(GHOST, 3, 0).at(hour_ago);
    batch.attributes = TRANSACTIONAL;
    let records: Bytes = batch.build();
    let partition = PartitionProduceData::default().with_index(0).with_records(Some(records));
    let request = ProduceRequest::default()
        .with_transactional_id(Some(TransactionalId(text("ghost"))))
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![
            TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![partition]),
        ]);
    loop {
        let answer = client.call(9, &request);
        match answer.responses[0].partition_responses[0].error_code {
            0 => return,
            // The topic and the configuration may be known a moment later.
            UNKNOWN_TOPIC_OR_PARTITION | NOT_LEADER_OR_FOLLOWER => {}
            NOT_ENOUGH_REPLICAS | INVALID_TXN_STATE | INVALID_PRODUCER_ID_MAPPING => {}
            error => panic!("error {error}"),
        }
    }
}

fn last_stable_offset(client: &mut RawClient, topic: &str) -> i64 {
    let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(-1);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(READ_COMMITTED)
        .with_topics(vec![ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition])]);
    client.call(7, &request).topics[0].partitions[0].offset
}
