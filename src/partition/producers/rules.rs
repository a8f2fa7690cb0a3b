//! What a producer may append: the rules of Kafka's broker, in its order.
//!
//! | Batch | Refused when |
//! |---|---|
//! | any | its epoch is below the producer's |
//! | of a client | its sequence doesn't follow on; a new epoch, a new producer of KIP-890 or a retry behind the lowest sequence in verification doesn't begin where it must |
//! | of a transaction that is not open here | nobody has asked the coordinator (KIP-890 verification) |
//! | outside a transaction | the producer has one open |
//! | marker | its epoch is below the producer's (version 2 of transactions: not above), its coordinator's below the last one's |

use super::super::append::AppendOrigin;
use super::verification::VerificationGuard;
use super::{Producer, ProducerTable, Written};
use crate::protocol::control::EndTransaction;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{BatchView, Offset, ProducerId, sequence_after};

/// From this transaction version on, a coordinator ends each transaction in an epoch of its own (KIP-890 part 2).
const EPOCH_PER_TRANSACTION: i8 = 2;

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

/// What decides beside the batch itself.
#[derive(Debug, Clone, Copy)]
pub struct Admission {
    /// Who appends.
    pub origin: AppendOrigin,
    /// What the coordinator's answer let the appender keep, if it was asked.
    pub guard: Option<VerificationGuard>,
    /// `transaction.partition.verification.enable`.
    pub must_verify: bool,
    /// For markers: the transaction version that their coordinator works by.
    pub transaction_version: i8,
}

impl Admission {
    /// By its origin alone: nothing was verified.
    pub fn of(origin: AppendOrigin, must_verify: bool) -> Self {
        Self { origin, guard: None, must_verify, transaction_version: 0 }
    }
}

/// Why a batch of an idempotent producer cannot be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// It neither repeats nor follows what this producer wrote.
    #[error(
        "Out of order sequence number for producer {producer_id}: {sequence} (incoming seq. number), {last} (current end sequence number)"
    )]
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
        "Invalid sequence number for new epoch of producer {producer_id}: {epoch} (request epoch), {sequence} (seq. number), {current} (current producer epoch)"
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
    /// A producer of KIP-890 of which nothing is known and that doesn't begin at sequence 0.
    #[error(
        "Invalid sequence number for producer {producer_id}: {sequence} (incoming seq. number). Expected sequence 0 for transactions v2 idempotent producer with no existing state."
    )]
    NewProducerNotAtZero {
        /// The producer.
        producer_id: ProducerId,
        /// The first sequence of the batch.
        sequence: i32,
    },
    /// A batch with a lower sequence is being verified: this one overtook it.
    #[error(
        "Out of order sequence number for producer {producer_id}: {sequence} (incoming seq. number), {lowest} (earliest seen sequence)"
    )]
    OvertookVerification {
        /// The producer.
        producer_id: ProducerId,
        /// The first sequence of the batch.
        sequence: i32,
        /// The lowest sequence whose verification was begun.
        lowest: i32,
    },
    /// The producer was fenced: a newer epoch has written.
    #[error("Epoch of producer {producer_id} is {epoch}, which is smaller than the last seen epoch {current}")]
    InvalidEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// The epoch of the batch.
        epoch: i16,
        /// The epoch in the log.
        current: i16,
    },
    /// A marker of a coordinator that has been replaced.
    #[error(
        "Invalid coordinator epoch for producerId {producer_id}: {coordinator_epoch} (zombie), {current} (current)"
    )]
    CoordinatorFenced {
        /// The producer.
        producer_id: ProducerId,
        /// The epoch of the coordinator that sent the marker.
        coordinator_epoch: i32,
        /// The epoch of the one that sent the last.
        current: i32,
    },
    /// A batch that would open a transaction here of which its coordinator was not told.
    #[error("Record was not part of an ongoing transaction")]
    NotVerified,
    /// A batch outside of the producer's transaction, which is open.
    #[error("Expected transactional write from producer {producer_id}")]
    NotTransactional {
        /// The producer.
        producer_id: ProducerId,
    },
}

impl ProducerError {
    /// What the client is told.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfOrderSequence { .. }
            | Self::NewEpochNotAtZero { .. }
            | Self::NewProducerNotAtZero { .. }
            | Self::OvertookVerification { .. } => ErrorCode::OutOfOrderSequenceNumber,
            Self::InvalidEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            Self::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
            Self::NotVerified | Self::NotTransactional { .. } => ErrorCode::InvalidTxnState,
        }
    }
}

impl ProducerTable {
    /// Decides what an append of `batch` would be. Batches without a producer id are always new.
    pub fn check(&self, batch: &BatchView<'_>, admission: &Admission) -> Result<Verdict, ProducerError> {
        let (producer_id, epoch, sequence) = (batch.producer_id(), batch.producer_epoch(), batch.base_sequence());
        if producer_id < 0 {
            return Ok(Verdict::New);
        }
        let known = self.producers.get(&producer_id);
        if batch.is_control() {
            return check_marker(batch, known, admission).map(|()| Verdict::New);
        }
        let is_client = admission.origin == AppendOrigin::Client;
        if is_client
            && let Some(known) = known.filter(|known| known.epoch == epoch)
            && let Some(original) = duplicate_of(known.batches(), sequence, batch.last_sequence())
        {
            return Ok(Verdict::Duplicate {
                base_offset: original.base_offset(),
                last_offset: original.last_offset,
                timestamp: original.timestamp,
            });
        }
        if let Some(current) = known.map(|known| known.epoch).filter(|current| epoch < *current) {
            return Err(ProducerError::InvalidEpoch { producer_id, epoch, current });
        }
        if batch.is_transactional()
            && admission.must_verify
            && !self.has_open_transaction(producer_id, epoch)
            && !self.verifications.accepts(producer_id, admission.guard)
        {
            return Err(ProducerError::NotVerified);
        }
        if is_client {
            self.check_sequence(batch, known)?;
        }
        match known {
            Some(known) if known.txn_first_offset >= 0 && !batch.is_transactional() => {
                Err(ProducerError::NotTransactional { producer_id })
            }
            _ => Ok(Verdict::New),
        }
    }

    /// Is a transaction of this producer open here, in this epoch?
    pub fn has_open_transaction(&self, producer_id: ProducerId, epoch: i16) -> bool {
        self.producers.get(&producer_id).is_some_and(|known| known.txn_first_offset >= 0 && known.epoch == epoch)
    }

    fn check_sequence(&self, batch: &BatchView<'_>, known: Option<&Producer>) -> Result<(), ProducerError> {
        let (producer_id, epoch, sequence) = (batch.producer_id(), batch.producer_epoch(), batch.base_sequence());
        if let Some(verifying) = self.verifications.of(producer_id) {
            if verifying.supports_epoch_bump && sequence != 0 && known.is_none_or(|known| known.kept == 0) {
                return Err(ProducerError::NewProducerNotAtZero { producer_id, sequence });
            }
            if sequence > verifying.lowest_sequence {
                let lowest = verifying.lowest_sequence;
                return Err(ProducerError::OvertookVerification { producer_id, sequence, lowest });
            }
        }
        let Some(known) = known else { return Ok(()) };
        if epoch != known.epoch {
            let current = known.epoch;
            return match sequence {
                0 => Ok(()),
                _ => Err(ProducerError::NewEpochNotAtZero { producer_id, epoch, sequence, current }),
            };
        }
        // A known epoch without a batch (a transaction marker raised it) begins at 0, which follows -1.
        let last = known.last().map_or(-1, |last| last.last_sequence);
        let next = if last < 0 { 0 } else { sequence_after(last, 1) };
        if sequence == next { Ok(()) } else { Err(ProducerError::OutOfOrderSequence { producer_id, sequence, last }) }
    }
}

/// Fences markers of old epochs and of old coordinators. In version 2 of transactions a marker carries the epoch behind
/// the one that wrote, so one of the same epoch can only be a retry of the marker that is here already; at the last epoch
/// of all there is no next one. A producer that nobody has seen yet is at -1 in everything.
fn check_marker(batch: &BatchView<'_>, known: Option<&Producer>, admission: &Admission) -> Result<(), ProducerError> {
    let (producer_id, epoch) = (batch.producer_id(), batch.producer_epoch());
    let current = known.map_or(-1, |known| known.epoch);
    let is_open = known.is_some_and(|known| known.txn_first_offset >= 0);
    let is_retry = epoch == current && (!is_open || epoch == i16::MAX);
    let must_be_above = admission.transaction_version >= EPOCH_PER_TRANSACTION && !is_retry;
    if epoch < current || (must_be_above && epoch == current) {
        return Err(ProducerError::InvalidEpoch { producer_id, epoch, current });
    }
    let current = known.map_or(-1, |known| known.coordinator_epoch);
    match EndTransaction::read(batch) {
        Some(EndTransaction { coordinator_epoch, .. }) if coordinator_epoch < current => {
            Err(ProducerError::CoordinatorFenced { producer_id, coordinator_epoch, current })
        }
        _ => Ok(()),
    }
}

fn duplicate_of(batches: &[Written], first_sequence: i32, last_sequence: i32) -> Option<&Written> {
    batches.iter().find(|batch| batch.last_sequence == last_sequence && batch.first_sequence() == first_sequence)
}
