//! FindCoordinator 0-6: this broker coordinates all groups and transactions; the first who asks makes the internal topic.
//!
//! Until share groups exist their key type answers INVALID_REQUEST.
//!
//! Versions: 1 key type, error text; 3 flexible; 4 several keys (KIP-699); 6 share groups (KIP-932).

use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest;
use kafka_protocol::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};

use super::text::{MALFORMED, text};
use super::{Call, Disconnect, Node};
use crate::config::listeners::Endpoint;
use crate::protocol::error_code::ErrorCode;

const ERROR_TEXT_FROM: i16 = 1;
const KEYS_FROM: i16 = 4;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;
const NOBODY: BrokerId = BrokerId(-1);

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: FindCoordinatorRequest,
) -> Result<FindCoordinatorResponse, Disconnect> {
    let found = find(node, call, request.key_type).await;
    let is_unknown = !matches!(request.key_type, GROUP | TRANSACTION | SHARE);
    if call.version < KEYS_FROM {
        return Ok(one(node, call.version, found));
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| match found {
        Ok(endpoint) => Coordinator::default()
            .with_key(key)
            .with_node_id(node.config.node_id.into())
            .with_host(text(&endpoint.host))
            .with_port(i32::from(endpoint.port)),
        Err(error) => Coordinator::default()
            .with_key(key)
            .with_node_id(NOBODY)
            .with_port(-1)
            .with_error_code(error.code())
            .with_error_message(Some(text(if is_unknown { MALFORMED } else { "" }))),
    });
    Ok(FindCoordinatorResponse::default().with_coordinators(coordinators.collect()))
}

async fn find<'n>(node: &'n Node, call: &Call, key_type: i8) -> Result<&'n Endpoint, ErrorCode> {
    match key_type {
        GROUP => node.groups.find().await?,
        TRANSACTION => node.transactions.find().await?,
        _ => return Err(ErrorCode::InvalidRequest),
    }
    node.endpoint(&call.listener).ok_or(ErrorCode::CoordinatorNotAvailable)
}

fn one(node: &Node, version: i16, found: Result<&Endpoint, ErrorCode>) -> FindCoordinatorResponse {
    let error = found.err().unwrap_or(ErrorCode::None);
    let answer = FindCoordinatorResponse::default()
        .with_error_code(error.code())
        .with_error_message((version >= ERROR_TEXT_FROM).then(|| text(words(error))));
    match found {
        Ok(endpoint) => answer
            .with_node_id(node.config.node_id.into())
            .with_host(text(&endpoint.host))
            .with_port(i32::from(endpoint.port)),
        Err(_) => answer.with_node_id(NOBODY).with_port(-1),
    }
}

/// Kafka's words for the errors of this answer.
fn words(error: ErrorCode) -> &'static str {
    match error {
        ErrorCode::InvalidRequest => MALFORMED,
        ErrorCode::CoordinatorNotAvailable => "The coordinator is not available.",
        error => error.name(),
    }
}
