//! OffsetDelete 0: offsets of topics that a group no longer reads (KIP-496).

use std::sync::Arc;

use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequest;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};

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
    let exists = |topic: &str, partition: i32| {
        image.topic(topic).is_some_and(|topic| (0..topic.partition_count).contains(&partition))
    };
    let named = request.topics.iter().flat_map(|topic| {
        let name = shared(&topic.name.0);
        topic.partitions.iter().map(move |partition| (Arc::clone(&name), partition.partition_index))
    });
    let asked: Vec<_> = named.filter(|(topic, partition)| exists(topic, *partition)).collect();
    let outcomes = match asked.is_empty() {
        true => Vec::new(),
        false => match node.groups.delete_offsets(shared(&request.group_id.0), asked).await {
            Ok(outcomes) => outcomes,
            Err(error) => return Ok(OffsetDeleteResponse::default().with_error_code(error.code())),
        },
    };
    let mut outcomes = outcomes.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let outcome = match exists(&topic.name, partition.partition_index) {
                true => outcomes.next().unwrap_or(Ok(())),
                false => Err(ErrorCode::UnknownTopicOrPartition),
            };
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(outcome.err().unwrap_or(ErrorCode::None).code())
        });
        OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    let topics = topics.collect();
    Ok(OffsetDeleteResponse::default().with_topics(topics))
}
