//! Records on their way to the disk: gathered in memory, and written together by one write of whole blocks.

use terrace_tiering::platform::fs::durable::{BLOCK_BYTES, Blocks};

use super::record::{BUNDLE_HEADER_BYTES, BundleHeader, RECORD_HEADER_BYTES};

/// What a bundle takes at most: some milliseconds of a disk. A larger write would gain nothing.
pub(super) const BYTES_MAX: usize = 2 << 20;

/// The records that are gathered now.
#[derive(Debug, Default)]
pub(super) struct Bundle {
    /// Room for the header, then the records. Its memory comes with the first record.
    blocks: Blocks,
    bytes_max: usize,
    first_sequence: u64,
}

impl Bundle {
    /// An empty one for files of `file_bytes`, of which it takes a quarter at most.
    pub(super) fn for_files_of(file_bytes: u64) -> Self {
        let quarter = usize::try_from(file_bytes / 4).unwrap_or(BYTES_MAX).min(BYTES_MAX);
        Self { blocks: Blocks::default(), bytes_max: quarter - quarter % BLOCK_BYTES, first_sequence: 0 }
    }

    /// The most that it takes.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Bytes on the disk with one more record of `record_bytes`, and without for 0; whole blocks.
    pub(super) fn bytes_with(&self, record_bytes: usize) -> usize {
        let begun = if self.is_empty() && record_bytes > 0 { BUNDLE_HEADER_BYTES } else { 0 };
        (self.blocks.len() + begun + record_bytes).next_multiple_of(BLOCK_BYTES)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Is there room for one more record of `record_bytes`?
    pub(super) fn has_room(&self, record_bytes: usize) -> bool {
        self.bytes_with(record_bytes) <= self.bytes_max
    }

    /// Appends the record of `sequence`, for which there is room.
    pub(super) fn push(&mut self, sequence: u64, header: &[u8; RECORD_HEADER_BYTES], batches: &[u8]) {
        if self.is_empty() {
            if self.blocks.capacity() == 0 {
                self.blocks = Blocks::with_capacity(self.bytes_max);
            }
            self.first_sequence = sequence;
            self.blocks.push(&[0; BUNDLE_HEADER_BYTES]);
        }
        self.blocks.push(header);
        self.blocks.push(batches);
    }

    /// Completes it for a file of `generation`: header and padding. Not of an empty one.
    pub(super) fn finish(&mut self, generation: u64) {
        // BYTES_MAX fits.
        let len = (self.blocks.len() - BUNDLE_HEADER_BYTES) as u32;
        let header = BundleHeader { first_sequence: self.first_sequence, len }.encode(generation);
        self.blocks.bytes_mut()[..BUNDLE_HEADER_BYTES].copy_from_slice(&header);
        self.blocks.pad();
    }

    /// What is to be written.
    pub(super) fn bytes(&self) -> &[u8] {
        self.blocks.bytes()
    }

    /// Begins anew, in the same memory.
    pub(super) fn clear(&mut self) {
        self.blocks.clear();
    }
}
