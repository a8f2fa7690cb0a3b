//! Making a log durable, in three steps: take what is dirty under the partition's lock, sync it without the lock, note
//! the new flushed end under the lock.

use std::io;
use std::sync::Arc;

use terrace_tiering::platform::fs::Open;

use super::leader_epochs;
use super::segment::{LogDirectory, Segment};
use super::{Log, LogError};
use crate::protocol::record_batch::Offset;

/// Who waits for a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// Somebody: as fast as the disk goes.
    Now,
    /// Nobody, and others sync at the same time who are waited for: in small steps.
    InSteps,
}

/// A log shorter than this has no file of leader epochs until it is synced: of thousands of partitions made at once the
/// first checkpoint would write as many. About as much as its index keeps in memory.
const EPOCHS_FROM_BYTES: u64 = 128 << 10;

/// What has to be synced so that everything below [`Flush::upto`] survives a power loss.
#[derive(Debug)]
pub struct Flush {
    directory: Arc<LogDirectory>,
    segments: Vec<Arc<Segment>>,
    epochs: Option<EpochsFile>,
    names: bool,
    upto: Offset,
}

impl Flush {
    /// The flushed end once [`Flush::run`] is done.
    pub fn upto(&self) -> Offset {
        self.upto
    }

    /// Syncs. The directory comes last, so that a name never points at what is not there.
    pub fn run(&self, haste: Haste) -> io::Result<()> {
        if let Some(epochs) = &self.epochs {
            epochs.write_durably()?;
        }
        for segment in &self.segments {
            match segment.sync(haste) {
                // Removed by retention meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
        }
        if self.names { self.directory.sync_names() } else { Ok(()) }
    }
}

impl Flush {
    /// Writes the leader epochs, which whoever syncs the whole file system then makes durable.
    pub fn write_epochs(&self) -> io::Result<()> {
        self.epochs.as_ref().map_or(Ok(()), EpochsFile::write)
    }
}

impl Log {
    /// Everything below survives a power loss.
    pub fn flushed(&self) -> Offset {
        self.flushed
    }

    /// What is dirty; `None` when nothing is.
    pub fn begin_flush(&mut self) -> Option<Flush> {
        if self.flushed >= self.end && !self.has_unsynced_epochs() && !self.names_unsynced {
            return None;
        }
        let first = self.view.segments.partition_point(|segment| segment.base() <= self.flushed).saturating_sub(1);
        Some(Flush {
            directory: Arc::clone(&self.directory),
            segments: self.view.segments.iter_from(first).cloned().collect(),
            epochs: self.has_unsynced_epochs().then(|| self.epochs_file()),
            names: std::mem::take(&mut self.names_unsynced),
            upto: self.end,
        })
    }

    /// A flush has run.
    pub fn note_flushed(&mut self, flush: &Flush) {
        if !Arc::ptr_eq(&flush.directory, &self.directory) {
            // It has moved meanwhile, and everything with it was synced.
            return;
        }
        self.flushed = self.flushed.max(flush.upto).min(self.end);
        if let Some(epochs) = &flush.epochs {
            self.note_epochs_written(epochs);
            self.epochs_synced = self.epochs_synced.max(epochs.version);
        }
    }

    /// Writes the index tail to its files if it has grown. Called before a checkpoint names this log's end; syncs nothing.
    pub fn spill_index(&mut self) -> Result<(), LogError> {
        match &self.active {
            Some(active) => Ok(active.segment.spill_grown_index()?),
            None => Ok(()),
        }
    }

    /// The log is being closed: its index files become what a sealed segment's are, and what was reserved behind the
    /// last record is given back. A segment too short for an entry gets no files: whoever opens it, we or Kafka, walks
    /// its few batches anyway.
    pub fn seal_index(&mut self) -> Result<(), LogError> {
        if let Some(active) = &mut self.active {
            if active.segment.index().has_offsets() {
                active.segment.index().seal();
                active.segment.spill_index()?;
            }
            active.give_back()?;
        }
        Ok(())
    }

    /// Do the leader epochs have entries that their file lacks?
    fn has_unwritten_epochs(&self) -> bool {
        self.active.is_some() && self.epochs_written < self.epochs_version
    }

    /// Everything below is written, indexed and has its leader epoch in the file: a start after a crash of the process
    /// may trust it.
    pub fn checked_end(&self) -> Offset {
        if self.has_unwritten_epochs() { self.epochs_written_below.max(self.flushed) } else { self.end }
    }

    /// The leader epochs, if their file lacks some and shall have them by the next checkpoint: to be written off the lock
    /// before the checkpoint names this log's end.
    pub fn due_epochs(&self) -> Option<EpochsFile> {
        self.has_due_epochs().then(|| self.epochs_file())
    }

    /// Does the file lack leader epochs that it shall have? A short log whose batches tell them all does without: a start
    /// walks such a log in no more time than the file would take.
    pub fn has_due_epochs(&self) -> bool {
        self.has_unwritten_epochs() && {
            let earliest = self.epochs.earliest().map_or(self.end, |first| first.start_offset);
            let is_short = self.view.segments().len() == 1 && self.view.size() < EPOCHS_FROM_BYTES;
            !is_short || earliest < self.start()
        }
    }

    pub(super) fn has_unsynced_epochs(&self) -> bool {
        self.active.is_some() && self.epochs_synced < self.epochs_version
    }

    fn epochs_file(&self) -> EpochsFile {
        EpochsFile { directory: Arc::clone(&self.directory), version: self.epochs_version, text: self.epochs.to_text() }
    }

    /// The file has them now.
    pub fn note_epochs_written(&mut self, file: &EpochsFile) {
        if !Arc::ptr_eq(&file.directory, &self.directory) {
            return;
        }
        self.epochs_written = self.epochs_written.max(file.version);
    }
}

/// The next content of `leader-epoch-checkpoint`.
#[derive(Debug)]
pub struct EpochsFile {
    directory: Arc<LogDirectory>,
    version: u64,
    text: String,
}

impl EpochsFile {
    /// Writes the file unless a later version is there already: the sync thread and the checkpoint both write it. What a
    /// checkpoint names survives the process (the first file may be left empty before that: it counts as none); a loss
    /// of power sends the next start to the flushed end, and that moved only behind
    /// [`EpochsFile::write_durably`].
    pub fn write(&self) -> io::Result<()> {
        let mut on_disk = self.directory.epochs_on_disk();
        if on_disk.written < self.version {
            let path = self.directory.path.join(leader_epochs::FILE_NAME);
            self.directory.fs.put_unsynced(&path, self.text.as_bytes())?;
            on_disk.written = self.version;
        }
        Ok(())
    }

    /// The same, durably.
    fn write_durably(&self) -> io::Result<()> {
        let mut on_disk = self.directory.epochs_on_disk();
        if on_disk.synced < self.version {
            let (fs, path) = (&self.directory.fs, self.directory.path.join(leader_epochs::FILE_NAME));
            if on_disk.written > self.version {
                // A later version is there, and says all that this one does.
                fs.open(&path, Open::Write)?.sync_data()?;
                fs.sync_dir(&self.directory.path)?;
            } else {
                fs.replace(&path, self.text.as_bytes(), None)?;
                on_disk.written = self.version;
            }
            on_disk.synced = self.version;
        }
        Ok(())
    }
}
