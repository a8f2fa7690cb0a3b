//! What groups commit: who may, what is answered, and when it ends.

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, LeaveGroupRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
};
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::raw_client::RawClient;

use crate::group_scenario::{commit, committed, find, group, join_request, stable, subscription, sync_request};
use crate::scenario::{Scenario, scenario, scenario_configured, text, topic_name};

/// Commits that end by themselves after a millisecond, as versions 2 to 4 can ask for.
fn commit_briefly(s: &mut Scenario, name: &str, generation: i32, member: &str, topics: &[&str]) {
    let topics = topics.iter().map(|topic| {
        OffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![OffsetCommitRequestPartition::default().with_committed_offset(3)])
    });
    let request = OffsetCommitRequest::default()
        .with_group_id(group(name))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(text(member))
        .with_retention_time_ms(1)
        .with_topics(topics.collect());
    let answer = s.client.call(2, &request);
    assert!(answer.topics.iter().all(|t| t.partitions[0].error_code == 0));
}

fn leave(s: &mut Scenario, name: &str, member: &str) {
    let request = LeaveGroupRequest::default()
        .with_group_id(group(name))
        .with_members(vec![MemberIdentity::default().with_member_id(text(member))]);
    assert_eq!(s.client.call(4, &request).error_code, 0);
}

/// Waits until all that has outlived its retention by now is gone. All groups are in one partition, whose offsets a check
/// ends together.
fn await_expiry(s: &mut Scenario, topic: &str) {
    let scout = fresh_name("g");
    commit_briefly(s, &scout, -1, "", &[topic]);
    while committed(&mut s.client, &scout, Some(topic)).contains("@3") {}
}

/// Says of which of `topics` the group's offset is still there.
fn say_committed(s: &mut Scenario, what: &str, name: &str, topics: &[&str]) {
    let of_topic = |s: &mut Scenario, topic: &&str| committed(&mut s.client, name, Some(topic)).contains("@3");
    let kept: Vec<_> = topics.iter().map(|topic| if of_topic(s, topic) { "kept" } else { "gone" }).collect();
    s.say(format!("{what}: {kept:?}"));
}

/// DeleteGroups: GROUP_ID_NOT_FOUND for a group that has gone by itself.
fn delete(s: &mut Scenario, name: &str) -> i16 {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group(name)]);
    s.client.call(2, &request).results[0].error_code
}

#[test]
fn offsets_expire_only_when_the_group_is_empty_or_the_topic_unsubscribed() {
    scenario_configured(
        &[
            "offsets.retention.check.interval.ms=300",
            "offsets.topic.num.partitions=1",
            "group.initial.rebalance.delay.ms=0",
        ],
        |s| {
            let (t, u) = (s.topic(1, &[]), s.topic(1, &[]));
            let (t, u) = (&*t, &*u);
            let name = fresh_name("g");
            let (generation, member) = stable(s, &name, &[t]);
            commit_briefly(s, &name, generation, &member, &[t, u]);

            // The protocol type says nothing of topics: such a group keeps all while it lives.
            let connect = fresh_name("g");
            let mut worker = RawClient::connect(s.address);
            let join = join_request(&connect, "", Some("i"), &[("range", subscription(&[t]))]);
            let joined = worker.call(9, &join.with_protocol_type(text("connect")));
            let id = joined.member_id.to_string();
            let sync = sync_request(&connect, 1, &id, &[(&id, b"all")]).with_protocol_type(Some(text("connect")));
            assert_eq!(worker.call(5, &sync).error_code, 0);
            commit_briefly(s, &connect, 1, &id, &[t, u]);

            let outside = fresh_name("g");
            commit_briefly(s, &outside, -1, "", &[t]);
            assert_eq!(commit(&mut s.client, &outside, -1, "", u, 3), 0);

            await_expiry(s, t);
            say_committed(s, "reads the first of two", &name, &[t, u]);
            say_committed(s, "of another type", &connect, &[t, u]);
            say_committed(s, "without members, the second to be kept", &outside, &[t, u]);
            let deleted = delete(s, &outside);
            s.say(format!("which is still a group: {deleted}"));

            let news = [("range", subscription(&[u]))];
            let joined = s.client.call(9, &join_request(&name, &member, None, &news));
            assert_eq!((joined.error_code, joined.generation_id), (0, 2));
            await_expiry(s, t);
            say_committed(s, "while it rebalances", &name, &[t]);
            assert_eq!(s.client.call(5, &sync_request(&name, 2, &member, &[(&member, b"all")])).error_code, 0);
            await_expiry(s, t);
            say_committed(s, "reads the second", &name, &[t]);

            commit_briefly(s, &name, 2, &member, &[u]);
            await_expiry(s, t);
            say_committed(s, "committed again", &name, &[u]);
            leave(s, &name, &member);
            leave(s, &connect, &id);
            await_expiry(s, t);
            say_committed(s, "empty", &name, &[u]);
            say_committed(s, "empty of another type", &connect, &[t, u]);
            // With its last offset the empty group goes.
            await_expiry(s, t);
            let deleted = (delete(s, &name), delete(s, &connect));
            s.say(format!("and gone: {deleted:?}"));
        },
        r#"reads the first of two: ["kept", "gone"]
           of another type: ["kept", "kept"]
           without members, the second to be kept: ["gone", "kept"]
           which is still a group: 0
           while it rebalances: ["kept"]
           reads the second: ["gone"]
           committed again: ["kept"]
           empty: ["gone"]
           empty of another type: ["gone", "gone"]
           and gone: (69, 69)"#,
    );
}

#[test]
fn commits_without_a_generation_are_for_groups_without_members() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let name = fresh_name("g");
            find(s, &name);
            let say = |s: &mut Scenario, what: &str, generation: i32, member: &str| {
                let error = commit(&mut s.client, &name, generation, member, &t, 5);
                s.say(format!("{what}: {error}"));
            };
            say(s, "new group with an id", -1, "me");
            say(s, "generation 0 of nobody", 0, "");
            let (generation, member) = stable(s, &name, &[&t]);
            say(s, "member without generation", -1, &member);
            leave(s, &name, &member);
            say(s, "empty again, with no id", -1, "");
            say(s, "empty again, with the old id", -1, &member);
            say(s, "empty again, with the old generation", generation, &member);
        },
        "new group with an id: 0
         generation 0 of nobody: 25
         member without generation: 22
         empty again, with no id: 0
         empty again, with the old id: 0
         empty again, with the old generation: 25",
    );
}

#[test]
fn a_commit_answers_each_partition_and_bounds_its_metadata() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let name = fresh_name("g");
            find(s, &name);
            let partition = |index: i32, offset: i64, metadata: Option<String>| {
                OffsetCommitRequestPartition::default()
                    .with_partition_index(index)
                    .with_committed_offset(offset)
                    .with_committed_leader_epoch(4)
                    .with_committed_metadata(metadata.as_deref().map(text))
            };
            let partitions = vec![
                partition(0, 5, Some("x".repeat(4096))),
                partition(0, 6, Some("x".repeat(4097))),
                partition(7, 1, None),
            ];
            let unknown = vec![partition(0, 1, None)];
            let request = OffsetCommitRequest::default()
                .with_group_id(group(&name))
                .with_generation_id_or_member_epoch(-1)
                .with_topics(vec![
                    OffsetCommitRequestTopic::default().with_name(topic_name(&t)).with_partitions(partitions),
                    OffsetCommitRequestTopic::default().with_name(topic_name("no-such")).with_partitions(unknown),
                ]);
            for version in [2, 5, 8, 9] {
                let answer = s.client.call(version, &request);
                let mut errors: Vec<_> = answer
                    .topics
                    .iter()
                    .flat_map(|t| t.partitions.iter().map(|p| (p.partition_index, p.error_code)))
                    .collect();
                errors.sort_unstable();
                s.say(format!("v{version}: {errors:?}"));
            }
            let request = OffsetFetchRequest::default()
                .with_groups(vec![OffsetFetchRequestGroup::default().with_group_id(group(&name)).with_topics(None)]);
            let answer = s.client.call(8, &request);
            for p in answer.groups[0].topics.iter().flat_map(|t| &t.partitions) {
                s.say(format!(
                    "{}@{} epoch {} metadata {:?}",
                    p.partition_index,
                    p.committed_offset,
                    p.committed_leader_epoch,
                    p.metadata.as_ref().map(|m| m.len())
                ));
            }
        },
        "v2: [(0, 0), (0, 3), (0, 12), (7, 3)]
         v5: [(0, 0), (0, 3), (0, 12), (7, 3)]
         v8: [(0, 0), (0, 3), (0, 12), (7, 3)]
         v9: [(0, 0), (0, 3), (0, 12), (7, 3)]
         0@5 epoch 4 metadata Some(4096)",
    );
}

#[test]
fn offsets_are_fetched_for_some_for_all_and_for_several_groups() {
    scenario(
        |s| {
            let t = s.topic(2, &[]);
            let names = [fresh_name("g"), fresh_name("g")];
            for (offset, name) in [(5, &names[0]), (9, &names[1])] {
                find(s, name);
                let error = commit(&mut s.client, name, -1, "", &t, offset);
                s.say(format!("commit {error}"));
            }
            for (version, topics) in
                [(1, Some(vec![0, 1, 9])), (2, None), (5, Some(vec![1])), (5, None), (7, None), (7, Some(vec![]))]
            {
                let topics = topics.map(|partitions| match partitions.len() {
                    0 => vec![],
                    _ => vec![
                        OffsetFetchRequestTopic::default().with_name(topic_name(&t)).with_partition_indexes(partitions),
                    ],
                });
                let request = OffsetFetchRequest::default().with_group_id(group(&names[0])).with_topics(topics);
                let answer = s.client.call(version, &request);
                let rows: Vec<_> = answer
                    .topics
                    .iter()
                    .flat_map(|t| &t.partitions)
                    .map(|p| (p.partition_index, p.committed_offset, p.committed_leader_epoch, p.error_code))
                    .collect();
                s.say(format!("v{version}: {} {rows:?}", answer.error_code));
            }
            let some = vec![
                OffsetFetchRequestTopics::default().with_name(topic_name(&t)).with_partition_indexes(vec![0, 1]),
                OffsetFetchRequestTopics::default().with_name(topic_name("no-such")).with_partition_indexes(vec![0]),
            ];
            let of =
                |name: &str, topics| OffsetFetchRequestGroup::default().with_group_id(group(name)).with_topics(topics);
            for stable in [false, true] {
                let request = OffsetFetchRequest::default().with_require_stable(stable).with_groups(vec![
                    of(&names[0], None),
                    of(&names[1], Some(some.clone())),
                    of(&fresh_name("g"), None),
                    of("", Some(some.clone())),
                ]);
                let answer = s.client.call(8, &request);
                for found in &answer.groups {
                    let rows: Vec<_> = found
                        .topics
                        .iter()
                        .flat_map(|t| &t.partitions)
                        .map(|p| (p.partition_index, p.committed_offset, p.metadata.as_deref(), p.error_code))
                        .collect();
                    s.say(format!("{} {rows:?}", found.error_code));
                }
            }
        },
        r#"commit 0
           commit 0
           v1: 0 [(0, 5, -1, 0), (1, -1, -1, 0), (9, -1, -1, 0)]
           v2: 0 [(0, 5, -1, 0)]
           v5: 0 [(1, -1, -1, 0)]
           v5: 0 [(0, 5, -1, 0)]
           v7: 0 [(0, 5, -1, 0)]
           v7: 0 []
           0 [(0, 5, Some("m"), 0)]
           0 [(0, 9, Some("m"), 0), (1, -1, Some(""), 0), (0, -1, Some(""), 0)]
           0 []
           0 [(0, -1, Some(""), 0), (1, -1, Some(""), 0), (0, -1, Some(""), 0)]
           0 [(0, 5, Some("m"), 0)]
           0 [(0, 9, Some("m"), 0), (1, -1, Some(""), 0), (0, -1, Some(""), 0)]
           0 []
           0 [(0, -1, Some(""), 0), (1, -1, Some(""), 0), (0, -1, Some(""), 0)]"#,
    );
}

#[test]
fn offsets_are_deleted_per_partition_and_groups_one_by_one() {
    scenario(
        |s| {
            let (subscribed, other) = (s.topic(1, &[]), s.topic(1, &[]));
            let name = fresh_name("g");
            let (generation, member) = stable(s, &name, &[&subscribed]);
            for t in [&subscribed, &other] {
                let error = commit(&mut s.client, &name, generation, &member, t, 7);
                s.say(format!("commit {error}"));
            }
            let delete = |s: &mut Scenario, name: &str, topics: &[&str]| {
                let topic = |topic: &&str| {
                    OffsetDeleteRequestTopic::default()
                        .with_name(topic_name(topic))
                        .with_partitions(vec![OffsetDeleteRequestPartition::default().with_partition_index(0)])
                };
                let request = OffsetDeleteRequest::default()
                    .with_group_id(group(name))
                    .with_topics(topics.iter().map(topic).collect());
                let answer = s.client.call(0, &request);
                let mut rows: Vec<_> = answer
                    .topics
                    .iter()
                    .map(|t| {
                        let which = topics.iter().position(|name| *name == t.name.as_str());
                        (which, t.partitions[0].error_code)
                    })
                    .collect();
                rows.sort_unstable();
                s.say(format!("delete: {} {rows:?}", answer.error_code));
            };
            delete(s, &name, &[&subscribed, &other, "no-such"]);
            let found = committed(&mut s.client, &name, None);
            s.say(found);
            delete(s, &fresh_name("g"), &[&other]);
            let simple = fresh_name("g");
            find(s, &simple);
            commit(&mut s.client, &simple, -1, "", &other, 2);
            let request = DeleteGroupsRequest::default().with_groups_names(vec![
                group(&name),
                group(&simple),
                group(&fresh_name("g")),
                group(""),
            ]);
            let answer = s.client.call(2, &request);
            let mut errors: Vec<_> = answer.results.iter().map(|r| r.error_code).collect();
            errors.sort_unstable();
            s.say(format!("{errors:?}"));
            let found = committed(&mut s.client, &simple, Some(&other));
            s.say(found);
        },
        r#"commit 0
           commit 0
           delete: 0 [(Some(0), 86), (Some(1), 0), (Some(2), 3)]
           error 0 ["0@7 Some(\"m\") error 0"]
           delete: 69 []
           [0, 68, 69, 69]
           error 0 ["0@-1 Some(\"\") error 0"]"#,
    );
}
