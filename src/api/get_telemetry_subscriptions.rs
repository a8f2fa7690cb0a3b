//! GetTelemetrySubscriptions 0 (KIP-714): which metrics a client is asked to push, and how often.

use kafka_protocol::messages::get_telemetry_subscriptions_request::GetTelemetrySubscriptionsRequest;
use kafka_protocol::messages::get_telemetry_subscriptions_response::GetTelemetrySubscriptionsResponse;
use uuid::Uuid;

use super::text::text;
use super::{Call, Disconnect, Node};
use crate::client_metrics::{ACCEPTED_COMPRESSION, Client, Refused};
use crate::protocol::error_code::ErrorCode;

/// What stands for a library that has not said its name.
const UNKNOWN: &str = "unknown";

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: GetTelemetrySubscriptionsRequest,
) -> Result<GetTelemetrySubscriptionsResponse, Disconnect> {
    let client = client(call, request.client_instance_id);
    let image = node.metadata.image();
    let response = GetTelemetrySubscriptionsResponse::default();
    Ok(match node.client_metrics.subscribe(&image, &client, node.random.uuid(), node.clock.now_ms()) {
        Ok(subscription) => response
            .with_client_instance_id(subscription.instance)
            .with_subscription_id(subscription.id)
            .with_accepted_compression_types(ACCEPTED_COMPRESSION.into())
            .with_push_interval_ms(subscription.interval_ms)
            .with_telemetry_max_bytes(i32::try_from(node.client_metrics.bytes_max()).unwrap_or(i32::MAX))
            .with_delta_temporality(true)
            .with_requested_metrics(subscription.metrics.iter().map(|metric| text(metric)).collect()),
        Err(refused) => response.with_error_code(error(refused).code()),
    })
}

/// The client that sent `call`, under the id that it gives itself.
pub(super) fn client(call: &Call, instance: Uuid) -> Client<'_> {
    let software = call.software.get();
    Client {
        instance,
        id: call.client_id.as_deref().unwrap_or_default(),
        software_name: software.map_or(UNKNOWN, |software| &*software.name),
        software_version: software.map_or(UNKNOWN, |software| &*software.version),
        address: call.peer,
    }
}

/// Kafka's code for why a client is not listened to.
pub(super) fn error(refused: Refused) -> ErrorCode {
    match refused {
        Refused::Request => ErrorCode::InvalidRequest,
        Refused::TooEarly => ErrorCode::ThrottlingQuotaExceeded,
        Refused::Subscription => ErrorCode::UnknownSubscriptionId,
        Refused::Compression => ErrorCode::UnsupportedCompressionType,
        Refused::TooLarge => ErrorCode::TelemetryTooLarge,
        Refused::Damaged => ErrorCode::InvalidRecord,
    }
}
