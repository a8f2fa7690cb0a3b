//! What a partition knows of the idempotent producers that write to it: the last five batches of each, and where its open
//! transaction begins.
//!
//! Owned by the partition, under its lock. [`ProducerTable::check`] decides before an append, [`ProducerTable::update`]
//! records after it, with the batch as it was stamped; recovery calls `update` alone, for every batch it scans. The
//! table is written at each roll as Kafka's `<offset>.snapshot` (the last batch of each producer, see
//! [`ProducerTable::snapshot`]); what changed since goes into the broker's checkpoint with all five batches
//! ([`ProducerTable::changes_since`]). A crash loses nothing that a scan from the checkpoint doesn't bring back.
//!
//! The rules are those of Kafka's broker ([`rules`]): an unknown producer may begin at any sequence, a new epoch begins at
//! 0, an older epoch is refused, a batch equal to one of the last five is a duplicate, everything else must follow on.
//! Sequences wrap from 2^31-1 to 0. A transaction begins with the first batch that carries its bit and ends with the
//! producer's next marker.

mod open_transactions;
pub mod rules;
mod snapshot;
mod verification;

use std::collections::HashMap;

use self::open_transactions::OpenTransactions;
use self::verification::Verifications;
use crate::log::txn_index::AbortedTransaction;
use crate::protocol::control::EndTransaction;
use crate::protocol::record_batch::{BatchView, Offset, ProducerId, sequence_after};

pub use rules::{Admission, ProducerError, Verdict};
pub use snapshot::{SnapshotEntry, SnapshotError, read_snapshot};
pub use verification::VerificationGuard;

/// Batches remembered per producer: as many as a client may have in flight.
pub const BATCHES_KEPT: usize = 5;

/// Producers remembered per partition (about 170 bytes each). Beyond it the longest silent eighth is forgotten, which
/// costs those producers only the detection of a retry that is still on its way.
pub const PRODUCERS_MAX: usize = 65_536;

/// One batch that a producer wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Written {
    last_sequence: i32,
    last_offset: Offset,
    /// Last offset minus first.
    offset_delta: i32,
    timestamp: i64,
}

impl Written {
    fn first_sequence(&self) -> i32 {
        sequence_after(self.last_sequence, self.offset_delta.wrapping_neg())
    }

    fn base_offset(&self) -> Offset {
        self.last_offset - i64::from(self.offset_delta)
    }
}

/// What is known of one producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    /// How many of `batches` are in use, oldest first.
    kept: u8,
    batches: [Written; BATCHES_KEPT],
    last_timestamp: i64,
    /// Broker's time of its last append in this run, or of the start that loaded it. Expiry goes by it and not by the
    /// records' times: who writes old records is not silent.
    seen_ms: i64,
    /// Epoch of the transaction coordinator that wrote the last marker, -1 without.
    coordinator_epoch: i32,
    /// First offset of the running transaction, -1 without.
    txn_first_offset: Offset,
    /// Offset of its last batch or marker, -1 when only a snapshot speaks of it: what a checkpoint has to say is what was
    /// touched since the snapshot.
    touched: Offset,
}

/// A transaction that ended, as its marker was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedTransaction {
    /// Whose.
    pub producer_id: ProducerId,
    /// Its first offset here.
    pub first_offset: Offset,
    /// The offset of its marker.
    pub last_offset: Offset,
    /// The first offset that was undecided behind it: the next open transaction's, else the one behind the marker.
    pub last_stable_offset: Offset,
    /// Was it aborted?
    pub aborted: bool,
}

/// What DescribeProducers tells of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerState {
    /// The producer.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub epoch: i16,
    /// Its last sequence, -1 without a batch in this epoch.
    pub last_sequence: i32,
    /// Timestamp of its last batch or marker in milliseconds.
    pub last_timestamp: i64,
    /// Epoch of the coordinator that wrote its last marker, -1 without.
    pub coordinator_epoch: i32,
    /// First offset of its open transaction, -1 without.
    pub txn_first_offset: Offset,
}

impl EndedTransaction {
    /// Its entry in the index of aborted transactions, if it was.
    pub fn to_aborted(self) -> Option<AbortedTransaction> {
        let Self { producer_id, first_offset, last_offset, last_stable_offset, aborted } = self;
        aborted.then_some(AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset })
    }
}

impl Producer {
    fn new(epoch: i16) -> Self {
        Self {
            epoch,
            kept: 0,
            batches: [Written::default(); BATCHES_KEPT],
            last_timestamp: -1,
            seen_ms: 0,
            coordinator_epoch: -1,
            txn_first_offset: -1,
            touched: -1,
        }
    }

    /// The batches of another epoch say nothing of this one's sequences.
    fn enter(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.kept = 0;
        }
    }

    fn batches(&self) -> &[Written] {
        &self.batches[..usize::from(self.kept)]
    }

    fn last(&self) -> Option<&Written> {
        self.batches().last()
    }

    fn add(&mut self, batch: Written) {
        if usize::from(self.kept) == BATCHES_KEPT {
            self.batches.rotate_left(1);
        } else {
            self.kept += 1;
        }
        self.batches[usize::from(self.kept) - 1] = batch;
        self.last_timestamp = batch.timestamp;
        self.touched = batch.last_offset;
    }

    fn is_expired(&self, now_ms: i64, expiration_ms: i64) -> bool {
        self.txn_first_offset < 0 && now_ms.saturating_sub(self.seen_ms) >= expiration_ms
    }
}

/// The producers of one partition; see the module.
#[derive(Debug, Default)]
pub struct ProducerTable {
    producers: HashMap<ProducerId, Producer>,
    transactions: OpenTransactions,
    verifications: Verifications,
}

impl ProducerTable {
    /// Number of producers.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// No producer at all?
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Records a batch that is in the log, stamped; the transaction that it ends, if it is a marker that ends one. Checks
    /// nothing, so that a recovery accepts what was accepted once.
    pub fn update(&mut self, batch: &BatchView<'_>, now_ms: i64) -> Option<EndedTransaction> {
        let producer_id = batch.producer_id();
        if producer_id < 0 {
            return None;
        }
        let marker = if batch.is_control() { Some(EndTransaction::read(batch)?) } else { None };
        if self.producers.len() >= PRODUCERS_MAX && !self.producers.contains_key(&producer_id) {
            self.forget_the_longest_silent();
        }
        let epoch = batch.producer_epoch();
        let producer = self.producers.entry(producer_id).or_insert_with(|| Producer::new(epoch));
        producer.seen_ms = now_ms;
        producer.enter(epoch);
        if batch.is_transactional() {
            // The transaction is open from here on, or over: either way a guard of before is worth nothing.
            self.verifications.end(producer_id);
        }
        if let Some(marker) = marker {
            producer.last_timestamp = batch.max_timestamp();
            producer.coordinator_epoch = marker.coordinator_epoch;
            producer.touched = batch.last_offset();
            let first_offset = std::mem::replace(&mut producer.txn_first_offset, -1);
            return (first_offset >= 0).then(|| {
                let last_offset = batch.last_offset();
                let next_open = self.transactions.end(first_offset, last_offset);
                EndedTransaction {
                    producer_id,
                    first_offset,
                    last_offset,
                    last_stable_offset: next_open.unwrap_or(last_offset + 1),
                    aborted: !marker.commit,
                }
            });
        }
        producer.add(Written {
            last_sequence: batch.last_sequence(),
            last_offset: batch.last_offset(),
            offset_delta: batch.last_offset_delta(),
            timestamp: batch.max_timestamp(),
        });
        if batch.is_transactional() && producer.txn_first_offset < 0 {
            producer.txn_first_offset = batch.base_offset();
            self.transactions.begin(batch.base_offset());
        }
        None
    }

    /// Begins a verification: the guard that an append of the producer's transaction needs here. `None` when none is
    /// needed, because its transaction is open already. An error when a newer epoch has written.
    pub fn begin_verification(
        &mut self,
        producer_id: ProducerId,
        epoch: i16,
        sequence: i32,
        supports_epoch_bump: bool,
        now_ms: i64,
    ) -> Result<Option<VerificationGuard>, ProducerError> {
        if let Some(current) = self.producers.get(&producer_id).map(|known| known.epoch).filter(|known| epoch < *known)
        {
            return Err(ProducerError::InvalidEpoch { producer_id, epoch, current });
        }
        if self.has_open_transaction(producer_id, epoch) {
            return Ok(None);
        }
        Ok(Some(self.verifications.begin(producer_id, epoch, sequence, supports_epoch_bump, now_ms)))
    }

    /// The first offset that readers of committed records may not see; `None` when all is decided.
    pub fn first_undecided(&self) -> Option<Offset> {
        self.transactions.first()
    }

    /// The high watermark has moved: transactions whose marker is below are decided.
    pub fn high_watermark_moved(&mut self, high_watermark: Offset) {
        self.transactions.reached(high_watermark);
    }

    /// Ends all open transactions without a marker: whoever calls knows that they were decided behind the end of the log
    /// that the table speaks of.
    pub fn forget_transactions(&mut self) {
        for producer in self.producers.values_mut() {
            producer.txn_first_offset = -1;
        }
        self.transactions = OpenTransactions::default();
    }

    /// All producers, by id.
    pub fn states(&self) -> Vec<ProducerState> {
        let state = |(&producer_id, producer): (&ProducerId, &Producer)| ProducerState {
            producer_id,
            epoch: producer.epoch,
            last_sequence: producer.last().map_or(-1, |last| last.last_sequence),
            last_timestamp: producer.last_timestamp,
            coordinator_epoch: producer.coordinator_epoch,
            txn_first_offset: producer.txn_first_offset,
        };
        let mut states: Vec<_> = self.producers.iter().map(state).collect();
        states.sort_unstable_by_key(|state| state.producer_id);
        states
    }

    /// The open transactions as the producers say, after the table was loaded.
    fn find_transactions(&mut self) {
        self.transactions = OpenTransactions::default();
        for producer in self.producers.values().filter(|producer| producer.txn_first_offset >= 0) {
            self.transactions.begin(producer.txn_first_offset);
        }
    }

    fn forget_the_longest_silent(&mut self) {
        // Who has a transaction open is never forgotten: its marker must find it.
        let idle = |producer: &Producer| producer.txn_first_offset < 0;
        let mut times: Vec<i64> =
            self.producers.values().filter(|producer| idle(producer)).map(|producer| producer.seen_ms).collect();
        if times.is_empty() {
            return;
        }
        let nth = (PRODUCERS_MAX / 8).min(times.len() - 1);
        let (_, limit, _) = times.select_nth_unstable(nth);
        let limit = *limit;
        // Several may share the limit; an eighth must go, and not many more.
        let mut excess = PRODUCERS_MAX / 8;
        self.producers.retain(|_, producer| {
            let goes = idle(producer) && producer.seen_ms <= limit && excess > 0;
            excess -= usize::from(goes);
            !goes
        });
    }

    /// What was loaded counts as seen now: a retry of a batch that the crash left unanswered may still come, however old
    /// the records say they are.
    pub fn loaded_at(&mut self, now_ms: i64) {
        for producer in self.producers.values_mut() {
            producer.seen_ms = now_ms;
        }
    }

    /// Forgets producers that have been silent for `expiration_ms` (`producer.id.expiration.ms`). True when that
    /// changed anything.
    pub fn expire(&mut self, now_ms: i64, expiration_ms: i64) -> bool {
        let before = self.producers.len();
        self.verifications.expire(now_ms, expiration_ms);
        self.producers.retain(|_, producer| !producer.is_expired(now_ms, expiration_ms));
        if self.producers.is_empty() {
            self.producers = HashMap::new();
        }
        self.producers.len() != before
    }

    /// The offset behind the last batch that any producer wrote, 0 without one.
    pub fn next_offset(&self) -> Offset {
        self.producers.values().filter_map(Producer::last).map(|last| last.last_offset + 1).max().unwrap_or(0)
    }

    /// Forgets everything: the log was emptied.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests;
