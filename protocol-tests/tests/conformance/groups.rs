use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, OffsetDeleteRequest, SyncGroupRequest,
};
use terrace_protocol_tests::broker::Options;
use terrace_protocol_tests::compare::{both, fresh_name};

use crate::group_scenario::{
    commit, committed, find, group, heartbeat, join_request, list_groups, stable, subscription, sync_request,
    two_members,
};
use crate::scenario::{Scenario, scenario, text, topic_name};

#[test]
fn a_member_joins_syncs_beats_and_leaves() {
    scenario(
        |s| {
            let name = fresh_name("g");
            find(s, &name);
            let protocols = [("range", subscription(&["t"]))];
            let first = s.client.call(9, &join_request(&name, "", None, &protocols));
            s.say(format!(
                "new: {} id given {} generation {}",
                first.error_code,
                first.member_id.starts_with("raw-client-"),
                first.generation_id
            ));
            let joined = s.client.call(9, &join_request(&name, &first.member_id, None, &protocols));
            let member = joined.member_id.to_string();
            s.say(format!(
                "joined: {} generation {} leader {} members {} protocol {:?} {:?}",
                joined.error_code,
                joined.generation_id,
                joined.leader == joined.member_id,
                joined.members.len(),
                joined.protocol_type.as_deref(),
                joined.protocol_name.as_deref(),
            ));
            let beat = heartbeat(&mut s.client, &name, 1, &member);
            s.say(format!("beat before sync: {beat}"));
            let synced = s.client.call(5, &sync_request(&name, 1, &member, &[(&member, b"all")]));
            s.say(format!("synced: {} {:?}", synced.error_code, synced.assignment));
            for (generation, member) in [(1, member.as_str()), (2, &member), (1, "other"), (1, "")] {
                let beat = heartbeat(&mut s.client, &name, generation, member);
                s.say(format!("beat: {beat}"));
            }
            let leave = LeaveGroupRequest::default()
                .with_group_id(group(&name))
                .with_members(vec![MemberIdentity::default().with_member_id(text(&member))]);
            let left = s.client.call(4, &leave);
            s.say(format!("left: {} {}", left.error_code, left.members[0].error_code));
            let left = s.client.call(4, &leave);
            s.say(format!("again: {} {}", left.error_code, left.members[0].error_code));
        },
        r#"new: 79 id given true generation -1
           joined: 0 generation 1 leader true members 1 protocol Some("consumer") Some("range")
           beat before sync: 0
           synced: 0 b"all"
           beat: 0
           beat: 22
           beat: 25
           beat: 25
           left: 0 0
           again: 0 25"#,
    );
}

#[test]
fn a_second_member_makes_the_first_rejoin_and_the_follower_may_sync_first() {
    both(
        &Options::new(),
        |address| {
            let (mut s, mut other, name) = two_members(address);
            let (generation, first) = stable(&mut s, &name, &["t"]);
            let protocols = [("range", subscription(&["t"]))];
            let told = other.call(9, &join_request(&name, "", None, &protocols));
            let pending = other.send(9, &join_request(&name, &told.member_id, None, &protocols));
            let beat = loop {
                let beat = heartbeat(&mut s.client, &name, generation, &first);
                if beat != 0 {
                    break beat;
                }
            };
            s.say(format!("beat while rebalancing: {beat}"));
            let early = s.client.call(5, &sync_request(&name, generation, &first, &[]));
            s.say(format!("sync while rebalancing: {}", early.error_code));
            let c = commit(&mut s.client, &name, generation, &first, "no-such-topic", 1);
            s.say(format!("commit while rebalancing: {c}"));
            let rejoined = s.client.call(9, &join_request(&name, &first, None, &protocols));
            let joined = other.receive::<JoinGroupRequest>(9, pending);
            s.say(format!(
                "first: {} generation {} leader {} members {}",
                rejoined.error_code,
                rejoined.generation_id,
                rejoined.leader == rejoined.member_id,
                rejoined.members.len()
            ));
            s.say(format!(
                "second: {} generation {} members {}",
                joined.error_code,
                joined.generation_id,
                joined.members.len()
            ));
            let second = joined.member_id.to_string();
            let waiting = other.send(5, &sync_request(&name, 2, &second, &[]));
            let synced = s.client.call(5, &sync_request(&name, 2, &first, &[(&first, b"1"), (&second, b"2")]));
            let followed = other.receive::<SyncGroupRequest>(5, waiting);
            s.say(format!("synced: {:?} {:?}", synced.assignment, followed.assignment));
            s.end()
        },
        r#"beat while rebalancing: 27
           sync while rebalancing: 27
           commit while rebalancing: 3
           first: 0 generation 2 leader true members 2
           second: 0 generation 2 members 0
           synced: b"1" b"2""#,
    );
}

#[test]
fn protocols_and_timeouts_that_do_not_fit_are_refused() {
    both(
        &Options::new(),
        |address| {
            let (mut s, mut other, name) = two_members(address);
            stable(&mut s, &name, &["t"]);
            let metadata = subscription(&["t"]);
            let answer = other.call(3, &join_request(&name, "", None, &[("sticky", metadata.clone())]));
            s.say(format!("no common protocol: {}", answer.error_code));
            let wrong =
                join_request(&name, "", None, &[("range", metadata.clone())]).with_protocol_type(text("connect"));
            s.say(format!("other type: {}", other.call(3, &wrong).error_code));
            let none = join_request(&fresh_name("g"), "", None, &[]);
            s.say(format!("no protocol: {}", other.call(3, &none).error_code));
            for timeout in [10, 4_000_000] {
                let request =
                    join_request(&name, "", None, &[("range", metadata.clone())]).with_session_timeout_ms(timeout);
                s.say(format!("session {timeout}: {}", other.call(3, &request).error_code));
            }
            let unknown = join_request(&name, "not-a-member", None, &[("range", metadata.clone())]);
            s.say(format!("unknown member: {}", other.call(5, &unknown).error_code));
            let empty = join_request("", "", None, &[("range", metadata)]);
            s.say(format!("empty group id: {}", other.call(5, &empty).error_code));
            s.end()
        },
        "no common protocol: 23
         other type: 23
         no protocol: 23
         session 10: 26
         session 4000000: 26
         unknown member: 25
         empty group id: 24",
    );
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_its_old_self_is_fenced() {
    scenario(
        |s| {
            let name = fresh_name("g");
            find(s, &name);
            let protocols = [("range", subscription(&["t"]))];
            let joined = s.client.call(9, &join_request(&name, "", Some("i1"), &protocols));
            let old = joined.member_id.to_string();
            s.say(format!("joined: {} generation {}", joined.error_code, joined.generation_id));
            let sync = sync_request(&name, 1, &old, &[(&old, b"all")]).with_group_instance_id(Some(text("i1")));
            let error = s.client.call(5, &sync).error_code;
            s.say(format!("synced: {error}"));
            let back = s.client.call(9, &join_request(&name, "", Some("i1"), &protocols));
            s.say(format!(
                "back: {} generation {} new id {} skip {}",
                back.error_code,
                back.generation_id,
                back.member_id.as_str() != old,
                back.skip_assignment
            ));
            let beat = |s: &mut Scenario, member: &str| {
                let request = HeartbeatRequest::default()
                    .with_group_id(group(&name))
                    .with_generation_id(1)
                    .with_member_id(text(member))
                    .with_group_instance_id(Some(text("i1")));
                let error = s.client.call(4, &request).error_code;
                s.say(format!("beat: {error}"));
            };
            beat(s, &old);
            beat(s, &back.member_id);
            let rejoin = s.client.call(9, &join_request(&name, &old, Some("i1"), &protocols));
            s.say(format!("old joins: {}", rejoin.error_code));
            let leave = LeaveGroupRequest::default().with_group_id(group(&name)).with_members(vec![
                MemberIdentity::default().with_group_instance_id(Some(text("i1"))),
                MemberIdentity::default().with_group_instance_id(Some(text("i2"))),
            ]);
            let left = s.client.call(4, &leave);
            s.say(format!("left: {:?}", left.members.iter().map(|m| m.error_code).collect::<Vec<_>>()));
        },
        "joined: 0 generation 1
         synced: 0
         back: 0 generation 1 new id true skip true
         beat: 82
         beat: 0
         old joins: 82
         left: [0, 25]",
    );
}

#[test]
fn commits_are_fenced_by_member_and_generation() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let name = fresh_name("g");
            find(s, &name);
            let say = |s: &mut Scenario, what: &str, generation: i32, member: &str, topic: &str| {
                let error = commit(&mut s.client, &name, generation, member, topic, 5);
                s.say(format!("{what}: {error}"));
            };
            say(s, "simple, no group yet", -1, "", &t);
            say(s, "unknown member of no generation", 3, "who", &t);
            let (generation, member) = stable(s, &name, &[&t]);
            say(s, "member", generation, &member, &t);
            say(s, "old generation", generation - 1, &member, &t);
            say(s, "unknown member", generation, "who", &t);
            say(s, "simple, group has members", -1, "", &t);
            say(s, "unknown topic", generation, &member, "no-such-topic");
            let found = committed(&mut s.client, &name, Some(&t));
            s.say(found);
            let found = committed(&mut s.client, &name, None);
            s.say(found);
            let found = committed(&mut s.client, &fresh_name("g"), Some(&t));
            s.say(found);
        },
        r#"simple, no group yet: 0
           unknown member of no generation: 25
           member: 0
           old generation: 22
           unknown member: 25
           simple, group has members: 25
           unknown topic: 3
           error 0 ["0@5 Some(\"m\") error 0"]
           error 0 ["0@5 Some(\"m\") error 0"]
           error 0 ["0@-1 Some(\"\") error 0"]"#,
    );
}

#[test]
fn groups_are_listed_described_and_deleted() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let name = fresh_name("g");
            let (generation, member) = stable(s, &name, &[&t]);
            let error = commit(&mut s.client, &name, generation, &member, &t, 7);
            s.say(format!("commit {error}"));
            let look = |s: &mut Scenario| {
                for version in [5, 6] {
                    let request = DescribeGroupsRequest::default().with_groups(vec![group(&name)]);
                    let g = &s.client.call(version, &request).groups[0];
                    s.say(format!(
                        "v{version}: {} {} {} {} members {}",
                        g.error_code,
                        &*g.group_state,
                        &*g.protocol_type,
                        &*g.protocol_data,
                        g.members.len()
                    ));
                }
                let listed = list_groups(s, 5, &ListGroupsRequest::default());
                let found = listed.groups.iter().find(|g| g.group_id == group(&name));
                s.say(format!("listed {:?}", found.map(|g| (g.group_state.to_string(), g.group_type.to_string()))));
                let filtered = list_groups(s, 4, &ListGroupsRequest::default().with_states_filter(vec![text("Empty")]));
                s.say(format!("empty {}", filtered.groups.iter().any(|g| g.group_id == group(&name))));
            };
            let delete = |s: &mut Scenario| {
                let request = DeleteGroupsRequest::default().with_groups_names(vec![group(&name)]);
                let results: Vec<DeletableGroupResult> = s.client.call(2, &request).results;
                s.say(format!("delete: {}", results[0].error_code));
            };
            let delete_offset = |s: &mut Scenario| {
                let request = OffsetDeleteRequest::default().with_group_id(group(&name)).with_topics(vec![
                    OffsetDeleteRequestTopic::default()
                        .with_name(topic_name(&t))
                        .with_partitions(vec![OffsetDeleteRequestPartition::default().with_partition_index(0)]),
                ]);
                let answer = s.client.call(0, &request);
                let inner = answer.topics.first().map(|t| t.partitions[0].error_code);
                s.say(format!("delete offset: {} {inner:?}", answer.error_code));
            };
            look(s);
            delete(s);
            delete_offset(s);
            let leave = LeaveGroupRequest::default()
                .with_group_id(group(&name))
                .with_members(vec![MemberIdentity::default().with_member_id(text(&member))]);
            s.client.call(4, &leave);
            look(s);
            delete_offset(s);
            let found = committed(&mut s.client, &name, Some(&t));
            s.say(found);
            delete(s);
            delete(s);
            look(s);
            delete_offset(s);
        },
        r#"commit 0
           v5: 0 Stable consumer range members 1
           v6: 0 Stable consumer range members 1
           listed Some(("Stable", "classic"))
           empty false
           delete: 68
           delete offset: 0 Some(86)
           v5: 0 Empty consumer  members 0
           v6: 0 Empty consumer  members 0
           listed Some(("Empty", "classic"))
           empty true
           delete offset: 0 Some(0)
           error 0 ["0@-1 Some(\"\") error 0"]
           delete: 0
           delete: 69
           v5: 0 Dead   members 0
           v6: 69 Dead   members 0
           listed None
           empty false
           delete offset: 69 None"#,
    );
}

#[test]
fn coordinators_are_found_for_groups() {
    scenario(
        |s| {
            find(s, &fresh_name("g"));
            for version in [0, 1, 3] {
                let request = FindCoordinatorRequest::default().with_key_type(0).with_key(text("g"));
                let answer = s.client.call(version, &request);
                s.say(format!("v{version}: {} node {}", answer.error_code, answer.node_id.0));
            }
            for kind in [0, 9] {
                let request = FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(vec![
                    text("g"),
                    text("h"),
                    text(""),
                ]);
                let answer = s.client.call(4, &request);
                let rows: Vec<_> = answer.coordinators.iter().map(|c| (c.error_code, c.node_id.0)).collect();
                s.say(format!("{kind}: {} {rows:?}", answer.error_code));
            }
        },
        "v0: 0 node 1
         v1: 0 node 1
         v3: 0 node 1
         0: 0 [(0, 1), (0, 1), (0, 1)]
         9: 0 [(42, -1), (42, -1), (42, -1)]",
    );
}
