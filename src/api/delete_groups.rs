//! DeleteGroups 0-2: groups without members, with all their offsets.
//!
//! Versions: 2 flexible.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::messages::delete_groups_request::DeleteGroupsRequest;
use kafka_protocol::messages::delete_groups_response::{DeletableGroupResult, DeleteGroupsResponse};

use super::text::shared;
use super::{Call, Disconnect, Node, share_states};
use crate::protocol::error_code::ErrorCode;

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: DeleteGroupsRequest,
) -> Result<DeleteGroupsResponse, Disconnect> {
    let mut results = Vec::with_capacity(request.groups_names.len());
    let mut seen = HashSet::new();
    for id in request.groups_names {
        // Named twice it is deleted and answered once.
        if seen.insert(id.clone()) {
            let outcome = delete(node, shared(&id.0)).await;
            let code = outcome.err().unwrap_or(ErrorCode::None).code();
            results.push(DeletableGroupResult::default().with_group_id(id).with_error_code(code));
        }
    }
    Ok(DeleteGroupsResponse::default().with_results(results))
}

/// What is kept of a share group elsewhere goes before the group, which knows that it goes: a crash in between leaves a group
/// that begins anew.
async fn delete(node: &Node, group: Arc<str>) -> Result<(), ErrorCode> {
    let turn = node.groups.states_turn(&group).await;
    match node.groups.share_states(Arc::clone(&group), true).await {
        Ok(states) => {
            share_states::forget(node, &turn, &states, &states.topics()).await?;
            node.shares.forget_group(&group);
        }
        // Not a share group: what else it is, and whether it is there, the deletion tells.
        Err(refused) if refused.code == ErrorCode::GroupIdNotFound => {}
        Err(refused) => return Err(refused.code),
    }
    node.groups.delete_group(group).await
}
