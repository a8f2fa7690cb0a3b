//! ListConfigResources 0-1 (KIP-1142, before it ListClientMetricsResources): the names of what has configuration. Version 0
//! knows subscriptions to metrics of clients only.

use std::collections::BTreeSet;

use kafka_protocol::messages::list_config_resources_request::ListConfigResourcesRequest;
use kafka_protocol::messages::list_config_resources_response::{ConfigResource, ListConfigResourcesResponse};

use super::config_resource::Kind;
use super::text::text;
use super::{Call, Disconnect, Node};
use crate::protocol::error_code::ErrorCode;

/// What is listed when nothing is asked for by type.
const ALL: [Kind; 5] = [Kind::Topic, Kind::Broker, Kind::Logger, Kind::ClientMetrics, Kind::Group];

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: ListConfigResourcesRequest,
) -> Result<ListConfigResourcesResponse, Disconnect> {
    let kinds = match (call.version, request.resource_types.as_slice()) {
        (0, _) => BTreeSet::from([Kind::ClientMetrics]),
        (_, []) => BTreeSet::from(ALL),
        (_, types) => match types.iter().map(|code| Kind::from_code(*code)).collect::<Option<BTreeSet<_>>>() {
            Some(kinds) => kinds,
            None => {
                return Ok(ListConfigResourcesResponse::default().with_error_code(ErrorCode::UnsupportedVersion.code()));
            }
        },
    };
    let resources = kinds.into_iter().flat_map(|kind| {
        names(node, kind).into_iter().map(move |name| {
            let resource = ConfigResource::default().with_resource_name(text(&name));
            if call.version == 0 { resource } else { resource.with_resource_type(kind.code()) }
        })
    });
    Ok(ListConfigResourcesResponse::default().with_config_resources(resources.collect()))
}

fn names(node: &Node, kind: Kind) -> Vec<String> {
    let image = node.metadata.image();
    match kind {
        Kind::Topic => image.topics.keys().map(|name| name.to_string()).collect(),
        Kind::Broker | Kind::Logger => vec![node.config.node_id.to_string()],
        Kind::ClientMetrics => image.client_metrics.keys().cloned().collect(),
        Kind::Group => image.group_configs.keys().cloned().collect(),
    }
}
