//! A sparse index of one segment: sorted entries of a fixed size, in memory exactly as in their file.
//!
//! Nothing is decoded twice: what is in memory can be written as it is, and a file is searched where it lies. Two kinds of
//! entries exist, by offset ([`super::offset_index`]) and by time ([`super::time_index`]). A crash leaves a file that is
//! shorter than the index, or one whose tail is garbage: [`Index::load`] keeps the longest prefix that can be true, and
//! who follows an entry checks it against the batch it names.

use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::Range;

use terrace_tiering::platform::fs::File;

use super::walk::Reach;
use crate::protocol::record_batch::{HEADER_BYTES, Offset};

/// Entries of one block: below this many a search of a file reads them at once.
const BLOCK_ENTRIES: usize = 256;

/// What an index consists of.
pub trait IndexEntry: Copy + Debug + PartialEq {
    /// What is searched by; rises from entry to entry.
    type Key: Ord + Copy;
    /// Bytes of one entry in the file.
    const BYTES: usize;

    /// Reads an entry of the segment at `base`. Numbers that cannot be true become such that do not follow any entry.
    fn decode(base: Offset, bytes: &[u8]) -> Self;
    /// Writes it; `false`, and nothing is written, where the format cannot say it.
    fn encode(&self, base: Offset, out: &mut Vec<u8>) -> bool;
    /// What it is found by.
    fn key(&self) -> Self::Key;
    /// About how many of `entries` entries come before `key`, from the last one alone.
    fn guess(base: Offset, last: &Self, key: Self::Key, entries: usize) -> usize;
    /// May it stand behind `last`, or be the first?
    fn follows(&self, last: Option<&Self>, base: Offset) -> bool;
}

/// The entries of one index, or a part of them.
#[derive(Debug, Clone)]
pub struct Index<E> {
    base: Offset,
    max_entries: usize,
    bytes: Vec<u8>,
    entry: PhantomData<E>,
}

impl<E: IndexEntry> Index<E> {
    /// An empty index of the segment at `base`, which takes at most `max_bytes` (`segment.index.bytes`).
    pub fn new(base: Offset, max_bytes: u32) -> Self {
        Self { base, max_entries: max_bytes as usize / E::BYTES, bytes: Vec::new(), entry: PhantomData }
    }

    /// The longest prefix of `file` that can be an index: whole entries that follow on each other and are `valid`.
    pub fn load(base: Offset, max_bytes: u32, file: &[u8], valid: impl Fn(&E) -> bool) -> Self {
        let mut index = Self::new(base, max_bytes);
        let mut last = None;
        let mut good = 0;
        for bytes in file.chunks_exact(E::BYTES) {
            let next = E::decode(base, bytes);
            if !next.follows(last.as_ref(), base) || !valid(&next) {
                break;
            }
            last = Some(next);
            good += E::BYTES;
        }
        index.bytes = file[..good].to_vec();
        index
    }

    /// The most bytes of a file that can be true for a log of `log_len` bytes: a bound for reading it.
    pub fn useful_bytes(log_len: u64) -> u64 {
        log_len / HEADER_BYTES as u64 * E::BYTES as u64
    }

    /// Adds an entry. Nothing is added to a full index, unless `sealing`, nor when the entry doesn't follow the last one
    /// or doesn't fit the format: lookups are then merely longer.
    pub fn push(&mut self, entry: E, sealing: bool) -> bool {
        let fits = sealing || !self.is_full();
        fits && entry.follows(self.last().as_ref(), self.base) && entry.encode(self.base, &mut self.bytes)
    }

    /// The last entry whose key is at most `key`.
    pub fn floor(&self, key: E::Key) -> Option<E> {
        floor_in(self.base, &self.bytes, key)
    }

    fn at(&self, entry: usize) -> Option<E> {
        let start = entry * E::BYTES;
        Some(E::decode(self.base, self.bytes.get(start..start + E::BYTES)?))
    }

    /// The last entry.
    pub fn last(&self) -> Option<E> {
        self.at(self.len().checked_sub(1)?)
    }

    /// All entries in order.
    pub fn entries(&self) -> impl Iterator<Item = E> + '_ {
        self.bytes.chunks_exact(E::BYTES).map(|bytes| E::decode(self.base, bytes))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.bytes.len() / E::BYTES
    }

    /// No entry at all?
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Has it reached `segment.index.bytes`? The segment then rolls.
    pub fn is_full(&self) -> bool {
        self.len() >= self.max_entries
    }

    /// The content of the file.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets all entries and gives their memory back.
    pub(super) fn clear(&mut self) {
        self.bytes = Vec::new();
    }
}

/// As large a share of `entries` as `part` is of `whole`.
pub(super) fn share(part: i64, whole: i64, entries: usize) -> usize {
    let share = i128::from(part.max(0)) * entries as i128 / i128::from(whole.max(1));
    usize::try_from(share).map_or(entries, |share| share.min(entries))
}

/// The last of `block`'s entries whose key is at most `key`.
fn floor_in<E: IndexEntry>(base: Offset, block: &[u8], key: E::Key) -> Option<E> {
    let entry = |at: usize| E::decode(base, &block[at * E::BYTES..(at + 1) * E::BYTES]);
    let (mut low, mut high) = (0, block.len() / E::BYTES);
    while low < high {
        let middle = low + (high - low) / 2;
        if entry(middle).key() <= key { low = middle + 1 } else { high = middle }
    }
    low.checked_sub(1).map(entry)
}

/// The last of the first `entries` entries of `file` whose key is at most `key`, waiting for `reach` alone.
///
/// Where batches are of about one size, the last entry tells where the others are: two reads, one of them a block. Else
/// the search goes on by halves.
pub fn floor_in_file<E: IndexEntry>(
    file: &dyn File,
    base: Offset,
    entries: usize,
    key: E::Key,
    reach: Reach,
) -> io::Result<Option<E>> {
    let mut blocks = Blocks { file, reach, bytes: [0; BLOCK_ENTRIES * 16] };
    let (mut low, mut high) = (0, entries);
    let mut found = None;
    if high > BLOCK_ENTRIES {
        high -= 1;
        let last = E::decode(base, blocks.read::<E>(high..entries)?);
        if last.key() <= key {
            return Ok(Some(last));
        }
        let guess = E::guess(base, &last, key, entries).saturating_sub(BLOCK_ENTRIES / 2).min(high - BLOCK_ENTRIES);
        let block = blocks.read::<E>(guess..guess + BLOCK_ENTRIES)?;
        match floor_in(base, block, key) {
            // The entry behind it may be the next block's.
            Some(floor) if E::decode(base, &block[block.len() - E::BYTES..]) == floor => {
                low = guess + BLOCK_ENTRIES;
                found = Some(floor);
            }
            Some(floor) => return Ok(Some(floor)),
            None => high = guess,
        }
    }
    while high - low > BLOCK_ENTRIES {
        let middle = low + (high - low) / 2;
        let entry = E::decode(base, blocks.read::<E>(middle..middle + 1)?);
        if entry.key() <= key {
            found = Some(entry);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(floor_in(base, blocks.read::<E>(low..high)?, key).or(found))
}

/// Some entries of a file at a time.
struct Blocks<'a> {
    file: &'a dyn File,
    reach: Reach,
    bytes: [u8; BLOCK_ENTRIES * 16],
}

impl Blocks<'_> {
    fn read<E: IndexEntry>(&mut self, entries: Range<usize>) -> io::Result<&[u8]> {
        let block = &mut self.bytes[..entries.len() * E::BYTES];
        self.reach.read_exact(self.file, block, (entries.start * E::BYTES) as u64)?;
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use terrace_tiering::platform::fs::{Fs, Open, RealFs};

    use super::*;
    use crate::log::offset_index::{OffsetIndex, OffsetPosition};
    use crate::log::time_index::{TimeIndex, TimestampOffset};

    /// Any bytes give an index that rises, and its own entries are found.
    fn check_load<E: IndexEntry>(index: &Index<E>, bytes: &[u8]) {
        let entries: Vec<_> = index.entries().collect();
        assert!(entries.windows(2).all(|pair| pair[0].key() < pair[1].key()));
        assert!(bytes.starts_with(index.as_bytes()));
        for entry in entries {
            assert_eq!(index.floor(entry.key()), Some(entry));
        }
    }

    /// A search of the file says what a search of the memory says.
    fn check_file<E: IndexEntry>(index: &Index<E>, keys: impl Iterator<Item = E::Key>) {
        let dir = tempfile::tempdir().expect("a directory");
        let file = RealFs.open(&dir.path().join("index"), Open::Create).expect("a file");
        file.write_all_at(index.as_bytes(), 0).expect("written");
        for key in keys {
            let found = floor_in_file::<E>(&*file, 0, index.len(), key, Reach::PageCache).expect("readable");
            assert_eq!(found, index.floor(key));
        }
    }

    #[test]
    fn a_file_is_searched_like_memory() {
        let mut offsets = OffsetIndex::new(0, 1 << 20);
        let mut times = TimeIndex::new(0, 1 << 20);
        for n in 1..2000 {
            assert!(offsets.push(OffsetPosition { offset: n * 3, position: n as u32 * 7 }, false));
            assert!(times.push(TimestampOffset { timestamp: n * 5, offset: n }, false));
        }
        check_file(&offsets, (0..6100).step_by(7));
        check_file(&times, (0..10_100).step_by(9));
    }

    // The last entry tells nothing of where the others are.
    #[rstest::rstest]
    #[case::dense_at_the_end(|n| n * n)]
    #[case::dense_at_the_beginning(|n| if n < 1990 { n } else { n * 1_000_000 })]
    #[case::dense_in_the_middle(|n| n + 1_000_000 * (i64::from(n > 700) + i64::from(n > 1300)))]
    fn a_file_is_searched_whatever_the_sizes_of_batches(#[case] offset: fn(i64) -> Offset) {
        let mut offsets = OffsetIndex::new(0, 1 << 20);
        for n in 1..2000 {
            assert!(offsets.push(OffsetPosition { offset: offset(n), position: n as u32 * 7 }, false));
        }
        check_file(&offsets, (1..2000).flat_map(|n| [offset(n) - 1, offset(n), offset(n) + 1]));
    }

    proptest! {
        #[test]
        fn any_bytes_load(bytes in prop::collection::vec(any::<u8>(), 0..256), log_len in 0u64..1 << 33, next in any::<i32>()) {
            check_load(&OffsetIndex::load_for(7, 64, &bytes, log_len), &bytes);
            check_load(&TimeIndex::load_for(7, 64, &bytes, i64::from(next)), &bytes);
        }
    }
}
