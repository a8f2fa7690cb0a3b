//! One log directory of the node: its sync thread, its checkpoint, whether it still works.

use std::collections::HashMap;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use terrace_tiering::platform::fs::SharedFs;
use terrace_tiering::platform::kernel::PageCacheId;

use super::Partition;
use super::closing;
use super::open::Known;
use super::replay::LogDirectories;
use super::slow_dir::AppendMeter;
use crate::config::machine;
use crate::log::Haste;
use crate::log::checkpoint::{Checkpoint, CheckpointWriter, PartitionMarks};
use crate::log::kafka_files::{self, MetaProperties, PartitionOffset};
use crate::metadata::image::Image;
use crate::metadata::image::PartitionId;
use crate::wal::group_commit::{self, Recycler, Wal, WalSettings};
use crate::wal::partition_sync::{DirectorySync, Running};
use crate::wal::replay;

/// How the log directories make things durable.
#[derive(Debug, Clone, Copy)]
pub struct SyncSettings {
    /// Who runs the syncs.
    pub running: Running,
    /// When a file of the write-ahead log is full.
    pub wal_file_bytes: u64,
}

impl Default for SyncSettings {
    fn default() -> Self {
        Self { running: Running::Threads, wal_file_bytes: group_commit::FILE_BYTES }
    }
}

/// The checkpoint of a directory: its writer's entries are set one by one and hold no relation to each other, so a
/// panic elsewhere leaves them whole.
#[derive(Debug)]
struct CheckpointFile(Mutex<CheckpointWriter>);

impl CheckpointFile {
    fn writer(&self) -> MutexGuard<'_, CheckpointWriter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recycler for CheckpointFile {
    fn commit(&self) -> io::Result<()> {
        self.writer().write()
    }
}

/// One of `log.dirs`.
#[derive(Debug)]
pub struct NodeDir {
    path: PathBuf,
    fs: SharedFs,
    sync: Arc<DirectorySync>,
    /// Set once the log's records are back in their partitions' files.
    wal: OnceLock<Arc<Wal>>,
    checkpoint: Arc<CheckpointFile>,
    /// A start found a checkpoint that it could read, so that what is not in it is younger.
    had_checkpoint: bool,
    /// Its partitions that changed since the checkpoint looked, each once.
    changed: Mutex<Vec<Weak<Partition>>>,
    /// How many partitions are in it.
    partitions: AtomicUsize,
    /// How long its appends take.
    appends: AppendMeter,
    /// `log.dir.min.free.bytes`.
    min_free_bytes: u64,
    /// Less than that is free.
    full: AtomicBool,
}

/// A directory and what its checkpoint said.
pub(super) struct Opened {
    pub(super) dir: Arc<NodeDir>,
    pub(super) known: HashMap<PartitionId, Known>,
}

impl NodeDir {
    /// Makes the directory if it is missing, and reads its checkpoint.
    pub(super) fn open(fs: &SharedFs, path: &Path, min_free_bytes: u64, syncs: SyncSettings) -> io::Result<Opened> {
        fs.create_dir_all(path)?;
        let page_cache = PageCacheId::of(path);
        let checkpoint = match Checkpoint::load(fs, path)? {
            Some(Ok(checkpoint)) => Some(checkpoint),
            Some(Err(error)) => {
                tracing::warn!(directory = %path.display(), %error, "checkpoint unreadable; all partitions are checked");
                None
            }
            None => None,
        };
        let known = checkpoint.iter().flat_map(|checkpoint| {
            checkpoint.partitions.iter().map(|marks| {
                let id = PartitionId { topic: marks.topic_id, partition: marks.partition };
                (id, Known { marks: marks.clone(), scan_from: checkpoint.scan_from(marks, page_cache) })
            })
        });
        let known = known.collect();
        // Kafka's mark of a clean stop is true until the first append, and nobody of ours reads it.
        fs.remove_file(&path.join(kafka_files::CLEAN_SHUTDOWN))?;
        let writer = CheckpointWriter::new(fs.clone(), path, page_cache, checkpoint.as_ref());
        let sync = DirectorySync::start(path.to_owned(), syncs.running)?;
        let mut dir = Self::new(fs, path, min_free_bytes, sync, writer);
        dir.had_checkpoint = checkpoint.is_some();
        dir.note_free_bytes(machine::free_bytes(path));
        Ok(Opened { dir: Arc::new(dir), known })
    }

    /// One that failed before it was open: nothing in it is read or written.
    pub(super) fn failed(fs: &SharedFs, path: &Path, why: &dyn Display) -> io::Result<Arc<Self>> {
        let writer = CheckpointWriter::new(fs.clone(), path, None, None);
        // Nothing will be queued, so no thread is needed.
        let sync = DirectorySync::start(path.to_owned(), Running::ByHand)?;
        sync.set_offline(why);
        Ok(Arc::new(Self::new(fs, path, 0, sync, writer)))
    }

    fn new(
        fs: &SharedFs,
        path: &Path,
        min_free_bytes: u64,
        sync: Arc<DirectorySync>,
        writer: CheckpointWriter,
    ) -> Self {
        Self {
            path: path.to_owned(),
            fs: fs.clone(),
            sync,
            wal: OnceLock::new(),
            checkpoint: Arc::new(CheckpointFile(Mutex::new(writer))),
            had_checkpoint: false,
            changed: Mutex::default(),
            partitions: AtomicUsize::new(0),
            appends: AppendMeter::default(),
            min_free_bytes,
            full: AtomicBool::new(false),
        }
    }

    /// Puts the records of the write-ahead log back into the files of the partitions that `image` and `known` name and that
    /// are not `elsewhere`, then opens it for this life. The partitions whose files are there now. Blocks.
    pub(super) fn replay(
        &self,
        image: &Image,
        known: &HashMap<PartitionId, Known>,
        elsewhere: &dyn Fn(PartitionId) -> bool,
        syncs: SyncSettings,
    ) -> io::Result<Vec<PartitionId>> {
        let destination = LogDirectories { fs: &self.fs, log_dir: &self.path, image, known, elsewhere };
        let replayed = replay::replay(&self.fs, &self.path, &destination)?;
        if replayed.records > 0 {
            tracing::info!(
                directory = %self.path.display(), records = replayed.records, written_bytes = replayed.written_bytes,
                "write-ahead log replayed"
            );
        }
        let ids =
            replayed.partitions.iter().map(|(topic, partition)| PartitionId { topic: *topic, partition: *partition });
        let ids = ids.collect();
        let settings = WalSettings {
            log_dir: self.path.clone(),
            node_epoch: image.node_epoch,
            file_bytes: syncs.wal_file_bytes,
            running: syncs.running,
        };
        let recycler: Arc<dyn Recycler> = Arc::clone(&self.checkpoint) as _;
        let wal = Wal::open(self.fs.clone(), settings, Arc::clone(&self.sync), recycler, replayed)?;
        // Nobody opened it before: a directory is replayed once, when it is opened.
        let _ = self.wal.set(wal);
        Ok(ids)
    }

    /// The write-ahead log of its synced topics.
    pub(super) fn wal(&self) -> io::Result<&Wal> {
        self.wal.get().map(|wal| &**wal).ok_or_else(|| io::Error::other("write-ahead log is not open"))
    }

    /// Says in it whose it is, once; the configuration refuses another node's before it comes here.
    pub(super) fn identify(&self, identity: &MetaProperties) -> io::Result<()> {
        let path = self.path.join(kafka_files::META_PROPERTIES);
        if self.fs.exists(&path) { Ok(()) } else { self.fs.replace(&path, identity.to_text().as_bytes(), None) }
    }

    /// Where it is.
    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Did this start find a checkpoint? Then what is not in it was begun later, and nothing of it was ever compacted.
    pub(super) fn had_checkpoint(&self) -> bool {
        self.had_checkpoint
    }

    /// Its sync thread.
    pub fn sync(&self) -> &Arc<DirectorySync> {
        &self.sync
    }

    /// How long its appends take, and what follows from that.
    pub(super) fn appends(&self) -> &AppendMeter {
        &self.appends
    }

    /// Is so little space left that produce is refused?
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// `log.dir.min.free.bytes`.
    pub(super) fn min_free_bytes(&self) -> u64 {
        self.min_free_bytes
    }

    /// Looks how much space is left, and says so when produce stops or resumes.
    pub(super) fn look_at_space(&self) {
        self.note_free_bytes(machine::free_bytes(&self.path));
    }

    pub(super) fn note_free_bytes(&self, free_bytes: Option<u64>) {
        let Some(free_bytes) = free_bytes else { return };
        let full = free_bytes < self.min_free_bytes;
        if self.full.swap(full, Ordering::Relaxed) == full {
            return;
        }
        let (directory, min_free_bytes) = (self.path.display(), self.min_free_bytes);
        if full {
            tracing::error!(
                %directory, free_bytes, min_free_bytes,
                "log directory is nearly full: produce is refused until space is free again"
            );
        } else {
            tracing::info!(%directory, free_bytes, min_free_bytes, "log directory has space again: produce goes on");
        }
    }

    /// How many partitions are in it; counted by the registry.
    pub(super) fn partitions(&self) -> &AtomicUsize {
        &self.partitions
    }

    /// The partition changed: the next checkpoint looks at it. May be called under the partition's lock.
    pub(super) fn note_changed(&self, partition: Weak<Partition>) {
        self.changed().push(partition);
    }

    /// Changed by whole entries, so a panic elsewhere leaves it whole.
    fn changed(&self) -> MutexGuard<'_, Vec<Weak<Partition>>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, CheckpointWriter> {
        self.checkpoint.writer()
    }

    /// Records the partitions that changed and writes the checkpoint if there is news. Blocks.
    pub(super) fn checkpoint(&self) -> io::Result<()> {
        if self.sync.is_offline() {
            return Ok(());
        }
        let mut writer = self.writer();
        let changed = std::mem::take(&mut *self.changed());
        for partition in changed.iter().filter_map(Weak::upgrade) {
            match partition.take_marks(self, false) {
                Ok(Some(marks)) => writer.set(&marks),
                Ok(None) => {}
                Err(error) => tracing::warn!(?partition, %error, "partition left out of the checkpoint"),
            }
        }
        writer.write()
    }

    /// Records one partition, changed or not, and writes the checkpoint before it returns. Blocks.
    pub(super) fn checkpoint_now(&self, partition: &Partition) -> io::Result<()> {
        if self.sync.is_offline() {
            return Err(io::Error::other("log directory is offline"));
        }
        let mut writer = self.writer();
        if let Some(marks) = partition.take_marks(self, true)? {
            writer.set(&marks);
        }
        writer.write()
    }

    /// Records one partition, changed or not; the file follows with the next checkpoint. Blocks.
    pub(super) fn record(&self, partition: &Partition) -> io::Result<()> {
        let mut writer = self.writer();
        if let Some(marks) = partition.take_marks(self, true)? {
            writer.set(&marks);
        }
        Ok(())
    }

    /// Forgets a partition that was deleted or has moved; the file follows with the next checkpoint.
    pub(super) fn forget(&self, id: PartitionId) {
        self.writer().remove(id.topic, id.partition);
    }

    /// Writes the checkpoint if there is news in it; looks at no partition. Blocks.
    pub(super) fn write_checkpoint(&self) -> io::Result<()> {
        if self.sync.is_offline() {
            return Err(io::Error::other("log directory is offline"));
        }
        self.writer().write()
    }

    /// Where a partition stands that has nobody to ask; the file follows with the next checkpoint.
    pub(super) fn note_marks(&self, marks: &PartitionMarks) {
        self.writer().set(marks);
    }

    /// A partition came from another directory and stands there. Blocks.
    pub(super) fn note_arrival(&self, marks: &PartitionMarks) -> io::Result<()> {
        self.writer().set(marks);
        self.write_checkpoint()
    }

    /// The last act of a clean stop: our checkpoint, and Kafka's four files beside it.
    pub(super) fn close(&self, partitions: &[Arc<Partition>]) -> io::Result<()> {
        self.sync.close();
        if self.sync.is_offline() {
            return Ok(());
        }
        closing::make_durable(&self.fs, &self.path, partitions)?;
        let (mut ends, mut starts) = (Vec::new(), Vec::new());
        // Of what is offline and was not synced only the write-ahead log has the end.
        let mut needs_wal = false;
        for partition in partitions {
            needs_wal |= partition.offline_reason().is_some() && !partition.settle_stopped(Haste::Now)?;
        }
        let mut writer = self.writer();
        for partition in partitions {
            let Some(marks) = partition.close()? else { continue };
            let line = |offset| PartitionOffset { topic: marks.topic.to_string(), partition: marks.partition, offset };
            if marks.size_bytes > 0 {
                ends.push(line(marks.flushed_end));
                starts.push(line(marks.log_start));
            }
            writer.set(&marks);
        }
        writer.write_clean_stop()?;
        for (name, entries) in [
            (kafka_files::RECOVERY_POINTS, &ends),
            (kafka_files::HIGH_WATERMARKS, &ends),
            (kafka_files::LOG_STARTS, &starts),
        ] {
            self.fs.replace(&self.path.join(name), kafka_files::offset_checkpoint(entries).as_bytes(), None)?;
        }
        // Its recycling records partitions in the checkpoint.
        drop(writer);
        self.wal()?.close();
        if !needs_wal {
            self.wal()?.seal()?;
        }
        let mark = self.path.join(kafka_files::CLEAN_SHUTDOWN);
        self.fs.replace(&mark, kafka_files::CLEAN_SHUTDOWN_CONTENT.as_bytes(), None)
    }
}
