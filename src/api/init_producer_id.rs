//! InitProducerId 0-5: who an idempotent or transactional producer is from now on.
//!
//! Versions: 2 flexible; 3 producer id and epoch in the request (KIP-360); 4 PRODUCER_FENCED.

use kafka_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use kafka_protocol::messages::init_producer_id_response::InitProducerIdResponse;

use super::text::shared;
use super::{Call, Disconnect, Node};
use crate::protocol::error_code::ErrorCode;
use crate::transaction::shard::InitRequest;
use crate::transaction::state::{NO_EPOCH, NO_PRODUCER_ID};
use crate::transaction::transition::Producer;

const PRODUCER_FENCED_FROM: i16 = 4;

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: InitProducerIdRequest,
) -> Result<InitProducerIdResponse, Disconnect> {
    let (error, producer) = match init(node, request).await {
        Ok(producer) => (ErrorCode::None, producer),
        Err(ErrorCode::ProducerFenced) if call.version < PRODUCER_FENCED_FROM => {
            (ErrorCode::InvalidProducerEpoch, Producer::NONE)
        }
        Err(error) => (error, Producer::NONE),
    };
    Ok(InitProducerIdResponse::default()
        .with_error_code(error.code())
        .with_producer_id(producer.id.into())
        .with_producer_epoch(producer.epoch))
}

async fn init(node: &Node, request: InitProducerIdRequest) -> Result<Producer, ErrorCode> {
    let expected = match (request.producer_id.0, request.producer_epoch) {
        (NO_PRODUCER_ID, NO_EPOCH) => None,
        (NO_PRODUCER_ID, _) | (_, NO_EPOCH) => return Err(ErrorCode::InvalidRequest),
        (id, epoch) => Some(Producer { id, epoch }),
    };
    match request.transactional_id {
        None => node.transactions.init_idempotent().await,
        Some(id) => {
            let request = InitRequest { timeout_ms: request.transaction_timeout_ms, expected };
            node.transactions.init(shared(&id.0), request).await
        }
    }
}
