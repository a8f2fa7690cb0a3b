use std::time::{Duration, Instant};

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{FetchRequest, ProduceRequest};
use rstest::rstest;
use terrace_protocol_tests::batch::Batch;
use terrace_protocol_tests::raw_client::RawClient;
use uuid::Uuid;

use crate::delete_records::delete;
use crate::scenario::{describe_fetch, fetch_request, fetch_topic, produce_request, scenario, topic_name};

#[rstest]
#[case(4)]
#[case(7)]
#[case(11)]
#[case(12)]
fn every_version_that_clients_use_reads(#[case] version: i16) {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            s.produce(&t, 0, Batch::of(&["a", "b"]).build());
            let answer = s.client.call(version, &fetch_request(&t, 0, 0, 500));
            s.say(describe_fetch(&answer));
        },
        "error 0; p0 error 0 hw 2 [a,b]",
    );
}

#[test]
fn the_high_watermark_waits_and_beyond_it_is_error_1_at_once() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            s.produce(&t, 0, Batch::of(&["a"]).build());
            for (offset, wait) in [(1, 300), (2, 5000), (-1, 5000)] {
                let began = Instant::now();
                let answer = s.client.call(11, &fetch_request(&t, 0, offset, wait));
                let waited = began.elapsed() >= Duration::from_millis(250);
                s.say(format!("{offset}: {} waited {waited}", describe_fetch(&answer)));
            }
        },
        "1: error 0; p0 error 0 hw 1 [] waited true
         2: error 0; p0 error 1 hw -1 [] waited false
         -1: error 0; p0 error 1 hw -1 [] waited false",
    );
}

#[test]
fn a_waiting_fetch_answers_when_the_data_comes() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let mut other = RawClient::connect(s.address);
            let id = s.client.send(11, &fetch_request(&t, 0, 0, 20_000));
            other.call(9, &produce_request(&t, -1, &[(0, Some(Batch::of(&["late"]).build()))]));
            let began = Instant::now();
            let answer = s.client.receive::<FetchRequest>(11, id);
            s.say(format!("{} soon {}", describe_fetch(&answer), began.elapsed() < Duration::from_secs(2)));
        },
        "error 0; p0 error 0 hw 1 [late] soon true",
    );
}

#[test]
fn min_bytes_counts_over_partitions() {
    scenario(
        |s| {
            let t = s.topic(2, &[]);
            let one = Batch::of(&["0123456789"]).build();
            let mut other = RawClient::connect(s.address);
            let request = fetch_request(&t, 0, 0, 20_000)
                .with_min_bytes(i32::try_from(one.len()).expect("small") + 1)
                .with_topics(vec![fetch_topic(&t, &[(0, 0), (1, 0)])]);
            let id = s.client.send(11, &request);
            other.call(9, &produce_request(&t, -1, &[(0, Some(one.clone()))]));
            other.call(9, &produce_request(&t, -1, &[(1, Some(one.clone()))]));
            let answer = s.client.receive::<FetchRequest>(11, id);
            s.say(describe_fetch(&answer));
        },
        "error 0; p0 error 0 hw 1 [0123456789]; p1 error 0 hw 1 [0123456789]",
    );
}

#[test]
fn the_first_batch_comes_even_if_it_is_larger_than_every_limit() {
    scenario(
        |s| {
            let t = s.topic(2, &[]);
            let large = "x".repeat(3000);
            for p in [0, 1] {
                s.produce(&t, p, Batch::of(&[&large]).build());
            }
            for (max, partition_max) in [(100, 100), (1_000_000, 100), (0, 1_000_000)] {
                let mut topic = fetch_topic(&t, &[(0, 0), (1, 0)]);
                for p in &mut topic.partitions {
                    p.partition_max_bytes = partition_max;
                }
                let request = fetch_request(&t, 0, 0, 500).with_max_bytes(max).with_topics(vec![topic]);
                let answer = s.client.call(11, &request);
                let sizes: Vec<_> = answer.responses[0]
                    .partitions
                    .iter()
                    .map(|p| p.records.as_ref().map_or(-1, |r| i32::try_from(r.len()).expect("small")) > 3000)
                    .collect();
                s.say(format!("{max} {partition_max}: {sizes:?}"));
            }
        },
        "100 100: [true, false]
         1000000 100: [true, false]
         0 1000000: [true, false]",
    );
}

#[test]
fn an_offset_inside_a_batch_gives_the_whole_batch() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            s.produce(&t, 0, Batch::of(&["a", "b", "c"]).build());
            s.produce(&t, 0, Batch::of(&["d"]).build());
            let answer = s.client.call(11, &fetch_request(&t, 0, 2, 500));
            s.say(describe_fetch(&answer));
        },
        "error 0; p0 error 0 hw 4 [a,b,c,d]",
    );
}

#[test]
fn unknown_topics_and_partitions_answer_at_once() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let answer = s.client.call(11, &fetch_request(&t, 5, 0, 20_000));
            s.say(describe_fetch(&answer));
            let answer = s.client.call(11, &fetch_request("no-such-topic", 0, 0, 20_000));
            s.say(describe_fetch(&answer));
        },
        "error 0; p5 error 3 hw -1 []
         error 0; p0 error 3 hw -1 []",
    );
}

#[test]
fn leader_epochs_of_the_client_are_checked() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            s.produce(&t, 0, Batch::of(&["a"]).build());
            let mut topic = fetch_topic(&t, &[(0, 0)]);
            for epoch in [1_000_000, -2] {
                topic.partitions[0].current_leader_epoch = epoch;
                let answer = s.client.call(11, &fetch_request(&t, 0, 0, 500).with_topics(vec![topic.clone()]));
                s.say(describe_fetch(&answer));
            }
        },
        "error 0; p0 error 75 hw -1 []
         error 0; p0 error 0 hw 1 [a]",
    );
}

#[test]
fn a_session_remembers_forgets_and_tells_only_what_changed() {
    scenario(
        |s| {
            let t = s.topic(3, &[]);
            s.produce(&t, 0, Batch::of(&["a"]).build());
            let full = fetch_request(&t, 0, 0, 100)
                .with_session_epoch(0)
                .with_topics(vec![fetch_topic(&t, &[(0, 0), (1, 0), (2, 0)])]);
            let answer = s.client.call(11, &full);
            let session = answer.session_id;
            s.say(format!("made {}: {}", session != 0, describe_fetch(&answer)));
            let next = |epoch: i32, topics: Vec<FetchTopic>, forgotten: Vec<ForgottenTopic>| {
                fetch_request(&t, 0, 0, 100)
                    .with_session_id(session)
                    .with_session_epoch(epoch)
                    .with_topics(topics)
                    .with_forgotten_topics_data(forgotten)
            };
            let answer = s.client.call(11, &next(1, vec![fetch_topic(&t, &[(0, 1)])], vec![]));
            s.say(format!("nothing new: {}", describe_fetch(&answer)));
            s.produce(&t, 1, Batch::of(&["b"]).build());
            let answer = s.client.call(11, &next(2, vec![], vec![]));
            s.say(format!("only the changed: {}", describe_fetch(&answer)));
            let forgotten = ForgottenTopic::default().with_topic(topic_name(&t)).with_partitions(vec![1]);
            let answer = s.client.call(11, &next(3, vec![], vec![forgotten]));
            s.say(format!("forgotten: {}", describe_fetch(&answer)));
            let answer = s.client.call(11, &next(9, vec![], vec![]));
            s.say(format!("wrong epoch: {}", describe_fetch(&answer)));
            let answer = s.client.call(11, &next(4, vec![], vec![]).with_session_id(session ^ 1));
            s.say(format!("unknown session: {}", describe_fetch(&answer)));
            let answer = s.client.call(11, &next(-1, vec![fetch_topic(&t, &[(0, 0)])], vec![]));
            s.say(format!("closed, session {}: {}", answer.session_id, describe_fetch(&answer)));
            let answer = s.client.call(11, &next(4, vec![], vec![]));
            s.say(format!("after it: {}", describe_fetch(&answer)));
        },
        "made true: error 0; p0 error 0 hw 1 [a]; p1 error 0 hw 0 []; p2 error 0 hw 0 []
         nothing new: error 0
         only the changed: error 0; p1 error 0 hw 1 [b]
         forgotten: error 0
         wrong epoch: error 71
         unknown session: error 70
         closed, session 0: error 0; p0 error 0 hw 1 [a]
         after it: error 70",
    );
}

#[test]
fn topic_ids_are_checked_from_version_13() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            s.produce(&t, 0, Batch::of(&["a"]).build());
            let id = s.topic_id(&t).expect("it exists");
            for id in [id, Uuid::from_u128(99)] {
                let request = fetch_request(&t, 0, 0, 500).with_topics(vec![
                    FetchTopic::default().with_topic_id(id).with_partitions(vec![
                        FetchPartition::default()
                            .with_partition(0)
                            .with_current_leader_epoch(-1)
                            .with_last_fetched_epoch(-1)
                            .with_log_start_offset(-1)
                            .with_partition_max_bytes(1 << 20),
                    ]),
                ]);
                let answer = s.client.call(13, &request);
                s.say(describe_fetch(&answer));
            }
        },
        "error 0; p0 error 0 hw 1 [a]
         error 0; p0 error 100 hw -1 []",
    );
}

#[test]
fn a_diverging_epoch_is_told_from_version_12() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            s.produce(&t, 0, Batch::of(&["a"]).build());
            let epoch = s.leader_epoch(&t);
            for (offset, last_epoch) in [(5, epoch), (1, epoch), (1, 1_000_000)] {
                let mut topic = fetch_topic(&t, &[(0, offset)]);
                topic.partitions[0].last_fetched_epoch = last_epoch;
                let answer = s.client.call(12, &fetch_request(&t, 0, 0, 100).with_topics(vec![topic]));
                let p = &answer.responses[0].partitions[0];
                s.say(format!(
                    "{offset}: error {} diverges at {} same epoch {}",
                    p.error_code,
                    p.diverging_epoch.end_offset,
                    p.diverging_epoch.epoch == epoch
                ));
            }
        },
        "5: error 0 diverges at 1 same epoch true
         1: error 0 diverges at -1 same epoch false
         1: error 1 diverges at -1 same epoch false",
    );
}

#[test]
fn partitions_that_gave_data_go_behind_the_others() {
    scenario(
        |s| {
            let t = s.topic(3, &[]);
            let value = "x".repeat(1000);
            for p in 0..3 {
                s.produce(&t, p, Batch::of(&[&value]).build());
            }
            let full = fetch_request(&t, 0, 0, 500)
                .with_session_epoch(0)
                .with_max_bytes(1000)
                .with_topics(vec![fetch_topic(&t, &[(0, 0), (1, 0), (2, 0)])]);
            let mut answer = s.client.call(11, &full);
            let session = answer.session_id;
            for epoch in 1..=3 {
                let gave: Vec<_> = answer
                    .responses
                    .iter()
                    .flat_map(|t| &t.partitions)
                    .filter(|p| p.records.as_ref().is_some_and(|r| !r.is_empty()))
                    .map(|p| p.partition_index)
                    .collect();
                s.say(format!("{gave:?}"));
                let next = fetch_request(&t, 0, 0, 500)
                    .with_session_id(session)
                    .with_session_epoch(epoch)
                    .with_max_bytes(1000)
                    .with_topics(vec![]);
                answer = s.client.call(11, &next);
            }
        },
        "[0]
         [0]
         [1]",
    );
}

#[test]
fn a_fetch_behind_a_produce_on_one_connection_sees_it() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let produced = s.client.send(9, &produce_request(&t, -1, &[(0, Some(Batch::of(&["a"]).build()))]));
            let fetched = s.client.send(11, &fetch_request(&t, 0, 0, 5_000));
            s.client.receive::<ProduceRequest>(9, produced);
            let answer = s.client.receive::<FetchRequest>(11, fetched);
            s.say(describe_fetch(&answer));
        },
        "error 0; p0 error 0 hw 1 [a]",
    );
}

#[test]
fn who_reads_committed_is_told_of_no_aborted_transactions() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            s.produce(&t, 0, Batch::of(&["a"]).build());
            for isolation in [0, 1] {
                for offset in [0, 1, 5] {
                    let request = fetch_request(&t, 0, offset, 50).with_isolation_level(isolation);
                    let answer = s.client.call(11, &request);
                    let p = &answer.responses[0].partitions[0];
                    s.say(format!(
                        "{isolation}: {} stable {} aborted {:?}",
                        describe_fetch(&answer),
                        p.last_stable_offset,
                        p.aborted_transactions.as_ref().map(Vec::len)
                    ));
                }
            }
        },
        "0: error 0; p0 error 0 hw 1 [a] stable 1 aborted None
         0: error 0; p0 error 0 hw 1 [] stable 1 aborted None
         0: error 0; p0 error 1 hw -1 [] stable -1 aborted None
         1: error 0; p0 error 0 hw 1 [a] stable 1 aborted Some(0)
         1: error 0; p0 error 0 hw 1 [] stable 1 aborted Some(0)
         1: error 0; p0 error 1 hw -1 [] stable -1 aborted None",
    );
}

#[test]
fn max_bytes_of_0_still_gives_the_first_batch() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            s.produce(&t, 0, Batch::of(&["a"]).build());
            s.produce(&t, 0, Batch::of(&["b"]).build());
            for (max, partition_max, min) in [(0, 1 << 20, 1), (1 << 20, 0, 1), (0, 0, 0), (1 << 20, 1 << 20, 0)] {
                let mut topic = fetch_topic(&t, &[(0, 0)]);
                topic.partitions[0].partition_max_bytes = partition_max;
                let request =
                    fetch_request(&t, 0, 0, 100).with_max_bytes(max).with_min_bytes(min).with_topics(vec![topic]);
                let answer = s.client.call(11, &request);
                s.say(describe_fetch(&answer));
            }
        },
        "error 0; p0 error 0 hw 2 [a]
         error 0; p0 error 0 hw 2 [a]
         error 0; p0 error 0 hw 2 [a]
         error 0; p0 error 0 hw 2 [a,b]",
    );
}

#[test]
fn a_partition_named_twice_is_read_once_as_it_was_last_asked() {
    scenario(
        |s| {
            let t = s.topic(2, &[]);
            for p in [0, 1] {
                s.produce(&t, p, Batch::of(&["a"]).build());
                s.produce(&t, p, Batch::of(&["b"]).build());
            }
            let topics = [
                vec![fetch_topic(&t, &[(0, 0), (1, 0), (0, 1)])],
                vec![fetch_topic(&t, &[(0, 1)]), fetch_topic(&t, &[(1, 1)]), fetch_topic(&t, &[(0, 0)])],
            ];
            for topics in topics {
                // Without a session, twice, and with one.
                for epoch in [-1, -1, 0] {
                    let request = fetch_request(&t, 0, 0, 500).with_session_epoch(epoch).with_topics(topics.clone());
                    let answer = s.client.call(11, &request);
                    s.say(describe_fetch(&answer));
                }
            }
        },
        "error 0; p0 error 0 hw 2 [b]; p1 error 0 hw 2 [a,b]
         error 0; p0 error 0 hw 2 [b]; p1 error 0 hw 2 [a,b]
         error 0; p0 error 0 hw 2 [b]; p1 error 0 hw 2 [a,b]
         error 0; p0 error 0 hw 2 [a,b]; p1 error 0 hw 2 [b]
         error 0; p0 error 0 hw 2 [a,b]; p1 error 0 hw 2 [b]
         error 0; p0 error 0 hw 2 [a,b]; p1 error 0 hw 2 [b]",
    );
}

#[test]
fn limits_and_levels_out_of_range() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            s.produce(&t, 0, Batch::of(&["a"]).build());
            s.produce(&t, 0, Batch::of(&["b"]).build());
            let plain = || fetch_request(&t, 0, 0, 200);
            let mut partition = fetch_topic(&t, &[(0, 0)]);
            partition.partitions[0].partition_max_bytes = -1;
            let requests = [
                ("max_bytes -1", plain().with_max_bytes(-1)),
                ("partition max_bytes -1", plain().with_topics(vec![partition])),
                ("min_bytes -1", plain().with_min_bytes(-1)),
                ("max_wait -1", plain().with_max_wait_ms(-1)),
                ("isolation 2", plain().with_isolation_level(2)),
                ("isolation -1", plain().with_isolation_level(-1)),
            ];
            for (what, request) in requests {
                match s.client.try_call(11, &request) {
                    Ok(answer) => s.say(format!("{what}: {}", describe_fetch(&answer))),
                    Err(_) => {
                        s.say(format!("{what}: disconnected"));
                        s.client = RawClient::connect(s.address);
                    }
                }
            }
        },
        "max_bytes -1: error 0; p0 error -1 hw -1 []
         partition max_bytes -1: error 0; p0 error -1 hw -1 []
         min_bytes -1: error 0; p0 error 0 hw 2 [a,b]
         max_wait -1: error 0; p0 error 0 hw 2 [a,b]
         isolation 2: error -1; p0 error -1 hw -1 []
         isolation -1: error -1; p0 error -1 hw -1 []",
    );
}

#[test]
fn an_incremental_answer_tells_of_a_log_start_that_moved() {
    scenario(
        |s| {
            let t = s.topic(3, &[]);
            for p in 0..3 {
                s.produce(&t, p, Batch::of(&["a", "b"]).build());
            }
            let ends = [(0, 2), (1, 2), (2, 2)];
            let full = fetch_request(&t, 0, 0, 0).with_session_epoch(0).with_topics(vec![fetch_topic(&t, &ends)]);
            let answer = s.client.call(11, &full);
            let session = answer.session_id;
            s.say(describe_fetch(&answer));
            delete(s, &t, &[(1, 1)]);
            for epoch in 1..=3 {
                let next =
                    fetch_request(&t, 0, 0, 0).with_session_id(session).with_session_epoch(epoch).with_topics(vec![]);
                let answer = s.client.call(11, &next);
                let starts: Vec<_> =
                    answer.responses.iter().flat_map(|t| &t.partitions).map(|p| p.log_start_offset).collect();
                s.say(format!("{} starts {starts:?}", describe_fetch(&answer)));
                if epoch == 2 {
                    s.produce(&t, 2, Batch::of(&["c"]).build());
                }
            }
        },
        "error 0; p0 error 0 hw 2 []; p1 error 0 hw 2 []; p2 error 0 hw 2 []
         delete: [(1, 1, 0)]
         error 0; p1 error 0 hw 2 [] starts [1]
         error 0 starts []
         error 0; p2 error 0 hw 3 [c] starts [0]",
    );
}

#[test]
fn one_partition_of_many_wakes_its_session() {
    scenario(
        |s| {
            let t = s.topic(50, &[]);
            let all: Vec<_> = (0..50).map(|p| (p, 0)).collect();
            let full = fetch_request(&t, 0, 0, 0).with_session_epoch(0).with_topics(vec![fetch_topic(&t, &all)]);
            let session = s.client.call(11, &full).session_id;
            let mut other = RawClient::connect(s.address);
            for (epoch, partition) in [(1, 7), (2, 49), (3, 0)] {
                // What was given before is asked from behind it.
                let asked = match epoch {
                    2 => vec![fetch_topic(&t, &[(7, 1)])],
                    3 => vec![fetch_topic(&t, &[(49, 1)])],
                    _ => vec![],
                };
                let next = fetch_request(&t, 0, 0, 20_000)
                    .with_session_id(session)
                    .with_session_epoch(epoch)
                    .with_topics(asked);
                let id = s.client.send(11, &next);
                other.call(9, &produce_request(&t, -1, &[(partition, Some(Batch::of(&["late"]).build()))]));
                let began = Instant::now();
                let answer = s.client.receive::<FetchRequest>(11, id);
                s.say(format!("{} soon {}", describe_fetch(&answer), began.elapsed() < Duration::from_secs(5)));
            }
        },
        "error 0; p7 error 0 hw 1 [late] soon true
         error 0; p49 error 0 hw 1 [late] soon true
         error 0; p0 error 0 hw 1 [late] soon true",
    );
}
