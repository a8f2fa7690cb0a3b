//! One log directory of a stopped Kafka broker: whose it is, and how far each partition reaches.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use terrace_tiering::platform::fs::{Entry, Open, SharedFs};

use super::{AdoptError, METADATA_LOG};
use crate::log::checkpoint::PartitionMarks;
use crate::log::kafka_files::{
    CLEAN_SHUTDOWN, LOG_STARTS, META_PROPERTIES, MetaProperties, PARTITION_METADATA, RECOVERY_POINTS,
    parse_offset_checkpoint, parse_partition_metadata,
};
use crate::log::leader_epochs::{self, EpochCache};
use crate::log::names;
use crate::log::walk::HeaderWalk;
use crate::protocol::record_batch::Offset;

/// How far Kafka's cleaner came, per partition.
const CLEANED: &str = "cleaner-offset-checkpoint";
/// Kafka's name ending for a directory that is being deleted.
const DELETE_SUFFIX: &str = "-delete";

/// One log directory.
#[derive(Debug)]
pub struct KafkaDirectory {
    /// Where it is.
    pub path: PathBuf,
    /// What it says of itself.
    pub identity: MetaProperties,
    /// Its partitions.
    pub partitions: Vec<KafkaLog>,
    /// Directories that are none of a partition's: being deleted, strayed, or somebody else's.
    pub others: Vec<String>,
}

/// The files of one partition.
#[derive(Debug)]
pub struct KafkaLog {
    /// Whose it is, as its directory says, and where it stands.
    pub marks: PartitionMarks,
    /// The newest leader epoch that wrote to it.
    pub last_epoch: i32,
}

/// Offsets by topic and partition.
type OffsetsOf = HashMap<(String, i32), Offset>;

/// Reads what the directory says. Without `recover` only one that was stopped cleanly will do.
pub fn read(fs: &SharedFs, path: &Path, recover: bool) -> Result<KafkaDirectory, AdoptError> {
    let meta = path.join(META_PROPERTIES);
    let text = fs.read(&meta).map_err(AdoptError::io(&meta))?;
    let identity = MetaProperties::parse(&text).map_err(|error| AdoptError::Damaged(meta, error.to_string()))?;
    let clean = fs.exists(&path.join(CLEAN_SHUTDOWN));
    if !clean && !recover {
        return Err(AdoptError::Refused(format!(
            "{} was not stopped cleanly (no {CLEAN_SHUTDOWN}): stop Kafka in order, or take what its last sync vouches for and scan the rest with --recover",
            path.display()
        )));
    }
    let kafka = Checkpoints {
        recovered: offsets(fs, &path.join(RECOVERY_POINTS))?,
        starts: offsets(fs, &path.join(LOG_STARTS))?,
        cleaned: offsets(fs, &path.join(CLEANED))?,
        clean,
    };
    let mut directory = KafkaDirectory { path: path.to_owned(), identity, partitions: Vec::new(), others: Vec::new() };
    for entry in fs.read_dir(path).map_err(AdoptError::io(path))? {
        if !entry.is_dir || entry.name == METADATA_LOG {
            continue;
        }
        match names::parse_partition_dir(&entry.name) {
            Some((topic, partition)) if fs.exists(&path.join(&entry.name).join(PARTITION_METADATA)) => {
                directory.partitions.push(partition_log(fs, &path.join(&entry.name), topic, partition, &kafka)?);
            }
            _ if entry.name.ends_with(DELETE_SUFFIX) || entry.name.starts_with('.') => {}
            _ => directory.others.push(entry.name),
        }
    }
    directory.partitions.sort_by(|a, b| (&a.marks.topic, a.marks.partition).cmp(&(&b.marks.topic, b.marks.partition)));
    Ok(directory)
}

/// What Kafka's checkpoint files say.
struct Checkpoints {
    recovered: OffsetsOf,
    starts: OffsetsOf,
    cleaned: OffsetsOf,
    clean: bool,
}

fn offsets(fs: &SharedFs, path: &Path) -> Result<OffsetsOf, AdoptError> {
    let text = match fs.read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(OffsetsOf::new()),
        Err(error) => return Err(AdoptError::Io(path.to_owned(), error)),
    };
    let entries = parse_offset_checkpoint(&text).map_err(|e| AdoptError::Damaged(path.to_owned(), e.to_string()))?;
    Ok(entries.into_iter().map(|entry| ((entry.topic, entry.partition), entry.offset)).collect())
}

fn partition_log(
    fs: &SharedFs,
    path: &Path,
    topic: &str,
    partition: i32,
    kafka: &Checkpoints,
) -> Result<KafkaLog, AdoptError> {
    let metadata = path.join(PARTITION_METADATA);
    let text = fs.read(&metadata).map_err(AdoptError::io(&metadata))?;
    let topic_id = parse_partition_metadata(&text).map_err(|e| AdoptError::Damaged(metadata, e.to_string()))?;
    let entries = fs.read_dir(path).map_err(AdoptError::io(path))?;
    let mut segments: Vec<(Offset, &Entry)> = entries
        .iter()
        .filter_map(|entry| match names::parse_segment_file(&entry.name) {
            Some((base, names::LOG)) => Some((base, entry)),
            _ => None,
        })
        .collect();
    segments.sort_unstable_by_key(|(base, _)| *base);
    let local_start = segments.first().map_or(0, |(base, _)| *base);
    let key = (topic.to_owned(), partition);
    let of = |offsets: &OffsetsOf, default: Offset| offsets.get(&key).copied().unwrap_or(default);
    let flushed_end = match segments.last() {
        None => local_start,
        Some((base, last)) if kafka.clean => end_of(fs, &path.join(&last.name), *base)?,
        // Below the recovery point everything was synced; a start of ours scans the rest.
        Some(_) => of(&kafka.recovered, local_start).max(local_start),
    };
    let log_start = of(&kafka.starts, local_start).clamp(local_start, flushed_end.max(local_start));
    let marks = PartitionMarks {
        topic_id,
        partition,
        topic: Arc::from(topic),
        checked_end: flushed_end,
        flushed_end,
        log_start,
        local_start,
        cleaned_end: of(&kafka.cleaned, log_start).clamp(log_start, flushed_end.max(log_start)),
        size_bytes: segments.iter().map(|(_, entry)| entry.len).sum(),
        next_due_ms: 0,
        snapshot_offset: -1,
        producers: Bytes::new(),
    };
    Ok(KafkaLog { marks, last_epoch: last_epoch(fs, path)? })
}

/// The offset behind the last batch of a segment that was closed in order.
fn end_of(fs: &SharedFs, path: &Path, base: Offset) -> Result<Offset, AdoptError> {
    let file = fs.open(path, Open::Read).map_err(AdoptError::io(path))?;
    let len = file.len().map_err(AdoptError::io(path))?;
    let mut walk = HeaderWalk::new(file, 0, len);
    let mut end = base;
    loop {
        match walk.step() {
            Ok(Some(stop)) => end = stop.header.next_offset(),
            Ok(None) => return Ok(end),
            Err(error) => {
                return Err(AdoptError::Damaged(
                    path.to_owned(),
                    format!("{error}; the broker says that it stopped cleanly; --recover scans instead"),
                ));
            }
        }
    }
}

fn last_epoch(fs: &SharedFs, path: &Path) -> Result<i32, AdoptError> {
    let path = path.join(leader_epochs::FILE_NAME);
    match fs.read(&path) {
        // Recovery makes an unreadable one anew; the controller's epoch counts too.
        Ok(text) => Ok(EpochCache::parse(&text).ok().and_then(|cache| cache.latest()).map_or(0, |last| last.epoch)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(AdoptError::Io(path, error)),
    }
}
