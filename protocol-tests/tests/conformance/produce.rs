use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use rstest::rstest;
use terrace::protocol::compression::Compression;
use terrace_protocol_tests::batch::Batch;
use terrace_protocol_tests::broker::Options;
use uuid::Uuid;

use crate::group_scenario::find;
use crate::scenario::{Scenario, compressed, fetch_request, produce_request, scenario, scenario_of_ours, topic_name};

#[test]
fn an_append_answers_its_base_offset() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            for values in [&["a", "b"][..], &["c"]] {
                let answer = s.produce(&t, 0, Batch::of(values).build());
                s.say(format!(
                    "error {} base {} time {} start {}",
                    answer.error_code, answer.base_offset, answer.log_append_time_ms, answer.log_start_offset
                ));
            }
        },
        "error 0 base 0 time -1 start 0
         error 0 base 2 time -1 start 0",
    );
}

/// What is sent to one partition, and the error it must meet.
#[rstest]
#[case::wrong_crc(Batch { crc_error: 1, ..Batch::of(&["a"]) }.build(), 2)]
#[case::wrong_magic(Batch { magic: 1, ..Batch::of(&["a"]) }.build(), 87)]
#[case::count_disagrees(Batch { records_count: Some(2), ..Batch::of(&["a"]) }.build(), 87)]
#[case::delta_disagrees(Batch { last_offset_delta: Some(5), ..Batch::of(&["a"]) }.build(), 87)]
#[case::no_records(Batch { records_count: Some(0), last_offset_delta: Some(-1), ..Batch::default() }.build(), 87)]
#[case::control_bit(Batch { attributes: 0x20, ..Batch::of(&["a"]) }.build(), 87)]
#[case::two_batches(two_batches(), 87)]
#[case::sequence_without_id(Batch { base_sequence: 5, ..Batch::of(&["a"]) }.build(), 0)]
#[case::empty_records(Bytes::new(), 87)]
fn a_bad_batch_is_refused(#[case] records: Bytes, #[case] error: i16) {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let answer = s.produce(&t, 0, records.clone());
            s.say(format!("error {} base {}", answer.error_code, answer.base_offset));
        },
        &format!("error {error} base {}", if error == 0 { 0 } else { -1 }),
    );
}

fn two_batches() -> Bytes {
    let mut both = BytesMut::from(&Batch::of(&["a"]).build()[..]);
    both.extend_from_slice(&Batch::of(&["b"]).build());
    both.freeze()
}

#[test]
fn each_partition_has_a_result_of_its_own() {
    scenario(
        |s| {
            let t = s.topic(2, &[]);
            let request = produce_request(
                &t,
                -1,
                &[
                    (0, Some(Batch::of(&["a"]).build())),
                    (1, Some(Batch { crc_error: 7, ..Batch::of(&["b"]) }.build())),
                    (9, Some(Batch::of(&["c"]).build())),
                ],
            );
            let answer = s.client.call(9, &request);
            let mut results: Vec<_> = answer.responses.iter().flat_map(|t| &t.partition_responses).collect();
            results.sort_by_key(|p| p.index);
            for p in results {
                s.say(format!("p{} error {} base {}", p.index, p.error_code, p.base_offset));
            }
        },
        "p0 error 0 base 0
         p1 error 2 base -1
         p9 error 3 base -1",
    );
}

#[test]
fn a_batch_over_max_message_bytes_as_it_is_sent_is_refused() {
    scenario(
        |s| {
            let exact = Batch::of(&["0123456789"]).build();
            for limit in [exact.len(), exact.len() - 1] {
                let t = s.topic(1, &[("max.message.bytes", &limit.to_string())]);
                let answer = s.produce(&t, 0, exact.clone());
                s.say(format!("error {} base {}", answer.error_code, answer.base_offset));
            }
        },
        "error 0 base 0
         error 10 base -1",
    );
}

#[test]
fn acks_other_than_minus_1_0_and_1_are_error_21() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let answer = s.client.call(9, &produce_request(&t, 2, &[(0, Some(Batch::of(&["a"]).build()))]));
            let partition = &answer.responses[0].partition_responses[0];
            s.say(format!("error {} base {}", partition.error_code, partition.base_offset));
        },
        "error 21 base -1",
    );
}

#[test]
fn acks_0_gets_no_answer_and_an_error_closes_the_connection() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            s.client.send(9, &produce_request(&t, 0, &[(0, Some(Batch::of(&["a"]).build()))]));
            let answer = s.produce(&t, 0, Batch::of(&["b"]).build());
            s.say(format!("the next answer is the next request's: base {}", answer.base_offset));
            s.client.send(9, &produce_request(&t, 0, &[(7, Some(Batch::of(&["c"]).build()))]));
            let left = s.client.read_until_closed();
            s.say(format!("closed after {} bytes", left.len()));
        },
        "the next answer is the next request's: base 1
         closed after 0 bytes",
    );
}

#[test]
fn sequences_are_checked_and_duplicates_get_their_first_offset() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let (id, epoch) = s.producer_id();
            let send = |s: &mut Scenario, what: &str, epoch: i16, sequence: i32, values: &[&str]| {
                let a = s.produce(&t, 0, Batch::of(values).from_producer(id, epoch, sequence).build());
                s.say(format!("{what}: error {} base {}", a.error_code, a.base_offset));
            };
            send(s, "first", epoch, 0, &["a", "b"]);
            send(s, "again", epoch, 0, &["a", "b"]);
            send(s, "gap", epoch, 3, &["x"]);
            for i in 0..5 {
                send(s, "next", epoch, 2 + i, &["c"]);
            }
            send(s, "one of the last five", epoch, 3, &["c"]);
            send(s, "older than the last five", epoch, 0, &["a", "b"]);
            send(s, "overlapping", epoch, 5, &["c", "d"]);
            send(s, "new epoch not at 0", epoch + 1, 7, &["e"]);
            send(s, "new epoch at 0", epoch + 1, 0, &["e"]);
            send(s, "old epoch", epoch, 7, &["f"]);
        },
        "first: error 0 base 0
         again: error 0 base 0
         gap: error 45 base -1
         next: error 0 base 2
         next: error 0 base 3
         next: error 0 base 4
         next: error 0 base 5
         next: error 0 base 6
         one of the last five: error 0 base 3
         older than the last five: error 45 base -1
         overlapping: error 45 base -1
         new epoch not at 0: error 45 base -1
         new epoch at 0: error 0 base 7
         old epoch: error 47 base -1",
    );
}

#[test]
fn an_unknown_producer_may_begin_anywhere_and_its_sequence_wraps_to_0() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let (id, epoch) = s.producer_id();
            for (sequence, values) in [(i32::MAX - 1, &["a", "b"][..]), (0, &["c"]), (1, &["d"])] {
                let a = s.produce(&t, 0, Batch::of(values).from_producer(id, epoch, sequence).build());
                s.say(format!("{sequence}: error {} base {}", a.error_code, a.base_offset));
            }
            // One batch across the wrap.
            let (id, epoch) = s.producer_id();
            for (sequence, values) in [(i32::MAX, &["a", "b"][..]), (1, &["c"])] {
                let a = s.produce(&t, 0, Batch::of(values).from_producer(id, epoch, sequence).build());
                s.say(format!("{sequence}: error {} base {}", a.error_code, a.base_offset));
            }
        },
        "2147483646: error 0 base 0
         0: error 0 base 2
         1: error 0 base 3
         2147483647: error 0 base 4
         1: error 0 base 6",
    );
}

#[test]
fn log_append_time_is_answered_and_stored() {
    scenario(
        |s| {
            let t = s.topic(1, &[("message.timestamp.type", "LogAppendTime")]);
            let a = s.produce(&t, 0, Batch::of(&["a", "b"]).build());
            let fetched = s.client.call(11, &fetch_request(&t, 0, 0, 1000));
            let records = fetched.responses[0].partitions[0].records.clone().expect("records");
            let max = i64::from_be_bytes(records[35..43].try_into().expect("eight bytes"));
            s.say(format!(
                "recent {} stored {} bit {} crc {}",
                a.log_append_time_ms > 1_700_000_000_000,
                max == a.log_append_time_ms,
                records[22] & 8,
                crc32c::crc32c(&records[21..]) == u32::from_be_bytes(records[17..21].try_into().expect("four bytes")),
            ));
        },
        "recent true stored true bit 8 crc true",
    );
}

#[rstest]
#[case("message.timestamp.before.max.ms", 1_000_000_000_000)]
#[case("message.timestamp.after.max.ms", 4_000_000_000_000)]
fn a_timestamp_out_of_bounds_is_error_32(#[case] key: &str, #[case] timestamp: i64) {
    scenario(
        |s| {
            let t = s.topic(1, &[(key, "3600000")]);
            let a = s.produce(&t, 0, Batch::of(&["a"]).at(timestamp).build());
            s.say(format!("error {} base {}", a.error_code, a.base_offset));
        },
        "error 32 base -1",
    );
}

#[test]
fn a_compacted_topic_wants_keys() {
    scenario(
        |s| {
            let t = s.topic(1, &[("cleanup.policy", "compact")]);
            let a = s.produce(&t, 0, Batch::of(&["a"]).build());
            s.say(format!("error {} base {} records {}", a.error_code, a.base_offset, a.record_errors.len()));
        },
        "error 87 base -1 records 1",
    );
}

#[test]
fn min_insync_replicas_is_bounded_by_the_replicas_there_are() {
    scenario(
        |s| {
            let t = s.topic(1, &[("min.insync.replicas", "2")]);
            let a = s.produce(&t, 0, Batch::of(&["a"]).build());
            s.say(format!("all: error {} base {}", a.error_code, a.base_offset));
            let answer = s.client.call(9, &produce_request(&t, 1, &[(0, Some(Batch::of(&["a"]).build()))]));
            let a = &answer.responses[0].partition_responses[0];
            s.say(format!("one: error {} base {}", a.error_code, a.base_offset));
        },
        "all: error 0 base 0
         one: error 0 base 1",
    );
}

#[test]
fn topic_ids_take_the_place_of_names_from_version_13() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let id = s.topic_id(&t).expect("it exists");
            for id in [id, Uuid::from_u128(77)] {
                let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(5000).with_topic_data(vec![
                    TopicProduceData::default().with_topic_id(id).with_partition_data(vec![
                        PartitionProduceData::default().with_index(0).with_records(Some(Batch::of(&["a"]).build())),
                    ]),
                ]);
                let answer = s.client.call(13, &request);
                let p = &answer.responses[0].partition_responses[0];
                s.say(format!("error {} base {}", p.error_code, p.base_offset));
            }
        },
        "error 0 base 0
         error 100 base -1",
    );
}

#[rstest]
#[case(3)]
#[case(5)]
#[case(8)]
#[case(9)]
#[case(12)]
fn every_version_that_clients_use_appends(#[case] version: i16) {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let answer = s.client.call(version, &produce_request(&t, 1, &[(0, Some(Batch::of(&["a"]).build()))]));
            let p = &answer.responses[0].partition_responses[0];
            s.say(format!(
                "{} error {} base {}",
                answer.responses[0].name == topic_name(&t),
                p.error_code,
                p.base_offset
            ));
        },
        "true error 0 base 0",
    );
}

#[test]
fn answers_come_in_the_order_of_their_requests() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            s.client.set_read_timeout(Duration::from_secs(10));
            let sent: Vec<_> = (0..20)
                .map(|i| {
                    let value = format!("v{i}");
                    s.client.send(9, &produce_request(&t, -1, &[(0, Some(Batch::of(&[&value]).build()))]))
                })
                .collect();
            let bases: Vec<_> = sent
                .into_iter()
                .map(|id| {
                    s.client.receive::<ProduceRequest>(9, id).responses[0].partition_responses[0]
                        .base_offset
                        .to_string()
                })
                .collect();
            s.say(bases.join(" "));
        },
        "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19",
    );
}

#[test]
fn a_producer_that_expired_may_begin_anew_anywhere() {
    scenario_of_ours(
        &Options::new().with("producer.id.expiration.ms", 300).with("log.retention.check.interval.ms", 100),
        |s| {
            let t = s.topic(1, &[]);
            let (id, epoch) = s.producer_id();
            let send = |s: &mut Scenario, sequence: i32| {
                s.produce(&t, 0, Batch::of(&["a"]).from_producer(id, epoch, sequence).build()).error_code
            };
            let (first, gap) = (send(s, 0), send(s, 5));
            s.say(format!("first {first} gap {gap}"));
            while send(s, 5) == 45 {}
            s.say("anywhere");
        },
        "first 0 gap 45
         anywhere",
    );
}

/// One gzip batch of `size` zero bytes in one record's value, a thousandth of that on the wire.
fn bomb(size: usize) -> Bytes {
    compressed(&Batch { records: vec![(None, Some(vec![0; size]))], ..Batch::default() }, Compression::Gzip)
}

#[test]
fn a_decompression_bomb_is_stored_untouched_and_measured_as_sent() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let sent = bomb(8 << 20);
            let a = s.produce(&t, 0, sent.clone());
            let fetched = s.client.call(11, &fetch_request(&t, 0, 0, 1000));
            let stored = fetched.responses[0].partitions[0].records.clone().expect("records");
            s.say(format!(
                "error {} base {} small {} untouched {}",
                a.error_code,
                a.base_offset,
                sent.len() < 1 << 18,
                stored[61..] == sent[61..]
            ));
        },
        "error 0 base 0 small true untouched true",
    );
}

#[test]
fn topics_and_partitions_that_are_not_there_do_not_spoil_the_rest() {
    scenario(
        |s| {
            find(s, "g");
            let (t, u) = (s.topic(1, &[]), s.topic(1, &[("max.message.bytes", "70")]));
            for acks in [1, -1] {
                let mut request = produce_request(&t, acks, &[(0, Some(Batch::of(&["a"]).build()))]);
                for other in [u.as_str(), "no-such-topic", "__consumer_offsets"] {
                    let more = produce_request(other, acks, &[(0, Some(Batch::of(&["0123456789"]).build()))]);
                    request.topic_data.extend(more.topic_data);
                }
                let answer = s.client.call(9, &request);
                let names = [t.as_str(), &u, "no-such-topic", "__consumer_offsets"];
                let mut rows: Vec<_> = answer
                    .responses
                    .iter()
                    .map(|t| {
                        let p = &t.partition_responses[0];
                        let place = names.iter().position(|name| *name == t.name.as_str());
                        (place, p.error_code, p.base_offset, p.log_start_offset)
                    })
                    .collect();
                rows.sort_unstable();
                s.say(format!("{rows:?}"));
            }
        },
        "[(Some(0), 0, 0, 0), (Some(1), 10, -1, -1), (Some(2), 3, -1, -1), (Some(3), 17, -1, -1)]
         [(Some(0), 0, 1, 0), (Some(1), 10, -1, -1), (Some(2), 3, -1, -1), (Some(3), 17, -1, -1)]",
    );
}

#[test]
fn null_records_are_refused() {
    // Apache Kafka does not answer it at all.
    scenario_of_ours(
        &Options::new(),
        |s| {
            let t = s.topic(1, &[]);
            let answer = s.client.call(9, &produce_request(&t, -1, &[(0, None)]));
            let p = &answer.responses[0].partition_responses[0];
            s.say(format!("null: {} base {}", p.error_code, p.base_offset));
        },
        "null: 87 base -1",
    );
}
