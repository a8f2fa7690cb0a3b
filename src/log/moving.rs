//! The files of a log on their way to another log directory.
//!
//! ```text
//!  passes, beside the appends: what is new of each segment is copied and synced | last pass, under the partition's lock
//!  sealed: .log .index .timeindex .txnindex .snapshot   active: .log            | active: the rest; epochs; the mark
//! ```
//! The copy lies under a name of its own until it is whole. Positions stay what they are, so the log in memory goes over
//! to the new files as it is ([`Log::move_to`]): nothing is read again. What a crash leaves is in docs/crash-safety.md.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use terrace_tiering::platform::fs::{Open, SharedFs};

use super::names::{self, INDEX, LOG, MOVED, SNAPSHOT, TIME_INDEX, TXN_INDEX};
use super::segment::{LogDirectory, Segment};
use super::view::LogView;
use super::{Log, LogError, leader_epochs};
use crate::log::kafka_files::{self, PARTITION_METADATA};
use crate::protocol::record_batch::Offset;

/// Read and written at once.
const PIECE_BYTES: usize = 256 << 10;
/// The files beside a `.log`.
const BESIDE: [&str; 4] = [INDEX, TIME_INDEX, TXN_INDEX, SNAPSHOT];

/// How far one segment is copied.
#[derive(Debug, Clone, Copy)]
struct Copied {
    /// A segment that was cleaned since is another one.
    serial: u64,
    bytes: u64,
    /// It gets no more records, and the files beside it are there too.
    whole: bool,
}

/// A copy that is being made.
#[derive(Debug)]
pub struct LogCopy {
    fs: SharedFs,
    path: PathBuf,
    segments: BTreeMap<Offset, Copied>,
    buffer: Vec<u8>,
}

/// Asked before each piece of a copy, with its bytes; an error ends the copy there.
pub type Pace<'a> = &'a mut dyn FnMut(u64) -> io::Result<()>;

impl LogCopy {
    /// A copy in `directory`, which is made. Its name is durable when the copy is whole.
    pub fn begin(directory: &LogDirectory) -> io::Result<Self> {
        directory.make()?;
        Ok(Self {
            fs: directory.fs.clone(),
            path: directory.path.clone(),
            segments: BTreeMap::new(),
            buffer: vec![0; PIECE_BYTES],
        })
    }

    /// Bytes of records that are there.
    pub fn bytes(&self) -> u64 {
        self.segments.values().map(|copied| copied.bytes).sum()
    }

    /// Bytes of records that are not copied yet.
    pub fn behind(&self, view: &LogView) -> u64 {
        let of_segment = |segment: &Arc<Segment>| match self.segments.get(&segment.base()) {
            Some(copied) if copied.serial == segment.serial() => segment.size().saturating_sub(copied.bytes),
            _ => segment.size(),
        };
        view.segments().iter().map(of_segment).sum()
    }

    /// Copies and syncs what is new in `view`, and drops what is no longer in it. NotFound when a file lost its name
    /// meanwhile: the next view tells more.
    pub fn pass(&mut self, view: &LogView, pace: Pace<'_>) -> io::Result<()> {
        let segments = view.segments();
        let gone = |base: &Offset| {
            let at = segments.partition_point(|segment| segment.base() < *base);
            segments.get(at).is_none_or(|segment| segment.base() != *base)
        };
        let gone: Vec<_> = self.segments.keys().copied().filter(gone).collect();
        for base in gone {
            self.segments.remove(&base);
            for extension in BESIDE.into_iter().chain([LOG]) {
                self.fs.remove_file(&names::segment_file(&self.path, base, extension))?;
            }
        }
        for (segment, _) in view.sealed() {
            if self.copy_records(segment, pace)? {
                self.copy_beside(segment)?;
                if let Some(copied) = self.segments.get_mut(&segment.base()) {
                    copied.whole = true;
                }
            }
        }
        if let Some(active) = view.segments().last() {
            self.copy_records(active, pace)?;
        }
        Ok(())
    }

    /// Copies the records of a segment that are not there yet. False when all of it is there.
    fn copy_records(&mut self, segment: &Arc<Segment>, pace: Pace<'_>) -> io::Result<bool> {
        let (base, serial, upto) = (segment.base(), segment.serial(), segment.size());
        let mut copied = match self.segments.get(&base) {
            Some(copied) if copied.serial == serial => *copied,
            _ => Copied { serial, bytes: 0, whole: false },
        };
        if copied.whole {
            return Ok(false);
        }
        let from = segment.file()?;
        let to = self.fs.open(&names::segment_file(&self.path, base, LOG), Open::Create)?;
        if copied.bytes == 0 {
            to.set_len(0)?;
        }
        while copied.bytes < upto {
            let piece = (upto - copied.bytes).min(PIECE_BYTES as u64);
            pace(piece)?;
            let buffer = &mut self.buffer[..piece as usize];
            from.read_exact_at(buffer, copied.bytes)?;
            to.write_all_at(buffer, copied.bytes)?;
            copied.bytes += piece;
            self.segments.insert(base, copied);
        }
        self.segments.insert(base, copied);
        to.sync_data()?;
        Ok(true)
    }

    /// Copies the files beside the records, which are small.
    fn copy_beside(&self, segment: &Segment) -> io::Result<()> {
        BESIDE.iter().try_for_each(|extension| self.copy_file(&segment.path(extension)))
    }

    /// Copies a small file, durably; none where there is none.
    fn copy_file(&self, from: &std::path::Path) -> io::Result<()> {
        let Some(name) = from.file_name() else { return Ok(()) };
        match self.fs.read(from) {
            Ok(bytes) => self.write(&self.path.join(name), &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.fs.remove_file(&self.path.join(name)),
            Err(error) => Err(error),
        }
    }

    fn write(&self, path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
        let file = self.fs.open(path, Open::Create)?;
        file.write_all_at(bytes, 0)?;
        file.set_len(bytes.len() as u64)?;
        file.sync_data()
    }

    /// Makes the copy whole: `log` is not appended to until it is moved. `snapshot_at` names the newest producer snapshot,
    /// `mark` is what the start after a crash reads of it. Durable when this returns.
    pub fn finish(&mut self, log: &Log, snapshot_at: Offset, mark: &[u8]) -> Result<(), LogError> {
        self.pass(log.view(), &mut |_| Ok(()))?;
        if let Some(active) = &log.active {
            active.segment.spill_index()?;
            self.copy_beside(&active.segment)?;
        }
        let directory = log.directory();
        self.copy_file(&names::segment_file(&directory.path, snapshot_at, SNAPSHOT))?;
        if log.epochs().latest().is_some() {
            self.write(&self.path.join(leader_epochs::FILE_NAME), log.epochs().to_text().as_bytes())?;
        }
        let identity = kafka_files::partition_metadata(directory.topic_id);
        self.write(&self.path.join(PARTITION_METADATA), identity.as_bytes())?;
        // All that it speaks of is durable before it is.
        self.fs.sync_dir(&self.path)?;
        self.fs.replace(&self.path.join(MOVED), mark, None)?;
        if let Some(log_dir) = self.path.parent() {
            self.fs.sync_dir(log_dir)?;
        }
        Ok(())
    }
}

impl Log {
    /// The same log over its copy, which [`LogCopy::finish`] made whole and which is at `directory` now. Readers of views
    /// before this find the files gone and look again.
    pub fn move_to(&mut self, directory: LogDirectory) {
        let directory = Arc::new(directory);
        let segments = self.view.segments().iter().map(|segment| segment.in_directory(&directory)).collect();
        let view = LogView { segments };
        if let (Some(active), Some(last)) = (&mut self.active, view.segments().last()) {
            active.segment = Arc::clone(last);
            active.reserved = 0;
        }
        self.view = Arc::new(view);
        self.directory = directory;
        self.flushed = self.end;
        (self.epochs_written, self.epochs_synced) = (self.epochs_version, self.epochs_version);
        self.names_unsynced = false;
    }
}
