//! One thread per log directory that makes partition files durable, behind the tickets of their appends.
//!
//! A partition asks to be synced and is queued once, however many appends wait: what arrives while a sync runs is
//! covered by the next. The thread asks the partition what is dirty, syncs it without any lock, and tells the outcome.
//! A failed sync is never retried (the kernel may have dropped the dirty pages): the directory is offline from then on,
//! and everything that is or will be queued fails.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::Notify;

/// Something whose files can be synced.
pub trait SyncTarget: Send + Sync + Debug {
    /// Called on the thread: makes all that was written before the call durable, and notes that.
    fn sync(&self) -> io::Result<()>;

    /// The directory is offline: nothing that waits will ever be durable.
    fn fail(&self);
}

/// Who runs the syncs of a log directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Running {
    /// Its threads.
    #[default]
    Threads,
    /// A test, step by step, so that a failure replays.
    ByHand,
    /// Threads, which the machine refuses.
    #[cfg(test)]
    Refused,
}

impl Running {
    /// Has a thread do `work`, unless a test does it.
    pub(super) fn start(self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Option<JoinHandle<()>>> {
        match self {
            Self::Threads => std::thread::Builder::new().name(name.into()).spawn(work).map(Some),
            Self::ByHand => Ok(None),
            #[cfg(test)]
            Self::Refused => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Arc<dyn SyncTarget>>,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    queue: Mutex<Queue>,
    arrived: Condvar,
    offline: AtomicBool,
    failed: Notify,
}

impl Shared {
    /// The queue is changed by single pushes and pops, so a panic elsewhere leaves it whole.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The syncing of one log directory, and whether that directory still works.
#[derive(Debug)]
pub struct DirectorySync {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl DirectorySync {
    /// Starts the thread of the log directory at `path`, unless a test runs the syncs.
    pub fn start(path: PathBuf, running: Running) -> io::Result<Arc<Self>> {
        let shared = Arc::new(Shared {
            path,
            queue: Mutex::default(),
            arrived: Condvar::new(),
            offline: AtomicBool::new(false),
            failed: Notify::new(),
        });
        let of_thread = Arc::clone(&shared);
        let thread = running.start("log-dir-sync", move || run(&of_thread))?;
        Ok(Arc::new(Self { shared, thread: Mutex::new(thread) }))
    }

    /// Syncs the first of the queue on this thread. False when nothing waits.
    pub fn step(&self) -> bool {
        let target = self.shared.queue().waiting.pop_front();
        target.is_some_and(|target| {
            sync(&self.shared, &target);
            true
        })
    }

    /// Has a write or a sync in this directory failed for good?
    pub fn is_offline(&self) -> bool {
        self.shared.offline.load(Ordering::Acquire)
    }

    /// Returns when [`DirectorySync::is_offline`] does.
    pub async fn offline(&self) {
        let failed = self.shared.failed.notified();
        if !self.is_offline() {
            failed.await;
        }
    }

    /// Takes the directory offline; the reason is logged once.
    pub fn set_offline(&self, why: &dyn std::fmt::Display) {
        go_offline(&self.shared, why);
    }

    /// Queues `target`. The caller queues it once until its [`SyncTarget::sync`] begins.
    pub fn request(&self, target: Arc<dyn SyncTarget>) {
        let mut queue = self.shared.queue();
        if self.is_offline() || queue.closed {
            drop(queue);
            target.fail();
            return;
        }
        queue.waiting.push_back(target);
        drop(queue);
        self.shared.arrived.notify_one();
    }

    /// Syncs what is queued and ends the thread.
    pub fn close(&self) {
        self.shared.queue().closed = true;
        self.shared.arrived.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!(directory = %self.shared.path.display(), "sync thread panicked");
        }
    }
}

fn go_offline(shared: &Shared, why: &dyn std::fmt::Display) {
    if !shared.offline.swap(true, Ordering::AcqRel) {
        metrics::counter!("terrace_log_directories_failed_total").increment(1);
        tracing::error!(
            directory = %shared.path.display(), error = %why,
            "log directory is offline: nothing in it is acknowledged any more; repair the disk and restart"
        );
        shared.failed.notify_waiters();
    }
    shared.arrived.notify_one();
}

/// A panic here would leave tickets that nobody keeps: the process stops instead, with its line in the log.
pub(super) struct StopOnPanic;

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("sync thread of a log directory panicked; the broker stops");
            std::process::abort();
        }
    }
}

fn run(shared: &Shared) {
    let _stop_on_panic = StopOnPanic;
    loop {
        let mut queue = shared.queue();
        let target = loop {
            if let Some(target) = queue.waiting.pop_front() {
                break target;
            }
            if queue.closed {
                return;
            }
            queue = shared.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
        };
        drop(queue);
        sync(shared, &target);
    }
}

fn sync(shared: &Shared, target: &Arc<dyn SyncTarget>) {
    if shared.offline.load(Ordering::Acquire) {
        target.fail();
    } else if let Err(error) = target.sync() {
        go_offline(shared, &error);
        target.fail();
    }
}
