//! Reads that wait for the disk, apart from the runtime: a catch-up reader never holds a worker.
//!
//! A few threads at most read at once; the others wait in the order in which they came. A connection asks for one range
//! at a time and a waiting Fetch for a few, so nobody waits behind one reader's long list. What was read also leaves
//! through these threads as far as the peer takes it, so that the workers are left to those at the end of the log.

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
pub fn bring(range: &FileRange) -> io::Result<()> {
    range.file.bring_to_cache(range.position, range.len.min(PIECE_BYTES), AHEAD_BYTES)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_few_run_at_once_and_the_others_follow() {
        let disk = DiskReads::default();
        let together = Arc::new(Barrier::new(TOGETHER));
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let reads = (0..3 * TOGETHER).map(|number| {
            let (disk, together) = (disk.clone(), Arc::clone(&together));
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                let read = move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    together.wait();
                    running.fetch_sub(1, Ordering::SeqCst);
                    number
                };
                disk.run(read).await.unwrap()
            }
        });
        let done = futures::future::join_all(reads).await;
        assert_eq!(done, Vec::from_iter(0..3 * TOGETHER));
        assert_eq!(most.load(Ordering::SeqCst), TOGETHER, "nobody began beyond the bound");
    }

    #[tokio::test]
    async fn a_read_that_dies_takes_nobody_along() {
        let disk = DiskReads::default();
        for _ in 0..2 * TOGETHER {
            assert!(disk.run(|| panic!("a bug")).await.is_err());
        }
        assert_eq!(disk.run(|| 7).await.unwrap(), 7);
    }
}
