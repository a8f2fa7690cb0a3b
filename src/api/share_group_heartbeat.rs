//! ShareGroupHeartbeat 1: a member of a share group joins, lives, and leaves (KIP-932). At `share.version` 0 it is answered
//! UNSUPPORTED_VERSION.
//!
//! Partitions that nobody keeps a state for are given to the share coordinator first, so that who joins is assigned them at
//! once.

use std::sync::Arc;

use kafka_protocol::messages::share_group_heartbeat_request::ShareGroupHeartbeatRequest;
use kafka_protocol::messages::share_group_heartbeat_response::{
    Assignment, ShareGroupHeartbeatResponse, TopicPartitions,
};

use super::text::{shared, text};
use super::{Call, Disconnect, Node, share_states};
use crate::group::consumer::Refused;
use crate::group::consumer::heartbeat::HeartbeatAnswer;
use crate::group::share::heartbeat::HeartbeatRequest;
use crate::metadata::features::Feature;
use crate::protocol::error_code::ErrorCode;

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: ShareGroupHeartbeatRequest,
) -> Result<ShareGroupHeartbeatResponse, Disconnect> {
    if node.metadata.image().features.level(Feature::Share) < 1 {
        return Ok(ShareGroupHeartbeatResponse::default().with_error_code(ErrorCode::UnsupportedVersion.code()));
    }
    let heartbeat = HeartbeatRequest {
        group: shared(&request.group_id.0),
        member_id: shared(&request.member_id),
        epoch: request.member_epoch,
        rack_id: request.rack_id.as_ref().map(shared),
        topics: request.subscribed_topic_names.map(|names| names.iter().map(|name| shared(&name.0)).collect()),
        client_id: call.client_id.clone().unwrap_or_default(),
        // As Java prints an address without a name.
        client_host: format!("/{}", call.peer.ip().to_canonical()).into(),
    };
    Ok(live(node, heartbeat).await.map_or_else(|refused| refusal(&refused), response))
}

async fn live(node: &Node, heartbeat: HeartbeatRequest) -> Result<HeartbeatAnswer, Refused> {
    let group = Arc::clone(&heartbeat.group);
    let lives = node.groups.share_heartbeat(heartbeat.clone()).await?;
    if lives.uninitialized.is_empty() {
        return Ok(lives.answer);
    }
    match share_states::initialize(node, &group, &lives.uninitialized).await {
        Ok(()) => Ok(node.groups.share_heartbeat(heartbeat).await?.answer),
        Err(error) => {
            // The member reads what there is; its next heartbeat tries again.
            tracing::warn!(%group, ?error, "partitions of a share group cannot be initialized yet");
            Ok(lives.answer)
        }
    }
}

fn refusal(refused: &Refused) -> ShareGroupHeartbeatResponse {
    let message = Some(&*refused.message).filter(|message| !message.is_empty());
    ShareGroupHeartbeatResponse::default().with_error_code(refused.code.code()).with_error_message(message.map(text))
}

fn response(answer: HeartbeatAnswer) -> ShareGroupHeartbeatResponse {
    let assignment = answer.assignment.map(|assigned| {
        let topics = assigned.into_iter().map(|(topic, partitions)| {
            TopicPartitions::default().with_topic_id(topic).with_partitions(partitions.into_iter().collect())
        });
        Assignment::default().with_topic_partitions(topics.collect())
    });
    ShareGroupHeartbeatResponse::default()
        .with_member_id(Some(text(&answer.member_id)))
        .with_member_epoch(answer.epoch)
        .with_heartbeat_interval_ms(answer.interval_ms)
        .with_assignment(assignment)
}
