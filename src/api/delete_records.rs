//! DeleteRecords 0-2: moves the log start of partitions. Version 2 is flexible.
//!
//! An answer of 0 means that the new log start is durable; what lies below is deleted when its segment or object is due.
//! A partition that is named twice is answered once, for the last offset, and a topic without partitions not at all, as in
//! Kafka.

use std::collections::BTreeMap;

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::delete_records_request::DeleteRecordsRequest;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};

use super::{Call, Disconnect, Node};
use crate::config::topic::is_internal;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::Offset;

/// The offset that stands for the high watermark.
const HIGH_WATERMARK: Offset = -1;
/// Instead of a low watermark.
const UNKNOWN: Offset = -1;

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: DeleteRecordsRequest,
) -> Result<DeleteRecordsResponse, Disconnect> {
    let mut asked: BTreeMap<TopicName, BTreeMap<i32, Offset>> = BTreeMap::new();
    for topic in request.topics.into_iter().filter(|topic| !topic.partitions.is_empty()) {
        let partitions = topic.partitions.iter().map(|partition| (partition.partition_index, partition.offset));
        asked.entry(topic.name).or_default().extend(partitions);
    }
    let mut topics = Vec::with_capacity(asked.len());
    for (name, partitions) in asked {
        let mut results = Vec::with_capacity(partitions.len());
        for (index, before) in partitions {
            let (low_watermark, error) = match delete(node, &name, index, before).await {
                Ok(low_watermark) => (low_watermark, ErrorCode::None),
                Err(error) => (UNKNOWN, error),
            };
            results.push(
                DeleteRecordsPartitionResult::default()
                    .with_partition_index(index)
                    .with_low_watermark(low_watermark)
                    .with_error_code(error.code()),
            );
        }
        topics.push(DeleteRecordsTopicResult::default().with_name(name).with_partitions(results));
    }
    Ok(DeleteRecordsResponse::default().with_topics(topics))
}

async fn delete(node: &Node, topic: &str, partition: i32, before: Offset) -> Result<Offset, ErrorCode> {
    let partition = node.partitions.by_name(topic, partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    // What compaction keeps is not for a client to cut off.
    if !partition.topic_config().cleanup_policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    if before < HIGH_WATERMARK {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    partition.opened().await;
    partition.delete_records(before).await.map_err(|error| error.code())
}
