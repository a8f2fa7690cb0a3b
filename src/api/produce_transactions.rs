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
    /// Places in the request of the partitions that are asked about.
    asked: Vec<(usize, TopicPartition)>,
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
        let bumps = self.version >= EPOCH_BUMP_FROM;
        match partition.begin_verification(producer.0, producer.1, batch.base_sequence(), bumps) {
            Err(error) => self.permits[place] = Permit::Refused(error.code(), Some(error.to_string())),
            // Open already, or opening it is verified by nobody.
            Ok(None) if partition.has_open_transaction(producer.0, producer.1) => {}
            Ok(guard) => {
                self.permits[place] = Permit::Verified(guard);
                let topic = Arc::clone(partition.topic_name());
                self.asked.push((place, TopicPartition { topic, partition: partition.id().partition }));
            }
        }
    }

    /// Asks, if there is anything to ask, and waits for the answer.
    pub async fn ask(self, node: &Node) -> Permits {
        let Self { transactional_id, version, producer, is_mixed, mut permits, asked } = self;
        if is_mixed {
            permits.fill(Permit::Refused(ErrorCode::InvalidProducerIdMapping, Some(MIXED.to_owned())));
            return Permits(permits);
        }
        if let Some((id, epoch)) = producer
            && !asked.is_empty()
        {
            let (places, partitions): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
            let answers = node.transactions.permit_produce(transactional_id, id, epoch, version, partitions).await;
            for (place, answer) in places.into_iter().zip(answers) {
                if let Err(refused) = answer {
                    permits[place] = Permit::Refused(refused.error, refused.message);
                }
            }
        }
        Permits(permits)
    }

    /// Must the coordinator be waited for?
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }
}
