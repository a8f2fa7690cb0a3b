use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::{DeleteRecordsRequest, FetchRequest};
use terrace_protocol_tests::batch::Batch;
use terrace_protocol_tests::raw_client::RawClient;

use crate::scenario::{Scenario, describe_fetch, fetch_request, produce_request, scenario, topic_name};

pub fn delete(s: &mut Scenario, topic: &str, partitions: &[(i32, i64)]) {
    let partitions = partitions
        .iter()
        .map(|(index, offset)| DeleteRecordsPartition::default().with_partition_index(*index).with_offset(*offset));
    let request = DeleteRecordsRequest::default().with_timeout_ms(5000).with_topics(vec![
        DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(partitions.collect()),
    ]);
    let answer = s.client.call(2, &request);
    let mut rows: Vec<_> = answer
        .topics
        .iter()
        .flat_map(|t| &t.partitions)
        .map(|p| (p.partition_index, p.low_watermark, p.error_code))
        .collect();
    rows.sort_unstable();
    s.say(format!("delete: {rows:?}"));
}

#[test]
fn records_below_an_offset_go_and_reading_them_is_error_1() {
    scenario(
        |s| {
            let t = s.topic(2, &[]);
            s.produce(&t, 0, Batch::of(&["a", "b", "c"]).build());
            s.produce(&t, 0, Batch::of(&["d"]).build());
            delete(s, &t, &[(0, 2), (1, 0), (7, 0)]);
            for offset in [0, 2] {
                let answer = s.client.call(11, &fetch_request(&t, 0, offset, 100));
                let p = &answer.responses[0].partitions[0];
                s.say(format!("{offset}: {} start {}", describe_fetch(&answer), p.log_start_offset));
            }
            let answer = s.produce(&t, 0, Batch::of(&["e"]).build());
            s.say(format!("produce tells start {}", answer.log_start_offset));
            for time in [-2, -1, 0] {
                let found = s.list_offset(&t, 0, time);
                s.say(format!("{time}: {found:?}"));
            }
            // Below the start nothing changes; beyond the end is refused; -1 means the high watermark.
            for offset in [1, 9, -2, -1] {
                delete(s, &t, &[(0, offset)]);
            }
            let found = s.list_offset(&t, 0, -2);
            s.say(format!("earliest {found:?}"));
            delete(s, "no-such-topic", &[(0, 0)]);
            let compacted = s.topic(1, &[("cleanup.policy", "compact")]);
            delete(s, &compacted, &[(0, 0)]);
            let both = s.topic(1, &[("cleanup.policy", "compact,delete")]);
            delete(s, &both, &[(0, 0)]);
        },
        "delete: [(0, 2, 0), (1, 0, 0), (7, -1, 3)]
         0: error 0; p0 error 1 hw -1 [] start -1
         2: error 0; p0 error 0 hw 4 [a,b,c,d] start 2
         produce tells start 2
         -2: (0, -1, 2)
         -1: (0, -1, 5)
         0: (0, 1700000000002, 2)
         delete: [(0, 2, 0)]
         delete: [(0, -1, 1)]
         delete: [(0, -1, 1)]
         delete: [(0, 5, 0)]
         earliest (0, -1, 5)
         delete: [(0, -1, 3)]
         delete: [(0, -1, 44)]
         delete: [(0, 0, 0)]",
    );
}

#[test]
fn a_fetch_that_waits_sees_the_start_move() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            s.produce(&t, 0, Batch::of(&["a", "b"]).build());
            delete(s, &t, &[(0, -1)]);
            let mut other = RawClient::connect(s.address);
            let id = other.send(11, &fetch_request(&t, 0, 2, 20_000));
            s.client.call(9, &produce_request(&t, -1, &[(0, Some(Batch::of(&["c"]).build()))]));
            let answer = other.receive::<FetchRequest>(11, id);
            s.say(format!("{} start {}", describe_fetch(&answer), answer.responses[0].partitions[0].log_start_offset));
        },
        "delete: [(0, 2, 0)]
         error 0; p0 error 0 hw 3 [c] start 2",
    );
}
