//! `cluster.json`: whose prefix this is. Created once, never changed.

use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::store::bucket::Created;
use crate::tier::Tier;

/// Version of the layout below a cluster's prefix.
pub const FORMAT_VERSION: u32 = 1;

/// What `cluster.json` says. Fields that a later version adds are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFile {
    /// Version of the layout below the prefix.
    pub format_version: u32,
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// When the prefix was first used, wall time in milliseconds.
    pub created_at_ms: i64,
}

/// Why the cluster file cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClusterFileError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not one of ours.
    #[error("cluster.json is not readable: {0}")]
    Malformed(String),
    /// Written by a later version with another layout, or for another cluster.
    #[error("cluster.json belongs to cluster '{cluster_id}' in format {format_version}")]
    Foreign {
        /// Whose it is.
        cluster_id: String,
        /// Its format.
        format_version: u32,
    },
}

impl Tier {
    /// The cluster file; made when it is missing. Fine when it exists and is ours.
    pub async fn ensure_cluster_file(&self) -> Result<ClusterFile, ClusterFileError> {
        let ours = ClusterFile {
            format_version: FORMAT_VERSION,
            cluster_id: self.options.cluster_id.clone(),
            created_at_ms: self.machine.clock.now_ms(),
        };
        let key = self.names.cluster_file();
        let text = serde_json::to_vec_pretty(&ours).map_err(|error| ClusterFileError::Malformed(error.to_string()))?;
        if self.bucket.create(&key, text).await? == Created::New {
            return Ok(ours);
        }
        let found: ClusterFile = serde_json::from_slice(&self.bucket.get(&key).await?)
            .map_err(|error| ClusterFileError::Malformed(error.to_string()))?;
        if found.cluster_id != ours.cluster_id || found.format_version > FORMAT_VERSION {
            let ClusterFile { cluster_id, format_version, .. } = found;
            return Err(ClusterFileError::Foreign { cluster_id, format_version });
        }
        Ok(found)
    }
}
