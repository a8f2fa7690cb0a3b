use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};
use terrace_protocol_tests::batch::Batch;

use crate::scenario::{Scenario, scenario, topic_name};

#[test]
fn offsets_are_found_by_time_and_by_name() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let (earliest, latest) = (s_list(s, &t, -2), s_list(s, &t, -1));
            s.say(format!("empty earliest {earliest:?} latest {latest:?}"));
            let (max, time) = (s_list(s, &t, -3), s_list(s, &t, 5));
            s.say(format!("empty max {max:?} time {time:?}"));
            for (values, at) in [(&["a", "b"][..], 1000), (&["c", "d", "e"], 5000), (&["f"], 3000)] {
                s.produce(&t, 0, Batch::of(values).at(at).build());
            }
            for time in [0, 1000, 1001, 1002, 4999, 5001, 5002, 5003, -1, -2, -3, -4] {
                let found = s_list(s, &t, time);
                s.say(format!("{time}: {found:?}"));
            }
        },
        "empty earliest (0, -1, 0) latest (0, -1, 0)
         empty max (0, -1, -1) time (0, -1, -1)
         0: (0, 1000, 0)
         1000: (0, 1000, 0)
         1001: (0, 1001, 1)
         1002: (0, 5000, 2)
         4999: (0, 5000, 2)
         5001: (0, 5001, 3)
         5002: (0, 5002, 4)
         5003: (0, -1, -1)
         -1: (0, -1, 6)
         -2: (0, -1, 0)
         -3: (0, 5002, 4)
         -4: (0, -1, 0)",
    );
}

fn s_list(s: &mut Scenario, topic: &str, time: i64) -> (i16, i64, i64) {
    s.list_offset(topic, 0, time)
}

#[test]
fn unknown_partitions_epochs_and_duplicates_are_told_apart() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let ask = |s: &mut Scenario, what: &str, partitions: &[(i32, i32)]| {
                let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![
                    ListOffsetsTopic::default().with_name(topic_name(&t)).with_partitions(
                        partitions
                            .iter()
                            .map(|(p, epoch)| {
                                ListOffsetsPartition::default()
                                    .with_partition_index(*p)
                                    .with_current_leader_epoch(*epoch)
                                    .with_timestamp(-1)
                            })
                            .collect(),
                    ),
                ]);
                let answer = s.client.call(7, &request);
                let errors: Vec<_> = answer
                    .topics
                    .iter()
                    .flat_map(|t| &t.partitions)
                    .map(|p| (p.partition_index, p.error_code))
                    .collect();
                s.say(format!("{what}: {errors:?}"));
            };
            ask(s, "unknown partition", &[(7, -1)]);
            ask(s, "future epoch", &[(0, 1_000_000)]);
            ask(s, "twice", &[(0, -1), (0, -1)]);
        },
        "unknown partition: [(7, 3)]
         future epoch: [(0, 75)]
         twice: [(0, 42)]",
    );
}

#[test]
fn isolation_epochs_and_versions_decide_what_is_found() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            s.produce(&t, 0, Batch::of(&["a", "b"]).at(1000).build());
            let epoch = s.leader_epoch(&t);
            for version in [4, 7, 10] {
                for time in [-1, -2, 1001] {
                    let cases = [(0, -1), (0, epoch), (1, -1), (1, epoch)];
                    let found = cases.map(|(isolation, current)| {
                        let request = ListOffsetsRequest::default()
                            .with_replica_id(BrokerId(-1))
                            .with_isolation_level(isolation)
                            .with_topics(vec![ListOffsetsTopic::default().with_name(topic_name(&t)).with_partitions(
                                vec![
                                    ListOffsetsPartition::default()
                                        .with_current_leader_epoch(current)
                                        .with_timestamp(time),
                                ],
                            )]);
                        let p = s.client.call(version, &request).topics[0].partitions[0].clone();
                        (p.error_code, p.timestamp, p.offset, p.leader_epoch == epoch)
                    });
                    s.say(format!(
                        "v{version} {time}: {:?} for all {}",
                        found[0],
                        found.iter().all(|f| *f == found[0])
                    ));
                }
            }
        },
        "v4 -1: (0, -1, 2, true) for all true
         v4 -2: (0, -1, 0, true) for all true
         v4 1001: (0, 1001, 1, true) for all true
         v7 -1: (0, -1, 2, true) for all true
         v7 -2: (0, -1, 0, true) for all true
         v7 1001: (0, 1001, 1, true) for all true
         v10 -1: (0, -1, 2, true) for all true
         v10 -2: (0, -1, 0, true) for all true
         v10 1001: (0, 1001, 1, true) for all true",
    );
}

#[test]
fn times_that_a_version_does_not_know_are_refused() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            s.produce(&t, 0, Batch::of(&["a", "b"]).at(1000).build());
            for version in [1, 6, 7, 8, 9, 10] {
                for time in [-3, -4, -5, -6, -7, -100] {
                    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![
                        ListOffsetsTopic::default().with_name(topic_name(&t)).with_partitions(vec![
                            ListOffsetsPartition::default().with_current_leader_epoch(-1).with_timestamp(time),
                        ]),
                    ]);
                    let answer = s.client.call(version, &request);
                    let p = &answer.topics[0].partitions[0];
                    s.say(format!("v{version} time {time}: {} {} {}", p.error_code, p.timestamp, p.offset));
                }
            }
        },
        "v1 time -3: 35 -1 -1
         v1 time -4: 35 -1 -1
         v1 time -5: 35 -1 -1
         v1 time -6: 35 -1 -1
         v1 time -7: 35 -1 -1
         v1 time -100: 35 -1 -1
         v6 time -3: 35 -1 -1
         v6 time -4: 35 -1 -1
         v6 time -5: 35 -1 -1
         v6 time -6: 35 -1 -1
         v6 time -7: 35 -1 -1
         v6 time -100: 35 -1 -1
         v7 time -3: 0 1001 1
         v7 time -4: 35 -1 -1
         v7 time -5: 35 -1 -1
         v7 time -6: 35 -1 -1
         v7 time -7: 35 -1 -1
         v7 time -100: 35 -1 -1
         v8 time -3: 0 1001 1
         v8 time -4: 0 -1 0
         v8 time -5: 35 -1 -1
         v8 time -6: 35 -1 -1
         v8 time -7: 35 -1 -1
         v8 time -100: 35 -1 -1
         v9 time -3: 0 1001 1
         v9 time -4: 0 -1 0
         v9 time -5: 0 -1 -1
         v9 time -6: 35 -1 -1
         v9 time -7: 35 -1 -1
         v9 time -100: 35 -1 -1
         v10 time -3: 0 1001 1
         v10 time -4: 0 -1 0
         v10 time -5: 0 -1 -1
         v10 time -6: 35 -1 -1
         v10 time -7: 35 -1 -1
         v10 time -100: 35 -1 -1",
    );
}
