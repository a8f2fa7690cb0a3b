//! DeleteShareGroupOffsets 0: a share group without members forgets topics (KIP-932).

use std::sync::Arc;

use kafka_protocol::messages::delete_share_group_offsets_request::DeleteShareGroupOffsetsRequest;
use kafka_protocol::messages::delete_share_group_offsets_response::{
    DeleteShareGroupOffsetsResponse, DeleteShareGroupOffsetsResponseTopic,
};
use uuid::Uuid;

use super::text::{shared, text};
use super::{Call, Disconnect, Node};
use crate::group::shard::StatesChange;
use crate::group::share::records::StatePartitions;
use crate::protocol::error_code::ErrorCode;
use crate::share::state::records::ShareKey;

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: DeleteShareGroupOffsetsRequest,
) -> Result<DeleteShareGroupOffsetsResponse, Disconnect> {
    let group = shared(&request.group_id.0);
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
        let id = states.topics_named(&[shared(&topic.topic_name.0)]).first().copied();
        let outcome = match id {
            Some(id) => forget(node, &group, &states, id).await,
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

/// Forgets the states of one topic: what was begun and not finished is asked for again by the next request.
async fn forget(node: &Node, group: &Arc<str>, states: &StatePartitions, topic: Uuid) -> Result<(), ErrorCode> {
    node.groups.change_share_states(Arc::clone(group), StatesChange::Deleting(vec![topic])).await?;
    forget_states(node, group, states, Some(topic)).await?;
    node.groups.change_share_states(Arc::clone(group), StatesChange::Deleted(vec![topic])).await
}

/// Has the share coordinator forget the states of a group, of all topics or of one.
pub(super) async fn forget_states(
    node: &Node,
    group: &Arc<str>,
    states: &StatePartitions,
    only: Option<Uuid>,
) -> Result<(), ErrorCode> {
    let kept =
        states.initialized.iter().chain(&states.initializing).filter(|(id, _)| only.is_none_or(|one| one == **id));
    let keys: Vec<_> = kept.flat_map(|(id, topic)| topic.partitions.iter().map(|one| (*id, *one))).collect();
    for (topic, partition) in keys {
        let key = ShareKey { group: Arc::clone(group), topic, partition };
        node.shares.states().delete(key.clone()).await?;
        node.shares.forget(&key);
    }
    Ok(())
}
