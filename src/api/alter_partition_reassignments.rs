//! AlterPartitionReassignments 0-1 (KIP-455). The one broker is the only replica there can be: naming it changes nothing,
//! naming any other is refused. Version 1 may forbid another replication factor, which none can bring about (KIP-860).

use kafka_protocol::messages::alter_partition_reassignments_request::{
    AlterPartitionReassignmentsRequest, ReassignablePartition,
};
use kafka_protocol::messages::alter_partition_reassignments_response::{
    AlterPartitionReassignmentsResponse, ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::change::Refusal;
use super::{Call, Disconnect, Node, assignment};
use crate::metadata::image::Image;
use crate::protocol::error_code::ErrorCode;

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: AlterPartitionReassignmentsRequest,
) -> Result<AlterPartitionReassignmentsResponse, Disconnect> {
    let image = node.metadata.image();
    let late = (request.timeout_ms <= 0).then(|| Refusal::bare(ErrorCode::RequestTimedOut));
    let responses = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let outcome = late.clone().map_or_else(|| judge(&image, node.config.node_id, &topic.name, partition), Err);
            let response = ReassignablePartitionResponse::default()
                .with_partition_index(partition.partition_index)
                .with_error_message(None);
            match outcome {
                Ok(()) => response,
                Err(refusal) => response.with_error_code(refusal.code.code()).with_error_message(refusal.text()),
            }
        });
        ReassignableTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    let mut response = AlterPartitionReassignmentsResponse::default()
        // Kafka's words for nothing to do are empty ones.
        .with_error_message(request.topics.is_empty().then(StrBytes::default))
        .with_error_code(late.as_ref().map_or(ErrorCode::None, |refusal| refusal.code).code())
        .with_responses(responses.collect());
    if call.version >= 1 {
        response.allow_replication_factor_change = request.allow_replication_factor_change;
    }
    Ok(response)
}

fn judge(image: &Image, node_id: i32, topic: &str, asked: &ReassignablePartition) -> Result<(), Refusal> {
    let unknown = |why: String| Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, why));
    let Some(found) = image.topic(topic) else {
        return unknown(format!("Unable to find a topic named {topic}."));
    };
    if !(0..found.partition_count).contains(&asked.partition_index) {
        return unknown(format!("Unable to find partition {topic}:{}.", asked.partition_index));
    }
    match &asked.replicas {
        Some(replicas) => assignment::check(node_id, replicas),
        // Cancels a reassignment, of which none is ever in progress.
        None => Err(Refusal::bare(ErrorCode::NoReassignmentInProgress)),
    }
}
