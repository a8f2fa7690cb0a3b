//! DescribeGroups 0-6: state, protocol and members of groups.
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
use crate::protocol::error_code::ErrorCode;

const NOT_FOUND_FROM: i16 = 6;
const DEAD: &str = "Dead";
/// Everything that can be done to a group, as bits of Kafka's operation codes: read 3, delete 6, describe 8, describe
/// configurations 10, alter configurations 11. Nobody is denied anything while there are no ACLs.
const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: DescribeGroupsRequest,
) -> Result<DescribeGroupsResponse, Disconnect> {
    let mut groups = Vec::with_capacity(request.groups.len());
    for id in request.groups {
        let described = match node.groups.describe(shared(&id.0)).await {
            Ok(Some(description)) => described(description),
            Ok(None) if call.version >= NOT_FOUND_FROM => DescribedGroup::default()
                .with_error_code(ErrorCode::GroupIdNotFound.code())
                .with_error_message(Some(text(&format!("Group {} not found.", &*id))))
                .with_group_state(text(DEAD)),
            Ok(None) => DescribedGroup::default().with_group_state(text(DEAD)),
            Err(error) => DescribedGroup::default().with_error_code(error.code()),
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
