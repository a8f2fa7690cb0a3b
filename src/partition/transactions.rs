//! Transactions as one partition sees them: verification, markers, the last stable offset, and who writes.
//!
//! ```text
//!  begin_verification -> (the coordinator says yes) -> append with the guard ... append -> append_marker
//!                                                      first batch: open here             decided once the marker is
//!                                                                                         below the high watermark
//! ```
//! The last stable offset is min(first undecided offset, high watermark), never below the log start. It moves when the
//! high watermark does (a marker counts for readers when it is durable) and when the log start passes an open
//! transaction. A crash leaves nothing half done: open transactions are in the producers' snapshot and in the batches
//! behind it, markers are batches.

use super::append::{AppendError, AppendOrigin, Appended};
use super::producers::{ProducerState, VerificationGuard};
use super::read::{Isolation, ReadError};
use super::waiters::Visible;
use super::{Online, Partition};
use crate::log::LogError;
use crate::log::view::Mark;
use crate::protocol::control::EndTransaction;
use crate::protocol::record_batch::ProducerId;

/// The end of a transaction, as its coordinator tells it to a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndMarker {
    /// Whose transaction.
    pub producer_id: ProducerId,
    /// The epoch that ends it: at transaction version 2 the one behind that which wrote.
    pub producer_epoch: i16,
    /// Epoch of the coordinator.
    pub coordinator_epoch: i32,
    /// Committed, or aborted?
    pub commit: bool,
    /// 0, 1 or 2; decides which producer epochs are fenced.
    pub transaction_version: i8,
}

impl Online {
    /// Where readers of this isolation end.
    pub(super) fn end_for(&self, isolation: Isolation) -> Mark {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark,
            Isolation::ReadCommitted => self.stable,
        }
    }

    /// How many bytes readers can see, of each kind.
    pub(super) fn visible(&self) -> Visible {
        Visible { high: self.high_watermark.bytes, stable: self.stable.bytes }
    }

    /// Moves the last stable offset to where it belongs; it stays, and so do readers, when the log cannot be read there.
    pub(super) fn settle_stable(&mut self) {
        self.producers.high_watermark_moved(self.high_watermark.offset);
        match self.stable_mark() {
            Ok(mark) => self.stable = mark,
            Err(error) => {
                tracing::error!(
                    directory = %self.log.directory().path.display(), %error,
                    "first undecided offset not found in the log; the last stable offset stays"
                );
            }
        }
    }

    fn stable_mark(&self) -> Result<Mark, LogError> {
        let end = self.high_watermark;
        let Some(first) = self.producers.first_undecided() else { return Ok(end) };
        // Records may be deleted under an open transaction; what is left of it stays undecided.
        let first = first.max(self.log_start);
        match first {
            first if first >= end.offset => Ok(end),
            // A transaction that begins where everything was decided: the usual case, and no search.
            first if first == self.stable.offset => Ok(self.stable),
            first => self.log.mark_at(first),
        }
    }
}

impl Partition {
    /// Begins a verification (KIP-890): the guard that the append of a batch of `producer_id` with this first sequence
    /// needs. To be called before the coordinator is asked. `None` when the producer's transaction is open here, or
    /// `transaction.partition.verification.enable` is off: nothing to ask then. `supports_epoch_bump`: the client
    /// works by transaction version 2, where asking is what adds the partition to the transaction.
    pub fn begin_verification(
        &self,
        producer_id: ProducerId,
        producer_epoch: i16,
        base_sequence: i32,
        supports_epoch_bump: bool,
    ) -> Result<Option<VerificationGuard>, AppendError> {
        if !self.verifies_transactions() && !supports_epoch_bump {
            return Ok(None);
        }
        let now_ms = self.shared.clock.now_ms();
        let mut state = self.lock();
        let producers = &mut state.online()?.producers;
        Ok(producers.begin_verification(producer_id, producer_epoch, base_sequence, supports_epoch_bump, now_ms)?)
    }

    /// Is `transaction.partition.verification.enable` on?
    pub fn verifies_transactions(&self) -> bool {
        self.shared.settings.tuning.get().transaction_verification
    }

    /// Is a transaction of this producer open here?
    pub fn has_open_transaction(&self, producer_id: ProducerId, producer_epoch: i16) -> bool {
        self.lock().online().is_ok_and(|online| online.producers.has_open_transaction(producer_id, producer_epoch))
    }

    /// Appends the marker that ends a transaction, whether or not it has written here. Refused with
    /// INVALID_PRODUCER_EPOCH by an epoch of the producer that is over, with TRANSACTION_COORDINATOR_FENCED by a
    /// coordinator that was replaced.
    pub fn append_marker(&self, marker: &EndMarker) -> Result<Appended, AppendError> {
        let end = EndTransaction { commit: marker.commit, coordinator_epoch: marker.coordinator_epoch };
        let mut batch = end.batch(marker.producer_id, marker.producer_epoch, self.shared.clock.now_ms());
        let admission = super::producers::Admission {
            transaction_version: marker.transaction_version,
            ..self.admission(AppendOrigin::Coordinator)
        };
        self.append_admitted(&mut batch, admission, None)
    }

    /// The producers that are known here, by id (DescribeProducers).
    pub fn producer_states(&self) -> Result<Vec<ProducerState>, ReadError> {
        Ok(self.lock().online()?.producers.states())
    }
}
