//! Which segments are worth being put together. A pure function of the chain.
//!
//! Each merge either reaches half of the target, and then what it made is not small any more, or makes of every byte's
//! segment one at least twice as large. So a byte is written again at most once more often than its segment can be doubled
//! below half of the target: four times on its way from 0.5 to 16 MiB.

use std::ops::Range;
use std::sync::Arc;

use crate::metadata::remote_log::RemoteSegment;
use crate::protocol::record_batch::Offset;

/// So many small segments are worth an object that is small itself.
const COUNT_MIN: usize = 32;
/// What a merge takes at most: it is one step of a job that everybody shares.
const COUNT_MAX: usize = 256;

/// The first run of `segments`, which are the readable ones by offset, that is worth it. The last segment stays as it is:
/// a start compares it with the local log. What lies across the log start, or `is_left_out`, stays too.
pub(super) fn next(
    segments: &[Arc<RemoteSegment>],
    log_start: Offset,
    target: u64,
    is_left_out: impl Fn(&RemoteSegment) -> bool,
) -> Option<Range<usize>> {
    let (_, older) = segments.split_last()?;
    let is_small = |segment: &RemoteSegment| {
        segment.base_offset >= log_start && segment.log_bytes.saturating_mul(2) < target && !is_left_out(segment)
    };
    let run_from = |first: usize| {
        let (mut log_bytes, mut object_bytes, mut largest) = (0, 0, 0);
        let mut worth_it = None;
        for (at, segment) in older.iter().enumerate().skip(first).take(COUNT_MAX) {
            let follows = at == first || older[at - 1].last_offset + 1 == segment.base_offset;
            object_bytes += segment.object_bytes;
            if !follows || !is_small(segment) || object_bytes > target {
                break;
            }
            log_bytes += segment.log_bytes;
            largest = largest.max(segment.log_bytes);
            let count = at + 1 - first;
            let doubles_all = count >= COUNT_MIN && largest * 2 <= log_bytes;
            if log_bytes * 2 >= target || doubles_all {
                worth_it = Some(first..at + 1);
            }
        }
        worth_it
    };
    (0..older.len()).find_map(run_from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const FOOTER: u64 = 1;

    /// What a segment was made of: how often each part was written again, and its size.
    type Parts = Vec<(u32, u64)>;

    fn segment(base_offset: Offset, last_offset: Offset, log_bytes: u64) -> Arc<RemoteSegment> {
        let object_bytes = log_bytes + FOOTER;
        Arc::new(RemoteSegment { log_bytes, object_bytes, ..RemoteSegment::covering(base_offset, last_offset) })
    }

    /// Segments of ten offsets each, from 0 on.
    fn chain(sizes: &[u64]) -> Vec<Arc<RemoteSegment>> {
        let of = |(n, size): (usize, &u64)| segment(n as Offset * 10, n as Offset * 10 + 9, *size);
        sizes.iter().enumerate().map(of).collect()
    }

    #[rstest]
    #[case::nothing(&[], None)]
    #[case::one(&[10], None)]
    #[case::two_of_which_the_newest_stays(&[400, 400], None)]
    #[case::half_of_the_target(&[300, 300, 5], Some(0..2))]
    #[case::not_half_of_it(&[300, 199, 5], None)]
    #[case::as_much_as_fits(&[300, 300, 300, 300, 5], Some(0..3))]
    #[case::large_ones_stay(&[500, 300, 500, 300, 300, 5], Some(3..5))]
    #[case::large_ones_part_a_run(&[300, 500, 199, 500, 300, 5], None)]
    fn runs(#[case] sizes: &[u64], #[case] expected: Option<Range<usize>>) {
        assert_eq!(next(&chain(sizes), 0, 1000, |_| false), expected);
    }

    #[rstest]
    #[case::too_few(&[2; 32], None)]
    #[case::enough(&[2; 33], Some(0..32))]
    #[case::all_of_them(&[2; 100], Some(0..99))]
    #[case::no_more_than_a_step(&[0; 600], Some(0..256))]
    #[case::one_is_most_of_it(&[&[100], &[2; 32][..]].concat(), None)]
    #[case::without_the_one_that_is(&[&[100], &[2; 33][..]].concat(), Some(1..33))]
    #[case::one_is_half_of_it(&[&[62], &[2; 32][..]].concat(), Some(0..32))]
    #[case::up_to_the_one_that_is(&[&[2; 32], &[200, 5][..]].concat(), Some(0..32))]
    fn many_small_ones(#[case] sizes: &[u64], #[case] expected: Option<Range<usize>>) {
        assert_eq!(next(&chain(sizes), 0, 1000, |_| false), expected);
    }

    #[test]
    fn what_may_not_be_merged_stays() {
        let mut segments = chain(&[300, 300, 300, 300, 5]);
        assert_eq!(next(&segments, 1, 1000, |_| false), Some(1..4), "the first lies across the log start");
        assert_eq!(next(&segments, 0, 1000, |left| left.base_offset == 10), Some(2..4), "known to be bad");
        segments[1] = segment(11, 19, 300);
        assert_eq!(next(&segments, 0, 1000, |_| false), Some(1..4), "an offset is missing before it");
        assert_eq!(next(&segments, 0, 0, |_| false), None, "switched off");
    }

    proptest! {
        /// Segments come one by one and whatever is worth it is merged at once: the run is always sound, and no byte is
        /// written again more often than promised.
        #[test]
        fn a_byte_is_written_again_a_few_times_only(
            sizes in proptest::collection::vec(1u64..700, 1..300), target in 200u64..2000,
        ) {
            let mut segments: Vec<(Arc<RemoteSegment>, Parts)> = Vec::new();
            for (n, size) in sizes.iter().enumerate() {
                segments.push((segment(n as Offset, n as Offset, *size), vec![(0, *size)]));
                loop {
                    let rows: Vec<_> = segments.iter().map(|(row, _)| Arc::clone(row)).collect();
                    let Some(run) = next(&rows, 0, target, |_| false) else { break };
                    prop_assert!(run.len() > 1 && run.end < rows.len(), "{run:?}");
                    let bytes: u64 = rows[run.clone()].iter().map(|row| row.log_bytes).sum();
                    prop_assert!(bytes <= target && rows[run.clone()].iter().all(|row| row.log_bytes * 2 < target));
                    let merged = segment(rows[run.start].base_offset, rows[run.end - 1].last_offset, bytes);
                    let parts = segments[run.clone()].iter().flat_map(|(_, parts)| parts.clone());
                    let parts = parts.map(|(times, size)| (times + 1, size)).collect();
                    segments.splice(run, [(merged, parts)]);
                }
            }
            for (times, size) in segments.into_iter().flat_map(|(_, parts)| parts) {
                let doublings = (target as f64 / 2.0 / size as f64).log2().max(0.0).ceil() as u32;
                prop_assert!(times <= doublings + 1, "{size} bytes were written again {times} times");
            }
        }
    }
}
