use std::collections::BTreeMap;

use rstest::rstest;

use super::*;
use crate::config::layers::Dynamic;
use crate::config::server::BrokerConfig;

/// Segments of 100 bytes and 10 offsets; the newest record of the one at `base` is at `1000 + base`.
fn extent(base: Offset) -> Extent {
    Extent { base, next: base + 10, size_bytes: 100, newest_ms: 1000 + base }
}

fn segment(base: Offset, is_active: bool, is_copied: bool) -> LocalSegment {
    LocalSegment { extent: extent(base), is_active, is_copied }
}

#[derive(Debug)]
struct Case {
    config: TopicConfig,
    now_ms: i64,
    log_start: Offset,
    upto: Offset,
    remote: Vec<Extent>,
    local: Vec<LocalSegment>,
}

impl Case {
    /// Four segments at 0, 10, 20 and the active one at 30; no limits, no tier.
    fn local() -> Self {
        let mut config = TopicConfig::resolve(&BrokerConfig::defaults(), Dynamic::none(), "t", &BTreeMap::new());
        config.cleanup_policy.delete = true;
        (config.retention_ms, config.retention_bytes) = (None, None);
        (config.local_retention_ms, config.local_retention_bytes) = (None, None);
        config.remote_storage_enable = false;
        config.remote_log_copy_disable = false;
        let local = (0..4).map(|i| segment(i * 10, i == 3, false)).collect();
        Self { config, now_ms: 1000, log_start: 0, upto: 40, remote: Vec::new(), local }
    }

    /// The same, and 0, 10 and 20 are copied, with two more remote segments below them.
    fn tiered() -> Self {
        let mut case = Self::local();
        case.config.remote_storage_enable = true;
        for segment in &mut case.local[..3] {
            segment.is_copied = true;
        }
        case.log_start = -20;
        case.remote = [-20, -10, 0, 10, 20].map(extent).into();
        case
    }

    fn decide(&self) -> (Offset, Offset, bool) {
        let decision = decide(&Facts {
            config: &self.config,
            now_ms: self.now_ms,
            log_start: self.log_start,
            upto: self.upto,
            remote: &self.remote,
            local: &self.local,
        });
        (decision.log_start, decision.local_start, decision.roll_active)
    }
}

#[rstest]
#[case::unlimited(None, i64::MAX, (0, 0, false))]
#[case::just_kept(Some(100), 1100, (0, 0, false))]
#[case::first(Some(100), 1101, (10, 10, false))]
#[case::three(Some(100), 1121, (30, 30, false))]
#[case::all_and_the_active_rolls(Some(100), 1131, (40, 40, true))]
#[case::clock_far_behind(Some(100), i64::MIN, (0, 0, false))]
fn time_takes_the_oldest(#[case] ms: Option<i64>, #[case] now_ms: i64, #[case] expected: (Offset, Offset, bool)) {
    let mut case = Case { now_ms, ..Case::local() };
    case.config.retention_ms = ms;
    assert_eq!(case.decide(), expected);
}

// Kafka deletes while what remains without the segment still reaches the limit: 400 bytes in all here.
#[rstest]
#[case::unlimited(None, (0, 0, false))]
#[case::one_byte_short(Some(301), (0, 0, false))]
#[case::exactly_one(Some(300), (10, 10, false))]
#[case::two(Some(150), (20, 20, false))]
#[case::all_and_the_active_rolls(Some(0), (40, 40, true))]
fn size_takes_what_leaves_the_limit_full(#[case] bytes: Option<u64>, #[case] expected: (Offset, Offset, bool)) {
    let mut case = Case::local();
    case.config.retention_bytes = bytes;
    assert_eq!(case.decide(), expected);
}

#[test]
fn a_future_timestamp_keeps_its_segment_and_all_behind_it() {
    let mut case = Case { now_ms: i64::MAX, ..Case::local() };
    case.config.retention_ms = Some(100);
    case.local[1].extent.newest_ms = i64::MAX;
    assert_eq!(case.decide(), (10, 10, false));
}

#[test]
fn a_segment_without_time_is_as_old_as_the_next() {
    let mut case = Case { now_ms: 1111, ..Case::local() };
    case.config.retention_ms = Some(100);
    case.local[0].extent.newest_ms = -1;
    assert_eq!(case.decide(), (20, 20, false));
    case.local.truncate(1);
    assert_eq!(case.decide(), (0, 0, false));
}

#[rstest]
#[case::inside_a_segment(25, (25, 20, false))]
#[case::at_a_border(30, (30, 30, false))]
#[case::at_the_end_the_active_stays(40, (40, 30, false))]
fn what_lies_below_the_log_start_goes(#[case] log_start: Offset, #[case] expected: (Offset, Offset, bool)) {
    assert_eq!(Case { log_start, ..Case::local() }.decide(), expected);
}

#[test]
fn nothing_above_the_high_watermark_goes() {
    let mut case = Case { upto: 19, now_ms: i64::MAX, ..Case::local() };
    (case.config.retention_ms, case.config.retention_bytes) = (Some(0), Some(0));
    assert_eq!(case.decide(), (10, 10, false));
}

#[test]
fn an_empty_active_segment_is_left_alone() {
    let mut case = Case { now_ms: i64::MAX, ..Case::local() };
    case.config.retention_ms = Some(0);
    case.local[3].extent = Extent { next: 30, size_bytes: 0, newest_ms: -1, ..case.local[3].extent };
    case.upto = 30;
    assert_eq!(case.decide(), (30, 30, false));
}

#[test]
fn a_compacted_topic_loses_only_what_lies_below_its_log_start() {
    let mut case = Case { now_ms: i64::MAX, log_start: 12, ..Case::local() };
    (case.config.retention_ms, case.config.retention_bytes) = (Some(0), Some(0));
    case.config.cleanup_policy.delete = false;
    assert_eq!(case.decide(), (12, 10, false));
}

// 600 bytes of disjoint ranges: five remote segments and the active one above them.
#[rstest]
#[case::none(Some(501), (-20, 0, false))]
#[case::oldest_remote(Some(500), (-10, 0, false))]
#[case::into_the_local_part(Some(300), (10, 10, false))]
#[case::all(Some(0), (40, 40, true))]
fn total_size_counts_each_offset_once(#[case] bytes: Option<u64>, #[case] expected: (Offset, Offset, bool)) {
    let mut case = Case::tiered();
    case.config.retention_bytes = bytes;
    assert_eq!(case.decide(), expected);
}

#[test]
fn total_retention_takes_local_segments_that_were_never_copied() {
    let mut case = Case { now_ms: 1111, ..Case::tiered() };
    case.config.retention_ms = Some(100);
    case.remote.truncate(2);
    for segment in &mut case.local {
        segment.is_copied = false;
    }
    assert_eq!(case.decide(), (20, 20, false));
}

#[rstest]
#[case::by_time(Some(100), None, 1111, 20)]
#[case::by_size(None, Some(200), 0, 20)]
#[case::all_copied_the_active_stays(Some(0), Some(0), i64::MAX, 30)]
#[case::unlimited(None, None, i64::MAX, 0)]
fn local_retention_frees_what_is_copied(
    #[case] ms: Option<i64>,
    #[case] bytes: Option<u64>,
    #[case] now_ms: i64,
    #[case] local_start: Offset,
) {
    let mut case = Case { now_ms, ..Case::tiered() };
    (case.config.local_retention_ms, case.config.local_retention_bytes) = (ms, bytes);
    assert_eq!(case.decide(), (-20, local_start, false));
}

#[rstest]
#[case::second_is_not_copied(|case: &mut Case| case.local[1].is_copied = false, 10)]
#[case::copying_is_off(|case: &mut Case| case.config.remote_log_copy_disable = true, 0)]
#[case::tiering_is_off(|case: &mut Case| case.config.remote_storage_enable = false, 0)]
fn local_retention_waits_for_the_copy(#[case] change: impl Fn(&mut Case), #[case] local_start: Offset) {
    let mut case = Case { now_ms: i64::MAX, ..Case::tiered() };
    case.config.local_retention_ms = Some(0);
    change(&mut case);
    assert_eq!(case.decide(), (-20, local_start, false));
}
