//! What readers see of a partition's local log: an immutable list of segments, swapped as a whole.
//!
//! A reader holds a view for as long as it likes; the segments it lists may lose their names meanwhile, and then the
//! reader asks the partition for the next view.

use std::ops::Range;
use std::sync::Arc;

use terrace_tiering::platform::fs::SharedFile;

use super::LogError;
use super::copies::{COPIED_BYTES_MAX, Copies};
use super::segment::Segment;
use super::segment_list::SegmentList;
use super::time_index::TimestampOffset;
use super::walk::{Reach, WalkError};
use crate::protocol::record_batch::{BatchView, Offset};

/// Bytes of one file, whole batches from its beginning on (the last batch may be cut at a limit, as Kafka does).
#[derive(Debug, Clone)]
pub struct FileRange {
    /// The file; holding it keeps the bytes readable even when the name is gone.
    pub file: SharedFile,
    /// Where the first batch begins.
    pub position: u64,
    /// How many bytes.
    pub len: u64,
}

/// A batch boundary: an offset and where its record begins or will begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The offset.
    pub offset: Offset,
    /// Base offset of the segment.
    pub segment: Offset,
    /// Position in that segment's file.
    pub position: u64,
    /// Bytes appended below it since the log was opened; differences of marks count bytes.
    pub bytes: u64,
}

/// What a reader asks of a log.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// From the batch that holds this offset, or the next one.
    pub from: Offset,
    /// Below this.
    pub upto: Mark,
    /// At most so much.
    pub max_bytes: u64,
    /// The first batch even if it is larger.
    pub min_one: bool,
    /// What the look-up may wait for.
    pub reach: Reach,
    /// Where the last read of this reader ended.
    pub place: Option<Place>,
}

/// Where a batch begins, as the read of the one before it saw it: no look-up is needed for who goes on there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The offset behind the batch before.
    offset: Offset,
    /// [`Segment::serial`]: a segment that was cleaned since is another one.
    segment: u64,
    position: u64,
}

impl Place {
    fn position_of(&self, offset: Offset, segment: &Segment) -> Option<u64> {
        (self.offset == offset && self.segment == segment.serial()).then_some(self.position)
    }
}

/// What a read found.
#[derive(Debug)]
pub struct Found {
    /// The records.
    pub range: FileRange,
    /// They themselves, if they are few.
    pub copied: Option<Copied>,
}

/// Records that were copied.
#[derive(Debug)]
pub struct Copied {
    /// Where they are among the [`Copies`].
    pub at: Range<usize>,
    /// Where their last whole batch ends.
    pub next: Place,
}

/// The segments of a local log, by base offset.
#[derive(Debug, Clone, Default)]
pub struct LogView {
    pub(super) segments: SegmentList,
}

impl LogView {
    /// All segments, the active one last.
    pub fn segments(&self) -> &SegmentList {
        &self.segments
    }

    /// All segments but the active one, each with the offset behind its last.
    pub fn sealed(&self) -> impl DoubleEndedIterator<Item = (&Arc<Segment>, Offset)> + '_ {
        let next = self.segments.iter_from(1).map(|next| next.base());
        self.segments.iter().take(next.len()).zip(next)
    }

    /// Bytes of all segments.
    pub fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size()).sum()
    }

    /// The segments that may hold `offset` or later ones.
    fn from(&self, offset: Offset) -> impl Iterator<Item = &Arc<Segment>> {
        let behind = self.segments.partition_point(|segment| segment.base() <= offset);
        self.segments.iter_from(behind.saturating_sub(1))
    }

    /// Base offset of the segment that `offset` falls into.
    pub fn segment_of(&self, offset: Offset) -> Option<Offset> {
        self.from(offset).next().map(|segment| segment.base())
    }

    /// The records that are wanted, all of one segment. The first batch is whole, or there is nothing. Few of them are
    /// copied at once, as long as `copies` has room.
    pub fn read(&self, wanted: &Wanted, mut copies: Option<&mut Copies>) -> Result<Option<Found>, LogError> {
        let Wanted { from, upto, max_bytes, min_one, reach, place } = *wanted;
        if from >= upto.offset {
            return Ok(None);
        }
        for segment in self.from(from) {
            let end = match segment.base().cmp(&upto.segment) {
                std::cmp::Ordering::Less => segment.size(),
                // A mark at the end of a segment that was compacted since lies behind what is left of it.
                std::cmp::Ordering::Equal => upto.position.min(segment.size()),
                std::cmp::Ordering::Greater => return Ok(None),
            };
            let known = place.and_then(|place| place.position_of(from, segment)).filter(|position| *position < end);
            if let (Some(position), Some(copies)) = (known, copies.as_deref_mut()) {
                let range = FileRange { file: segment.file()?, position, len: (end - position).min(max_bytes) };
                if let Some(copied) = copy(segment, &range, from, copies)? {
                    return Ok(Some(Found { range, copied: Some(copied) }));
                }
            }
            let Some((position, first)) = segment.find_from_known(known, from, reach)? else { continue };
            if position >= end {
                continue;
            }
            if first > max_bytes && !min_one {
                return Ok(None);
            }
            let len = (end - position).min(max_bytes.max(if min_one { first } else { 0 }));
            if len == 0 {
                return Ok(None);
            }
            let range = FileRange { file: segment.file()?, position, len };
            let copied = copies.map_or(Ok(None), |copies| copy(segment, &range, from, copies))?;
            return Ok(Some(Found { range, copied }));
        }
        Ok(None)
    }

    /// The first batch, at or behind `from` and below the mark, whose largest timestamp is at least `timestamp`: its
    /// range in its file.
    pub fn find_time(&self, timestamp: i64, from: Offset, upto: &Mark) -> Result<Option<FileRange>, LogError> {
        for segment in self.from(from) {
            if segment.base() >= upto.offset {
                break;
            }
            if segment.largest_timestamp().timestamp < timestamp {
                continue;
            }
            let start = segment.start_for_time(timestamp)?.max(from);
            let Some((position, _)) = segment.find(start)? else { continue };
            let mut walk = segment.walk(position)?;
            while let Some(stop) = walk.step()? {
                if stop.header.base_offset() >= upto.offset {
                    return Ok(None);
                }
                if stop.header.max_timestamp() >= timestamp {
                    let (position, len) = (stop.position, stop.bytes);
                    return Ok(Some(FileRange { file: segment.file()?, position, len }));
                }
            }
        }
        Ok(None)
    }

    /// The largest timestamp of all segments, and the last offset of the batch that has it.
    pub fn max_timestamp(&self) -> Option<TimestampOffset> {
        let largest = self.segments.iter().map(|segment| segment.largest_timestamp());
        // Of equal timestamps the first segment's is the answer.
        largest.filter(|found| found.timestamp >= 0).reduce(
            |best, next| {
                if next.timestamp > best.timestamp { next } else { best }
            },
        )
    }

    /// As [`LogView::max_timestamp`], but from the headers of what lies between `from` and the mark.
    pub fn max_timestamp_within(&self, from: Offset, upto: &Mark) -> Result<Option<TimestampOffset>, LogError> {
        let mut largest: Option<TimestampOffset> = None;
        for segment in self.from(from) {
            let mut walk = segment.walk(0)?;
            while let Some(stop) = walk.step()? {
                let (offset, timestamp) = (stop.header.last_offset(), stop.header.max_timestamp());
                if offset >= upto.offset {
                    return Ok(largest);
                }
                if offset >= from && timestamp > largest.map_or(-1, |found| found.timestamp) {
                    largest = Some(TimestampOffset { timestamp, offset });
                }
            }
        }
        Ok(largest)
    }

    /// The batch that holds `offset`: its range in its file.
    pub fn batch_at(&self, offset: Offset) -> Result<Option<FileRange>, LogError> {
        for segment in self.from(offset) {
            if let Some((position, len)) = segment.find(offset)? {
                return Ok(Some(FileRange { file: segment.file()?, position, len }));
            }
        }
        Ok(None)
    }
}

/// Copies a small range from the page cache. `None` when there is no room, or when it doesn't begin with the whole batch
/// that holds `from` or comes next.
fn copy(segment: &Segment, range: &FileRange, from: Offset, copies: &mut Copies) -> Result<Option<Copied>, LogError> {
    if range.len > COPIED_BYTES_MAX {
        return Ok(None);
    }
    let Some((at, bytes)) = copies.place(range.len as usize) else { return Ok(None) };
    let read = range.file.read_exact_cached_at(bytes, range.position);
    let (mut end, mut next) = (0, None);
    if read.is_ok() {
        while let Ok((header, total)) = BatchView::header_only(&bytes[end..])
            && total <= bytes.len() - end
            && header.last_offset() >= from
        {
            end += total;
            next = Some(header.next_offset());
        }
    }
    let Some(offset) = next else {
        copies.take_back(at);
        return Ok(read.map(|()| None)?);
    };
    Ok(Some(Copied { at, next: Place { offset, segment: segment.serial(), position: range.position + end as u64 } }))
}

impl From<WalkError> for LogError {
    fn from(error: WalkError) -> Self {
        match error {
            WalkError::Io(error) => Self::Io(error),
            bad @ WalkError::Bad { .. } => Self::Corrupt(bad.to_string()),
        }
    }
}
