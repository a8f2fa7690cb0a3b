//! Reads that wait for the disk, apart from the runtime: a catch-up reader never holds a worker.
//!
//! A few threads at most read at once; the others wait in the order in which they came. A connection asks for one range
//! at a time and a waiting Fetch for a few, so nobody waits behind one reader's long list.

use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::log::view::FileRange;

/// Reads of the disk at once.
const TOGETHER: usize = 4;
/// What one read brings of a range.
pub const PIECE_BYTES: u64 = 512 << 10;
/// What is read ahead behind it: a reader of old records goes on where it is.
const AHEAD_BYTES: u64 = 2 << 20;

/// The node's readers of the disk.
#[derive(Debug, Clone)]
pub struct DiskReads(Arc<Semaphore>);

impl Default for DiskReads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TOGETHER)))
    }
}

impl DiskReads {
    /// Runs `work` on a thread that may block. It goes on when the caller doesn't wait for it.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let permit = Arc::clone(&self.0).acquire_owned().await.map_err(io::Error::other)?;
        let read = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        read.await.map_err(io::Error::other)
    }

    /// Brings the beginning of a range into the page cache, at most [`PIECE_BYTES`].
    pub async fn bring(&self, range: FileRange) -> io::Result<()> {
        self.run(move || bring(&range)).await?
    }
}

/// As [`DiskReads::bring`], on a thread that may block.
pub(super) fn bring(range: &FileRange) -> io::Result<()> {
    range.file.bring_to_cache(range.position, range.len.min(PIECE_BYTES), AHEAD_BYTES)
}
