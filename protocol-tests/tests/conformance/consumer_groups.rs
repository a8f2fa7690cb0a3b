//! Groups of the consumer protocol (KIP-848): heartbeats, epochs, assignments, migration.

use std::net::SocketAddr;

use kafka_protocol::messages::consumer_group_heartbeat_request::{
    ConsumerGroupHeartbeatRequest, TopicPartitions as Owned,
};
use kafka_protocol::messages::consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest,
    TopicName,
};
use terrace::coordinator::partitioner::partition_for;
use terrace_protocol_tests::broker::Options;
use terrace_protocol_tests::compare::{both, fresh_name};
use uuid::Uuid;

use crate::group_scenario::{find, group, heartbeat, join_request, list_groups, stable, subscription, sync_request};
use crate::scenario::{Scenario, scenario, text, topic_name};

/// `offsets.topic.num.partitions`, as it is without a setting.
const OFFSETS_PARTITIONS: i32 = 50;

/// A group whose targets follow its epochs at once.
fn consumer_group(s: &mut Scenario) -> String {
    let name = fresh_name("g");
    find(s, &name);
    let config = AlterableConfig::default()
        .with_name(text("consumer.assignment.interval.ms"))
        .with_config_operation(0)
        .with_value(Some(text("0")));
    let resource = AlterConfigsResource::default()
        .with_resource_type(32)
        .with_resource_name(text(&name))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = s.client.call(1, &request);
    assert_eq!(answer.responses[0].error_code, 0, "{:?}", answer.responses[0].error_message);
    name
}

/// The heartbeat of a member in `epoch` that has no news.
pub fn beat(name: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group(name))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
}

/// The first heartbeat of a member, which owns nothing.
pub fn joins(name: &str, member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    beat(name, member, 0)
        .with_rebalance_timeout_ms(30_000)
        .with_subscribed_topic_names(Some(topics.iter().map(|topic| topic_name(topic)).collect()))
        .with_topic_partitions(Some(Vec::new()))
}

fn owning(request: ConsumerGroupHeartbeatRequest, topic: Uuid, partitions: &[i32]) -> ConsumerGroupHeartbeatRequest {
    let owned = Owned::default().with_topic_id(topic).with_partitions(partitions.to_vec());
    request.with_topic_partitions(Some(vec![owned]))
}

/// A group by [`consumer_group`] and a topic that its coordinator knows. Apache Kafka tells each coordinator of a topic on
/// its own and after Metadata shows it: a member that joins before owns nothing. So another group of the same coordinator
/// goes first.
fn group_and_topic(s: &mut Scenario, partitions: i32) -> (String, String) {
    let (name, topic) = (consumer_group(s), s.topic(partitions, &[]));
    let shard = |name: &str| partition_for(name, OFFSETS_PARTITIONS);
    let scout = (0..).map(|n| format!("{name}-{n}")).find(|scout| shard(scout) == shard(&name)).expect("one of 50");
    let owns = |answer: ConsumerGroupHeartbeatResponse| {
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        assigned(&answer).is_some_and(|partitions| !partitions.is_empty())
    };
    while !owns(s.beat(&joins(&scout, "scout", &[&topic]))) {}
    s.beat(&beat(&scout, "scout", -1));
    (name, topic)
}

/// Partitions of an answer's assignment, sorted; `None` when it says nothing.
fn assigned(answer: &ConsumerGroupHeartbeatResponse) -> Option<Vec<i32>> {
    let assignment = answer.assignment.as_ref()?;
    let mut all: Vec<_> = assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.clone()).collect();
    all.sort_unstable();
    Some(all)
}

impl Scenario {
    /// One heartbeat of version 1.
    fn beat(&mut self, request: &ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        self.client.call(1, request)
    }

    /// One heartbeat and its outcome in the transcript; only numbers of partitions, since which go where is the
    /// assignor's.
    fn tell(&mut self, what: &str, request: &ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
        let answer = self.beat(request);
        let count = assigned(&answer).map(|partitions| partitions.len());
        self.say(format!(
            "{what}: {} epoch {} in {} owns {count:?}",
            answer.error_code, answer.member_epoch, answer.heartbeat_interval_ms
        ));
        answer
    }

    /// The group as ConsumerGroupDescribe shows it, with names in place of ids.
    fn describe(&mut self, name: &str) {
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(name)]);
        let answer = self.client.call(1, &request).groups.remove(0);
        self.say(format!(
            "{} {:?} {} epoch {} assignment {} by {}",
            answer.error_code,
            answer.error_message.as_deref().map(|message| message.replace(name, "G")),
            &*answer.group_state,
            answer.group_epoch,
            answer.assignment_epoch,
            &*answer.assignor_name
        ));
        let mut members = answer.members;
        members.sort_by(|a, b| a.member_id.cmp(&b.member_id));
        for member in members {
            let count = |of: &kafka_protocol::messages::consumer_group_describe_response::Assignment| {
                of.topic_partitions.iter().map(|topic| topic.partitions.len()).sum::<usize>()
            };
            let id = if member.member_id.len() > 4 { "ID" } else { &*member.member_id };
            self.say(format!(
                "  {id} {:?} {:?} epoch {} at {} from {} {} topics {:?} type {} owns {} of {}",
                member.instance_id.as_deref(),
                member.rack_id.as_deref(),
                member.member_epoch,
                &*member.client_id,
                &*member.client_host,
                member.subscribed_topic_names.len(),
                member.subscribed_topic_regex.as_deref(),
                member.member_type,
                count(&member.assignment),
                count(&member.target_assignment),
            ));
        }
    }

    fn listed(&mut self, name: &str) {
        let request = ListGroupsRequest::default().with_types_filter(vec![text("Consumer")]);
        let as_consumer = list_groups(self, 5, &request).groups;
        let all = list_groups(self, 5, &ListGroupsRequest::default()).groups;
        let find = |groups: &[kafka_protocol::messages::list_groups_response::ListedGroup]| {
            let found = groups.iter().find(|listed| *listed.group_id == *name);
            found.map(|g| format!("{} {} {}", &*g.group_type, &*g.protocol_type, &*g.group_state))
        };
        self.say(format!("listed {:?} as consumer {:?}", find(&all), find(&as_consumer).is_some()));
    }

    fn commit(&mut self, version: i16, name: &str, member: &str, epoch: i32, topic: &str, partition: i32) -> i16 {
        let partition =
            OffsetCommitRequestPartition::default().with_partition_index(partition).with_committed_offset(3);
        let topic = OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group(name))
            .with_generation_id_or_member_epoch(epoch)
            .with_member_id(text(member))
            .with_topics(vec![topic]);
        self.client.call(version, &request).topics[0].partitions[0].error_code
    }

    fn fetch(&mut self, name: &str, member: Option<&str>, epoch: i32, topic: &str) -> String {
        let topic =
            OffsetFetchRequestTopics::default().with_name(TopicName(text(topic))).with_partition_indexes(vec![0]);
        let request = OffsetFetchRequest::default().with_groups(vec![
            OffsetFetchRequestGroup::default()
                .with_group_id(group(name))
                .with_member_id(member.map(text))
                .with_member_epoch(epoch)
                .with_topics(Some(vec![topic])),
        ]);
        let answer = self.client.call(9, &request).groups.remove(0);
        let offsets: Vec<_> =
            answer.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.committed_offset).collect();
        format!("{} {offsets:?}", answer.error_code)
    }
}

#[test]
fn members_come_share_and_go() {
    scenario(
        |s| {
            let (name, topic) = group_and_topic(s, 4);
            let id = s.topic_id(&topic).expect("just made");
            s.tell("a joins", &joins(&name, "a", &[&topic]));
            s.describe(&name);
            s.listed(&name);
            s.tell("a beats", &beat(&name, "a", 2));
            s.tell("b joins", &joins(&name, "b", &[&topic]));
            s.describe(&name);
            let told = s.tell("a owns all", &owning(beat(&name, "a", 2), id, &[0, 1, 2, 3]));
            let kept = assigned(&told).unwrap_or_default();
            s.describe(&name);
            s.tell("b waits", &beat(&name, "b", 3));
            s.tell("a gave back", &owning(beat(&name, "a", 2), id, &kept));
            s.tell("b gets", &beat(&name, "b", 3));
            s.describe(&name);
            s.tell("a says all", &owning(joins(&name, "a", &[&topic]).with_member_epoch(3), id, &kept));
            s.tell("b leaves", &beat(&name, "b", -1));
            s.tell("a grows", &beat(&name, "a", 3));
            s.tell("a leaves", &beat(&name, "a", -1));
            s.describe(&name);
            s.listed(&name);
            s.tell("a left", &beat(&name, "a", 4));
        },
        r#"a joins: 0 epoch 2 in 5000 owns Some(4)
           0 None Stable epoch 2 assignment 2 by uniform
           a None None epoch 2 at raw-client from /127.0.0.1 1 topics Some("") type 1 owns 4 of 4
           listed Some("consumer consumer Stable") as consumer true
           a beats: 0 epoch 2 in 5000 owns None
           b joins: 0 epoch 3 in 5000 owns Some(0)
           0 None Reconciling epoch 3 assignment 3 by uniform
           a None None epoch 2 at raw-client from /127.0.0.1 1 topics Some("") type 1 owns 4 of 2
           b None None epoch 3 at raw-client from /127.0.0.1 1 topics Some("") type 1 owns 0 of 2
           a owns all: 0 epoch 2 in 5000 owns Some(2)
           0 None Reconciling epoch 3 assignment 3 by uniform
           a None None epoch 2 at raw-client from /127.0.0.1 1 topics Some("") type 1 owns 4 of 2
           b None None epoch 3 at raw-client from /127.0.0.1 1 topics Some("") type 1 owns 0 of 2
           b waits: 0 epoch 3 in 5000 owns None
           a gave back: 0 epoch 3 in 5000 owns None
           b gets: 0 epoch 3 in 5000 owns Some(2)
           0 None Stable epoch 3 assignment 3 by uniform
           a None None epoch 3 at raw-client from /127.0.0.1 1 topics Some("") type 1 owns 2 of 2
           b None None epoch 3 at raw-client from /127.0.0.1 1 topics Some("") type 1 owns 2 of 2
           a says all: 0 epoch 3 in 5000 owns Some(2)
           b leaves: 0 epoch -1 in 0 owns None
           a grows: 0 epoch 4 in 5000 owns Some(4)
           a leaves: 0 epoch -1 in 0 owns None
           0 None Empty epoch 5 assignment 4 by uniform
           listed Some("consumer consumer Empty") as consumer true
           a left: 25 epoch 0 in 0 owns None"#,
    );
}

#[test]
fn what_makes_no_sense_is_refused() {
    scenario(
        |s| {
            let (name, topic) = group_and_topic(s, 1);
            assert_eq!(s.beat(&joins(&name, "a", &[&topic])).error_code, 0);
            let unknown = fresh_name("g");
            let cases = [
                ("no member id", beat(&name, "", 1)),
                ("joins without id", joins(&name, "", &[&topic])),
                ("no group", beat("", "a", 1)),
                ("blank group", beat(" ", "a", 1)),
                ("blank instance", beat(&name, "a", 1).with_instance_id(Some(text("")))),
                ("blank rack", beat(&name, "a", 1).with_rack_id(Some(text(" ")))),
                ("joins without timeout", joins(&name, "b", &[&topic]).with_rebalance_timeout_ms(-1)),
                ("joins with partitions", owning(joins(&name, "b", &[&topic]), Uuid::nil(), &[0])),
                ("joins without partitions", joins(&name, "b", &[&topic]).with_topic_partitions(None)),
                ("joins for nothing", joins(&name, "b", &[]).with_subscribed_topic_names(None)),
                ("epoch -3", beat(&name, "a", -3)),
                ("away without instance", beat(&name, "a", -2)),
                ("unknown assignor", joins(&name, "b", &[&topic]).with_server_assignor(Some(text("no")))),
                ("unknown group", beat(&unknown, "a", 1)),
                ("leaves unknown group", beat(&unknown, "a", -1)),
                ("unknown member", beat(&name, "b", 1)),
                ("unknown leaves", beat(&name, "b", -1)),
                ("greater epoch", beat(&name, "a", 3)),
                ("smaller epoch", beat(&name, "a", 1)),
                ("unknown instance", beat(&name, "a", 1).with_instance_id(Some(text("i")))),
            ];
            for (what, request) in cases {
                let answer = s.beat(&request);
                let message = answer.error_message.as_deref().map(|m| m.replace(&name, "G").replace(&unknown, "U"));
                s.say(format!(
                    "{what}: {} {message:?} {:?} {} {}",
                    answer.error_code,
                    answer.member_id.as_deref(),
                    answer.member_epoch,
                    answer.heartbeat_interval_ms
                ));
            }
            // The old way: the coordinator makes the id.
            let answer = s.client.call(0, &joins(&name, "", &[&topic]));
            s.say(format!("v0: {} id {:?}", answer.error_code, answer.member_id.as_deref().map(str::len)));
        },
        r#"no member id: 42 Some("MemberId can't be empty.") None 0 0
           joins without id: 42 Some("MemberId can't be empty.") None 0 0
           no group: 42 Some("GroupId can't be empty.") None 0 0
           blank group: 42 Some("GroupId can't be empty.") None 0 0
           blank instance: 42 Some("InstanceId can't be empty.") None 0 0
           blank rack: 42 Some("RackId can't be empty.") None 0 0
           joins without timeout: 42 Some("RebalanceTimeoutMs must be provided in first request.") None 0 0
           joins with partitions: 42 Some("TopicPartitions must be empty when (re-)joining.") None 0 0
           joins without partitions: 42 Some("TopicPartitions must be empty when (re-)joining.") None 0 0
           joins for nothing: 42 Some("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.") None 0 0
           epoch -3: 42 Some("MemberEpoch is invalid.") None 0 0
           away without instance: 42 Some("InstanceId can't be null.") None 0 0
           unknown assignor: 112 Some("ServerAssignor no is not supported. Supported assignors: uniform, range.") None 0 0
           unknown group: 69 Some("Consumer group U not found.") None 0 0
           leaves unknown group: 69 Some("Group U not found.") None 0 0
           unknown member: 25 Some("Member b is not a member of group G.") None 0 0
           unknown leaves: 25 Some("Member b is not a member of group G.") None 0 0
           greater epoch: 110 Some("The consumer group member has a greater member epoch (3) than the one known by the group coordinator (2). The member must abandon all its partitions and rejoin.") None 0 0
           smaller epoch: 110 Some("The consumer group member has a smaller member epoch (1) than the one known by the group coordinator (2). The member must abandon all its partitions and rejoin.") None 0 0
           unknown instance: 25 Some("Instance id i is unknown.") None 0 0
           v0: 0 id Some(22)"#,
    );
}

#[test]
fn static_members_return() {
    scenario(
        |s| {
            let (name, topic) = group_and_topic(s, 2);
            let fixed = |request: ConsumerGroupHeartbeatRequest| request.with_instance_id(Some(text("i")));
            s.tell("a joins", &fixed(joins(&name, "a", &[&topic])));
            s.tell("b may not", &fixed(joins(&name, "b", &[&topic])));
            s.tell("a is away", &fixed(beat(&name, "a", -2)));
            s.describe(&name);
            s.tell("a beats while away", &fixed(beat(&name, "a", 2)));
            s.tell("b takes its place", &fixed(joins(&name, "b", &[&topic])));
            s.describe(&name);
            s.tell("a is fenced", &fixed(beat(&name, "a", 2)));
            s.tell("b without its instance", &beat(&name, "b", 2));
            s.tell("b leaves", &fixed(beat(&name, "b", -1)));
            s.describe(&name);
        },
        r#"a joins: 0 epoch 2 in 5000 owns Some(2)
           b may not: 111 epoch 0 in 0 owns None
           a is away: 0 epoch -2 in 0 owns None
           0 None Reconciling epoch 2 assignment 2 by uniform
           a Some("i") None epoch -2 at raw-client from /127.0.0.1 1 topics Some("") type 1 owns 2 of 2
           a beats while away: 110 epoch 0 in 0 owns None
           b takes its place: 0 epoch 2 in 5000 owns Some(2)
           0 None Stable epoch 2 assignment 2 by uniform
           b Some("i") None epoch 2 at raw-client from /127.0.0.1 1 topics Some("") type 1 owns 2 of 2
           a is fenced: 82 epoch 0 in 0 owns None
           b without its instance: 0 epoch 2 in 5000 owns None
           b leaves: 0 epoch -1 in 0 owns None
           0 None Empty epoch 3 assignment 2 by uniform"#,
    );
}

/// Heartbeats of a member until its epoch or assignment moves.
fn until_moved(s: &mut Scenario, request: &ConsumerGroupHeartbeatRequest) -> ConsumerGroupHeartbeatResponse {
    loop {
        let answer = s.beat(request);
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        if answer.member_epoch != request.member_epoch {
            return answer;
        }
    }
}

#[test]
fn regular_expressions_name_topics() {
    scenario(
        |s| {
            let (name, topic) = group_and_topic(s, 3);
            let by_regex = |member: &str, regex: &str| {
                joins(&name, member, &[])
                    .with_subscribed_topic_names(None)
                    .with_subscribed_topic_regex(Some(text(regex)))
            };
            for bad in ["(", "a[", "*", r"(a)\1"] {
                let answer = s.beat(&by_regex("x", bad));
                s.say(format!("{bad}: {} {}", answer.error_code, answer.error_message.is_some()));
            }
            let whole = format!("^{topic}$");
            s.tell("a joins", &by_regex("a", &whole));
            let answer = until_moved(s, &beat(&name, "a", 1));
            s.say(format!("resolved: epoch {} owns {:?}", answer.member_epoch, assigned(&answer)));
            s.describe_regex(&name, &topic);
            // Another member with the same expression needs no look.
            s.tell("b joins", &by_regex("b", &whole));
            s.tell(
                "a by name",
                &beat(&name, "a", 1)
                    .with_subscribed_topic_regex(Some(text("")))
                    .with_subscribed_topic_names(Some(vec![topic_name(&topic)])),
            );
        },
        r#"(: 128 true
           a[: 128 true
           *: 128 true
           (a)\1: 128 true
           a joins: 0 epoch 1 in 5000 owns Some(0)
           resolved: epoch 2 owns Some([0, 1, 2])
           Stable topics 0 regex Some("^T$")
           b joins: 0 epoch 3 in 5000 owns Some(0)
           a by name: 110 epoch 0 in 0 owns None"#,
    );
}

impl Scenario {
    fn describe_regex(&mut self, name: &str, topic: &str) {
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(name)]);
        let answer = self.client.call(1, &request).groups.remove(0);
        let member = &answer.members[0];
        self.say(format!(
            "{} topics {} regex {:?}",
            &*answer.group_state,
            member.subscribed_topic_names.len(),
            member.subscribed_topic_regex.as_deref().map(|regex| regex.replace(topic, "T"))
        ));
    }
}

#[test]
fn offsets_are_the_members_own() {
    scenario(
        |s| {
            let (name, topic) = group_and_topic(s, 1);
            s.beat(&joins(&name, "a", &[&topic]));
            let cases: [(i16, &str, i32); 7] =
                [(9, "a", 2), (8, "a", 2), (9, "a", 1), (9, "a", 3), (9, "b", 2), (9, "", -1), (9, "a", -1)];
            for (version, member, epoch) in cases {
                let error = s.commit(version, &name, member, epoch, &topic, 0);
                s.say(format!("commit v{version} by {member:?} at {epoch}: {error}"));
            }
            for (member, epoch) in
                [(None, -1), (Some("a"), 2), (Some("a"), 1), (Some("a"), 3), (Some("b"), 2), (Some(""), -1)]
            {
                let found = s.fetch(&name, member, epoch, &topic);
                s.say(format!("fetch by {member:?} at {epoch}: {found}"));
            }
            s.beat(&beat(&name, "a", -1));
            let error = s.commit(9, &name, "", -1, &topic, 0);
            s.say(format!("commit when empty: {error}"));
            let error = s.commit(9, &fresh_name("g"), "a", 1, &topic, 0);
            s.say(format!("commit to no group: {error}"));
        },
        r#"commit v9 by "a" at 2: 0
           commit v8 by "a" at 2: 35
           commit v9 by "a" at 1: 113
           commit v9 by "a" at 3: 113
           commit v9 by "b" at 2: 25
           commit v9 by "" at -1: 25
           commit v9 by "a" at -1: 113
           fetch by None at -1: 0 [3]
           fetch by Some("a") at 2: 0 [3]
           fetch by Some("a") at 1: 113 []
           fetch by Some("a") at 3: 113 []
           fetch by Some("b") at 2: 25 []
           fetch by Some("") at -1: 25 []
           commit when empty: 0
           commit to no group: 69"#,
    );
}

#[test]
fn the_classic_apis_see_another_kind_of_group() {
    scenario(
        |s| {
            let (name, topic) = group_and_topic(s, 1);
            s.beat(&joins(&name, "a", &[&topic]));
            for version in [5, 6] {
                let request = DescribeGroupsRequest::default().with_groups(vec![group(&name)]);
                let found = s.client.call(version, &request).groups.remove(0);
                let message = found.error_message.as_deref().map(|message| message.replace(&name, "G"));
                s.say(format!("describe v{version}: {} {message:?} {}", found.error_code, &*found.group_state));
            }
            let error = heartbeat(&mut s.client, &name, 2, "a");
            s.say(format!("heartbeat: {error}"));
            let answer = s.client.call(5, &sync_request(&name, 2, "a", &[]));
            s.say(format!("sync: {}", answer.error_code));
            let request = LeaveGroupRequest::default()
                .with_group_id(group(&name))
                .with_members(vec![MemberIdentity::default().with_member_id(text("nobody"))]);
            let answer = s.client.call(5, &request);
            s.say(format!("leave: {} {}", answer.error_code, answer.members[0].error_code));
            let other = join_request(&name, "", None, &[("range", subscription(&[&topic]))]);
            let answer = s.client.call(9, &other.clone().with_protocol_type(text("connect")));
            s.say(format!("joins as connect: {}", answer.error_code));
            let request = DeleteGroupsRequest::default().with_groups_names(vec![group(&name)]);
            let code = s.client.call(2, &request).results[0].error_code;
            s.say(format!("delete: {code}"));
            // A classic group is no consumer group either.
            let classic = fresh_name("g");
            stable(s, &classic, &[&topic]);
            let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(&classic), group("")]);
            let mut described = s.client.call(1, &request).groups;
            described.sort_by_key(|found| found.error_code);
            for found in described {
                let message = found.error_message.as_deref().map(|message| message.replace(&classic, "C"));
                s.say(format!("describe as consumer: {} {message:?} {:?}", found.error_code, &*found.group_state));
            }
            // Its assignment is nothing that a consumer wrote.
            let answer = s.beat(&joins(&classic, "a", &[&topic]));
            let message = answer.error_message.as_deref().map(|message| message.replace(&classic, "C"));
            s.say(format!("upgrade: {} {message:?}", answer.error_code));
            s.beat(&beat(&name, "a", -1));
            let request = DeleteGroupsRequest::default().with_groups_names(vec![group(&name)]);
            let code = s.client.call(2, &request).results[0].error_code;
            s.say(format!("delete when empty: {code}"));
            s.describe(&name);
        },
        r#"describe v5: 0 None Dead
           describe v6: 69 Some("Group G is not a classic group.") Dead
           heartbeat: 25
           sync: 25
           leave: 0 25
           joins as connect: 23
           delete: 68
           describe as consumer: 24 None ""
           describe as consumer: 69 Some("Group C is not a consumer group.") ""
           upgrade: 69 Some("Cannot upgrade classic group C to consumer group because the embedded consumer protocol is malformed.")
           delete when empty: 0
           69 Some("Group G not found.")  epoch 0 assignment 0 by"#,
    );
}

/// ConsumerProtocolAssignment version 0 of all partitions of one topic.
fn classic_assignment(topic: &str, partitions: i32) -> &'static [u8] {
    let mut bytes = vec![0, 0, 0, 0, 0, 1];
    bytes.extend(i16::try_from(topic.len()).expect("short").to_be_bytes());
    bytes.extend(topic.as_bytes());
    bytes.extend(partitions.to_be_bytes());
    (0..partitions).for_each(|partition| bytes.extend(partition.to_be_bytes()));
    bytes.extend((-1i32).to_be_bytes());
    bytes.leak()
}

/// A classic group of one that owns all of `topic`: generation and member.
fn classic_owner(s: &mut Scenario, name: &str, topic: &str, partitions: i32) -> (i32, String) {
    let joined = crate::group_scenario::join(&mut s.client, name, &[topic]);
    let member = joined.member_id.to_string();
    let all = classic_assignment(topic, partitions);
    let answer = s.client.call(5, &sync_request(name, joined.generation_id, &member, &[(&member, all)]));
    assert_eq!(answer.error_code, 0);
    (joined.generation_id, member)
}

#[test]
fn a_group_changes_its_protocol_and_back() {
    both(
        &Options::new(),
        |address: SocketAddr| {
            let mut s = Scenario::on(address);
            let (name, topic) = group_and_topic(&mut s, 4);
            let (generation, member) = classic_owner(&mut s, &name, &topic, 4);
            s.listed(&name);
            s.tell("b joins", &joins(&name, "b", &[&topic]));
            s.listed(&name);
            s.describe(&name);
            let beat_classic = |s: &mut Scenario, generation: i32| heartbeat(&mut s.client, &name, generation, &member);
            let error = beat_classic(&mut s, generation);
            s.say(format!("classic beats: {error}"));
            let error = beat_classic(&mut s, generation + 1);
            s.say(format!("classic beats ahead: {error}"));
            // It says that it owns nothing.
            let request = join_request(&name, &member, None, &[("range", subscription(&[&topic]))]);
            let joined = s.client.call(9, &request);
            s.say(format!(
                "classic rejoins: {} generation {} {:?} {:?} leader {:?} members {}",
                joined.error_code,
                joined.generation_id,
                joined.protocol_type.as_deref(),
                joined.protocol_name.as_deref(),
                &*joined.leader,
                joined.members.len()
            ));
            let synced = s.client.call(5, &sync_request(&name, joined.generation_id, &member, &[]));
            s.say(format!("classic syncs: {} {} bytes", synced.error_code, synced.assignment.len() - topic.len()));
            let error = beat_classic(&mut s, joined.generation_id);
            s.say(format!("classic beats: {error}"));
            let beats = HeartbeatRequest::default().with_group_id(group(&name)).with_member_id(text("b"));
            let error = s.client.call(4, &beats.with_generation_id(2)).error_code;
            s.say(format!("b beats as classic: {error}"));
            s.tell("b gets", &beat(&name, "b", 2));
            s.describe(&name);
            let error = s.commit(8, &name, &member, joined.generation_id, &topic, 0);
            s.say(format!("classic commits: {error}"));
            s.tell("b leaves", &beat(&name, "b", -1));
            s.listed(&name);
            let error = beat_classic(&mut s, joined.generation_id);
            s.say(format!("classic beats: {error}"));
            let rejoined = s.client.call(9, &request);
            s.say(format!(
                "classic rejoins: {} generation {} leads {} members {}",
                rejoined.error_code,
                rejoined.generation_id,
                *rejoined.leader == *member,
                rejoined.members.len()
            ));
            s.end()
        },
        r#"listed Some("classic consumer Stable") as consumer false
           b joins: 0 epoch 2 in 5000 owns Some(0)
           listed Some("consumer consumer Reconciling") as consumer true
           0 None Reconciling epoch 2 assignment 2 by uniform
           b None None epoch 2 at raw-client from /127.0.0.1 1 topics Some("") type 1 owns 0 of 2
           ID None None epoch 1 at raw-client from /127.0.0.1 1 topics Some("") type 0 owns 4 of 2
           classic beats: 27
           classic beats ahead: 22
           classic rejoins: 0 generation 2 Some("consumer") Some("range") leader "" members 0
           classic syncs: 0 24 bytes
           classic beats: 0
           b beats as classic: 25
           b gets: 0 epoch 2 in 5000 owns Some(2)
           0 None Stable epoch 2 assignment 2 by uniform
           b None None epoch 2 at raw-client from /127.0.0.1 1 topics Some("") type 1 owns 2 of 2
           ID None None epoch 2 at raw-client from /127.0.0.1 1 topics Some("") type 0 owns 2 of 2
           classic commits: 0
           b leaves: 0 epoch -1 in 0 owns None
           listed Some("classic consumer PreparingRebalance") as consumer false
           classic beats: 27
           classic rejoins: 0 generation 3 leads true members 1"#,
    );
}
