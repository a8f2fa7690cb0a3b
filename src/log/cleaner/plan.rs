//! Whether a partition is worth a clean, and which segments become one.

use std::ops::Range;

use crate::config::topic::TopicConfig;
use crate::log::copy_lag;
use crate::protocol::record_batch::Offset;

/// What a plan needs to know of a sealed segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedSegment {
    /// First offset it may hold.
    pub base: Offset,
    /// The offset behind it.
    pub next: Offset,
    /// Bytes of its log.
    pub size_bytes: u64,
    /// Bytes of its larger index.
    pub index_bytes: u64,
    /// Its first batch's timestamp; `None` when it has no record or no time.
    pub first_ms: Option<i64>,
    /// Its newest record's timestamp.
    pub newest_ms: i64,
}

/// A round that is worth its I/O.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// The first offset that was never cleaned.
    pub from: Offset,
    /// Nothing at or above is cleaned.
    pub upto: Offset,
    /// Bytes never cleaned over all bytes below `upto`.
    pub dirty_ratio: f64,
    /// `max.compaction.lag.ms` has passed, or a segment is due for the tier and waits for this round only: it runs whatever
    /// the ratio.
    pub is_overdue: bool,
}

/// Is a round due? `cleaned_end` is where the last one ended; `upto` is min(high watermark, last stable offset);
/// `sealed` are the sealed segments that may be rewritten, in order, and `active_bytes` lie above them.
pub fn plan(
    config: &TopicConfig,
    now_ms: i64,
    cleaned_end: Offset,
    upto: Offset,
    sealed: &[SealedSegment],
    active_bytes: u64,
) -> Option<Plan> {
    let waits = |from| delays_copy(config, now_ms, from, sealed, active_bytes);
    plan_with(config, now_ms, cleaned_end, upto, sealed, waits)
}

/// The same where `waits` tells, of the first offset that was never cleaned, whether something waits for the round only.
pub fn plan_with(
    config: &TopicConfig,
    now_ms: i64,
    cleaned_end: Offset,
    upto: Offset,
    sealed: &[SealedSegment],
    waits: impl FnOnce(Offset) -> bool,
) -> Option<Plan> {
    let start = sealed.first()?.base;
    // Below the start: deleted since. Above everything: the log was emptied and begun anew.
    let from = if cleaned_end > upto { start } else { cleaned_end.max(start) };
    let settled = |segment: &&SealedSegment| {
        let old_enough = now_ms.saturating_sub(segment.newest_ms) >= config.min_compaction_lag_ms;
        segment.next <= upto && (config.min_compaction_lag_ms <= 0 || old_enough)
    };
    // What lies below `from` was cleaned once and stays cleanable; the lag holds back only what came since.
    let cleanable = sealed.iter().take_while(|segment| segment.next <= from || settled(segment)).count();
    let upto = cleanable.checked_sub(1).map(|last| sealed[last].next)?;

    let bytes = |dirty: bool| -> u64 {
        let part = sealed[..cleanable].iter().filter(|segment| (segment.next > from) == dirty);
        part.map(|segment| segment.size_bytes).sum()
    };
    let (dirty, clean) = (bytes(true), bytes(false));
    if dirty == 0 {
        return None;
    }
    let dirty_ratio = dirty as f64 / (dirty + clean) as f64;
    let lag_max = config.max_compaction_lag_ms.max(config.min_compaction_lag_ms);
    let oldest = sealed.iter().filter(|segment| segment.next > from).filter_map(|segment| segment.first_ms).min();
    let is_late = oldest.is_some_and(|first| now_ms.saturating_sub(first) > lag_max);
    let is_overdue = is_late || waits(from);
    let due = is_overdue || dirty_ratio > config.min_cleanable_dirty_ratio;
    due.then_some(Plan { from, upto, dirty_ratio, is_overdue })
}

/// Would the oldest segment that was never cleaned be copied now if it were? What waits for the tier must not wait for a
/// share of other bytes: once a segment is copied it no longer counts among them. Behind cleaned ones that are not copied
/// either it waits for the copier and not for a round, which would write all of those anew with every segment that rolls.
fn delays_copy(config: &TopicConfig, now_ms: i64, from: Offset, sealed: &[SealedSegment], active_bytes: u64) -> bool {
    let oldest = sealed.partition_point(|segment| segment.next <= from);
    let Some((oldest, above)) = sealed.get(oldest..).and_then(|dirty| dirty.split_first()) else { return false };
    if sealed.iter().any(|segment| segment.next <= from && segment.size_bytes > 0) {
        return false;
    }
    let bytes_above = above.iter().map(|segment| segment.size_bytes).sum::<u64>() + active_bytes;
    config.takes_copies()
        && copy_lag::due_at(config, oldest.newest_ms, bytes_above).is_some_and(|at_ms| at_ms <= now_ms)
}

/// Neighbours among `sealed` that become one segment, as index ranges: together no larger than `segment.bytes` and
/// `segment.index.bytes`, and their offsets no further apart than an index entry can say.
pub fn groups(config: &TopicConfig, sealed: &[SealedSegment]) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let (mut size, mut index) = (0, 0);
    for (at, segment) in sealed.iter().enumerate() {
        let fits = |group: &Range<usize>| {
            size + segment.size_bytes <= config.segment_bytes.into()
                && index + segment.index_bytes <= config.segment_index_bytes.into()
                && segment.next - sealed[group.start].base <= i64::from(i32::MAX)
        };
        match groups.last_mut() {
            Some(group) if fits(group) => {
                group.end = at + 1;
                size += segment.size_bytes;
                index += segment.index_bytes;
            }
            _ => {
                groups.push(at..at + 1);
                (size, index) = (segment.size_bytes, segment.index_bytes);
            }
        }
    }
    groups
}
