//! The index of one segment from offset to file position, and Kafka's `.index` file that carries it.
//!
//! ```text
//! entry, 8 bytes: 0 offset minus the segment's base i32 | 4 position of the batch in the .log file i32
//! ```
//! An entry names the *last* offset of a batch and where that batch begins, as Kafka writes it. Nobody indexes the batch
//! at position 0: a lookup starts there anyway, and zeros are what Kafka preallocates.

use super::index::{Index, IndexEntry, share};
use crate::protocol::record_batch::{HEADER_BYTES, Offset};

/// A batch's last offset and where the batch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetPosition {
    /// The last offset of the batch.
    pub offset: Offset,
    /// Its first byte in the `.log` file.
    pub position: u32,
}

/// The index of one segment; see the module.
pub type OffsetIndex = Index<OffsetPosition>;

impl IndexEntry for OffsetPosition {
    type Key = Offset;
    const BYTES: usize = 8;

    fn decode(base: Offset, bytes: &[u8]) -> Self {
        let number = |at: usize| bytes[at..at + 4].try_into().map_or(-1, i32::from_be_bytes);
        // A negative number is never larger than what came before.
        Self { offset: base + i64::from(number(0)), position: u32::try_from(number(4)).unwrap_or(0) }
    }

    fn encode(&self, base: Offset, out: &mut Vec<u8>) -> bool {
        let (Ok(relative), Ok(at)) = (i32::try_from(self.offset - base), i32::try_from(self.position)) else {
            return false;
        };
        out.extend_from_slice(&relative.to_be_bytes());
        out.extend_from_slice(&at.to_be_bytes());
        true
    }

    fn key(&self) -> Offset {
        self.offset
    }

    fn guess(base: Offset, last: &Self, key: Offset, entries: usize) -> usize {
        share(key.saturating_sub(base), last.offset.saturating_sub(base), entries)
    }

    fn follows(&self, last: Option<&Self>, base: Offset) -> bool {
        match last {
            Some(last) => self.offset > last.offset && self.position > last.position,
            None => self.offset >= base && self.position > 0,
        }
    }
}

impl OffsetIndex {
    /// The longest prefix of `file` that can be the index of a segment whose first `log_len` bytes are valid: every batch
    /// has room for its header below `log_len`.
    pub fn load_for(base: Offset, max_bytes: u32, file: &[u8], log_len: u64) -> Self {
        Self::load(base, max_bytes, file, |entry| u64::from(entry.position) + HEADER_BYTES as u64 <= log_len)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn entry(offset: Offset, position: u32) -> OffsetPosition {
        OffsetPosition { offset, position }
    }

    fn index() -> OffsetIndex {
        let mut index = OffsetIndex::new(100, 1024);
        assert!(index.push(entry(109, 1000), false));
        assert!(index.push(entry(119, 2000), false));
        assert!(index.push(entry(129, 3000), false));
        index
    }

    #[rstest]
    #[case::before_the_first(100, None)]
    #[case::just_before(108, None)]
    #[case::exact(109, Some(1000))]
    #[case::between(128, Some(2000))]
    #[case::last(129, Some(3000))]
    #[case::behind(9999, Some(3000))]
    fn floor_is_the_last_entry_not_behind(#[case] offset: Offset, #[case] position: Option<u32>) {
        assert_eq!(index().floor(offset).map(|entry| entry.position), position);
    }

    #[rstest]
    #[case::offset_falls(128, 4000)]
    #[case::position_falls(139, 3000)]
    #[case::offset_too_far(100 + (1 << 31), 4000)]
    #[case::position_too_far(139, 1 << 31)]
    fn push_refuses_what_the_format_cannot_say(#[case] offset: Offset, #[case] position: u32) {
        let mut index = index();
        assert!(!index.push(entry(offset, position), false));
        assert_eq!(index.len(), 3);
    }

    #[test]
    fn a_full_index_takes_nothing_more() {
        let mut index = OffsetIndex::new(0, 20);
        assert!(index.push(entry(1, 100), false) && !index.is_full());
        assert!(index.push(entry(2, 200), false) && index.is_full());
        assert!(!index.push(entry(3, 300), false));
    }

    #[test]
    fn the_bytes_are_kafkas() {
        assert_eq!(index().as_bytes()[..16], [0, 0, 0, 9, 0, 0, 3, 232, 0, 0, 0, 19, 0, 0, 7, 208]);
    }

    #[rstest]
    #[case::all(4096, 3)]
    #[case::batch_of_last_missing(3060, 2)]
    #[case::nothing_valid(0, 0)]
    fn load_keeps_what_the_log_can_hold(#[case] log_len: u64, #[case] entries: usize) {
        assert_eq!(OffsetIndex::load_for(100, 1024, index().as_bytes(), log_len).len(), entries);
    }

    #[test]
    fn load_drops_preallocated_zeros_and_half_an_entry() {
        let mut bytes = index().as_bytes().to_vec();
        bytes.extend_from_slice(&[0; 21]);
        assert_eq!(OffsetIndex::load_for(100, 1024, &bytes, 1 << 20).len(), 3);
        assert_eq!(OffsetIndex::load_for(100, 1024, &[0; 64], 1 << 20).len(), 0);
    }
}
