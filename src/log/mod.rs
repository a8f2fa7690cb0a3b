//! The files of one partition: an append-only list of segments in Kafka's format, on the local disk.
//!
//! ```text
//! <topic>-<partition>/  <base>.log  .index  .timeindex  .txnindex  .snapshot   leader-epoch-checkpoint  partition.metadata
//! ```
//! A [`Log`] belongs to one partition and is used under its lock; it is synchronous and decides nothing about offsets
//! or durability. Nothing is on disk before the first append. Written bytes become visible by [`LogView`]s and marks
//! that the partition hands to its readers. What a crash leaves at each step is in docs/crash-safety.md;
//! [`recovery`] puts it right.

mod boundary;
pub mod checkpoint;
pub mod cleaner;
pub mod copies;
pub mod copy_lag;
mod flush;
pub mod index;
pub mod kafka_files;
pub mod leader_epochs;
pub mod moving;
pub mod names;
pub mod offset_index;
pub mod open_files;
pub mod pulled;
pub mod recovery;
mod replace;
pub mod retention;
mod roll;
pub mod segment;
mod segment_index;
pub mod segment_list;
mod text_file;
pub mod time_index;
pub mod txn_index;
pub mod view;
pub mod walk;

use std::io;
use std::sync::Arc;

use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::platform::fs::SharedFile;
use terrace_tiering::platform::random::Random;

pub use flush::{EpochsFile, Flush, Haste};
pub use roll::Incoming;
pub use text_file::TextFileError;

use self::leader_epochs::EpochCache;
use self::segment::{LogDirectory, Segment};
use self::view::{LogView, Mark};
use crate::config::topic::TopicConfig;
use crate::protocol::record_batch::{BatchView, LeaderEpoch, Offset};

/// Segments that reach this size reserve blocks ahead; most partitions of a node with many never do.
const RESERVE_FROM_BYTES: u64 = 4 << 20;
/// How much they reserve at once.
const RESERVE_BYTES: u64 = 8 << 20;

/// Why the local log could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file failed; the log is as it was before.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file failed, and so did putting it back: nothing may be appended any more.
    #[error("{write}; cutting the file back failed: {repair}")]
    Unrepaired {
        /// What failed first.
        write: io::Error,
        /// What failed then.
        repair: io::Error,
    },
    /// Published bytes are not what they were.
    #[error("{0}")]
    Corrupt(String),
}

/// The segment that takes appends.
#[derive(Debug)]
struct Active {
    segment: Arc<Segment>,
    position: u64,
    /// Up to where blocks are reserved; below `position` when none are.
    reserved: u64,
    /// Wall time of its first append; `None` while it is empty.
    first_append_ms: Option<i64>,
    /// Taken off `segment.ms`, so that partitions don't roll together.
    jitter_ms: i64,
}

impl Active {
    /// Reserves blocks for the next appends of a segment that grows: cheaper than one allocation for each.
    fn reserve(&mut self, file: &SharedFile, bytes: u64, segment_bytes: u64) {
        let end = self.position + bytes;
        if end <= self.reserved || end < RESERVE_FROM_BYTES {
            return;
        }
        let len = RESERVE_BYTES.min(segment_bytes.saturating_sub(self.position)).max(bytes);
        // It is only a favour to the file system; one that knows none is not asked again for this segment.
        self.reserved = match file.reserve(self.position, len) {
            Ok(()) => self.position + len,
            Err(_) => u64::MAX,
        };
    }

    /// Gives back what is reserved behind the last record.
    fn give_back(&mut self) -> io::Result<()> {
        if self.reserved > self.position && self.reserved < u64::MAX {
            self.segment.file()?.set_len(self.position)?;
        }
        self.reserved = 0;
        Ok(())
    }
}

/// The local log of one partition.
#[derive(Debug)]
pub struct Log {
    directory: Arc<LogDirectory>,
    view: Arc<LogView>,
    active: Option<Active>,
    end: Offset,
    /// Bytes appended since it was opened.
    bytes: u64,
    epochs: EpochCache,
    /// Rises with every change of `epochs`.
    epochs_version: u64,
    /// The version that the file has.
    epochs_written: u64,
    /// While that is an older one: of the log's offsets below, the file has all epochs. A start finds the others from
    /// there on, and needs the producers as of there: it never lies below the first segment, whose snapshot has them.
    epochs_written_below: Offset,
    /// The version that survives a power loss.
    epochs_synced: u64,
    /// Everything below survives a power loss.
    flushed: Offset,
    /// Names were made in the directory since its last sync.
    names_unsynced: bool,
}

impl Log {
    /// A log without files that begins at `start`.
    pub fn create(directory: LogDirectory, start: Offset) -> Self {
        Self {
            directory: Arc::new(directory),
            view: Arc::default(),
            active: None,
            end: start,
            bytes: 0,
            epochs: EpochCache::default(),
            epochs_version: 0,
            epochs_written: 0,
            epochs_written_below: start,
            epochs_synced: 0,
            flushed: start,
            names_unsynced: false,
        }
    }

    /// Where its files are.
    pub fn directory(&self) -> &Arc<LogDirectory> {
        &self.directory
    }

    /// What readers may look at, together with a mark.
    pub fn view(&self) -> &Arc<LogView> {
        &self.view
    }

    /// The next offset to be written.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// First offset that the local files may hold.
    pub fn start(&self) -> Offset {
        self.view.segments.first().map_or(self.end, |segment| segment.base())
    }

    /// The end of the log as a mark.
    pub fn end_mark(&self) -> Mark {
        let (segment, position) = match &self.active {
            Some(active) => (active.segment.base(), active.position),
            None => (self.end, 0),
        };
        Mark { offset: self.end, segment, position, bytes: self.bytes }
    }

    /// Has it no files, so that nothing was ever appended or all of it is gone?
    pub fn is_untouched(&self) -> bool {
        self.active.is_none()
    }

    /// Leader epochs of the whole log, its remote part included.
    pub fn epochs(&self) -> &EpochCache {
        &self.epochs
    }

    /// Changes the leader epochs in whatever way; their file follows, and until then a start looks at all that is not
    /// flushed.
    pub fn epochs_mut(&mut self) -> &mut EpochCache {
        (self.epochs_version, self.epochs_written_below) = (self.epochs_version + 1, Offset::MIN);
        &mut self.epochs
    }

    /// The log now starts at `start`. Of what is left the file says no less than before.
    pub fn drop_epochs_below(&mut self, start: Offset) {
        let all_written = self.epochs_written == self.epochs_version;
        if self.epochs.truncate_from_start(start) {
            self.epochs_version += 1;
            self.epochs_written_below = if all_written { self.end } else { self.epochs_written_below.max(start) };
        }
    }

    /// Takes note that records from `offset` on are of `epoch`.
    fn assign_epoch(&mut self, epoch: LeaderEpoch, offset: Offset) {
        let all_written = self.epochs_written == self.epochs_version;
        if self.epochs.assign(epoch, offset) {
            self.epochs_version += 1;
            let below = if all_written { offset } else { self.epochs_written_below.min(offset) };
            self.epochs_written_below = below;
        }
    }

    /// Appends whole, stamped batches (the first at [`Log::end`], the others following on) by one write, then publishes
    /// them. The first append of all makes directory and file (`random`, asked only then, gives the segment's jitter).
    /// After an error nothing is published and the file is cut back to the published end.
    pub fn append(
        &mut self,
        bytes: &[u8],
        epoch: LeaderEpoch,
        config: &TopicConfig,
        now_ms: i64,
        random: &dyn Random,
    ) -> Result<(), LogError> {
        if self.active.is_none() {
            self.begin(config, random)?;
        }
        let Some(active) = &mut self.active else {
            return Err(LogError::Corrupt("log without an active segment".into()));
        };
        let file = active.segment.file()?;
        active.reserve(&file, bytes.len() as u64, config.segment_bytes.into());
        crash_point::reach(CrashPoint::AppendBeforeWrite);
        if let Err(write) = file.write_all_at(bytes, active.position) {
            return Err(match file.set_len(active.position) {
                Ok(()) => LogError::Io(write),
                Err(repair) => LogError::Unrepaired { write, repair },
            });
        }
        crash_point::reach(CrashPoint::AppendAfterWrite);

        let mut rest = bytes;
        let mut position = active.position;
        let mut index = active.segment.index();
        while let Ok((batch, behind)) = BatchView::split_first(rest) {
            let len = batch.bytes().len() as u64;
            index.note(position, len, batch.last_offset(), batch.max_timestamp(), config.index_interval_bytes);
            self.end = batch.next_offset();
            position += len;
            rest = behind;
        }
        drop(index);
        debug_assert!(rest.is_empty(), "an append consists of whole batches");
        let first = BatchView::split_first(bytes).map_or(self.end, |(batch, _)| batch.base_offset());
        active.position = position;
        active.first_append_ms.get_or_insert(now_ms);
        active.segment.publish_size(position);
        self.bytes += bytes.len() as u64;
        self.assign_epoch(epoch, first);
        Ok(())
    }

    /// Takes the segments that end at or below `offset` out of the view; the active one stays. Their files are removed
    /// by the caller, off the lock and oldest first, so that a crash between leaves a log without a gap.
    #[must_use = "the files of the segments remain until they are removed"]
    pub fn advance_start(&mut self, offset: Offset) -> Vec<Arc<Segment>> {
        let gone = self.view.sealed().take_while(|(_, end)| *end <= offset).count();
        if gone == 0 {
            return Vec::new();
        }
        let (segments, removed) = self.view.segments.without_oldest(gone);
        self.view = Arc::new(LogView { segments });
        removed
    }
}
