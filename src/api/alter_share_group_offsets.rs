//! AlterShareGroupOffsets 0: where a share group without members goes on (KIP-932). A group that is not there is made.

use std::sync::Arc;

use kafka_protocol::messages::alter_share_group_offsets_request::AlterShareGroupOffsetsRequest;
use kafka_protocol::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponse, AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};
use uuid::Uuid;

use super::text::{shared, text};
use super::{Call, Disconnect, Node, share_states};
use crate::group::consumer::{Partitions, Refused};
use crate::group::coordinator::StatesTurn;
use crate::group::shard::StatesChange;
use crate::protocol::error_code::ErrorCode;
use crate::share::state::records::ShareKey;

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: AlterShareGroupOffsetsRequest,
) -> Result<AlterShareGroupOffsetsResponse, Disconnect> {
    let group = shared(&request.group_id.0);
    let turn = node.groups.states_turn(&group).await;
    if let Err(refused) = prepare(node, &turn).await {
        let message = Some(&*refused.message).filter(|message| !message.is_empty()).map(text);
        return Ok(AlterShareGroupOffsetsResponse::default()
            .with_error_code(refused.code.code())
            .with_error_message(message));
    }
    let image = node.metadata.image();
    let mut set = Partitions::new();
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let known = image.topic(&topic.topic_name.0).map(|known| (known.id, known.partition_count));
        let id = known.map_or(Uuid::nil(), |(id, _)| id);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.partition_index;
            let is_there = known.is_some_and(|(_, count)| (0..count).contains(&index));
            let key = ShareKey { group: Arc::clone(&group), topic: id, partition: index };
            let outcome = match is_there {
                true => node.shares.states().set(key.clone(), partition.start_offset).await,
                false => Err(ErrorCode::UnknownTopicOrPartition),
            };
            if outcome.is_ok() {
                set.entry(id).or_default().insert(index);
                // Whoever fetches next reads the new state.
                node.shares.forget(&key);
            }
            let code = outcome.err().unwrap_or(ErrorCode::None).code();
            partitions.push(
                AlterShareGroupOffsetsResponsePartition::default().with_partition_index(index).with_error_code(code),
            );
        }
        responses.push(
            AlterShareGroupOffsetsResponseTopic::default()
                .with_topic_name(topic.topic_name)
                .with_topic_id(id)
                .with_partitions(partitions),
        );
    }
    let written = share_states::change(node, &turn, StatesChange::Set(set)).await;
    let code = written.err().unwrap_or(ErrorCode::None).code();
    Ok(AlterShareGroupOffsetsResponse::default().with_error_code(code).with_responses(responses))
}

/// Has the group no members, or is it not there? What was being forgotten is, so that it does not take along what is set now.
async fn prepare(node: &Node, turn: &StatesTurn) -> Result<(), Refused> {
    let group = turn.group();
    if group.is_empty() {
        return Err(ErrorCode::InvalidGroupId.into());
    }
    match node.groups.share_states(Arc::clone(group), true).await {
        Ok(states) => Ok(share_states::finish_deleting(node, turn, &states).await?),
        Err(refused) if refused.code == ErrorCode::GroupIdNotFound && node.groups.is_free(group).await? => Ok(()),
        Err(refused) => Err(refused),
    }
}
