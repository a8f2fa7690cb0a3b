//! ListGroups 0-5: all groups of this broker.
//!
//! Versions: 3 flexible; 4 state, and a filter for it (KIP-518); 5 type, and a filter for it (KIP-848). Filters don't mind
//! upper and lower case.

use kafka_protocol::messages::GroupId;
use kafka_protocol::messages::list_groups_request::ListGroupsRequest;
use kafka_protocol::messages::list_groups_response::{ListGroupsResponse, ListedGroup};
use kafka_protocol::protocol::StrBytes;

use super::text::text;
use super::{Call, Disconnect, Node};

const STATE_FROM: i16 = 4;
const TYPE_FROM: i16 = 5;

/// Answers one request.
pub async fn handle(node: &Node, call: &Call, request: ListGroupsRequest) -> Result<ListGroupsResponse, Disconnect> {
    let wanted = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|one| one.eq_ignore_ascii_case(value))
    };
    let listed = match node.groups.list().await {
        Ok(listed) => listed,
        Err(error) => return Ok(ListGroupsResponse::default().with_error_code(error.code())),
    };
    let listed = listed
        .iter()
        .filter(|group| wanted(&request.states_filter, group.state) && wanted(&request.types_filter, group.group_type));
    let groups = listed.map(|group| {
        ListedGroup::default()
            .with_group_id(GroupId(text(&group.group)))
            .with_protocol_type(text(&group.protocol_type))
            .with_group_state(if call.version >= STATE_FROM { text(group.state) } else { StrBytes::default() })
            .with_group_type(if call.version >= TYPE_FROM { text(group.group_type) } else { StrBytes::default() })
    });
    Ok(ListGroupsResponse::default().with_groups(groups.collect()))
}
