//! A disk that takes long to give back what the page cache has lost: readers wait for it, as in Apache Kafka.

use std::time::{Duration, Instant};

use terrace_protocol_tests::broker::Broker;
use terrace_protocol_tests::checkers::history::History;
use terrace_protocol_tests::raw_client::RawClient;
use terrace_protocol_tests::requests::fetch;

use super::Disks;

/// What the disk takes: longer than the Fetch says it waits, and than a Fetch of the bucket would.
const DISK: Duration = Duration::from_millis(1500);

#[test]
fn local_records_are_waited_for_as_long_as_the_disk_takes() {
    let disks = Disks::new();
    let broker = Broker::start(&disks.options());
    History::begin(broker.kafka, "old", 1, &[]).write(broker.kafka, 1, 10).expect("the broker is up");
    disks.cold(&broker.data().join("log"), DISK);

    let request = fetch("old", 0, 0).with_max_wait_ms(100).with_min_bytes(1).with_max_bytes(1 << 20);
    let begun = Instant::now();
    let answer = RawClient::connect(broker.kafka).call(11, &request);
    let partition = &answer.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.high_watermark), (0, 10));
    assert!(partition.records.as_ref().is_some_and(|records| !records.is_empty()), "the first answer brings them");
    assert!(begun.elapsed() >= DISK, "they come from the disk");
}
