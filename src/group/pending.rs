//! Offsets that were committed within transactions which are still open.
//!
//! A pending offset becomes the group's when its transaction is committed, unless a younger commit of the same partition
//! has become the group's meanwhile: the order of the records in the log decides, not the order of the markers, because
//! compaction keeps the youngest record. Until then the partition has no stable offset for those who ask for one
//! (KIP-447).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::records::{Committed, OffsetKey};
use crate::protocol::record_batch::ProducerId;

/// The pending offsets of one shard.
#[derive(Debug, Default)]
pub struct PendingOffsets {
    by_key: HashMap<OffsetKey, BTreeMap<ProducerId, Pending>>,
    by_producer: HashMap<ProducerId, HashSet<OffsetKey>>,
    /// Number of the last record that was taken over.
    last: u64,
}

#[derive(Debug)]
struct Pending {
    /// The place of its record among all pending ones.
    nth: u64,
    /// `None` once a younger commit has become the group's: nothing is left of it but that its transaction is open.
    committed: Option<Committed>,
}

impl PendingOffsets {
    /// Takes over a record of an open transaction.
    pub fn put(&mut self, producer_id: ProducerId, key: OffsetKey, committed: Committed) {
        self.last += 1;
        self.by_producer.entry(producer_id).or_default().insert(key.clone());
        let pending = Pending { nth: self.last, committed: Some(committed) };
        self.by_key.entry(key).or_default().insert(producer_id, pending);
    }

    /// An offset of no transaction was committed: the older pending ones will not replace it.
    pub fn supersede(&mut self, key: &OffsetKey) {
        self.supersede_until(key, self.last);
    }

    fn supersede_until(&mut self, key: &OffsetKey, nth: u64) {
        for pending in self.by_key.get_mut(key).into_iter().flat_map(BTreeMap::values_mut) {
            if pending.nth <= nth {
                pending.committed = None;
            }
        }
    }

    /// The offset was deleted, pending ones included.
    pub fn forget(&mut self, key: &OffsetKey) {
        for producer_id in self.by_key.remove(key).unwrap_or_default().into_keys() {
            if let Some(keys) = self.by_producer.get_mut(&producer_id) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_producer.remove(&producer_id);
                }
            }
        }
    }

    /// The transaction ended; what becomes the groups' if it was committed.
    pub fn end(&mut self, producer_id: ProducerId, commit: bool) -> Vec<(OffsetKey, Committed)> {
        let mut materialized = Vec::new();
        for key in self.by_producer.remove(&producer_id).unwrap_or_default() {
            let Some(producers) = self.by_key.get_mut(&key) else { continue };
            let ended = producers.remove(&producer_id);
            if producers.is_empty() {
                self.by_key.remove(&key);
            }
            if let Some(Pending { nth, committed: Some(committed) }) = ended
                && commit
            {
                self.supersede_until(&key, nth);
                materialized.push((key, committed));
            }
        }
        materialized
    }

    /// Is there a pending offset of this partition?
    pub fn contains(&self, key: &OffsetKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// Everything that is pending.
    pub fn keys(&self) -> impl Iterator<Item = &OffsetKey> {
        self.by_key.keys()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn key(topic: &str) -> OffsetKey {
        OffsetKey { group: "g".into(), topic: topic.into(), partition: 0 }
    }

    fn committed(offset: i64) -> Committed {
        Committed {
            offset,
            leader_epoch: -1,
            metadata: "".into(),
            commit_timestamp: 0,
            expire_timestamp: None,
            topic_id: Uuid::nil(),
        }
    }

    #[test]
    fn a_commit_hands_over_and_an_abort_drops() {
        let mut pending = PendingOffsets::default();
        pending.put(1, key("t"), committed(5));
        pending.put(1, key("t"), committed(6));
        pending.put(2, key("u"), committed(7));
        assert!(pending.contains(&key("t")));
        assert_eq!(pending.end(1, true), [(key("t"), committed(6))]);
        assert_eq!(pending.end(2, false), []);
        assert_eq!(pending.end(3, true), []);
        assert!(!pending.contains(&key("t")) && pending.by_producer.is_empty() && pending.keys().next().is_none());
    }

    #[test]
    fn the_youngest_record_wins_whichever_marker_comes_first() {
        for first in [1, 2] {
            let mut pending = PendingOffsets::default();
            pending.put(1, key("t"), committed(5));
            pending.put(2, key("t"), committed(6));
            let handed_over = [pending.end(first, true), pending.end(3 - first, true)].concat();
            assert_eq!(handed_over.last(), Some(&(key("t"), committed(6))));
        }
    }

    #[test]
    fn a_commit_without_transaction_is_younger_than_what_is_pending() {
        let mut pending = PendingOffsets::default();
        pending.put(1, key("t"), committed(5));
        pending.supersede(&key("t"));
        assert!(pending.contains(&key("t")), "not stable before the transaction ends");
        pending.put(2, key("t"), committed(6));
        assert_eq!(pending.end(1, true), []);
        assert_eq!(pending.end(2, true), [(key("t"), committed(6))]);
    }

    #[test]
    fn what_is_deleted_does_not_come_back() {
        let mut pending = PendingOffsets::default();
        pending.put(1, key("t"), committed(5));
        pending.forget(&key("t"));
        assert!(!pending.contains(&key("t")) && pending.by_producer.is_empty());
        assert_eq!(pending.end(1, true), []);
    }
}
