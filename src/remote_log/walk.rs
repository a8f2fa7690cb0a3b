//! Walks a sealed segment batch by batch before it is copied: cuts its chunks, gathers what the tier must know, and refuses
//! bytes that are not what a segment must be. What is broken on the local disk never reaches the bucket.

use std::io;

use terrace_tiering::object::chunk::{BatchSpan, ChunkCutter, ChunkEntry, CutError};
use terrace_tiering::platform::fs::File;

use crate::protocol::record_batch::{BatchError, BatchView, HEADER_BYTES, LeaderEpoch, Offset, total_bytes};

/// What the walk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Walked {
    pub chunks: Vec<ChunkEntry>,
    pub last_offset: Offset,
    pub batch_count: u64,
    pub record_count: u64,
    pub first_timestamp: i64,
    pub max_timestamp: i64,
    /// Last offset of the batch with the largest timestamp, as in Kafka's time index.
    pub max_timestamp_offset: Offset,
    pub epochs: Vec<(LeaderEpoch, Offset)>,
}

/// Why a segment is not copied.
#[derive(Debug, thiserror::Error)]
pub(super) enum WalkError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("position {position}: {why}")]
    Batch { position: u64, why: BatchError },
    #[error("position {position}: {why}")]
    Order { position: u64, why: CutError },
    #[error("position {position}: offset {offset} lies outside {from}..{to}")]
    Outside { position: u64, offset: Offset, from: Offset, to: Offset },
    #[error("position {position}: leader epoch {epoch} behind {before}")]
    Epoch { position: u64, epoch: LeaderEpoch, before: LeaderEpoch },
    #[error("it has no batch")]
    Empty,
}

impl WalkError {
    /// A disk that failed may answer later; bytes that are wrong stay wrong.
    pub fn is_corrupt(&self) -> bool {
        match self {
            Self::Io(error) => error.kind() == io::ErrorKind::UnexpectedEof,
            Self::Batch { .. } | Self::Order { .. } | Self::Outside { .. } | Self::Epoch { .. } | Self::Empty => true,
        }
    }
}

/// Reads `len` bytes of `file`, which must hold whole batches with offsets in `from..to`. Blocks on the disk; holds one
/// batch in memory.
pub(super) fn walk(file: &dyn File, len: u64, from: Offset, to: Offset) -> Result<Walked, WalkError> {
    let mut cutter = ChunkCutter::new();
    let mut walked = Walked {
        chunks: Vec::new(),
        last_offset: -1,
        batch_count: 0,
        record_count: 0,
        first_timestamp: -1,
        max_timestamp: -1,
        max_timestamp_offset: -1,
        epochs: Vec::new(),
    };
    let mut bytes = Vec::new();
    let mut position = 0;
    while position < len {
        let at = |why| WalkError::Batch { position, why };
        let left = len - position;
        bytes.resize(HEADER_BYTES, 0);
        if left < HEADER_BYTES as u64 {
            return Err(at(BatchError::Truncated));
        }
        file.read_exact_at(&mut bytes, position)?;
        let total = total_bytes(&bytes).map_err(at)?;
        // Checked before memory is taken for it.
        if total as u64 > left {
            return Err(at(BatchError::Truncated));
        }
        bytes.resize(total, 0);
        file.read_exact_at(&mut bytes[HEADER_BYTES..], position + HEADER_BYTES as u64)?;
        let (batch, _) = BatchView::split_first(&bytes).map_err(at)?;
        batch.check_crc().map_err(at)?;
        walked.add(&batch, position, from, to)?;
        let span = BatchSpan {
            position,
            base_offset: batch.base_offset(),
            last_offset: batch.last_offset(),
            max_timestamp: batch.max_timestamp(),
        };
        cutter.batch(span, &bytes).map_err(|why| WalkError::Order { position, why })?;
        position += total as u64;
    }
    if walked.batch_count == 0 {
        return Err(WalkError::Empty);
    }
    walked.chunks = cutter.finish();
    Ok(walked)
}

/// Where the first batch at or behind `offset` begins, in the first `len` bytes of `file`. Blocks.
pub(super) fn position_of(file: &dyn File, len: u64, offset: Offset) -> Result<u64, WalkError> {
    let mut position = 0;
    let mut header = [0; HEADER_BYTES];
    while position < len {
        let at = |why: BatchError| WalkError::Batch { position, why };
        file.read_exact_at(&mut header, position)?;
        let (batch, total) = BatchView::header_only(&header).map_err(at)?;
        if batch.base_offset() >= offset {
            break;
        }
        position += total as u64;
    }
    Ok(position)
}

impl Walked {
    fn add(&mut self, batch: &BatchView<'_>, position: u64, from: Offset, to: Offset) -> Result<(), WalkError> {
        if let Some(offset) = [batch.base_offset(), batch.last_offset()].into_iter().find(|o| *o < from || *o >= to) {
            return Err(WalkError::Outside { position, offset, from, to });
        }
        let epoch = batch.leader_epoch();
        match self.epochs.last() {
            Some((before, _)) if *before > epoch => {
                return Err(WalkError::Epoch { position, epoch, before: *before });
            }
            Some((before, _)) if *before == epoch => {}
            _ => self.epochs.push((epoch, batch.base_offset())),
        }
        if self.batch_count == 0 {
            // With a delete horizon that stands where the first record's time was.
            let is_base_time = !batch.is_log_append_time() && !batch.has_delete_horizon();
            self.first_timestamp = if is_base_time { batch.base_timestamp() } else { batch.max_timestamp() };
        }
        if batch.max_timestamp() > self.max_timestamp {
            self.max_timestamp = batch.max_timestamp();
            self.max_timestamp_offset = batch.last_offset();
        }
        self.last_offset = batch.last_offset();
        self.batch_count += 1;
        self.record_count += u64::try_from(batch.records_count()).unwrap_or(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::testing::{MemoryFile, batch};
    use super::*;

    fn segment() -> Vec<u8> {
        [batch(10, 3, 0, 500), batch(13, 1, 0, 900), batch(14, 6, 2, 700)].concat()
    }

    fn check(bytes: Vec<u8>) -> Result<Walked, WalkError> {
        let len = bytes.len() as u64;
        walk(&*Arc::new(MemoryFile::new(bytes)), len, 10, 20)
    }

    #[test]
    fn gathers_what_the_tier_must_know() {
        let bytes = segment();
        let walked = check(bytes.clone()).unwrap();
        assert_eq!((walked.batch_count, walked.record_count, walked.last_offset), (3, 10, 19));
        assert_eq!((walked.first_timestamp, walked.max_timestamp, walked.max_timestamp_offset), (500, 900, 13));
        assert_eq!(walked.epochs, [(0, 10), (2, 14)]);
        assert_eq!(walked.chunks.len(), 1);
        assert_eq!(u64::from(walked.chunks[0].length), bytes.len() as u64);
    }

    #[test]
    fn refuses_what_a_segment_must_not_be() {
        let cut = &segment()[..segment().len() - 1];
        let cases = [
            ("cut", cut.to_vec()),
            ("empty", Vec::new()),
            ("offsets fall", [batch(13, 1, 0, 1), batch(10, 3, 0, 1)].concat()),
            ("epochs fall", [batch(10, 1, 2, 1), batch(11, 1, 1, 1)].concat()),
            ("below its base", batch(9, 1, 0, 1)),
            ("above its end", batch(19, 2, 0, 1)),
        ];
        for (name, bytes) in cases {
            let error = check(bytes).expect_err(name);
            assert!(error.is_corrupt(), "{name}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_refused(at in 0usize..200, change in 1u8..=255) {
            let mut bytes = segment();
            let at = at % bytes.len();
            bytes[at] ^= change;
            // Base offset and leader epoch lie outside the CRC: within limits they are whatever the broker stamped.
            if let Ok(walked) = check(bytes) {
                prop_assert!(walked != check(segment()).unwrap());
            }
        }

        #[test]
        fn any_bytes_are_walked_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = check(bytes);
        }
    }
}
