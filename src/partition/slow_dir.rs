//! A log directory whose disk hangs: its appends go on, one at a time, where they hold up nobody else.
//!
//! Appends run inline on the async worker, because the page cache takes them in microseconds. When the disk cannot keep
//! up, the kernel makes the writer wait, and with it every connection of that worker. So appends are timed; once more
//! than one in a hundred takes over 50 ms, or those that do take half a second together, the directory's appends leave the
//! workers until a whole window was fast again: each waits for its turn without a thread, and runs on a thread that the
//! others are moved away from. While one hangs, those that come go the same way at once. Whoever finds a partition's lock
//! taken by an append that hangs waits for it in the same way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Partition;
use super::node_dirs::NodeDir;
use super::registry::Partitions;

/// An append that takes longer is a slow one.
const SLOW: Duration = Duration::from_millis(50);
/// Slow appends of a window that take so long together are a slow directory however many fast ones there were: a disk
/// that stops under a busy broker would hold its workers for many appends until one in a hundred was slow.
const HELD_UP: Duration = Duration::from_millis(500);
/// How often it is decided whether the directory has recovered.
const WINDOW: Duration = Duration::from_secs(5);

/// How long the appends of a log directory take.
#[derive(Debug)]
pub(super) struct AppendMeter {
    epoch: Instant,
    is_slow: AtomicBool,
    /// When the append that is running began, in microseconds since `epoch`; 0 while none runs. Of several, one.
    running_since: AtomicU64,
    window_since: AtomicU64,
    appends: AtomicU64,
    slow_appends: AtomicU64,
    slow_us: AtomicU64,
    turn: Arc<Semaphore>,
}

impl Default for AppendMeter {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            is_slow: AtomicBool::new(false),
            running_since: AtomicU64::new(0),
            window_since: AtomicU64::new(0),
            appends: AtomicU64::new(0),
            slow_appends: AtomicU64::new(0),
            slow_us: AtomicU64::new(0),
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

impl AppendMeter {
    fn now(&self) -> u64 {
        // Never 0, which means that nothing runs; overflows after half a million years.
        self.epoch.elapsed().as_micros() as u64 + 1
    }

    /// Have the directory's appends left the workers?
    fn is_slow(&self) -> bool {
        self.is_slow.load(Ordering::Relaxed)
    }

    /// Is the directory slow, or does an append hang in it right now?
    fn hangs(&self) -> bool {
        let since = self.running_since.load(Ordering::Relaxed);
        self.is_slow() || (since > 0 && self.now().saturating_sub(since) > SLOW.as_micros() as u64)
    }

    /// Times one append, until the guard is dropped.
    pub(super) fn begin<'a>(&'a self, dir: &'a NodeDir) -> Timing<'a> {
        let since = self.now();
        self.running_since.store(since, Ordering::Relaxed);
        Timing { meter: self, dir, since }
    }

    /// Takes note of an append that took `took_us`. True and the new state when the directory turned slow or fast.
    fn note(&self, now: u64, took_us: u64) -> Option<bool> {
        let appends = self.appends.fetch_add(1, Ordering::Relaxed) + 1;
        if took_us > SLOW.as_micros() as u64 {
            self.slow_appends.fetch_add(1, Ordering::Relaxed);
            self.slow_us.fetch_add(took_us, Ordering::Relaxed);
        }
        let slow = self.slow_appends.load(Ordering::Relaxed);
        let slow_us = self.slow_us.load(Ordering::Relaxed);
        let is_slow = slow.saturating_mul(100) > appends || slow_us > HELD_UP.as_micros() as u64;
        let since = self.window_since.load(Ordering::Relaxed);
        let is_over = now.saturating_sub(since) > WINDOW.as_micros() as u64;
        if is_over && self.window_since.compare_exchange(since, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.appends.store(0, Ordering::Relaxed);
            self.slow_appends.store(0, Ordering::Relaxed);
            self.slow_us.store(0, Ordering::Relaxed);
        }
        if is_slow && !self.is_slow.swap(true, Ordering::Relaxed) {
            return Some(true);
        }
        // It recovers by a whole window, and not by the first append that was fast.
        (!is_slow && is_over && self.is_slow.swap(false, Ordering::Relaxed)).then_some(false)
    }
}

/// An append that runs.
#[derive(Debug)]
pub(super) struct Timing<'a> {
    meter: &'a AppendMeter,
    dir: &'a NodeDir,
    since: u64,
}

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        let now = self.meter.now();
        self.meter.running_since.store(0, Ordering::Relaxed);
        let directory = self.dir.path().display();
        match self.meter.note(now, now.saturating_sub(self.since)) {
            Some(true) => {
                tracing::warn!(%directory, "log directory is slow: appends take over 50 ms and leave the worker threads");
            }
            Some(false) => {
                tracing::info!(%directory, "log directory is fast again: appends are back on the worker threads")
            }
            None => {}
        }
    }
}

/// Runs what may hang. On an async worker the others are moved away from it first.
fn where_it_may_hang<R>(work: impl FnOnce() -> R) -> R {
    let on_worker = Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if on_worker { tokio::task::block_in_place(work) } else { work() }
}

impl Partition {
    /// Runs `work`, which appends to the partition or waits for its lock; while its directory hangs, where that holds up
    /// nobody else.
    pub fn may_hang<R>(&self, work: impl FnOnce() -> R) -> R {
        if self.dir().appends().hangs() { where_it_may_hang(work) } else { work() }
    }
}

/// Whose turn it is to append to directories that are slow or hang. No turn is needed where none is.
#[derive(Debug, Default)]
pub struct AppendTurn {
    turns: Vec<OwnedSemaphorePermit>,
}

impl AppendTurn {
    /// Runs `work`, which appends to the partitions that the turn was taken for.
    pub fn run<R>(self, work: impl FnOnce() -> R) -> R {
        if self.turns.is_empty() { work() } else { where_it_may_hang(work) }
    }
}

impl Partitions {
    /// Is any log directory slow, or does an append hang in one? Then an append takes its [`Partitions::append_turn`]
    /// first.
    pub fn any_hangs(&self) -> bool {
        self.dirs().iter().any(|dir| dir.appends().hangs())
    }

    /// Waits until it is this caller's turn in each slow directory that has one of `partitions`.
    pub async fn append_turn(&self, partitions: &[Arc<Partition>]) -> AppendTurn {
        let mut turns = Vec::new();
        // One after another in the node's order, so that two callers never wait for each other.
        for dir in self.dirs() {
            let has_some =
                dir.appends().hangs() && partitions.iter().any(|partition| Arc::ptr_eq(partition.dir(), dir));
            if has_some && let Ok(turn) = Arc::clone(&dir.appends().turn).acquire_owned().await {
                turns.push(turn);
            }
        }
        AppendTurn { turns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST_US: u64 = 100;
    const SLOW_US: u64 = 60_000;

    #[test]
    fn a_directory_turns_slow_at_once_and_fast_after_a_whole_window() {
        let meter = AppendMeter::default();
        let mut now = 0;
        let mut note = |took_us| {
            now += took_us;
            meter.note(now, took_us)
        };
        for _ in 0..200 {
            assert_eq!(note(FAST_US), None);
        }
        assert_eq!(note(SLOW_US), None, "one in two hundred");
        assert_eq!(note(SLOW_US), None);
        assert_eq!(note(SLOW_US), Some(true), "three in two hundred and three");
        let mut turned = None;
        let mut fast = 0;
        while turned.is_none() {
            turned = note(FAST_US);
            fast += 1;
        }
        assert_eq!(turned, Some(false));
        assert!(fast > 10_000, "some windows of fast ones: {fast}");
    }

    #[test]
    fn one_append_that_hangs_is_enough_however_many_were_fast() {
        let meter = AppendMeter::default();
        for at in 0..10_000 {
            assert_eq!(meter.note(at * FAST_US, FAST_US), None);
        }
        assert_eq!(meter.note(1_600_000, 600_000), Some(true));
    }

    #[test]
    fn an_append_that_runs_for_long_hangs_before_it_ends() {
        let meter = AppendMeter::default();
        assert!(!meter.hangs(), "nothing runs");
        meter.running_since.store(meter.now(), Ordering::Relaxed);
        assert!(!meter.hangs(), "it has just begun");
        let long_ago = Instant::now().checked_sub(Duration::from_secs(1)).expect("the machine runs for longer");
        let meter = AppendMeter { epoch: long_ago, running_since: AtomicU64::new(1), ..AppendMeter::default() };
        assert!(meter.hangs() && !meter.is_slow());
    }
}
