//! OffsetCommit 2-10: how far a group has read, kept in the log.
//!
//! Versions: 2-4 retention time; 6 leader epoch (KIP-320); 7 static members (KIP-345); 8 flexible; 9 GROUP_ID_NOT_FOUND
//! (KIP-848); 10 topics by id.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};

use super::text::text;
use super::{Call, Disconnect, Frame, Node, encode};
use crate::group::offsets::{CommitOffset, CommitRequest};
use crate::metadata::image::{Image, Topic};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::offset_commit::{OffsetCommitPartition, OffsetCommitRequest, OffsetCommitTopic};

const GROUP_ID_NOT_FOUND_FROM: i16 = 9;
const TOPIC_IDS_FROM: i16 = 10;

/// Reads and answers one request.
pub async fn serve(node: &Node, call: &Call, body: Bytes) -> Result<Frame, Disconnect> {
    let request =
        OffsetCommitRequest::decode(call.version, &body).map_err(|error| Disconnect::Malformed(error.to_string()))?;
    let response = handle(node, call.version, request).await;
    encode(call, call.version, &response)
}

async fn handle(node: &Node, version: i16, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let image = node.metadata.image();
    // In the order of the request: a topic's partitions that exist go to the coordinator, the others have their error.
    let mut codes: Vec<Vec<ErrorCode>> = Vec::with_capacity(request.topics.len());
    let mut offsets = Vec::new();
    let mut places = Vec::new();
    for (at, topic) in request.topics.iter().enumerate() {
        let known = find(&image, version, topic);
        codes.push(Vec::with_capacity(topic.partitions.len()));
        for (index, partition) in topic.partitions.iter().enumerate() {
            let found = known.clone().and_then(|known| offset(&known, partition));
            codes[at].push(found.as_ref().err().copied().unwrap_or(ErrorCode::None));
            if let Ok(found) = found {
                offsets.push(found);
                places.push((at, index));
            }
        }
    }
    if !offsets.is_empty() {
        let committed = node
            .groups
            .commit(CommitRequest {
                group: request.group_id.into(),
                member_id: request.member_id.into(),
                instance_id: request.group_instance_id.map(Arc::from),
                generation: request.generation_id_or_member_epoch,
                retention_ms: Some(request.retention_time_ms).filter(|&ms| ms != -1),
                knows_group_id_not_found: version >= GROUP_ID_NOT_FOUND_FROM,
                offsets,
            })
            .await;
        for (nth, (at, index)) in places.into_iter().enumerate() {
            let outcome = match &committed {
                Ok(outcomes) => outcomes.get(nth).copied().unwrap_or(Ok(())),
                Err(error) => Err(*error),
            };
            codes[at][index] = outcome.err().unwrap_or(ErrorCode::None);
        }
    }
    let topics = request.topics.into_iter().zip(codes).map(|(topic, codes)| {
        let partitions = topic.partitions.iter().zip(codes).map(|(partition, code)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code.code())
        });
        OffsetCommitResponseTopic::default()
            .with_name(TopicName(text(&topic.name)))
            .with_topic_id(topic.topic_id)
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

fn find(image: &Image, version: i16, topic: &OffsetCommitTopic) -> Result<Arc<Topic>, ErrorCode> {
    match version {
        TOPIC_IDS_FROM.. => image.topic_by_id(&topic.topic_id).cloned().ok_or(ErrorCode::UnknownTopicId),
        _ => image.topic(&topic.name).cloned().ok_or(ErrorCode::UnknownTopicOrPartition),
    }
}

fn offset(topic: &Topic, partition: &OffsetCommitPartition) -> Result<CommitOffset, ErrorCode> {
    if !(0..topic.partition_count).contains(&partition.partition_index) {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    Ok(CommitOffset {
        topic: Arc::clone(&topic.name),
        topic_id: topic.id,
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.as_deref().map(Arc::from),
    })
}
