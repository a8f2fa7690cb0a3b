//! Heartbeat 0-4: a member is alive, and learns whether its group rebalances.
//!
//! Versions: 3 static members (KIP-345); 4 flexible.

use kafka_protocol::messages::heartbeat_request::HeartbeatRequest;
use kafka_protocol::messages::heartbeat_response::HeartbeatResponse;

use super::text::shared;
use super::{Call, Disconnect, Node};
use crate::group::classic;
use crate::protocol::error_code::ErrorCode;

/// Answers one request.
pub async fn handle(node: &Node, _call: &Call, request: HeartbeatRequest) -> Result<HeartbeatResponse, Disconnect> {
    let outcome = node
        .groups
        .heartbeat(classic::HeartbeatRequest {
            group: shared(&request.group_id.0),
            member_id: shared(&request.member_id),
            instance_id: request.group_instance_id.as_ref().map(shared),
            generation: request.generation_id,
        })
        .await;
    let error = match outcome {
        // A coordinator that loads cannot say otherwise, and the member must not lose its place: as in Kafka.
        Ok(()) | Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
        Err(error) => error,
    };
    Ok(HeartbeatResponse::default().with_error_code(error.code()))
}
