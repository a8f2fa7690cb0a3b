//! The index of one segment from timestamp to offset, and Kafka's `.timeindex` file that carries it.
//!
//! ```text
//! entry, 12 bytes: 0 largest timestamp so far i64 | 8 last offset of the batch that has it, minus the base i32
//! ```
//! Timestamps of a log may fall; the largest *so far* never does, so an entry says: every record up to the next
//! entry's offset that is newer than this timestamp lies behind this offset.

use super::index::{Index, IndexEntry};
use crate::protocol::record_batch::Offset;

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

/// The index of one segment; see the module. Its last entry, once the segment is sealed, is its largest timestamp, as in
/// Kafka: that entry may be pushed to a full index too.
pub type TimeIndex = Index<TimestampOffset>;

impl IndexEntry for TimestampOffset {
    type Key = i64;
    const BYTES: usize = 12;

    fn decode(base: Offset, bytes: &[u8]) -> Self {
        let timestamp = bytes[..8].try_into().map_or(NO_TIMESTAMP, i64::from_be_bytes);
        let relative = bytes[8..12].try_into().map_or(-1, i32::from_be_bytes);
        Self { timestamp, offset: base + i64::from(relative) }
    }

    fn encode(&self, base: Offset, out: &mut Vec<u8>) -> bool {
        let Ok(relative) = i32::try_from(self.offset - base) else { return false };
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&relative.to_be_bytes());
        true
    }

    fn key(&self) -> i64 {
        self.timestamp
    }

    /// Times are no measure of how many batches came.
    fn guess(_base: Offset, _last: &Self, _key: i64, entries: usize) -> usize {
        entries / 2
    }

    fn follows(&self, last: Option<&Self>, base: Offset) -> bool {
        match last {
            Some(last) => self.timestamp > last.timestamp && self.offset >= last.offset,
            None => self.timestamp > NO_TIMESTAMP && self.offset >= base,
        }
    }
}

impl TimeIndex {
    /// The longest prefix of `file` that can be the index of a segment that ends before `next_offset`.
    pub fn load_for(base: Offset, max_bytes: u32, file: &[u8], next_offset: Offset) -> Self {
        Self::load(base, max_bytes, file, |entry| entry.offset < next_offset)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn entry(timestamp: i64, offset: Offset) -> TimestampOffset {
        TimestampOffset { timestamp, offset }
    }

    fn index() -> TimeIndex {
        let mut index = TimeIndex::new(100, 1024);
        assert!(index.push(entry(5_000, 109), false));
        assert!(index.push(entry(6_000, 119), false));
        index
    }

    #[rstest]
    #[case::before(4_999, None)]
    #[case::exact(5_000, Some(109))]
    #[case::between(5_999, Some(109))]
    #[case::behind(i64::MAX, Some(119))]
    fn floor_is_the_last_entry_not_newer(#[case] target: i64, #[case] offset: Option<Offset>) {
        assert_eq!(index().floor(target).map(|entry| entry.offset), offset);
    }

    #[test]
    fn a_timestamp_that_is_not_larger_adds_nothing() {
        let mut index = index();
        assert!(!index.push(entry(6_000, 129), false));
        assert!(!index.push(entry(-1, 129), false));
        assert_eq!(index.len(), 2);
    }

    #[test]
    fn sealing_adds_the_last_entry_to_a_full_index() {
        let mut index = TimeIndex::new(0, 12);
        assert!(index.push(entry(1, 1), false) && index.is_full());
        assert!(!index.push(entry(2, 2), false));
        assert!(index.push(entry(2, 2), true));
        assert_eq!(index.last(), Some(entry(2, 2)));
    }

    #[rstest]
    #[case::all(120, 2)]
    #[case::cut(119, 1)]
    #[case::empty(100, 0)]
    fn load_keeps_what_lies_in_the_segment(#[case] next_offset: Offset, #[case] entries: usize) {
        let mut bytes = index().as_bytes().to_vec();
        bytes.extend_from_slice(&[0; 17]);
        assert_eq!(TimeIndex::load_for(100, 1024, &bytes, next_offset).len(), entries);
    }
}
