//! What a request does to a transactional id: the decisions of Kafka's transaction coordinator, without I/O or clock.
//!
//! Each function answers with the state to be written, or with the error. A prepared transaction, whose markers are on
//! their way, answers CONCURRENT_TRANSACTIONS to everything; Kafka does so while any record is written, where the shard
//! here appends at once and holds the answers instead.
//!
//! With `transaction.version` 2 the epoch rises at the end of each transaction, and EndTxn is answered by this table
//! (retry: the epoch is one behind, or the last of a producer id that was replaced; fenced: PRODUCER_FENCED; invalid:
//! INVALID_TXN_STATE; ends: an empty transaction ends, only for the sake of the epoch):
//!
//! ```text
//!                  abort, retry   abort, current   commit, retry   commit, current
//!  Empty           fenced         ends             fenced          invalid
//!  CompleteAbort   done already   ends             invalid         invalid
//!  CompleteCommit  invalid        ends             done already    invalid
//! ```
//! Before it, only the current epoch is accepted, and only the outcome that the transaction had.

use std::collections::BTreeSet;

use super::state::{
    EPOCH_BUMP_FROM, Live, NO_EPOCH, NO_PRODUCER_ID, State, TopicPartition, Transaction, is_epoch_exhausted,
};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::ProducerId;

/// The epoch that ends the last transaction of an exhausted producer id.
const LAST_EPOCH: i16 = i16::MAX;

/// A producer as a request names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: i16,
}

impl Producer {
    /// Where an error has no producer to tell.
    pub const NONE: Self = Self { id: NO_PRODUCER_ID, epoch: NO_EPOCH };
}

/// What InitProducerId leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Init {
    /// The producer gets the id and epoch of this state.
    Ready(Live),
    /// This state aborts the transaction that is still open; the producer asks again meanwhile (CONCURRENT_TRANSACTIONS).
    Aborts(Live),
    /// Nothing can be said without a new producer id.
    NeedsProducerId,
}

/// InitProducerId. `expected` is the producer that the client believes to be (KIP-360); `fresh` an id that nobody has, if
/// the caller has been asked for one.
pub fn init(
    known: Option<&Live>,
    timeout_ms: i32,
    expected: Option<Producer>,
    fresh: Option<ProducerId>,
    server_version: i16,
    now_ms: i64,
) -> Result<Init, ErrorCode> {
    let born;
    let live = match (known, fresh) {
        (Some(live), _) => live,
        (None, Some(id)) => {
            born = Live { logged: Transaction::new(id, timeout_ms, now_ms), last_epoch: NO_EPOCH };
            &born
        }
        (None, None) => return Ok(Init::NeedsProducerId),
    };
    let transaction = &live.logged;
    if transaction.state.is_prepared() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    if expected.is_some_and(|expected| !may_be(transaction, expected)) {
        return Err(ErrorCode::ProducerFenced);
    }
    match transaction.state {
        State::Ongoing => Ok(Init::Aborts(fence(live, server_version, now_ms))),
        State::Empty | State::CompleteCommit | State::CompleteAbort | State::PrepareCommit | State::PrepareAbort => {
            let current = expected.is_none_or(|expected| expected.epoch == transaction.epoch);
            if !(transaction.is_epoch_exhausted() && current) {
                return bump(live, timeout_ms, expected, now_ms).map(Init::Ready);
            }
            let Some(id) = fresh else { return Ok(Init::NeedsProducerId) };
            let last_epoch = if expected.is_some() { transaction.epoch } else { NO_EPOCH };
            let next = Transaction { producer_id: id, epoch: 0, timeout_ms, ..idle(transaction, now_ms) };
            Ok(Init::Ready(Live { logged: next, last_epoch }))
        }
    }
}

/// May the client that names this producer be the one of the transactional id? The epoch is looked at later. One that
/// names the id before the current one, and its last epoch, may have missed the answer that told it of the new one.
fn may_be(transaction: &Transaction, expected: Producer) -> bool {
    transaction.epoch == NO_EPOCH
        || expected.id == transaction.producer_id
        || (expected.id == transaction.previous_producer_id && is_epoch_exhausted(expected.epoch))
}

fn bump(live: &Live, timeout_ms: i32, expected: Option<Producer>, now_ms: i64) -> Result<Live, ErrorCode> {
    let transaction = &live.logged;
    if transaction.is_epoch_exhausted() {
        // Kafka's own words for it are an IllegalStateException.
        return Err(ErrorCode::UnknownServerError);
    }
    let (epoch, last_epoch) = match expected {
        None => (transaction.epoch + 1, NO_EPOCH),
        Some(expected) if transaction.epoch == NO_EPOCH || expected.epoch == transaction.epoch => {
            (transaction.epoch + 1, transaction.epoch)
        }
        // A retry whose first answer was lost.
        Some(expected) if expected.epoch == live.last_epoch => (transaction.epoch, live.last_epoch),
        Some(_) => return Err(ErrorCode::ProducerFenced),
    };
    Ok(Live { logged: Transaction { epoch, timeout_ms, ..idle(transaction, now_ms) }, last_epoch })
}

fn idle(transaction: &Transaction, now_ms: i64) -> Transaction {
    Transaction { partitions: BTreeSet::new(), start_ms: -1, last_update_ms: now_ms, ..to(transaction, State::Empty) }
}

/// The record of each change names the producer id before it.
fn to(transaction: &Transaction, state: State) -> Transaction {
    Transaction { state, previous_producer_id: transaction.producer_id, ..transaction.clone() }
}

/// Aborts an ongoing transaction against the will of its producer, whose epoch is no longer valid from then on.
pub fn fence(live: &Live, server_version: i16, now_ms: i64) -> Live {
    if server_version >= EPOCH_BUMP_FROM {
        // The bump at the end of the transaction is the fence.
        return prepare(live, State::PrepareAbort, server_version, NO_PRODUCER_ID, now_ms);
    }
    let fenced = Transaction { epoch: live.logged.epoch.saturating_add(1), ..live.logged.clone() };
    prepare(&Live { logged: fenced, last_epoch: NO_EPOCH }, State::PrepareAbort, 0, NO_PRODUCER_ID, now_ms)
}

/// Is the partition in the ongoing transaction of this producer?
pub fn verify(known: Option<&Live>, producer: Producer, partition: &TopicPartition) -> Result<(), ErrorCode> {
    let transaction = &known.ok_or(ErrorCode::InvalidProducerIdMapping)?.logged;
    check_producer(transaction, producer)?;
    match transaction.partitions.contains(partition) {
        _ if transaction.state.is_prepared() => Err(ErrorCode::ConcurrentTransactions),
        true => Ok(()),
        false => Err(ErrorCode::TransactionAbortable),
    }
}

fn check_producer(transaction: &Transaction, producer: Producer) -> Result<(), ErrorCode> {
    if transaction.producer_id != producer.id {
        Err(ErrorCode::InvalidProducerIdMapping)
    } else if transaction.epoch != producer.epoch {
        Err(ErrorCode::ProducerFenced)
    } else {
        Ok(())
    }
}

/// Adds partitions to the transaction, which begins with the first; `None` when it has all of them.
pub fn add_partitions(
    known: Option<&Live>,
    producer: Producer,
    partitions: &[TopicPartition],
    client_version: i16,
    now_ms: i64,
) -> Result<Option<Live>, ErrorCode> {
    let live = known.ok_or(ErrorCode::InvalidProducerIdMapping)?;
    let transaction = &live.logged;
    if transaction.state.is_prepared() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    check_producer(transaction, producer)?;
    let ongoing = transaction.state == State::Ongoing;
    if ongoing && partitions.iter().all(|partition| transaction.partitions.contains(partition)) {
        return Ok(None);
    }
    let mut logged = to(transaction, State::Ongoing);
    logged.partitions.extend(partitions.iter().cloned());
    logged.start_ms = if ongoing { transaction.start_ms } else { now_ms };
    logged.last_update_ms = now_ms;
    logged.client_version = client_version;
    Ok(Some(Live { logged, last_epoch: live.last_epoch }))
}

/// What EndTxn leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It ended so before: the first answer was lost.
    Done(Producer),
    /// The outcome is fixed by this state; the client goes on as this producer.
    Prepares(Live, Producer),
    /// The producer id has no epoch left for another transaction: nothing happens without a new one.
    NeedsProducerId,
}

/// What EndTxn asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndRequest {
    /// Who asks.
    pub producer: Producer,
    /// Commit, or abort?
    pub commit: bool,
    /// The `transaction.version` by which the client works.
    pub client_version: i16,
}

/// EndTxn. `fresh` is an id that nobody has, if the caller has been asked for one.
pub fn end(
    known: Option<&Live>,
    request: EndRequest,
    fresh: Option<ProducerId>,
    now_ms: i64,
) -> Result<End, ErrorCode> {
    let live = known.ok_or(ErrorCode::InvalidProducerIdMapping)?;
    if request.client_version >= EPOCH_BUMP_FROM {
        end_with_bump(live, request, fresh, now_ms)
    } else {
        end_in_epoch(live, request, now_ms)
    }
}

/// Before `transaction.version` 2: id and epoch stay, and the answer does not name them.
fn end_in_epoch(live: &Live, request: EndRequest, now_ms: i64) -> Result<End, ErrorCode> {
    let transaction = &live.logged;
    check_producer(transaction, request.producer)?;
    match (transaction.state, request.commit) {
        (State::Ongoing, commit) => {
            Ok(End::Prepares(prepare(live, outcome(commit), 0, NO_PRODUCER_ID, now_ms), Producer::NONE))
        }
        (State::CompleteCommit, true) | (State::CompleteAbort, false) => Ok(End::Done(Producer::NONE)),
        (State::PrepareCommit | State::PrepareAbort, _) => Err(ErrorCode::ConcurrentTransactions),
        (State::CompleteCommit, false) | (State::CompleteAbort, true) | (State::Empty, _) => {
            Err(ErrorCode::InvalidTxnState)
        }
    }
}

fn end_with_bump(live: &Live, request: EndRequest, fresh: Option<ProducerId>, now_ms: i64) -> Result<End, ErrorCode> {
    let (transaction, Producer { id, epoch }) = (&live.logged, request.producer);
    if transaction.state.is_prepared() {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    let retry_behind_rollover =
        transaction.previous_producer_id == id && epoch == LAST_EPOCH - 1 && transaction.epoch == 0;
    let retry_behind_bump = i32::from(transaction.epoch) == i32::from(epoch) + 1;
    let current = epoch == transaction.epoch;
    let known_epoch = match transaction.state {
        State::Ongoing | State::Empty | State::PrepareCommit | State::PrepareAbort => current,
        State::CompleteCommit | State::CompleteAbort => current || retry_behind_bump || retry_behind_rollover,
    };
    if transaction.producer_id != id && !retry_behind_rollover {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    if !known_epoch {
        return Err(ErrorCode::ProducerFenced);
    }
    let retry = retry_behind_bump || retry_behind_rollover;
    let ends = match (transaction.state, request.commit) {
        (State::Ongoing, commit) => outcome(commit),
        (State::Empty, false) => State::PrepareAbort,
        (State::CompleteCommit | State::CompleteAbort, false) if !retry => State::PrepareAbort,
        (State::CompleteCommit, true) | (State::CompleteAbort, false) if retry => {
            return Ok(End::Done(Producer { id: transaction.producer_id, epoch: transaction.epoch }));
        }
        (State::Empty | State::CompleteCommit | State::CompleteAbort, _)
        | (State::PrepareCommit | State::PrepareAbort, _) => return Err(ErrorCode::InvalidTxnState),
    };
    let next_id = match (transaction.is_epoch_exhausted(), fresh) {
        (false, _) => NO_PRODUCER_ID,
        (true, Some(id)) => id,
        (true, None) => return Ok(End::NeedsProducerId),
    };
    let mut next = prepare(live, ends, request.client_version, next_id, now_ms);
    if transaction.state != State::Ongoing {
        // Nothing was added: it begins and ends here.
        next.logged.start_ms = now_ms;
    }
    let completed = complete(&next, now_ms).logged;
    Ok(End::Prepares(next, Producer { id: completed.producer_id, epoch: completed.epoch }))
}

fn outcome(commit: bool) -> State {
    if commit { State::PrepareCommit } else { State::PrepareAbort }
}

fn prepare(live: &Live, state: State, client_version: i16, next_producer_id: ProducerId, now_ms: i64) -> Live {
    let epoch = live.logged.epoch;
    let (epoch, last_epoch) =
        if client_version >= EPOCH_BUMP_FROM { (epoch.saturating_add(1), epoch) } else { (epoch, live.last_epoch) };
    let logged =
        Transaction { epoch, next_producer_id, client_version, last_update_ms: now_ms, ..to(&live.logged, state) };
    Live { logged, last_epoch }
}

/// All markers of a prepared transaction are durable.
pub fn complete(live: &Live, now_ms: i64) -> Live {
    let transaction = &live.logged;
    let state = match transaction.state {
        State::PrepareCommit => State::CompleteCommit,
        State::PrepareAbort | State::Empty | State::Ongoing | State::CompleteCommit | State::CompleteAbort => {
            State::CompleteAbort
        }
    };
    let replaced = transaction.bumps_epoch() && transaction.next_producer_id != NO_PRODUCER_ID;
    let (producer_id, epoch) = match replaced {
        true => (transaction.next_producer_id, 0),
        false => (transaction.producer_id, transaction.epoch),
    };
    let logged = Transaction {
        producer_id,
        epoch,
        next_producer_id: NO_PRODUCER_ID,
        partitions: BTreeSet::new(),
        last_update_ms: now_ms,
        ..to(transaction, state)
    };
    Live { logged, last_epoch: live.last_epoch }
}

#[cfg(test)]
mod tests;
