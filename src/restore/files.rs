//! The data directory of a restore: is it empty, and what is written into it.
//!
//! ```text
//!  meta.redb.restoring   made first, so that nothing below looks like a broker's; the name of an unfinished restore
//!  <log dir>/            a checkpoint (where logs without files begin), the logs of the coordinators
//!  meta.redb             the same file under its name: done
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use terrace_tiering::cluster::owner::OwnerClaim;
use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::platform::fs::SharedFs;

use super::coordinators::{self, Counts, Ends};
use super::cut::Cut;
use super::{Parts, RestoreError};
use crate::broker::{dynamic, partition_deps};
use crate::config::server::{BrokerConfig, Dirs};
use crate::coordinator::section::ShardSection;
use crate::group::internal_topic::OFFSETS_TOPIC;
use crate::log::checkpoint::{CheckpointWriter, PartitionMarks};
use crate::metadata::adopted::{self, Adopted};
use crate::metadata::embedded::EmbeddedStore;
use crate::metadata::features::Feature;
use crate::metadata::image::{Change, Image, PartitionId, Topic};
use crate::metadata::store::MetadataStore;
use crate::partition::append::AppendOrigin;
use crate::partition::registry::Partitions;
use crate::partition::tuning::Tuning;
use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::record_batch::Offset;
use crate::share::state::SHARE_STATE_TOPIC;
use crate::transaction::internal_topic::TRANSACTION_TOPIC;

/// What an empty log directory may hold: our own lock, and what a file system puts at its root.
const NOT_OURS: [&str; 2] = [".lock", "lost+found"];
/// Records of a coordinator in one batch, in bytes; well below any `max.message.bytes`.
const BATCH_BYTES: usize = 256 << 10;
/// The offset of a producer snapshot that was never taken.
const NO_SNAPSHOT: Offset = -1;

/// `meta.redb` while a restore is unfinished.
pub fn unfinished(dirs: &Dirs) -> PathBuf {
    dirs.metadata.join("meta.redb.restoring")
}

/// Fine when nothing of a broker lies in the directories, or only what an unfinished restore put there.
pub fn check_empty(fs: &SharedFs, dirs: &Dirs) -> Result<(), RestoreError> {
    if fs.exists(&dirs.metadata_file()) {
        return Err(RestoreError::NotEmpty(dirs.metadata.clone()));
    }
    if fs.exists(&unfinished(dirs)) {
        return Ok(());
    }
    match dirs.logs.iter().find(|log| contents(fs, log).is_ok_and(|found| !found.is_empty())) {
        Some(log) => Err(RestoreError::NotEmpty(log.clone())),
        None => Ok(()),
    }
}

fn contents(fs: &SharedFs, dir: &Path) -> Result<Vec<(PathBuf, bool)>, RestoreError> {
    let entries = fs.read_dir(dir).map_err(|error| RestoreError::Io(dir.to_owned(), error))?;
    let counts = |name: &str| !NOT_OURS.contains(&name);
    Ok(entries.into_iter().filter(|e| counts(&e.name)).map(|e| (dir.join(&e.name), e.is_dir)).collect())
}

/// The metadata, under its unfinished name, and what the coordinators' logs will hold.
pub struct Prepared {
    /// The metadata.
    pub store: Arc<EmbeddedStore>,
    /// The records of the groups.
    pub groups: Vec<ShardSection>,
    /// The records of the transactions.
    pub transactions: Vec<ShardSection>,
    /// The records of the share partitions.
    pub shares: Vec<ShardSection>,
    /// How much of both came back.
    pub counts: Counts,
    /// Where logs without a file begin that don't begin at 0.
    starts: Vec<(Topic, PartitionId, Offset)>,
}

/// Removes what an unfinished restore left, and writes the metadata under its unfinished name.
pub(super) async fn prepare(
    cut: &Cut,
    claim: &OwnerClaim,
    config: &BrokerConfig,
    parts: &Parts,
) -> Result<Prepared, RestoreError> {
    let (fs, dirs) = (&parts.fs, &config.dirs);
    let file = unfinished(dirs);
    let io = |path: &Path| {
        let path = path.to_owned();
        move |error| RestoreError::Io(path, error)
    };
    if fs.exists(&file) {
        for log in &dirs.logs {
            for (path, is_dir) in contents(fs, log)? {
                if is_dir { fs.remove_dir_all(&path) } else { fs.remove_file(&path) }.map_err(io(&path))?;
            }
            fs.sync_dir(log).map_err(io(log))?;
        }
        fs.remove_file(&file).map_err(io(&file))?;
    }
    let adopted = Adopted {
        cluster_id: cut.cluster_id.clone(),
        // Opening it raises the counter to that of the claim; the broker's own start to the next.
        node_epoch: claim.node_epoch - 1,
        next_producer_id: cut.next_producer_id,
        security: cut.security.clone(),
        remote: cut.partitions.iter().map(|each| (each.id, each.remote(claim.node_epoch))).collect(),
    };
    adopted::prepare(&**fs, &file, &adopted)?;
    let store = EmbeddedStore::open(&**fs, &file, Some(&cut.cluster_id), &*parts.random)?;
    let topics = cut.topics.iter().cloned().map(Change::CreateTopic);
    store.commit(None, topics.chain(cut.settings.iter().cloned()).collect()).await?;
    let image = store.image();
    let mut counts = Counts::default();
    let ends = ends(cut, &image);
    let groups = coordinators::groups(cut.groups.clone(), &ends, &mut counts);
    let shares = coordinators::shares(cut.shares.clone(), &ends);
    let version = image.features.level(Feature::Transaction);
    let now_ms = parts.clock.now_ms();
    let transactions =
        coordinators::transactions(cut.transactions.clone(), &cut.producer_epochs, version, now_ms, &mut counts);
    let mut starts = Vec::new();
    let logs = [(OFFSETS_TOPIC, &groups), (TRANSACTION_TOPIC, &transactions), (SHARE_STATE_TOPIC, &shares)];
    for (name, shards) in logs {
        let Some(topic) = image.topic(name) else { continue };
        let id = |shard: &ShardSection| PartitionId { topic: topic.id, partition: shard.partition };
        starts.extend(shards.iter().map(|shard| (Topic::clone(topic), id(shard), shard.next_offset)));
    }
    for partition in cut.partitions.iter().filter(|each| each.chain.entries.is_empty()) {
        let Some(topic) = image.topic_by_id(&partition.id.topic) else { continue };
        starts.push((Topic::clone(topic), partition.id, partition.end));
    }
    starts.retain(|(_, _, start)| *start > 0);
    Ok(Prepared { store, groups, transactions, shares, counts, starts })
}

/// Where each log ends at the cut.
fn ends(cut: &Cut, image: &Image) -> Ends {
    let count = |topic: &Topic| usize::try_from(topic.partition_count).unwrap_or(0);
    let mut ends: Ends =
        image.topics.iter().map(|(name, topic)| (Arc::clone(name), (topic.id, vec![0; count(topic)]))).collect();
    for partition in &cut.partitions {
        if let Some(topic) = image.topic_by_id(&partition.id.topic)
            && let Some((_, of_topic)) = ends.get_mut(&topic.name)
            && let Some(end) = usize::try_from(partition.id.partition).ok().and_then(|at| of_topic.get_mut(at))
        {
            *end = partition.end;
        }
    }
    ends
}

/// Writes the logs of the coordinators, makes all of it durable, and gives the metadata its name.
pub(super) fn finish(
    prepared: Prepared,
    config: &Arc<BrokerConfig>,
    failed_dirs: &[(PathBuf, String)],
    parts: &Parts,
) -> Result<(), RestoreError> {
    let Prepared { store, groups, transactions, shares, starts, .. } = prepared;
    let dirs = &config.dirs;
    let works = |log: &&PathBuf| failed_dirs.iter().all(|(failed, _)| failed != *log);
    if let Some(log) = dirs.logs.iter().find(works)
        && !starts.is_empty()
    {
        // The page cache of a broker that is gone vouches for nothing.
        let mut writer = CheckpointWriter::new(parts.fs.clone(), log, None, None);
        starts.iter().for_each(|(topic, id, start)| writer.set(&begins_at(topic, *id, *start)));
        writer.write().map_err(|error| RestoreError::Io(log.clone(), error))?;
    }
    let image = store.image();
    let tuning = Tuning::new(dynamic::tuned(&dynamic::effective(config, &image), &image));
    let partitions = Partitions::open(partition_deps(config, failed_dirs, parts, &tuning), &image)?;
    let written = [(OFFSETS_TOPIC, &groups), (TRANSACTION_TOPIC, &transactions), (SHARE_STATE_TOPIC, &shares)]
        .into_iter()
        .try_for_each(|(topic, shards)| append_all(&partitions, topic, shards, parts.clock.now_ms()));
    let closed = partitions.close();
    written?;
    if !closed {
        return Err(RestoreError::NotDurable);
    }
    // Its thread ends, with everything written, before the file gets its name.
    drop(store);
    crash_point::reach(CrashPoint::RestoreBeforeRename);
    let file = unfinished(dirs);
    parts.fs.rename(&file, &dirs.metadata_file()).map_err(|error| RestoreError::Io(file, error))?;
    crash_point::reach(CrashPoint::RestoreAfterRename);
    Ok(())
}

/// A log without files that begins at `start`.
fn begins_at(topic: &Topic, id: PartitionId, start: Offset) -> PartitionMarks {
    PartitionMarks {
        topic_id: id.topic,
        partition: id.partition,
        topic: Arc::clone(&topic.name),
        checked_end: start,
        flushed_end: start,
        log_start: start,
        local_start: start,
        cleaned_end: start,
        size_bytes: 0,
        next_due_ms: i64::MAX,
        snapshot_offset: NO_SNAPSHOT,
        producers: Bytes::new(),
    }
}

/// Appends the records of each shard to its log, some in a batch.
fn append_all(
    partitions: &Partitions,
    topic: &'static str,
    shards: &[ShardSection],
    now_ms: i64,
) -> Result<(), RestoreError> {
    for shard in shards {
        // A shard beyond the topic's partitions has no log; the snapshot knows no topic without its shards.
        let Some(partition) = partitions.by_name(topic, shard.partition) else { continue };
        let mut records = shard.records.iter().peekable();
        while records.peek().is_some() {
            let mut builder = BatchBuilder::new(0);
            let mut bytes = 0;
            while let Some(record) = records.next_if(|_| bytes < BATCH_BYTES) {
                bytes += record.key.len() + record.value.as_ref().map_or(0, Vec::len);
                let delta = builder.count();
                builder.push(delta, now_ms, Some(&record.key), record.value.as_deref(), [].into_iter());
            }
            let appended = partition.append(&mut builder.finish(), AppendOrigin::Coordinator, None);
            appended.map_err(|why| RestoreError::Append { topic, partition: shard.partition, why })?;
        }
    }
    Ok(())
}
