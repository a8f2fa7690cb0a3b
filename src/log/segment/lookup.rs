//! Finding a place in a segment: by its indexes, then from batch to batch.

use std::io;
use std::sync::Arc;

use terrace_tiering::platform::fs::Open;

use super::{Segment, SegmentFile};
use crate::log::index::{self, IndexEntry};
use crate::log::offset_index::OffsetPosition;
use crate::log::segment_index::Lookup;
use crate::log::time_index::TimestampOffset;
use crate::log::walk::{Reach, WalkError};
use crate::protocol::record_batch::{BatchError, Offset};

impl Segment {
    /// The position and size of the first batch that ends at or behind `offset`; `None` when all end before.
    pub(in crate::log) fn find(self: &Arc<Self>, offset: Offset) -> Result<Option<(u64, u64)>, WalkError> {
        self.find_within(offset, Reach::Disk)
    }

    /// As [`Segment::find`], from the batch at `known` on if one is there.
    pub(in crate::log) fn find_from_known(
        self: &Arc<Self>,
        known: Option<u64>,
        offset: Offset,
        reach: Reach,
    ) -> Result<Option<(u64, u64)>, WalkError> {
        match known.map(|position| self.find_from(position, None, offset, reach)) {
            None | Some(Err(WalkError::Bad { .. })) => self.find_within(offset, reach),
            Some(found) => found,
        }
    }

    /// As [`Segment::find`], waiting for `reach` alone.
    pub(in crate::log) fn find_within(
        self: &Arc<Self>,
        offset: Offset,
        reach: Reach,
    ) -> Result<Option<(u64, u64)>, WalkError> {
        let (start, indexed) = self.start_for(offset, reach)?;
        match self.find_from(start, indexed, offset, reach) {
            // An index that names no batch, or another one, is damaged (or a cleaned segment's, which has just taken the
            // name): the records themselves decide.
            Err(WalkError::Bad { .. }) if start > 0 => self.find_from(0, None, offset, reach),
            found => found,
        }
    }

    /// Walks from `position`, where a batch that ends at `indexed` must begin.
    fn find_from(
        self: &Arc<Self>,
        position: u64,
        mut indexed: Option<Offset>,
        offset: Offset,
        reach: Reach,
    ) -> Result<Option<(u64, u64)>, WalkError> {
        let mut walk = self.walk(position)?.within(reach);
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
    fn start_for(self: &Arc<Self>, offset: Offset, reach: Reach) -> io::Result<(u64, Option<Offset>)> {
        let lookup = self.index().lookup(offset);
        let (found, in_memory) = match lookup {
            Lookup::Found(found) => (found, true),
            Lookup::OnDisk(entries) => (self.search_file(SegmentFile::Offsets, entries, offset, reach)?, false),
        };
        let position = |entry: OffsetPosition| (u64::from(entry.position), (!in_memory).then_some(entry.offset));
        Ok(found.map(position).filter(|(position, _)| *position < self.size()).unwrap_or((0, None)))
    }

    /// An offset such that no record before it is at `timestamp` or later.
    pub(in crate::log) fn start_for_time(self: &Arc<Self>, timestamp: i64) -> io::Result<Offset> {
        // Entries strictly older than the target: records at the target itself may lie before an entry's offset.
        let older = timestamp.saturating_sub(1);
        let lookup = self.index().lookup_time(older);
        let found: Option<TimestampOffset> = match lookup {
            Lookup::Found(found) => found,
            Lookup::OnDisk(entries) => self.search_file(SegmentFile::Times, entries, older, Reach::Disk)?,
        };
        Ok(found.map_or(self.base, |entry| entry.offset.max(self.base)))
    }

    /// Searches an index file; one that is missing or short has no answer.
    fn search_file<E: IndexEntry>(
        self: &Arc<Self>,
        which: SegmentFile,
        entries: usize,
        key: E::Key,
        reach: Reach,
    ) -> io::Result<Option<E>> {
        let file = match self.open(which, || self.directory.fs.open(&self.path(which.extension()), Open::Read)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match index::floor_in_file(&*file, self.base, entries, key, reach) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            other => other,
        }
    }
}
