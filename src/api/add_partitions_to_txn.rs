//! AddPartitionsToTxn 0-5: partitions that a transaction is about to write to, of one transaction or (4+) of several.
//!
//! Versions: 2 PRODUCER_FENCED; 3 flexible; 4 batches of transactions, and such that only verify (KIP-890); 5 transactions
//! of clients at `transaction.version` 2. From 4 on Kafka expects only brokers here, which ask in the name of a Produce.

use std::sync::Arc;

use indexmap::{IndexMap, IndexSet};
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResponse, AddPartitionsToTxnResult,
    AddPartitionsToTxnTopicResult,
};

use super::by_topic::decided;
use super::text::shared;
use super::{Call, Disconnect, Node};
use crate::metadata::image::Image;
use crate::protocol::error_code::ErrorCode;
use crate::transaction::state::TopicPartition;
use crate::transaction::transition::Producer;

const PRODUCER_FENCED_FROM: i16 = 2;
const TRANSACTIONS_FROM: i16 = 4;
const EPOCH_BUMP_FROM: i16 = 5;

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: AddPartitionsToTxnRequest,
) -> Result<AddPartitionsToTxnResponse, Disconnect> {
    let response = AddPartitionsToTxnResponse::default();
    if call.version < TRANSACTIONS_FROM {
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(request.v3_and_below_transactional_id)
            .with_producer_id(request.v3_and_below_producer_id)
            .with_producer_epoch(request.v3_and_below_producer_epoch)
            .with_topics(request.v3_and_below_topics);
        let topics = serve(node, call.version, &transaction).await;
        return Ok(response.with_results_by_topic_v3_and_below(topics));
    }
    let mut results = Vec::with_capacity(request.transactions.len());
    for transaction in &request.transactions {
        let topics = serve(node, call.version, transaction).await;
        let result = AddPartitionsToTxnResult::default()
            .with_transactional_id(transaction.transactional_id.clone())
            .with_topic_results(topics);
        results.push(result);
    }
    Ok(response.with_results_by_transaction(results))
}

async fn serve(
    node: &Node,
    version: i16,
    transaction: &AddPartitionsToTxnTransaction,
) -> Vec<AddPartitionsToTxnTopicResult> {
    if let Some(refused) = unknown_partitions(&node.metadata.image(), &transaction.topics) {
        return refused;
    }
    let id = shared(&transaction.transactional_id.0);
    let producer = Producer { id: transaction.producer_id.0, epoch: transaction.producer_epoch };
    if transaction.verify_only {
        let named = named(&transaction.topics);
        let outcomes = node.transactions.verify_partitions(id, producer, partitions(&named)).await;
        let asked = named.into_iter().map(|(name, partitions)| (name, partitions.into_iter().collect()));
        let decided = decided(asked, outcomes).into_iter();
        return decided.map(|(name, partitions)| topic_result(name, partitions.into_iter())).collect();
    }
    let client_version = if version >= EPOCH_BUMP_FROM { 2 } else { 0 };
    let added =
        node.transactions.add_partitions(id, producer, partitions(&named(&transaction.topics)), client_version).await;
    let error = match added {
        Ok(()) => ErrorCode::None,
        Err(ErrorCode::ProducerFenced) if version < PRODUCER_FENCED_FROM => ErrorCode::InvalidProducerEpoch,
        Err(error) => error,
    };
    let each = |topic: &AddPartitionsToTxnTopic| {
        topic_result(&topic.name, topic.partitions.iter().map(|partition| (*partition, error)))
    };
    transaction.topics.iter().map(each).collect()
}

type Named<'r> = IndexMap<&'r TopicName, IndexSet<i32>>;

/// Each partition once, under its topic; topics without partitions aren't named.
fn named(topics: &[AddPartitionsToTxnTopic]) -> Named<'_> {
    let mut named = Named::new();
    for topic in topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        named.entry(&topic.name).or_default().extend(&topic.partitions);
    }
    named
}

fn partitions(named: &Named<'_>) -> Vec<TopicPartition> {
    let partitions = named.iter().flat_map(|(name, partitions)| {
        let name = shared(&name.0);
        partitions.iter().map(move |&partition| TopicPartition { topic: Arc::clone(&name), partition })
    });
    partitions.collect()
}

/// One partition that does not exist refuses them all: the others were not attempted. Each is named once.
fn unknown_partitions(image: &Image, topics: &[AddPartitionsToTxnTopic]) -> Option<Vec<AddPartitionsToTxnTopicResult>> {
    let exists = |name: &TopicName, partition: &i32| {
        image.topic(&name.0).is_some_and(|topic| (0..topic.partition_count).contains(partition))
    };
    if topics.iter().all(|topic| topic.partitions.iter().all(|partition| exists(&topic.name, partition))) {
        return None;
    }
    let result = |(name, partitions): (&TopicName, IndexSet<i32>)| {
        let code = |partition: &i32| match exists(name, partition) {
            true => ErrorCode::OperationNotAttempted,
            false => ErrorCode::UnknownTopicOrPartition,
        };
        topic_result(name, partitions.iter().map(|partition| (*partition, code(partition))))
    };
    Some(named(topics).into_iter().map(result).collect())
}

fn topic_result(name: &TopicName, partitions: impl Iterator<Item = (i32, ErrorCode)>) -> AddPartitionsToTxnTopicResult {
    let partitions = partitions.map(|(partition, error)| {
        AddPartitionsToTxnPartitionResult::default()
            .with_partition_index(partition)
            .with_partition_error_code(error.code())
    });
    AddPartitionsToTxnTopicResult::default().with_name(name.clone()).with_results_by_partition(partitions.collect())
}
