//! AddOffsetsToTxn 0-4: a transaction is about to commit offsets of a group, so that the group's partition of
//! `__consumer_offsets` becomes one of its partitions.
//!
//! Versions: 2 PRODUCER_FENCED; 3 flexible; 4 TRANSACTION_ABORTABLE (KIP-890).

use kafka_protocol::messages::add_offsets_to_txn_request::AddOffsetsToTxnRequest;
use kafka_protocol::messages::add_offsets_to_txn_response::AddOffsetsToTxnResponse;

use super::text::shared;
use super::{Call, Disconnect, Node};
use crate::protocol::error_code::ErrorCode;
use crate::transaction::state::TopicPartition;
use crate::transaction::transition::Producer;

const PRODUCER_FENCED_FROM: i16 = 2;

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: AddOffsetsToTxnRequest,
) -> Result<AddOffsetsToTxnResponse, Disconnect> {
    let partition = node.groups.offsets_partition(&request.group_id.0);
    let partition = TopicPartition { topic: partition.0, partition: partition.1 };
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let id = shared(&request.transactional_id.0);
    let error = match node.transactions.add_partitions(id, producer, vec![partition], 0).await {
        Ok(()) => ErrorCode::None,
        Err(ErrorCode::ProducerFenced) if call.version < PRODUCER_FENCED_FROM => ErrorCode::InvalidProducerEpoch,
        Err(error) => error,
    };
    Ok(AddOffsetsToTxnResponse::default().with_error_code(error.code()))
}
