//! Whether a partition's tier is worth a round, and what the round has before it. A pure function of the chain.

use std::sync::Arc;

use crate::config::topic::TopicConfig;
use crate::log::cleaner::{SealedSegment, plan_with};
use crate::metadata::remote_log::RemoteSegment;
use crate::protocol::record_batch::Offset;

/// A smaller share of new bytes is not worth reading all the others again, however small `min.cleanable.dirty.ratio` is:
/// every byte is a request to the store.
const DIRTY_RATIO_MIN: f64 = 0.1;

/// A round that is worth its requests.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    /// What it looks at, by offset: the front of the log up to what may be cleaned.
    pub segments: Vec<Arc<RemoteSegment>>,
    /// The first offset that no round has met.
    pub from: Offset,
    /// The segments are all of the log below their end: what a tombstone deletes or a marker ends is among them or gone.
    pub sees_all: bool,
}

/// The round that is due in `readable`, the readable segments by offset. The newest stays as it is: a start compares it
/// with the local log, and there is always a record behind whatever a round takes away.
pub(super) fn next(
    config: &TopicConfig,
    now_ms: i64,
    readable: &[Arc<RemoteSegment>],
    log_start: Offset,
    cleaned_end: Offset,
) -> Option<Plan> {
    let (_, older) = readable.split_last()?;
    let first = older.partition_point(|segment| segment.last_offset < log_start);
    let segments = older.get(first..)?;
    let facts: Vec<_> = segments.iter().map(|segment| facts_of(segment)).collect();
    let end = facts.last()?.next;
    let plan = plan_with(config, now_ms, cleaned_end, end, &facts, |_| false)?;
    if !plan.is_overdue && plan.dirty_ratio < DIRTY_RATIO_MIN {
        return None;
    }
    let segments = segments[..facts.partition_point(|segment| segment.next <= plan.upto)].to_vec();
    let has_front = segments.first()?.base_offset <= log_start.max(0);
    let has_no_gap = segments.windows(2).all(|two| two[0].last_offset + 1 == two[1].base_offset);
    Some(Plan { segments, from: plan.from, sees_all: has_front && has_no_gap })
}

fn facts_of(segment: &RemoteSegment) -> SealedSegment {
    SealedSegment {
        base: segment.base_offset,
        next: segment.last_offset.saturating_add(1),
        size_bytes: segment.log_bytes,
        index_bytes: 0,
        first_ms: Some(segment.first_timestamp).filter(|first| *first >= 0),
        newest_ms: segment.max_timestamp,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use uuid::Uuid;

    use super::*;
    use crate::metadata::remote_log::SegmentState;
    use crate::remote_log::testing::topic_config;

    /// Segments of ten offsets and 100 bytes each, a time each, from offset 0 on.
    fn chain(times: &[i64]) -> Vec<Arc<RemoteSegment>> {
        let segment = |(n, time): (usize, &i64)| {
            let base_offset = n as Offset * 10;
            Arc::new(RemoteSegment {
                uuid: Uuid::from_u128(n as u128),
                base_offset,
                last_offset: base_offset + 9,
                copy_epoch: 0,
                log_bytes: 100,
                object_bytes: 120,
                first_timestamp: *time,
                max_timestamp: *time,
                max_timestamp_offset: base_offset,
                epochs: vec![(0, base_offset)],
                state: SegmentState::CopyFinished,
            })
        };
        times.iter().enumerate().map(segment).collect()
    }

    fn plan(change: impl FnOnce(&mut TopicConfig), log_start: Offset, cleaned_end: Offset) -> Option<(Offset, Offset)> {
        let mut config = topic_config();
        config.cleanup_policy.compact = true;
        change(&mut config);
        let planned = next(&config, 1000, &chain(&[100, 200, 300, 400, 500]), log_start, cleaned_end)?;
        let segments = &planned.segments;
        assert!(planned.sees_all);
        Some((segments.first()?.base_offset, segments.last()?.last_offset + 1)).inspect(|_| assert!(planned.from >= 0))
    }

    #[rstest]
    #[case::nothing_was_ever_met(0.5, 0, 0, Some((0, 40)))]
    #[case::more_than_half_is_new(0.5, 0, 10, Some((0, 40)))]
    #[case::half_is_new(0.5, 0, 20, None)]
    #[case::a_smaller_share_is_asked_for(0.2, 0, 30, Some((0, 40)))]
    #[case::all_was_met(0.0, 0, 40, None)]
    #[case::an_end_of_a_log_that_is_gone(0.5, 0, 1000, Some((0, 40)))]
    #[case::what_lies_below_the_log_start_is_no_part_of_it(0.5, 25, 0, Some((20, 40)))]
    #[case::nothing_but_the_newest(0.0, 45, 0, None)]
    fn shares(
        #[case] ratio: f64,
        #[case] log_start: Offset,
        #[case] cleaned_end: Offset,
        #[case] expected: Option<(Offset, Offset)>,
    ) {
        assert_eq!(plan(|config| config.min_cleanable_dirty_ratio = ratio, log_start, cleaned_end), expected);
    }

    #[test]
    fn lags_hold_back_and_hurry() {
        let held = plan(|config| config.min_compaction_lag_ms = 750, 0, 0);
        assert_eq!(held, Some((0, 20)), "what is younger waits");
        let never = |config: &mut TopicConfig| config.min_cleanable_dirty_ratio = 1.0;
        assert_eq!(plan(never, 0, 30), None);
        let late = |config: &mut TopicConfig| (never(config), config.max_compaction_lag_ms = 500).0;
        assert_eq!(plan(late, 0, 30), Some((0, 40)), "the oldest that no round has met is older than 500 ms");
    }

    #[test]
    fn a_tenth_is_the_least() {
        let mut config = topic_config();
        config.min_cleanable_dirty_ratio = 0.0;
        let chain = chain(&[100; 22]);
        assert_eq!(next(&config, 1000, &chain, 0, 200), None, "one of 21");
        assert!(next(&config, 1000, &chain, 0, 180).is_some(), "three of them");
    }

    #[test]
    fn a_gap_is_not_all_of_the_log() {
        let mut config = topic_config();
        config.min_cleanable_dirty_ratio = 0.0;
        let mut chain = chain(&[100; 5]);
        assert!(next(&config, 1000, &chain[1..], 10, 0).unwrap().sees_all);
        assert!(!next(&config, 1000, &chain[1..], 5, 0).unwrap().sees_all, "its front is missing");
        chain.remove(1);
        assert!(!next(&config, 1000, &chain, 0, 0).unwrap().sees_all, "a copy was lost");
    }
}
