//! What is copied when: one rule over the sealed segments of a partition.
//!
//! A segment is copied when either of `remote.copy.lag.ms` and `remote.copy.lag.bytes` is reached ([`copy_lag`]) while
//! total retention keeps it. One of a compacted topic has to be cleaned first, so that what is written over again and
//! again is never sent; where cleaning has left nothing of a segment, the copy of the next one covers its offsets.

use crate::config::topic::TopicConfig;
use crate::log::copy_lag;
use crate::partition::Offsets;
use crate::partition::tiered::{LocalInfo, SealedInfo};
use crate::protocol::record_batch::Offset;

/// What to do with a partition's local segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Copy this one.
    Now(SealedInfo),
    /// The next one is due at this wall time, if nothing happens before.
    At(i64),
    /// Nothing until the partition changes.
    Idle,
    /// The local log does not follow on the tier's end: offsets between are nowhere, or a segment lies across it. Nothing
    /// may be copied there.
    Seam {
        /// Where the tier ends.
        tier_end: Offset,
        /// Where the next local segment begins.
        local_start: Offset,
    },
}

/// The next step for a partition whose tier ends at `tier_end` (`None`: it has no readable segment).
pub(super) fn next(
    config: &TopicConfig,
    offsets: &Offsets,
    local: &LocalInfo,
    tier_end: Option<Offset>,
    now_ms: i64,
) -> Due {
    let copied_to = tier_end.unwrap_or(offsets.log_start).max(offsets.log_start);
    let uncopied = |segment: &SealedInfo| segment.next_offset > copied_to && segment.bytes > 0;
    let Some(at) = local.sealed.iter().position(uncopied) else { return Due::Idle };
    let mut segment = local.sealed[at];
    if let Some(tier_end) = tier_end {
        let hole = segment.covers_from > copied_to && tier_end == copied_to;
        if hole || segment.base_offset < tier_end {
            return Due::Seam { tier_end, local_start: segment.base_offset };
        }
        segment.covers_from = segment.covers_from.max(tier_end);
    }
    if segment.next_offset > offsets.high_watermark.min(offsets.last_stable) {
        return Due::Idle;
    }
    if config.cleanup_policy.compact && segment.next_offset > local.cleaned_end {
        // The end of the round wakes the copiers.
        return Due::Idle;
    }
    let bytes_above = local.sealed[at + 1..].iter().map(|later| later.bytes).sum::<u64>() + local.active_bytes;
    if !kept(config, &segment, bytes_above, now_ms) {
        return Due::Idle;
    }
    match copy_lag::due_at(config, segment.max_timestamp, bytes_above) {
        Some(at_ms) if at_ms <= now_ms => Due::Now(segment),
        Some(at_ms) => Due::At(at_ms),
        None => Due::Idle,
    }
}

/// Does total retention keep the segment? What it is about to delete is not worth copying.
fn kept(config: &TopicConfig, segment: &SealedInfo, bytes_above: u64, now_ms: i64) -> bool {
    if !config.cleanup_policy.delete {
        return true;
    }
    let too_old = config.retention_ms.is_some_and(|ms| older_than(segment.max_timestamp, ms, now_ms));
    let too_much = config.retention_bytes.is_some_and(|bytes| bytes_above >= bytes);
    !too_old && !too_much
}

/// Is a record of time `timestamp_ms` (-1: unknown, never) older than `ms`?
fn older_than(timestamp_ms: i64, ms: i64, now_ms: i64) -> bool {
    timestamp_ms >= 0 && now_ms.saturating_sub(timestamp_ms) > ms
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::testing::topic_config;
    use super::*;

    const SECOND: SealedInfo = sealed(20, 1000, 2000);

    const fn sealed(base_offset: Offset, first_timestamp: i64, max_timestamp: i64) -> SealedInfo {
        let (covers_from, next_offset) = (base_offset, base_offset + 10);
        SealedInfo { base_offset, covers_from, next_offset, bytes: 100, first_timestamp, max_timestamp }
    }

    /// Segments 10..20 and 20..30 of 100 bytes with times up to 1000 and 2000, an active one of 50 bytes from 30 on.
    fn check(change: impl Fn(&mut TopicConfig, &mut Offsets), tier_end: Option<Offset>, now_ms: i64) -> Due {
        let local = LocalInfo {
            sealed: vec![sealed(10, 1, 1000), SECOND],
            active_bytes: 50,
            active_first_timestamp: Some(2001),
            cleaned_end: 0,
        };
        let mut offsets = Offsets {
            log_start: 0,
            local_start: 10,
            high_watermark: 35,
            last_stable: 35,
            log_end: 35,
            leader_epoch: 0,
        };
        let mut config = topic_config();
        change(&mut config, &mut offsets);
        next(&config, &offsets, &local, tier_end, now_ms)
    }

    #[rstest]
    #[case::at_once(0, 0, 2000, Due::Now(SECOND))]
    #[case::zero_time_wins_over_bytes(0, 1 << 40, 2000, Due::Now(SECOND))]
    #[case::bytes_reached(-1, 50, 2000, Due::Now(SECOND))]
    #[case::bytes_not_reached(-1, 51, 2000, Due::Idle)]
    #[case::time_not_reached(500, -1, 2400, Due::At(2500))]
    #[case::time_reached(500, -1, 2500, Due::Now(SECOND))]
    #[case::only_when_local_deletion_wants_it(-1, -1, 1 << 40, Due::Idle)]
    fn either_lag_makes_a_segment_due(#[case] ms: i64, #[case] bytes: i64, #[case] now_ms: i64, #[case] due: Due) {
        let set = |config: &mut TopicConfig, _: &mut Offsets| {
            config.remote_copy_lag_ms = ms;
            config.remote_copy_lag_bytes = bytes;
        };
        assert_eq!(check(set, Some(20), now_ms), due);
    }

    #[rstest]
    #[case::by_time(Some(300), None, 2300, Due::Now(SECOND))]
    #[case::not_yet(Some(300), None, 2299, Due::At(2300))]
    #[case::by_bytes(None, Some(50), 0, Due::Now(SECOND))]
    #[case::fewer_bytes(None, Some(51), 0, Due::Idle)]
    fn minus_one_waits_for_local_retention(
        #[case] ms: Option<i64>,
        #[case] bytes: Option<u64>,
        #[case] now_ms: i64,
        #[case] due: Due,
    ) {
        let set = |config: &mut TopicConfig, _: &mut Offsets| {
            (config.remote_copy_lag_ms, config.remote_copy_lag_bytes) = (-1, -1);
            (config.local_retention_ms, config.local_retention_bytes) = (ms, bytes);
        };
        assert_eq!(check(set, Some(20), now_ms), due);
    }

    #[test]
    fn only_decided_records_are_copied() {
        assert_eq!(check(|_, offsets| offsets.last_stable = 29, Some(20), 2000), Due::Idle);
        assert_eq!(check(|_, offsets| offsets.high_watermark = 29, Some(20), 2000), Due::Idle);
        assert_eq!(check(|_, offsets| offsets.last_stable = 30, Some(20), 2000), Due::Now(SECOND));
    }

    #[test]
    fn what_total_retention_deletes_is_not_copied() {
        assert_eq!(check(|config, _| config.retention_ms = Some(10), Some(20), 2011), Due::Idle);
        assert_eq!(check(|config, _| config.retention_bytes = Some(50), Some(20), 2000), Due::Idle);
        assert_eq!(check(|_, offsets| offsets.log_start = 30, Some(20), 2000), Due::Idle);
    }

    #[test]
    fn retention_does_not_count_where_the_policy_does_not_delete() {
        let compacted = |config: &mut TopicConfig| {
            (config.cleanup_policy.delete, config.retention_ms, config.retention_bytes) = (false, Some(10), Some(50));
        };
        assert_eq!(check(|config, _| compacted(config), Some(20), 2011), Due::Now(SECOND));
    }

    /// Segments 0..10, 10..20 and 20..30; of the first two cleaning left nothing.
    #[rstest]
    #[case::cleaned(30, Some(0), Due::Now(SealedInfo { covers_from: 0, ..SECOND }))]
    #[case::cleaned_in_part(29, Some(0), Due::Idle)]
    #[case::nothing_in_the_tier(30, None, Due::Now(SealedInfo { covers_from: 0, ..SECOND }))]
    #[case::the_tier_ends_in_the_emptied_part(30, Some(10), Due::Now(SealedInfo { covers_from: 10, ..SECOND }))]
    #[case::the_tier_has_all(30, Some(30), Due::Idle)]
    fn a_compacted_segment_is_copied_once_it_is_clean(
        #[case] cleaned_end: Offset,
        #[case] tier_end: Option<Offset>,
        #[case] due: Due,
    ) {
        let mut config = topic_config();
        config.cleanup_policy.compact = true;
        let empty = |base| SealedInfo { bytes: 0, covers_from: 0, ..sealed(base, -1, -1) };
        let sealed = vec![empty(0), empty(10), SealedInfo { covers_from: 0, ..SECOND }];
        let local = LocalInfo { sealed, cleaned_end, ..LocalInfo::default() };
        let offsets =
            Offsets { log_start: 0, local_start: 0, high_watermark: 35, last_stable: 35, log_end: 35, leader_epoch: 0 };
        assert_eq!(next(&config, &offsets, &local, tier_end, 2000), due);
    }

    #[test]
    fn a_hole_behind_the_tier_stops_the_copy_unless_the_log_start_is_above_it() {
        assert_eq!(check(|_, _| {}, Some(5), 2000), Due::Seam { tier_end: 5, local_start: 10 });
        let moved = check(|_, offsets| offsets.log_start = 20, Some(5), 2000);
        assert_eq!(moved, Due::Now(SECOND), "readers never see the hole");
        assert_eq!(check(|_, _| {}, Some(25), 2000), Due::Seam { tier_end: 25, local_start: 20 });
    }
}
