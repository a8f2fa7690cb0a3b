//! A chunk: whole batches, cut at the first batch end past 1 MiB. The unit of checksum, cache and ranged GET.

/// A chunk ends at the first batch end at or past this many bytes.
pub const CHUNK_BYTES: u64 = 1 << 20;

/// One chunk of a segment, as the footer's index keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkEntry {
    /// Where it begins in the object.
    pub position: u64,
    /// Its bytes.
    pub length: u32,
    /// Base offset of its first batch.
    pub first_offset: i64,
    /// Largest timestamp from the beginning of the segment to the end of this chunk.
    pub max_timestamp: i64,
    /// CRC-32C over its bytes.
    pub crc: u32,
}

impl ChunkEntry {
    /// Where the one behind it begins.
    pub fn end(&self) -> u64 {
        self.position + u64::from(self.length)
    }

    /// Are these its bytes?
    pub fn holds(&self, bytes: &[u8]) -> bool {
        crc32c::crc32c(bytes) == self.crc
    }

    /// The part of `bytes` that is its own, when they begin at `position` of the object and go at least up to its end.
    pub(crate) fn part_of<'b>(&self, bytes: &'b [u8], position: u64) -> &'b [u8] {
        &bytes[(self.position - position) as usize..][..self.length as usize]
    }
}

/// What the caller read from one batch header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSpan {
    /// Where the batch begins in the segment.
    pub position: u64,
    /// Its base offset.
    pub base_offset: i64,
    /// Its last offset.
    pub last_offset: i64,
    /// Its largest timestamp.
    pub max_timestamp: i64,
}

/// Why a batch cannot be the next of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// It does not begin where the one before ended.
    #[error("batch at position {got} where {expected} was expected")]
    Position {
        /// Where it should begin.
        expected: u64,
        /// Where it begins.
        got: u64,
    },
    /// Its offsets do not follow on.
    #[error("batch with offsets {base}..={last} behind offset {before}")]
    Offset {
        /// Last offset of the batch before.
        before: i64,
        /// Its base offset.
        base: i64,
        /// Its last offset.
        last: i64,
    },
    /// A chunk would pass 4 GiB.
    #[error("batch is too large for a chunk")]
    TooLarge,
}

/// Cuts a segment into chunks while somebody walks its batches.
#[derive(Debug)]
pub struct ChunkCutter {
    chunks: Vec<ChunkEntry>,
    open: Option<ChunkEntry>,
    position: u64,
    last_offset: i64,
    max_timestamp: i64,
}

impl Default for ChunkCutter {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkCutter {
    /// Nothing seen; the first batch lies at position 0.
    pub fn new() -> Self {
        Self { chunks: Vec::new(), open: None, position: 0, last_offset: -1, max_timestamp: i64::MIN }
    }

    /// The next batch, with all its `bytes`.
    pub fn batch(&mut self, span: BatchSpan, bytes: &[u8]) -> Result<(), CutError> {
        if span.position != self.position {
            return Err(CutError::Position { expected: self.position, got: span.position });
        }
        if span.base_offset <= self.last_offset || span.last_offset < span.base_offset {
            let (before, base, last) = (self.last_offset, span.base_offset, span.last_offset);
            return Err(CutError::Offset { before, base, last });
        }
        let length = u32::try_from(bytes.len()).map_err(|_| CutError::TooLarge)?;
        self.max_timestamp = self.max_timestamp.max(span.max_timestamp);
        let chunk = self.open.get_or_insert(ChunkEntry {
            position: span.position,
            length: 0,
            first_offset: span.base_offset,
            max_timestamp: self.max_timestamp,
            crc: 0,
        });
        chunk.length = chunk.length.checked_add(length).ok_or(CutError::TooLarge)?;
        chunk.max_timestamp = self.max_timestamp;
        chunk.crc = crc32c::crc32c_append(chunk.crc, bytes);
        if u64::from(chunk.length) >= CHUNK_BYTES {
            self.chunks.extend(self.open.take());
        }
        self.position += u64::from(length);
        self.last_offset = span.last_offset;
        Ok(())
    }

    /// Bytes seen so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// All chunks, the last one possibly short.
    pub fn finish(mut self) -> Vec<ChunkEntry> {
        self.chunks.extend(self.open);
        self.chunks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_cover_the_segment_without_a_gap(sizes in prop::collection::vec(1usize..900_000, 1..12)) {
            let mut cutter = ChunkCutter::new();
            let mut segment = Vec::new();
            for (i, size) in sizes.iter().enumerate() {
                let bytes = vec![i as u8; *size];
                let span = BatchSpan {
                    position: segment.len() as u64,
                    base_offset: 10 * i as i64,
                    last_offset: 10 * i as i64 + 4,
                    max_timestamp: 1000 - i as i64,
                };
                cutter.batch(span, &bytes).unwrap();
                segment.extend(bytes);
            }
            let chunks = cutter.finish();
            let mut position = 0;
            for (i, chunk) in chunks.iter().enumerate() {
                prop_assert_eq!(chunk.position, position);
                position += u64::from(chunk.length);
                prop_assert_eq!(chunk.crc, crc32c::crc32c(&segment[chunk.position as usize..position as usize]));
                prop_assert_eq!(chunk.max_timestamp, 1000);
                if i + 1 < chunks.len() {
                    prop_assert!(u64::from(chunk.length) >= CHUNK_BYTES);
                }
            }
            prop_assert_eq!(position, segment.len() as u64);
        }
    }

    #[test]
    fn batches_must_follow_on() {
        let mut cutter = ChunkCutter::new();
        let span = BatchSpan { position: 0, base_offset: 5, last_offset: 9, max_timestamp: 0 };
        cutter.batch(span, &[1; 100]).unwrap();
        assert_eq!(
            cutter.batch(BatchSpan { position: 50, ..span }, &[1]),
            Err(CutError::Position { expected: 100, got: 50 })
        );
        assert_eq!(
            cutter.batch(BatchSpan { position: 100, ..span }, &[1]),
            Err(CutError::Offset { before: 9, base: 5, last: 9 })
        );
    }
}
