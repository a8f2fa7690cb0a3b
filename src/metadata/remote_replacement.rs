//! New segments in place of a run of old ones, in one step: what may be replaced by what, and the rows that come of it.
//! The store and whoever keeps its rows in memory both ask here, so that they agree.

use uuid::Uuid;

use super::remote_log::{RemoteLogError, RemoteSegment, SegmentState};
use crate::protocol::record_batch::Offset;

/// Segments that take the place of others and cover the same offsets, be it with the same records (merging) or with fewer
/// of them (compaction).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// FINISHED segments that follow each other in the chain, by offset: all that lie between the first and the last.
    pub replaced: Vec<Uuid>,
    /// What takes their place, by offset: each with its COPY_SEGMENT_STARTED row, uploaded and verified. The first begins
    /// where the first of `replaced` does, each further one right behind the one before, and the last ends where the last
    /// of `replaced` does.
    pub by: Vec<RemoteSegment>,
    /// The time of the deletion marks.
    pub now_ms: i64,
}

impl Replacement {
    /// First and last offset; `None` when what takes the place is not of one piece.
    pub fn offsets(&self) -> Option<(Offset, Offset)> {
        let (first, last) = (self.by.first()?, self.by.last()?);
        let is_sound = |segment: &RemoteSegment| 0 <= segment.base_offset && segment.base_offset <= segment.last_offset;
        let follows = |pair: &[RemoteSegment]| pair[0].last_offset.checked_add(1) == Some(pair[1].base_offset);
        (self.by.iter().all(is_sound) && self.by.windows(2).all(follows))
            .then_some((first.base_offset, last.last_offset))
    }

    /// The rows as they are afterwards, of `rows`, which are all that begin within [`Replacement::offsets`]. Refused unless
    /// exactly the readable ones among them are replaced, and the same offsets stay covered.
    pub fn rows<'a>(
        &self,
        rows: impl Iterator<Item = &'a RemoteSegment> + Clone,
    ) -> Result<Vec<RemoteSegment>, RemoteLogError> {
        let refused = |uuid: Option<&Uuid>| RemoteLogError::BadState(uuid.copied().unwrap_or_default());
        let Some(offsets) = self.offsets() else {
            return Err(refused(self.by.first().map(|segment| &segment.uuid)));
        };
        for segment in &self.by {
            let is_it = |row: &RemoteSegment| (row.base_offset, row.uuid) == (segment.base_offset, segment.uuid);
            if !rows.clone().any(|row| is_it(row) && row.state == SegmentState::CopyStarted) {
                return Err(refused(Some(&segment.uuid)));
            }
        }
        let mut old: Vec<_> = rows.filter(|row| row.state == SegmentState::CopyFinished).collect();
        old.sort_unstable_by_key(|row| row.base_offset);
        if !old.iter().map(|row| row.uuid).eq(self.replaced.iter().copied()) {
            return Err(refused(self.replaced.first()));
        }
        match old.first().zip(old.last()) {
            Some((first, last)) if (first.base_offset, last.last_offset) == offsets => {}
            _ => return Err(refused(self.replaced.first())),
        }
        let marked = SegmentState::DeleteStarted { at_ms: self.now_ms };
        let old = old.into_iter().map(|row| RemoteSegment { state: marked, ..row.clone() });
        let new = self.by.iter().map(|segment| RemoteSegment { state: SegmentState::CopyFinished, ..segment.clone() });
        Ok(old.chain(new).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(uuid: u128, base_offset: Offset, last_offset: Offset, state: SegmentState) -> RemoteSegment {
        RemoteSegment { uuid: Uuid::from_u128(uuid), state, ..RemoteSegment::covering(base_offset, last_offset) }
    }

    fn finished(uuid: u128, base_offset: Offset, last_offset: Offset) -> RemoteSegment {
        segment(uuid, base_offset, last_offset, SegmentState::CopyFinished)
    }

    fn started(uuid: u128, base_offset: Offset, last_offset: Offset) -> RemoteSegment {
        segment(uuid, base_offset, last_offset, SegmentState::CopyStarted)
    }

    fn replacement(replaced: &[u128], by: &[RemoteSegment]) -> Replacement {
        let replaced = replaced.iter().map(|uuid| Uuid::from_u128(*uuid)).collect();
        Replacement { replaced, by: by.to_vec(), now_ms: 77 }
    }

    /// Three readable segments, what is left of an older copy of the second, and the new ones.
    fn rows() -> Vec<RemoteSegment> {
        let left = segment(9, 10, 19, SegmentState::DeleteStarted { at_ms: 5 });
        let (one, two) = (started(7, 0, 14), started(8, 15, 29));
        vec![finished(1, 0, 9), started(6, 0, 29), one, finished(2, 10, 19), left, two, finished(3, 20, 29)]
    }

    #[test]
    fn one_or_several_take_the_place_of_a_run() {
        for by in [vec![started(6, 0, 29)], vec![started(7, 0, 14), started(8, 15, 29)]] {
            let after = replacement(&[1, 2, 3], &by).rows(rows().iter()).unwrap();
            let with = |state| after.iter().filter(move |row| row.state == state).map(|row| row.uuid.as_u128());
            assert!(with(SegmentState::DeleteStarted { at_ms: 77 }).eq([1, 2, 3]));
            assert!(with(SegmentState::CopyFinished).eq(by.iter().map(|segment| segment.uuid.as_u128())));
            assert_eq!(after.len(), 3 + by.len(), "nothing else changes");
        }
    }

    #[test]
    fn whatever_does_not_cover_the_same_offsets_is_refused() {
        let whole = &[started(6, 0, 29)];
        let cases = [
            ("nothing new", replacement(&[1, 2, 3], &[])),
            ("nothing old", replacement(&[], whole)),
            ("one is missing in the middle", replacement(&[1, 3], whole)),
            ("one is missing at the end", replacement(&[1, 2], whole)),
            ("out of order", replacement(&[2, 1, 3], whole)),
            ("a marked one", replacement(&[1, 9, 3], whole)),
            ("not announced", replacement(&[1, 2, 3], &[started(5, 0, 29)])),
            ("readable already", replacement(&[1], &[finished(1, 0, 9)])),
            ("too short", replacement(&[1, 2, 3], &[started(6, 0, 28)])),
            ("too long", replacement(&[1, 2, 3], &[started(6, 0, 30)])),
            ("a gap between the new ones", replacement(&[1, 2, 3], &[started(7, 0, 13), started(8, 15, 29)])),
            ("new ones overlap", replacement(&[1, 2, 3], &[started(7, 0, 15), started(8, 15, 29)])),
            ("ends before it begins", replacement(&[1, 2, 3], &[started(6, 0, -1)])),
        ];
        for (name, case) in cases {
            assert!(matches!(case.rows(rows().iter()), Err(RemoteLogError::BadState(_))), "{name}");
        }
    }
}
