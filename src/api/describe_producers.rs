//! DescribeProducers 0: who writes to a partition, and who has a transaction open there (KIP-664).

use kafka_protocol::messages::describe_producers_request::DescribeProducersRequest;
use kafka_protocol::messages::describe_producers_response::{
    DescribeProducersResponse, PartitionResponse, ProducerState as Described, TopicResponse,
};

use super::change::Refusal;
use super::text::text;
use super::topic_creation::illegal_name;
use super::{Call, Disconnect, Node};
use crate::partition::producers::ProducerState;
use crate::protocol::error_code::ErrorCode;

const UNKNOWN_TOPIC: &str = "This server does not host this topic-partition.";

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: DescribeProducersRequest,
) -> Result<DescribeProducersResponse, Disconnect> {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let refused = match node.metadata.image().topic(&topic.name) {
            Some(_) => None,
            None => Some(illegal_name(&topic.name).map_or_else(
                || Refusal::new(ErrorCode::UnknownTopicOrPartition, UNKNOWN_TOPIC),
                |why| Refusal::new(ErrorCode::InvalidTopicException, why),
            )),
        };
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in topic.partition_indexes {
            let answer = PartitionResponse::default().with_partition_index(index);
            partitions.push(match &refused {
                None => describe(node, &topic.name, index, answer).await,
                Some(refusal) => {
                    answer.with_error_code(refusal.code.code()).with_error_message(refusal.message.as_deref().map(text))
                }
            });
        }
        topics.push(TopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    Ok(DescribeProducersResponse::default().with_topics(topics))
}

async fn describe(node: &Node, topic: &str, index: i32, answer: PartitionResponse) -> PartitionResponse {
    let Some(partition) = node.partitions.by_name(topic, index) else {
        return answer.with_error_code(ErrorCode::UnknownTopicOrPartition.code());
    };
    partition.opened().await;
    match partition.producer_states() {
        Ok(states) => answer.with_active_producers(states.iter().map(described).collect()),
        Err(error) => answer.with_error_code(error.code().code()),
    }
}

fn described(state: &ProducerState) -> Described {
    Described::default()
        .with_producer_id(state.producer_id.into())
        .with_producer_epoch(state.epoch.into())
        .with_last_sequence(state.last_sequence)
        .with_last_timestamp(state.last_timestamp)
        .with_coordinator_epoch(state.coordinator_epoch)
        .with_current_txn_start_offset(state.txn_first_offset)
}
