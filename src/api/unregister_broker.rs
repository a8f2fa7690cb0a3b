//! UnregisterBroker 0 (KIP-631): takes brokers that are gone out of the cluster. There is one broker, and it is not gone:
//! unregistering it is refused, while Kafka has it register anew.

use kafka_protocol::messages::unregister_broker_request::UnregisterBrokerRequest;
use kafka_protocol::messages::unregister_broker_response::UnregisterBrokerResponse;

use super::change::Refusal;
use super::{Call, Disconnect, Node};
use crate::protocol::error_code::ErrorCode;

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: UnregisterBrokerRequest,
) -> Result<UnregisterBrokerResponse, Disconnect> {
    let asked = request.broker_id.0;
    let refusal = if asked == node.config.node_id {
        Refusal::new(ErrorCode::InvalidRequest, format!("Broker ID {asked} is the broker that was asked"))
    } else {
        Refusal::new(ErrorCode::BrokerIdNotRegistered, format!("Broker ID {asked} is not currently registered"))
    };
    Ok(UnregisterBrokerResponse::default().with_error_code(refusal.code.code()).with_error_message(refusal.text()))
}
