//! What the scenarios of groups share: requests in short, and a group in a known state.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, ListGroupsRequest,
    ListGroupsResponse, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use terrace_protocol_tests::compare::fresh_name;
use terrace_protocol_tests::raw_client::RawClient;

use crate::scenario::{Scenario, text, topic_name};

/// More than a busy machine needs to read fifty logs with next to nothing in them.
const LOADED_WITHIN: Duration = Duration::from_secs(30);

pub fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

/// Waits until there is a coordinator of `name`, a group (0) or a transactional id (1).
pub fn find_coordinator(s: &mut Scenario, kind: i8, name: &str) {
    let request = FindCoordinatorRequest::default().with_key_type(kind).with_coordinator_keys(vec![text(name)]);
    while s.client.call(4, &request).coordinators[0].error_code != 0 {}
}

/// Lists groups once every partition of `__consumer_offsets` is loaded: until then there is no list (14), although the
/// group that the scenario works with is served.
pub fn list_groups(s: &mut Scenario, version: i16, request: &ListGroupsRequest) -> ListGroupsResponse {
    let began = Instant::now();
    loop {
        let listed = s.client.call(version, request);
        if listed.error_code != 14 {
            return listed;
        }
        assert!(began.elapsed() < LOADED_WITHIN, "a partition of __consumer_offsets does not load");
    }
}

/// Waits until the coordinator of `name` answers.
pub fn find(s: &mut Scenario, name: &str) {
    loop {
        find_coordinator(s, 0, name);
        let heartbeat = HeartbeatRequest::default().with_group_id(group(name)).with_member_id(text("x"));
        // Nobody knows this member. Apache Kafka answers a heartbeat with no error while it loads the group.
        if s.client.call(4, &heartbeat).error_code == 25 {
            return;
        }
    }
}

/// What a consumer that subscribes to `topics` sends as its metadata (ConsumerProtocolSubscription version 0).
pub fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = vec![0, 0];
    bytes.extend(i32::try_from(topics.len()).expect("few").to_be_bytes());
    for topic in topics {
        bytes.extend(i16::try_from(topic.len()).expect("short").to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    bytes.extend((-1i32).to_be_bytes());
    bytes.into()
}

pub fn join_request(name: &str, member: &str, instance: Option<&str>, protocols: &[(&str, Bytes)]) -> JoinGroupRequest {
    JoinGroupRequest::default()
        .with_group_id(group(name))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_member_id(text(member))
        .with_group_instance_id(instance.map(text))
        .with_protocol_type(text("consumer"))
        .with_protocols(
            protocols
                .iter()
                .map(|(name, metadata)| {
                    JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(metadata.clone())
                })
                .collect(),
        )
}

/// Joins as one new dynamic member, through MEMBER_ID_REQUIRED.
pub fn join(client: &mut RawClient, name: &str, topics: &[&str]) -> JoinGroupResponse {
    let protocols = [("range", subscription(topics))];
    let first = client.call(9, &join_request(name, "", None, &protocols));
    assert_eq!(first.error_code, 79, "a new member is told its id");
    client.call(9, &join_request(name, &first.member_id, None, &protocols))
}

pub fn sync_request(
    name: &str,
    generation: i32,
    member: &str,
    assignments: &[(&str, &'static [u8])],
) -> SyncGroupRequest {
    SyncGroupRequest::default()
        .with_group_id(group(name))
        .with_generation_id(generation)
        .with_member_id(text(member))
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(
            assignments
                .iter()
                .map(|(member, bytes)| {
                    SyncGroupRequestAssignment::default()
                        .with_member_id(text(member))
                        .with_assignment(Bytes::from_static(bytes))
                })
                .collect(),
        )
}

pub fn heartbeat(client: &mut RawClient, name: &str, generation: i32, member: &str) -> i16 {
    let request = HeartbeatRequest::default()
        .with_group_id(group(name))
        .with_generation_id(generation)
        .with_member_id(text(member));
    client.call(4, &request).error_code
}

pub fn commit(client: &mut RawClient, name: &str, generation: i32, member: &str, topic: &str, offset: i64) -> i16 {
    let request = OffsetCommitRequest::default()
        .with_group_id(group(name))
        .with_generation_id_or_member_epoch(generation)
        .with_member_id(text(member))
        .with_topics(vec![OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![
            OffsetCommitRequestPartition::default()
                .with_partition_index(0)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(-1)
                .with_committed_metadata(Some(text("m"))),
        ])]);
    client.call(8, &request).topics[0].partitions[0].error_code
}

pub fn committed(client: &mut RawClient, name: &str, topic: Option<&str>) -> String {
    let topics = topic.map(|topic| {
        vec![OffsetFetchRequestTopics::default().with_name(topic_name(topic)).with_partition_indexes(vec![0])]
    });
    let request = OffsetFetchRequest::default()
        .with_groups(vec![OffsetFetchRequestGroup::default().with_group_id(group(name)).with_topics(topics)]);
    let answer = client.call(8, &request);
    let found = &answer.groups[0];
    let offsets: Vec<_> = found
        .topics
        .iter()
        .flat_map(|t| &t.partitions)
        .map(|p| {
            format!("{}@{} {:?} error {}", p.partition_index, p.committed_offset, p.metadata.as_deref(), p.error_code)
        })
        .collect();
    format!("error {} {offsets:?}", found.error_code)
}

/// A group of one stable member: generation and member id.
pub fn stable(s: &mut Scenario, name: &str, topics: &[&str]) -> (i32, String) {
    find(s, name);
    let joined = join(&mut s.client, name, topics);
    let member = joined.member_id.to_string();
    let answer = s.client.call(5, &sync_request(name, joined.generation_id, &member, &[(&member, b"all")]));
    assert_eq!((answer.error_code, &answer.assignment[..]), (0, &b"all"[..]));
    (joined.generation_id, member)
}

pub fn two_members(address: SocketAddr) -> (Scenario, RawClient, String) {
    let mut s = Scenario::on(address);
    let name = fresh_name("g");
    find(&mut s, &name);
    (s, RawClient::connect(address), name)
}
