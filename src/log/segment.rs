//! One segment of the local log: a `.log` file, its indexes, and how far they are published.
//!
//! ```text
//!   active (index tail in memory) --seal--> sealed (no memory) --remove--> gone
//! ```
//! Its files are opened when they are used, and share the node's descriptors with all others ([`super::open_files`]).
//! The active segment is written by its partition alone, under the partition's lock; readers see the bytes below
//! [`Segment::size`], which is published after the write. A reader that came late finds the file gone and looks at the
//! partition's next view.

mod lookup;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use terrace_tiering::platform::fs::{Open, SharedFile, SharedFs, with_suffix};
use uuid::Uuid;

use super::flush::Haste;
use super::kafka_files::{self, PARTITION_METADATA};
use super::names::{self, DELETED_SUFFIX, INDEX, LOG, SNAPSHOT, TIME_INDEX, TXN_INDEX};
use super::open_files::{OpenFiles, Slot};
use super::segment_index::SegmentIndex;
use super::time_index::TimestampOffset;
use super::txn_index::AbortedTransaction;
use super::walk::{HeaderWalk, WalkError};
use crate::protocol::record_batch::Offset;

/// Which versions of the leader epochs their file has.
#[derive(Debug, Default)]
pub(super) struct EpochsOnDisk {
    /// For whoever reads it while the kernel lives.
    pub(super) written: u64,
    /// After a power loss.
    pub(super) synced: u64,
}

/// Where the files of one partition are.
#[derive(Debug)]
pub struct LogDirectory {
    /// The file system.
    pub fs: SharedFs,
    /// The partition's directory.
    pub path: PathBuf,
    /// The topic's id, for `partition.metadata`.
    pub topic_id: Uuid,
    /// What the node's segments hold open.
    pub(super) files: Arc<OpenFiles>,
    /// Held while the leader epochs' file is replaced.
    epochs_on_disk: Mutex<EpochsOnDisk>,
    /// Its own name is known to be durable.
    name_synced: AtomicBool,
}

impl LogDirectory {
    /// The directory at `path`, which need not exist.
    pub fn new(fs: SharedFs, files: Arc<OpenFiles>, path: PathBuf, topic_id: Uuid) -> Self {
        Self { fs, files, path, topic_id, epochs_on_disk: Mutex::default(), name_synced: AtomicBool::new(false) }
    }

    pub(super) fn epochs_on_disk(&self) -> MutexGuard<'_, EpochsOnDisk> {
        lock(&self.epochs_on_disk)
    }

    /// Makes the directory and says in it whose it is. Durable after [`LogDirectory::sync_names`].
    pub(crate) fn make(&self) -> io::Result<()> {
        self.fs.create_dir(&self.path)?;
        let text = kafka_files::partition_metadata(self.topic_id);
        let path = self.path.join(PARTITION_METADATA);
        match self.fs.open(&path, Open::CreateNew) {
            Ok(file) => file.write_all_at(text.as_bytes(), 0),
            // In place: what it says is durable already, most of the time, and a file in its place would not be.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let file = self.fs.open(&path, Open::Write)?;
                file.write_all_at(text.as_bytes(), 0)?;
                file.set_len(text.len() as u64)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes durable that the directory is there, which files it has, and whose it is.
    pub(crate) fn sync_names(&self) -> io::Result<()> {
        let identity = self.path.join(PARTITION_METADATA);
        if !self.fs.exists(&identity) {
            // Lost with the power, where the records were not: the checkpoint said whose directory it is.
            self.make()?;
        }
        self.fs.open(&identity, Open::Read)?.sync_data()?;
        self.fs.sync_dir(&self.path)?;
        if let Some(log_dir) = self.path.parent()
            && !self.name_synced.load(Ordering::Acquire)
        {
            self.fs.sync_dir(log_dir)?;
            self.name_synced.store(true, Ordering::Release);
        }
        Ok(())
    }
}

/// The files of a segment that are kept open while they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentFile {
    /// `.log`
    Log,
    /// `.index`
    Offsets,
    /// `.timeindex`
    Times,
}

impl SegmentFile {
    fn extension(self) -> &'static str {
        match self {
            Self::Log => LOG,
            Self::Offsets => INDEX,
            Self::Times => TIME_INDEX,
        }
    }
}

/// Every file that a segment may have. The records go last: indexes without a log would be dropped at the next start, a log
/// without them rebuilt.
const EXTENSIONS: [&str; 5] = [INDEX, TIME_INDEX, TXN_INDEX, SNAPSHOT, LOG];

/// Removes what [`Segment::rename_deleted`] left of the segment at `base`.
pub fn remove_deleted(fs: &SharedFs, directory: &Path, base: Offset) -> io::Result<()> {
    EXTENSIONS.iter().try_for_each(|extension| {
        fs.remove_file(&with_suffix(&names::segment_file(directory, base, extension), DELETED_SUFFIX))
    })
}

/// One segment.
#[derive(Debug)]
pub struct Segment {
    base: Offset,
    /// No other segment of this process has it, not one of the same base either.
    serial: u64,
    directory: Arc<LogDirectory>,
    size: AtomicU64,
    /// It takes appends.
    active: AtomicBool,
    slots: [Slot; 3],
    index: Mutex<SegmentIndex>,
    /// Entries of the `.txnindex` file that count.
    aborted: AtomicUsize,
    /// They themselves, once the file's name is no longer this segment's.
    retired_aborted: OnceLock<Vec<AbortedTransaction>>,
}

/// No half-done state is ever left behind these locks, so a panic elsewhere does not spoil what they guard.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Segment {
    /// Makes the file of a new active segment. The name is durable after the directory's next sync.
    pub(super) fn create(directory: &Arc<LogDirectory>, base: Offset, index_max_bytes: u32) -> io::Result<Arc<Self>> {
        let path = names::segment_file(&directory.path, base, LOG);
        let file = directory.fs.open(&path, Open::Create)?;
        // A crash may have left a file of this name with bytes that no view ever showed.
        if file.len()? > 0 {
            file.set_len(0)?;
        }
        Self::reopened(directory, base, 0, file, SegmentIndex::new(base, index_max_bytes))
    }

    /// The active segment that a start found.
    pub(super) fn reopened(
        directory: &Arc<LogDirectory>,
        base: Offset,
        size: u64,
        file: SharedFile,
        index: SegmentIndex,
    ) -> io::Result<Arc<Self>> {
        let segment = Arc::new(Self::with(directory, base, size, index, true));
        segment.open(SegmentFile::Log, || Ok(file))?;
        Ok(segment)
    }

    /// A sealed segment that a start found.
    pub(super) fn sealed(directory: &Arc<LogDirectory>, base: Offset, size: u64, index: SegmentIndex) -> Arc<Self> {
        Arc::new(Self::with(directory, base, size, index, false))
    }

    fn with(directory: &Arc<LogDirectory>, base: Offset, size: u64, index: SegmentIndex, active: bool) -> Self {
        static SERIALS: AtomicU64 = AtomicU64::new(0);
        Self {
            base,
            serial: SERIALS.fetch_add(1, Ordering::Relaxed),
            directory: Arc::clone(directory),
            size: AtomicU64::new(size),
            active: AtomicBool::new(active),
            slots: Default::default(),
            index: Mutex::new(index),
            aborted: AtomicUsize::new(0),
            retired_aborted: OnceLock::new(),
        }
    }

    /// The same segment over the same files in another directory.
    pub(super) fn in_directory(&self, directory: &Arc<LogDirectory>) -> Arc<Self> {
        let index = self.index().clone();
        let twin = Self::with(directory, self.base, self.size(), index, self.active.load(Ordering::Relaxed));
        twin.set_aborted_count(self.aborted_count());
        Arc::new(twin)
    }

    /// First offset it may hold.
    pub fn base(&self) -> Offset {
        self.base
    }

    /// Which of this process's segments it is.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// Bytes that are written and published.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// How many aborted transactions its index lists.
    pub fn aborted_count(&self) -> usize {
        self.aborted.load(Ordering::Acquire)
    }

    pub(super) fn set_aborted_count(&self, count: usize) {
        self.aborted.store(count, Ordering::Release);
    }

    pub(super) fn retired_aborted(&self) -> Option<&[AbortedTransaction]> {
        self.retired_aborted.get().map(Vec::as_slice)
    }

    pub(super) fn set_retired_aborted(&self, entries: Vec<AbortedTransaction>) {
        self.retired_aborted.get_or_init(|| entries);
    }

    pub(super) fn fs(&self) -> &SharedFs {
        &self.directory.fs
    }

    /// See [`SegmentIndex::entries_from`].
    pub(super) fn index_entries_from(&self, position: u64) -> (usize, Option<Offset>) {
        self.index().entries_from(position)
    }

    pub(super) fn publish_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// The largest timestamp, and the last offset of the batch that has it.
    pub fn largest_timestamp(&self) -> TimestampOffset {
        self.index().largest
    }

    /// The largest timestamp of its first batch; `None` while it is empty or unread.
    pub fn first_timestamp(self: &Arc<Self>) -> Result<Option<i64>, WalkError> {
        if let Some(known) = self.index().first_timestamp {
            return Ok(Some(known));
        }
        let first = self.walk(0)?.step()?.map(|stop| stop.header.max_timestamp());
        self.index().first_timestamp = first;
        Ok(first)
    }

    pub(super) fn index(&self) -> MutexGuard<'_, SegmentIndex> {
        lock(&self.index)
    }

    /// The `.log` file.
    pub fn file(self: &Arc<Self>) -> io::Result<SharedFile> {
        self.open(SegmentFile::Log, || {
            let how = if self.active.load(Ordering::Relaxed) { Open::Write } else { Open::Read };
            self.directory.fs.open(&self.path(LOG), how)
        })
    }

    fn open(
        self: &Arc<Self>,
        which: SegmentFile,
        open: impl FnOnce() -> io::Result<SharedFile>,
    ) -> io::Result<SharedFile> {
        let (file, is_new) = self.slot(which).get(open)?;
        if is_new {
            self.directory.files.opened(self, which);
        }
        Ok(file)
    }

    pub(super) fn slot(&self, which: SegmentFile) -> &Slot {
        &self.slots[which as usize]
    }

    /// The path of its file with this extension.
    pub fn path(&self, extension: &str) -> PathBuf {
        names::segment_file(&self.directory.path, self.base, extension)
    }

    /// The directory that its files are in.
    pub fn directory(&self) -> &Path {
        &self.directory.path
    }

    /// The headers from the batch at `position` on.
    pub fn walk(self: &Arc<Self>, position: u64) -> io::Result<HeaderWalk> {
        Ok(HeaderWalk::new(self.file()?, position, self.size()))
    }

    /// Fails when the file does not begin with a batch.
    pub(crate) fn check_readable(self: &Arc<Self>) -> Result<(), WalkError> {
        self.walk(0)?.step().map(|_| ())
    }

    /// Writes what the indexes have grown to the files, if that is much.
    pub(super) fn spill_grown_index(&self) -> io::Result<()> {
        let mut index = self.index();
        if index.should_spill() { self.spill(&mut index) } else { Ok(()) }
    }

    /// Writes what is only in memory of the indexes to the files.
    pub(super) fn spill_index(&self) -> io::Result<()> {
        self.spill(&mut self.index())
    }

    fn spill(&self, index: &mut SegmentIndex) -> io::Result<()> {
        index.spill(&self.directory.fs, &self.directory.path, self.base)
    }

    /// No more appends: the last time entry, the index tail to the files.
    pub(super) fn seal(&self) -> io::Result<()> {
        self.active.store(false, Ordering::Relaxed);
        let mut index = self.index();
        index.seal();
        self.spill(&mut index)
    }

    /// Makes everything of it durable: records, the indexes, the producer snapshot taken at its base.
    pub(super) fn sync(self: &Arc<Self>, haste: Haste) -> io::Result<()> {
        let file = self.file()?;
        match haste {
            Haste::Now => file.sync_data()?,
            Haste::InSteps => file.sync_data_in_steps()?,
        }
        for extension in [INDEX, TIME_INDEX, TXN_INDEX, SNAPSHOT] {
            match self.directory.fs.open(&self.path(extension), Open::Read) {
                Ok(file) => file.sync_data()?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Bytes of its larger index.
    pub(crate) fn index_bytes(&self) -> u64 {
        self.index().bytes()
    }

    /// Holds the file open and forgets the index files: both names go to a cleaned segment.
    pub(super) fn retire(self: &Arc<Self>) -> io::Result<()> {
        self.slot(SegmentFile::Log).pin(self.file()?);
        self.retire_aborted()?;
        self.index().forget_files();
        Ok(())
    }

    /// Takes its files out of the log; they are removed by [`remove_deleted`]. Who has them open goes on reading.
    pub fn rename_deleted(&self) -> io::Result<()> {
        for extension in EXTENSIONS {
            let path = self.path(extension);
            // A crash brings some of the names back, below the log start: the next pass finds them.
            match self.directory.fs.rename_unsynced(&path, &with_suffix(&path, DELETED_SUFFIX)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }
}
