//! What a round leaves of the segments that it passes over, batch by batch, cut into pieces of a bounded size. No I/O.
//!
//! A piece is closed when the next batch that stays does not fit any more. So none is without a batch, and segments of which
//! nothing stays are covered by the piece before them or behind.

use std::borrow::Cow;
use std::sync::Arc;

use terrace_tiering::object::footer::AbortedTransaction as FooterEntry;

use crate::log::cleaner::{Ends, KeyMap, Rules, TransactionWalk};
use crate::log::txn_index::AbortedTransaction;
use crate::protocol::record_batch::{BatchError, BatchView, Offset};

/// By what a round decides; see [`Rules`].
#[derive(Debug, Clone)]
pub(super) struct RoundRules {
    pub map: Arc<KeyMap>,
    pub now_ms: i64,
    pub delete_retention_ms: i64,
    pub decompressed_max_bytes: u64,
    pub sees_all: bool,
}

/// Batches that become one segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// First offset it covers.
    pub base: Offset,
    /// Last offset it covers.
    pub last: Offset,
    /// Its batches.
    pub log: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Rewriter {
    rules: RoundRules,
    transactions: TransactionWalk,
    piece_bytes: usize,
    /// The first offset that the piece at hand covers.
    base: Offset,
    /// Its batches.
    log: Vec<u8>,
    /// The segment at hand is not left as it is.
    has_changed: bool,
}

impl Rewriter {
    /// Pieces get no larger than `piece_bytes`, unless one batch is.
    pub fn new(rules: RoundRules, piece_bytes: usize) -> Self {
        let transactions = TransactionWalk::default();
        Self { rules, transactions, piece_bytes, base: 0, log: Vec::new(), has_changed: false }
    }

    /// The next piece covers what lies from `base` on. Whatever was not taken is forgotten.
    pub fn cover_from(&mut self, base: Offset) {
        self.base = base;
        self.log.clear();
    }

    /// The next segment comes, with these aborted transactions. Nothing of them stays, so what is left of it has none.
    pub fn begin(&mut self, aborted: &[FooterEntry]) {
        self.has_changed = !aborted.is_empty();
        self.transactions.learn(aborted.iter().map(AbortedTransaction::from));
    }

    /// Whole batches of it. Returns the pieces that are complete.
    pub fn feed(&mut self, batches: &[u8]) -> Result<Vec<Piece>, BatchError> {
        let mut pieces = Vec::new();
        self.each(batches, |this, base, kept| {
            if !this.log.is_empty() && this.log.len() + kept.len() > this.piece_bytes {
                pieces.extend(this.close(base - 1));
                this.base = base;
            }
            this.log.extend_from_slice(kept);
        })?;
        Ok(pieces)
    }

    /// Only looks whether they stay as they are.
    pub fn look(&mut self, batches: &[u8]) -> Result<(), BatchError> {
        self.each(batches, |_, _, _| {})
    }

    fn each(&mut self, batches: &[u8], mut keep: impl FnMut(&mut Self, Offset, &[u8])) -> Result<(), BatchError> {
        let RoundRules { map, now_ms, delete_retention_ms, decompressed_max_bytes, sees_all } = self.rules.clone();
        let rules =
            Rules { map: &map, now_ms, delete_retention_ms, decompressed_max_bytes, sees_all, ends: Ends::None };
        let mut rest = batches;
        while !rest.is_empty() {
            let (batch, behind) = BatchView::split_first(rest)?;
            batch.check_crc()?;
            rest = behind;
            let kept = rules.filter(&batch, &mut self.transactions, Offset::MAX);
            self.has_changed |= !matches!(kept.bytes, Some(Cow::Borrowed(_)));
            if let Some(bytes) = &kept.bytes {
                keep(self, batch.base_offset(), bytes);
            }
        }
        Ok(())
    }

    /// The segment at hand is not left as it is.
    pub fn has_changed(&self) -> bool {
        self.has_changed
    }

    /// What is known of transactions at this place, to come back to it.
    pub fn place(&self) -> TransactionWalk {
        self.transactions.clone()
    }

    /// Back to where [`Rewriter::place`] was asked.
    pub fn go_back(&mut self, place: TransactionWalk) {
        self.transactions = place;
    }

    /// Bytes of the piece at hand.
    pub fn pending_bytes(&self) -> u64 {
        self.log.len() as u64
    }

    /// The piece at hand, which covers all up to `last`; `None` when nothing stays.
    pub fn close(&mut self, last: Offset) -> Option<Piece> {
        let log = std::mem::take(&mut self.log);
        (!log.is_empty()).then_some(Piece { base: self.base, last, log })
    }
}

/// The leader epochs of the offsets `base..=last`, each with its first one there, of `starts`: those of the segments before
/// the round. Their first records may be gone, but not that the epoch began there.
pub(super) fn epochs_within(starts: &[(i32, Offset)], base: Offset, last: Offset) -> Vec<(i32, Offset)> {
    let above = starts.partition_point(|(_, first)| *first <= base);
    let before = above.checked_sub(1).map(|at| (starts[at].0, base));
    before.into_iter().chain(starts[above..].iter().copied().take_while(|(_, first)| *first <= last)).collect()
}

#[cfg(test)]
mod tests;
