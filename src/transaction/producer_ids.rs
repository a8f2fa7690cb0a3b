//! Producer ids from blocks that the metadata store hands out once and for all; what is left of a block at a stop is
//! lost, as in Kafka.

use std::ops::Range;

use tokio::sync::Mutex;

use crate::metadata::store::SharedMetadata;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::ProducerId;

/// Ids per commit of the metadata store, as in Kafka.
const BLOCK_IDS: i64 = 1000;

/// What is left of the block in hand. One for the node.
pub struct ProducerIds {
    metadata: SharedMetadata,
    /// Held across the allocation on purpose: whoever comes meanwhile wants an id of the same new block.
    block: Mutex<Range<ProducerId>>,
}

impl ProducerIds {
    /// Ids of this store.
    pub fn new(metadata: SharedMetadata) -> Self {
        Self { metadata, block: Mutex::default() }
    }

    /// An id that nobody has. COORDINATOR_LOAD_IN_PROGRESS, upon which clients try again, while the store cannot give one.
    pub async fn next(&self) -> Result<ProducerId, ErrorCode> {
        let mut block = self.block.lock().await;
        loop {
            match block.next() {
                Some(id) => return Ok(id),
                None => {
                    *block = self.metadata.allocate_producer_ids(BLOCK_IDS).await.map_err(|error| {
                        tracing::warn!(%error, "no producer id block");
                        ErrorCode::CoordinatorLoadInProgress
                    })?;
                }
            }
        }
    }
}
