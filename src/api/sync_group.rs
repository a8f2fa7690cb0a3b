//! SyncGroup 0-5: the leader hands over its assignment, everyone gets theirs.
//!
//! Versions: 3 static members (KIP-345); 4 flexible; 5 protocol type and name, checked and answered (KIP-559).

use kafka_protocol::messages::sync_group_request::SyncGroupRequest;
use kafka_protocol::messages::sync_group_response::SyncGroupResponse;

use super::text::{shared, text};
use super::{Call, Disconnect, Node};
use crate::group::classic::{SyncRequest, Synced};
use crate::protocol::error_code::ErrorCode;

const PROTOCOLS_FROM: i16 = 5;

/// Answers one request.
pub async fn handle(node: &Node, call: &Call, request: SyncGroupRequest) -> Result<SyncGroupResponse, Disconnect> {
    let named = request.protocol_type.is_some() && request.protocol_name.is_some();
    let synced = if call.version >= PROTOCOLS_FROM && !named {
        // From this version on both are mandatory; there is no other way to say that they can be null.
        Synced::refused(ErrorCode::InconsistentGroupProtocol)
    } else {
        let assignments = request.assignments.iter();
        node.groups
            .sync(SyncRequest {
                group: shared(&request.group_id.0),
                member_id: shared(&request.member_id),
                instance_id: request.group_instance_id.as_ref().map(shared),
                generation: request.generation_id,
                protocol_type: request.protocol_type.as_ref().map(shared),
                protocol: request.protocol_name.as_ref().map(shared),
                assignments: assignments.map(|one| (shared(&one.member_id), one.assignment.clone())).collect(),
            })
            .await
    };
    Ok(SyncGroupResponse::default()
        .with_error_code(synced.error.code())
        .with_protocol_type(synced.protocol_type.as_deref().map(text))
        .with_protocol_name(synced.protocol.as_deref().map(text))
        .with_assignment(synced.assignment))
}
