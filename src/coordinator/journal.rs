//! A shard's way to its log: appends, and answers that leave once what they tell is durable.

use std::fmt::Debug;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::held::Held;
use super::log::ShardLog;
use super::state::Encoded;
use crate::partition::append::AppendError;
use crate::partition::producers::VerificationGuard;
use crate::partition::transactions::EndMarker;
use crate::protocol::batch_builder::BatchBuilder;
use crate::protocol::compression::Compression;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{LeaderEpoch, Offset, ProducerId};
use crate::wal::ticket::{Rejected, Ticket};

/// Coordinators' records are not numbered.
const NO_SEQUENCE: i32 = -1;

/// The transaction in whose name records are appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Whose.
    pub producer_id: ProducerId,
    /// Its epoch.
    pub producer_epoch: i16,
    /// What [`Journal::begin_verification`] gave before the transaction's coordinator was asked.
    pub guard: Option<VerificationGuard>,
}

/// Appends of one shard, and the answers that wait for them.
#[derive(Debug)]
pub struct Journal {
    log: Arc<dyn ShardLog>,
    next_offset: Offset,
    compression: Compression,
    held: Held,
}

impl Journal {
    /// The journal of a shard that has read nothing of `log` yet.
    pub fn new(log: Arc<dyn ShardLog>) -> Self {
        Self { next_offset: 0, log, compression: Compression::None, held: Held::default() }
    }

    /// Appends are compressed from now on.
    pub fn with_compression(mut self, codec: Compression) -> Self {
        self.compression = codec;
        self
    }

    /// Behind the last record that the state has.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// The epoch in which this broker leads the shard's partition.
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.log.leader_epoch()
    }

    /// Nothing below `offset` is needed any more: it goes once all appends so far are durable.
    pub fn forget_below(&mut self, offset: Offset) {
        let log = Arc::clone(&self.log);
        self.when_durable(move || log.forget_below(offset));
    }

    /// The log was read up to here.
    pub(super) fn read_to(&mut self, next_offset: Offset) {
        self.next_offset = self.next_offset.max(next_offset);
    }

    /// Appends records in one batch, so that all or none of them count. Answers wait for it from now on.
    pub fn append(&mut self, records: impl IntoIterator<Item = Encoded>, timestamp_ms: i64) -> Result<(), AppendError> {
        let builder = BatchBuilder::new(0).with_compression(self.compression);
        let ticket = self.log.append(&mut batch(builder, records, timestamp_ms), None);
        self.appended(ticket)
    }

    /// The same for records that count only once the marker of their transaction says so.
    pub fn append_in(
        &mut self,
        transaction: &OpenTransaction,
        records: impl IntoIterator<Item = Encoded>,
        timestamp_ms: i64,
    ) -> Result<(), AppendError> {
        let OpenTransaction { producer_id, producer_epoch, guard } = *transaction;
        let builder = BatchBuilder::new(0).with_producer(producer_id, producer_epoch, NO_SEQUENCE).transactional();
        let ticket = self.log.append(&mut batch(builder, records, timestamp_ms), guard);
        self.appended(ticket)
    }

    /// Begins to verify that a producer's transaction has this shard's partition; see [`ShardLog::begin_verification`].
    pub fn begin_verification(
        &self,
        producer_id: ProducerId,
        producer_epoch: i16,
        supports_epoch_bump: bool,
    ) -> Result<Option<VerificationGuard>, AppendError> {
        self.log.begin_verification(producer_id, producer_epoch, supports_epoch_bump)
    }

    /// Appends the marker that ends a producer's transaction in this shard's partition.
    pub fn append_marker(&mut self, marker: &EndMarker) -> Result<(), AppendError> {
        let ticket = self.log.append_marker(marker);
        self.appended(ticket)
    }

    fn appended(&mut self, ticket: Result<Ticket, AppendError>) -> Result<(), AppendError> {
        let ticket = ticket.inspect_err(|error| {
            // A fenced producer is its client's affair.
            if !matches!(error, AppendError::Producer(_)) {
                tracing::warn!(%error, "a coordinator cannot append");
            }
        })?;
        self.next_offset = ticket.next_offset();
        self.held.append(ticket);
        Ok(())
    }

    /// Tells `what` once all appends so far are durable, at once if they are.
    pub fn tell<T: Send + 'static>(&mut self, to: oneshot::Sender<T>, what: T) {
        // Who asked may have gone with its connection.
        self.when_durable(move || drop(to.send(what)));
    }

    /// Does something that must not be done before all appends so far are durable.
    pub fn when_durable(&mut self, what: impl FnOnce() + Send + 'static) {
        self.held.answer(what);
    }

    /// Waits for the oldest append and lets out what waited for it; forever when there is none. May be cancelled.
    pub async fn settle(&mut self) -> Result<(), Rejected> {
        self.held.settle().await
    }
}

fn batch(mut builder: BatchBuilder, records: impl IntoIterator<Item = Encoded>, timestamp_ms: i64) -> Vec<u8> {
    for encoded in records {
        let delta = builder.count();
        builder.push(delta, timestamp_ms, Some(&encoded.key), encoded.value.as_deref(), [].into_iter());
    }
    builder.finish()
}

/// What a client is told when its coordinator's log refuses: look for the coordinator again, or give up.
pub fn client_error(error: &AppendError) -> ErrorCode {
    match error {
        // Clients ask who the coordinator is until another broker answers.
        AppendError::Fenced => ErrorCode::CoordinatorNotAvailable,
        AppendError::Storage
        | AppendError::DiskFull
        | AppendError::Gone
        | AppendError::FencedLeaderEpoch { .. }
        | AppendError::UnknownLeaderEpoch { .. } => ErrorCode::NotCoordinator,
        AppendError::Corrupt(_)
        | AppendError::InvalidRecord(_)
        | AppendError::InvalidTimestamp { .. }
        | AppendError::TooLarge { .. }
        | AppendError::LargerThanSegment { .. }
        | AppendError::UnsupportedCompression(_)
        | AppendError::BadRecords(_)
        | AppendError::Producer(_) => ErrorCode::UnknownServerError,
    }
}
