//! The last flush of a log directory: one sync of the whole file system where that is cheaper than one for each file.

use std::io;
use std::path::Path;
use std::sync::Arc;

use terrace_tiering::platform::fs::SharedFs;

use super::open::NO_SNAPSHOT;
use super::{Partition, State};
use crate::log::{Flush, Haste};

/// With more dirty partitions the file system is synced as a whole: a partition alone takes half a dozen syncs of some
/// milliseconds each.
const EACH_MAX: usize = 16;

/// Makes all that `partitions` hold durable, indexes and producers included. Nothing is appended any more. Blocks.
pub(super) fn make_durable(fs: &SharedFs, log_dir: &Path, partitions: &[Arc<Partition>]) -> io::Result<()> {
    let mut dirty = Vec::new();
    for partition in partitions {
        if let Some(flush) = partition.begin_close()? {
            dirty.push((partition, flush));
        }
    }
    let at_once = dirty.len() > EACH_MAX && {
        dirty.iter().try_for_each(|(_, flush)| flush.write_epochs())?;
        match fs.sync_file_system(log_dir) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => false,
            synced => synced.map(|()| true)?,
        }
    };
    for (partition, flush) in &dirty {
        if !at_once {
            flush.run(Haste::Now)?;
        }
        partition.note_closed(flush);
    }
    Ok(())
}

impl Partition {
    /// Writes what is only in memory; what is then to be synced.
    fn begin_close(&self) -> io::Result<Option<Flush>> {
        let mut state = self.raw();
        let State::Online(online) = &mut *state else { return Ok(None) };
        online.log.seal_index().map_err(io::Error::other)?;
        // Where nobody ever wrote with a producer id the checkpoint says so, and Kafka takes no snapshot for an empty one.
        if online.snapshot_at != NO_SNAPSHOT || !online.producers.is_empty() {
            self.take_snapshot(online).map_err(io::Error::other)?;
        }
        Ok(online.log.begin_flush())
    }

    fn note_closed(&self, flush: &Flush) {
        if let State::Online(online) = &mut *self.raw() {
            online.log.note_flushed(flush);
            self.mark_changed(online);
        }
    }
}
