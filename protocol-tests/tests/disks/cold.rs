//! A disk that takes long to give back what the page cache has lost: readers wait for it, as in Apache Kafka.

use std::time::{Duration, Instant};

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, TopicName};
use terrace_protocol_tests::broker::Broker;
use terrace_protocol_tests::checkers::history::History;
use terrace_protocol_tests::raw_client::RawClient;

use super::{Disks, text};

/// What the disk takes: longer than the Fetch says it waits, and than a Fetch of the bucket would.
const DISK: Duration = Duration::from_millis(1500);

#[test]
fn local_records_are_waited_for_as_long_as_the_disk_takes() {
    let disks = Disks::new();
    let broker = Broker::start(&disks.options());
    History::begin(broker.kafka, "old", 1, &[]).write(broker.kafka, 1, 10).expect("the broker is up");
    disks.cold(&broker.data().join("log"), DISK);

    let partition = FetchPartition::default()
        .with_current_leader_epoch(-1)
        .with_last_fetched_epoch(-1)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(TopicName(text("old"))).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_wait_ms(100)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    let begun = Instant::now();
    let answer = RawClient::connect(broker.kafka).call(11, &request);
    let partition = &answer.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.high_watermark), (0, 10));
    assert!(partition.records.as_ref().is_some_and(|records| !records.is_empty()), "the first answer brings them");
    assert!(begun.elapsed() >= DISK, "they come from the disk");
}
