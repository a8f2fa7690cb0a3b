//! The cleaner: rewrites sealed segments of a compacted topic so that only the last record of each key stays.
//!
//! ```text
//! plan (which offsets, is it worth it) -> KeyMap (key -> last offset) -> groups of neighbours
//!   -> clean_group (<base>.log.cleaned, synced) -> Cleaned::commit (.swap: from here a crash completes it)
//!   -> Cleaned::install (under the partition's lock: .log) -> Cleaned::sweep (what it replaces goes)
//! ```
//! Everything here works on files and facts; the partition decides when, and shows the result to readers. One clean of
//! a partition runs at a time, and retention leaves the partition's files alone between commit and sweep.
//!
//! What stays is what Kafka keeps: records above the round; of the others the last of each key; its tombstones until
//! their delete horizon (KIP-534: `delete.retention.ms` after the first clean that met them, written into the batch).
//! Batches keep base offset, last offset, producer and sequence, so that offsets and sequences still follow on.
//! Three things differ, and each is safe:
//!
//! - Kafka leaves a batch without records where it held a live producer's last sequence. Several clients hang on such a
//!   batch, so none is ever written: that sequence is in the producer snapshot of the segment behind, which no cleaning
//!   removes before a later one is there, and every start begins with the newest (docs/decisions/0006-no-empty-batches.md).
//! - Kafka leaves one too where a round ends in nothing, so that a reader's position can reach the log's end. Here the
//!   last record of the round stays instead, for one round longer. Nothing that it could bring back to life is gone
//!   already: it is the newest of its key, or has none.
//! - A batch whose CRC is wrong, whose records can't be read, or which would decompress beyond
//!   `record.decompressed.max.bytes` is kept as it is and counted; older records of its keys stay too.
//!
//! Records of aborted transactions go at the first pass, markers when nothing hangs on them any more ([`transactions`]).

mod filter;
mod key_map;
mod plan;
mod swap;
mod transactions;

use std::borrow::Cow;
use std::io;
use std::path::Path;

use terrace_tiering::platform::fs::{Open, SharedFile, SharedFs};

use crate::log::offset_index::{OffsetIndex, OffsetPosition};
use crate::log::time_index::{NO_TIMESTAMP, TimeIndex, TimestampOffset};
use crate::log::txn_index::AbortedTransaction;
use crate::protocol::record_batch::{BatchError, BatchView, HEADER_BYTES, Offset, total_bytes};

pub use filter::{Ends, Kept, Rules};
pub use key_map::KeyMap;
pub use plan::{Plan, SealedSegment, groups, plan, plan_with};
pub use swap::{is_on_its_way, recover};
pub use transactions::TransactionWalk;

/// Bytes read and written at once, unless one batch is larger.
const IO_BYTES: usize = 1 << 20;

/// A sealed segment to be cleaned.
#[derive(Debug, Clone)]
pub struct Source {
    /// First offset it may hold.
    pub base: Offset,
    /// The offset behind it.
    pub next: Offset,
    /// Its `.log` file.
    pub file: SharedFile,
    /// Bytes of it that are published.
    pub len: u64,
}

/// How the cleaned segment is written.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// `index.interval.bytes`.
    pub index_interval_bytes: u32,
    /// `segment.index.bytes`.
    pub segment_index_bytes: u32,
}

/// What a clean did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of the segments it read.
    pub read_bytes: u64,
    /// Bytes of the segment it wrote.
    pub written_bytes: u64,
    /// Records it dropped.
    pub dropped_records: u64,
    /// Batches of which it dropped records, or which it gave a delete horizon; without any the output is the input.
    pub changed_batches: u64,
    /// Batches it could not open, kept as they are.
    pub bad_batches: u64,
}

/// Why a group was not cleaned; its segments stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// The file system failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The bytes at this place are no batch, so nothing behind them can be found.
    #[error("segment {base} cannot be walked at {position}: {error}")]
    Unreadable {
        /// The segment.
        base: Offset,
        /// Where in its file.
        position: u64,
        /// What is wrong there.
        error: BatchError,
    },
    /// The caller asked to stop.
    #[error("cleaning was stopped")]
    Stopped,
}

/// A cleaned segment on its way to replace others; see the module for its steps.
#[derive(Debug)]
pub struct Cleaned {
    /// First offset that it may hold, and its file's name: the first replaced segment's.
    pub base: Offset,
    /// The offset behind the last segment that it replaces.
    pub next: Offset,
    /// The base offsets of the segments that it replaces, its own the first.
    pub replaced: Vec<Offset>,
    /// Its file, wherever it is named at the moment.
    pub file: SharedFile,
    /// Its bytes.
    pub len: u64,
    /// Its offset index.
    pub offsets: OffsetIndex,
    /// Its time index, sealed.
    pub times: TimeIndex,
    /// Its newest record's timestamp and the last offset of the batch that has it.
    pub newest: TimestampOffset,
    /// Largest timestamp of its first batch.
    pub first_timestamp: Option<i64>,
    /// Its index of aborted transactions: those of which it may still hold records.
    pub aborted: Vec<AbortedTransaction>,
    /// What the clean did.
    pub stats: Stats,
}

/// Calls `each` with every batch of `source`, in order, until it returns false.
fn walk(source: &Source, mut each: impl FnMut(BatchView<'_>) -> Result<bool, CleanError>) -> Result<(), CleanError> {
    let mut buffer = Vec::new();
    let mut position = 0;
    while position < source.len {
        let unreadable = |error| CleanError::Unreadable { base: source.base, position, error };
        let left = source.len - position;
        let mut wanted = IO_BYTES as u64;
        if buffer.len() >= HEADER_BYTES {
            // The batch at the front didn't fit; its length is bounded by what is left of the file.
            wanted = wanted.max(total_bytes(&buffer).map_err(unreadable)? as u64);
        }
        if wanted > left && buffer.len() as u64 == left {
            return Err(unreadable(BatchError::Truncated));
        }
        buffer.resize(usize::try_from(wanted.min(left)).unwrap_or(usize::MAX), 0);
        source.file.read_exact_at(&mut buffer, position)?;

        let mut rest = &buffer[..];
        loop {
            match BatchView::split_first(rest) {
                Ok((batch, behind)) => {
                    position += batch.bytes().len() as u64;
                    rest = behind;
                    if !each(batch)? {
                        return Ok(());
                    }
                }
                Err(BatchError::Truncated) if rest.len() < buffer.len() || (buffer.len() as u64) < left => break,
                Err(error) => return Err(CleanError::Unreadable { base: source.base, position, error }),
            }
        }
        let used = buffer.len() - rest.len();
        buffer.drain(..used);
    }
    Ok(())
}

/// Writes what `rules` keep of `sources` (neighbours, in order) to one segment in `dir`, synced under its temporary
/// name. `transactions` has met what lies in front of them. `proceed` is asked before each batch. After an error nothing is left but a `.cleaned` file, which the next
/// clean or start removes.
pub fn clean_group(
    fs: &SharedFs,
    dir: &Path,
    sources: &[Source],
    rules: &Rules<'_>,
    transactions: &mut TransactionWalk,
    layout: &Layout,
    proceed: &dyn Fn() -> bool,
) -> Result<Cleaned, CleanError> {
    let (first, last) = (&sources[0], &sources[sources.len() - 1]);
    let path = swap::cleaned_path(dir, first.base);
    fs.remove_file(&path)?;
    let mut output = Output::new(fs.open(&path, Open::CreateNew)?, first.base, layout);
    let mut stats = Stats::default();
    let mut aborted = Vec::new();
    for source in sources {
        walk(source, |batch| {
            if !proceed() {
                return Err(CleanError::Stopped);
            }
            let kept = rules.filter(&batch, transactions, last.next);
            aborted.extend(kept.aborted);
            stats.dropped_records += kept.dropped_records;
            stats.bad_batches += u64::from(kept.is_bad);
            stats.changed_batches += u64::from(!matches!(kept.bytes, Some(Cow::Borrowed(_))));
            if let Some(bytes) = &kept.bytes {
                output.push(bytes)?;
            }
            Ok(true)
        })?;
        stats.read_bytes += source.len;
    }
    output.finish()?;
    swap::write_aborted(fs, dir, first.base, &aborted)?;
    stats.written_bytes = output.len;
    Ok(Cleaned {
        base: first.base,
        next: last.next,
        replaced: sources.iter().map(|source| source.base).collect(),
        file: output.file,
        len: output.len,
        offsets: output.offsets,
        times: output.times,
        newest: output.newest,
        first_timestamp: output.first_timestamp,
        aborted,
        stats,
    })
}

/// The segment that is being written, with its indexes as an append would have made them.
struct Output {
    file: SharedFile,
    len: u64,
    buffer: Vec<u8>,
    offsets: OffsetIndex,
    times: TimeIndex,
    newest: TimestampOffset,
    first_timestamp: Option<i64>,
    index_interval: u64,
    since_entry: u64,
}

impl Output {
    fn new(file: SharedFile, base: Offset, layout: &Layout) -> Self {
        Self {
            file,
            len: 0,
            buffer: Vec::new(),
            offsets: OffsetIndex::new(base, layout.segment_index_bytes),
            times: TimeIndex::new(base, layout.segment_index_bytes),
            newest: TimestampOffset { timestamp: NO_TIMESTAMP, offset: base },
            first_timestamp: None,
            index_interval: layout.index_interval_bytes.into(),
            since_entry: 0,
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), CleanError> {
        let (batch, _) = BatchView::split_first(bytes).expect("the filter gives whole batches");
        self.first_timestamp.get_or_insert(batch.max_timestamp());
        if batch.max_timestamp() > self.newest.timestamp {
            self.newest = TimestampOffset { timestamp: batch.max_timestamp(), offset: batch.last_offset() };
        }
        if self.since_entry > self.index_interval {
            if let Ok(position) = u32::try_from(self.len) {
                self.offsets.push(OffsetPosition { offset: batch.last_offset(), position }, false);
            }
            self.times.push(self.newest, false);
            self.since_entry = 0;
        }
        self.since_entry += bytes.len() as u64;
        self.len += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= IO_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), CleanError> {
        self.file.write_all_at(&self.buffer, self.len - self.buffer.len() as u64)?;
        self.buffer.clear();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), CleanError> {
        self.write()?;
        self.file.sync_data()?;
        self.times.push(self.newest, true);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
