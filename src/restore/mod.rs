//! Coming back from the bucket alone (`terrace start --restore`), once, on an empty data directory.
//!
//! The newest metadata snapshot, or with `--at` an older one, makes the cut. What it says of topics and settings becomes a
//! new `meta.redb`; each partition's segments are those that roots and listings show at the cut; what the coordinators
//! knew is appended to new logs of their topics. No segment is downloaded, but for the one at which an older cut ends, if
//! it was merged with later ones: local logs begin at the tier's end, by the same
//! start rule that a lost disk meets.
//!
//! Order of events: everything that can be refused is refused first. The claim fences the old owner. The cut is gathered
//! and put into the bucket as its newest snapshot and roots, so that whoever comes later finds this history and no other.
//! Then the files are written under names that no start takes for its own; `meta.redb` gets its name last, which is the
//! moment from which the directory is a broker's. A crash before that moment leaves what the next `--restore` removes.
//!
//! | File | What it does |
//! |---|---|
//! | [`cut`] | what topics, settings and segments there are at the cut |
//! | [`coordinators`] | what groups and transactions may still say at the cut |
//! | [`files`] | the data directory: is it empty, what is written |
//! | [`shorten`] | a copy of its own for the end of an older cut, where that was merged with what lies behind |
//! | [`report`] | what the operator is told |

pub mod coordinators;
pub mod cut;
pub mod files;
pub mod report;
pub mod shorten;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use terrace_tiering::Tier;
use terrace_tiering::cluster::file::ClusterFileError;
use terrace_tiering::cluster::owner::{OwnerClaim, OwnerError};
use terrace_tiering::cluster::snapshot::{Snapshot, SnapshotError, SnapshotSection};
use terrace_tiering::inspect::{InspectError, Inspector};
use terrace_tiering::manifest::ManifestError;
use terrace_tiering::manifest::commit::RootContent;
use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::platform::task::Tasks;
use terrace_tiering::restore::WrittenSnapshot;
use terrace_tiering::store::StoreError;
use terrace_tiering::tier::{Machine, TierError};
use terrace_tiering::upload::UploadError;

use crate::broker::Parts;
use crate::broker::tier_options::tier_options;
use crate::config::server::BrokerConfig;
use crate::coordinator::section::CutShort;
use crate::metadata::embedded::OpenError;
use crate::metadata::image::Image;
use crate::metadata::store::{CommitError, MetadataStore};
use crate::partition::append::AppendError;
use crate::partition::registry;
use crate::protocol::record_batch::LeaderEpoch;
use crate::remote_log::merge::join::JoinError;
use crate::remote_log::snapshots::content::{self, BadSection};
use crate::remote_log::snapshots::{
    COORDINATORS, IMAGE, PRODUCER_IDS, SECURITY, SHARE_COORDINATORS, TIERED, TRANSACTION_COORDINATORS,
};
use cut::{Cut, PartitionCut};
use report::Report;

/// Partitions that are put together, and whose roots are written, side by side.
const PARALLEL_MAX: usize = 32;
/// Numbers that are tried for the snapshot of the cut: the old owner may have put one in the moment of the claim.
const SNAPSHOT_TRIES: u64 = 4;

/// What to restore.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The cluster below `remote.storage.uri`; needed only if there are several.
    pub cluster_id: Option<String>,
    /// The newest snapshot at or before this time makes the cut, in milliseconds; without it the newest of all.
    pub at_ms: Option<i64>,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It holds something already.
    #[error("{} is not empty: --restore begins on an empty data directory; start without --restore, or move it away", .0.display())]
    NotEmpty(PathBuf),
    /// Nobody knows which cluster.
    #[error("{0}")]
    Cluster(String),
    /// Nothing says what there was.
    #[error("{0}")]
    NoSnapshot(String),
    /// Tiering is off.
    #[error("remote.log.storage.system.enable=false: there is no bucket to restore from")]
    NoTier,
    /// Another broker or another restore took the prefix meanwhile.
    #[error("the bucket was claimed by node epoch {0} meanwhile; stop whoever that is and try again")]
    Claimed(LeaderEpoch),
    /// A file cannot be read or written.
    #[error("{}: {}", .0.display(), .1)]
    Io(PathBuf, io::Error),
    /// A coordinator's log cannot be written.
    #[error("the log of {topic}-{partition} cannot be written: {why}")]
    Append {
        /// The internal topic.
        topic: &'static str,
        /// Its partition.
        partition: i32,
        /// Why.
        why: AppendError,
    },
    /// The log directories could not be closed.
    #[error("the log directories cannot be made durable; the lines before say why")]
    NotDurable,
    /// A section of the snapshot.
    #[error(transparent)]
    Section(#[from] BadSection),
    /// A coordinator's section of the snapshot.
    #[error(transparent)]
    Coordinators(#[from] CutShort),
    /// The tier cannot be opened.
    #[error(transparent)]
    Tier(#[from] TierError),
    /// The bucket cannot be listed.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The prefix is not a cluster's.
    #[error(transparent)]
    ClusterFile(#[from] ClusterFileError),
    /// The snapshot cannot be read or written.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A partition cannot be put together.
    #[error(transparent)]
    Chain(#[from] terrace_tiering::restore::segments::RestoreError),
    /// The end of an older cut cannot be read.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Its copy cannot be written.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// A root cannot be written.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Our own metadata cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The same.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The log directories cannot be opened.
    #[error(transparent)]
    Logs(#[from] registry::OpenError),
}

/// Restores onto the empty directories of `config`, whose locks the caller holds; `failed_dirs` are those that could not be
/// locked. What it was is in the report.
pub async fn restore(
    config: &Arc<BrokerConfig>,
    failed_dirs: &[(PathBuf, String)],
    request: &Request,
) -> Result<Report, RestoreError> {
    if !config.remote.enable {
        return Err(RestoreError::NoTier);
    }
    let parts = Parts::of_machine();
    files::check_empty(&parts.fs, &config.dirs)?;
    let tasks = Tasks::new();
    let machine = Machine {
        clock: parts.clock.clone(),
        random: parts.random.clone(),
        fs: parts.fs.clone(),
        tasks: tasks.clone(),
    };
    let cluster_id = match request.cluster_id.clone().or_else(|| config.cluster_id.clone()) {
        Some(given) => given,
        None => {
            // The cluster's id is part of the keys that are asked for.
            let inspector = Inspector::open(&tier_options(config, ""), &machine)?;
            only_cluster(inspector.clusters().await?, &config.remote.uri)?
        }
    };
    let tier = Tier::open(tier_options(config, &cluster_id), machine).await?;
    let restored = restore_from(&tier, config, failed_dirs, &parts, request).await;
    tasks.stop(std::time::Duration::ZERO).await;
    restored
}

/// The same with an open tier.
async fn restore_from(
    tier: &Tier,
    config: &Arc<BrokerConfig>,
    failed_dirs: &[(PathBuf, String)],
    parts: &Parts,
    request: &Request,
) -> Result<Report, RestoreError> {
    let uri = &config.remote.uri;
    // A bucket without a cut is refused before anybody is fenced.
    let (_, snapshot) = choose(tier, request.at_ms, uri).await?;
    let claim = claim(tier, &snapshot, config.node_id, parts).await?;
    // Whatever the old owner put before it was fenced belongs to the cut.
    let (chosen, snapshot) = choose(tier, request.at_ms, uri).await?;
    crash_point::reach(CrashPoint::RestoreAfterClaim);
    let older = request.at_ms.map(|_| chosen.written_ms);
    let mut cut = cut::gather(tier, &snapshot, older).await?;
    shorten::shorten(tier, &mut cut, &claim, &*parts.random).await?;
    let laid = files::prepare(&cut, &claim, config, parts).await?;
    put_snapshot(tier, &laid.store.image(), &cut, &laid).await?;
    write_roots(tier, &claim, &cut).await?;
    crash_point::reach(CrashPoint::RestoreAfterRoots);
    let counts = laid.counts;
    files::finish(laid, config, failed_dirs, parts)?;
    Ok(Report { uri: uri.clone(), chosen, node_epoch: claim.node_epoch, cut, counts })
}

fn only_cluster(mut clusters: Vec<String>, uri: &str) -> Result<String, RestoreError> {
    match (clusters.pop(), clusters.is_empty()) {
        (Some(cluster), true) => Ok(cluster),
        (Some(last), false) => Err(RestoreError::Cluster(format!(
            "several clusters are stored at {uri}, name one by --cluster-id: {} {last}",
            clusters.join(" ")
        ))),
        (None, _) => Err(RestoreError::Cluster(format!("nothing is stored at {uri}"))),
    }
}

/// The snapshot that makes the cut. One that cannot be read is skipped with a warning.
async fn choose(tier: &Tier, at_ms: Option<i64>, uri: &str) -> Result<(WrittenSnapshot, Snapshot), RestoreError> {
    let listed = tier.list_snapshots().await?;
    let mut unreadable = None;
    for &written in listed.iter().rev().filter(|written| at_ms.is_none_or(|at_ms| written.written_ms <= at_ms)) {
        match tier.load_snapshot(written.number).await {
            Ok(snapshot) => return Ok((written, snapshot)),
            Err(error @ SnapshotError::Corrupt { .. }) => {
                tracing::warn!(%error, "the snapshot before it is tried");
                unreadable.get_or_insert(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    match (unreadable, listed.first(), listed.last()) {
        (Some(error), _, _) => Err(error.into()),
        (None, Some(first), Some(last)) => Err(RestoreError::NoSnapshot(format!(
            "no snapshot is that old: those that are kept were written from {} to {}",
            report::utc(first.written_ms),
            report::utc(last.written_ms)
        ))),
        (None, _, _) => Err(RestoreError::NoSnapshot(format!(
            "{uri} holds no metadata snapshot of cluster {}: nothing says which topics there were",
            tier.cluster_id()
        ))),
    }
}

/// Fences the old owner, with an epoch above all that were ever used.
async fn claim(tier: &Tier, snapshot: &Snapshot, node_id: i32, parts: &Parts) -> Result<OwnerClaim, RestoreError> {
    tier.ensure_cluster_file().await?;
    let of_roots = tier.newest_roots().await?.into_iter().map(|root| root.leader_epoch);
    let image = content::decode_image(cut::section(snapshot, IMAGE, "metadata image")?)?;
    let highest = of_roots.chain(tier.newest_owner().await?).chain([image.node_epoch]).max().unwrap_or(-1);
    let claim = OwnerClaim {
        node_epoch: highest.saturating_add(1),
        node_id,
        process: parts.random.uuid(),
        claimed_at_ms: parts.clock.now_ms(),
    };
    match tier.claim_owner(&claim).await {
        Ok(()) => Ok(claim),
        Err(OwnerError::Store(error)) => Err(error.into()),
        Err(OwnerError::Fenced { node_epoch }) => Err(RestoreError::Claimed(node_epoch)),
    }
}

/// The cut becomes the newest snapshot: another restore, before this broker wrote one of its own, finds the same.
async fn put_snapshot(tier: &Tier, image: &Image, cut: &Cut, laid: &files::Prepared) -> Result<(), RestoreError> {
    let sections = vec![
        SnapshotSection { kind: IMAGE, bytes: content::encode_image(image) },
        SnapshotSection { kind: TIERED, bytes: content::encode_tiered(&cut.tiered()) },
        SnapshotSection { kind: SECURITY, bytes: content::encode_security(&cut.security) },
        SnapshotSection { kind: PRODUCER_IDS, bytes: content::encode_producer_ids(cut.next_producer_id) },
        SnapshotSection { kind: COORDINATORS, bytes: coordinators::encode(&laid.groups) },
        SnapshotSection { kind: TRANSACTION_COORDINATORS, bytes: coordinators::encode(&laid.transactions) },
        SnapshotSection { kind: SHARE_COORDINATORS, bytes: coordinators::encode(&laid.shares) },
    ];
    let first = tier.newest_snapshot_number().await?.map_or(0, |number| number + 1);
    let mut taken = None;
    for number in first..first + SNAPSHOT_TRIES {
        match tier.put_snapshot(&Snapshot { number, sections: sections.clone() }).await {
            Ok(()) => return Ok(()),
            Err(error @ SnapshotError::Fenced(_)) => taken = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    taken.map_or(Ok(()), |error| Err(error.into()))
}

/// Every partition gets a root of our epoch: what the old owner had in flight when it was fenced is older than that.
async fn write_roots(tier: &Tier, claim: &OwnerClaim, cut: &Cut) -> Result<(), RestoreError> {
    for topic in &cut.undeleted {
        tier.delete_tombstone(topic.id).await?;
    }
    let write_root = |partition: &'_ PartitionCut| {
        let (newest, entries) = (partition.chain.newest.clone(), partition.chain.entries.clone());
        let (id, log_start, cleaned_end) = (partition.id, partition.log_start, partition.chain.cleaned_end);
        async move {
            let content = RootContent {
                topic: id.topic,
                partition: id.partition,
                leader_epoch: claim.node_epoch,
                writer: claim.process,
                log_start,
                cleaned_end,
                entries: &entries,
            };
            tier.commit_root(newest.as_ref(), content).await.map(|_| ())
        }
    };
    let partitions = cut.partitions.iter().chain(&cut.emptied);
    futures::stream::iter(partitions).map(write_root).buffer_unordered(PARALLEL_MAX).try_collect::<()>().await?;
    Ok(())
}

/// Is a restore unfinished here? Then nothing but another one may begin.
pub fn is_unfinished(config: &BrokerConfig) -> bool {
    files::unfinished(&config.dirs).exists()
}
