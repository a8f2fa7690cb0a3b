//! TxnOffsetCommit 0-5: offsets of a group that count once the transaction is committed.
//!
//! Versions: 2 leader epoch (KIP-320), COORDINATOR_LOAD_IN_PROGRESS; 3 flexible, members of the group (KIP-447); 4
//! TRANSACTION_ABORTABLE (KIP-890); 5 the group's partition adds itself to the transaction.

use std::sync::Arc;

use super::text::shared;
use super::{Call, Disconnect, Node};
use crate::coordinator::Outcomes;
use crate::coordinator::journal::OpenTransaction;
use crate::group::offsets::{CommitOffset, CommitRequest};
use crate::metadata::image::Image;
use crate::protocol::error_code::ErrorCode;
use crate::transaction::state::TopicPartition;
use crate::transaction::transition::Producer;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};

const LOADING_FROM: i16 = 2;
const EPOCH_BUMP_FROM: i16 = 5;

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: TxnOffsetCommitRequest,
) -> Result<TxnOffsetCommitResponse, Disconnect> {
    let image = node.metadata.image();
    let exists = |topic: &TxnOffsetCommitRequestTopic, partition: &TxnOffsetCommitRequestPartition| {
        let known = image.topic(&topic.name.0);
        known.is_some_and(|known| (0..known.partition_count).contains(&partition.partition_index))
    };
    let offsets = offsets(&image, &request, exists);
    let count = offsets.len();
    // In the order of the request: a partition that exists has the next outcome, another its own error.
    let committed = match count {
        0 => Ok(Vec::new()),
        _ => commit(node, call.version, &request, offsets).await,
    };
    let mut outcomes = committed.map(Vec::into_iter);
    let mut next = || match &mut outcomes {
        Ok(outcomes) => outcomes.next().and_then(Result::err).unwrap_or(ErrorCode::None),
        Err(ErrorCode::CoordinatorLoadInProgress) if call.version < LOADING_FROM => ErrorCode::CoordinatorNotAvailable,
        Err(error) => *error,
    };
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let error = if exists(topic, partition) { next() } else { ErrorCode::UnknownTopicOrPartition };
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(error.code())
        });
        TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    Ok(TxnOffsetCommitResponse::default().with_topics(topics.collect()))
}

fn offsets(
    image: &Image,
    request: &TxnOffsetCommitRequest,
    exists: impl Fn(&TxnOffsetCommitRequestTopic, &TxnOffsetCommitRequestPartition) -> bool,
) -> Vec<CommitOffset> {
    let mut offsets = Vec::new();
    for topic in &request.topics {
        let name = shared(&topic.name.0);
        let topic_id = image.topic(&name).map(|known| known.id).unwrap_or_default();
        let existing = topic.partitions.iter().filter(|partition| exists(topic, partition));
        offsets.extend(existing.map(|partition| CommitOffset {
            topic: Arc::clone(&name),
            topic_id,
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.as_ref().map(shared),
        }));
    }
    offsets
}

async fn commit(node: &Node, version: i16, request: &TxnOffsetCommitRequest, offsets: Vec<CommitOffset>) -> Outcomes {
    let group = shared(&request.group_id.0);
    if group.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let transactional_id = shared(&request.transactional_id.0);
    let begun = (producer.id, producer.epoch);
    let guard = node.groups.begin_verification(&group, begun, version >= EPOCH_BUMP_FROM).await?;
    if guard.is_some() {
        let (topic, partition) = node.groups.offsets_partition(&group);
        let partition = TopicPartition { topic, partition };
        node.transactions.permit_offsets(transactional_id, producer, version, partition).await?;
    }
    let commit = CommitRequest {
        group,
        member_id: shared(&request.member_id),
        instance_id: request.group_instance_id.as_ref().map(shared),
        generation: request.generation_id,
        retention_ms: None,
        knows_group_id_not_found: false,
        offsets,
    };
    let transaction = OpenTransaction { producer_id: producer.id, producer_epoch: producer.epoch, guard };
    node.groups.commit_transactional(commit, transaction).await
}
