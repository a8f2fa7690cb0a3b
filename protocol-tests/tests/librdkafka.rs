//! The crate `rdkafka`, as Rust applications use it: an idempotent producer and a group of consumers.
#![cfg(feature = "librdkafka")]

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use terrace_protocol_tests::broker::{Broker, Options};
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::peers;

async fn produce_and_consume(bootstrap: &str) {
    let topic = fresh_name("rdkafka");
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .create()
        .expect("a producer");
    let sent: BTreeSet<String> = (0..200).map(|i| format!("value {i}")).collect();
    for value in &sent {
        let record = FutureRecord::to(&topic).key("k").payload(value);
        producer.send(record, Duration::from_secs(20)).await.expect("an acknowledgement");
    }
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", fresh_name("group"))
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[&topic]).expect("a subscription");
    let mut read = BTreeSet::new();
    while read.len() < sent.len() {
        let message =
            tokio::time::timeout(Duration::from_secs(30), consumer.recv()).await.expect("in time").expect("a record");
        read.insert(String::from_utf8_lossy(message.payload().expect("a value")).into_owned());
    }
    consumer.commit_consumer_state(CommitMode::Sync).expect("a commit");
    assert_eq!(read, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_and_a_group_work_on_both_brokers() {
    let broker = Broker::start(&Options::new());
    produce_and_consume(&broker.bootstrap()).await;
    if let Some(kafka) = peers::kafka() {
        produce_and_consume(&kafka.to_string()).await;
    }
}
