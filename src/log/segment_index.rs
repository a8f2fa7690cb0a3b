//! Both indexes of one segment: what the files hold, and the tail that they don't hold yet.
//!
//! Only the tail is in memory. While the segment is active it moves to the files when it has grown to some entries and the
//! checkpoint passes by, and all of it at a roll and at a clean stop, by ordinary writes. A sealed segment has no tail
//! and costs no memory. Files are searched in place; what they say is checked by whoever follows it against the batch it
//! names.

use std::io;
use std::path::Path;

use terrace_tiering::platform::fs::{Open, SharedFs};

use super::index::{Index, IndexEntry};
use super::names::{self, INDEX, TIME_INDEX};
use super::offset_index::OffsetPosition;
use super::time_index::{NO_TIMESTAMP, TimestampOffset};
use crate::protocol::record_batch::Offset;

/// A tail of fewer entries stays in memory when the checkpoint passes by: a start walks the headers of that much log in
/// a fraction of a millisecond, and a quiet partition's files are left alone.
const SPILL_ENTRIES: usize = 32;

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup<E> {
    /// This is it; `None` when all entries are behind what was looked for.
    Found(Option<E>),
    /// Among this many entries of the file.
    OnDisk(usize),
}

/// One index: so many entries in its file, and those behind them.
#[derive(Debug, Clone)]
struct Part<E> {
    on_disk: usize,
    tail: Index<E>,
    /// The file may go on behind what it is known to hold.
    untidy: bool,
}

impl<E: IndexEntry> Part<E> {
    fn new(base: Offset, max_bytes: u32, on_disk: usize) -> Self {
        Self { on_disk, tail: Index::new(base, max_bytes), untidy: true }
    }

    fn bytes(&self) -> usize {
        (self.on_disk + self.tail.len()) * E::BYTES
    }

    fn lookup(&self, key: E::Key) -> Lookup<E> {
        match self.tail.floor(key) {
            None if self.on_disk > 0 => Lookup::OnDisk(self.on_disk),
            found => Lookup::Found(found),
        }
    }

    fn spill(&mut self, fs: &SharedFs, path: &Path) -> io::Result<()> {
        if self.tail.is_empty() {
            return Ok(());
        }
        let file = fs.open(path, Open::Create)?;
        file.write_all_at(self.tail.as_bytes(), (self.on_disk * E::BYTES) as u64)?;
        let len = self.bytes() as u64;
        if self.untidy && file.len()? > len {
            file.set_len(len)?;
        }
        self.untidy = false;
        self.on_disk += self.tail.len();
        self.tail.clear();
        Ok(())
    }

    fn forget(&mut self) {
        self.on_disk = 0;
        self.tail.clear();
    }
}

/// The indexes of one segment.
#[derive(Debug, Clone)]
pub(super) struct SegmentIndex {
    max_bytes: u32,
    offsets: Part<OffsetPosition>,
    times: Part<TimestampOffset>,
    last_time: i64,
    bytes_since_entry: u64,
    /// Largest timestamp of the segment, and the last offset of the batch that has it.
    pub(super) largest: TimestampOffset,
    /// Largest timestamp of the first batch.
    pub(super) first_timestamp: Option<i64>,
}

impl SegmentIndex {
    pub(super) fn new(base: Offset, max_bytes: u32) -> Self {
        Self::on_disk(base, max_bytes, 0, 0, None)
    }

    /// The index whose files hold these many valid entries, the last time entry being `last_time`.
    pub(super) fn on_disk(
        base: Offset,
        max_bytes: u32,
        offsets: usize,
        times: usize,
        last_time: Option<TimestampOffset>,
    ) -> Self {
        let largest = last_time.unwrap_or(TimestampOffset { timestamp: NO_TIMESTAMP, offset: base });
        Self {
            max_bytes,
            offsets: Part::new(base, max_bytes, offsets),
            times: Part::new(base, max_bytes, times),
            last_time: largest.timestamp,
            bytes_since_entry: 0,
            largest,
            first_timestamp: None,
        }
    }

    /// Takes note of a batch that was appended; every `interval` bytes it gets an entry, as in Kafka.
    pub(super) fn note(&mut self, position: u64, bytes: u64, last_offset: Offset, max_timestamp: i64, interval: u32) {
        self.first_timestamp.get_or_insert(max_timestamp);
        if max_timestamp > self.largest.timestamp {
            self.largest = TimestampOffset { timestamp: max_timestamp, offset: last_offset };
        }
        if self.bytes_since_entry > u64::from(interval) {
            if let Ok(position) = u32::try_from(position) {
                self.offsets.tail.push(OffsetPosition { offset: last_offset, position }, false);
            }
            self.push_time(false);
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += bytes;
    }

    fn push_time(&mut self, sealing: bool) {
        if self.largest.timestamp > self.last_time && self.times.tail.push(self.largest, sealing) {
            self.last_time = self.largest.timestamp;
        }
    }

    /// The last entry of a sealed or cleanly closed segment's time index is its largest timestamp.
    pub(super) fn seal(&mut self) {
        self.push_time(true);
    }

    /// Has any batch got an entry?
    pub(super) fn has_offsets(&self) -> bool {
        self.offsets.bytes() > 0
    }

    /// Bytes of the larger of both, in the files and not.
    pub(super) fn bytes(&self) -> u64 {
        self.offsets.bytes().max(self.times.bytes()) as u64
    }

    /// The files are another segment's from now on; lookups begin at the start.
    pub(super) fn forget_files(&mut self) {
        self.offsets.forget();
        self.times.forget();
    }

    /// No further entry fits: the segment rolls.
    pub(super) fn is_full(&self) -> bool {
        let offsets = self.offsets.bytes() + OffsetPosition::BYTES;
        // One place is kept for the entry of the seal.
        let times = self.times.bytes() + 2 * TimestampOffset::BYTES;
        offsets.max(times) > self.max_bytes as usize
    }

    /// The last entry at or before `offset`.
    pub(super) fn lookup(&self, offset: Offset) -> Lookup<OffsetPosition> {
        self.offsets.lookup(offset)
    }

    /// The last entry that is not newer than `timestamp`.
    pub(super) fn lookup_time(&self, timestamp: i64) -> Lookup<TimestampOffset> {
        self.times.lookup(timestamp)
    }

    /// Has the tail grown enough to be written when the checkpoint passes by?
    pub(super) fn should_spill(&self) -> bool {
        self.offsets.tail.len().max(self.times.tail.len()) >= SPILL_ENTRIES
    }

    /// Entries of the offset index that the file holds, and the offset of the first one in memory whose batch begins at
    /// or behind `position`.
    pub(super) fn entries_from(&self, position: u64) -> (usize, Option<Offset>) {
        let found = self.offsets.tail.entries().find(|entry| u64::from(entry.position) >= position);
        (self.offsets.on_disk, found.map(|entry| entry.offset))
    }

    /// Writes the tail behind what the files hold, and drops it from memory. Nothing is synced. After an error the tail
    /// is still in memory, and the next call writes the same bytes to the same places.
    pub(super) fn spill(&mut self, fs: &SharedFs, dir: &Path, base: Offset) -> io::Result<()> {
        self.offsets.spill(fs, &names::segment_file(dir, base, INDEX))?;
        self.times.spill(fs, &names::segment_file(dir, base, TIME_INDEX))
    }
}
