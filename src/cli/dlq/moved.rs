//! Which dead letters of a partition went back: all below the committed offset, and behind it what its metadata names, as
//! filters leave gaps. `12 "14-20,25-25"` is 0 to 11, 14 to 20 and 25.

use std::collections::BTreeMap;

use crate::protocol::record_batch::Offset;

/// Kafka's default for `offset.metadata.max.bytes`.
const TEXT_BYTES_MAX: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Moved {
    /// All below went back.
    pub(super) below: Offset,
    /// First and last offset of runs behind it.
    runs: BTreeMap<Offset, Offset>,
}

impl Moved {
    /// As a commit has it; what cannot be read is taken for nothing.
    pub(super) fn read(offset: Offset, text: &str) -> Self {
        let mut moved = Self { below: offset.max(0), runs: BTreeMap::new() };
        for run in text.split(',') {
            if let Some((first, last)) = run.split_once('-')
                && let (Ok(first), Ok(last)) = (first.parse(), last.parse())
            {
                moved.add(first, last);
            }
        }
        moved
    }

    /// What to commit; `None` when it is too much for that.
    pub(super) fn text(&self) -> Option<String> {
        let runs: Vec<_> = self.runs.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        Some(runs.join(",")).filter(|text| text.len() <= TEXT_BYTES_MAX)
    }

    pub(super) fn has(&self, at: Offset) -> bool {
        at < self.below || self.runs.range(..=at).next_back().is_some_and(|(_, last)| *last >= at)
    }

    /// These went back too, or there is nothing at their offsets.
    pub(super) fn add(&mut self, first: Offset, last: Offset) {
        if last < first {
            return;
        }
        let (mut first, mut last) = (first, last);
        while let Some((at, to)) = self.runs.range(..=last.saturating_add(1)).next_back().map(|(at, to)| (*at, *to)) {
            if to.saturating_add(1) < first {
                break;
            }
            self.runs.remove(&at);
            (first, last) = (first.min(at), last.max(to));
        }
        self.runs.insert(first, last);
        while let Some((at, to)) = self.runs.first_key_value().map(|(at, to)| (*at, *to))
            && at <= self.below
        {
            self.runs.pop_first();
            self.below = self.below.max(to + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_back_is_read_as_it_was_committed() {
        let mut moved = Moved::read(-1, "");
        moved.add(5, 5);
        moved.add(2, 3);
        moved.add(7, 9);
        moved.add(6, 6);
        assert_eq!((moved.below, moved.text().as_deref()), (0, Some("2-3,5-9")));
        assert_eq!([1, 2, 4, 5, 9, 10].map(|at| moved.has(at)), [false, true, false, true, true, false]);
        assert_eq!(Moved::read(0, "2-3,5-9"), moved);
        moved.add(0, 1);
        assert_eq!((moved.below, moved.text().as_deref()), (4, Some("5-9")));
        moved.add(4, 4);
        assert_eq!((moved.below, moved.text().as_deref()), (10, Some("")));
        assert_eq!(Moved::read(3, "x,9-8,4-,1-2"), Moved { below: 3, runs: BTreeMap::new() });
    }

    #[test]
    fn too_many_gaps_are_not_committed() {
        let mut moved = Moved::default();
        (1..2000).for_each(|n| moved.add(2 * n, 2 * n));
        assert_eq!(moved.text(), None);
    }
}
