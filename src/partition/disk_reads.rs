//! Reads that wait for the disk, apart from the runtime: a catch-up reader never holds a worker.
//!
//! A few threads at most read at once; the others wait in the order in which they came. A connection asks for one range
//! at a time and a waiting Fetch for a few, so nobody waits behind one reader's long list. What was read also leaves
//! through these threads as far as the peer takes it, so that the workers are left to those at the end of the log. They
//! run at the workers' own priority: one that stood back could be kept from the processor while it holds a lock that a
//! worker wants.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::log::view::FileRange;

/// Reads of the disk at once.
const TOGETHER: usize = 4;
/// What one read brings of a range.
pub const PIECE_BYTES: u64 = 512 << 10;
/// What is read ahead behind it: a reader of old records goes on where it is.
const AHEAD_BYTES: u64 = 2 << 20;
/// A thread that has nothing to do for so long ends.
const IDLE_MAX: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

#[derive(Default)]
struct Pool {
    queue: Mutex<Queue>,
    came: Condvar,
}

/// The node's readers of the disk.
#[derive(Clone, Default)]
pub struct DiskReads(Arc<Pool>);

impl DiskReads {
    /// Runs `work` on a thread that may block. It goes on when the caller doesn't wait for it.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let (done, result) = oneshot::channel();
        // Nobody may wait for it any more.
        self.push(Box::new(move || drop(done.send(work()))))?;
        result.await.map_err(|_| io::Error::other("the read died"))
    }

    fn push(&self, job: Job) -> io::Result<()> {
        let mut queue = self.0.queue();
        queue.jobs.push_back(job);
        if queue.idle < queue.jobs.len() && queue.threads < TOGETHER {
            let pool = Arc::clone(&self.0);
            match std::thread::Builder::new().name("disk-read".into()).spawn(move || pool.serve()) {
                Ok(_) => queue.threads += 1,
                // The others come to it.
                Err(_) if queue.threads > 0 => {}
                Err(error) => {
                    queue.jobs.pop_back();
                    return Err(error);
                }
            }
        }
        drop(queue);
        self.0.came.notify_one();
        Ok(())
    }

    /// Brings the beginning of a range into the page cache, at most [`PIECE_BYTES`].
    pub async fn bring(&self, range: FileRange) -> io::Result<()> {
        self.run(move || bring(&range)).await?
    }
}

impl Pool {
    /// Changed in single steps, so a panic elsewhere leaves it whole.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a thread.
    fn serve(&self) {
        let mut queue = self.queue();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                // Its caller is told; the next one's read is not to blame.
                drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)));
                queue = self.queue();
                continue;
            }
            queue.idle += 1;
            let (woken, wait) = self.came.wait_timeout(queue, IDLE_MAX).unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            queue.idle -= 1;
            if wait.timed_out() && queue.jobs.is_empty() {
                queue.threads -= 1;
                return;
            }
        }
    }
}

/// As [`DiskReads::bring`], on a thread that may block.
pub fn bring(range: &FileRange) -> io::Result<()> {
    range.file.bring_to_cache(range.position, range.len.min(PIECE_BYTES), AHEAD_BYTES)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[tokio::test]
    async fn a_few_run_at_once_and_the_others_follow() {
        let disk = DiskReads::default();
        let together = Arc::new(Barrier::new(TOGETHER));
        let reads = (0..3 * TOGETHER).map(|number| {
            let (disk, together) = (disk.clone(), Arc::clone(&together));
            async move {
                let read = move || {
                    together.wait();
                    number
                };
                disk.run(read).await.unwrap()
            }
        });
        let done = futures::future::join_all(reads).await;
        assert_eq!(done, Vec::from_iter(0..3 * TOGETHER));
        assert_eq!(disk.0.queue().threads, TOGETHER, "nobody began a thread beyond the bound");
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
