//! `owner/<node epoch>`: who may write below the prefix. The highest node epoch owns it; a claim is created "if absent".

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::store::StoreError;
use crate::store::bucket::Created;
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
        let names = &self.names;
        let epochs = self.bucket.list(&names.owners(), None, |meta| names.parse_owner(&meta.location)).await?;
        Ok(epochs.last().copied())
    }

    /// Claims the prefix. Fine when this very claim is there already.
    pub async fn claim_owner(&self, claim: &OwnerClaim) -> Result<(), OwnerError> {
        let key = self.names.owner(claim.node_epoch);
        let text = serde_json::to_vec_pretty(claim)
            .map_err(|error| StoreError::Unsupported(format!("owner claim cannot be written: {error}")))?;
        if self.bucket.create(&key, text).await? == Created::Exists {
            let found = serde_json::from_slice::<OwnerClaim>(&self.bucket.get(&key).await?);
            if found.ok().is_none_or(|found| found.process != claim.process) {
                return Err(OwnerError::Fenced { node_epoch: claim.node_epoch });
            }
        }
        self.check_owner(claim).await
    }

    /// Is `claim` still the newest? One LIST.
    pub async fn check_owner(&self, claim: &OwnerClaim) -> Result<(), OwnerError> {
        let (names, after) = (&self.names, self.names.owner(claim.node_epoch));
        let newer = self.bucket.list(&names.owners(), Some(&after), |meta| names.parse_owner(&meta.location)).await?;
        match newer.last() {
            None => Ok(()),
            Some(&node_epoch) => Err(OwnerError::Fenced { node_epoch }),
        }
    }
}
