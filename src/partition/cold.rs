//! Reads that wait: for the bucket (which object, and from which of its batches), or for the local disk.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use terrace_tiering::object::chunk::CHUNK_BYTES;
use terrace_tiering::read::ReadHint;
use terrace_tiering::{ObjectRef, Tier};

use super::Partition;
use super::disk_reads;
use super::read::{Isolation, ReadError, ReadSpec, Records};
use crate::log::LogError;
use crate::log::txn_index::AbortedTransaction;
use crate::log::view::FileRange;
use crate::metadata::image::PartitionId;
use crate::metadata::remote_log::{RemoteChain, RemoteSegment};
use crate::protocol::record_batch::{BatchView, Offset, total_bytes};

/// A lookup by time begins anew so often when the chain changed and it failed.
const CHAIN_LOOKS_MAX: usize = 3;

/// A read that has to wait. Holds no lock and no file.
#[derive(Debug, Clone)]
pub enum ColdRead {
    /// For the bucket, on behalf of this partition.
    Bucket(Weak<Partition>, BucketRead),
    /// For the disk: this partition, to be asked this.
    Disk(Weak<Partition>, ReadSpec),
}

/// A read that the bucket answers.
#[derive(Debug, Clone)]
pub struct BucketRead {
    tier: Arc<Tier>,
    object: ObjectRef,
    hint: ReadHint,
    /// Records from here on are local, or above what the reader may see.
    upto: Offset,
    spec: ReadSpec,
}

/// What a cold read loaded.
#[derive(Debug, Default)]
pub struct ColdRecords {
    /// Whole batches in order; the first one holds the offset that was asked, or is the next behind it.
    pub chunks: Vec<Bytes>,
    /// Of a read from the disk, instead of chunks.
    pub range: Option<FileRange>,
    /// For readers of committed records: the aborted transactions that lie in them.
    pub aborted: Vec<AbortedTransaction>,
}

impl ColdRead {
    /// Loads it.
    pub async fn load(self) -> Result<ColdRecords, ReadError> {
        match self {
            Self::Bucket(partition, read) => from_bucket(partition, read).await,
            Self::Disk(partition, spec) => from_disk(partition.upgrade().ok_or(ReadError::Gone)?, spec).await,
        }
    }

    /// Is it local?
    pub fn is_on_disk(&self) -> bool {
        matches!(self, Self::Disk(..))
    }
}

/// Reads on behind what compaction has left of a segment, until there are records: an answer without any would only be asked
/// again.
async fn from_bucket(partition: Weak<Partition>, mut read: BucketRead) -> Result<ColdRecords, ReadError> {
    loop {
        let offset = read.spec.offset;
        let next = match read.load().await {
            Ok(Loaded::Records(records)) => return Ok(records),
            // What the reader had before was compared at its own offset.
            Ok(Loaded::NothingBelow(next)) => ReadSpec { offset: next, last_fetched_epoch: None, ..read.spec },
            Err(ReadError::Storage(why)) => {
                let partition = partition.upgrade().ok_or(ReadError::Gone)?;
                if let Some(deleted) = partition.deleted_meanwhile(offset) {
                    return Err(deleted);
                }
                read = partition.replaced_meanwhile(&read).ok_or(ReadError::Storage(why))?;
                continue;
            }
            Err(error) => return Err(error),
        };
        let of_disk = partition.upgrade().ok_or(ReadError::Gone)?;
        let looked = of_disk.shared.disk_reads.clone().run(move || of_disk.look(&next)).await;
        match looked.map_err(|error| ReadError::Storage(error.to_string()))?? {
            Looked::Here(records) => return Ok(records),
            Looked::InBucket(further) => read = further,
        }
    }
}

/// Reads what is local and was not in the page cache.
async fn from_disk(partition: Arc<Partition>, spec: ReadSpec) -> Result<ColdRecords, ReadError> {
    let disk = partition.shared.disk_reads.clone();
    let read = disk.run(move || partition.look(&spec));
    match read.await.map_err(|error| ReadError::Storage(error.to_string()))?? {
        Looked::Here(records) => Ok(records),
        // It left the local log meanwhile; the reader asks again.
        Looked::InBucket(_) => Ok(ColdRecords::default()),
    }
}

/// Where a read that may wait for the disk found its records.
enum Looked {
    Here(ColdRecords),
    InBucket(BucketRead),
}

/// What one look into the bucket brought.
enum Loaded {
    Records(ColdRecords),
    /// Compaction has left no record from the offset that was asked up to this one.
    NothingBelow(Offset),
}

impl BucketRead {
    async fn load(&self) -> Result<Loaded, ReadError> {
        let failed = |error| ReadError::Storage(format!("{error}"));
        let ReadSpec { offset, max_bytes, min_one, isolation, .. } = self.spec;
        // Of the first chunk perhaps only the end is wanted; what is too much is cut off.
        let at_most = max_bytes.saturating_add(CHUNK_BYTES);
        let read = self.tier.read(&self.object, offset, at_most, self.hint).await.map_err(failed)?;
        let Trimmed { chunks, is_full } = trim(read.chunks, offset, self.upto, max_bytes, min_one);
        if chunks.is_empty() && !is_full && read.next_offset > offset {
            return Ok(Loaded::NothingBelow(read.next_offset));
        }
        let aborted = match (isolation, chunks.last()) {
            (Isolation::ReadCommitted, Some(last)) => {
                let footer = self.tier.footer(&self.object).await.map_err(failed)?;
                let end = end_of(last);
                footer
                    .aborted
                    .iter()
                    .map(AbortedTransaction::from)
                    .filter(|aborted| aborted.overlaps(offset, end))
                    .collect()
            }
            _ => Vec::new(),
        };
        Ok(Loaded::Records(ColdRecords { chunks, range: None, aborted }))
    }
}

/// What is left of chunks.
struct Trimmed {
    chunks: Vec<Bytes>,
    /// There were more batches than were asked for.
    is_full: bool,
}

/// Cuts whole chunks to the batches that were asked for: from the one that holds `offset`, below `upto`, at most
/// `max_bytes` but for the first one. The bytes are shared with the cache, not copied.
fn trim(chunks: Vec<Bytes>, offset: Offset, upto: Offset, max_bytes: u64, min_one: bool) -> Trimmed {
    let mut answer = Vec::with_capacity(chunks.len());
    let mut left = max_bytes;
    let mut full = false;
    for chunk in chunks {
        let (mut start, mut end) = (0, 0);
        while let Ok((header, total)) = BatchView::header_only(&chunk[end..]) {
            if end + total > chunk.len() {
                break;
            }
            if header.last_offset() < offset {
                end += total;
                start = end;
                continue;
            }
            let first = answer.is_empty() && start == end;
            let fits = total as u64 <= left || (first && min_one);
            if header.base_offset() >= upto || !fits {
                full = true;
                break;
            }
            left = left.saturating_sub(total as u64);
            end += total;
        }
        if end > start {
            answer.push(chunk.slice(start..end));
        }
        if full {
            break;
        }
    }
    Trimmed { chunks: answer, is_full: full }
}

/// The object that has `offset`, and the one behind it. Where a copy was lost there is a gap; the next one answers then.
fn chosen(id: PartitionId, chain: &RemoteChain, offset: Offset) -> Option<(ObjectRef, Option<ObjectRef>)> {
    let at = chain.segments.partition_point(|segment| segment.last_offset < offset);
    let next = chain.segments.get(at + 1).map(|next| object_of(id, next));
    chain.segments.get(at).map(|segment| (object_of(id, segment), next))
}

/// The segment's object, as the tier names it.
pub fn object_of(id: PartitionId, segment: &RemoteSegment) -> ObjectRef {
    ObjectRef {
        topic: id.topic,
        partition: id.partition,
        base_offset: segment.base_offset,
        last_offset: segment.last_offset,
        leader_epoch: segment.copy_epoch,
        uuid: segment.uuid,
        object_bytes: segment.object_bytes,
    }
}

impl Partition {
    /// A read waits without a lock, and the log start may pass it: then the object is gone rightly, and the reader is told
    /// so instead of a failure of the store.
    fn deleted_meanwhile(&self, offset: Offset) -> Option<ReadError> {
        let offsets = self.online_offsets().ok()?;
        (offset < offsets.log_start).then_some(ReadError::OutOfRange {
            offset,
            log_start: offsets.log_start,
            high_watermark: offsets.high_watermark,
        })
    }

    /// The read as it would be begun now, if another object has the records by now: segments are merged, and a reader may
    /// wait longer than the grace time of those that were.
    fn replaced_meanwhile(&self, read: &BucketRead) -> Option<BucketRead> {
        let chain = self.remote_chain();
        let (object, next) = chosen(self.id, &chain, read.spec.offset)?;
        let is_another = object.uuid != read.object.uuid && object.base_offset <= read.spec.offset;
        let upto = read.upto.max(object.last_offset + 1);
        is_another.then(|| BucketRead { object, hint: ReadHint { next }, upto, ..read.clone() })
    }

    /// The read of `spec` from the disk.
    pub(super) fn on_disk(&self, spec: &ReadSpec) -> ColdRead {
        ColdRead::Disk(self.this.clone(), *spec)
    }

    /// Finds the records and brings the first of them into the page cache; the rest follows while they are sent. Blocks.
    fn look(&self, spec: &ReadSpec) -> Result<Looked, ReadError> {
        let outcome = self.read_from_disk(spec)?;
        match outcome.records {
            Records::File(range) => {
                disk_reads::bring(&range).map_err(LogError::from)?;
                let found = ColdRecords { range: Some(range), aborted: outcome.aborted, ..ColdRecords::default() };
                Ok(Looked::Here(found))
            }
            Records::Cold(ColdRead::Bucket(_, read)) => Ok(Looked::InBucket(read)),
            Records::Cold(ColdRead::Disk(..)) | Records::Empty => Ok(Looked::Here(ColdRecords::default())),
        }
    }

    /// The read of `spec` from the bucket, for records below `local_start`, at the moment at which `chain` was the tier's.
    pub(super) fn cold(&self, spec: &ReadSpec, chain: &RemoteChain, local_start: Offset) -> Result<ColdRead, LogError> {
        let missing = |what: &str| LogError::Corrupt(format!("offset {} is neither local nor {what}", spec.offset));
        let tier = self.shared.tier.get().ok_or_else(|| missing("is there a remote store"))?;
        let (object, next) = chosen(self.id, chain, spec.offset).ok_or_else(|| missing("in the remote store"))?;
        let read = BucketRead {
            tier: Arc::clone(tier),
            object,
            hint: ReadHint { next },
            // What lies in both tiers may be read from either.
            upto: local_start.max(object.last_offset + 1),
            spec: ReadSpec { offset: spec.offset.max(object.base_offset), ..*spec },
        };
        Ok(ColdRead::Bucket(self.this.clone(), read))
    }

    /// The first record of the bucket at `timestamp` or later, at or behind `from`: its offset and its time. One footer
    /// and, where its segment has one, one chunk are read.
    pub(super) async fn cold_time(
        &self,
        timestamp: i64,
        from: Offset,
        local_start: Offset,
    ) -> Result<Option<(Offset, i64)>, ReadError> {
        let mut chain = self.remote_chain();
        for _ in 1..CHAIN_LOOKS_MAX {
            let found = self.cold_time_in(&chain, timestamp, from, local_start).await;
            let newest = self.remote_chain();
            match found {
                // An object that was merged meanwhile may be gone; another one has its records.
                Err(ReadError::Storage(_)) if newest.generation != chain.generation => chain = newest,
                found => return found,
            }
        }
        self.cold_time_in(&chain, timestamp, from, local_start).await
    }

    async fn cold_time_in(
        &self,
        chain: &RemoteChain,
        timestamp: i64,
        from: Offset,
        local_start: Offset,
    ) -> Result<Option<(Offset, i64)>, ReadError> {
        let max_decompressed = self.topic_config().record_decompressed_max_bytes;
        for segment in chain.from_time(timestamp) {
            if segment.base_offset >= local_start {
                break;
            }
            if segment.last_offset < from || segment.max_timestamp < timestamp {
                continue;
            }
            let failed = |error| ReadError::Storage(format!("{error}"));
            let tier = self.shared.tier.get().ok_or_else(|| ReadError::Storage("no remote store is open".into()))?;
            let object = object_of(self.id, segment);
            let footer = tier.footer(&object).await.map_err(failed)?;
            // The index has the largest timestamp so far: the first chunk that reaches the target holds the record.
            let chunk = footer.chunks.partition_point(|chunk| chunk.max_timestamp < timestamp);
            let Some(chunk) = footer.chunks.get(chunk) else { continue };
            let start = from.max(chunk.first_offset);
            let mut at = start;
            loop {
                let read = tier.read(&object, at, 1, ReadHint::default()).await.map_err(failed)?;
                // Not the end of the last batch: behind a gap of compaction that asks for the same chunk again.
                let next = read.next_offset;
                for chunk in read.chunks {
                    // It opens batches: work for a thread that may take its time.
                    let find = move || super::list_offsets::find_in(&chunk, timestamp, from, max_decompressed);
                    let found = self.shared.disk_reads.run(find).await.map_err(LogError::from)?;
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                // A batch that says it has such a record and has none is skipped, not a reason to stop.
                if next <= at || next > segment.last_offset {
                    break;
                }
                at = next;
            }
        }
        Ok(None)
    }
}

/// The offset behind the last batch of a chunk.
fn end_of(chunk: &Bytes) -> Offset {
    let (mut at, mut end) = (0, 0);
    while let Ok((header, total)) = BatchView::header_only(&chunk[at.min(chunk.len())..]) {
        end = header.next_offset();
        at += total;
    }
    debug_assert!(chunk.is_empty() || total_bytes(chunk).is_ok(), "a chunk begins with a batch");
    end
}
