//! Segments that a cleaned one takes the place of.

use std::io;
use std::sync::Arc;

use super::Log;
use super::cleaner::Cleaned;
use super::segment::Segment;
use super::segment_index::SegmentIndex;
use super::view::LogView;
use crate::protocol::record_batch::Offset;

impl Log {
    /// Makes the segments that begin at `bases` keep their files open and forget their index files, for the readers
    /// that still hold them: the names will soon be others'.
    pub fn retire(&self, bases: &[Offset]) -> io::Result<()> {
        for segment in self.view.segments().iter().filter(|segment| bases.contains(&segment.base())) {
            segment.retire()?;
        }
        Ok(())
    }

    /// Shows the cleaned segment, whose files have their names, in place of those it replaces.
    pub fn replace(&mut self, cleaned: &Cleaned) {
        let mut index = SegmentIndex::on_disk(
            cleaned.base,
            u32::MAX,
            cleaned.offsets.len(),
            cleaned.times.len(),
            Some(cleaned.newest),
        );
        index.first_timestamp = cleaned.first_timestamp;
        let segment = Segment::sealed(&self.directory, cleaned.base, cleaned.len, index);
        segment.set_aborted_count(cleaned.aborted.len());
        let keep = |segment: &&Arc<Segment>| !cleaned.replaced.contains(&segment.base());
        let mut segments: Vec<_> = self.view.segments().iter().filter(keep).cloned().collect();
        let at = segments.partition_point(|other| other.base() < cleaned.base);
        segments.insert(at, segment);
        self.view = Arc::new(LogView { segments: segments.into_iter().collect() });
    }
}
