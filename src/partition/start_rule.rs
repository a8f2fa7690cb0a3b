//! The start rule: where a tiered partition's local log begins this run, given what our rows say is in the tier.
//!
//! What is FINISHED was below the high watermark, and so was a log start that the rows have, so a local log that ends
//! before either lost records that readers saw (a power loss without syncs, a lost disk). It must not give their offsets
//! away a second time.

use crate::metadata::remote_log::RemoteChain;
use crate::protocol::record_batch::Offset;

/// How a partition's local log begins a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LocalStart {
    /// As it is.
    Keep,
    /// It ends before the tier: it will be emptied and go on at the tier's end, once the tier has told the producers
    /// as of there.
    Behind {
        /// Where the tier ends; where nothing in it can be read, the log start that the rows have.
        tier_end: Offset,
    },
    /// Records that readers may ask for are in neither tier: the partition stays offline.
    Gap {
        /// Where the tier ends.
        tier_end: Offset,
        /// Where the local log begins.
        local_start: Offset,
    },
}

/// Decides by what the local log holds.
pub(super) fn local_start(chain: &RemoteChain, log_start: Offset, local_start: Offset, log_end: Offset) -> LocalStart {
    let reached = chain.reached();
    if log_end < reached {
        return LocalStart::Behind { tier_end: reached };
    }
    match chain.end() {
        Some(tier_end) if local_start > tier_end.max(log_start) => LocalStart::Gap { tier_end, local_start },
        _ => LocalStart::Keep,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;

    use super::*;
    use crate::metadata::remote_log::RemoteSegment;

    #[rstest]
    #[case::no_tier(0, 0, 0, 0, LocalStart::Keep)]
    #[case::nothing_local(20, 0, 0, 0, LocalStart::Behind { tier_end: 20 })]
    #[case::local_lost_its_tail(20, 0, 5, 19, LocalStart::Behind { tier_end: 20 })]
    #[case::local_ends_with_the_tier(20, 0, 5, 20, LocalStart::Keep)]
    #[case::local_goes_on(20, 0, 20, 33, LocalStart::Keep)]
    #[case::gap(20, 0, 21, 33, LocalStart::Gap { tier_end: 20, local_start: 21 })]
    #[case::gap_below_the_log_start(20, 21, 21, 33, LocalStart::Keep)]
    fn the_start_rule(
        #[case] tier_end: Offset,
        #[case] log_start: Offset,
        #[case] begins: Offset,
        #[case] log_end: Offset,
        #[case] expected: LocalStart,
    ) {
        let segments: Vec<_> =
            (tier_end > 0).then(|| Arc::new(RemoteSegment::covering(0, tier_end - 1))).into_iter().collect();
        let chain = RemoteChain { segments, ..RemoteChain::default() };
        assert_eq!(local_start(&chain, log_start, begins, log_end), expected);
    }

    #[rstest]
    #[case::nothing_local(0, 0, LocalStart::Behind { tier_end: 30 })]
    #[case::all_that_is_local_was_deleted(10, 25, LocalStart::Behind { tier_end: 30 })]
    #[case::local_ends_there(10, 30, LocalStart::Keep)]
    #[case::local_goes_on(10, 33, LocalStart::Keep)]
    fn a_log_start_was_reached_too(#[case] begins: Offset, #[case] log_end: Offset, #[case] expected: LocalStart) {
        let chain = RemoteChain { log_start: 30, ..RemoteChain::default() };
        assert_eq!(local_start(&chain, begins, begins, log_end), expected);
    }
}
