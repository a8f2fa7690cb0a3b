//! Markers: how every partition of a transaction learns how it ended.
//!
//! A prepared transaction arrives as a [`Completion`] once its outcome is durable. Each has a task of its own, so that a
//! partition that cannot take its marker now (its log directory is offline, its coordinator loads) holds up this
//! transaction and no other. When all markers are durable the shard writes that the transaction is complete.
//!
//! A crash at any step is repaired by the next start, which finds the prepared transaction while loading and sends all its
//! markers again: a marker where no transaction is open changes nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use terrace_tiering::platform::crash_point::{self, CrashPoint};
use terrace_tiering::platform::task::Tasks;
use tokio::sync::mpsc;

use super::shard::TransactionShard;
use super::state::{State, TopicPartition, Transaction};
use super::transition::Producer;
use crate::coordinator::Shards;
use crate::partition::transactions::EndMarker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::LeaderEpoch;

/// The first and the longest pause before markers that could not be written are tried again.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_LONGEST: Duration = Duration::from_secs(2);

/// What became of a marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It is durable, or there is nothing left to be told: the topic is gone, or a newer epoch has written there.
    Done,
    /// To be tried again, and why.
    NotNow(String),
}

/// Where markers go.
#[async_trait]
pub trait MarkerTarget: Send + Sync + 'static {
    /// Writes a marker and waits until it is durable.
    async fn write(&self, partition: &TopicPartition, marker: EndMarker) -> Written;
}

/// A prepared transaction on its way to its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The transactional id.
    pub transactional_id: Arc<str>,
    /// What its partitions are told.
    pub marker: EndMarker,
    /// All of them.
    pub partitions: Vec<TopicPartition>,
}

impl Completion {
    /// The completion of a prepared transaction.
    pub fn new(transactional_id: &Arc<str>, transaction: &Transaction, coordinator_epoch: LeaderEpoch) -> Self {
        let marker = EndMarker {
            producer_id: transaction.producer_id,
            producer_epoch: transaction.epoch,
            coordinator_epoch,
            commit: transaction.state == State::PrepareCommit,
            transaction_version: i8::try_from(transaction.client_version).unwrap_or(0),
        };
        let partitions = transaction.partitions.iter().cloned().collect();
        Self { transactional_id: Arc::clone(transactional_id), marker, partitions }
    }
}

/// Sends out what arrives until the broker stops.
pub(super) fn start(
    mut completions: mpsc::UnboundedReceiver<Completion>,
    target: Arc<dyn MarkerTarget>,
    shards: Arc<Shards<TransactionShard>>,
    tasks: Tasks,
) {
    let stop = tasks.stopping();
    let workers = tasks.clone();
    tasks.spawn("transaction-markers", async move {
        loop {
            let completion = tokio::select! {
                () = stop.cancelled() => return,
                completion = completions.recv() => match completion {
                    Some(completion) => completion,
                    None => return,
                },
            };
            let (target, shards, stop) = (Arc::clone(&target), Arc::clone(&shards), stop.clone());
            workers.spawn("transaction-markers-send", async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = finish(completion, &*target, &shards) => {}
                }
            });
        }
    });
}

async fn finish(completion: Completion, target: &dyn MarkerTarget, shards: &Shards<TransactionShard>) {
    write_all(&completion, target).await;
    let id = Arc::clone(&completion.transactional_id);
    let ended = Producer { id: completion.marker.producer_id, epoch: completion.marker.producer_epoch };
    let mut pause = RETRY_FIRST;
    loop {
        let of = Arc::clone(&id);
        match shards.ask(&id, move |shard, to, now| shard.complete(&of, ended, to, now)).await {
            Ok(Ok(())) => return,
            // A shard that is gone or loads comes to the same transaction by itself.
            Err(ErrorCode::NotCoordinator | ErrorCode::CoordinatorLoadInProgress) => return,
            Ok(Err(error)) | Err(error) => {
                if pause == RETRY_FIRST {
                    let error = error.name();
                    tracing::warn!(transactional_id = &*id, error, "the end of a transaction is not written yet");
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_LONGEST);
    }
}

/// Returns when every partition has its marker.
async fn write_all(completion: &Completion, target: &dyn MarkerTarget) {
    let mut left: Vec<&TopicPartition> = completion.partitions.iter().collect();
    let mut pause = RETRY_FIRST;
    loop {
        let written = join_all(left.iter().map(|partition| write(partition, completion.marker, target))).await;
        let again: Vec<_> = left.into_iter().zip(written).filter_map(|(at, why)| why.map(|why| (at, why))).collect();
        let Some((first, why)) = again.first() else { return };
        if pause == RETRY_FIRST {
            tracing::warn!(
                transactional_id = &*completion.transactional_id,
                partitions = again.len(),
                topic = &*first.topic,
                partition = first.partition,
                why,
                "markers are tried again until they are written"
            );
        }
        left = again.into_iter().map(|(partition, _)| partition).collect();
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_LONGEST);
    }
}

/// Why the marker must be tried again, if it must.
async fn write(partition: &TopicPartition, marker: EndMarker, target: &dyn MarkerTarget) -> Option<String> {
    match target.write(partition, marker).await {
        Written::Done => {
            crash_point::reach(CrashPoint::TransactionAfterMarker);
            None
        }
        Written::NotNow(why) => Some(why),
    }
}
