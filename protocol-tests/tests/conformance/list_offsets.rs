use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};
use terrace_protocol_tests::batch::Batch;
use terrace_protocol_tests::broker::Options;
use terrace_protocol_tests::compare::both;

use crate::scenario::{Scenario, topic_name};

#[test]
fn offsets_are_found_by_time_and_by_name() {
    both(
        &Options::new(),
        |address| {
            let mut s = Scenario::on(address);
            let t = s.topic(1, &[]);
            let (earliest, latest) = (s_list(&mut s, &t, -2), s_list(&mut s, &t, -1));
            s.say(format!("empty earliest {earliest:?} latest {latest:?}"));
            let (max, time) = (s_list(&mut s, &t, -3), s_list(&mut s, &t, 5));
            s.say(format!("empty max {max:?} time {time:?}"));
            for (values, at) in [(&["a", "b"][..], 1000), (&["c", "d", "e"], 5000), (&["f"], 3000)] {
                s.produce(&t, 0, Batch::of(values).at(at).build());
            }
            for time in [0, 1000, 1001, 1002, 4999, 5001, 5002, 5003, -1, -2, -3, -4] {
                let found = s_list(&mut s, &t, time);
                s.say(format!("{time}: {found:?}"));
            }
            s.end()
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
    both(
        &Options::new(),
        |address| {
            let mut s = Scenario::on(address);
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
            ask(&mut s, "unknown partition", &[(7, -1)]);
            ask(&mut s, "future epoch", &[(0, 1_000_000)]);
            ask(&mut s, "twice", &[(0, -1), (0, -1)]);
            s.end()
        },
        "unknown partition: [(7, 3)]
         future epoch: [(0, 75)]
         twice: [(0, 42)]",
    );
}
