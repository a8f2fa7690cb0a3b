//! Where each leader epoch of a partition begins, and Kafka's text file `leader-epoch-checkpoint` that carries it.
//!
//! The cache covers the whole log, its remote part included: it is cut at the front only when the log start moves.
//! Owned by the partition's log, under its lock. Epochs and start offsets rise strictly from entry to entry; an
//! epoch without records has no entry. The file is replaced as a whole, so a crash leaves the old one or the new one,
//! and recovery adds what the scanned batches say.

use crate::log::text_file::{self, TextFileError};
use crate::protocol::record_batch::{LeaderEpoch, Offset};

/// The name of the file in a partition's directory.
pub const FILE_NAME: &str = "leader-epoch-checkpoint";

/// Kafka's answer for an epoch that nothing is known of.
pub const UNDEFINED: (LeaderEpoch, Offset) = (-1, -1);

/// The first offset that was written in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Its first offset.
    pub start_offset: Offset,
}

/// The leader epochs of one partition; see the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EpochCache {
    entries: Vec<EpochStart>,
}

impl EpochCache {
    /// The cache with these entries, in order. Entries that contradict a later one are dropped.
    pub fn from_entries(entries: impl IntoIterator<Item = EpochStart>) -> Self {
        let mut cache = Self::default();
        for entry in entries {
            cache.assign(entry.epoch, entry.start_offset);
        }
        cache
    }

    /// All entries in order.
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// The epoch of the newest records.
    pub fn latest(&self) -> Option<EpochStart> {
        self.entries.last().copied()
    }

    /// The epoch of the oldest records.
    pub fn earliest(&self) -> Option<EpochStart> {
        self.entries.first().copied()
    }

    /// Records that `epoch` begins at `start_offset`; true when that changed anything. What contradicts the new entry
    /// (a later epoch, or a start at or behind its own) gives way, as in Kafka. Negative numbers change nothing.
    pub fn assign(&mut self, epoch: LeaderEpoch, start_offset: Offset) -> bool {
        let new = EpochStart { epoch, start_offset };
        if epoch < 0 || start_offset < 0 || self.latest() == Some(new) {
            return false;
        }
        // The batches of a running epoch all come through here: only its first one is news.
        if self.latest().is_some_and(|last| last.epoch == epoch && last.start_offset < start_offset) {
            return false;
        }
        while self.latest().is_some_and(|last| last.epoch >= epoch || last.start_offset >= start_offset) {
            self.entries.pop();
        }
        self.entries.push(new);
        true
    }

    /// Kafka's OffsetForLeaderEpoch: the largest known epoch not above `requested`, and the offset behind its last
    /// record. `log_end` is the answer for the latest epoch. [`UNDEFINED`] for an epoch above all known ones; an epoch
    /// below all known ones is answered as itself, with the first known start.
    pub fn end_offset_for(&self, requested: LeaderEpoch, log_end: Offset) -> (LeaderEpoch, Offset) {
        if requested < 0 {
            return UNDEFINED;
        }
        let above = self.entries.partition_point(|entry| entry.epoch <= requested);
        let at_or_below = above.checked_sub(1).map(|at| self.entries[at].epoch);
        match (at_or_below, self.entries.get(above)) {
            (Some(epoch), None) if epoch == requested => (epoch, log_end),
            (_, None) => UNDEFINED,
            (below, Some(next)) => (below.unwrap_or(requested), next.start_offset),
        }
    }

    /// The epoch in which the record at `offset` was written.
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        let behind = self.entries.partition_point(|entry| entry.start_offset <= offset);
        behind.checked_sub(1).map(|at| self.entries[at].epoch)
    }

    /// The log now starts at `log_start`: epochs that ended before it go, the one that runs across begins there.
    /// True when that changed anything.
    pub fn truncate_from_start(&mut self, log_start: Offset) -> bool {
        let behind = self.entries.partition_point(|entry| entry.start_offset <= log_start);
        let Some(across) = behind.checked_sub(1) else { return false };
        if across == 0 && self.entries[0].start_offset == log_start {
            return false;
        }
        self.entries.drain(..across);
        self.entries[0].start_offset = log_start;
        true
    }

    /// The log now ends at `log_end`: epochs that begin there or later go. True when that changed anything.
    pub fn truncate_from_end(&mut self, log_end: Offset) -> bool {
        let keep = self.entries.partition_point(|entry| entry.start_offset < log_end);
        let changed = keep < self.entries.len();
        self.entries.truncate(keep);
        changed
    }

    /// Forgets everything: the log was emptied.
    pub fn clear(&mut self) {
        self.entries = Vec::new();
    }

    /// The entries that say which epochs the offsets from `from` up to (not including) `upto` were written in.
    pub fn within(&self, from: Offset, upto: Offset) -> Self {
        let mut part = self.clone();
        part.truncate_from_end(upto);
        part.truncate_from_start(from);
        part
    }

    /// The content of the file.
    pub fn to_text(&self) -> String {
        text_file::write(self.entries.iter().map(|entry| format!("{} {}", entry.epoch, entry.start_offset)))
    }

    /// Reads the content of the file. Entries that contradict each other are resolved as [`EpochCache::assign`] does.
    pub fn parse(text: &[u8]) -> Result<Self, TextFileError> {
        let entries = text_file::read(text, |line| {
            let (epoch, start_offset) = line.split_once(' ')?;
            Some(EpochStart { epoch: epoch.parse().ok()?, start_offset: start_offset.parse().ok()? })
        })?;
        Ok(Self::from_entries(entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn cache(entries: &[(LeaderEpoch, Offset)]) -> EpochCache {
        EpochCache::from_entries(entries.iter().map(|&(epoch, start_offset)| EpochStart { epoch, start_offset }))
    }

    fn three() -> EpochCache {
        cache(&[(2, 10), (4, 20), (7, 30)])
    }

    // The cases of Kafka's OffsetsForLeaderEpoch, with a log end of 40.
    #[rstest]
    #[case::undefined(-1, UNDEFINED)]
    #[case::below_all(1, (1, 10))]
    #[case::known(2, (2, 20))]
    #[case::between(3, (2, 20))]
    #[case::latest(7, (7, 40))]
    #[case::above_all(8, UNDEFINED)]
    fn end_offset_follows_kafka(#[case] requested: LeaderEpoch, #[case] expected: (LeaderEpoch, Offset)) {
        assert_eq!(three().end_offset_for(requested, 40), expected);
        assert_eq!(EpochCache::default().end_offset_for(requested, 40), UNDEFINED);
    }

    #[rstest]
    #[case(9, None)]
    #[case(10, Some(2))]
    #[case(19, Some(2))]
    #[case(20, Some(4))]
    #[case(1000, Some(7))]
    fn offsets_have_the_epoch_they_were_written_in(#[case] offset: Offset, #[case] epoch: Option<LeaderEpoch>) {
        assert_eq!(three().epoch_for_offset(offset), epoch);
    }

    #[rstest]
    #[case::running_epoch(7, 35, false, &[(2, 10), (4, 20), (7, 30)])]
    #[case::next(8, 35, true, &[(2, 10), (4, 20), (7, 30), (8, 35)])]
    #[case::rewritten(4, 15, true, &[(2, 10), (4, 15)])]
    #[case::earlier_start(9, 20, true, &[(2, 10), (9, 20)])]
    #[case::same_epoch_earlier(7, 25, true, &[(2, 10), (4, 20), (7, 25)])]
    #[case::negative(-1, 50, false, &[(2, 10), (4, 20), (7, 30)])]
    fn assigning_removes_what_contradicts(
        #[case] epoch: LeaderEpoch,
        #[case] start: Offset,
        #[case] changed: bool,
        #[case] expected: &[(LeaderEpoch, Offset)],
    ) {
        let mut epochs = three();
        assert_eq!(epochs.assign(epoch, start), changed);
        assert_eq!(epochs, cache(expected));
    }

    #[rstest]
    #[case::before_all(5, &[(2, 10), (4, 20), (7, 30)])]
    #[case::at_first(10, &[(2, 10), (4, 20), (7, 30)])]
    #[case::inside(25, &[(4, 25), (7, 30)])]
    #[case::at_border(30, &[(7, 30)])]
    #[case::behind_all(99, &[(7, 99)])]
    fn the_epoch_across_the_log_start_begins_there(#[case] start: Offset, #[case] expected: &[(LeaderEpoch, Offset)]) {
        let mut epochs = three();
        assert_eq!(epochs.truncate_from_start(start), epochs != three());
        assert_eq!(epochs, cache(expected));
    }

    #[rstest]
    #[case::nothing(31, &[(2, 10), (4, 20), (7, 30)])]
    #[case::at_start_of_last(30, &[(2, 10), (4, 20)])]
    #[case::all(10, &[])]
    fn epochs_behind_the_log_end_go(#[case] end: Offset, #[case] expected: &[(LeaderEpoch, Offset)]) {
        let mut epochs = three();
        assert_eq!(epochs.truncate_from_end(end), epochs != three());
        assert_eq!(epochs, cache(expected));
    }

    #[test]
    fn a_part_keeps_only_its_epochs() {
        assert_eq!(three().within(12, 30), cache(&[(2, 12), (4, 20)]));
    }

    #[test]
    fn the_file_is_kafkas() {
        assert_eq!(three().to_text(), "0\n3\n2 10\n4 20\n7 30\n");
        assert_eq!(EpochCache::parse(three().to_text().as_bytes()), Ok(three()));
    }

    proptest! {
        #[test]
        fn any_assignments_stay_in_order(steps in prop::collection::vec((-1..20i32, -1..50i64), 0..40)) {
            let mut epochs = EpochCache::default();
            for (epoch, start) in steps {
                epochs.assign(epoch, start);
                let rises = |w: &[EpochStart]| w[0].epoch < w[1].epoch && w[0].start_offset < w[1].start_offset;
                prop_assert!(epochs.entries().windows(2).all(rises));
            }
            prop_assert_eq!(EpochCache::parse(epochs.to_text().as_bytes()), Ok(epochs));
        }

        #[test]
        fn any_bytes_parse_or_are_refused(text in "([0-9-]{0,3}[ \n]?){0,30}", bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let _ = EpochCache::parse(text.as_bytes());
            let _ = EpochCache::parse(&bytes);
        }
    }
}
