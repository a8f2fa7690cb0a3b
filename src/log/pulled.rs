//! Segments that come back from the tier, the newest first, so that the local log has no gap at any moment.
//!
//! ```text
//! <base>.log.pulled   written, synced, checked      a crash: the start removes it
//! <base>.txnindex     and the producers behind it, synced; the start removes an index that has no log
//! <base>.log          renamed, durable: it is part of the log, also for a start
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use terrace_tiering::platform::fs::{Open, SharedFile, SharedFs};

use super::names::{self, LOG, PULLED, SNAPSHOT, TXN_INDEX};
use super::recovery::{Found, indexes};
use super::segment::{LogDirectory, Segment};
use super::txn_index::AbortedTransaction;
use super::view::LogView;
use super::{Log, LogError};
use crate::config::topic::TopicConfig;
use crate::protocol::record_batch::Offset;

/// A segment that is being written, under a name that no log has. Dropped without a better one it goes.
#[derive(Debug)]
pub struct PulledFile {
    base: Offset,
    file: SharedFile,
    directory: PathBuf,
    fs: SharedFs,
    is_named: bool,
}

/// What is known of a segment whose records are all there, checked.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The offset behind it, where the local log begins.
    pub next: Offset,
    /// Bytes of its records.
    pub bytes: u64,
    /// The aborted transactions whose markers it has, by the place of the markers.
    pub aborted: Vec<AbortedTransaction>,
    /// There are others, whose markers lie behind it.
    pub has_open: bool,
    /// The producers behind it, as Kafka's `.snapshot` file; empty when there is none.
    pub producer_snapshot: Bytes,
}

impl PulledFile {
    /// An empty file in the partition's directory, which is made.
    pub fn create(directory: &LogDirectory, base: Offset) -> io::Result<Self> {
        directory.make()?;
        let path = names::segment_file(&directory.path, base, PULLED);
        directory.fs.remove_file(&path)?;
        let file = directory.fs.open(&path, Open::CreateNew)?;
        Ok(Self { base, file, directory: directory.path.clone(), fs: directory.fs.clone(), is_named: false })
    }

    /// The segment's records go here.
    pub fn records(&self) -> &SharedFile {
        &self.file
    }

    /// The partition's directory when it was begun.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the records, and what goes beside them, durable and gives them their names. From here on a start takes the
    /// segment for a part of the log, so nothing else may begin or end the log's files meanwhile.
    pub fn name(
        mut self,
        directory: &Arc<LogDirectory>,
        pulled: &Pulled,
        config: &TopicConfig,
    ) -> Result<Arc<Segment>, LogError> {
        self.file.sync_data()?;
        let fs = &directory.fs;
        let put = |path: PathBuf, bytes: &[u8]| -> io::Result<()> {
            let file = fs.open(&path, Open::Create)?;
            file.write_all_at(bytes, 0)?;
            file.set_len(bytes.len() as u64)?;
            file.sync_data()
        };
        let beside = |extension, offset| names::segment_file(&directory.path, offset, extension);
        fs.remove_file(&beside(TXN_INDEX, self.base))?;
        if !pulled.aborted.is_empty() {
            let entries: Vec<u8> = pulled.aborted.iter().flat_map(AbortedTransaction::to_bytes).collect();
            put(beside(TXN_INDEX, self.base), &entries)?;
        }
        let producers = beside(SNAPSHOT, pulled.next);
        if !pulled.producer_snapshot.is_empty() && !fs.exists(&producers) {
            put(producers, &pulled.producer_snapshot)?;
        }
        fs.rename(&beside(PULLED, self.base), &beside(LOG, self.base))?;
        self.is_named = true;
        let found = Found { base: self.base, size: pulled.bytes };
        let index = indexes::of_sealed(directory, found, pulled.next, config)?;
        let segment = Segment::sealed(directory, self.base, pulled.bytes, index);
        segment.set_aborted_count(pulled.aborted.len());
        Ok(segment)
    }
}

impl Drop for PulledFile {
    fn drop(&mut self) {
        if !self.is_named {
            // What stays is removed by the next try, or by the next start.
            let _ = self.fs.remove_file(&names::segment_file(&self.directory, self.base, PULLED));
        }
    }
}

impl Log {
    /// Shows a segment, whose files have their names, in front of all others. The log has an active segment.
    pub fn prepend(&mut self, segment: Arc<Segment>) {
        self.view = Arc::new(LogView { segments: self.view.segments.with_oldest(segment) });
    }

    /// Does everything below `offset` survive a power loss, names and leader epochs included? Asked while no flush runs.
    pub fn is_durable_below(&self, offset: Offset) -> bool {
        self.flushed >= offset && !self.names_unsynced && !self.has_unsynced_epochs()
    }
}
