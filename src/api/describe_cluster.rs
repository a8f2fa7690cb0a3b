//! DescribeCluster 0-2: the cluster id and its one broker. Version 1 asks for a type of endpoint (KIP-919), 2 for fenced
//! brokers, of which there are none (KIP-1073).

use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::describe_cluster_request::DescribeClusterRequest;
use kafka_protocol::messages::describe_cluster_response::{DescribeClusterBroker, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::change::Refusal;
use super::metadata::CLUSTER_OPERATIONS;
use super::{Call, Disconnect, Node};
use crate::protocol::error_code::ErrorCode;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: DescribeClusterRequest,
) -> Result<DescribeClusterResponse, Disconnect> {
    if let Some(refusal) = refused_type(request.endpoint_type) {
        return Ok(DescribeClusterResponse::default()
            .with_error_code(refusal.code.code())
            .with_error_message(refusal.text()));
    }
    let node_id = BrokerId(node.config.node_id);
    let brokers = node.endpoint(&call.listener).map(|endpoint| {
        DescribeClusterBroker::default()
            .with_broker_id(node_id)
            .with_host(StrBytes::from_string(endpoint.host.clone()))
            .with_port(i32::from(endpoint.port))
            .with_rack(node.config.rack.clone().map(StrBytes::from_string))
    });
    let mut response = DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from_string(node.metadata.image().cluster_id.to_string()))
        .with_controller_id(node_id)
        .with_brokers(brokers.into_iter().collect());
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    Ok(response)
}

fn refused_type(endpoint_type: i8) -> Option<Refusal> {
    match endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some(Refusal::new(
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
        )),
        other => Some(Refusal::new(ErrorCode::UnsupportedEndpointType, format!("Unsupported endpoint type {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_elsewhere_and_unknown_types_nowhere() {
        assert_eq!(refused_type(1), None);
        assert_eq!(refused_type(2).map(|refusal| refusal.code), Some(ErrorCode::MismatchedEndpointType));
        let unknown = Refusal::new(ErrorCode::UnsupportedEndpointType, "Unsupported endpoint type 9");
        assert_eq!(refused_type(9), Some(unknown));
    }
}
