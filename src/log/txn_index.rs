//! Kafka's `.txnindex`: the aborted transactions whose marker lies in the segment, in the order of the markers.
//!
//! ```text
//! entries of 34 bytes: 0 version i16 (0) | 2 producer id i64 | 10 first offset i64 | 18 last offset (the marker's) i64
//!                      26 last stable offset behind the marker i64
//! ```
//! All numbers are big-endian. The file appears with the first entry; a segment without one has no aborted transaction.
//! An entry is written when its marker is appended, synced with the segment; a start drops the entries of markers that
//! it reads again and writes them anew. A crash between marker and entry is such a start.

use std::io;
use std::sync::Arc;

use terrace_tiering::object::footer;
use terrace_tiering::platform::fs::{File, Open, SharedFs};

use super::names::{self, INDEX, TXN_INDEX};
use super::segment::{LogDirectory, Segment};
use super::view::{FileRange, LogView};
use super::walk::Reach;
use super::{Log, LogError};
use crate::protocol::record_batch::{BatchView, HEADER_BYTES, Offset, ProducerId};

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = 34;

const VERSION: i16 = 0;
/// Entries read at once.
const BLOCK_ENTRIES: usize = 256;

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer_id: ProducerId,
    /// Its first offset in the partition.
    pub first_offset: Offset,
    /// The offset of its marker.
    pub last_offset: Offset,
    /// The first offset that was undecided behind the marker: whoever reads below it needs no later entry.
    pub last_stable_offset: Offset,
}

impl From<&footer::AbortedTransaction> for AbortedTransaction {
    fn from(entry: &footer::AbortedTransaction) -> Self {
        let footer::AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset } = *entry;
        Self { producer_id, first_offset, last_offset, last_stable_offset }
    }
}

impl AbortedTransaction {
    /// Does it lie, with a part at least, in `from..upto`?
    pub fn overlaps(&self, from: Offset, upto: Offset) -> bool {
        self.last_offset >= from && self.first_offset < upto
    }

    /// The entry's bytes.
    pub fn to_bytes(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..2].copy_from_slice(&VERSION.to_be_bytes());
        let numbers = [self.producer_id, self.first_offset, self.last_offset, self.last_stable_offset];
        for (place, number) in bytes[2..].as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
            *place = number.to_be_bytes();
        }
        bytes
    }

    /// Reads an entry; `None` when it is of another version or impossible.
    pub fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let number = |at: usize| i64::from_be_bytes(std::array::from_fn(|i| bytes[2 + at * 8 + i]));
        let [producer_id, first_offset, last_offset, last_stable_offset] = std::array::from_fn(number);
        let is_possible = bytes[..2] == VERSION.to_be_bytes() && first_offset >= 0 && last_offset >= first_offset;
        is_possible.then_some(Self { producer_id, first_offset, last_offset, last_stable_offset })
    }
}

fn marker_below(limit: Offset) -> impl Fn(&[u8; ENTRY_BYTES]) -> bool {
    move |entry| AbortedTransaction::from_bytes(entry).is_some_and(|entry| entry.last_offset < limit)
}

/// How many entries the file of the segment at `base` has whose markers lie in `base..upto`; 0 without a file.
pub(super) fn entries_below(directory: &LogDirectory, base: Offset, upto: Offset) -> io::Result<usize> {
    let Some(file) = open(&directory.fs, directory, base)? else { return Ok(0) };
    let whole = usize::try_from(file.len()? / ENTRY_BYTES as u64).unwrap_or(0);
    let mut bytes = vec![0; whole.min(BLOCK_ENTRIES) * ENTRY_BYTES];
    let (mut count, mut above) = (0, base);
    while count < whole {
        let take = (whole - count).min(BLOCK_ENTRIES);
        bytes.truncate(take * ENTRY_BYTES);
        file.read_exact_at(&mut bytes, (count * ENTRY_BYTES) as u64)?;
        for entry in bytes.as_chunks().0 {
            match AbortedTransaction::from_bytes(entry) {
                // Markers follow each other; what doesn't was never an entry of this segment.
                Some(entry) if (above..upto).contains(&entry.last_offset) => above = entry.last_offset + 1,
                _ => return Ok(count),
            }
            count += 1;
        }
    }
    Ok(count)
}

fn open(fs: &SharedFs, directory: &LogDirectory, base: Offset) -> io::Result<Option<Arc<dyn File>>> {
    match fs.open(&names::segment_file(&directory.path, base, TXN_INDEX), Open::Read) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Segment {
    /// An offset at or behind the end of all batches that end at or before `position`: an entry of the offset index;
    /// `None` when it has none so far up.
    fn offset_behind(&self, position: u64, reach: Reach) -> io::Result<Option<Offset>> {
        let (on_disk, in_memory) = self.index_entries_from(position);
        if on_disk > 0 {
            let below =
                |entry: &[u8; 8]| u64::from(u32::from_be_bytes(std::array::from_fn(|i| entry[4 + i]))) < position;
            let file = self.fs().open(&self.path(INDEX), Open::Read)?;
            let at = partition_point(&*file, on_disk, below, reach)?;
            if at < on_disk {
                let mut entry = [0; 8];
                reach.read_exact(&*file, &mut entry, at as u64 * 8)?;
                let relative = i32::from_be_bytes(std::array::from_fn(|i| entry[i]));
                return Ok(Some(self.base() + i64::from(relative)));
            }
        }
        Ok(in_memory)
    }

    /// Writes an entry behind the others, and cuts what an earlier life left behind it.
    pub(super) fn append_aborted(&self, aborted: &AbortedTransaction) -> io::Result<()> {
        let count = self.aborted_count();
        let file = self.fs().open(&self.path(TXN_INDEX), Open::Create)?;
        let position = (count * ENTRY_BYTES) as u64;
        file.write_all_at(&aborted.to_bytes(), position)?;
        let end = position + ENTRY_BYTES as u64;
        if file.len()? > end {
            file.set_len(end)?;
        }
        self.set_aborted_count(count + 1);
        Ok(())
    }

    /// Takes the first `kept` entries of the file, and `new` ones behind them, as the whole index.
    pub(super) fn restore_aborted(&self, kept: usize, new: &[AbortedTransaction]) -> io::Result<()> {
        let (path, count) = (self.path(TXN_INDEX), kept + new.len());
        if count == 0 {
            return self.fs().remove_file(&path);
        }
        let file = self.fs().open(&path, Open::Create)?;
        let bytes: Vec<u8> = new.iter().flat_map(AbortedTransaction::to_bytes).collect();
        file.write_all_at(&bytes, (kept * ENTRY_BYTES) as u64)?;
        file.set_len((count * ENTRY_BYTES) as u64)?;
        self.set_aborted_count(count);
        Ok(())
    }

    /// Keeps the entries in memory for those who still read this segment: its file's name goes to a cleaned one.
    pub(super) fn retire_aborted(&self) -> io::Result<()> {
        let mut all = Vec::new();
        self.read_aborted(Offset::MIN, Reach::Disk, &mut |entry| {
            all.push(entry);
            true
        })?;
        self.set_retired_aborted(all);
        Ok(())
    }

    /// Adds the aborted transactions of this segment's index that overlap `from..upto`. True when no later segment can
    /// have another one.
    fn collect_aborted(
        &self,
        from: Offset,
        upto: Offset,
        reach: Reach,
        found: &mut Vec<AbortedTransaction>,
    ) -> io::Result<bool> {
        let before = found.len();
        let mut is_last = false;
        let mut collect = |entry: AbortedTransaction| {
            if entry.overlaps(from, upto) {
                found.push(entry);
            }
            is_last = entry.last_stable_offset >= upto;
            !is_last
        };
        let read = self.read_aborted(from, reach, &mut collect);
        // Whatever was read from a name that was another segment's by then is dropped.
        if let Some(kept) = self.retired_aborted() {
            found.truncate(before);
            found.extend(kept.iter().filter(|entry| entry.overlaps(from, upto)));
            return Ok(kept.iter().any(|entry| entry.last_stable_offset >= upto));
        }
        read.map(|()| is_last)
    }

    /// Calls `each` with the entries whose markers lie at or behind `from`, until it returns false.
    fn read_aborted(
        &self,
        from: Offset,
        reach: Reach,
        each: &mut dyn FnMut(AbortedTransaction) -> bool,
    ) -> io::Result<()> {
        let count = self.aborted_count();
        if count == 0 {
            return Ok(());
        }
        let file = self.fs().open(&self.path(TXN_INDEX), Open::Read)?;
        let mut at = partition_point(&*file, count, marker_below(from), reach)?;
        let mut bytes = Vec::new();
        while at < count {
            bytes.resize((count - at).min(BLOCK_ENTRIES) * ENTRY_BYTES, 0);
            reach.read_exact(&*file, &mut bytes, (at * ENTRY_BYTES) as u64)?;
            for entry in bytes.as_chunks().0 {
                if !each(AbortedTransaction::from_bytes(entry).ok_or(io::ErrorKind::InvalidData)?) {
                    return Ok(());
                }
            }
            at += bytes.len() / ENTRY_BYTES;
        }
        Ok(())
    }
}

/// Number of entries at the front of the `count` entries of `file` for which `holds` is true.
fn partition_point<const N: usize>(
    file: &dyn File,
    count: usize,
    holds: impl Fn(&[u8; N]) -> bool,
    reach: Reach,
) -> io::Result<usize> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        let mut entry = [0; N];
        reach.read_exact(file, &mut entry, (middle * N) as u64)?;
        if holds(&entry) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

impl Log {
    /// Writes down that the transaction whose marker is the last batch of the log was aborted.
    pub fn append_aborted(&self, aborted: &AbortedTransaction) -> io::Result<()> {
        match self.view.segments().last() {
            Some(active) => active.append_aborted(aborted),
            None => Ok(()),
        }
    }
}

impl LogView {
    /// The aborted transactions that overlap `from..upto`, in the order of their markers.
    pub fn aborted(&self, from: Offset, upto: Offset) -> Result<Vec<AbortedTransaction>, LogError> {
        self.aborted_reaching(from, upto, Reach::Disk)
    }

    fn aborted_reaching(&self, from: Offset, upto: Offset, reach: Reach) -> Result<Vec<AbortedTransaction>, LogError> {
        let mut found = Vec::new();
        let behind = self.segments().partition_point(|segment| segment.base() <= from);
        for segment in self.segments().iter_from(behind.saturating_sub(1)) {
            if segment.collect_aborted(from, upto, reach, &mut found)? {
                break;
            }
        }
        Ok(found)
    }

    /// The aborted transactions that lie in `range`, whose first batch holds `from` or comes next behind it; `upto` is
    /// where the reader ends. What is not within `reach` ends it with `WouldBlock`.
    pub fn aborted_within(
        &self,
        range: &FileRange,
        from: Offset,
        upto: Offset,
        reach: Reach,
    ) -> Result<Vec<AbortedTransaction>, LogError> {
        let floor = |offset| self.segments().partition_point(|segment| segment.base() <= offset).saturating_sub(1);
        if self.segments().iter_from(floor(from)).all(|segment| segment.aborted_count() == 0) {
            return Ok(Vec::new());
        }
        let mut header = [0; HEADER_BYTES];
        reach.read_exact(&*range.file, &mut header, range.position)?;
        let first = BatchView::header_only(&header).map_err(|error| LogError::Corrupt(error.to_string()))?.0;
        let at = floor(first.base_offset());
        let indexed = self.segments()[at].offset_behind(range.position + range.len, reach)?;
        let end = indexed.or_else(|| self.segments().get(at + 1).map(|next| next.base()));
        self.aborted_reaching(from, end.map_or(upto, |end| end.min(upto)), reach)
    }
}

#[cfg(test)]
mod tests;
