//! What the API asks about transactions: what needs no shard is checked here, the rest is the transactional id's shard's.

use std::sync::{Arc, Mutex, PoisonError};

use terrace_tiering::platform::task::Tasks;
use tokio::sync::{mpsc, oneshot};

use super::markers::{self, Completion, MarkerTarget};
use super::producer_ids::ProducerIds;
use super::shard::{
    Asked, Described, InitRequest, ListFilter, ListedTransaction, TransactionContext, TransactionShard,
};
use super::state::TopicPartition;
use super::transition::{EndRequest, Producer};
use crate::config::server::TransactionSettings;
use crate::coordinator::{Now, Shards, ShardsDeps};
use crate::protocol::error_code::ErrorCode;

/// All transactional ids of this node, and its producer ids.
pub struct TransactionCoordinator {
    shards: Arc<Shards<TransactionShard>>,
    producer_ids: ProducerIds,
    tasks: Tasks,
    /// What the shards send out; taken at the start.
    completions: Mutex<Option<mpsc::UnboundedReceiver<Completion>>>,
}

impl TransactionCoordinator {
    /// A coordinator whose shards are not started.
    pub fn new(deps: ShardsDeps, settings: TransactionSettings) -> Arc<Self> {
        let (completions, prepared) = mpsc::unbounded_channel();
        let context = TransactionContext { settings, metadata: Arc::clone(&deps.metadata), completions };
        Arc::new(Self {
            producer_ids: ProducerIds::new(Arc::clone(&deps.metadata)),
            tasks: deps.tasks.clone(),
            shards: Shards::new(deps, Arc::new(context)),
            completions: Mutex::new(Some(prepared)),
        })
    }

    /// Starts the shards that the image knows, and follows it from now on. Markers go to `target`. Only the first call
    /// does something.
    pub fn start(&self, target: Arc<dyn MarkerTarget>) {
        let prepared = self.completions.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(prepared) = prepared {
            markers::start(prepared, target, Arc::clone(&self.shards), self.tasks.clone());
            self.shards.start();
        }
    }

    /// Are all shards loaded, so that the node is ready?
    pub fn is_loaded(&self) -> bool {
        self.shards.is_loaded()
    }

    /// Makes sure that transactions have a place to be: what FindCoordinator asks. COORDINATOR_NOT_AVAILABLE if that
    /// fails.
    pub async fn find(&self) -> Result<(), ErrorCode> {
        self.shards.find().await
    }

    /// `transaction.*` of the broker.
    pub fn settings(&self) -> &TransactionSettings {
        &self.shards.context().settings
    }

    /// InitProducerId without a transactional id: an idempotent producer.
    pub async fn init_idempotent(&self) -> Result<Producer, ErrorCode> {
        Ok(Producer { id: self.producer_ids.next().await?, epoch: 0 })
    }

    /// InitProducerId with a transactional id.
    pub async fn init(&self, id: Arc<str>, request: InitRequest) -> Result<Producer, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        if !(1..=self.settings().timeout_ms_max).contains(&request.timeout_ms) {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        self.ask_with_producer_id(&id, |id, fresh| {
            move |shard: &mut TransactionShard, to, now| shard.init(&id, request, fresh, to, now)
        })
        .await
    }

    /// AddPartitionsToTxn and AddOffsetsToTxn.
    pub async fn add_partitions(
        &self,
        id: Arc<str>,
        producer: Producer,
        partitions: Vec<TopicPartition>,
        client_version: i16,
    ) -> Result<(), ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let of = Arc::clone(&id);
        let asked = self.shards.ask(&id, move |shard, to, now| {
            shard.add_partitions(&of, producer, &partitions, client_version, to, now);
        });
        asked.await?
    }

    /// AddPartitionsToTxn that only verifies: the outcome of each partition in the order of the request, or one for all.
    pub async fn verify_partitions(
        &self,
        id: Arc<str>,
        producer: Producer,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let of = Arc::clone(&id);
        self.shards.ask(&id, move |shard, to, _| shard.verify_partitions(&of, producer, &partitions, to)).await
    }

    /// EndTxn: the producer from now on.
    pub async fn end(&self, id: Arc<str>, request: EndRequest) -> Result<Producer, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        self.ask_with_producer_id(&id, |id, fresh| {
            move |shard: &mut TransactionShard, to, now| shard.end(&id, request, fresh, to, now)
        })
        .await
    }

    /// Asks, and asks again with a producer id if the shard turns out to need one. One that it needs no longer by then is
    /// lost; there are 2^63.
    async fn ask_with_producer_id<Q>(
        &self,
        id: &Arc<str>,
        make: impl Fn(Arc<str>, Option<i64>) -> Q,
    ) -> Result<Producer, ErrorCode>
    where
        Q: FnOnce(&mut TransactionShard, oneshot::Sender<Result<Asked, ErrorCode>>, Now) + Send + 'static,
    {
        match self.shards.ask(id, make(Arc::clone(id), None)).await?? {
            Asked::Producer(producer) => return Ok(producer),
            Asked::NeedsProducerId => {}
        }
        let fresh = self.producer_ids.next().await?;
        match self.shards.ask(id, make(Arc::clone(id), Some(fresh))).await?? {
            Asked::Producer(producer) => Ok(producer),
            Asked::NeedsProducerId => unreachable!("it has one"),
        }
    }

    /// DescribeTransactions of one transactional id.
    pub async fn describe(&self, id: Arc<str>) -> Result<Described, ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        let of = Arc::clone(&id);
        let described = self.shards.ask(&id, move |shard, to, _| shard.describe(&of, to)).await?;
        described.ok_or(ErrorCode::TransactionalIdNotFound)
    }

    /// ListTransactions: of all shards.
    pub async fn list(&self, filter: ListFilter) -> Result<Vec<ListedTransaction>, ErrorCode> {
        self.shards.ask_all(move |shard, to, now| shard.list(&filter, to, now)).await
    }

    /// Its shards, whose state goes into the metadata snapshots.
    pub fn shards(&self) -> &Arc<Shards<TransactionShard>> {
        &self.shards
    }
}

#[cfg(test)]
mod tests;
