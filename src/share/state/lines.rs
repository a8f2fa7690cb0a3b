//! Where the records of a share partition stand, as the share coordinator keeps it: lines of offsets that are alike.

use std::collections::BTreeMap;

use crate::protocol::record_batch::Offset;

/// Where a record stands: what is written and read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// May be given out.
    Available,
    /// Processed.
    Acknowledged,
    /// Given up, and its dead letter is not written (KIP-1191).
    Archiving,
    /// Given up.
    Archived,
}

impl Delivery {
    /// As the log has it.
    pub fn code(self) -> i8 {
        match self {
            Self::Available => 0,
            Self::Acknowledged => 2,
            Self::Archiving => 3,
            Self::Archived => 4,
        }
    }

    /// Is nothing left to be done?
    pub fn is_done(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Archived)
    }

    /// As the log has it; what is not known there may be given out again.
    pub fn from_code(code: i8) -> Self {
        match code {
            2 => Self::Acknowledged,
            3 => Self::Archiving,
            4 => Self::Archived,
            _ => Self::Available,
        }
    }
}

/// Offsets that are alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateBatch {
    /// First offset.
    pub first: Offset,
    /// Last offset, inclusive.
    pub last: Offset,
    /// Where they stand.
    pub delivery: Delivery,
    /// How often they were given out.
    pub count: i16,
}

/// All lines of a share partition: they do not overlap, and no two neighbours are alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines(BTreeMap<Offset, (Offset, Delivery, i16)>);

impl Lines {
    /// Lines that replace one another in their order.
    pub fn of(lines: &[StateBatch]) -> Self {
        let mut all = Self::default();
        lines.iter().for_each(|line| all.put(*line));
        all
    }

    /// Says where some offsets stand now.
    pub fn put(&mut self, line: StateBatch) {
        let StateBatch { first, last, delivery, count } = line;
        if last < first {
            return;
        }
        self.cut_at(first);
        self.cut_at(last.saturating_add(1));
        let within: Vec<Offset> = self.0.range(first..=last).map(|(at, _)| *at).collect();
        for at in within {
            self.0.remove(&at);
        }
        self.0.insert(first, (last, delivery, count));
        self.join_at(last.saturating_add(1));
        self.join_at(first);
    }

    /// Nothing below `start` is of interest any more.
    pub fn forget_below(&mut self, start: Offset) {
        self.cut_at(start);
        self.0 = self.0.split_off(&start);
    }

    /// Forgets what is done with from `start` on; where that ends.
    pub fn take_done(&mut self, start: Offset) -> Offset {
        let mut at = start;
        while let Some(first) = self.0.first_entry()
            && *first.key() == at
            && first.get().1.is_done()
        {
            at = first.remove().0.saturating_add(1);
        }
        at
    }

    /// Offsets that are done with.
    pub fn done(&self) -> u64 {
        self.all().filter(|line| line.delivery.is_done()).map(|line| line.last.abs_diff(line.first) + 1).sum()
    }

    /// All of them by offset.
    pub fn all(&self) -> impl ExactSizeIterator<Item = StateBatch> {
        self.0.iter().map(|(first, (last, delivery, count))| StateBatch {
            first: *first,
            last: *last,
            delivery: *delivery,
            count: *count,
        })
    }

    /// The last offset of which something is said.
    pub fn last(&self) -> Option<Offset> {
        self.0.last_key_value().map(|(_, (last, ..))| *last)
    }

    fn cut_at(&mut self, at: Offset) {
        let Some((first, line)) = self.0.range_mut(..at).next_back() else { return };
        if *first < at && line.0 >= at {
            let behind = *line;
            line.0 = at - 1;
            self.0.insert(at, behind);
        }
    }

    fn join_at(&mut self, at: Offset) {
        let Some(line) = self.0.get(&at).copied() else { return };
        let Some((_, before)) = self.0.range_mut(..at).next_back() else { return };
        if before.0 + 1 == at && (before.1, before.2) == (line.1, line.2) {
            before.0 = line.0;
            self.0.remove(&at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_last_line_of_an_offset_counts(puts in proptest::collection::vec((0i64..40, 0i64..8, 0u8..4, 0i16..3), 0..40)) {
            let mut plain: BTreeMap<Offset, (Delivery, i16)> = BTreeMap::new();
            let mut lines = Lines::default();
            for (first, length, delivery, count) in puts {
                let delivery = Delivery::from_code([0, 2, 3, 4][usize::from(delivery)]);
                lines.put(StateBatch { first, last: first + length, delivery, count });
                plain.extend((first..=first + length).map(|at| (at, (delivery, count))));
            }
            let each: BTreeMap<_, _> =
                lines.all().flat_map(|line| (line.first..=line.last).map(move |at| (at, (line.delivery, line.count)))).collect();
            prop_assert_eq!(each, plain);
            let all: Vec<_> = lines.all().collect();
            for pair in all.windows(2) {
                let alike = (pair[0].delivery, pair[0].count) == (pair[1].delivery, pair[1].count);
                prop_assert!(pair[0].last < pair[1].first && !(alike && pair[0].last + 1 == pair[1].first));
            }
            prop_assert_eq!(Lines::of(&all), lines);
        }
    }
}
