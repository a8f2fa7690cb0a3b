//! One segment of the local log: a `.log` file, its indexes, and how far they are published.
//!
//! ```text
//!   active (file held open, index tail in memory) --seal--> sealed (opened when read, no memory) --remove--> gone
//! ```
//! The active segment is written by its partition alone, under the partition's lock; readers see the bytes below
//! [`Segment::size`], which is published after the write. A reader that came late finds the file gone and looks at the
//! partition's next view.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use terrace_tiering::platform::fs::{File, Open, SharedFile, SharedFs};
use uuid::Uuid;

use super::kafka_files::{self, PARTITION_METADATA};
use super::names::{self, INDEX, LOG, SNAPSHOT, TIME_INDEX, TXN_INDEX};
use super::segment_index::{self, Lookup, SegmentIndex};
use super::time_index::TimestampOffset;
use super::walk::{HeaderWalk, WalkError};
use crate::protocol::record_batch::{BatchError, Offset};

/// Where the files of one partition are.
#[derive(Debug)]
pub struct LogDirectory {
    /// The file system.
    pub fs: SharedFs,
    /// The partition's directory.
    pub path: PathBuf,
    /// The topic's id, for `partition.metadata`.
    pub topic_id: Uuid,
    /// Which version of the leader epochs their file has; held while it is replaced.
    epochs_version: Mutex<u64>,
}

impl LogDirectory {
    /// The directory at `path`, which need not exist.
    pub fn new(fs: SharedFs, path: PathBuf, topic_id: Uuid) -> Self {
        Self { fs, path, topic_id, epochs_version: Mutex::default() }
    }

    pub(super) fn epochs_version(&self) -> MutexGuard<'_, u64> {
        lock(&self.epochs_version)
    }

    /// Makes the directory and says in it whose it is.
    pub(super) fn make(&self) -> io::Result<()> {
        self.fs.create_dir_all(&self.path)?;
        let text = kafka_files::partition_metadata(self.topic_id);
        let file = self.fs.open(&self.path.join(PARTITION_METADATA), Open::Create)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len() as u64)
    }

    /// Makes durable which files there are, and whose directory it is.
    pub(super) fn sync_names(&self) -> io::Result<()> {
        self.fs.open(&self.path.join(PARTITION_METADATA), Open::Read)?.sync_data()?;
        self.fs.sync_dir(&self.path)
    }
}

#[derive(Debug)]
enum Handle {
    /// Of the active segment.
    Held(SharedFile),
    /// Of a sealed one: shared by those who read it at the moment, closed with the last of them.
    Shared(Option<Weak<dyn File>>),
}

/// One segment.
#[derive(Debug)]
pub struct Segment {
    base: Offset,
    directory: Arc<LogDirectory>,
    size: AtomicU64,
    handle: Mutex<Handle>,
    index: Mutex<SegmentIndex>,
}

/// No half-done state is ever left behind these two locks, so a panic elsewhere does not spoil what they guard.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Segment {
    /// Makes the file of a new active segment. The name is durable after the directory's next sync.
    pub(super) fn create(directory: &Arc<LogDirectory>, base: Offset, index_max_bytes: u32) -> io::Result<Self> {
        let path = names::segment_file(&directory.path, base, LOG);
        let file = directory.fs.open(&path, Open::Create)?;
        // A crash may have left a file of this name with bytes that no view ever showed.
        if file.len()? > 0 {
            file.set_len(0)?;
        }
        let index = SegmentIndex::new(base, index_max_bytes);
        Ok(Self::with(directory, base, 0, Handle::Held(file), index))
    }

    /// The active segment that a start found.
    pub(super) fn reopened(
        directory: &Arc<LogDirectory>,
        base: Offset,
        size: u64,
        file: SharedFile,
        index: SegmentIndex,
    ) -> Self {
        Self::with(directory, base, size, Handle::Held(file), index)
    }

    /// A sealed segment that a start found.
    pub(super) fn sealed(directory: &Arc<LogDirectory>, base: Offset, size: u64, index: SegmentIndex) -> Self {
        Self::with(directory, base, size, Handle::Shared(None), index)
    }

    fn with(directory: &Arc<LogDirectory>, base: Offset, size: u64, handle: Handle, index: SegmentIndex) -> Self {
        Self {
            base,
            directory: Arc::clone(directory),
            size: AtomicU64::new(size),
            handle: Mutex::new(handle),
            index: Mutex::new(index),
        }
    }

    /// First offset it may hold.
    pub fn base(&self) -> Offset {
        self.base
    }

    /// Bytes that are written and published.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(super) fn publish_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    /// The largest timestamp, and the last offset of the batch that has it.
    pub fn largest_timestamp(&self) -> TimestampOffset {
        self.index().largest
    }

    /// The largest timestamp of its first batch; `None` while it is empty or unread.
    pub fn first_timestamp(&self) -> Result<Option<i64>, WalkError> {
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
    pub fn file(&self) -> io::Result<SharedFile> {
        let mut handle = lock(&self.handle);
        match &*handle {
            Handle::Held(file) => return Ok(Arc::clone(file)),
            Handle::Shared(weak) => {
                if let Some(file) = weak.as_ref().and_then(Weak::upgrade) {
                    return Ok(file);
                }
            }
        }
        let file = self.directory.fs.open(&self.path(LOG), Open::Read)?;
        *handle = Handle::Shared(Some(Arc::downgrade(&file)));
        Ok(file)
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
    pub fn walk(&self, position: u64) -> io::Result<HeaderWalk> {
        Ok(HeaderWalk::new(self.file()?, position, self.size()))
    }

    /// Fails when the file does not begin with a batch.
    pub(crate) fn check_readable(&self) -> Result<(), WalkError> {
        self.walk(0)?.step().map(|_| ())
    }

    /// Writes the index tail to the files; see [`SegmentIndex::spill`].
    pub(super) fn spill_index(&self) -> io::Result<()> {
        let mut index = self.index();
        if index.has_tail() { index.spill(&self.directory.fs, &self.directory.path) } else { Ok(()) }
    }

    /// No more appends: the last time entry, the index tail to the files, the descriptor to whoever still reads.
    pub(super) fn seal(&self) -> io::Result<()> {
        let mut handle = lock(&self.handle);
        if let Handle::Held(file) = &*handle {
            *handle = Handle::Shared(Some(Arc::downgrade(file)));
        }
        drop(handle);
        self.index().seal();
        self.spill_index()
    }

    /// Makes everything of it durable: records, both indexes, the producer snapshot taken at its base.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file()?.sync_data()?;
        for extension in [INDEX, TIME_INDEX, SNAPSHOT] {
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
    pub(super) fn retire(&self) -> io::Result<()> {
        let file = self.file()?;
        *lock(&self.handle) = Handle::Held(file);
        self.index().forget_files();
        Ok(())
    }

    /// Removes its files. Who has them open goes on reading.
    pub fn remove_files(&self) -> io::Result<()> {
        // The records go last: indexes without a log would be dropped at the next start, a log without them rebuilt.
        for extension in [INDEX, TIME_INDEX, TXN_INDEX, SNAPSHOT, LOG] {
            self.directory.fs.remove_file(&self.path(extension))?;
        }
        Ok(())
    }

    /// The position and size of the first batch that ends at or behind `offset`; `None` when all end before.
    pub(super) fn find(&self, offset: Offset) -> Result<Option<(u64, u64)>, WalkError> {
        let (start, indexed) = self.start_for(offset)?;
        match self.find_from(start, indexed, offset) {
            // An index that names no batch, or another one, is damaged (or a cleaned segment's, which has just taken the
            // name): the records themselves decide.
            Err(WalkError::Bad { .. }) if start > 0 => self.find_from(0, None, offset),
            found => found,
        }
    }

    /// Walks from `position`, where a batch that ends at `indexed` must begin.
    fn find_from(
        &self,
        position: u64,
        mut indexed: Option<Offset>,
        offset: Offset,
    ) -> Result<Option<(u64, u64)>, WalkError> {
        let mut walk = self.walk(position)?;
        while let Some(stop) = walk.step()? {
            let last_offset = stop.header.last_offset();
            if indexed.take().is_some_and(|indexed| indexed != last_offset) {
                return Err(WalkError::Bad { position, error: BatchError::Truncated });
            }
            if last_offset >= offset {
                return Ok(Some((stop.position, stop.bytes)));
            }
        }
        Ok(None)
    }

    /// A position at or before the batch that holds `offset`, and the last offset of the batch that begins there.
    fn start_for(&self, offset: Offset) -> io::Result<(u64, Option<Offset>)> {
        let lookup = self.index().lookup(offset);
        let entries = match lookup {
            Lookup::Position(position) => return Ok((position, None)),
            Lookup::OnDisk(entries) => entries,
        };
        let relative = offset - self.base;
        let found = self.search_file::<8>(INDEX, entries, |[a, b, c, d, ..]| {
            i64::from(i32::from_be_bytes([*a, *b, *c, *d])) <= relative
        })?;
        let Some([a, b, c, d, e, f, g, h]) = found else { return Ok((0, None)) };
        let indexed = self.base + i64::from(i32::from_be_bytes([a, b, c, d]));
        let position = u64::try_from(i32::from_be_bytes([e, f, g, h])).ok().filter(|at| *at < self.size());
        Ok(position.map_or((0, None), |position| (position, Some(indexed))))
    }

    /// An offset such that no record before it is at `timestamp` or later.
    pub(super) fn start_for_time(&self, timestamp: i64) -> io::Result<Offset> {
        // Entries strictly older than the target: records at the target itself may lie before an entry's offset.
        let older = timestamp.saturating_sub(1);
        let found = self.index().lookup_time(older);
        let entries = match found {
            Ok(entry) => return Ok(entry.offset),
            Err(entries) => entries,
        };
        let found = self.search_file::<12>(TIME_INDEX, entries, |[a, b, c, d, e, f, g, h, ..]| {
            i64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) <= older
        })?;
        let relative = found.map_or(0, |[.., i, j, k, l]| i32::from_be_bytes([i, j, k, l]));
        Ok(self.base + i64::from(relative.max(0)))
    }

    /// Searches an index file; one that is missing or short has no answer.
    fn search_file<const N: usize>(
        &self,
        extension: &str,
        entries: usize,
        holds: impl Fn(&[u8; N]) -> bool,
    ) -> io::Result<Option<[u8; N]>> {
        let file = match self.directory.fs.open(&self.path(extension), Open::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match segment_index::search(&*file, entries, holds) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            other => other,
        }
    }
}
