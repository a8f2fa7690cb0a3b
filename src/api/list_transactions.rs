//! ListTransactions 0-2: the transactional ids that pass every filter of the request.
//!
//! Versions: 1 duration (KIP-994); 2 pattern of the name (KIP-1152).

use std::collections::HashSet;

use kafka_protocol::messages::TransactionalId;
use kafka_protocol::messages::list_transactions_request::ListTransactionsRequest;
use kafka_protocol::messages::list_transactions_response::{ListTransactionsResponse, TransactionState};
use kafka_protocol::protocol::StrBytes;
use regex::{Regex, RegexBuilder};

use super::text::text;
use super::{Call, Disconnect, Node};
use crate::protocol::error_code::ErrorCode;
use crate::transaction::shard::ListFilter;
use crate::transaction::state::State;

/// What a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// States that Kafka knows by name, and in which nothing is ever found.
const TRANSIENT_STATES: [&str; 2] = ["Dead", "PrepareEpochFence"];

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: ListTransactionsRequest,
) -> Result<ListTransactionsResponse, Disconnect> {
    let state = |name: &StrBytes| State::ALL.into_iter().find(|state| state.name() == name.as_str());
    let unknown: HashSet<_> = request
        .state_filters
        .iter()
        .filter(|name| state(name).is_none() && !TRANSIENT_STATES.contains(&name.as_str()))
        .cloned()
        .collect();
    let response = ListTransactionsResponse::default();
    // An empty pattern is none.
    let pattern =
        match request.transactional_id_pattern.as_deref().filter(|p| !p.is_empty()).map(whole_name).transpose() {
            Ok(pattern) => pattern,
            Err(_) => return Ok(response.with_error_code(ErrorCode::InvalidRegularExpression.code())),
        };
    let filter = ListFilter {
        producer_ids: request.producer_id_filters.iter().map(|id| id.0).collect(),
        states: (!request.state_filters.is_empty()).then(|| request.state_filters.iter().filter_map(state).collect()),
        longer_than_ms: Some(request.duration_filter).filter(|&ms| ms >= 0),
        pattern,
    };
    let response = response.with_unknown_state_filters(unknown.into_iter().collect());
    Ok(match node.transactions.list(filter).await {
        Err(error) => response.with_error_code(error.code()),
        Ok(listed) => {
            let states = listed.into_iter().map(|listed| {
                TransactionState::default()
                    .with_transactional_id(TransactionalId(text(&listed.transactional_id)))
                    .with_producer_id(listed.producer_id.into())
                    .with_transaction_state(text(listed.state.name()))
            });
            response.with_transaction_states(states.collect())
        }
    })
}

/// A pattern that the whole name has to match.
fn whole_name(pattern: &str) -> Result<Regex, regex::Error> {
    let build = |pattern: &str| RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build();
    // By itself first: one that closes the group of ours is none.
    build(pattern)?;
    build(&format!(r"\A(?:{pattern})\z"))
}
