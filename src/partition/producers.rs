//! What a partition knows of the idempotent producers that write to it: the last five batches of each.
//!
//! Owned by the partition, under its lock. [`ProducerTable::check`] decides before an append, [`ProducerTable::update`]
//! records after it, with the batch as it was stamped; recovery calls `update` alone, for every batch it scans. The
//! table is written at each roll as Kafka's `<offset>.snapshot` (the last batch of each producer, see
//! [`ProducerTable::snapshot`]); what changed since goes into the broker's checkpoint with all five batches
//! ([`ProducerTable::changes_since`]). A crash loses nothing that a scan from the checkpoint doesn't bring back.
//!
//! The rules are those of Kafka's broker for clients without transactions: an unknown producer may begin at any
//! sequence, a new epoch begins at 0, an older epoch is refused, a batch equal to one of the last five is a duplicate,
//! everything else must follow on. Sequences wrap from 2^31-1 to 0.

mod snapshot;

use std::collections::HashMap;

use super::append::AppendOrigin;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{BatchView, Offset, ProducerId, sequence_after};

pub use snapshot::{SnapshotEntry, SnapshotError, read_snapshot};

/// Batches remembered per producer: as many as a client may have in flight.
pub const BATCHES_KEPT: usize = 5;

/// Producers remembered per partition (about 170 bytes each). Beyond it the longest silent eighth is forgotten, which
/// costs those producers only the detection of a retry that is still on its way.
pub const PRODUCERS_MAX: usize = 65_536;

/// What an append of this batch would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not seen yet, and it follows on.
    New,
    /// A retry of what is in the log already: the answer is the original's.
    Duplicate {
        /// Offset of the original's first record.
        base_offset: Offset,
        /// Offset of the original's last record.
        last_offset: Offset,
        /// The original's largest timestamp.
        timestamp: i64,
    },
}

/// Why a batch of an idempotent producer cannot be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// It neither repeats nor follows what this producer wrote.
    #[error("out of order sequence number for producer {producer_id}: {sequence} (incoming), {last} (current end)")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// The first sequence of the batch.
        sequence: i32,
        /// The last sequence in the log, -1 when there is none in this epoch.
        last: i32,
    },
    /// A new epoch that doesn't begin at sequence 0.
    #[error(
        "invalid sequence number for new epoch of producer {producer_id}: {epoch} (request epoch), {sequence} (sequence), {current} (current epoch)"
    )]
    NewEpochNotAtZero {
        /// The producer.
        producer_id: ProducerId,
        /// The epoch of the batch.
        epoch: i16,
        /// The first sequence of the batch.
        sequence: i32,
        /// The epoch in the log.
        current: i16,
    },
    /// The producer was fenced: a newer epoch has written.
    #[error("epoch of producer {producer_id} is {epoch}, which is smaller than the last seen epoch {current}")]
    InvalidEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// The epoch of the batch.
        epoch: i16,
        /// The epoch in the log.
        current: i16,
    },
}

impl ProducerError {
    /// What the client is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfOrderSequence { .. } | Self::NewEpochNotAtZero { .. } => ErrorCode::OutOfOrderSequenceNumber,
            Self::InvalidEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        }
    }
}

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
    }

    fn is_expired(&self, now_ms: i64, expiration_ms: i64) -> bool {
        self.txn_first_offset < 0 && now_ms.saturating_sub(self.seen_ms) >= expiration_ms
    }
}

/// The producers of one partition; see the module.
#[derive(Debug, Default)]
pub struct ProducerTable {
    producers: HashMap<ProducerId, Producer>,
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

    /// Decides what an append of `batch` would be. Batches without a producer id are always new.
    pub fn check(&self, batch: &BatchView<'_>, origin: AppendOrigin) -> Result<Verdict, ProducerError> {
        let (producer_id, epoch, sequence) = (batch.producer_id(), batch.producer_epoch(), batch.base_sequence());
        if producer_id < 0 {
            return Ok(Verdict::New);
        }
        let Some(known) = self.producers.get(&producer_id) else { return Ok(Verdict::New) };
        if origin == AppendOrigin::Client
            && epoch == known.epoch
            && let Some(original) = duplicate_of(known.batches(), sequence, batch.last_sequence())
        {
            return Ok(Verdict::Duplicate {
                base_offset: original.base_offset(),
                last_offset: original.last_offset,
                timestamp: original.timestamp,
            });
        }
        if epoch < known.epoch {
            return Err(ProducerError::InvalidEpoch { producer_id, epoch, current: known.epoch });
        }
        if origin == AppendOrigin::Coordinator {
            return Ok(Verdict::New);
        }
        if epoch > known.epoch {
            let current = known.epoch;
            return match sequence {
                0 => Ok(Verdict::New),
                _ => Err(ProducerError::NewEpochNotAtZero { producer_id, epoch, sequence, current }),
            };
        }
        // A known epoch without a batch (a transaction marker raised it) begins at 0, which follows -1.
        let last = known.last().map_or(-1, |last| last.last_sequence);
        let next = if last < 0 { 0 } else { sequence_after(last, 1) };
        if sequence == next {
            Ok(Verdict::New)
        } else {
            Err(ProducerError::OutOfOrderSequence { producer_id, sequence, last })
        }
    }

    /// Records a batch that is in the log, stamped. Checks nothing, so that a recovery accepts what was accepted once.
    pub fn update(&mut self, batch: &BatchView<'_>, now_ms: i64) {
        let producer_id = batch.producer_id();
        if producer_id < 0 {
            return;
        }
        if self.producers.len() >= PRODUCERS_MAX && !self.producers.contains_key(&producer_id) {
            self.forget_the_longest_silent();
        }
        let epoch = batch.producer_epoch();
        let producer = self.producers.entry(producer_id).or_insert_with(|| Producer::new(epoch));
        producer.seen_ms = now_ms;
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.kept = 0;
        }
        if batch.is_control() {
            // A marker has no sequence; it only shows that the producer lives and which epoch it has reached.
            producer.last_timestamp = batch.max_timestamp();
            return;
        }
        producer.add(Written {
            last_sequence: batch.last_sequence(),
            last_offset: batch.last_offset(),
            offset_delta: batch.last_offset_delta(),
            timestamp: batch.max_timestamp(),
        });
    }

    fn forget_the_longest_silent(&mut self) {
        let mut times: Vec<i64> = self.producers.values().map(|producer| producer.seen_ms).collect();
        let (_, limit, _) = times.select_nth_unstable(PRODUCERS_MAX / 8);
        let limit = *limit;
        // Several may share the limit; an eighth must go, and not many more.
        let mut excess = PRODUCERS_MAX / 8;
        self.producers.retain(|_, producer| {
            let goes = producer.seen_ms <= limit && excess > 0;
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
        self.producers = HashMap::new();
    }
}

fn duplicate_of(batches: &[Written], first_sequence: i32, last_sequence: i32) -> Option<&Written> {
    batches.iter().find(|batch| batch.last_sequence == last_sequence && batch.first_sequence() == first_sequence)
}

#[cfg(test)]
mod tests;
