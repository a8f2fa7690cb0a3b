//! What there is at the cut: topics and settings as the snapshot has them, and each partition's segments in the bucket.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use terrace_tiering::Tier;
use terrace_tiering::cluster::snapshot::Snapshot;
use terrace_tiering::names::ObjectRef;
use terrace_tiering::read::ReadError;
use terrace_tiering::restore::chain::Limit;
use terrace_tiering::restore::segments::{RestoreError as ChainError, RestoredChain};
use uuid::Uuid;

use super::{PARALLEL_MAX, RestoreError};
use crate::coordinator::section::ShardSection;
use crate::metadata::image::{Change, PartitionId, Topic};
use crate::metadata::remote_log::{RemotePartition, RemoteSegment, SegmentState};
use crate::partition::producers::read_snapshot;
use crate::protocol::record_batch::{LeaderEpoch, Offset, ProducerId};
use crate::remote_log::snapshots::content::{self, BadSection, SnapshotImage};
use crate::remote_log::snapshots::{
    COORDINATORS, IMAGE, PRODUCER_IDS, SECURITY, SHARE_COORDINATORS, TIERED, TRANSACTION_COORDINATORS,
};

/// Producer ids that may have been given away since the snapshot, beyond what it and the bucket know: a thousand blocks.
const PRODUCER_IDS_SINCE: ProducerId = 1_000_000;

/// Everything that is restored, before a byte of it is written.
#[derive(Debug)]
pub struct Cut {
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// The topics that come back.
    pub topics: Vec<Topic>,
    /// Configuration, quotas, feature levels.
    pub settings: Vec<Change>,
    /// ACLs, SCRAM credentials and tokens, as Kafka wrote them.
    pub security: BTreeMap<String, Vec<u8>>,
    /// The first producer id that surely nobody was given.
    pub next_producer_id: ProducerId,
    /// Partitions with something in the bucket, by id.
    pub partitions: Vec<PartitionCut>,
    /// Partitions that stay in the bucket and don't come back; their chains are empty.
    pub emptied: Vec<PartitionCut>,
    /// The highest epoch of each producer that the bucket knows.
    pub producer_epochs: HashMap<ProducerId, i16>,
    /// What the group coordinator knew.
    pub groups: Vec<ShardSection>,
    /// What the transaction coordinator knew.
    pub transactions: Vec<ShardSection>,
    /// What the share coordinator knew.
    pub shares: Vec<ShardSection>,
    /// Topics that were made after the snapshot: their name and segments are in the bucket, their settings are not.
    pub found: Vec<Topic>,
    /// Topics of the snapshot that were deleted after it and stay so.
    pub deleted: Vec<Topic>,
    /// Topics of an older cut that were deleted after it and come back.
    pub undeleted: Vec<Topic>,
    /// Topics in the bucket that don't belong to the cut, with their objects and bytes.
    pub left: BTreeMap<Uuid, (usize, u64)>,
    /// Feature levels of a newer program.
    pub unknown_features: Vec<(String, i16)>,
}

/// One partition.
#[derive(Debug)]
pub struct PartitionCut {
    /// Which.
    pub id: PartitionId,
    /// Its segments.
    pub chain: RestoredChain,
    /// First offset that can be read.
    pub log_start: Offset,
    /// Where its log goes on.
    pub end: Offset,
}

impl PartitionCut {
    fn new(id: PartitionId, chain: RestoredChain, known_start: Offset, known_end: Offset) -> Self {
        let known_start = known_start.max(chain.log_start).max(0);
        match (chain.entries.first(), chain.entries.last()) {
            (Some(first), Some(last)) => {
                let (start, end) = (known_start.max(first.base_offset), last.last_offset + 1);
                Self { id, log_start: start.min(end), end, chain }
            }
            // Everything has expired, or is gone: offsets that were given away are not given away again.
            _ => {
                let named = chain.missing.iter().map(|entry| entry.last_offset + 1).max();
                let end = known_start.max(known_end).max(named.unwrap_or(0));
                Self { id, log_start: end, end, chain }
            }
        }
    }

    /// Its rows.
    pub fn remote(&self, leader_epoch: LeaderEpoch) -> RemotePartition {
        let segment = |entry: &terrace_tiering::manifest::ManifestEntry| {
            Arc::new(RemoteSegment {
                uuid: entry.uuid,
                base_offset: entry.base_offset,
                last_offset: entry.last_offset,
                copy_epoch: entry.leader_epoch,
                log_bytes: entry.log_bytes,
                object_bytes: entry.object_bytes,
                first_timestamp: entry.first_timestamp,
                max_timestamp: entry.max_timestamp,
                max_timestamp_offset: entry.max_timestamp_offset,
                epochs: entry.epochs.clone(),
                state: SegmentState::CopyFinished,
            })
        };
        let segments = self.chain.entries.iter().map(segment).collect();
        RemotePartition { generation: 1, leader_epoch, segments, log_start: self.log_start }
    }
}

impl Cut {
    /// What the snapshot of the cut says of its partitions.
    pub fn tiered(&self) -> Vec<content::TieredPartition> {
        let end = |partition: &PartitionCut| if partition.chain.entries.is_empty() { -1 } else { partition.end };
        self.partitions.iter().map(|each| (each.id, each.log_start, end(each))).collect()
    }
}

/// The bytes of a section that must be there.
pub(super) fn section<'s>(snapshot: &'s Snapshot, kind: u16, what: &'static str) -> Result<&'s Bytes, BadSection> {
    optional(snapshot, kind).ok_or_else(|| BadSection::missing(what))
}

fn optional(snapshot: &Snapshot, kind: u16) -> Option<&Bytes> {
    snapshot.sections.iter().find(|section| section.kind == kind).map(|section| &section.bytes)
}

/// Puts the cut together: that of `snapshot` with all that the bucket got since, or, with the time at which an `older` one
/// was written, without.
pub async fn gather(tier: &Tier, snapshot: &Snapshot, older: Option<i64>) -> Result<Cut, RestoreError> {
    let image = content::decode_image(section(snapshot, IMAGE, "metadata image")?)?;
    let tiered = content::decode_tiered(section(snapshot, TIERED, "tiered partitions")?)?;
    let tiered: HashMap<PartitionId, (Offset, Offset)> =
        tiered.into_iter().map(|(id, log_start, end)| (id, (log_start, end))).collect();
    // Earlier releases wrote neither of these.
    let security = optional(snapshot, SECURITY).map(|bytes| content::decode_security(bytes)).transpose()?;
    let known_ids = optional(snapshot, PRODUCER_IDS).map(|bytes| content::decode_producer_ids(bytes)).transpose()?;
    let groups = ShardSection::decode_all(optional(snapshot, COORDINATORS).map_or(&[][..], |bytes| bytes))?;
    let transactions =
        ShardSection::decode_all(optional(snapshot, TRANSACTION_COORDINATORS).map_or(&[][..], |bytes| bytes))?;
    let shares = ShardSection::decode_all(optional(snapshot, SHARE_COORDINATORS).map_or(&[][..], |bytes| bytes))?;

    let objects: HashMap<PartitionId, Vec<ObjectRef>> = tier
        .all_segments()
        .await?
        .into_iter()
        .map(|((topic, partition), objects)| (PartitionId { topic, partition }, objects))
        .collect();
    let roots = tier.newest_roots().await?.into_iter();
    let mut ids: BTreeSet<PartitionId> =
        roots.map(|root| PartitionId { topic: root.topic, partition: root.partition }).collect();
    ids.extend(objects.keys().chain(tiered.keys()));

    let tombs: HashSet<Uuid> = tier.tombstones().await?.into_iter().collect();
    let SnapshotImage { cluster_id, node_epoch, topics, settings, unknown_features } = image;
    let (buried, mut topics): (Vec<Topic>, Vec<Topic>) =
        topics.into_iter().partition(|topic| tombs.contains(&topic.id));
    let (mut deleted, mut undeleted, mut found) = (Vec::new(), Vec::new(), Vec::new());
    if older.is_some() {
        topics.extend(buried.iter().cloned());
        undeleted = buried;
    } else {
        deleted = buried;
        found = find_topics(tier, &topics, &deleted, &tombs, &objects).await?;
        topics.extend(found.iter().cloned());
        add_partitions(&mut topics, &ids);
    }

    let by_id: HashMap<Uuid, &Topic> = topics.iter().map(|topic| (topic.id, topic)).collect();
    let belongs =
        |id: &PartitionId| by_id.get(&id.topic).is_some_and(|topic| (0..topic.partition_count).contains(&id.partition));
    let mut left: BTreeMap<Uuid, (usize, u64)> = BTreeMap::new();
    for (id, objects) in objects.iter().filter(|(id, _)| !belongs(id) && !tombs.contains(&id.topic)) {
        let (count, bytes) = left.entry(id.topic).or_default();
        *count += objects.len();
        *bytes += objects.iter().map(|object| object.object_bytes).sum::<u64>();
    }
    let limit_of = |id: PartitionId| {
        older.map(|written_ms| Limit {
            written_ms,
            // A partition that the snapshot doesn't name had nothing in the bucket; nor has a topic that is left there.
            tier_end: tiered.get(&id).filter(|_| belongs(&id)).map_or(0, |(_, end)| (*end).max(0)),
            leader_epoch: node_epoch,
        })
    };
    // What is left in the bucket and not marked as deleted gets an empty root, so that no start takes it for a history of
    // its own.
    let wanted = ids.into_iter().filter(|id| belongs(id) || !tombs.contains(&id.topic));
    let put_together = |id: PartitionId| {
        let (log_start, end) = tiered.get(&id).copied().unwrap_or((0, -1));
        let limit = limit_of(id);
        let objects = if belongs(&id) { objects.get(&id).cloned().unwrap_or_default() } else { Vec::new() };
        async move {
            let mut chain = tier.restore_chain(id.topic, id.partition, &objects, log_start, limit.as_ref()).await?;
            chain.missing.retain(|entry| entry.last_offset >= log_start);
            Ok::<_, RestoreError>(PartitionCut::new(id, chain, log_start, end))
        }
    };
    let partitions: Vec<PartitionCut> =
        futures::stream::iter(wanted).map(put_together).buffered(PARALLEL_MAX).try_collect().await?;
    let (restored, emptied): (Vec<_>, Vec<_>) = partitions.into_iter().partition(|each| belongs(&each.id));
    let producer_epochs = producers(tier, &restored).await?;
    let highest = producer_epochs.keys().copied().max().unwrap_or(-1).max(known_ids.unwrap_or(0));
    Ok(Cut {
        cluster_id,
        settings,
        security: security.unwrap_or_default(),
        next_producer_id: highest.saturating_add(PRODUCER_IDS_SINCE),
        partitions: restored,
        emptied,
        producer_epochs,
        groups,
        transactions,
        shares,
        found,
        deleted,
        undeleted,
        left,
        unknown_features,
        topics,
    })
}

/// Topics that the snapshot doesn't know, because they were made after it: objects tell their topic's name. A name that is
/// taken, or was (a topic deleted and made again), is left where it is.
async fn find_topics(
    tier: &Tier,
    known: &[Topic],
    deleted: &[Topic],
    tombs: &HashSet<Uuid>,
    objects: &HashMap<PartitionId, Vec<ObjectRef>>,
) -> Result<Vec<Topic>, RestoreError> {
    let ids: HashSet<Uuid> = known.iter().chain(deleted).map(|topic| topic.id).collect();
    let mut names: HashSet<Arc<str>> = known.iter().map(|topic| Arc::clone(&topic.name)).collect();
    let mut newer: BTreeMap<Uuid, (i32, &ObjectRef)> = BTreeMap::new();
    for (id, of_partition) in objects.iter().filter(|(id, _)| !ids.contains(&id.topic) && !tombs.contains(&id.topic)) {
        if let Some(object) = of_partition.first() {
            let (count, _) = newer.entry(id.topic).or_insert((0, object));
            *count = (*count).max(id.partition.saturating_add(1));
        }
    }
    let mut found = Vec::new();
    for (id, (partition_count, object)) in newer {
        let name = match tier.footer(object).await {
            Ok(footer) => Arc::<str>::from(footer.identity.topic_name.as_str()),
            Err(ReadError::Store(error)) => return Err(error.into()),
            Err(error) => {
                tracing::warn!(topic = %id, %error, "a topic that no snapshot knows is left in the bucket");
                continue;
            }
        };
        if names.insert(Arc::clone(&name)) {
            found.push(Topic { id, name, partition_count, replication_factor: 1, config: BTreeMap::new() });
        }
    }
    Ok(found)
}

/// Partitions that were added after the snapshot.
fn add_partitions(topics: &mut [Topic], ids: &BTreeSet<PartitionId>) {
    for topic in topics {
        let last =
            ids.range(PartitionId { topic: topic.id, partition: 0 }..).take_while(|id| id.topic == topic.id).last();
        if let Some(last) = last {
            topic.partition_count = topic.partition_count.max(last.partition.saturating_add(1));
        }
    }
}

/// The highest epoch of each producer, as the last segment of each partition knows it.
async fn producers(tier: &Tier, partitions: &[PartitionCut]) -> Result<HashMap<ProducerId, i16>, RestoreError> {
    let last = |partition: &PartitionCut| {
        let object = partition.chain.entries.last()?.object(partition.id.topic, partition.id.partition);
        Some(object)
    };
    let footers = futures::stream::iter(partitions.iter().filter_map(last))
        .map(|object| async move { tier.footer(&object).await.map(|footer| footer.producer_snapshot.clone()) })
        .buffer_unordered(PARALLEL_MAX);
    let mut footers = std::pin::pin!(footers);
    let mut epochs: HashMap<ProducerId, i16> = HashMap::new();
    while let Some(snapshot) = footers.try_next().await.map_err(ChainError::from)? {
        if snapshot.is_empty() {
            continue;
        }
        match read_snapshot(&snapshot) {
            Ok(entries) => {
                for entry in entries {
                    let epoch = epochs.entry(entry.producer_id).or_insert(entry.epoch);
                    *epoch = (*epoch).max(entry.epoch);
                }
            }
            Err(error) => tracing::warn!(%error, "producers of a segment cannot be read"),
        }
    }
    Ok(epochs)
}

#[cfg(test)]
mod tests;
