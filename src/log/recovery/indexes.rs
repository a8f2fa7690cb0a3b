//! How far the index files of a start are believed.

use std::io;
use std::sync::Arc;

use terrace_tiering::platform::fs::{Open, SharedFile};

use super::super::LogError;
use super::super::index::IndexEntry;
use super::super::names::{self, INDEX, LOG, TIME_INDEX};
use super::super::offset_index::{OffsetIndex, OffsetPosition};
use super::super::segment::LogDirectory;
use super::super::segment_index::SegmentIndex;
use super::super::time_index::{TimeIndex, TimestampOffset};
use super::super::walk::HeaderWalk;
use super::Found;
use crate::config::topic::TopicConfig;
use crate::protocol::record_batch::{BatchView, HEADER_BYTES, Offset};

/// The index of a sealed segment that ends before `end`: the files' if their last entries name what is there, else
/// built anew from the batch headers.
pub(in crate::log) fn of_sealed(
    directory: &Arc<LogDirectory>,
    found: Found,
    end: Offset,
    config: &TopicConfig,
) -> Result<SegmentIndex, LogError> {
    let log = directory.fs.open(&names::segment_file(&directory.path, found.base, LOG), Open::Read)?;
    let offsets = last_entry::<OffsetPosition>(directory, found.base, INDEX)?;
    let times = last_entry::<TimestampOffset>(directory, found.base, TIME_INDEX)?;
    if let (Some((offsets, last)), Some((times, last_time))) = (offsets, times) {
        let in_segment = last_time.timestamp >= 0 && (found.base..end).contains(&last_time.offset);
        if in_segment && batch_named(&log, found.size, last.position.into(), last.offset)?.is_some() {
            let max_bytes = config.segment_index_bytes;
            return Ok(SegmentIndex::on_disk(found.base, max_bytes, offsets, times, Some(last_time)));
        }
    }
    let mut index = SegmentIndex::new(found.base, config.segment_index_bytes);
    let mut walk = HeaderWalk::new(log, 0, found.size);
    while let Some(stop) = walk.step()? {
        let (last_offset, max_timestamp) = (stop.header.last_offset(), stop.header.max_timestamp());
        index.note(stop.position, stop.bytes, last_offset, max_timestamp, config.index_interval_bytes);
    }
    index.seal();
    index.spill(&directory.fs, &directory.path, found.base)?;
    Ok(index)
}

/// The index of a segment for all before `upto`, and where the batch of its last entry begins. Nothing, and the
/// segment's beginning, when the files cannot be believed.
pub(super) fn below(
    directory: &Arc<LogDirectory>,
    found: Found,
    upto: Offset,
    log: &SharedFile,
    config: &TopicConfig,
) -> Result<(SegmentIndex, u64), LogError> {
    let max_bytes = config.segment_index_bytes;
    let nothing = || (SegmentIndex::new(found.base, max_bytes), 0);
    let useful = OffsetIndex::useful_bytes(found.size);
    let offsets =
        OffsetIndex::load_for(found.base, max_bytes, &read(directory, found.base, INDEX, useful)?, found.size);
    let Some((kept, entry)) = offsets.entries().take_while(|entry| entry.offset < upto).enumerate().last() else {
        return Ok(nothing());
    };
    // Where that batch is not whole, the walk has to find the end of those before it.
    let end = batch_named(log, found.size, entry.position.into(), entry.offset)?;
    if end.is_none_or(|end| end > found.size) {
        return Ok(nothing());
    }
    let useful = TimeIndex::useful_bytes(found.size);
    let bytes = read(directory, found.base, TIME_INDEX, useful)?;
    let times = TimeIndex::load_for(found.base, max_bytes, &bytes, entry.offset + 1);
    let Some(last_time) = times.last() else { return Ok(nothing()) };
    let index = SegmentIndex::on_disk(found.base, max_bytes, kept + 1, times.len(), Some(last_time));
    Ok((index, entry.position.into()))
}

/// Does a batch that ends at `offset` begin at `position`? Then the position behind it, by its header.
fn batch_named(log: &SharedFile, size: u64, position: u64, offset: Offset) -> io::Result<Option<u64>> {
    if position.checked_add(HEADER_BYTES as u64).is_none_or(|end| end > size) {
        return Ok(None);
    }
    let mut header = [0; HEADER_BYTES];
    log.read_exact_at(&mut header, position)?;
    let named = BatchView::header_only(&header).ok().filter(|(batch, _)| batch.last_offset() == offset);
    Ok(named.map(|(_, bytes)| position + bytes as u64))
}

/// Number of entries and the last one; `None` for a file that is missing, empty or ends in the middle of an entry.
fn last_entry<E: IndexEntry>(
    directory: &LogDirectory,
    base: Offset,
    extension: &str,
) -> io::Result<Option<(usize, E)>> {
    let file = match directory.fs.open(&names::segment_file(&directory.path, base, extension), Open::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let len = file.len()?;
    let entry_bytes = E::BYTES as u64;
    if len == 0 || len % entry_bytes != 0 {
        return Ok(None);
    }
    let mut bytes = [0; 16];
    let bytes = &mut bytes[..E::BYTES];
    file.read_exact_at(bytes, len - entry_bytes)?;
    Ok(Some(((len / entry_bytes) as usize, E::decode(base, bytes))))
}

/// At most `most` bytes of an index file; none when it is missing.
fn read(directory: &LogDirectory, base: Offset, extension: &str, most: u64) -> io::Result<Vec<u8>> {
    let file = match directory.fs.open(&names::segment_file(&directory.path, base, extension), Open::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; usize::try_from(file.len()?.min(most)).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
