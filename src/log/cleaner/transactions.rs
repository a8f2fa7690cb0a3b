//! What a pass over a compacted log knows of the transactions in it: whose batches are aborted, and which markers nothing
//! hangs on any more.
//!
//! ```text
//! pass n    data of an aborted transaction goes, its marker and its index entry stay (somebody may read the old file)
//! pass n+1  no batch of it is met: the marker gets its delete horizon
//! pass m    the horizon is over: the marker goes
//! ```
//! A commit marker goes the same way once all records of its transaction were superseded. Everything that is cleaned lies
//! below the last stable offset, so every transaction met is decided, if by a marker behind the pass's end.

use std::collections::{HashMap, HashSet};

use crate::log::txn_index::AbortedTransaction;
use crate::protocol::record_batch::{BatchView, Offset, ProducerId};

/// One pass, batch by batch in the order of offsets.
#[derive(Debug, Clone, Default)]
pub struct TransactionWalk {
    /// Those that the pass has not reached, the last first.
    ahead: Vec<AbortedTransaction>,
    /// The aborted ones it is in, and whether a batch of them was met.
    aborted: HashMap<ProducerId, (AbortedTransaction, bool)>,
    /// Producers of whose running transaction, which will be committed, a batch was met.
    committed: HashSet<ProducerId>,
}

/// A marker that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marker {
    /// Nothing of its transaction was met: it may go when its delete horizon is over.
    pub(super) is_idle: bool,
    /// What the index must say as long as the transaction's batches are there; `None` after a commit.
    pub(super) entry: Option<AbortedTransaction>,
}

impl TransactionWalk {
    /// A pass over a range in which, or in part of which, `aborted` lie.
    pub fn new(aborted: Vec<AbortedTransaction>) -> Self {
        let mut walk = Self::default();
        walk.learn(aborted);
        walk
    }

    /// These lie in what comes next too, or reach into it. Those that are known already change nothing.
    pub fn learn(&mut self, aborted: impl IntoIterator<Item = AbortedTransaction>) {
        let is_met = |new: &AbortedTransaction| {
            self.aborted.get(&new.producer_id).is_some_and(|(known, _)| known.first_offset == new.first_offset)
        };
        let new: Vec<_> = aborted.into_iter().filter(|transaction| !is_met(transaction)).collect();
        self.ahead.extend(new);
        let place = |transaction: &AbortedTransaction| (transaction.first_offset, transaction.producer_id);
        self.ahead.sort_unstable_by_key(|transaction| std::cmp::Reverse(place(transaction)));
        self.ahead.dedup_by_key(|transaction| place(transaction));
    }

    /// Meets a data batch; true when it was aborted.
    pub(crate) fn data(&mut self, batch: &BatchView<'_>) -> bool {
        self.reach(batch.last_offset());
        if !batch.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&batch.producer_id()) {
            // What lies behind its marker is another transaction's, also where nobody met the marker.
            Some((transaction, met)) if batch.base_offset() < transaction.last_offset => {
                *met = true;
                true
            }
            _ => {
                self.committed.insert(batch.producer_id());
                false
            }
        }
    }

    /// Meets a marker.
    pub(super) fn marker(&mut self, batch: &BatchView<'_>, commit: bool) -> Marker {
        self.reach(batch.last_offset());
        if commit {
            return Marker { is_idle: !self.committed.remove(&batch.producer_id()), entry: None };
        }
        match self.aborted.remove(&batch.producer_id()) {
            Some((transaction, met)) => Marker { is_idle: !met, entry: Some(transaction) },
            None => Marker { is_idle: true, entry: None },
        }
    }

    fn reach(&mut self, offset: Offset) {
        while let Some(next) = self.ahead.pop_if(|next| next.first_offset <= offset) {
            self.aborted.entry(next.producer_id).or_insert((next, false));
        }
    }
}
