//! The write-ahead log of one log directory: what makes the appends of all its synced topics durable by one sync.
//!
//! ```text
//!  append: partition file (page cache), then a record here (memory) --+
//!                                                                     v
//!     group thread: one durable write into the log's file --> Covered::group_synced of every partition in the group
//!                                                                     |  the file is full
//!     recycling thread: fdatasync of every partition file it covers, flushed ends into the checkpoint --> used again
//! ```
//! A group is what was appended while the write before it ran: an idle log writes at once, a busy one by the hundred. The
//! lock of the [`Tail`] is taken under a partition's lock and never the other way round. Under it only what overflows the
//! bundle can wait for the disk: the kernel lets no buffered write into a file before a direct one is over. Of the groups one is written at a time, so that none is acknowledged before one that came earlier.
//! A failed write or sync takes the log directory offline: nothing of it is acknowledged again by this process.
//! The threads start with the first record, so a directory without synced topics has neither threads nor files.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::platform::fs::SharedFs;

use super::bundle::Bundle;
use super::file;
use super::partition_sync::{DirectorySync, Running, StopOnPanic};
use super::record::Place;
use super::recycling;
use super::replay::Replayed;
use super::tail::{Appending, Group, Tail};

/// A file is left for the next one at this size: three hold a second at 200 MB/s.
pub const FILE_BYTES: u64 = 64 << 20;
/// Unused files that a start keeps; more than these are left of a burst.
const SPARE_FILES_MAX: usize = 6;

/// A partition whose appends go through the log.
pub trait Covered: Send + Sync + Debug {
    /// Every record up to `sequence` of the log in `log_dir` is durable.
    fn group_synced(&self, log_dir: &Path, sequence: u64);

    /// The directory is offline: nothing of it that waits will ever be durable.
    fn fail(&self);

    /// Makes all that was appended before the call durable in the partition's own files, and hands the flushed end to
    /// the checkpoint that [`Recycler::commit`] writes. False when it cannot for now, and the log is still needed. Blocks.
    fn sync_files(&self) -> io::Result<bool>;
}

/// Writes down that files of the log are no longer needed.
pub trait Recycler: Send + Sync + Debug {
    /// Makes the flushed ends that [`Covered::sync_files`] handed over durable.
    fn commit(&self) -> io::Result<()>;
}

/// In which group and which file a partition is already listed; kept by the partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Joined {
    pub(super) group: u64,
    pub(super) generation: u64,
}

/// What a log is opened with.
#[derive(Debug)]
pub struct WalSettings {
    /// The log directory.
    pub log_dir: PathBuf,
    /// New with every start of the node: the upper half of the generations of this life.
    pub node_epoch: i32,
    /// When a file is full.
    pub file_bytes: u64,
    /// Who runs the syncs.
    pub running: Running,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) fs: SharedFs,
    pub(super) settings: WalSettings,
    pub(super) directory: Arc<DirectorySync>,
    pub(super) recycler: Arc<dyn Recycler>,
    tail: Mutex<Tail>,
    /// Held while a group is written, with what it writes; taken before the tail's lock.
    writing: Mutex<Bundle>,
    /// A group has something to sync.
    written: Condvar,
    /// Files have turned, or the next one is soon needed.
    pub(super) turned: Condvar,
}

/// The write-ahead log of one log directory.
#[derive(Debug)]
pub struct Wal {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Wal {
    /// The log as a replay left it. When there was anything to replay, a new header says before this returns that there
    /// no longer is. Blocks.
    pub fn open(
        fs: SharedFs,
        settings: WalSettings,
        directory: Arc<DirectorySync>,
        recycler: Arc<dyn Recycler>,
        replayed: Replayed,
    ) -> io::Result<Arc<Self>> {
        let had_records = replayed.had_records;
        let mut tail = Tail::behind(replayed, &settings);
        if had_records {
            let current = tail.begin_file(&fs, &settings)?;
            current.wal.file.sync_data()?;
            // The life before may have ended between making a file and syncing its name.
            fs.sync_dir(&settings.log_dir)?;
        }
        // Only now: before that header a replay needs every file between the oldest and the newest.
        while tail.spare.len() > SPARE_FILES_MAX {
            let Some(unused) = tail.spare.pop_back() else { break };
            fs.remove_file(&file::path_of(&settings.log_dir, unused.number))?;
        }
        let writing = Mutex::new(Bundle::for_files_of(settings.file_bytes));
        let shared = Shared {
            fs,
            settings,
            directory,
            recycler,
            tail: Mutex::new(tail),
            writing,
            written: Condvar::new(),
            turned: Condvar::new(),
        };
        Ok(Arc::new(Self { shared: Arc::new(shared), threads: Mutex::default() }))
    }

    /// Appends one record; its sequence number, which a later [`Covered::group_synced`] reaches. The caller has written
    /// the same bytes to the partition's file and holds the partition's lock. After an error the directory is to go
    /// offline. Blocks for one write into the page cache.
    pub fn append(
        &self,
        place: &Place,
        batches: &[u8],
        joined: &mut Joined,
        partition: impl Fn() -> Option<Arc<dyn Covered>>,
    ) -> io::Result<u64> {
        crash_point::reach(CrashPoint::WalBeforeWrite);
        let shared = &*self.shared;
        let mut tail = shared.tail();
        if tail.closed || shared.directory.is_offline() {
            return Err(io::Error::other("write-ahead log is closed"));
        }
        let Appending { sequence, first, turn } =
            tail.append(&shared.fs, &shared.settings, place, batches, joined, partition)?;
        if turn {
            shared.turned.notify_one();
        }
        if first {
            self.start_threads();
        }
        drop(tail);
        crash_point::reach(CrashPoint::WalAfterWrite);
        if first {
            shared.written.notify_one();
        }
        Ok(sequence)
    }

    /// Under the tail's lock, with the first record of each group: a log that a replay left begins with a file.
    fn start_threads(&self) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if !threads.is_empty() || self.shared.settings.running == Running::ByHand {
            return;
        }
        for (name, run) in [("log-dir-wal", run_groups as fn(&Shared)), ("log-dir-wal-recycle", recycling::run)] {
            let shared = Arc::clone(&self.shared);
            match std::thread::Builder::new().name(name.into()).spawn(move || run(&shared)) {
                Ok(thread) => threads.push(thread),
                Err(error) => self.shared.directory.set_offline(&error),
            }
        }
    }

    /// Syncs the group that is open, if it has anything. False when it had not.
    pub fn sync_group(&self) -> bool {
        self.shared.sync_group()
    }

    /// Frees the full files, if there are any. False when there were none.
    pub fn recycle(&self) -> bool {
        self.shared.recycle(1)
    }

    /// Prepares the next file, if it is soon needed.
    pub fn prepare(&self) -> io::Result<()> {
        self.shared.prepare()
    }

    /// Syncs what is written and ends the threads; nothing is appended any more.
    pub fn close(&self) {
        self.shared.tail().closed = true;
        self.shared.written.notify_one();
        self.shared.turned.notify_one();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!(directory = %self.shared.settings.log_dir.display(), "thread of the write-ahead log panicked");
            }
        }
        self.sync_group();
    }

    /// The end of a clean stop: partition files and checkpoint hold everything, so nothing is left to replay.
    pub fn seal(&self) -> io::Result<()> {
        let shared = &*self.shared;
        let mut tail = shared.tail();
        match tail.seal(&shared.fs, &shared.settings)? {
            Some(current) => current.wal.file.sync_data(),
            None => Ok(()),
        }
    }
}

impl Shared {
    /// After a panic under it the process stops: see [`StopOnPanic`] and design section 13.
    pub(super) fn tail(&self) -> MutexGuard<'_, Tail> {
        let Ok(tail) = self.tail.lock() else {
            tracing::error!("panic in the write-ahead log; the broker stops");
            std::process::abort();
        };
        tail
    }

    fn sync_group(&self) -> bool {
        // Whoever panics under it ends the process; what it holds is begun anew by every group.
        let mut bundle = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tail = self.tail();
        if !tail.dirty {
            return false;
        }
        let group = tail.close_group(&mut bundle);
        drop(tail);
        if let Err(error) = self.make_durable(&group, &bundle) {
            self.directory.set_offline(&error);
        }
        self.note_written();
        for partition in &group.waiting {
            if self.directory.is_offline() {
                partition.fail();
            } else {
                partition.group_synced(&self.settings.log_dir, group.upto);
            }
        }
        true
    }

    fn note_written(&self) {
        let mut tail = self.tail();
        tail.written_groups = tail.closed_groups();
        if std::mem::take(&mut tail.is_written_awaited) {
            drop(tail);
            self.turned.notify_one();
        }
    }

    fn make_durable(&self, group: &Group, bundle: &Bundle) -> io::Result<()> {
        crash_point::reach(CrashPoint::WalBeforeSync);
        if let Some((file, position)) = &group.bundle_to {
            file.write_all_at(bundle.bytes(), *position)?;
        }
        for file in &group.unsynced {
            file.sync_data()?;
        }
        if group.names {
            self.fs.sync_dir(&self.settings.log_dir)?;
        }
        crash_point::reach(CrashPoint::WalAfterSync);
        Ok(())
    }
}

fn run_groups(shared: &Shared) {
    let _stop_on_panic = StopOnPanic;
    loop {
        let mut tail = shared.tail();
        while !tail.dirty && !tail.closed {
            let Ok(woken) = shared.written.wait(tail) else { return };
            tail = woken;
        }
        if !tail.dirty {
            return;
        }
        drop(tail);
        shared.sync_group();
    }
}
