//! Where the records of a log directory's write-ahead log go at a start: which partition's file, and whether still.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use terrace_tiering::platform::fs::SharedFs;

use super::open::Known;
use crate::log::names::{self, LOG};
use crate::log::open_files::OpenFiles;
use crate::log::segment::LogDirectory;
use crate::metadata::image::{Image, PartitionId};
use crate::wal::record::Place;
use crate::wal::replay::Destination;

/// The partitions of one log directory, as metadata and checkpoint know them.
pub(super) struct LogDirectories<'a> {
    pub(super) fs: &'a SharedFs,
    pub(super) log_dir: &'a Path,
    pub(super) image: &'a Image,
    pub(super) known: &'a HashMap<PartitionId, Known>,
    /// Has another directory this partition? It has moved there with all its records.
    pub(super) elsewhere: &'a dyn Fn(PartitionId) -> bool,
}

impl LogDirectories<'_> {
    /// The partition's directory; `None` when metadata no longer knows the partition.
    fn path(&self, place: &Place) -> Option<PathBuf> {
        let topic = self.image.topic_by_id(&place.topic)?;
        let alive = (0..topic.partition_count).contains(&place.partition);
        alive.then(|| self.log_dir.join(names::partition_dir(&topic.name, place.partition)))
    }

    fn directory(&self, place: &Place) -> io::Result<LogDirectory> {
        let path = self.path(place).ok_or(io::ErrorKind::NotFound)?;
        // Nothing is kept open: segments are not looked at here.
        Ok(LogDirectory::new(self.fs.clone(), OpenFiles::new(1), path, place.topic))
    }
}

impl Destination for LogDirectories<'_> {
    fn wanted(&self, place: &Place) -> Option<PathBuf> {
        let directory = self.path(place)?;
        let id = PartitionId { topic: place.topic, partition: place.partition };
        // What lies below the log start is put back as well: the scan of its segment needs bytes without a hole.
        let is_flushed = self.known.get(&id).is_some_and(|known| place.base_offset < known.marks.flushed_end);
        (!is_flushed && !(self.elsewhere)(id)).then(|| names::segment_file(&directory, place.segment, LOG))
    }

    fn make_directory(&self, place: &Place) -> io::Result<()> {
        self.directory(place)?.make()
    }

    fn sync_names(&self, place: &Place) -> io::Result<()> {
        self.directory(place)?.sync_names()
    }
}
