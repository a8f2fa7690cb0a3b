//! InitProducerId 0-5: a producer id for an idempotent producer.
//!
//! Ids come from blocks that the metadata store hands out once and for all; what is left of a block at a stop is lost,
//! as in Kafka. Until transactions exist a transactional id answers INVALID_REQUEST.
//!
//! Versions: 2 flexible; 3 producer id and epoch in the request (KIP-360).

use std::ops::Range;

use kafka_protocol::messages::init_producer_id_request::InitProducerIdRequest;
use kafka_protocol::messages::init_producer_id_response::InitProducerIdResponse;
use tokio::sync::Mutex;

use super::{Call, Disconnect, Node};
use crate::metadata::store::{CommitError, MetadataStore};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::ProducerId;

/// Ids per commit of the metadata store, as in Kafka.
const BLOCK_IDS: i64 = 1000;
const NO_PRODUCER: (ProducerId, i16) = (-1, -1);

/// What is left of the block in hand. One for the node.
#[derive(Debug, Default)]
pub struct ProducerIds {
    /// Held across the allocation on purpose: whoever comes meanwhile wants an id of the same new block.
    block: Mutex<Range<ProducerId>>,
}

impl ProducerIds {
    async fn next(&self, store: &dyn MetadataStore) -> Result<ProducerId, CommitError> {
        let mut block = self.block.lock().await;
        loop {
            match block.next() {
                Some(id) => return Ok(id),
                None => *block = store.allocate_producer_ids(BLOCK_IDS).await?,
            }
        }
    }
}

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: InitProducerIdRequest,
) -> Result<InitProducerIdResponse, Disconnect> {
    let known = (request.producer_id.0, request.producer_epoch);
    let half_known = (known.0 == NO_PRODUCER.0) != (known.1 == NO_PRODUCER.1);
    let outcome = if request.transactional_id.is_some() || half_known {
        Err(ErrorCode::InvalidRequest)
    } else {
        node.producer_ids.next(&*node.metadata).await.map_err(|error| {
            tracing::warn!(%error, "no producer id block");
            ErrorCode::CoordinatorLoadInProgress
        })
    };
    let (error, (id, epoch)) = match outcome {
        Ok(id) => (ErrorCode::None, (id, 0)),
        Err(error) => (error, NO_PRODUCER),
    };
    Ok(InitProducerIdResponse::default()
        .with_error_code(error.code())
        .with_producer_id(id.into())
        .with_producer_epoch(epoch))
}
