//! PushTelemetry 0 (KIP-714): the metrics of a client, which come out at `/metrics`.

use kafka_protocol::messages::push_telemetry_request::PushTelemetryRequest;
use kafka_protocol::messages::push_telemetry_response::PushTelemetryResponse;

use super::get_telemetry_subscriptions::{client, error};
use super::{Call, Disconnect, Node};
use crate::client_metrics::Push;

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: PushTelemetryRequest,
) -> Result<PushTelemetryResponse, Disconnect> {
    let client = client(call, request.client_instance_id);
    let push = Push {
        instance: request.client_instance_id,
        subscription: request.subscription_id,
        terminating: request.terminating,
        compression: request.compression_type,
        metrics: &request.metrics,
    };
    let pushed = node.client_metrics.push(&node.metadata.image(), &client, &push, node.clock.now_ms());
    Ok(match pushed {
        Ok(()) => PushTelemetryResponse::default(),
        Err(refused) => {
            tracing::debug!(client = client.id, %refused, "metrics of a client are not taken");
            PushTelemetryResponse::default().with_error_code(error(refused).code())
        }
    })
}
