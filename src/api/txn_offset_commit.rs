//! TxnOffsetCommit 0-5: offsets of a group that count once the transaction is committed.
//!
//! Versions: 2 leader epoch (KIP-320), COORDINATOR_LOAD_IN_PROGRESS; 3 flexible, members of the group (KIP-447); 4
//! TRANSACTION_ABORTABLE (KIP-890); 5 the group's partition adds itself to the transaction.

use std::sync::Arc;

use super::by_topic::{Refused, decided};
use super::text::shared;
use super::{Call, Disconnect, Node};
use crate::coordinator::Outcomes;
use crate::coordinator::journal::OpenTransaction;
use crate::group::offsets::{CommitOffset, CommitRequest};
use crate::metadata::image::Topic;
use crate::protocol::error_code::ErrorCode;
use crate::transaction::state::TopicPartition;
use crate::transaction::transition::Producer;
use kafka_protocol::messages::txn_offset_commit_request::{TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition};
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
    let mut refused = Refused::new();
    let mut asked = Vec::new();
    let mut offsets = Vec::new();
    for topic in &request.topics {
        let indexes = |partitions: &[TxnOffsetCommitRequestPartition]| {
            partitions.iter().map(|partition| partition.partition_index).collect::<Vec<_>>()
        };
        let Some(known) = image.topic(&topic.name.0) else {
            refused.add(&topic.name, indexes(&topic.partitions), ErrorCode::UnknownTopicOrPartition);
            continue;
        };
        let (existing, others): (Vec<_>, Vec<_>) = (topic.partitions.iter().cloned())
            .partition(|partition| (0..known.partition_count).contains(&partition.partition_index));
        if !others.is_empty() {
            refused.add(&topic.name, indexes(&others), ErrorCode::UnknownTopicOrPartition);
        }
        if !existing.is_empty() {
            asked.push((&topic.name, indexes(&existing)));
            offsets.extend(existing.iter().map(|partition| offset(known, partition)));
        }
    }
    let outcomes = match offsets.is_empty() {
        true => Ok(Vec::new()),
        false => commit(node, call.version, &request, offsets).await.map_err(|error| match error {
            ErrorCode::CoordinatorLoadInProgress if call.version < LOADING_FROM => ErrorCode::CoordinatorNotAvailable,
            error => error,
        }),
    };
    let topics = refused.and(decided(asked, outcomes)).into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, error)| {
            TxnOffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(error.code())
        });
        TxnOffsetCommitResponseTopic::default().with_name(name.clone()).with_partitions(partitions.collect())
    });
    Ok(TxnOffsetCommitResponse::default().with_topics(topics.collect()))
}

fn offset(topic: &Topic, partition: &TxnOffsetCommitRequestPartition) -> CommitOffset {
    CommitOffset {
        topic: Arc::clone(&topic.name),
        topic_id: topic.id,
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.as_ref().map(shared),
    }
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
