//! Puts a partition's chain of segments together from what roots name and what a listing finds. No I/O.
//!
//! ```text
//!  roots      [0..9][10..19]               named, in order, without overlaps
//!  listing    [0..9][10..19][20..29]  [40..49]
//!  chain      [0..9][10..19][20..29]       what goes on where the chain ends; 40 does not
//! ```
//! A merged object holds what others did, which are gone once their grace time is over. So a root of an older cut may name
//! segments that are not there, and another object has their records:
//!
//! ```text
//!  root       [0..9][10..19][20..29]
//!  listing    [0..................29]      the same leader epochs at the same offsets: the same records
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

/// The objects that hold all from `first` to `last`, the best first: those that lie within the cut, the longest of them
/// before the others; then those that reach the least beyond it.
pub(super) fn covering(objects: &[ObjectRef], first: i64, last: i64, limit: Option<&Limit>) -> Vec<ObjectRef> {
    let covers = |object: &&ObjectRef| object.base_offset <= first && last <= object.last_offset;
    let beyond = |object: &ObjectRef| limit.map_or(0, |limit| (object.last_offset + 1 - limit.tier_end).max(0));
    let mut found: Vec<ObjectRef> = objects.iter().filter(covers).copied().collect();
    found.sort_unstable_by_key(|object| (beyond(object), object.base_offset - object.last_offset, object.uuid));
    found
}

/// Puts `new` in the place of all entries of the chain that it holds; false, and nothing changed, when it is not shown to
/// hold the same records. An offset and its leader epoch name a record: nobody but the leader of that epoch gave the offset
/// away. What no entry tells of must be no later than the cut.
pub(super) fn put_over(chain: &mut Vec<ManifestEntry>, new: ManifestEntry, limit: Option<&Limit>) -> bool {
    let from = chain.partition_point(|entry| entry.last_offset < new.base_offset);
    let to = chain.partition_point(|entry| entry.base_offset <= new.last_offset);
    let is_of_cut = |(epoch, first): &(i32, i64)| {
        limit.is_none_or(|limit| *first >= limit.tier_end || *epoch <= limit.leader_epoch)
    };
    let is_same = |entry: &ManifestEntry| {
        let within = new.base_offset <= entry.base_offset && entry.last_offset <= new.last_offset;
        let mut in_entry =
            new.epochs.iter().filter(|(_, first)| (entry.base_offset..=entry.last_offset).contains(first));
        within
            && entry.epochs.iter().all(|(epoch, first)| epoch_at(&new.epochs, *first) == Some(*epoch))
            && in_entry.all(|(epoch, first)| epoch_at(&entry.epochs, *first) == Some(*epoch))
    };
    let takes_place = new.epochs.iter().all(is_of_cut) && chain[from..to].iter().all(is_same);
    if takes_place {
        chain.splice(from..to, [new]);
    }
    takes_place
}

/// The leader epoch of the record at `offset`.
fn epoch_at(epochs: &[(i32, i64)], offset: i64) -> Option<i32> {
    epochs.iter().rev().find(|(_, first)| *first <= offset).map(|(epoch, _)| *epoch)
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

    fn merged(base_offset: i64, last_offset: i64, leader_epoch: i32, epochs: &[(i32, i64)]) -> ManifestEntry {
        ManifestEntry { epochs: epochs.to_vec(), ..entry(base_offset, last_offset, leader_epoch) }
    }

    #[test]
    fn a_merged_object_is_found_for_what_it_holds() {
        let objects = [object(0, 9, 1), object(0, 29, 1), object(0, 49, 2), object(10, 39, 1), object(20, 29, 1)];
        let found = |first, last, tier_end| {
            let limit = Limit { written_ms: 0, tier_end, leader_epoch: 1 };
            let found = covering(&objects, first, last, Some(&limit));
            found.iter().map(|object| (object.base_offset, object.last_offset)).collect::<Vec<_>>()
        };
        assert_eq!(found(10, 19, 60), [(0, 49), (0, 29), (10, 39)], "the longest that lies within the cut");
        assert_eq!(found(10, 19, 40), [(0, 29), (10, 39), (0, 49)], "what reaches beyond it comes last");
        assert_eq!(found(10, 19, 20), [(0, 29), (10, 39), (0, 49)], "and the one that reaches least beyond it first");
        assert_eq!(found(40, 59, 60), []);
    }

    #[test]
    fn a_merged_object_takes_the_place_of_the_same_records_only() {
        let chain = vec![entry(0, 9, 1), entry(10, 19, 1), entry(20, 29, 2), entry(30, 39, 2)];
        let limit = Limit { written_ms: 0, tier_end: 40, leader_epoch: 2 };
        let put = |new: ManifestEntry| {
            let mut chain = chain.clone();
            let put = put_over(&mut chain, new, Some(&limit));
            put.then(|| chain.iter().map(|entry| (entry.base_offset, entry.last_offset)).collect::<Vec<_>>())
        };
        let after = Some(vec![(0, 9), (10, 29), (30, 39)]);
        assert_eq!(put(merged(10, 29, 7, &[(1, 10), (2, 20)])), after, "whoever merged it");
        assert_eq!(put(merged(0, 59, 7, &[(1, 0), (2, 20), (7, 40)])), Some(vec![(0, 59)]), "what lies behind is cut");
        for (why, other) in [
            ("another began there", merged(10, 29, 7, &[(1, 10), (3, 20)])),
            ("one went on there", merged(10, 29, 7, &[(1, 10)])),
            ("one began between", merged(10, 29, 7, &[(1, 10), (2, 15)])),
            ("half of an entry", merged(15, 29, 7, &[(1, 15), (2, 20)])),
        ] {
            assert_eq!(put(other), None, "{why}");
        }
        let behind = merged(40, 59, 7, &[(7, 40)]);
        assert_eq!(put(merged(30, 39, 2, &[(2, 30)])).map(|chain| chain.len()), Some(4));
        assert!(!put_over(&mut chain.clone(), behind, Some(&Limit { tier_end: 50, ..limit })), "a later history");
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
