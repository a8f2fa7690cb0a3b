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

use super::by_topic::{Refused, decided};
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
    let mut refused = Refused::new();
    let mut asked = Vec::new();
    let mut offsets = Vec::new();
    for topic in &request.topics {
        let key = || (topic.topic_id, topic.name.clone());
        let known = match find(&image, version, topic) {
            Ok(known) => known,
            Err(error) => {
                refused.add(key(), topic.partitions.iter().map(|partition| partition.partition_index), error);
                continue;
            }
        };
        let mut existing = Vec::new();
        for partition in &topic.partitions {
            match offset(&known, partition) {
                Ok(offset) => {
                    existing.push(partition.partition_index);
                    offsets.push(offset);
                }
                Err(error) => refused.add(key(), [partition.partition_index], error),
            }
        }
        if !existing.is_empty() {
            asked.push((key(), existing));
        }
    }
    let outcomes = match offsets.is_empty() {
        true => Ok(Vec::new()),
        false => {
            let commit = CommitRequest {
                group: request.group_id.into(),
                member_id: request.member_id.into(),
                instance_id: request.group_instance_id.map(Arc::from),
                generation: request.generation_id_or_member_epoch,
                retention_ms: Some(request.retention_time_ms).filter(|&ms| ms != -1),
                knows_group_id_not_found: version >= GROUP_ID_NOT_FOUND_FROM,
                offsets,
            };
            node.groups.commit(commit).await
        }
    };
    let topics = refused.and(decided(asked, outcomes)).into_iter().map(|((id, name), partitions)| {
        let partitions = partitions.into_iter().map(|(index, error)| {
            OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(error.code())
        });
        OffsetCommitResponseTopic::default()
            .with_name(TopicName(text(&name)))
            .with_topic_id(id)
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
