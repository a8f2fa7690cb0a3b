//! Where an offset lies, as a mark that readers can be held to.

use super::view::Mark;
use super::{Log, LogError};
use crate::protocol::record_batch::Offset;

impl Log {
    /// The boundary in front of the batch that holds `offset`, or of the next one; at or below the first local batch the
    /// log's beginning. Reads the index and some headers.
    pub fn mark_at(&self, offset: Offset) -> Result<Mark, LogError> {
        let end = self.end_mark();
        if offset >= end.offset {
            return Ok(end);
        }
        let segments = self.view.segments();
        let first = segments.partition_point(|segment| segment.base() <= offset).saturating_sub(1);
        let mut behind: u64 = segments.iter_from(first).map(|segment| segment.size()).sum();
        for segment in segments.iter_from(first) {
            let found = if offset <= segment.base() { Some((0, 0)) } else { segment.find(offset)? };
            if let Some((position, _)) = found {
                let bytes = end.bytes.saturating_sub(behind - position);
                return Ok(Mark { offset, segment: segment.base(), position, bytes });
            }
            behind -= segment.size();
        }
        Ok(end)
    }
}
