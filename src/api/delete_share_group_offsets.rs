//! DeleteShareGroupOffsets 0: a share group without members forgets topics (KIP-932).

use std::sync::Arc;

use kafka_protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequest;
use kafka_protocol::messages::delete_share_group_offsets_response::{
    DeleteShareGroupOffsetsResponse, DeleteShareGroupOffsetsResponseTopic,
};
use uuid::Uuid;

use super::text::{shared, text};
use super::{Call, Disconnect, Node, share_states};
use crate::group::coordinator::StatesTurn;
use crate::group::shard::StatesChange;
use crate::group::share::records::StatePartitions;
use crate::protocol::error_code::ErrorCode;

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: DeleteShareGroupOffsetsRequest,
) -> Result<DeleteShareGroupOffsetsResponse, Disconnect> {
    let group = shared(&request.group_id.0);
    let turn = node.groups.states_turn(&group).await;
    let states = match node.groups.share_states(Arc::clone(&group), true).await {
        Ok(states) => states,
        Err(refused) => {
            let message = Some(&*refused.message).filter(|message| !message.is_empty()).map(text);
            return Ok(DeleteShareGroupOffsetsResponse::default()
                .with_error_code(refused.code.code())
                .with_error_message(message));
        }
    };
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let id = states.topics_named(&topic.topic_name.0).first().copied();
        let outcome = match id {
            Some(id) => forget(node, &turn, &states, id).await,
            None => Err(ErrorCode::UnknownTopicOrPartition),
        };
        let is_there = node.metadata.image().topic(&topic.topic_name.0).is_some();
        let message =
            outcome.is_err_and(|error| error == ErrorCode::UnknownTopicOrPartition).then_some(match is_there {
                true => "There is no offset information to delete.",
                false => "This server does not host this topic-partition.",
            });
        responses.push(
            DeleteShareGroupOffsetsResponseTopic::default()
                .with_topic_name(topic.topic_name)
                .with_topic_id(id.unwrap_or_default())
                .with_error_code(outcome.err().unwrap_or(ErrorCode::None).code())
                .with_error_message(message.map(text)),
        );
    }
    Ok(DeleteShareGroupOffsetsResponse::default().with_responses(responses))
}

/// Forgets the states of one topic: what was begun and not finished is finished by whoever next changes states of the group.
async fn forget(node: &Node, turn: &StatesTurn, states: &StatePartitions, topic: Uuid) -> Result<(), ErrorCode> {
    share_states::forget(node, turn, states, &[topic]).await?;
    share_states::change(node, turn, StatesChange::Deleted(vec![topic])).await
}
