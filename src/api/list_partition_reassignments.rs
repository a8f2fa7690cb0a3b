//! ListPartitionReassignments 0 (KIP-455): with one broker none is ever in progress, whatever is asked for.

use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use kafka_protocol::messages::list_partition_reassignments_response::ListPartitionReassignmentsResponse;

use super::{Call, Disconnect, Node};

/// Answers one request.
pub async fn handle(
    _node: &Node,
    _call: &Call,
    _request: ListPartitionReassignmentsRequest,
) -> Result<ListPartitionReassignmentsResponse, Disconnect> {
    Ok(ListPartitionReassignmentsResponse::default().with_error_message(None))
}
