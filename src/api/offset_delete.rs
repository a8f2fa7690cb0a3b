//! OffsetDelete 0: offsets of topics that a group no longer reads (KIP-496).

use std::sync::Arc;

use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequest;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};

use super::by_topic::{Refused, decided};
use super::text::shared;
use super::{Call, Disconnect, Node};
use crate::protocol::error_code::ErrorCode;

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: OffsetDeleteRequest,
) -> Result<OffsetDeleteResponse, Disconnect> {
    if request.group_id.is_empty() {
        return Ok(OffsetDeleteResponse::default().with_error_code(ErrorCode::InvalidGroupId.code()));
    }
    let image = node.metadata.image();
    let mut refused = Refused::new();
    let mut asked = Vec::new();
    for topic in &request.topics {
        let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
        let Some(known) = image.topic(&topic.name.0) else {
            refused.add(&topic.name, indexes, ErrorCode::UnknownTopicOrPartition);
            continue;
        };
        let (existing, others): (Vec<_>, Vec<_>) =
            indexes.partition(|index| (0..known.partition_count).contains(index));
        if !others.is_empty() {
            refused.add(&topic.name, others, ErrorCode::UnknownTopicOrPartition);
        }
        if !existing.is_empty() {
            asked.push((&topic.name, existing));
        }
    }
    // The group is asked even for nothing: whether it exists counts before what exists in it.
    let partitions = asked.iter().flat_map(|(name, indexes)| {
        let name = shared(&name.0);
        indexes.iter().map(move |index| (Arc::clone(&name), *index))
    });
    let outcomes = match node.groups.delete_offsets(shared(&request.group_id.0), partitions.collect()).await {
        Ok(outcomes) => outcomes,
        Err(error) => return Ok(OffsetDeleteResponse::default().with_error_code(error.code())),
    };
    let topics = refused.and(decided(asked, Ok(outcomes))).into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, error)| {
            OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(error.code())
        });
        OffsetDeleteResponseTopic::default().with_name(name.clone()).with_partitions(partitions.collect())
    });
    let topics = topics.collect();
    Ok(OffsetDeleteResponse::default().with_topics(topics))
}
