//! Before the first partition opens: whose bucket it is, what it holds, and whether our rows know all of that.
//!
//! A bucket that knows more than the rows belongs to somebody else, or our data directory is an old copy: going on would
//! write a second history below the same prefix. Then the broker does not start, with one line that says what to do.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use terrace_tiering::Tier;
use terrace_tiering::cluster::file::ClusterFileError;
use terrace_tiering::cluster::owner::{OwnerClaim, OwnerError};
use terrace_tiering::manifest::{Committed, Manifest, ManifestEntry, ManifestError};
use terrace_tiering::store::StoreError;
use uuid::Uuid;

use super::ownership::Ownership;
use super::state::Known;
use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::{RemoteLogError, RemoteLogMetadata, RemotePartition};
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// Partitions whose newest root is read at once.
const PARALLEL_MAX: usize = 32;

/// One partition as it was found.
#[derive(Debug)]
pub struct Loaded {
    /// Its rows.
    pub remote: RemotePartition,
    /// Its newest root.
    pub root: Option<Committed>,
    /// Does the root say what the rows say?
    pub root_is_current: bool,
    /// Where the last round of the cleaner ended in what the rows say; 0 where nobody knows.
    pub cleaned_end: Offset,
}

/// The bucket is ours, and this is what we have in it.
#[derive(Debug)]
pub struct Started {
    /// Our claim.
    pub ownership: Arc<Ownership>,
    /// All partitions with remote state, also those of deleted topics.
    pub loaded: HashMap<PartitionId, Loaded>,
}

/// Why the broker does not start with this bucket.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The prefix is not ours.
    #[error(transparent)]
    Cluster(#[from] ClusterFileError),
    /// Our rows cannot be read.
    #[error(transparent)]
    Rows(#[from] RemoteLogError),
    /// A manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Another broker owns the prefix, or a later life of this one.
    #[error(
        "the bucket is owned by node epoch {owner}, this data directory is at {ours}: another broker uses this prefix, or \
         the data directory is an old copy; stop the other broker and start on its data directory, or set \
         remote.storage.uri to a prefix of its own"
    )]
    OtherOwner {
        /// The newest claim in the bucket.
        owner: LeaderEpoch,
        /// Ours.
        ours: LeaderEpoch,
    },
    /// The bucket has a segment that the rows never heard of.
    #[error(
        "the bucket is ahead of the metadata: partition {partition} of topic {topic} has a remote segment from offset \
         {offset} that meta.redb does not know; start on the newest data directory, or set remote.storage.uri to a prefix \
         of its own"
    )]
    BucketAhead {
        /// The topic's id.
        topic: Uuid,
        /// The partition's number.
        partition: i32,
        /// Where the unknown segment begins.
        offset: Offset,
    },
}

impl StartError {
    /// The store failed, and may answer when it is asked again.
    pub fn is_temporary(&self) -> bool {
        let store = match self {
            Self::Store(error)
            | Self::Cluster(ClusterFileError::Store(error))
            | Self::Manifest(ManifestError::Store(error)) => error,
            Self::Cluster(_)
            | Self::Rows(_)
            | Self::Manifest(_)
            | Self::OtherOwner { .. }
            | Self::BucketAhead { .. } => return false,
        };
        store.is_transient()
    }
}

/// Checks the bucket against the rows and makes `claim`. A refused start changes nothing in the bucket but
/// `cluster.json`; one that the store cut short is tried again with the same claim.
pub async fn start(tier: &Tier, segments: &dyn RemoteLogMetadata, claim: OwnerClaim) -> Result<Started, StartError> {
    let node_epoch = claim.node_epoch;
    tier.ensure_cluster_file().await?;
    // Our own epoch may be there by an attempt of this process; the claim itself tells.
    if let Some(owner) = tier.newest_owner().await?
        && owner > node_epoch
    {
        return Err(StartError::OtherOwner { owner, ours: node_epoch });
    }
    let loaded = load(tier, segments, node_epoch).await?;
    match tier.claim_owner(&claim).await {
        Ok(()) => Ok(Started { ownership: Ownership::new(claim), loaded }),
        Err(OwnerError::Store(error)) => Err(error.into()),
        Err(OwnerError::Fenced { node_epoch: owner }) => Err(StartError::OtherOwner { owner, ours: node_epoch }),
    }
}

async fn load(
    tier: &Tier,
    segments: &dyn RemoteLogMetadata,
    node_epoch: LeaderEpoch,
) -> Result<HashMap<PartitionId, Loaded>, StartError> {
    let deleted: HashSet<Uuid> = tier.tombstones().await?.into_iter().collect();
    let mut ids: HashSet<PartitionId> = segments.partitions().await?.into_iter().collect();
    let roots = tier.newest_roots().await?;
    let rooted: HashSet<PartitionId> =
        roots.into_iter().map(|root| PartitionId { topic: root.topic, partition: root.partition }).collect();
    // What is left of a deleted topic when its rows are gone is of no interest.
    ids.extend(rooted.iter().filter(|id| !deleted.contains(&id.topic)));
    let load_one = |id: PartitionId| {
        let has_root = rooted.contains(&id);
        async move {
            let remote = segments.load(id).await?;
            let manifest = if has_root { tier.load_manifest(id.topic, id.partition).await } else { Ok(None) };
            let manifest = match manifest {
                Err(error @ ManifestError::Corrupt { .. }) => {
                    // The rows say all that it did; the next root, of a higher leader epoch, takes its place.
                    tracing::warn!(partition = ?id, %error, "newest manifest root is not readable and is written anew");
                    return Ok((id, Loaded { remote, root: None, root_is_current: false, cleaned_end: 0 }));
                }
                other => other?,
            };
            compare(id, remote, manifest, node_epoch).map(|loaded| (id, loaded))
        }
    };
    futures::stream::iter(ids).map(load_one).buffer_unordered(PARALLEL_MAX).try_collect().await
}

/// Rows are written before roots, and a segment's row outlives its name in the root: a root can be behind, never ahead.
fn compare(
    id: PartitionId,
    remote: RemotePartition,
    manifest: Option<Manifest>,
    node_epoch: LeaderEpoch,
) -> Result<Loaded, StartError> {
    let known = Known::loaded(remote, None, 0);
    let entries = known.entries();
    let Some(Manifest { committed, entries: rooted }) = manifest else {
        return Ok(Loaded { remote: known.remote, root: None, root_is_current: entries.is_empty(), cleaned_end: 0 });
    };
    if committed.root.leader_epoch >= node_epoch {
        return Err(StartError::OtherOwner { owner: committed.root.leader_epoch, ours: node_epoch });
    }
    let uuids: HashSet<Uuid> = known.remote.segments.iter().map(|segment| segment.uuid).collect();
    if let Some(unknown) = rooted.iter().find(|entry| !uuids.contains(&entry.uuid)) {
        let PartitionId { topic, partition } = id;
        return Err(StartError::BucketAhead { topic, partition, offset: unknown.base_offset });
    }
    let cleaned_end = cleaned_end(&committed, &rooted, &entries);
    Ok(Loaded { remote: known.remote, root: Some(committed), root_is_current: rooted == entries, cleaned_end })
}

/// Where the last round of the cleaner ended, by the root. It counts if all that is readable below is named there: what took
/// its place since, or is of another history, was not met by the round.
fn cleaned_end(committed: &Committed, rooted: &[ManifestEntry], entries: &[ManifestEntry]) -> Offset {
    let end = committed.root.cleaned_end;
    let named: HashSet<Uuid> = rooted.iter().map(|entry| entry.uuid).collect();
    let mut below = entries.iter().take_while(|entry| entry.base_offset < end);
    if below.all(|entry| named.contains(&entry.uuid)) { end } else { 0 }
}
