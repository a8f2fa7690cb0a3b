//! EndTxn 0-5: commits or aborts a transaction. The answer comes once the outcome is durable; its markers follow.
//!
//! Versions: 2 PRODUCER_FENCED; 3 flexible; 4 TRANSACTION_ABORTABLE (KIP-890); 5 the producer id and epoch of the next
//! transaction (`transaction.version` 2).

use kafka_protocol::messages::end_txn_request::EndTxnRequest;
use kafka_protocol::messages::end_txn_response::EndTxnResponse;

use super::text::shared;
use super::{Call, Disconnect, Node};
use crate::protocol::error_code::ErrorCode;
use crate::transaction::transition::{EndRequest, Producer};

const PRODUCER_FENCED_FROM: i16 = 2;
const EPOCH_BUMP_FROM: i16 = 5;

/// Answers one request.
pub async fn handle(node: &Node, call: &Call, request: EndTxnRequest) -> Result<EndTxnResponse, Disconnect> {
    let asked = EndRequest {
        producer: Producer { id: request.producer_id.0, epoch: request.producer_epoch },
        commit: request.committed,
        client_version: if call.version >= EPOCH_BUMP_FROM { 2 } else { 0 },
    };
    let (error, producer) = match node.transactions.end(shared(&request.transactional_id.0), asked).await {
        Ok(producer) => (ErrorCode::None, producer),
        Err(ErrorCode::ProducerFenced) if call.version < PRODUCER_FENCED_FROM => {
            (ErrorCode::InvalidProducerEpoch, Producer::NONE)
        }
        Err(error) => (error, Producer::NONE),
    };
    let response = EndTxnResponse::default().with_error_code(error.code());
    Ok(match call.version {
        EPOCH_BUMP_FROM.. => response.with_producer_id(producer.id.into()).with_producer_epoch(producer.epoch),
        _ => response,
    })
}
