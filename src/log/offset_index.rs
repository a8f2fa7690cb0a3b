//! The sparse index of one segment from offset to file position, and Kafka's `.index` file that carries it.
//!
//! ```text
//! entry, 8 bytes: 0 offset minus the segment's base i32 | 4 position of the batch in the .log file i32
//! ```
//! An entry names the *last* offset of a batch and where that batch begins, as Kafka writes it. In memory the index is
//! exactly the bytes of its file: nothing is decoded twice, and what is not on disk yet is a tail of one buffer.
//!
//! Owned by its segment under the partition's lock. A crash leaves a file that is shorter than the index, or one whose
//! tail is garbage: [`OffsetIndex::load`] keeps the longest prefix that can be true, and the caller checks the last
//! entry against the batch it names before it trusts the rest.

use crate::log::index_bytes::IndexBytes;
use crate::protocol::record_batch::{HEADER_BYTES, Offset};

/// Bytes of one entry of an `.index` file.
pub const ENTRY_BYTES: usize = 8;

/// A batch's last offset and where the batch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetPosition {
    /// The last offset of the batch.
    pub offset: Offset,
    /// Its first byte in the `.log` file.
    pub position: u32,
}

/// The index of one segment; see the module.
#[derive(Debug)]
pub struct OffsetIndex {
    base: Offset,
    bytes: IndexBytes<ENTRY_BYTES>,
}

impl OffsetIndex {
    /// An empty index of the segment at `base`, which takes at most `max_bytes` (`segment.index.bytes`).
    pub fn new(base: Offset, max_bytes: u32) -> Self {
        Self { base, bytes: IndexBytes::new(max_bytes) }
    }

    /// The longest prefix of `file` that can be the index of a segment whose first `log_len` bytes are valid: whole
    /// entries, offsets and positions rising, every batch with room below `log_len`. The kept part counts as written.
    pub fn load(base: Offset, max_bytes: u32, file: &[u8], log_len: u64) -> Self {
        let mut index = Self::new(base, max_bytes);
        let mut last = OffsetPosition { offset: base - 1, position: 0 };
        let mut good = 0;
        for entry in file.as_chunks().0 {
            let next = index.decode(entry);
            // Nobody indexes the batch at position 0: a lookup starts there anyway, and zeros are what Kafka
            // preallocates.
            let rises = next.offset > last.offset && next.position > last.position;
            if !rises || u64::from(next.position) + HEADER_BYTES as u64 > log_len {
                break;
            }
            last = next;
            good += ENTRY_BYTES;
        }
        index.bytes.set_written(&file[..good]);
        index
    }

    /// The most bytes of an `.index` file that can be true for a log of `log_len` bytes: a bound for reading it.
    pub fn useful_bytes(log_len: u64) -> u64 {
        log_len / HEADER_BYTES as u64 * ENTRY_BYTES as u64
    }

    fn decode(&self, entry: &[u8; ENTRY_BYTES]) -> OffsetPosition {
        let [a, b, c, d, e, f, g, h] = *entry;
        let relative = i32::from_be_bytes([a, b, c, d]);
        let position = i32::from_be_bytes([e, f, g, h]);
        // A negative number is never smaller than what came before, so `load` stops at it.
        OffsetPosition { offset: self.base + i64::from(relative), position: u32::try_from(position).unwrap_or(0) }
    }

    fn at(&self, entry: usize) -> Option<OffsetPosition> {
        self.bytes.entry(entry).map(|bytes| self.decode(bytes))
    }

    /// Adds the batch that ends at `offset` and begins at `position`. Nothing is added when the index is full, or when
    /// the entry doesn't follow the last one or doesn't fit the format; lookups are then merely longer.
    pub fn push(&mut self, offset: Offset, position: u64) -> bool {
        let follows = match self.last() {
            Some(last) => offset > last.offset && position > u64::from(last.position),
            None => offset >= self.base && position > 0,
        };
        let (Ok(relative), Ok(at)) = (i32::try_from(offset - self.base), i32::try_from(position)) else { return false };
        if !follows || self.is_full() {
            return false;
        }
        let mut entry = [0; ENTRY_BYTES];
        entry[..4].copy_from_slice(&relative.to_be_bytes());
        entry[4..].copy_from_slice(&at.to_be_bytes());
        self.bytes.push(entry);
        true
    }

    /// Where to begin reading for `offset`: the last indexed batch that ends at or before it, or the segment's start.
    pub fn lookup(&self, offset: Offset) -> OffsetPosition {
        let behind = self.bytes.partition_point(|entry| self.decode(entry).offset <= offset);
        let before = behind.checked_sub(1).and_then(|entry| self.at(entry));
        before.unwrap_or(OffsetPosition { offset: self.base, position: 0 })
    }

    /// The last entry.
    pub fn last(&self) -> Option<OffsetPosition> {
        self.at(self.len().checked_sub(1)?)
    }

    /// All entries in order.
    pub fn entries(&self) -> impl Iterator<Item = OffsetPosition> + '_ {
        (0..self.len()).filter_map(|entry| self.at(entry))
    }

    /// Drops the entries of batches that begin at or behind `log_len`: the log was cut there.
    pub fn truncate(&mut self, log_len: u64) {
        let keep = self.bytes.partition_point(|entry| u64::from(self.decode(entry).position) < log_len);
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

    /// The whole content of the `.index` file.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.as_bytes()
    }

    /// What is not in the file yet, and where it goes. [`OffsetIndex::mark_written`] follows a write that worked.
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

    fn index() -> OffsetIndex {
        let mut index = OffsetIndex::new(100, 1024);
        assert!(index.push(109, 1000));
        assert!(index.push(119, 2000));
        assert!(index.push(129, 3000));
        index
    }

    #[rstest]
    #[case::before_the_first(100, 0)]
    #[case::just_before(108, 0)]
    #[case::exact(109, 1000)]
    #[case::between(128, 2000)]
    #[case::last(129, 3000)]
    #[case::behind(9999, 3000)]
    fn lookup_finds_the_last_entry_not_behind(#[case] offset: Offset, #[case] position: u32) {
        assert_eq!(index().lookup(offset).position, position);
    }

    #[rstest]
    #[case::offset_falls(128, 4000)]
    #[case::position_falls(139, 3000)]
    #[case::offset_too_far(100 + (1 << 31), 4000)]
    #[case::position_too_far(139, 1 << 31)]
    fn push_refuses_what_the_format_cannot_say(#[case] offset: Offset, #[case] position: u64) {
        let mut index = index();
        assert!(!index.push(offset, position));
        assert_eq!(index.len(), 3);
    }

    #[test]
    fn a_full_index_takes_nothing_more() {
        let mut index = OffsetIndex::new(0, 20);
        assert!(index.push(1, 100) && !index.is_full());
        assert!(index.push(2, 200) && index.is_full());
        assert!(!index.push(3, 300));
    }

    #[rstest]
    #[case::all(4096, 3)]
    #[case::batch_of_last_missing(3060, 2)]
    #[case::nothing_valid(0, 0)]
    fn load_keeps_what_the_log_can_hold(#[case] log_len: u64, #[case] entries: usize) {
        let loaded = OffsetIndex::load(100, 1024, index().as_bytes(), log_len);
        assert_eq!(loaded.len(), entries);
        assert_eq!(loaded.unwritten(), (entries as u64 * 8, &[][..]));
    }

    #[test]
    fn load_drops_preallocated_zeros_and_half_an_entry() {
        let mut bytes = index().as_bytes().to_vec();
        bytes.extend_from_slice(&[0; 21]);
        assert_eq!(OffsetIndex::load(100, 1024, &bytes, 1 << 20).len(), 3);
        assert_eq!(OffsetIndex::load(100, 1024, &[0; 64], 1 << 20).len(), 0);
    }

    #[test]
    fn only_the_tail_is_written_again() {
        let mut index = index();
        let (at, tail) = index.unwritten();
        let end = at + tail.len() as u64;
        assert_eq!((at, end), (0, 24));
        index.mark_written(end);
        index.push(139, 4000);
        assert_eq!(index.unwritten(), (24, &[0, 0, 0, 39, 0, 0, 15, 160][..]));
        // A cut below what is written must write the next entry over the old one.
        index.truncate(2000);
        assert_eq!(index.len(), 1);
        assert_eq!(index.unwritten(), (8, &[][..]));
    }

    proptest! {
        #[test]
        fn any_bytes_load_to_a_rising_index(bytes in prop::collection::vec(any::<u8>(), 0..256), log_len in 0u64..1 << 33) {
            let index = OffsetIndex::load(7, 64, &bytes, log_len);
            let entries: Vec<_> = index.entries().collect();
            prop_assert!(entries.windows(2).all(|w| w[0].offset < w[1].offset && w[0].position < w[1].position));
            prop_assert!(bytes.starts_with(index.as_bytes()));
            for entry in entries {
                prop_assert_eq!(index.lookup(entry.offset), entry);
            }
        }
    }
}
