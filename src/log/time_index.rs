//! The sparse index of one segment from timestamp to offset, and Kafka's `.timeindex` file that carries it.
//!
//! ```text
//! entry, 12 bytes: 0 largest timestamp so far i64 | 8 last offset of the batch that has it, minus the base i32
//! ```
//! Timestamps of a log may fall; the largest *so far* never does, so an entry says: every record up to the next
//! entry's offset that is newer than this timestamp lies behind this offset. Life and crash answer are those of the
//! [offset index](super::offset_index).

use crate::log::index_bytes::IndexBytes;
use crate::protocol::record_batch::{HEADER_BYTES, Offset};

/// Bytes of one entry of a `.timeindex` file.
pub const ENTRY_BYTES: usize = 12;

/// The timestamp of an index without entries.
pub const NO_TIMESTAMP: i64 = -1;

/// The largest timestamp up to an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    /// The timestamp in milliseconds.
    pub timestamp: i64,
    /// The last offset of the batch that has it.
    pub offset: Offset,
}

/// The index of one segment; see the module.
#[derive(Debug)]
pub struct TimeIndex {
    base: Offset,
    bytes: IndexBytes<ENTRY_BYTES>,
}

impl TimeIndex {
    /// An empty index of the segment at `base`, which takes at most `max_bytes` (`segment.index.bytes`).
    pub fn new(base: Offset, max_bytes: u32) -> Self {
        Self { base, bytes: IndexBytes::new(max_bytes) }
    }

    /// The longest prefix of `file` that can be the index of a segment that ends before `next_offset`: whole entries,
    /// timestamps rising, offsets not falling and within the segment. The kept part counts as written.
    pub fn load(base: Offset, max_bytes: u32, file: &[u8], next_offset: Offset) -> Self {
        let mut index = Self::new(base, max_bytes);
        let mut last = TimestampOffset { timestamp: NO_TIMESTAMP, offset: base };
        let mut good = 0;
        for entry in file.as_chunks().0 {
            let next = index.decode(entry);
            if next.timestamp <= last.timestamp || next.offset < last.offset || next.offset >= next_offset {
                break;
            }
            last = next;
            good += ENTRY_BYTES;
        }
        index.bytes.set_written(&file[..good]);
        index
    }

    /// The most bytes of a `.timeindex` file that can be true for a log of `log_len` bytes: a bound for reading it.
    pub fn useful_bytes(log_len: u64) -> u64 {
        log_len / HEADER_BYTES as u64 * ENTRY_BYTES as u64
    }

    fn decode(&self, entry: &[u8; ENTRY_BYTES]) -> TimestampOffset {
        let [a, b, c, d, e, f, g, h, relative @ ..] = *entry;
        TimestampOffset {
            timestamp: i64::from_be_bytes([a, b, c, d, e, f, g, h]),
            offset: self.base + i64::from(i32::from_be_bytes(relative)),
        }
    }

    fn at(&self, entry: usize) -> Option<TimestampOffset> {
        self.bytes.entry(entry).map(|bytes| self.decode(bytes))
    }

    /// Adds the largest timestamp so far and the last offset of the batch that has it. Nothing is added when the
    /// timestamp is not larger than the last entry's, or the index is full. `sealing` adds also to a full index: a
    /// sealed segment's last entry is its largest timestamp, as in Kafka.
    pub fn push(&mut self, timestamp: i64, offset: Offset, sealing: bool) -> bool {
        let follows = match self.last() {
            Some(last) => timestamp > last.timestamp && offset >= last.offset,
            None => timestamp > NO_TIMESTAMP && offset >= self.base,
        };
        let Ok(relative) = i32::try_from(offset - self.base) else { return false };
        if !follows || (self.is_full() && !sealing) {
            return false;
        }
        let mut entry = [0; ENTRY_BYTES];
        entry[..8].copy_from_slice(&timestamp.to_be_bytes());
        entry[8..].copy_from_slice(&relative.to_be_bytes());
        self.bytes.push(entry);
        true
    }

    /// The last entry whose timestamp is at most `timestamp`: every record with a larger one lies behind its offset.
    /// [`NO_TIMESTAMP`] and the base offset when there is none.
    pub fn lookup(&self, timestamp: i64) -> TimestampOffset {
        let behind = self.bytes.partition_point(|entry| self.decode(entry).timestamp <= timestamp);
        let before = behind.checked_sub(1).and_then(|entry| self.at(entry));
        before.unwrap_or(TimestampOffset { timestamp: NO_TIMESTAMP, offset: self.base })
    }

    /// The last entry: the largest timestamp that the index knows of.
    pub fn last(&self) -> Option<TimestampOffset> {
        self.at(self.len().checked_sub(1)?)
    }

    /// All entries in order.
    pub fn entries(&self) -> impl Iterator<Item = TimestampOffset> + '_ {
        (0..self.len()).filter_map(|entry| self.at(entry))
    }

    /// Drops the entries at or behind `next_offset`: the log was cut there.
    pub fn truncate(&mut self, next_offset: Offset) {
        let keep = self.bytes.partition_point(|entry| self.decode(entry).offset < next_offset);
        self.bytes.truncate(keep);
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// No entry at all?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Has it reached `segment.index.bytes`? The segment then rolls.
    pub fn is_full(&self) -> bool {
        self.bytes.is_full()
    }

    /// The whole content of the `.timeindex` file.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_bytes()
    }

    /// What is not in the file yet, and where it goes. [`TimeIndex::mark_written`] follows a write that worked.
    pub fn unwritten(&self) -> (u64, &[u8]) {
        self.bytes.unwritten()
    }

    /// The file now ends at `file_len` and holds this index up to there.
    pub fn mark_written(&mut self, file_len: u64) {
        self.bytes.mark_written(file_len);
    }

    /// Gives back spare memory: the segment is sealed.
    pub fn seal(&mut self) {
        self.bytes.shrink();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn index() -> TimeIndex {
        let mut index = TimeIndex::new(100, 1024);
        assert!(index.push(5_000, 109, false));
        assert!(index.push(6_000, 119, false));
        index
    }

    #[rstest]
    #[case::before(4_999, NO_TIMESTAMP, 100)]
    #[case::exact(5_000, 5_000, 109)]
    #[case::between(5_999, 5_000, 109)]
    #[case::behind(i64::MAX, 6_000, 119)]
    fn lookup_finds_the_last_entry_not_newer(#[case] target: i64, #[case] timestamp: i64, #[case] offset: Offset) {
        assert_eq!(index().lookup(target), TimestampOffset { timestamp, offset });
    }

    #[test]
    fn a_timestamp_that_is_not_larger_adds_nothing() {
        let mut index = index();
        assert!(!index.push(6_000, 129, false));
        assert!(!index.push(-1, 129, false));
        assert_eq!(index.len(), 2);
    }

    #[test]
    fn sealing_adds_the_last_entry_to_a_full_index() {
        let mut index = TimeIndex::new(0, 12);
        assert!(index.push(1, 1, false) && index.is_full());
        assert!(!index.push(2, 2, false));
        assert!(index.push(2, 2, true));
        assert_eq!(index.last(), Some(TimestampOffset { timestamp: 2, offset: 2 }));
    }

    #[rstest]
    #[case::all(120, 2)]
    #[case::cut(119, 1)]
    #[case::empty(100, 0)]
    fn load_keeps_what_lies_in_the_segment(#[case] next_offset: Offset, #[case] entries: usize) {
        let mut bytes = index().as_bytes().to_vec();
        bytes.extend_from_slice(&[0; 17]);
        assert_eq!(TimeIndex::load(100, 1024, &bytes, next_offset).len(), entries);
    }

    proptest! {
        #[test]
        fn any_bytes_load_to_a_rising_index(bytes in prop::collection::vec(any::<u8>(), 0..256), next in any::<i32>()) {
            let index = TimeIndex::load(7, 64, &bytes, i64::from(next));
            let entries: Vec<_> = index.entries().collect();
            prop_assert!(entries.windows(2).all(|w| w[0].timestamp < w[1].timestamp && w[0].offset <= w[1].offset));
            prop_assert!(bytes.starts_with(index.as_bytes()));
            for entry in entries {
                prop_assert_eq!(index.lookup(entry.timestamp), entry);
            }
        }
    }
}
