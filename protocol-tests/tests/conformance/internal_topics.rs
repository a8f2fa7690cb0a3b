//! The internal topics as Kafka's console consumer shows them through its formatters: the same records on both brokers.

use std::net::SocketAddr;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, DeleteGroupsRequest, DescribeTransactionsRequest, EndTxnRequest,
    FindCoordinatorRequest, InitProducerIdRequest, LeaveGroupRequest, TransactionalId, TxnOffsetCommitRequest,
};
use serde_json::Value;
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::peers::{Peer, have, run, script};

use crate::group_scenario::{commit, group, stable};
use crate::scenario::{Scenario, scenario, text, topic_name};

/// Longer than the consumer ever waits for the next record, on a busy machine too.
const NOTHING_MORE_MS: &str = "10000";

/// What a formatter prints of one name, line by line, with that name as `name` and without what differs between runs.
fn shown(address: SocketAddr, topic: &str, formatter: &str, names: &[(&str, &str)]) -> Vec<String> {
    let formatter = format!("org.apache.kafka.tools.consumer.{formatter}");
    let printed = run(script("kafka").args(["console-consumer", "--bootstrap-server", &address.to_string()]).args([
        "--topic",
        topic,
        "--from-beginning",
        "--formatter",
        &formatter,
        "--timeout-ms",
        NOTHING_MORE_MS,
    ]));
    let records = serde_json::Deserializer::from_str(&printed).into_iter::<Value>().map(|record| record.expect("JSON"));
    let about_us = |record: &Value| names.iter().any(|(name, _)| record["key"].to_string().contains(name));
    let line = |record: Value| {
        let mut line = comparable("", record).to_string();
        for (name, plain) in names {
            line = line.replace(name, plain);
        }
        line
    };
    records.filter(about_us).map(line).collect()
}

/// Without moments, ids that the broker gave, and places that follow from random names.
fn comparable(name: &str, value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name.clone(), comparable(&name, value))).collect()
        }
        Value::Array(elements) => elements.into_iter().map(|element| comparable(name, element)).collect(),
        Value::Number(number) if name.to_lowercase().contains("timestamp") && number.as_i64() != Some(-1) => {
            "then".into()
        }
        Value::Number(number) if name.to_lowercase().ends_with("producerid") && number.as_i64() != Some(-1) => {
            "id".into()
        }
        Value::Number(_) if name == "partitionIds" => "some".into(),
        Value::String(_) if matches!(name, "memberId" | "leader" | "topicId" | "subscription") => "some".into(),
        other => other,
    }
}

#[test]
fn the_formatters_print_the_internal_topics_alike() {
    if !have(&[Peer::Kafka]) {
        return;
    }
    scenario(
        |s| {
            let (name, id) = (fresh_name("g"), fresh_name("t"));
            let topic = s.topic(1, &[]);
            a_group_lives(s, &name, &topic);
            transactions(s, &id, &name, &topic);
            let delete = DeleteGroupsRequest::default().with_groups_names(vec![group(&name)]);
            assert_eq!(s.client.call(2, &delete).results[0].error_code, 0);
            let names = [(name.as_str(), "GROUP"), (id.as_str(), "TRANSACTION"), (topic.as_str(), "TOPIC")];
            let formatters = [
                ("__consumer_offsets", "GroupMetadataMessageFormatter"),
                ("__consumer_offsets", "OffsetsMessageFormatter"),
                ("__transaction_state", "TransactionLogMessageFormatter"),
            ];
            let address = s.address;
            let printed = std::thread::scope(|scope| {
                formatters
                    .map(|(topic, formatter)| scope.spawn(move || shown(address, topic, formatter, &names)))
                    .map(|printed| printed.join().expect("no panic"))
            });
            for line in printed.into_iter().flatten() {
                s.say(line);
            }
        },
        EXPECTED,
    );
}

/// One member comes, commits and goes.
fn a_group_lives(s: &mut Scenario, name: &str, topic: &str) {
    let (generation, member) = stable(s, name, &[topic]);
    assert_eq!(commit(&mut s.client, name, generation, &member, topic, 5), 0);
    let leave = LeaveGroupRequest::default()
        .with_group_id(group(name))
        .with_members(vec![MemberIdentity::default().with_member_id(text(&member))]);
    assert_eq!(s.client.call(4, &leave).error_code, 0);
}

/// One commits an offset of the group, one that writes to the topic is aborted.
fn transactions(s: &mut Scenario, id: &str, name: &str, topic: &str) {
    let find = FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![text(id)]);
    while s.client.call(4, &find).coordinators[0].error_code != 0 {}
    let id = TransactionalId(text(id));
    let init = InitProducerIdRequest::default()
        .with_transactional_id(Some(id.clone()))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    let producer = loop {
        let answer = s.client.call(4, &init);
        if answer.error_code == 0 {
            break answer.producer_id;
        }
    };
    let add = AddOffsetsToTxnRequest::default()
        .with_transactional_id(id.clone())
        .with_producer_id(producer)
        .with_producer_epoch(0)
        .with_group_id(group(name));
    assert_eq!(s.client.call(3, &add).error_code, 0);
    let offset = TxnOffsetCommitRequestPartition::default()
        .with_committed_offset(9)
        .with_committed_leader_epoch(-1)
        .with_committed_metadata(Some(text("in a transaction")));
    let commit = TxnOffsetCommitRequest::default()
        .with_transactional_id(id.clone())
        .with_producer_id(producer)
        .with_producer_epoch(0)
        .with_group_id(group(name))
        .with_generation_id(-1)
        .with_topics(vec![
            TxnOffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![offset]),
        ]);
    assert_eq!(s.client.call(3, &commit).topics[0].partitions[0].error_code, 0);
    end(s, &id, producer, true);
    let add = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id.clone())
        .with_v3_and_below_producer_id(producer)
        .with_v3_and_below_producer_epoch(0)
        .with_v3_and_below_topics(vec![
            AddPartitionsToTxnTopic::default().with_name(topic_name(topic)).with_partitions(vec![0]),
        ]);
    assert_eq!(s.client.call(3, &add).results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code, 0);
    end(s, &id, producer, false);
}

/// Ends the transaction and waits until its markers are written.
fn end(s: &mut Scenario, id: &TransactionalId, producer: kafka_protocol::messages::ProducerId, committed: bool) {
    let end = EndTxnRequest::default()
        .with_transactional_id(id.clone())
        .with_producer_id(producer)
        .with_producer_epoch(0)
        .with_committed(committed);
    assert_eq!(s.client.call(3, &end).error_code, 0);
    let describe = DescribeTransactionsRequest::default().with_transactional_ids(vec![id.clone()]);
    while !s.client.call(0, &describe).transaction_states[0].transaction_state.starts_with("Complete") {}
}

/// First the group, then its offsets, then the transactions.
const EXPECTED: &str = r#"
         {"key":{"data":{"group":"GROUP"},"type":2},"value":{"data":{"currentStateTimestamp":"then","generation":0,"leader":null,"members":[],"protocol":null,"protocolType":""},"version":3}}
         {"key":{"data":{"group":"GROUP"},"type":2},"value":{"data":{"currentStateTimestamp":"then","generation":1,"leader":"some","members":[{"assignment":"YWxs","clientHost":"/127.0.0.1","clientId":"raw-client","groupInstanceId":null,"memberId":"some","rebalanceTimeout":10000,"sessionTimeout":10000,"subscription":"some"}],"protocol":"range","protocolType":"consumer"},"version":3}}
         {"key":{"data":{"group":"GROUP"},"type":2},"value":{"data":{"currentStateTimestamp":"then","generation":2,"leader":null,"members":[],"protocol":null,"protocolType":"consumer"},"version":3}}
         {"key":{"data":{"group":"GROUP"},"type":2},"value":null}
         {"key":{"data":{"group":"GROUP","partition":0,"topic":"TOPIC"},"type":1},"value":{"data":{"commitTimestamp":"then","leaderEpoch":-1,"metadata":"m","offset":5,"topicId":"some"},"version":4}}
         {"key":{"data":{"group":"GROUP","partition":0,"topic":"TOPIC"},"type":1},"value":{"data":{"commitTimestamp":"then","leaderEpoch":-1,"metadata":"in a transaction","offset":9},"version":4}}
         {"key":{"data":{"group":"GROUP","partition":0,"topic":"TOPIC"},"type":1},"value":null}
         {"key":{"data":{"transactionalId":"TRANSACTION"},"type":0},"value":{"data":{"previousProducerId":"id","producerEpoch":0,"producerId":"id","transactionLastUpdateTimestampMs":"then","transactionPartitions":null,"transactionStartTimestampMs":-1,"transactionStatus":0,"transactionTimeoutMs":60000},"version":1}}
         {"key":{"data":{"transactionalId":"TRANSACTION"},"type":0},"value":{"data":{"previousProducerId":"id","producerEpoch":0,"producerId":"id","transactionLastUpdateTimestampMs":"then","transactionPartitions":[{"partitionIds":["some"],"topic":"__consumer_offsets"}],"transactionStartTimestampMs":"then","transactionStatus":1,"transactionTimeoutMs":60000},"version":1}}
         {"key":{"data":{"transactionalId":"TRANSACTION"},"type":0},"value":{"data":{"previousProducerId":"id","producerEpoch":0,"producerId":"id","transactionLastUpdateTimestampMs":"then","transactionPartitions":[{"partitionIds":["some"],"topic":"__consumer_offsets"}],"transactionStartTimestampMs":"then","transactionStatus":2,"transactionTimeoutMs":60000},"version":1}}
         {"key":{"data":{"transactionalId":"TRANSACTION"},"type":0},"value":{"data":{"previousProducerId":"id","producerEpoch":0,"producerId":"id","transactionLastUpdateTimestampMs":"then","transactionPartitions":[],"transactionStartTimestampMs":"then","transactionStatus":4,"transactionTimeoutMs":60000},"version":1}}
         {"key":{"data":{"transactionalId":"TRANSACTION"},"type":0},"value":{"data":{"previousProducerId":"id","producerEpoch":0,"producerId":"id","transactionLastUpdateTimestampMs":"then","transactionPartitions":[{"partitionIds":["some"],"topic":"TOPIC"}],"transactionStartTimestampMs":"then","transactionStatus":1,"transactionTimeoutMs":60000},"version":1}}
         {"key":{"data":{"transactionalId":"TRANSACTION"},"type":0},"value":{"data":{"previousProducerId":"id","producerEpoch":0,"producerId":"id","transactionLastUpdateTimestampMs":"then","transactionPartitions":[{"partitionIds":["some"],"topic":"TOPIC"}],"transactionStartTimestampMs":"then","transactionStatus":3,"transactionTimeoutMs":60000},"version":1}}
         {"key":{"data":{"transactionalId":"TRANSACTION"},"type":0},"value":{"data":{"previousProducerId":"id","producerEpoch":0,"producerId":"id","transactionLastUpdateTimestampMs":"then","transactionPartitions":[],"transactionStartTimestampMs":"then","transactionStatus":5,"transactionTimeoutMs":60000},"version":1}}"#;
