//! Numbers of the hot path, one copy per worker thread, so that counting never waits for another core's cache line. Whoever
//! shows them adds the copies up.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// More threads than this share copies, which is slower and still right.
const COPIES: usize = 32;

/// A copy has its cache lines for itself (two: processors fetch them in pairs).
#[derive(Default)]
#[repr(align(128))]
struct Own<T>(T);

/// One `T` per worker thread, each made when its thread first counts.
pub struct PerWorker<T> {
    copies: [OnceLock<Box<Own<T>>>; COPIES],
}

impl<T> Default for PerWorker<T> {
    fn default() -> Self {
        Self { copies: std::array::from_fn(|_| OnceLock::new()) }
    }
}

impl<T> fmt::Debug for PerWorker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerWorker").finish_non_exhaustive()
    }
}

impl<T: Default> PerWorker<T> {
    /// The copy of the calling thread.
    pub fn here(&self) -> &T {
        &self.copies[this_thread()].get_or_init(Box::default).0
    }

    /// All copies that anybody has counted in.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.copies.iter().filter_map(OnceLock::get).map(|copy| &copy.0)
    }
}

fn this_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed) % COPIES;
    }
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn copies_add_up_over_threads() {
        let counters = PerWorker::<AtomicU64>::default();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| counters.here().fetch_add(5, Ordering::Relaxed));
            }
        });
        assert_eq!(counters.all().map(|copy| copy.load(Ordering::Relaxed)).sum::<u64>(), 15);
        assert!(counters.all().count() > 1, "threads count apart");
    }
}
