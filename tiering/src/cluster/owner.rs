//! `owner/<node epoch>`: who may write below the prefix. The highest node epoch owns it; a claim is created "if absent".

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::store::StoreError;
use crate::tier::Tier;

/// A claim on the prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerClaim {
    /// Durable boot counter of the node; part of the key.
    pub node_epoch: i32,
    /// `node.id`.
    pub node_id: i32,
    /// Of this process.
    pub process: Uuid,
    /// When it was made, wall time in milliseconds.
    pub claimed_at_ms: i64,
}

/// Why this broker does not own the prefix.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OwnerError {
    /// The store failed; nothing is known.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A higher node epoch claimed it, or another process the same one.
    #[error("the bucket is owned by node epoch {node_epoch}")]
    Fenced {
        /// The owner's epoch.
        node_epoch: i32,
    },
}

impl Tier {
    /// The highest node epoch that ever claimed the prefix.
    pub async fn newest_owner(&self) -> Result<Option<i32>, StoreError> {
        todo!()
    }

    /// Claims the prefix. Fine when this very claim is there already.
    pub async fn claim_owner(&self, claim: &OwnerClaim) -> Result<(), OwnerError> {
        let _ = claim;
        todo!()
    }

    /// Is `claim` still the newest? One LIST.
    pub async fn check_owner(&self, claim: &OwnerClaim) -> Result<(), OwnerError> {
        let _ = claim;
        todo!()
    }
}
