//! What readers see of a partition's local log.

use terrace_tiering::platform::fs::SharedFile;

/// Bytes of one file, whole batches from its beginning on (the last batch may be cut at a limit, as Kafka does).
#[derive(Debug, Clone)]
pub struct FileRange {
    /// The file; holding it keeps the bytes readable even when the name is gone.
    pub file: SharedFile,
    /// Where the first batch begins.
    pub position: u64,
    /// How many bytes.
    pub len: u64,
}
