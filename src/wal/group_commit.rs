//! The write-ahead log of one log directory: what makes the appends of all its synced topics durable by one sync.
//!
//! ```text
//!  append: partition file, then a record here (page cache both) --+
//!                                                                 v
//!     group thread: fdatasync of the log's file --> Covered::group_synced of every partition in the group
//!                                                                 |  the file is full
//!     recycling thread: fdatasync of every partition file it covers, flushed ends into the checkpoint --> used again
//! ```
//! A group is what was written while the sync before it ran: an idle log syncs at once, a busy one by the hundred. The
//! lock of the [`Tail`] is taken under a partition's lock and never the other way round; nothing is synced under it.
//! A failed write or sync takes the log directory offline: nothing of it is acknowledged again by this process.
//! The threads start with the first record, so a directory without synced topics has neither threads nor files.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::platform::fs::{SharedFile, SharedFs};

use super::file::{self, WalFile};
use super::partition_sync::{DirectorySync, Running, StopOnPanic};
use super::record::{self, FILE_HEADER_BYTES, FileHeader, Place, RECORD_HEADER_BYTES, RECORDS_FROM};
use super::replay::Replayed;

/// A file is left for the next one at this size: three hold a second at 200 MB/s.
pub const FILE_BYTES: u64 = 64 << 20;
/// Full files that wait before their partitions are synced: many appends to a partition cost it one sync.
const RECYCLE_FROM: usize = 3;
/// Unused files that a start keeps; more than these are left of a burst.
const SPARE_FILES_MAX: usize = 6;
/// Most bytes written at once to prepare a file.
const ZEROS_BYTES: usize = 1 << 20;

/// A partition whose appends go through the log.
pub trait Covered: Send + Sync + Debug {
    /// Every record up to `sequence` is durable.
    fn group_synced(&self, sequence: u64);

    /// The directory is offline: nothing that waits will ever be durable.
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
    group: u64,
    generation: u64,
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

/// The file that takes records.
#[derive(Debug)]
struct Current {
    wal: WalFile,
    generation: u64,
    first_sequence: u64,
    position: u64,
    covered: Vec<Arc<dyn Covered>>,
}

/// A full one.
#[derive(Debug)]
struct Full {
    wal: WalFile,
    first_sequence: u64,
    covered: Vec<Arc<dyn Covered>>,
}

/// Where the log ends.
#[derive(Debug)]
struct Tail {
    current: Option<Current>,
    full: VecDeque<Full>,
    /// Ready to be used, oldest use first.
    spare: VecDeque<WalFile>,
    next_number: u32,
    next_sequence: u64,
    next_generation: u64,
    /// The group that records join now, from 1 on.
    group: u64,
    /// Whose records are in it.
    waiting: Vec<Arc<dyn Covered>>,
    /// Files that it wrote to and left.
    left: Vec<SharedFile>,
    /// It has written something.
    dirty: bool,
    /// It made a file whose name is not durable.
    names_unsynced: bool,
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    fs: SharedFs,
    settings: WalSettings,
    directory: Arc<DirectorySync>,
    recycler: Arc<dyn Recycler>,
    tail: Mutex<Tail>,
    /// A group has something to sync.
    written: Condvar,
    /// A file was left, or a file was taken into use.
    turned: Condvar,
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
        let numbers = replayed.files.iter().map(|file| file.number);
        // Node epochs begin at 1 and fit: the boot counter never goes below zero.
        let epoch = u64::from(settings.node_epoch.unsigned_abs());
        let mut tail = Tail {
            next_number: numbers.max().map_or(0, |highest| highest + 1),
            current: None,
            full: VecDeque::new(),
            spare: replayed.files.into(),
            next_sequence: replayed.next_sequence,
            next_generation: (epoch << 32) + 1,
            group: 1,
            waiting: Vec::new(),
            left: Vec::new(),
            dirty: false,
            names_unsynced: false,
            closed: false,
        };
        if replayed.had_records {
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
        let shared = Shared {
            fs,
            settings,
            directory,
            recycler,
            tail: Mutex::new(tail),
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
        let bytes = (RECORD_HEADER_BYTES + batches.len()) as u64;
        let is_full = tail.current.as_ref().is_none_or(|current| {
            current.position > RECORDS_FROM && current.position + bytes > shared.settings.file_bytes
        });
        if is_full {
            tail.begin_file(&shared.fs, &shared.settings)?;
            shared.turned.notify_one();
        }
        let (sequence, group) = (tail.next_sequence, tail.group);
        let Some(current) = tail.current.as_mut() else { return Err(io::Error::other("no file to append to")) };
        let header = record::encode_header(sequence, current.generation, place, batches);
        current.wal.file.write_vectored_at(&[IoSlice::new(&header), IoSlice::new(batches)], current.position)?;
        let before = current.position;
        current.position += bytes;
        let half = shared.settings.file_bytes / 2;
        if before < half && current.position >= half {
            shared.turned.notify_one();
        }
        let newcomer =
            if joined.group != group || joined.generation != current.generation { partition() } else { None };
        if joined.generation != current.generation {
            current.covered.extend(newcomer.clone());
        }
        let generation = current.generation;
        if joined.group != group {
            tail.waiting.extend(newcomer);
        }
        *joined = Joined { group, generation };
        tail.next_sequence += 1;
        let first = !std::mem::replace(&mut tail.dirty, true);
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
        for (name, run) in [("log-dir-wal", run_groups as fn(&Shared)), ("log-dir-wal-recycle", run_recycling)] {
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
        let Some(current) = tail.current.take() else { return Ok(()) };
        let mut full = std::mem::take(&mut tail.full);
        tail.spare.extend(full.drain(..).map(|full| full.wal));
        tail.spare.push_back(current.wal);
        // No header begins with the number of the next.
        tail.next_sequence = tail.next_sequence.max(current.first_sequence + 1);
        tail.begin_file(&shared.fs, &shared.settings)?.wal.file.sync_data()
    }
}

impl Tail {
    /// Leaves the current file for the next.
    fn begin_file(&mut self, fs: &SharedFs, settings: &WalSettings) -> io::Result<&Current> {
        let wal = match self.spare.pop_front() {
            Some(wal) => wal,
            None => {
                let made = WalFile::create(fs, &settings.log_dir, self.next_number)?;
                self.next_number += 1;
                self.names_unsynced = true;
                made
            }
        };
        if let Some(current) = self.current.take() {
            self.left.push(Arc::clone(&current.wal.file));
            let Current { wal, first_sequence, covered, .. } = current;
            self.full.push_back(Full { wal, first_sequence, covered });
        }
        let first_sequence = self.next_sequence;
        let header = FileHeader {
            generation: self.next_generation,
            first_sequence,
            replay_from: self.full.front().map_or(first_sequence, |oldest| oldest.first_sequence),
        };
        wal.file.write_all_at(&header.encode(), 0)?;
        self.next_generation += 1;
        let begun =
            Current { wal, generation: header.generation, first_sequence, position: RECORDS_FROM, covered: Vec::new() };
        Ok(self.current.insert(begun))
    }
}

impl Shared {
    /// After a panic under it the process stops: see [`StopOnPanic`] and design section 13.
    fn tail(&self) -> MutexGuard<'_, Tail> {
        let Ok(tail) = self.tail.lock() else {
            tracing::error!("panic in the write-ahead log; the broker stops");
            std::process::abort();
        };
        tail
    }

    fn needs_spare(&self, tail: &Tail) -> bool {
        let half = self.settings.file_bytes / 2;
        !tail.closed && tail.spare.is_empty() && tail.current.as_ref().is_some_and(|current| current.position >= half)
    }

    fn sync_group(&self) -> bool {
        let mut tail = self.tail();
        if !tail.dirty {
            return false;
        }
        tail.dirty = false;
        tail.group += 1;
        let upto = tail.next_sequence - 1;
        let waiting = std::mem::take(&mut tail.waiting);
        let mut files = std::mem::take(&mut tail.left);
        files.extend(tail.current.as_ref().map(|current| Arc::clone(&current.wal.file)));
        let names = std::mem::take(&mut tail.names_unsynced);
        drop(tail);
        if let Err(error) = self.sync(&files, names) {
            self.directory.set_offline(&error);
        }
        for partition in &waiting {
            if self.directory.is_offline() {
                partition.fail();
            } else {
                partition.group_synced(upto);
            }
        }
        true
    }

    fn sync(&self, files: &[SharedFile], names: bool) -> io::Result<()> {
        crash_point::reach(CrashPoint::WalBeforeSync);
        for file in files {
            file.sync_data()?;
        }
        if names {
            self.fs.sync_dir(&self.settings.log_dir)?;
        }
        crash_point::reach(CrashPoint::WalAfterSync);
        Ok(())
    }

    /// Syncs what the full files cover and frees them, if there are at least `from`.
    fn recycle(&self, from: usize) -> bool {
        let (count, covered) = {
            let mut tail = self.tail();
            if tail.full.len() < from || self.directory.is_offline() {
                return false;
            }
            (tail.full.len(), distinct(tail.full.iter_mut().flat_map(|full| full.covered.drain(..))))
        };
        match self.settle(&covered) {
            Ok(true) => {}
            Ok(false) => {
                if let Some(full) = self.tail().full.front_mut() {
                    full.covered = covered;
                }
                return false;
            }
            Err(error) => {
                self.directory.set_offline(&error);
                covered.iter().for_each(|partition| partition.fail());
                return false;
            }
        }
        crash_point::reach(CrashPoint::WalAfterRecycle);
        for _ in 0..count {
            let Some(oldest) = self.tail().full.front().map(|full| full.wal.clone()) else { break };
            if let Err(error) = forget_header(&oldest.file) {
                self.directory.set_offline(&error);
                return false;
            }
            let mut tail = self.tail();
            tail.full.pop_front();
            tail.spare.push_back(oldest);
        }
        true
    }

    /// False when some partition still needs the log.
    fn settle(&self, covered: &[Arc<dyn Covered>]) -> io::Result<bool> {
        let mut all = true;
        for partition in covered {
            all &= partition.sync_files()?;
        }
        crash_point::reach(CrashPoint::WalBeforeRecycle);
        self.recycler.commit()?;
        Ok(all)
    }

    /// Has a file written in advance when one is soon needed and none is spare: a sync of a file that grows costs a
    /// journal commit as well.
    fn prepare(&self) -> io::Result<()> {
        let number = {
            let mut tail = self.tail();
            if !self.needs_spare(&tail) {
                return Ok(());
            }
            tail.next_number += 1;
            tail.next_number - 1
        };
        let wal = WalFile::create(&self.fs, &self.settings.log_dir, number)?;
        let zeros = vec![0; ZEROS_BYTES];
        let mut position = 0;
        while position < self.settings.file_bytes && !self.tail().closed {
            let len = (self.settings.file_bytes - position).min(ZEROS_BYTES as u64);
            wal.file.write_all_at(&zeros[..len as usize], position)?;
            position += len;
        }
        wal.file.sync_data()?;
        let mut tail = self.tail();
        tail.names_unsynced = true;
        tail.spare.push_back(wal);
        Ok(())
    }
}

/// Durably takes a file out of the replay, before records of its next use overwrite those of its last: an old header over
/// new records would look like the end of the log. Oldest first, so that what is left has no hole.
fn forget_header(file: &SharedFile) -> io::Result<()> {
    file.write_all_at(&[0; FILE_HEADER_BYTES], 0)?;
    file.sync_data()
}

/// Each once, in the order of their first place.
fn distinct(all: impl Iterator<Item = Arc<dyn Covered>>) -> Vec<Arc<dyn Covered>> {
    let mut seen = std::collections::HashSet::new();
    all.filter(|partition| seen.insert(Arc::as_ptr(partition).cast::<()>())).collect()
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

fn run_recycling(shared: &Shared) {
    let _stop_on_panic = StopOnPanic;
    loop {
        let prepared = shared.prepare().inspect_err(|error| {
            let directory = shared.settings.log_dir.display();
            tracing::warn!(%directory, %error, "no file of the write-ahead log prepared");
        });
        let recycled = shared.recycle(RECYCLE_FROM);
        let tail = shared.tail();
        if tail.closed || shared.directory.is_offline() {
            return;
        }
        // What failed or could not be done is tried again at the next turn of files.
        let more = prepared.is_ok() && shared.needs_spare(&tail) || recycled && tail.full.len() >= RECYCLE_FROM;
        if !more && shared.turned.wait(tail).is_err() {
            return;
        }
    }
}
