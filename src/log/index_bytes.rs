//! The bytes of an index file in memory: entries of a fixed size, bounded, with a mark up to which the file has them.

/// Entries of `N` bytes each, one behind the other as in the file.
#[derive(Debug)]
pub(super) struct IndexBytes<const N: usize> {
    bytes: Vec<u8>,
    max_entries: usize,
    written: usize,
}

impl<const N: usize> IndexBytes<N> {
    pub(super) fn new(max_bytes: u32) -> Self {
        Self { bytes: Vec::new(), max_entries: max_bytes as usize / N, written: 0 }
    }

    /// Takes `bytes` (whole entries) as content that the file has.
    pub(super) fn set_written(&mut self, bytes: &[u8]) {
        self.bytes = bytes.to_vec();
        self.written = bytes.len();
    }

    pub(super) fn entries(&self) -> &[[u8; N]] {
        self.bytes.as_chunks().0
    }

    pub(super) fn entry(&self, at: usize) -> Option<&[u8; N]> {
        self.entries().get(at)
    }

    /// Number of entries at the front for which `holds` is true; it must be true for a prefix.
    pub(super) fn partition_point(&self, holds: impl FnMut(&[u8; N]) -> bool) -> usize {
        self.entries().partition_point(holds)
    }

    pub(super) fn push(&mut self, entry: [u8; N]) {
        self.bytes.extend_from_slice(&entry);
    }

    pub(super) fn truncate(&mut self, entries: usize) {
        self.bytes.truncate(entries * N);
        self.written = self.written.min(self.bytes.len());
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() / N
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.max_entries
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn unwritten(&self) -> (u64, &[u8]) {
        (self.written as u64, &self.bytes[self.written..])
    }

    pub(super) fn mark_written(&mut self, file_len: u64) {
        self.written = usize::try_from(file_len).map_or(self.bytes.len(), |len| len.min(self.bytes.len()));
    }

    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }
}
