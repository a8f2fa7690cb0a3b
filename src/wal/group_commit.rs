//! The write-ahead log of one log directory: what makes the appends of all its synced topics durable by one sync.
//!
//! ```text
//!  append: partition file (page cache), then a record here (memory) --+
//!                                                                     v
//!     writers: one durable write a group into the log's file --> Covered::group_synced of every partition in the group
//!                                                                     |  the file is full
//!     recycling thread: fdatasync of every partition file it covers, flushed ends into the checkpoint --> used again
//! ```
//! A group is what was appended while the writes before it ran: an idle log writes at once, a busy one by the hundred. Two
//! are written at a time, and each is acknowledged behind all before it ([`Groups`]). The lock of the [`Tail`] is taken under
//! a partition's lock and never the other way round. Under it an append waits for the disk only when every bundle is taken,
//! so that memory has its bound: then it writes the oldest that waits itself.
//!
//! [`Groups`]: super::groups::Groups
//! A failed write or sync takes the log directory offline: nothing of it is acknowledged again by this process.
//! The threads start with the first record, so a directory without synced topics has neither threads nor files.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::platform::fs::SharedFs;

use super::bundle;
use super::file;
use super::groups::{self, Group, Settled, WRITERS};
use super::partition_sync::{DirectorySync, Running, StopOnPanic};
use super::record::Place;
use super::recycling;
use super::replay::Replayed;
use super::tail::{Appending, Tail, record_bytes};

/// A file is left for the next one at this size: three hold a second at 200 MB/s.
pub const FILE_BYTES: u64 = 64 << 20;
/// Unused files that a start keeps; more than these are left of a burst.
const SPARE_FILES_MAX: usize = 6;

/// The most memory that the records of one log on their way to the disk take.
pub const MEMORY_BYTES_MAX: u64 = (groups::BUNDLES_MAX * bundle::BYTES_MAX) as u64;

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
    /// The writers have something to do.
    work: Condvar,
    /// Files have turned, or the next one is soon needed.
    pub(super) turned: Condvar,
}

/// The write-ahead log of one log directory.
#[derive(Debug)]
pub struct Wal {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    memory_bytes: Arc<AtomicU64>,
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
        let memory_bytes = tail.groups.held_bytes();
        let shared = Shared {
            fs,
            settings,
            directory,
            recycler,
            tail: Mutex::new(tail),
            work: Condvar::new(),
            turned: Condvar::new(),
        };
        Ok(Arc::new(Self { shared: Arc::new(shared), threads: Mutex::default(), memory_bytes }))
    }

    /// Appends one record; its sequence number, which a later [`Covered::group_synced`] reaches. The caller has written
    /// the same bytes to the partition's file and holds the partition's lock. After an error the directory is to go
    /// offline. Blocks for a write only where the disk cannot follow.
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
        if tail.groups.is_full() && tail.must_close(record_bytes(batches), shared.settings.file_bytes) {
            shared.write_under_lock(&mut tail)?;
        }
        let Appending { sequence, work, turn } =
            tail.append(&shared.fs, &shared.settings, place, batches, joined, partition)?;
        if turn {
            shared.turned.notify_one();
        }
        if work {
            self.start_threads()?;
        }
        drop(tail);
        crash_point::reach(CrashPoint::WalAfterWrite);
        if work {
            shared.work.notify_one();
        }
        Ok(sequence)
    }

    /// Under the tail's lock, when there is something to write: a log that a replay left begins with a file. Without one of
    /// them the directory is offline, and those that run tell whoever waits already.
    fn start_threads(&self) -> io::Result<()> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if !threads.is_empty() {
            return Ok(());
        }
        let writers = std::iter::repeat_n(("log-dir-wal", run_writer as fn(&Shared)), WRITERS);
        for (name, run) in writers.chain([("log-dir-wal-recycle", recycling::run as fn(&Shared))]) {
            let shared = Arc::clone(&self.shared);
            let started = self.shared.settings.running.start(name, move || run(&shared));
            threads.extend(started.inspect_err(|error| self.shared.directory.set_offline(error))?);
        }
        Ok(())
    }

    /// Makes durable what was appended and no thread writes. False when there was nothing.
    pub fn sync_group(&self) -> bool {
        let mut any = false;
        while self.shared.work_once() {
            any = true;
        }
        any
    }

    /// Bytes of memory that records on their way to the disk may take by now. Waits for nothing.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
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
        self.shared.work.notify_all();
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

/// A group that a test writes when it likes: as with several writers, in any order.
#[cfg(test)]
pub struct Held(Group);

#[cfg(test)]
impl Wal {
    /// Takes the group that is next, beside as many as are being written. Until it is written, no file is recycled.
    pub fn hold_group(&self) -> Option<Held> {
        self.shared.tail().take_one_more_group().map(Held)
    }

    /// How many groups are closed, of all times.
    pub fn closed_groups(&self) -> u64 {
        self.shared.tail().groups.closed()
    }

    /// Writes it, and settles what can be settled.
    pub fn write_held(&self, Held(group): Held) {
        self.shared.write(&group);
        self.shared.tail().groups.note_written(group);
        self.shared.tell_settled();
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

    /// Does the next thing that a writer has to do. False when there is none.
    pub(super) fn work_once(&self) -> bool {
        self.tell_settled() || self.write_next()
    }

    /// Tells of the groups whose turn it is. False when there are none.
    fn tell_settled(&self) -> bool {
        let mut tail = self.tail();
        let settled: Vec<_> = std::iter::from_fn(|| tail.groups.settle()).collect();
        if settled.is_empty() {
            return false;
        }
        let is_awaited = std::mem::take(&mut tail.is_settling_awaited);
        // Appends that met this group unsettled woke nobody, and telling may wait for a partition.
        let has_more = tail.has_work();
        drop(tail);
        if has_more {
            self.work.notify_one();
        }
        if is_awaited {
            self.turned.notify_one();
        }
        for group in &settled {
            self.tell(group);
        }
        true
    }

    /// Writes the group that is next, if it is time for one.
    fn write_next(&self) -> bool {
        let mut tail = self.tail();
        let Some(group) = tail.take_group() else { return false };
        let has_more = tail.has_work();
        drop(tail);
        if has_more {
            self.work.notify_one();
        }
        self.write(&group);
        self.tail().groups.note_written(group);
        true
    }

    /// Writes the oldest group that waits for a writer, so that its bundle is free. Another one settles it: whoever appends
    /// holds the lock of a partition.
    fn write_under_lock(&self, tail: &mut Tail) -> io::Result<()> {
        let Some(group) = tail.groups.take() else { return Ok(()) };
        self.write(&group);
        tail.groups.note_written(group);
        self.work.notify_one();
        if self.directory.is_offline() { Err(io::Error::other("write-ahead log failed")) } else { Ok(()) }
    }

    /// Tells everybody in a group that it is durable, or never will be.
    fn tell(&self, group: &Settled) {
        for partition in &group.waiting {
            // Behind a group whose write failed this is so before that one is settled.
            if self.directory.is_offline() {
                partition.fail();
            } else {
                partition.group_synced(&self.settings.log_dir, group.upto);
            }
        }
    }

    /// Makes a group durable, or takes the directory offline.
    fn write(&self, group: &Group) {
        if !self.directory.is_offline()
            && let Err(error) = self.make_durable(group)
        {
            self.directory.set_offline(&error);
        }
    }

    fn make_durable(&self, group: &Group) -> io::Result<()> {
        crash_point::reach(CrashPoint::WalBeforeSync);
        if let Some((file, position)) = &group.bundle_to {
            file.write_all_at(group.bundle.bytes(), *position)?;
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

/// One of the threads that write groups.
fn run_writer(shared: &Shared) {
    let _stop_on_panic = StopOnPanic;
    loop {
        let mut tail = shared.tail();
        while !tail.has_work() && !tail.closed {
            let Ok(woken) = shared.work.wait(tail) else { return };
            tail = woken;
        }
        let closed = tail.closed;
        drop(tail);
        if !shared.work_once() && closed {
            return;
        }
    }
}
