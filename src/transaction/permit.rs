//! May these records go into the log? What a partition asks before it takes records of a transaction that is not open
//! there (KIP-890).
//!
//! From Produce version 12 and TxnOffsetCommit version 5 on the partition is added to the transaction by that; older
//! clients have added it before, which is verified. Errors are told as the version understands them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::coordinator::TransactionCoordinator;
use super::state::TopicPartition;
use super::transition::Producer;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::ProducerId;

/// `transaction.version` 2 from this version of Produce on: partitions add themselves.
const PRODUCE_ADDS_FROM: i16 = 12;
/// TRANSACTION_ABORTABLE is understood from this version of Produce on (KIP-1050).
const PRODUCE_KNOWS_ABORTABLE_FROM: i16 = 11;
/// The same of TxnOffsetCommit.
const COMMIT_ADDS_FROM: i16 = 5;
const COMMIT_KNOWS_ABORTABLE_FROM: i16 = 4;
/// What partitions that add themselves are noted with.
const ADDING_CLIENT_VERSION: i16 = 2;

/// Why a partition must not take the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// For the client.
    pub error: ErrorCode,
    /// Where the error alone would mislead.
    pub message: Option<String>,
}

/// What a version of a request can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    /// Partitions must have been added, and errors of verification are unknown.
    Verifies,
    /// Partitions must have been added.
    VerifiesAbortable,
    /// Partitions add themselves.
    Adds,
}

impl Client {
    fn of(version: i16, knows_abortable_from: i16, adds_from: i16) -> Self {
        match version {
            version if version >= adds_from => Self::Adds,
            version if version >= knows_abortable_from => Self::VerifiesAbortable,
            _ => Self::Verifies,
        }
    }
}

impl TransactionCoordinator {
    /// May a Produce of this version append records of this producer's transaction to these partitions, in which none is
    /// open? The outcome of each in the order of `partitions`. To be awaited before anything of the request is appended,
    /// and behind `Partition::begin_verification`.
    pub async fn permit_produce(
        &self,
        transactional_id: Arc<str>,
        producer_id: ProducerId,
        producer_epoch: i16,
        produce_version: i16,
        partitions: Vec<TopicPartition>,
    ) -> Vec<Result<(), Refused>> {
        let client = Client::of(produce_version, PRODUCE_KNOWS_ABORTABLE_FROM, PRODUCE_ADDS_FROM);
        let producer = Producer { id: producer_id, epoch: producer_epoch };
        let (count, settings) = (partitions.len(), self.settings());
        let deadline = Instant::now() + Duration::from_millis(settings.add_retry_ms_max);
        let retry = Duration::from_millis(settings.add_retry_ms);
        loop {
            let outcomes = self.ask(&transactional_id, producer, client, partitions.clone()).await;
            // The markers of the last transaction are written within milliseconds: quicker than the client asks again.
            let wait = client == Client::Adds
                && outcomes.contains(&Err(ErrorCode::ConcurrentTransactions))
                && Instant::now() < deadline;
            if !wait {
                debug_assert_eq!(outcomes.len(), count);
                return outcomes.into_iter().map(|outcome| outcome.map_err(|error| refused(error, client))).collect();
            }
            tokio::time::sleep(retry).await;
        }
    }

    /// May a TxnOffsetCommit of this version append offsets to this partition of `__consumer_offsets`?
    pub async fn permit_offsets(
        &self,
        transactional_id: Arc<str>,
        producer: Producer,
        commit_version: i16,
        partition: TopicPartition,
    ) -> Result<(), ErrorCode> {
        let client = Client::of(commit_version, COMMIT_KNOWS_ABORTABLE_FROM, COMMIT_ADDS_FROM);
        let outcomes = self.ask(&transactional_id, producer, client, vec![partition]).await;
        outcomes.into_iter().next().unwrap_or(Ok(()))
    }

    async fn ask(
        &self,
        id: &Arc<str>,
        producer: Producer,
        client: Client,
        partitions: Vec<TopicPartition>,
    ) -> Vec<Result<(), ErrorCode>> {
        let (id, count) = (Arc::clone(id), partitions.len());
        let outcomes = match client {
            Client::Adds => {
                let added = self.add_partitions(id, producer, partitions, ADDING_CLIENT_VERSION).await;
                added.map(|()| vec![Ok(()); count])
            }
            Client::Verifies | Client::VerifiesAbortable => self.verify_partitions(id, producer, partitions).await,
        };
        let outcomes = outcomes.unwrap_or_else(|error| vec![Err(error); count]);
        outcomes.into_iter().map(|outcome| outcome.map_err(|error| as_partitions_say(error, client))).collect()
    }
}

/// A fenced producer is told so by a partition with the error that partitions have for it, and who does not know of
/// TRANSACTION_ABORTABLE with the one that it replaced.
fn as_partitions_say(error: ErrorCode, client: Client) -> ErrorCode {
    match (error, client) {
        (ErrorCode::ProducerFenced, _) => ErrorCode::InvalidProducerEpoch,
        (ErrorCode::TransactionAbortable, Client::Verifies) => ErrorCode::InvalidTxnState,
        (error, _) => error,
    }
}

/// Producers that don't expect errors of a coordinator in a Produce answer must try again without a look for the leader:
/// what NOT_ENOUGH_REPLICAS makes them do.
fn refused(error: ErrorCode, client: Client) -> Refused {
    let coordinator_error = match error {
        ErrorCode::CoordinatorLoadInProgress | ErrorCode::CoordinatorNotAvailable | ErrorCode::NotCoordinator => true,
        ErrorCode::ConcurrentTransactions => client != Client::Adds,
        _ => false,
    };
    if coordinator_error {
        let why = "Unable to verify the partition has been added to the transaction. Underlying error: ";
        let message = Some(format!("{why}{}", error.name()));
        return Refused { error: ErrorCode::NotEnoughReplicas, message };
    }
    let message =
        (error == ErrorCode::InvalidTxnState).then(|| "Partition was not added to the transaction".to_owned());
    Refused { error, message }
}

#[cfg(test)]
mod tests;
