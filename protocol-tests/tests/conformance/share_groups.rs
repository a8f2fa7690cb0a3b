//! Share groups (KIP-932): members, sessions, acquired records, what is said of them, and offsets.

use kafka_protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequestTopic;
use kafka_protocol::messages::describe_share_group_offsets_request::{
    DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch,
};
use kafka_protocol::messages::share_fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::share_group_heartbeat_response::ShareGroupHeartbeatResponse;
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, DeleteGroupsRequest, DeleteShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsRequest, IncrementalAlterConfigsRequest, ShareAcknowledgeRequest, ShareFetchRequest,
    ShareFetchResponse, ShareGroupDescribeRequest, ShareGroupHeartbeatRequest,
};
use terrace_protocol_tests::batch::Batch;
use terrace_protocol_tests::broker::Options;
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::raw_client::RawClient;
use uuid::Uuid;

use crate::group_scenario::{find, group};
use crate::scenario::{Scenario, scenario, scenario_of_ours, text, topic_name};

/// A group that begins at the log start and whose targets follow its epochs at once.
pub fn share_group(s: &mut Scenario) -> String {
    let name = fresh_name("s");
    find(s, &name);
    configure(s, &name, "share.auto.offset.reset", "earliest");
    set_assignment_interval(s, &name, 0);
    name
}

fn set_assignment_interval(s: &mut Scenario, name: &str, interval_ms: i32) {
    configure(s, name, "share.assignment.interval.ms", &interval_ms.to_string());
}

fn configure(s: &mut Scenario, name: &str, key: &str, value: &str) {
    let config = AlterableConfig::default().with_name(text(key)).with_config_operation(0).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(32)
        .with_resource_name(text(name))
        .with_configs(vec![config]);
    let answer = s.client.call(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    assert_eq!(answer.responses[0].error_code, 0, "{:?}", answer.responses[0].error_message);
}

fn beat(name: &str, member: &str, epoch: i32) -> ShareGroupHeartbeatRequest {
    ShareGroupHeartbeatRequest::default()
        .with_group_id(group(name))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
}

fn joins(name: &str, member: &str, topics: &[&str]) -> ShareGroupHeartbeatRequest {
    beat(name, member, 0).with_subscribed_topic_names(Some(topics.iter().map(|topic| topic_name(topic)).collect()))
}

/// A member that may read partition 0 of a topic.
pub struct Member {
    group: String,
    id: String,
    topic: Uuid,
    /// Of its session's next request.
    session: i32,
}

impl Member {
    /// Joins and beats until it is assigned something.
    pub fn join(s: &mut Scenario, group: &str, id: &str, topic: &str) -> Self {
        let owns = |answer: &ShareGroupHeartbeatResponse| {
            assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
            answer.assignment.as_ref().is_some_and(|assigned| !assigned.topic_partitions.is_empty())
        };
        let mut answer = s.client.call(1, &joins(group, id, &[topic]));
        while !owns(&answer) {
            answer = s.client.call(1, &beat(group, id, answer.member_epoch));
        }
        let topic = s.topic_id(topic).expect("it is there");
        Self { group: group.to_owned(), id: id.to_owned(), topic, session: 0 }
    }

    fn request(&self, epoch: i32, wait_ms: i32) -> ShareFetchRequest {
        let topics = match epoch {
            0 => vec![
                FetchTopic::default()
                    .with_topic_id(self.topic)
                    .with_partitions(vec![FetchPartition::default().with_partition_index(0)]),
            ],
            _ => Vec::new(),
        };
        ShareFetchRequest::default()
            .with_group_id(Some(group(&self.group)))
            .with_member_id(Some(text(&self.id)))
            .with_share_session_epoch(epoch)
            .with_max_wait_ms(wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_max_records(500)
            .with_batch_size(500)
            .with_topics(topics)
    }

    pub fn fetch(&mut self, s: &mut Scenario, wait_ms: i32) -> ShareFetchResponse {
        let answer = s.client.call(1, &self.request(self.session, wait_ms));
        self.session += 1;
        answer
    }

    /// Fetches until something comes, or for a second if nothing is to.
    pub fn tell_fetch(&mut self, s: &mut Scenario, what: &str) {
        let mut said = String::new();
        for _ in 0..10 {
            let answer = self.fetch(s, 500);
            said = acquired(&answer);
            if !said.is_empty() {
                break;
            }
        }
        s.say(format!("{what}: {said}"));
    }

    pub fn acknowledge(&mut self, s: &mut Scenario, what: &str, batches: &[(i64, i64, &[i8])]) {
        let batches = batches.iter().map(|(first, last, types)| {
            AcknowledgementBatch::default()
                .with_first_offset(*first)
                .with_last_offset(*last)
                .with_acknowledge_types(types.to_vec())
        });
        let partition =
            AcknowledgePartition::default().with_partition_index(0).with_acknowledgement_batches(batches.collect());
        let topic = AcknowledgeTopic::default().with_topic_id(self.topic).with_partitions(vec![partition]);
        let request = ShareAcknowledgeRequest::default()
            .with_group_id(Some(group(&self.group)))
            .with_member_id(Some(text(&self.id)))
            .with_share_session_epoch(self.session)
            .with_topics(vec![topic]);
        let answer = s.client.call(1, &request);
        if answer.error_code == 0 {
            self.session += 1;
        }
        let codes: Vec<_> =
            answer.responses.iter().flat_map(|topic| &topic.partitions).map(|one| one.error_code).collect();
        s.say(format!("{what}: {} {codes:?}", answer.error_code));
    }
}

/// Acquired ranges with their counts, or errors.
pub fn acquired(answer: &ShareFetchResponse) -> String {
    if answer.error_code != 0 {
        return format!("error {}", answer.error_code);
    }
    let mut said = Vec::new();
    for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
        if partition.error_code != 0 {
            said.push(format!("error {}", partition.error_code));
        }
        for some in &partition.acquired_records {
            said.push(format!("{}-{}, delivery {}", some.first_offset, some.last_offset, some.delivery_count));
        }
    }
    said.join(", ")
}

#[test]
fn what_is_given_back_comes_again_and_what_is_accepted_does_not() {
    scenario(
        |s| {
            let (name, topic) = (share_group(s), s.topic(1, &[]));
            let mut member = Member::join(s, &name, "m", &topic);
            s.produce(&topic, 0, Batch::of(&["a", "b", "c", "d", "e"]).build());
            member.tell_fetch(s, "first");
            member.acknowledge(s, "accept two, give two back, reject one", &[(0, 1, &[1]), (2, 4, &[2, 2, 3])]);
            member.tell_fetch(s, "again");
            member.acknowledge(s, "what is not held", &[(0, 1, &[1])]);
            member.acknowledge(s, "what nobody was given", &[(50, 60, &[1])]);
            member.acknowledge(s, "no types", &[(2, 3, &[])]);
            member.acknowledge(s, "too many types", &[(2, 3, &[1, 1, 1])]);
            member.acknowledge(s, "unknown type", &[(2, 3, &[9])]);
            member.acknowledge(s, "backwards", &[(3, 2, &[1])]);
            member.acknowledge(s, "overlapping", &[(2, 3, &[1]), (3, 3, &[1])]);
            member.acknowledge(s, "give back", &[(2, 3, &[2])]);
            for time in 3..=5 {
                member.tell_fetch(s, &format!("time {time}"));
                member.acknowledge(s, "give back", &[(2, 3, &[2])]);
            }
            s.produce(&topic, 0, Batch::of(&["f"]).build());
            member.tell_fetch(s, "behind the limit");
        },
        "first: 0-4, delivery 1\n\
         accept two, give two back, reject one: 0 [0]\n\
         again: 2-3, delivery 2\n\
         what is not held: 0 [0]\n\
         what nobody was given: 0 [42]\n\
         no types: 0 [42]\n\
         too many types: 0 [42]\n\
         unknown type: 0 [42]\n\
         backwards: 0 [42]\n\
         overlapping: 0 [121]\n\
         give back: 0 [0]\n\
         time 3: 2-3, delivery 3\n\
         give back: 0 [0]\n\
         time 4: 2-3, delivery 4\n\
         give back: 0 [0]\n\
         time 5: 2-2, delivery 5\n\
         give back: 0 [121]\n\
         behind the limit: 3-3, delivery 5\n",
    );
}

#[test]
fn a_session_goes_on_epoch_by_epoch_and_ends_with_its_connection() {
    scenario(
        |s| {
            let (name, topic) = (share_group(s), s.topic(1, &[]));
            let mut member = Member::join(s, &name, "m", &topic);
            s.produce(&topic, 0, Batch::of(&["a", "b"]).build());
            let answer = s.client.call(1, &member.request(3, 0));
            s.say(format!("no session: {}", acquired(&answer)));
            member.acknowledge(s, "acknowledge without one", &[(0, 0, &[1])]);
            member.tell_fetch(s, "opened");
            let answer = s.client.call(1, &member.request(member.session + 5, 0));
            s.say(format!("another epoch: {}", acquired(&answer)));
            let answer = s.client.call(1, &member.request(-1, 0));
            s.say(format!("closed: {}", acquired(&answer)));
            let answer = s.client.call(1, &member.request(-1, 0));
            s.say(format!("closed again: {}", acquired(&answer)));
            let first = std::mem::replace(&mut s.client, RawClient::connect(s.address));
            let mut other = Member::join(s, &name, "n", &topic);
            other.tell_fetch(s, "what the other gave back");
            let second = std::mem::replace(&mut s.client, first);
            let mut third = Member::join(s, &name, "o", &topic);
            let answer = third.fetch(s, 100);
            s.say(format!("nothing is left: {}", acquired(&answer)));
            // The connection goes, and the session with it.
            drop(second);
            third.tell_fetch(s, "what a lost connection held");
        },
        "no session: error 122\n\
         acknowledge without one: 123 []\n\
         opened: 0-1, delivery 1\n\
         another epoch: error 123\n\
         closed: \n\
         closed again: error 122\n\
         what the other gave back: 0-1, delivery 2\n\
         nothing is left: \n\
         what a lost connection held: 0-1, delivery 3\n",
    );
}

#[test]
fn members_come_and_go() {
    scenario(
        |s| {
            let (name, topic) = (share_group(s), s.topic(2, &[]));
            let bad = [
                ("no member", joins(&name, "", &[&topic])),
                ("no topics", beat(&name, "m", 0)),
                ("bad epoch", beat(&name, "m", -2)),
                ("blank rack", joins(&name, "m", &[&topic]).with_rack_id(Some(text("")))),
                ("no group", joins("", "m", &[&topic])),
                ("unknown group", beat(&name, "m", 3)),
            ];
            for (what, request) in bad {
                let answer = s.client.call(1, &request);
                let message = answer.error_message.as_deref().map(|message| message.replace(&name, "G"));
                s.say(format!("{what}: {} {message:?}", answer.error_code));
            }
            describe(s, &name);
            Member::join(s, &name, "m", &topic);
            Member::join(s, &name, "n", &topic);
            let answer = s.client.call(1, &beat(&name, "x", 2));
            let message = answer.error_message.as_deref().map(|message| message.replace(&name, "G"));
            s.say(format!("unknown member: {} {message:?}", answer.error_code));
            for member in ["m", "n"] {
                let answer = s.client.call(1, &beat(&name, member, -1));
                s.say(format!(
                    "{member} leaves: {} {} {:?}",
                    answer.error_code, answer.member_epoch, answer.assignment
                ));
            }
            describe_state(s, &name);
            let request = DeleteGroupsRequest::default().with_groups_names(vec![group(&name)]);
            let answer = s.client.call(2, &request);
            s.say(format!("deleted: {}", answer.results[0].error_code));
            describe(s, &name);
        },
        "no member: 42 None\n\
         no topics: 42 Some(\"SubscribedTopicNames must be set in first request.\")\n\
         bad epoch: 42 Some(\"MemberEpoch is invalid.\")\n\
         blank rack: 42 Some(\"RackId can't be empty.\")\n\
         no group: 42 Some(\"GroupId can't be empty.\")\n\
         unknown group: 69 Some(\"Share group G not found.\")\n\
         69 Some(\"Group G not found.\")  by  members 0\n\
         unknown member: 25 Some(\"Member x is not a member of group G.\")\n\
         m leaves: 0 -1 None\n\
         n leaves: 0 -1 None\n\
         0 Empty members 0\n\
         deleted: 0\n\
         69 Some(\"Group G not found.\")  by  members 0\n",
    );
}

/// The target that knows of the change is the assignment interval away; the topic is not the member's own until then.
#[test]
fn a_topic_that_a_member_gives_up_is_gone_before_the_next_target() {
    scenario(
        |s| {
            let (name, kept, given_up) = (share_group(s), s.topic(1, &[]), s.topic(1, &[]));
            let both = [&*kept, &*given_up];
            let count = |answer: &ShareGroupHeartbeatResponse| {
                assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
                answer.assignment.as_ref().map(|assigned| assigned.topic_partitions.len())
            };
            let mut answer = s.client.call(1, &joins(&name, "m", &both));
            while count(&answer) != Some(2) {
                let topics = both.iter().map(|topic| topic_name(topic)).collect();
                let request = beat(&name, "m", answer.member_epoch).with_subscribed_topic_names(Some(topics));
                answer = s.client.call(1, &request);
            }
            set_assignment_interval(s, &name, 15_000);
            let epoch = answer.member_epoch;
            let request = beat(&name, "m", epoch).with_subscribed_topic_names(Some(vec![topic_name(&kept)]));
            let answer = s.client.call(1, &request);
            // A Kafka that has not heard of the interval yet has a new target, with the same answer but for its epoch.
            s.say(format!("topics: {:?}", count(&answer)));
            let epoch = answer.member_epoch;
            let kept_id = s.topic_id(&kept).expect("it is there");
            let assigned = answer.assignment.expect("the subscription was in the request").topic_partitions;
            s.say(format!("the one it keeps: {}", assigned[0].topic_id == kept_id));
            let answer = s.client.call(1, &beat(&name, "m", epoch));
            s.say(format!("then: {:?}", count(&answer)));
        },
        "topics: Some(1)\n\
         the one it keeps: true\n\
         then: None\n",
    );
}

fn describe(s: &mut Scenario, name: &str) {
    let request = ShareGroupDescribeRequest::default().with_group_ids(vec![group(name)]);
    let answer = s.client.call(1, &request).groups.remove(0);
    let message = answer.error_message.as_deref().map(|message| message.replace(name, "G"));
    s.say(format!(
        "{} {message:?} {} by {} members {}",
        answer.error_code,
        &*answer.group_state,
        &*answer.assignor_name,
        answer.members.len()
    ));
}

fn describe_state(s: &mut Scenario, name: &str) {
    let request = ShareGroupDescribeRequest::default().with_group_ids(vec![group(name)]);
    let answer = s.client.call(1, &request).groups.remove(0);
    s.say(format!("{} {} members {}", answer.error_code, &*answer.group_state, answer.members.len()));
}

#[test]
fn offsets_are_described_set_and_deleted() {
    scenario(
        |s| {
            let (name, topic) = (share_group(s), s.topic(1, &[]));
            offsets(s, &name, &topic, "no group");
            let mut member = Member::join(s, &name, "m", &topic);
            s.produce(&topic, 0, Batch::of(&["a", "b", "c", "d", "e"]).build());
            member.tell_fetch(s, "all");
            member.acknowledge(s, "accept three", &[(0, 2, &[1])]);
            alter(s, &name, &topic, 1, "with members");
            let answer = s.client.call(1, &member.request(-1, 0));
            s.say(format!("closed: {}", acquired(&answer)));
            s.client.call(1, &beat(&name, "m", -1));
            alter(s, &name, &topic, 1, "without");
            offsets(s, &name, &topic, "set");
            alter(s, &name, "missing", 1, "another topic");
            delete(s, &name, &topic, "deleted");
            delete(s, &name, &topic, "deleted again");
        },
        "offsets, no group: 0 None [(0, -1, 0)]\n\
         all: 0-4, delivery 1\n\
         accept three: 0 [0]\n\
         alter, with members: 68 []\n\
         closed: \n\
         alter, without: 0 [0]\n\
         offsets, set: 0 None [(0, 1, 0)]\n\
         alter, another topic: 0 [3]\n\
         deleted: 0 [0]\n\
         deleted again: 0 [3]\n",
    );
}

#[test]
fn a_group_goes_on_where_its_offsets_were_set() {
    // A broker of Kafka that has the partition in memory goes on where it was, until its next write is fenced.
    scenario_of_ours(
        &Options::new(),
        |s| {
            let (name, topic) = (share_group(s), s.topic(1, &[]));
            let mut member = Member::join(s, &name, "m", &topic);
            s.produce(&topic, 0, Batch::of(&["a", "b", "c", "d", "e"]).build());
            member.tell_fetch(s, "all");
            member.acknowledge(s, "accept three", &[(0, 2, &[1])]);
            s.client.call(1, &member.request(-1, 0));
            s.client.call(1, &beat(&name, "m", -1));
            alter(s, &name, &topic, 1, "back");
            let mut member = Member::join(s, &name, "m", &topic);
            member.tell_fetch(s, "from there");
        },
        "all: 0-4, delivery 1\n\
         accept three: 0 [0]\n\
         alter, back: 0 [0]\n\
         from there: 1-4, delivery 1\n",
    );
}

fn offsets(s: &mut Scenario, name: &str, topic: &str, what: &str) {
    let topic =
        DescribeShareGroupOffsetsRequestTopic::default().with_topic_name(topic_name(topic)).with_partitions(vec![0]);
    let asked =
        DescribeShareGroupOffsetsRequestGroup::default().with_group_id(group(name)).with_topics(Some(vec![topic]));
    let request = DescribeShareGroupOffsetsRequest::default().with_groups(vec![asked]);
    let answer = s.client.call(0, &request).groups.remove(0);
    let message = answer.error_message.as_deref().map(|message| message.replace(name, "G"));
    let found: Vec<_> = answer
        .topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|one| (one.partition_index, one.start_offset, one.error_code))
        .collect();
    s.say(format!("offsets, {what}: {} {message:?} {found:?}", answer.error_code));
}

fn alter(s: &mut Scenario, name: &str, topic: &str, start: i64, what: &str) {
    let partition = AlterShareGroupOffsetsRequestPartition::default().with_partition_index(0).with_start_offset(start);
    let topic = AlterShareGroupOffsetsRequestTopic::default()
        .with_topic_name(topic_name(topic))
        .with_partitions(vec![partition]);
    let request = AlterShareGroupOffsetsRequest::default().with_group_id(group(name)).with_topics(vec![topic]);
    let answer = s.client.call(0, &request);
    let codes: Vec<_> = answer.responses.iter().flat_map(|one| &one.partitions).map(|one| one.error_code).collect();
    s.say(format!("alter, {what}: {} {codes:?}", answer.error_code));
}

fn delete(s: &mut Scenario, name: &str, topic: &str, what: &str) {
    let topic = DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(topic_name(topic));
    let request = DeleteShareGroupOffsetsRequest::default().with_group_id(group(name)).with_topics(vec![topic]);
    let answer = s.client.call(0, &request);
    let codes: Vec<_> = answer.responses.iter().map(|one| one.error_code).collect();
    s.say(format!("{what}: {} {codes:?}", answer.error_code));
}
