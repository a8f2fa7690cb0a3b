//! The segments of a log as an immutable list that is cheap to have once more with one segment behind it.
//!
//! Every roll publishes a new list while readers hold the old one. In pieces of 64 a roll copies the last piece and one
//! reference for each other, so a log of 100 000 segments rolls as fast as one of ten.

use std::ops::Index;
use std::sync::Arc;

use super::segment::Segment;

/// Segments per piece.
const PIECE: usize = 64;

/// Segments by base offset. All pieces are full but the first and the last.
#[derive(Debug, Clone, Default)]
pub struct SegmentList {
    pieces: Vec<Arc<[Arc<Segment>]>>,
    len: usize,
}

impl SegmentList {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The segment at this place.
    pub fn get(&self, at: usize) -> Option<&Arc<Segment>> {
        let first = self.pieces.first()?;
        if at < first.len() {
            return first.get(at);
        }
        let at = at - first.len();
        self.pieces.get(1 + at / PIECE)?.get(at % PIECE)
    }

    /// The oldest.
    pub fn first(&self) -> Option<&Arc<Segment>> {
        self.get(0)
    }

    /// The newest, which takes appends.
    pub fn last(&self) -> Option<&Arc<Segment>> {
        self.pieces.last()?.last()
    }

    /// All from the one at `from` on.
    pub fn iter_from(&self, from: usize) -> impl DoubleEndedIterator<Item = &Arc<Segment>> + ExactSizeIterator + Clone {
        (from..self.len.max(from)).map(|at| &self[at])
    }

    /// All, by base offset.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Arc<Segment>> + ExactSizeIterator + Clone {
        self.iter_from(0)
    }

    /// How many at the front have `holds`, which must be true for a prefix.
    pub fn partition_point(&self, holds: impl Fn(&Segment) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(&self[middle]) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The same list with `segment` behind it.
    #[must_use]
    pub fn with(&self, segment: Arc<Segment>) -> Self {
        let mut pieces = self.pieces.clone();
        match pieces.last_mut() {
            // A first piece that is shorter because its front was removed stays as it is once others are behind it.
            Some(last) if last.len() < PIECE => *last = last.iter().cloned().chain([segment]).collect(),
            _ => pieces.push(Arc::new([segment])),
        }
        Self { pieces, len: self.len + 1 }
    }

    /// The same list with `segment` in front of it.
    #[must_use]
    pub fn with_oldest(&self, segment: Arc<Segment>) -> Self {
        let mut pieces = self.pieces.clone();
        match pieces.first_mut() {
            Some(first) if first.len() < PIECE => *first = [segment].into_iter().chain(first.iter().cloned()).collect(),
            _ => pieces.insert(0, Arc::new([segment])),
        }
        Self { pieces, len: self.len + 1 }
    }

    /// The same list without its `count` oldest, and these.
    #[must_use]
    pub fn without_oldest(&self, count: usize) -> (Self, Vec<Arc<Segment>>) {
        let gone: Vec<_> = self.iter().take(count).cloned().collect();
        let (mut pieces, mut left) = (Vec::new(), gone.len());
        for piece in &self.pieces {
            let skipped = left.min(piece.len());
            left -= skipped;
            match skipped {
                0 => pieces.push(Arc::clone(piece)),
                all if all == piece.len() => {}
                some => pieces.push(piece[some..].into()),
            }
        }
        (Self { pieces, len: self.len - gone.len() }, gone)
    }
}

impl Index<usize> for SegmentList {
    type Output = Arc<Segment>;

    fn index(&self, at: usize) -> &Arc<Segment> {
        self.get(at).expect("the place is within the list")
    }
}

impl FromIterator<Arc<Segment>> for SegmentList {
    fn from_iter<I: IntoIterator<Item = Arc<Segment>>>(segments: I) -> Self {
        let all: Vec<_> = segments.into_iter().collect();
        Self { pieces: all.chunks(PIECE).map(Arc::from).collect(), len: all.len() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use terrace_tiering::platform::fs::RealFs;
    use uuid::Uuid;

    use super::*;
    use crate::log::open_files::OpenFiles;
    use crate::log::segment::LogDirectory;
    use crate::log::segment_index::SegmentIndex;

    fn segment(base: i64) -> Arc<Segment> {
        let directory = LogDirectory::new(RealFs::shared(), OpenFiles::new(16), "none".into(), Uuid::nil());
        Segment::sealed(&Arc::new(directory), base, 0, SegmentIndex::new(base, 1024))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn it_is_the_vector_it_stands_for(
            begun in 0..200usize,
            steps in prop::collection::vec((1..90usize, 0..100usize), 0..8),
            probe in 0..1000i64,
        ) {
            let mut model: Vec<i64> = (0..begun as i64).collect();
            let mut list: SegmentList = model.iter().copied().map(segment).collect();
            let mut next = begun as i64;
            for (added, removed) in steps {
                for _ in 0..removed / 2 {
                    let before = model.first().map_or(next, |first| first - 1);
                    list = list.with_oldest(segment(before));
                    model.insert(0, before);
                    next = next.max(before + 1);
                }
                for _ in 0..added {
                    list = list.with(segment(next));
                    model.push(next);
                    next += 1;
                }
                let removed = removed.min(model.len());
                let (rest, gone) = list.without_oldest(removed);
                list = rest;
                let expected: Vec<i64> = model.drain(..removed).collect();
                prop_assert_eq!(gone.iter().map(|segment| segment.base()).collect::<Vec<_>>(), expected);
                prop_assert_eq!(list.iter().map(|segment| segment.base()).collect::<Vec<_>>(), model.clone());
                prop_assert_eq!(list.len(), model.len());
                prop_assert_eq!(list.last().map(|segment| segment.base()), model.last().copied());
                prop_assert_eq!(list.first().map(|segment| segment.base()), model.first().copied());
                let point = list.partition_point(|segment| segment.base() <= probe);
                prop_assert_eq!(point, model.partition_point(|base| *base <= probe));
                prop_assert!(list.get(model.len()).is_none());
            }
        }
    }
}
