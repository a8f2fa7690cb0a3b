//! LeaveGroup 0-5: members go at once, by their own wish or an operator's.
//!
//! Versions: 3 several members, static ones by instance id (KIP-345); 4 flexible; 5 reason (KIP-800).

use kafka_protocol::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use kafka_protocol::messages::leave_group_response::{LeaveGroupResponse, MemberResponse};

use super::text::shared;
use super::{Call, Disconnect, Node};
use crate::group::classic::Leaving;
use crate::protocol::error_code::ErrorCode;

const MEMBERS_FROM: i16 = 3;

/// Answers one request.
pub async fn handle(node: &Node, call: &Call, request: LeaveGroupRequest) -> Result<LeaveGroupResponse, Disconnect> {
    let members = match call.version {
        MEMBERS_FROM.. => request.members,
        _ => vec![MemberIdentity::default().with_member_id(request.member_id)],
    };
    let leaving = members.iter().map(|member| Leaving {
        member_id: shared(&member.member_id),
        instance_id: member.group_instance_id.as_ref().map(shared),
    });
    let outcomes = match node.groups.leave(shared(&request.group_id.0), leaving.collect()).await {
        Ok(outcomes) => outcomes,
        // A group that isn't there has none of these members.
        Err(ErrorCode::UnknownMemberId) => vec![Err(ErrorCode::UnknownMemberId); members.len()],
        Err(error) => return Ok(LeaveGroupResponse::default().with_error_code(error.code())),
    };
    let mut codes = outcomes.iter().map(|outcome| outcome.err().unwrap_or(ErrorCode::None).code());
    if call.version < MEMBERS_FROM {
        return Ok(LeaveGroupResponse::default().with_error_code(codes.next().unwrap_or_default()));
    }
    let members = members.into_iter().zip(codes).map(|(member, code)| {
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code)
    });
    Ok(LeaveGroupResponse::default().with_members(members.collect()))
}
