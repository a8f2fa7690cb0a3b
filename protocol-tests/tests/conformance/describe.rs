//! DescribeCluster, DescribeLogDirs, DescribeTopicPartitions, DescribeGroups, OffsetForLeaderEpoch: what admin clients ask.

use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeGroupsRequest, DescribeLogDirsRequest, DescribeTopicPartitionsRequest,
    ListGroupsRequest, OffsetForLeaderEpochRequest,
};
use terrace_protocol_tests::batch::Batch;
use terrace_protocol_tests::compare::fresh_name;

use crate::group_scenario::{find, group, list_groups, stable};
use crate::scenario::{scenario, text, topic_name};

#[test]
fn the_cluster_is_described() {
    scenario(
        |s| {
            for (version, include) in [(0, false), (0, true), (1, true), (2, false)] {
                let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(include);
                let answer = s.client.call(version, &request);
                let brokers: Vec<_> =
                    answer.brokers.iter().map(|b| (b.broker_id.0, b.is_fenced, b.rack.is_some())).collect();
                s.say(format!(
                    "v{version}: {} controller {} brokers {brokers:?} id {} operations {} type {}",
                    answer.error_code,
                    answer.controller_id.0,
                    answer.cluster_id.len(),
                    answer.cluster_authorized_operations,
                    answer.endpoint_type
                ));
            }
            let request = DescribeClusterRequest::default().with_endpoint_type(2);
            let answer = s.client.call(1, &request);
            s.say(format!("controllers: {} {:?}", answer.error_code, answer.error_message.as_deref()));
        },
        r#"v0: 0 controller 1 brokers [(1, false, false)] id 22 operations -2147483648 type 1
           v0: 0 controller 1 brokers [(1, false, false)] id 22 operations 8096 type 1
           v1: 0 controller 1 brokers [(1, false, false)] id 22 operations 8096 type 1
           v2: 0 controller 1 brokers [(1, false, false)] id 22 operations -2147483648 type 1
           controllers: 114 Some("The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER")"#,
    );
}

#[test]
fn log_dirs_tell_the_partitions_asked_for() {
    scenario(
        |s| {
            let t = s.topic(2, &[]);
            let one = Batch::of(&["a"]).build();
            s.produce(&t, 0, one.clone());
            let topic = |name: &str, partitions| {
                DescribableLogDirTopic::default().with_topic(topic_name(name)).with_partitions(partitions)
            };
            for version in [1, 3, 4] {
                for topics in [vec![topic(&t, vec![0, 7])], vec![topic("no-such-topic", vec![0])], vec![]] {
                    let answer = s.client.call(version, &DescribeLogDirsRequest::default().with_topics(Some(topics)));
                    s.say(format!("v{version}: {} dirs {}", answer.error_code, answer.results.len()));
                    for dir in &answer.results {
                        let rows: Vec<_> = dir
                            .topics
                            .iter()
                            .flat_map(|t| &t.partitions)
                            .map(|p| {
                                let whole = p.partition_size == i64::try_from(one.len()).expect("small");
                                (p.partition_index, whole, p.offset_lag, p.is_future_key)
                            })
                            .collect();
                        s.say(format!(
                            "  {} {rows:?} sizes {}",
                            dir.error_code,
                            dir.total_bytes > 0 && dir.usable_bytes > 0
                        ));
                    }
                }
            }
        },
        "v1: 0 dirs 1
         0 [(0, true, 0, false)] sizes false
         v1: 0 dirs 1
         0 [] sizes false
         v1: 0 dirs 1
         0 [] sizes false
         v3: 0 dirs 1
         0 [(0, true, 0, false)] sizes false
         v3: 0 dirs 1
         0 [] sizes false
         v3: 0 dirs 1
         0 [] sizes false
         v4: 0 dirs 1
         0 [(0, true, 0, false)] sizes true
         v4: 0 dirs 1
         0 [] sizes true
         v4: 0 dirs 1
         0 [] sizes true",
    );
}

#[test]
fn topic_partitions_come_in_pages() {
    scenario(
        |s| {
            let (a, b) = (s.topic(3, &[]), s.topic(3, &[]));
            let (a, b) = if a < b { (a, b) } else { (b, a) };
            let names = [a.as_str(), &b, "zz-no-such"];
            let place = |name: &str| names.iter().position(|known| *known == name);
            let topics =
                || names.iter().map(|name| TopicRequest::default().with_name(topic_name(name))).collect::<Vec<_>>();
            for (limit, cursor) in
                [(2000, None), (2, None), (2, Some((a.as_str(), 2))), (1, Some((b.as_str(), 0))), (0, None)]
            {
                let cursor = cursor.map(|(name, partition)| {
                    Cursor::default().with_topic_name(topic_name(name)).with_partition_index(partition)
                });
                let request = DescribeTopicPartitionsRequest::default()
                    .with_topics(topics())
                    .with_response_partition_limit(limit)
                    .with_cursor(cursor);
                let answer = s.client.call(0, &request);
                let errors: Vec<_> = answer.topics.iter().map(|t| t.error_code).collect();
                let partitions: usize = answer.topics.iter().map(|t| t.partitions.len()).sum();
                let next = answer.next_cursor.as_ref().map(|c| place(&c.topic_name).is_some());
                s.say(format!("{limit}: {errors:?} {} next {next:?}", partitions));
            }
        },
        "2000: [0, 0, 3] 6 next None
         2: [0] 2 next Some(true)
         2: [0, 0] 2 next Some(true)
         1: [0] 1 next Some(true)
         0: [0] 1 next Some(true)",
    );
}

#[test]
fn a_group_is_described_with_its_members() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let name = fresh_name("g");
            let (_, member) = stable(s, &name, &[&t]);
            for (version, include) in [(0, false), (3, true), (5, false), (6, true)] {
                let request = DescribeGroupsRequest::default()
                    .with_groups(vec![group(&name), group("")])
                    .with_include_authorized_operations(include);
                let mut groups = s.client.call(version, &request).groups;
                groups.sort_by(|a, b| a.group_state.cmp(&b.group_state));
                for g in groups {
                    s.say(format!(
                        "v{version}: {} {:?} {} {} {} operations {}",
                        g.error_code,
                        g.error_message.as_deref(),
                        &*g.group_state,
                        &*g.protocol_type,
                        &*g.protocol_data,
                        g.authorized_operations
                    ));
                    for m in g.members {
                        s.say(format!(
                            "  same id {} client {} host {} instance {:?} metadata {} assignment {:?}",
                            m.member_id.as_str() == member,
                            &*m.client_id,
                            &*m.client_host,
                            m.group_instance_id.as_deref(),
                            m.member_metadata.len(),
                            m.member_assignment
                        ));
                    }
                }
            }
            for (states, types) in [
                (vec!["Stable"], vec![]),
                (vec!["stable"], vec!["Classic"]),
                (vec!["Empty", "Dead"], vec![]),
                (vec![], vec!["consumer"]),
                (vec!["NoSuchState"], vec![]),
                (vec![], vec!["nosuchtype"]),
            ] {
                let request = ListGroupsRequest::default()
                    .with_states_filter(states.iter().map(|state| text(state)).collect())
                    .with_types_filter(types.iter().map(|kind| text(kind)).collect());
                let answer = list_groups(s, 5, &request);
                let found = answer.groups.iter().any(|g| g.group_id == group(&name));
                s.say(format!("{states:?} {types:?}: {} listed {found}", answer.error_code));
            }
            let simple = fresh_name("g");
            find(s, &simple);
            let request = DescribeGroupsRequest::default().with_groups(vec![group(&simple)]);
            let g = &s.client.call(6, &request).groups[0];
            let message = g.error_message.as_ref().map(|m| m.replace(&simple, "NAME"));
            s.say(format!("none: {} {:?} {}", g.error_code, message, &*g.group_state));
        },
        r#"v0: 0 None Dead   operations -2147483648
           v0: 0 None Stable consumer range operations -2147483648
           same id true client raw-client host /127.0.0.1 instance None metadata 46 assignment b"all"
           v3: 0 None Dead   operations 3400
           v3: 0 None Stable consumer range operations 3400
           same id true client raw-client host /127.0.0.1 instance None metadata 46 assignment b"all"
           v5: 0 None Dead   operations -2147483648
           v5: 0 None Stable consumer range operations -2147483648
           same id true client raw-client host /127.0.0.1 instance None metadata 46 assignment b"all"
           v6: 69 Some("Group  not found.") Dead   operations -2147483648
           v6: 0 None Stable consumer range operations 3400
           same id true client raw-client host /127.0.0.1 instance None metadata 46 assignment b"all"
           ["Stable"] []: 0 listed true
           ["stable"] ["Classic"]: 0 listed true
           ["Empty", "Dead"] []: 0 listed false
           [] ["consumer"]: 0 listed false
           ["NoSuchState"] []: 0 listed false
           [] ["nosuchtype"]: 0 listed false
           none: 69 Some("Group NAME not found.") Dead"#,
    );
}

#[test]
fn the_end_of_an_epoch_is_told() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            s.produce(&t, 0, Batch::of(&["a", "b"]).build());
            let epoch = s.leader_epoch(&t);
            for (partition, current, asked) in [
                (0, -1, epoch),
                (0, epoch, epoch),
                (0, -1, 1_000_000),
                (0, -1, -1),
                (0, 1_000_000, epoch),
                (7, -1, epoch),
            ] {
                let request = OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![
                    OffsetForLeaderTopic::default().with_topic(topic_name(&t)).with_partitions(vec![
                        OffsetForLeaderPartition::default()
                            .with_partition(partition)
                            .with_current_leader_epoch(current)
                            .with_leader_epoch(asked),
                    ]),
                ]);
                for version in [2, 4] {
                    let answer = s.client.call(version, &request);
                    let p = &answer.topics[0].partitions[0];
                    s.say(format!("{} same {} end {}", p.error_code, p.leader_epoch == epoch, p.end_offset));
                }
            }
        },
        "0 same true end 2
         0 same true end 2
         0 same true end 2
         0 same true end 2
         0 same false end -1
         0 same false end -1
         0 same false end -1
         0 same false end -1
         75 same false end -1
         75 same false end -1
         3 same false end -1
         3 same false end -1",
    );
}
