//! Both indexes of one segment: what the files hold, and the tail that they don't hold yet.
//!
//! Only the tail is in memory: it moves to the files whenever the checkpoint records the partition, at a roll and at a
//! clean stop, by ordinary writes. A sealed segment has no tail and costs no memory. Files are searched in place; what
//! they say is checked by whoever follows it against the batch it names.

use std::io;
use std::path::Path;

use terrace_tiering::platform::fs::{File, Open, SharedFs};

use super::names::{self, INDEX, TIME_INDEX};
use super::offset_index::{self, OffsetIndex, OffsetPosition};
use super::time_index::{self, NO_TIMESTAMP, TimeIndex, TimestampOffset};
use crate::protocol::record_batch::Offset;

/// Entries of one block: below this many a search reads them at once.
const BLOCK_ENTRIES: usize = 256;

/// Where to begin reading, or where to look for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Begin here.
    Position(u64),
    /// The answer is among this many entries of the file.
    OnDisk(usize),
}

/// The indexes of one segment.
#[derive(Debug)]
pub(super) struct SegmentIndex {
    base: Offset,
    max_bytes: u32,
    offsets_on_disk: usize,
    offsets: OffsetIndex,
    times_on_disk: usize,
    times: TimeIndex,
    last_time: i64,
    bytes_since_entry: u64,
    /// Largest timestamp of the segment, and the last offset of the batch that has it.
    pub(super) largest: TimestampOffset,
    /// Largest timestamp of the first batch.
    pub(super) first_timestamp: Option<i64>,
}

impl SegmentIndex {
    pub(super) fn new(base: Offset, max_bytes: u32) -> Self {
        Self {
            base,
            max_bytes,
            offsets_on_disk: 0,
            offsets: OffsetIndex::new(base, max_bytes),
            times_on_disk: 0,
            times: TimeIndex::new(base, max_bytes),
            last_time: NO_TIMESTAMP,
            bytes_since_entry: 0,
            largest: TimestampOffset { timestamp: NO_TIMESTAMP, offset: base },
            first_timestamp: None,
        }
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
            offsets_on_disk: offsets,
            times_on_disk: times,
            last_time: largest.timestamp,
            largest,
            ..Self::new(base, max_bytes)
        }
    }

    /// Takes note of a batch that was appended; every `interval` bytes it gets an entry, as in Kafka.
    pub(super) fn note(&mut self, position: u64, bytes: u64, last_offset: Offset, max_timestamp: i64, interval: u32) {
        self.first_timestamp.get_or_insert(max_timestamp);
        if max_timestamp > self.largest.timestamp {
            self.largest = TimestampOffset { timestamp: max_timestamp, offset: last_offset };
        }
        if self.bytes_since_entry > u64::from(interval) {
            self.offsets.push(last_offset, position);
            self.push_time(false);
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += bytes;
    }

    fn push_time(&mut self, sealing: bool) {
        let TimestampOffset { timestamp, offset } = self.largest;
        if timestamp > self.last_time && self.times.push(timestamp, offset, sealing) {
            self.last_time = timestamp;
        }
    }

    /// The last entry of a sealed or cleanly closed segment's time index is its largest timestamp.
    pub(super) fn seal(&mut self) {
        self.push_time(true);
    }

    /// Bytes of the larger of both, in the files and not.
    pub(super) fn bytes(&self) -> u64 {
        let offsets = (self.offsets_on_disk + self.offsets.len()) * offset_index::ENTRY_BYTES;
        let times = (self.times_on_disk + self.times.len()) * time_index::ENTRY_BYTES;
        offsets.max(times) as u64
    }

    /// The files are another segment's from now on; lookups begin at the start.
    pub(super) fn forget_files(&mut self) {
        (self.offsets_on_disk, self.times_on_disk) = (0, 0);
        self.offsets = OffsetIndex::new(self.base, self.max_bytes);
        self.times = TimeIndex::new(self.base, self.max_bytes);
    }

    /// No further entry fits: the segment rolls.
    pub(super) fn is_full(&self) -> bool {
        let offsets = (self.offsets_on_disk + self.offsets.len() + 1) * offset_index::ENTRY_BYTES;
        // One place is kept for the entry of the seal.
        let times = (self.times_on_disk + self.times.len() + 2) * time_index::ENTRY_BYTES;
        offsets.max(times) > self.max_bytes as usize
    }

    /// Where to look for `offset`.
    pub(super) fn lookup(&self, offset: Offset) -> Lookup {
        match self.offsets.lookup(offset) {
            OffsetPosition { position: 0, .. } if self.offsets_on_disk > 0 => Lookup::OnDisk(self.offsets_on_disk),
            found => Lookup::Position(found.position.into()),
        }
    }

    /// Where to look for `timestamp`: an entry in memory, or the number of entries in the file.
    pub(super) fn lookup_time(&self, timestamp: i64) -> Result<TimestampOffset, usize> {
        match self.times.lookup(timestamp) {
            TimestampOffset { timestamp: NO_TIMESTAMP, .. } if self.times_on_disk > 0 => Err(self.times_on_disk),
            found => Ok(found),
        }
    }

    /// Is there a tail that the files don't hold?
    pub(super) fn has_tail(&self) -> bool {
        !self.offsets.is_empty() || !self.times.is_empty()
    }

    /// Writes the tail behind what the files hold, and drops it from memory. Nothing is synced. After an error the tail
    /// is still in memory, and the next call writes the same bytes to the same places.
    pub(super) fn spill(&mut self, fs: &SharedFs, dir: &Path) -> io::Result<()> {
        if !self.offsets.is_empty() {
            let at = self.offsets_on_disk * offset_index::ENTRY_BYTES;
            write(fs, &names::segment_file(dir, self.base, INDEX), self.offsets.as_bytes(), at as u64)?;
            self.offsets_on_disk += self.offsets.len();
            self.offsets = OffsetIndex::new(self.base, self.max_bytes);
        }
        if !self.times.is_empty() {
            let at = self.times_on_disk * time_index::ENTRY_BYTES;
            write(fs, &names::segment_file(dir, self.base, TIME_INDEX), self.times.as_bytes(), at as u64)?;
            self.times_on_disk += self.times.len();
            self.times = TimeIndex::new(self.base, self.max_bytes);
        }
        Ok(())
    }
}

/// Writes `bytes` at `position` and cuts what an earlier life left behind it.
fn write(fs: &SharedFs, path: &Path, bytes: &[u8], position: u64) -> io::Result<()> {
    let file = fs.open(path, Open::Create)?;
    file.write_all_at(bytes, position)?;
    let end = position + bytes.len() as u64;
    if file.len()? > end { file.set_len(end) } else { Ok(()) }
}

/// The last of the first `entries` entries of `file` for which `holds` is true; it must be true for a prefix.
pub(super) fn search<const N: usize>(
    file: &dyn File,
    entries: usize,
    holds: impl Fn(&[u8; N]) -> bool,
) -> io::Result<Option<[u8; N]>> {
    let (mut low, mut high) = (0, entries);
    let mut found = None;
    while high - low > BLOCK_ENTRIES {
        let middle = low + (high - low) / 2;
        let mut entry = [0; N];
        file.read_exact_at(&mut entry, (middle * N) as u64)?;
        if holds(&entry) {
            found = Some(entry);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let mut block = vec![0; (high - low) * N];
    file.read_exact_at(&mut block, (low * N) as u64)?;
    let block: &[[u8; N]] = block.as_chunks().0;
    Ok(block.partition_point(holds).checked_sub(1).map(|at| block[at]).or(found))
}
