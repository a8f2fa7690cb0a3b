//! What a topic asks of single records (keys, times), and how an answer names those that broke a rule.

use bytes::Bytes;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use terrace::protocol::compression::Compression;
use terrace_protocol_tests::batch::Batch;
use terrace_protocol_tests::broker::Options;

use crate::scenario::{Scenario, compressed, fetch_request, produce_request, scenario, scenario_of_ours};

/// Far enough for any bound, and never near one.
const PAST: i64 = 1_000_000_000_000;
const FUTURE: i64 = 9_000_000_000_000;

/// An answer with its record errors, without the topic's name and the moment of the test.
fn describe(answer: &PartitionProduceResponse, topic: &str) -> String {
    let plain = |text: &str| {
        let mut text = text.replace(topic, "TOPIC");
        // Each has its own words for a record.
        if let Some((front, behind)) = text.split_once("in message ") {
            text = format!("{front}in message RECORD{}", behind.split_once(')').map_or("", |(_, rest)| rest));
        }
        // The accepted range moves with the clock.
        let Some((front, behind)) = text.split_once("should be within [") else { return text };
        let rest = behind.split_once(']').map_or("", |(_, rest)| rest);
        format!("{front}should be within RANGE{rest}")
    };
    let mut words = format!("error {} base {}", answer.error_code, answer.base_offset);
    if let Some(message) = &answer.error_message {
        words += &format!(" {:?}", plain(message));
    }
    for record in &answer.record_errors {
        let message = record.batch_index_error_message.as_deref().map(plain);
        words += &format!("\n {}: {:?}", record.batch_index, message.unwrap_or_default());
    }
    words
}

fn say_produced(s: &mut Scenario, topic: &str, records: Bytes) {
    let answer = s.produce(topic, 0, records);
    s.say(describe(&answer, topic));
}

fn at(timestamps: &[i64]) -> Batch {
    let deltas = timestamps.iter().map(|time| time - timestamps[0]).collect();
    let keyed: Vec<_> = timestamps.iter().map(|_| ("k", "v")).collect();
    Batch { timestamp_deltas: Some(deltas), ..Batch::keyed(&keyed).at(timestamps[0]) }
}

#[test]
fn records_out_of_the_time_bounds_are_named() {
    scenario(
        |s| {
            let now = 1_700_000_000_000;
            let after = s.topic(1, &[("message.timestamp.after.max.ms", "1000")]);
            say_produced(s, &after, at(&[now, FUTURE, now + 1, FUTURE + 7]).build());
            say_produced(s, &after, compressed(&at(&[now, FUTURE]), Compression::Gzip));
            say_produced(s, &after, at(&[now, PAST]).build());
            let before = s.topic(1, &[("message.timestamp.before.max.ms", "1000")]);
            say_produced(s, &before, at(&[PAST, PAST + 1]).build());
            // No time is no wrong time.
            say_produced(s, &before, Batch::of(&["a"]).at(-1).build());
            // The broker's time is never wrong, whatever the producer's.
            let broker = [("message.timestamp.type", "LogAppendTime"), ("message.timestamp.before.max.ms", "1000")];
            let broker = s.topic(1, &broker);
            say_produced(s, &broker, at(&[PAST, FUTURE]).build());
        },
        r#"error 32 base -1 "One or more records have been rejected due to invalid timestamp"
           1: "Timestamp 9000000000000 of message with offset 1 is out of range. The timestamp should be within RANGE"
           3: "Timestamp 9000000000007 of message with offset 3 is out of range. The timestamp should be within RANGE"
           error 32 base -1 "One or more records have been rejected due to invalid timestamp"
           1: "Timestamp 9000000000000 of message with offset 1 is out of range. The timestamp should be within RANGE"
           error 0 base 0
           error 32 base -1 "One or more records have been rejected due to invalid timestamp"
           0: "Timestamp 1000000000000 of message with offset 0 is out of range. The timestamp should be within RANGE"
           1: "Timestamp 1000000000001 of message with offset 1 is out of range. The timestamp should be within RANGE"
           error 0 base 0
           error 0 base 0"#,
    );
}

#[test]
fn a_keyless_record_of_a_compacted_topic_is_named_before_its_time() {
    scenario(
        |s| {
            let t = s.topic(1, &[("cleanup.policy", "compact")]);
            let mut mixed = Batch::keyed(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")]);
            for place in [1, 2, 3, 4] {
                mixed.records[place].0 = None;
            }
            say_produced(s, &t, mixed.build());
            say_produced(s, &t, compressed(&mixed, Compression::Zstd));
            mixed.timestamp_deltas = Some(vec![FUTURE, FUTURE, 0, 0, 0]);
            say_produced(s, &t, mixed.build());
            let answer = s.client.call(7, &produce_request(&t, -1, &[(0, Some(mixed.build()))]));
            s.say(describe(&answer.responses[0].partition_responses[0], &t));
            say_produced(s, &t, Batch::keyed(&[("a", "-"), ("", "1")]).build());
        },
        r#"error 87 base -1 "One or more records have been rejected due to 4 record errors in total, and only showing the first three errors at most: [RecordError(batchIndex=1, message='Compacted topic cannot accept message without key in topic partition TOPIC-0'), RecordError(batchIndex=2, message='Compacted topic cannot accept message without key in topic partition TOPIC-0'), RecordError(batchIndex=3, message='Compacted topic cannot accept message without key in topic partition TOPIC-0')]"
           1: "Compacted topic cannot accept message without key in topic partition TOPIC-0"
           2: "Compacted topic cannot accept message without key in topic partition TOPIC-0"
           3: "Compacted topic cannot accept message without key in topic partition TOPIC-0"
           4: "Compacted topic cannot accept message without key in topic partition TOPIC-0"
           error 87 base -1 "One or more records have been rejected due to 4 record errors in total, and only showing the first three errors at most: [RecordError(batchIndex=1, message='Compacted topic cannot accept message without key in topic partition TOPIC-0'), RecordError(batchIndex=2, message='Compacted topic cannot accept message without key in topic partition TOPIC-0'), RecordError(batchIndex=3, message='Compacted topic cannot accept message without key in topic partition TOPIC-0')]"
           1: "Compacted topic cannot accept message without key in topic partition TOPIC-0"
           2: "Compacted topic cannot accept message without key in topic partition TOPIC-0"
           3: "Compacted topic cannot accept message without key in topic partition TOPIC-0"
           4: "Compacted topic cannot accept message without key in topic partition TOPIC-0"
           error 32 base -1 "One or more records have been rejected due to invalid timestamp"
           0: "Timestamp 10700000000000 of message with offset 0 is out of range. The timestamp should be within RANGE"
           1: "Compacted topic cannot accept message without key in topic partition TOPIC-0"
           2: "Compacted topic cannot accept message without key in topic partition TOPIC-0"
           3: "Compacted topic cannot accept message without key in topic partition TOPIC-0"
           4: "Compacted topic cannot accept message without key in topic partition TOPIC-0"
           error 32 base -1
           error 0 base 0"#,
    );
}

#[test]
fn the_bit_of_the_broker_s_time_is_not_the_producer_s() {
    scenario(
        |s| {
            for kind in ["LogAppendTime", "CreateTime"] {
                let t = s.topic(1, &[("message.timestamp.type", kind)]);
                say_produced(s, &t, Batch { attributes: 8, ..Batch::of(&["a"]) }.at(-1).build());
                if kind == "LogAppendTime" {
                    say_produced(s, &t, Batch { attributes: 8, ..Batch::of(&["a", "b"]) }.build());
                }
            }
        },
        r#"error 32 base -1 "One or more records have been rejected due to invalid timestamp"
           0: "Invalid timestamp type in message RECORD. Producer should not set timestamp type to LogAppendTime."
           error 32 base -1 "One or more records have been rejected due to invalid timestamp"
           0: "Invalid timestamp type in message RECORD. Producer should not set timestamp type to LogAppendTime."
           1: "Invalid timestamp type in message RECORD. Producer should not set timestamp type to LogAppendTime."
           error 32 base -1 "One or more records have been rejected due to invalid timestamp"
           0: "Invalid timestamp type in message RECORD. Producer should not set timestamp type to LogAppendTime.""#,
    );
}

/// Apache Kafka takes the bit away without a word.
#[test]
fn the_bit_of_the_broker_s_time_is_refused_where_the_producer_s_counts() {
    scenario_of_ours(
        &Options::new(),
        |s| {
            let t = s.topic(1, &[]);
            let answer = s.produce(&t, 0, Batch { attributes: 8, ..Batch::of(&["a"]) }.build());
            s.say(format!("error {} base {}", answer.error_code, answer.base_offset));
        },
        "error 32 base -1",
    );
}

/// What a topic's records say of their time when its type changes.
#[test]
fn a_change_of_the_timestamp_type_counts_from_the_next_batch_on() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            s.produce(&t, 0, Batch::of(&["a"]).build());
            s.set_topic_config(&t, &[("message.timestamp.type", "LogAppendTime")]);
            s.produce(&t, 0, Batch::of(&["b"]).build());
            s.set_topic_config(&t, &[("message.timestamp.type", "CreateTime")]);
            s.produce(&t, 0, Batch::of(&["c"]).build());
            // Each lies in a segment of its own, as far as their times are apart.
            for offset in 0..3 {
                let answer = s.client.call(11, &fetch_request(&t, 0, offset, 1000));
                let batch = answer.responses[0].partitions[0].records.clone().expect("records");
                let max = i64::from_be_bytes(batch[35..43].try_into().expect("eight bytes"));
                s.say(format!("bit {} producer's time {}", batch[22] & 8, max == 1_700_000_000_000));
            }
        },
        "bit 0 producer's time true
         bit 8 producer's time false
         bit 0 producer's time true",
    );
}
