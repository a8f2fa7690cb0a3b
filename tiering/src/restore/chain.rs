//! Puts a partition's chain of segments together from what roots name and what a listing finds. No I/O.
//!
//! ```text
//!  roots      [0..9][10..19]               named, in order, without overlaps
//!  listing    [0..9][10..19][20..29]  [40..49]
//!  chain      [0..9][10..19][20..29]       what goes on where the chain ends; 40 does not
//! ```
//! An object that no root names may still be a whole copy: it was finished in the seconds before the next root. One of an
//! older leader epoch than the root is not: whoever wrote the root knew of it and left it out, because it had been deleted
//! or belongs to a history that an earlier restore gave up.

use std::collections::{BTreeMap, HashSet};

use uuid::Uuid;

use crate::manifest::ManifestEntry;
use crate::names::ObjectRef;

/// Where an older cut ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// When the cut was made, wall time of the store in milliseconds.
    pub written_ms: i64,
    /// Offset behind the last segment that belongs to it.
    pub tier_end: i64,
    /// Leader epoch of the broker that made it: what later ones copied is another history.
    pub leader_epoch: i32,
}

impl Limit {
    /// Does a segment belong to the cut?
    pub(super) fn allows(&self, last_offset: i64, leader_epoch: i32) -> bool {
        last_offset < self.tier_end && leader_epoch <= self.leader_epoch
    }
}

/// The entries of several roots as one chain; where two overlap the one that comes first in `roots` counts.
pub(super) fn merge(roots: impl IntoIterator<Item = Vec<ManifestEntry>>) -> Vec<ManifestEntry> {
    let mut chain: BTreeMap<i64, ManifestEntry> = BTreeMap::new();
    for entry in roots.into_iter().flatten() {
        let before = chain.range(..=entry.last_offset).next_back();
        if before.is_none_or(|(_, before)| before.last_offset < entry.base_offset) {
            chain.insert(entry.base_offset, entry);
        }
    }
    chain.into_values().collect()
}

/// Splits what the roots name into what is there and what is not.
pub(super) fn split_missing(
    named: Vec<ManifestEntry>,
    objects: &[ObjectRef],
) -> (Vec<ManifestEntry>, Vec<ManifestEntry>) {
    let there: HashSet<Uuid> = objects.iter().map(|object| object.uuid).collect();
    named.into_iter().partition(|entry| there.contains(&entry.uuid))
}

/// The objects by which a chain that ends at `end` may go on, the best first: the newest copy, then the longest. `end` is
/// `None` while the chain is empty: then it begins with the first object that reaches `log_start`.
pub(super) fn candidates(
    objects: &[ObjectRef],
    end: Option<i64>,
    log_start: i64,
    epoch_min: i32,
    limit: Option<&Limit>,
) -> Vec<ObjectRef> {
    let allowed = |object: &&ObjectRef| {
        object.leader_epoch >= epoch_min
            && limit.is_none_or(|limit| limit.allows(object.last_offset, object.leader_epoch))
    };
    let mut found: Vec<ObjectRef> = match end {
        Some(end) => objects.iter().filter(allowed).filter(|object| object.base_offset == end).copied().collect(),
        None => {
            let reaches: Vec<_> =
                objects.iter().filter(allowed).filter(|object| object.last_offset >= log_start).collect();
            let first = reaches.iter().map(|object| object.base_offset).min();
            reaches.into_iter().filter(|object| Some(object.base_offset) == first).copied().collect()
        }
    };
    found.sort_unstable_by_key(|object| (-object.leader_epoch, -object.last_offset, object.uuid));
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(base_offset: i64, last_offset: i64, leader_epoch: i32) -> ManifestEntry {
        ManifestEntry {
            uuid: Uuid::from_u128((base_offset as u128) << 64 | (last_offset as u128) << 8 | leader_epoch as u128),
            base_offset,
            last_offset,
            leader_epoch,
            log_bytes: 1,
            object_bytes: 2,
            first_timestamp: 0,
            max_timestamp: 0,
            max_timestamp_offset: last_offset,
            epochs: vec![(leader_epoch, base_offset)],
        }
    }

    fn object(base_offset: i64, last_offset: i64, leader_epoch: i32) -> ObjectRef {
        entry(base_offset, last_offset, leader_epoch).object(Uuid::nil(), 0)
    }

    #[test]
    fn of_two_roots_the_first_counts_and_the_other_fills_up() {
        let before = vec![entry(0, 9, 1), entry(10, 19, 1)];
        let after = vec![entry(10, 19, 2), entry(20, 29, 2)];
        assert_eq!(merge([before, after]), [entry(0, 9, 1), entry(10, 19, 1), entry(20, 29, 2)]);
    }

    #[test]
    fn what_is_not_there_is_told_from_what_is() {
        let named = vec![entry(0, 9, 1), entry(10, 19, 1)];
        assert_eq!(split_missing(named, &[object(10, 19, 1)]), (vec![entry(10, 19, 1)], vec![entry(0, 9, 1)]));
    }

    #[test]
    fn a_chain_goes_on_where_it_ends_with_the_newest_copy() {
        let objects = [object(10, 19, 1), object(20, 29, 1), object(20, 29, 2), object(20, 25, 2), object(40, 49, 2)];
        let next = |end, epoch_min, limit: Option<Limit>| candidates(&objects, end, 0, epoch_min, limit.as_ref());
        assert_eq!(next(Some(20), 1, None), [object(20, 29, 2), object(20, 25, 2), object(20, 29, 1)]);
        assert_eq!(next(Some(20), 2, None), [object(20, 29, 2), object(20, 25, 2)], "older copies were left out");
        assert_eq!(next(Some(30), 1, None), [], "what lies behind a gap does not belong to it");
        let limit = Limit { written_ms: 0, tier_end: 30, leader_epoch: 1 };
        assert_eq!(next(Some(20), 1, Some(limit)), [object(20, 29, 1)], "a later history");
        assert_eq!(next(Some(20), 1, Some(Limit { tier_end: 29, ..limit })), [], "behind the cut");
    }

    #[test]
    fn an_empty_chain_begins_where_the_log_does() {
        let objects = [object(0, 9, 1), object(10, 19, 1), object(20, 29, 1)];
        let first = |log_start| candidates(&objects, None, log_start, 0, None);
        assert_eq!(first(0), [object(0, 9, 1)]);
        assert_eq!(first(12), [object(10, 19, 1)]);
        assert_eq!(first(30), []);
    }

    proptest! {
        #[test]
        fn a_merged_chain_is_in_order_and_disjoint(
            roots in proptest::collection::vec(proptest::collection::vec((0i64..100, 0i64..20, 0i32..4), 0..12), 0..4),
        ) {
            let roots = roots.into_iter().map(|root| root.into_iter().map(|(b, n, e)| entry(b, b + n, e)).collect());
            let chain = merge(roots);
            prop_assert!(chain.windows(2).all(|two| two[0].last_offset < two[1].base_offset));
        }
    }
}
