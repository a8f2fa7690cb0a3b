//! Produce of a transaction: the coordinator is asked before anything of the request is appended (KIP-890).
//!
//! ```text
//! request with a transactional id -> Questions (the partitions in which the producer's transaction is not open, each with
//! its guard) -> the coordinator adds or verifies them -> Permits, by the place of the partition in the request -> append
//! ```
//! A request without a transactional id never comes here.

use std::sync::Arc;

use super::Node;
use crate::partition::Partition;
use crate::partition::producers::VerificationGuard;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{BatchView, ProducerId};
use crate::transaction::state::TopicPartition;

/// Clients of transaction version 2 begin each transaction in a new epoch; they produce in this version or a later one.
const EPOCH_BUMP_FROM: i16 = 12;

/// How often the coordinator is asked for one request: each time a marker of the transaction before came in between.
const ASKED_MAX: usize = 4;

const MIXED: &str = "Transactional records contained more than one producer ID";

/// What one partition's records are let in with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Permit {
    /// Nothing had to be asked.
    #[default]
    Free,
    /// The coordinator agreed; the guard of the verification, unless these are off.
    Verified(Option<VerificationGuard>),
    /// They are not let in.
    Refused(ErrorCode, Option<String>),
}

/// The permits of a request, by the place of the partition in it.
#[derive(Debug, Default)]
pub struct Permits(Vec<Permit>);

impl Permits {
    pub(super) fn take(&mut self, place: usize) -> Permit {
        self.0.get_mut(place).map(std::mem::take).unwrap_or_default()
    }
}

/// What the coordinator must be asked for a request.
#[derive(Debug)]
pub struct Questions {
    transactional_id: Arc<str>,
    version: i16,
    producer: Option<(ProducerId, i16)>,
    /// Its batches name several producers: no transactional client's.
    is_mixed: bool,
    permits: Vec<Permit>,
    /// The partitions that are asked about.
    asked: Vec<Asked>,
}

/// A partition in which the producer's transaction is to be opened.
#[derive(Debug)]
struct Asked {
    /// Its place in the request.
    place: usize,
    partition: Arc<Partition>,
    base_sequence: i32,
}

impl Asked {
    fn name(&self) -> TopicPartition {
        TopicPartition { topic: Arc::clone(self.partition.topic_name()), partition: self.partition.id().partition }
    }
}

impl Questions {
    pub(super) fn new(transactional_id: Arc<str>, version: i16) -> Self {
        Self { transactional_id, version, producer: None, is_mixed: false, permits: Vec::new(), asked: Vec::new() }
    }

    /// The next partition of the request and its records.
    pub(super) fn partition(&mut self, partition: Option<&Arc<Partition>>, records: Option<&[u8]>) {
        let place = self.permits.len();
        self.permits.push(Permit::Free);
        let batch = records.and_then(|records| BatchView::header_only(records).ok()).map(|(batch, _)| batch);
        let Some(batch) = batch.filter(|batch| batch.is_transactional()) else { return };
        let producer = (batch.producer_id(), batch.producer_epoch());
        if self.producer.get_or_insert(producer).0 != producer.0 {
            self.is_mixed = true;
        }
        let Some(partition) = partition else { return };
        match partition.begin_verification(producer.0, producer.1, batch.base_sequence(), self.bumps_epoch()) {
            Err(error) => self.permits[place] = Permit::Refused(error.code(), Some(error.to_string())),
            Ok(None) if partition.has_open_transaction(producer.0, producer.1) => {}
            // Verified by nobody, and the client has told the coordinator itself.
            Ok(None) if !self.bumps_epoch() && !partition.verifies_transactions() => {
                self.permits[place] = Permit::Verified(None);
            }
            Ok(guard) => {
                self.permits[place] = Permit::Verified(guard);
                let partition = Arc::clone(partition);
                self.asked.push(Asked { place, partition, base_sequence: batch.base_sequence() });
            }
        }
    }

    /// Asks, if there is anything to ask, and waits for the answer.
    ///
    /// A client may begin its next transaction before the markers of the last are everywhere. A marker that comes between
    /// the guard and the coordinator's answer takes the guard away, though the answer is about the new transaction: such a
    /// partition gets a new guard, and the coordinator is asked once more behind it.
    pub async fn ask(mut self, node: &Node) -> Permits {
        if self.is_mixed {
            self.permits.fill(Permit::Refused(ErrorCode::InvalidProducerIdMapping, Some(MIXED.to_owned())));
            return Permits(self.permits);
        }
        let Some((id, epoch)) = self.producer else { return Permits(self.permits) };
        for _ in 0..ASKED_MAX {
            if self.asked.is_empty() {
                return Permits(self.permits);
            }
            let names = self.asked.iter().map(Asked::name).collect();
            let transactional_id = Arc::clone(&self.transactional_id);
            let answers = node.transactions.permit_produce(transactional_id, id, epoch, self.version, names).await;
            let asked = std::mem::take(&mut self.asked);
            for (asked, answer) in asked.into_iter().zip(answers) {
                match answer {
                    Ok(()) => self.look_again(asked, id, epoch),
                    Err(refused) => self.permits[asked.place] = Permit::Refused(refused.error, refused.message),
                }
            }
        }
        // The client tries again, as it does while the transaction before is being completed.
        let error = if self.bumps_epoch() { ErrorCode::ConcurrentTransactions } else { ErrorCode::NotEnoughReplicas };
        for asked in &self.asked {
            self.permits[asked.place] = Permit::Refused(error, None);
        }
        Permits(self.permits)
    }

    /// Does the guard that the coordinator's answer came for still hold? If not, the partition is asked about again.
    fn look_again(&mut self, asked: Asked, id: ProducerId, epoch: i16) {
        let Permit::Verified(Some(before)) = self.permits[asked.place] else { return };
        match asked.partition.begin_verification(id, epoch, asked.base_sequence, self.bumps_epoch()) {
            Ok(Some(now)) if now == before => {}
            // Another batch of the same transaction has opened it.
            Ok(None) => {}
            Ok(now) => {
                self.permits[asked.place] = Permit::Verified(now);
                self.asked.push(asked);
            }
            Err(error) => self.permits[asked.place] = Permit::Refused(error.code(), Some(error.to_string())),
        }
    }

    /// Does the client begin each transaction in a new epoch?
    fn bumps_epoch(&self) -> bool {
        self.version >= EPOCH_BUMP_FROM
    }

    /// Must the coordinator be waited for?
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }
}
