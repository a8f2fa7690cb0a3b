//! ConsumerGroupHeartbeat 0-1: a member of the consumer protocol joins, lives, and leaves (KIP-848).
//!
//! Versions: 1 regular expressions, and clients make the ids of members. At `group.version` 0 it is answered
//! UNSUPPORTED_VERSION.

use kafka_protocol::messages::consumer_group_heartbeat_request::{
    ConsumerGroupHeartbeatRequest, TopicPartitions as OwnedPartitions,
};
use kafka_protocol::messages::consumer_group_heartbeat_response::{
    Assignment, ConsumerGroupHeartbeatResponse, TopicPartitions,
};

use super::text::{shared, text};
use super::{Call, Disconnect, Node};
use crate::group::consumer::heartbeat::{HeartbeatAnswer, HeartbeatRequest};
use crate::group::consumer::{Partitions, Refused};
use crate::metadata::features::Feature;
use crate::protocol::error_code::ErrorCode;

const CLIENT_MAKES_ID_FROM: i16 = 1;

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerGroupHeartbeatResponse, Disconnect> {
    if node.metadata.image().features.level(Feature::Group) < 1 {
        return Ok(ConsumerGroupHeartbeatResponse::default().with_error_code(ErrorCode::UnsupportedVersion.code()));
    }
    let heartbeat = HeartbeatRequest {
        group: shared(&request.group_id.0),
        member_id: shared(&request.member_id),
        epoch: request.member_epoch,
        instance_id: request.instance_id.as_ref().map(shared),
        rack_id: request.rack_id.as_ref().map(shared),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        topics: request.subscribed_topic_names.map(|names| names.iter().map(|name| shared(&name.0)).collect()),
        regex: request.subscribed_topic_regex.as_ref().map(shared),
        assignor: request.server_assignor.as_ref().map(shared),
        owned: request.topic_partitions.map(owned),
        client_id: call.client_id.clone().unwrap_or_default(),
        // As Java prints an address without a name.
        client_host: format!("/{}", call.peer.ip().to_canonical()).into(),
    };
    let answer = node.groups.consumer_heartbeat(heartbeat, call.version >= CLIENT_MAKES_ID_FROM).await;
    Ok(answer.map_or_else(|refused| refusal(&refused), response))
}

/// A topic that is named twice owns what both name; one that names no partition is not there.
fn owned(topics: Vec<OwnedPartitions>) -> Partitions {
    let mut owned = Partitions::new();
    for topic in topics {
        owned.entry(topic.topic_id).or_default().extend(topic.partitions);
    }
    owned
}

fn refusal(refused: &Refused) -> ConsumerGroupHeartbeatResponse {
    let message = Some(&*refused.message).filter(|message| !message.is_empty());
    ConsumerGroupHeartbeatResponse::default().with_error_code(refused.code.code()).with_error_message(message.map(text))
}

fn response(answer: HeartbeatAnswer) -> ConsumerGroupHeartbeatResponse {
    let assignment = answer.assignment.map(|assigned| {
        let topics = assigned.into_iter().map(|(topic, partitions)| {
            TopicPartitions::default().with_topic_id(topic).with_partitions(partitions.into_iter().collect())
        });
        Assignment::default().with_topic_partitions(topics.collect())
    });
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(text(&answer.member_id)))
        .with_member_epoch(answer.epoch)
        .with_heartbeat_interval_ms(answer.interval_ms)
        .with_assignment(assignment)
}
