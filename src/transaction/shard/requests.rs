//! Requests of producers, and the markers' way back.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::TransactionShard;
use crate::coordinator::Now;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::ProducerId;
use crate::transaction::state::TopicPartition;
use crate::transaction::transition::{self, End, EndRequest, Init, Producer};

/// What a request comes to in the shard, which cannot wait for a producer id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The producer from now on.
    Producer(Producer),
    /// To be asked again with an id that nobody has.
    NeedsProducerId,
}

/// InitProducerId with a transactional id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitRequest {
    /// The timeout of its transactions.
    pub timeout_ms: i32,
    /// The producer that the client believes to be (version 3+).
    pub expected: Option<Producer>,
}

impl TransactionShard {
    /// InitProducerId.
    pub fn init(
        &mut self,
        id: &Arc<str>,
        request: InitRequest,
        fresh: Option<ProducerId>,
        to: oneshot::Sender<Result<Asked, ErrorCode>>,
        now: Now,
    ) {
        let outcome = self.try_init(id, request, fresh, now);
        self.journal.tell(to, outcome);
    }

    fn try_init(
        &mut self,
        id: &Arc<str>,
        InitRequest { timeout_ms, expected }: InitRequest,
        fresh: Option<ProducerId>,
        now: Now,
    ) -> Result<Asked, ErrorCode> {
        let version = self.context.server_version();
        let known = self.transactions.get(id);
        match transition::init(known, timeout_ms, expected, fresh, version, now.wall_ms)? {
            Init::NeedsProducerId => Ok(Asked::NeedsProducerId),
            Init::Aborts(live) => {
                self.change(id, live, now)?;
                Err(ErrorCode::ConcurrentTransactions)
            }
            Init::Ready(live) => {
                let producer = Producer { id: live.logged.producer_id, epoch: live.logged.epoch };
                self.change(id, live, now)?;
                Ok(Asked::Producer(producer))
            }
        }
    }

    /// AddPartitionsToTxn, AddOffsetsToTxn, and what a Produce adds by itself.
    pub fn add_partitions(
        &mut self,
        id: &Arc<str>,
        producer: Producer,
        partitions: &[TopicPartition],
        client_version: i16,
        to: oneshot::Sender<Result<(), ErrorCode>>,
        now: Now,
    ) {
        let known = self.transactions.get(id);
        let added = transition::add_partitions(known, producer, partitions, client_version, now.wall_ms);
        let outcome = added.and_then(|live| live.map_or(Ok(()), |live| self.change(id, live, now)));
        self.journal.tell(to, outcome);
    }

    /// Which of the partitions are in the transaction: the outcome of each in the order of the request.
    pub fn verify_partitions(
        &mut self,
        id: &str,
        producer: Producer,
        partitions: &[TopicPartition],
        to: oneshot::Sender<Vec<Result<(), ErrorCode>>>,
    ) {
        let known = self.transactions.get(id);
        let outcomes = partitions.iter().map(|partition| transition::verify(known, producer, partition)).collect();
        self.journal.tell(to, outcomes);
    }

    /// EndTxn; answered once the outcome is durable, while the markers are on their way.
    pub fn end(
        &mut self,
        id: &Arc<str>,
        request: EndRequest,
        fresh: Option<ProducerId>,
        to: oneshot::Sender<Result<Asked, ErrorCode>>,
        now: Now,
    ) {
        let ends = transition::end(self.transactions.get(id), request, fresh, now.wall_ms);
        let outcome = ends.and_then(|end| match end {
            End::NeedsProducerId => Ok(Asked::NeedsProducerId),
            End::Done(producer) => Ok(Asked::Producer(producer)),
            End::Prepares(live, producer) => self.change(id, live, now).map(|()| Asked::Producer(producer)),
        });
        self.journal.tell(to, outcome);
    }

    /// Every marker of the transaction that `ended` ended is durable. A transactional id that went on since, because a
    /// second sender was quicker, stays as it is.
    pub fn complete(&mut self, id: &Arc<str>, ended: Producer, to: oneshot::Sender<Result<(), ErrorCode>>, now: Now) {
        let live = self.transactions.get(id).filter(|live| {
            let logged = &live.logged;
            logged.state.is_prepared() && (logged.producer_id, logged.epoch) == (ended.id, ended.epoch)
        });
        let completed = live.map(|live| transition::complete(live, now.wall_ms));
        let outcome = completed.map_or(Ok(()), |completed| self.change(id, completed, now));
        self.journal.tell(to, outcome);
    }
}
