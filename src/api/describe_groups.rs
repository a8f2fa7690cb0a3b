//! DescribeGroups 0-6: state, protocol and members of classic groups. One of the consumer protocol is not found.
//!
//! Versions: 3 authorised operations; 4 static members (KIP-345); 5 flexible; 6 GROUP_ID_NOT_FOUND with a text (KIP-1043),
//! where older ones show a group in state Dead.

use std::sync::Arc;

use kafka_protocol::messages::describe_groups_request::DescribeGroupsRequest;
use kafka_protocol::messages::describe_groups_response::{
    DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};

use super::text::{shared, text};
use super::{Call, Disconnect, Node};
use crate::group::classic::Description;
use crate::group::consumer::Refused;
use crate::protocol::error_code::ErrorCode;

const NOT_FOUND_FROM: i16 = 6;
const DEAD: &str = "Dead";
/// Everything that can be done to a group, as bits of Kafka's operation codes: read 3, delete 6, describe 8, describe
/// configurations 10, alter configurations 11. Nobody is denied anything while there are no ACLs.
pub(super) const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: DescribeGroupsRequest,
) -> Result<DescribeGroupsResponse, Disconnect> {
    let mut groups = Vec::with_capacity(request.groups.len());
    for id in request.groups {
        let described = match node.groups.describe(shared(&id.0)).await {
            Ok(description) => described(description),
            Err(Refused { code: code @ ErrorCode::GroupIdNotFound, message }) if call.version >= NOT_FOUND_FROM => {
                DescribedGroup::default()
                    .with_error_code(code.code())
                    .with_error_message(Some(text(&message)))
                    .with_group_state(text(DEAD))
            }
            Err(Refused { code: ErrorCode::GroupIdNotFound, .. }) => {
                DescribedGroup::default().with_group_state(text(DEAD))
            }
            Err(refused) => DescribedGroup::default().with_error_code(refused.code.code()),
        };
        let operations = match request.include_authorized_operations && described.error_code == ErrorCode::None.code() {
            true => ALL_OPERATIONS,
            false => i32::MIN,
        };
        groups.push(described.with_group_id(id).with_authorized_operations(operations));
    }
    Ok(DescribeGroupsResponse::default().with_groups(groups))
}

fn described(description: Description) -> DescribedGroup {
    let members = description.members.into_iter().map(|member| {
        let instance_id: Option<Arc<str>> = member.instance_id;
        DescribedGroupMember::default()
            .with_member_id(text(&member.member_id))
            .with_group_instance_id(instance_id.as_deref().map(text))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment)
    });
    DescribedGroup::default()
        .with_group_state(text(description.state))
        .with_protocol_type(text(&description.protocol_type))
        .with_protocol_data(text(&description.protocol))
        .with_members(members.collect())
}
