//! JoinGroup 0-9: into a group, and through its rebalance. The answer may take as long as that.
//!
//! Versions: 1 rebalance timeout; 4 MEMBER_ID_REQUIRED (KIP-394); 5 static members (KIP-345); 6 flexible; 7 protocol type in
//! the answer, null protocol name; 8 reason (KIP-800); 9 skip assignment (KIP-814).

use kafka_protocol::messages::join_group_request::JoinGroupRequest;
use kafka_protocol::messages::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};

use super::text::{shared, text};
use super::{Call, Disconnect, Node};
use crate::group::classic::{JoinRequest, Joined};

const REBALANCE_TIMEOUT_FROM: i16 = 1;
const KNOWN_MEMBER_ID_FROM: i16 = 4;
const NULL_PROTOCOL_FROM: i16 = 7;
const SKIP_ASSIGNMENT_FROM: i16 = 9;

/// Answers one request.
pub async fn handle(node: &Node, call: &Call, request: JoinGroupRequest) -> Result<JoinGroupResponse, Disconnect> {
    let protocols = request.protocols.iter();
    let joined = node
        .groups
        .join(JoinRequest {
            group: shared(&request.group_id.0),
            member_id: shared(&request.member_id),
            instance_id: request.group_instance_id.as_ref().map(shared),
            client_id: call.client_id.clone().unwrap_or_default(),
            // As Java prints an address without a name.
            client_host: format!("/{}", call.peer.ip().to_canonical()).into(),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: match call.version {
                REBALANCE_TIMEOUT_FROM.. => request.rebalance_timeout_ms,
                _ => request.session_timeout_ms,
            },
            protocol_type: shared(&request.protocol_type),
            protocols: protocols.map(|protocol| (shared(&protocol.name), protocol.metadata.clone())).collect(),
            needs_known_member_id: call.version >= KNOWN_MEMBER_ID_FROM,
            understands_skip_assignment: call.version >= SKIP_ASSIGNMENT_FROM,
        })
        .await;
    Ok(response(call.version, joined))
}

fn response(version: i16, joined: Joined) -> JoinGroupResponse {
    let no_protocol = if version >= NULL_PROTOCOL_FROM { None } else { Some(text("")) };
    let members = joined.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(member.instance_id.as_deref().map(text))
            .with_metadata(member.metadata)
    });
    JoinGroupResponse::default()
        .with_error_code(joined.error.code())
        .with_generation_id(joined.generation)
        .with_protocol_type(joined.protocol_type.as_deref().map(text))
        .with_protocol_name(joined.protocol.as_deref().map(text).or(no_protocol))
        .with_leader(text(&joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(text(&joined.member_id))
        .with_members(members.collect())
}
