//! DescribeTransactions 0: the transaction of each transactional id that is named.

use kafka_protocol::messages::describe_transactions_request::DescribeTransactionsRequest;
use kafka_protocol::messages::describe_transactions_response::{
    DescribeTransactionsResponse, TopicData, TransactionState,
};
use kafka_protocol::messages::{TopicName, TransactionalId};

use super::text::{shared, text};
use super::{Call, Disconnect, Node};
use crate::transaction::state::Transaction;

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: DescribeTransactionsRequest,
) -> Result<DescribeTransactionsResponse, Disconnect> {
    let mut states = Vec::with_capacity(request.transactional_ids.len());
    for id in request.transactional_ids {
        states.push(match node.transactions.describe(shared(&id.0)).await {
            Ok(transaction) => state(id, &transaction),
            Err(error) => TransactionState::default().with_transactional_id(id).with_error_code(error.code()),
        });
    }
    Ok(DescribeTransactionsResponse::default().with_transaction_states(states))
}

fn state(id: TransactionalId, transaction: &Transaction) -> TransactionState {
    // Sorted, so that a topic's partitions lie side by side.
    let partitions: Vec<_> = transaction.partitions.iter().collect();
    let topics = partitions.chunk_by(|a, b| a.topic == b.topic).map(|topic| {
        TopicData::default()
            .with_topic(TopicName(text(&topic[0].topic)))
            .with_partitions(topic.iter().map(|of| of.partition).collect())
    });
    TransactionState::default()
        .with_transactional_id(id)
        .with_transaction_state(text(transaction.state.name()))
        .with_transaction_timeout_ms(transaction.timeout_ms)
        .with_transaction_start_time_ms(transaction.start_ms)
        .with_producer_id(transaction.producer_id.into())
        .with_producer_epoch(transaction.epoch)
        .with_topics(topics.collect())
}
