//! What is copied when: one rule over the sealed segments of a partition.
//!
//! A segment is copied when either of `remote.copy.lag.ms` and `remote.copy.lag.bytes` is reached: 0 is reached at once,
//! -1 when the segment becomes eligible for local deletion by that measure while total retention keeps it.

use crate::config::topic::TopicConfig;
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
    let Some(at) = local.sealed.iter().position(|segment| segment.next_offset > copied_to) else { return Due::Idle };
    let segment = local.sealed[at];
    if let Some(tier_end) = tier_end {
        let hole = segment.base_offset > copied_to && tier_end == copied_to;
        if hole || segment.base_offset < tier_end {
            return Due::Seam { tier_end, local_start: segment.base_offset };
        }
    }
    if segment.next_offset > offsets.high_watermark.min(offsets.last_stable) {
        return Due::Idle;
    }
    let bytes_above = local.sealed[at + 1..].iter().map(|later| later.bytes).sum::<u64>() + local.active_bytes;
    if !kept(config, &segment, bytes_above, now_ms) {
        return Due::Idle;
    }
    match (by_bytes(config, bytes_above), by_time(config, &segment)) {
        (true, _) => Due::Now(segment),
        (false, Some(at_ms)) if at_ms <= now_ms => Due::Now(segment),
        (false, Some(at_ms)) => Due::At(at_ms),
        (false, None) => Due::Idle,
    }
}

/// Does total retention keep the segment? What it is about to delete is not worth copying.
fn kept(config: &TopicConfig, segment: &SealedInfo, bytes_above: u64, now_ms: i64) -> bool {
    let too_old = config.retention_ms.is_some_and(|ms| older_than(segment.max_timestamp, ms, now_ms));
    let too_much = config.retention_bytes.is_some_and(|bytes| bytes_above >= bytes);
    !too_old && !too_much
}

fn by_bytes(config: &TopicConfig, bytes_above: u64) -> bool {
    match u64::try_from(config.remote_copy_lag_bytes) {
        Ok(lag) => bytes_above >= lag,
        Err(_) => config.local_retention_bytes.is_some_and(|keep| bytes_above >= keep),
    }
}

/// When the time rule is reached; `None` never.
fn by_time(config: &TopicConfig, segment: &SealedInfo) -> Option<i64> {
    match config.remote_copy_lag_ms {
        0 => Some(i64::MIN),
        lag if lag > 0 => Some(segment.max_timestamp.saturating_add(lag)),
        _ => config.local_retention_ms.map(|keep| segment.max_timestamp.saturating_add(keep)),
    }
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

    const SECOND: SealedInfo =
        SealedInfo { base_offset: 20, next_offset: 30, bytes: 100, first_timestamp: 1000, max_timestamp: 2000 };

    /// Segments 10..20 and 20..30 of 100 bytes with times up to 1000 and 2000, an active one of 50 bytes from 30 on.
    fn check(change: impl Fn(&mut TopicConfig, &mut Offsets), tier_end: Option<Offset>, now_ms: i64) -> Due {
        let first =
            SealedInfo { base_offset: 10, next_offset: 20, bytes: 100, first_timestamp: 1, max_timestamp: 1000 };
        let local = LocalInfo { sealed: vec![first, SECOND], active_bytes: 50, active_first_timestamp: Some(2001) };
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
    fn a_hole_behind_the_tier_stops_the_copy_unless_the_log_start_is_above_it() {
        assert_eq!(check(|_, _| {}, Some(5), 2000), Due::Seam { tier_end: 5, local_start: 10 });
        let moved = check(|_, offsets| offsets.log_start = 20, Some(5), 2000);
        assert_eq!(moved, Due::Now(SECOND), "readers never see the hole");
        assert_eq!(check(|_, _| {}, Some(25), 2000), Due::Seam { tier_end: 25, local_start: 20 });
    }
}
