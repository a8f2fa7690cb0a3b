//! DescribeConfigs 1-4 of topics, brokers, groups, subscriptions to metrics of clients, and loggers. Version 3 has types and documentation (KIP-569), 4 is flexible.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::protocol::StrBytes;

use super::change::Refusal;
use super::config_resource::{Kind, Settings};
use super::loggers;
use super::text::MALFORMED;
use super::topic_creation::illegal_name;
use super::{Call, Disconnect, Node};
use crate::config::describe::{self, Described, Source};
use crate::protocol::error_code::ErrorCode;

/// The first version with types and documentation.
const TYPES_FROM: i16 = 3;
/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: DescribeConfigsRequest,
) -> Result<DescribeConfigsResponse, Disconnect> {
    let image = node.metadata.image();
    Ok(answer(&Settings::of(node, &image), call.version, &request))
}

fn answer(settings: &Settings<'_>, version: i16, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    // One unknown type spoils the whole request, as in Kafka.
    let malformed = request.resources.iter().any(|resource| Kind::from_code(resource.resource_type).is_none());
    let results = request.resources.iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let described = match Kind::from_code(resource.resource_type) {
            Some(kind) if !malformed => settings.describe(kind, &resource.resource_name),
            _ => Err(Refusal::new(ErrorCode::InvalidRequest, MALFORMED)),
        };
        match described {
            Ok(entries) => {
                let wanted = entries.into_iter().filter(|entry| is_wanted(resource, entry.name));
                result
                    .with_error_message(Some(StrBytes::from_static_str("")))
                    .with_configs(wanted.map(|entry| shown(entry, version, request)).collect())
            }
            Err(refusal) => {
                result.with_error_code(refusal.code.code()).with_error_message(Some(refusal.text().unwrap_or_default()))
            }
        }
    });
    DescribeConfigsResponse::default().with_results(results.collect())
}

fn is_wanted(resource: &DescribeConfigsResource, name: &str) -> bool {
    match &resource.configuration_keys {
        None => true,
        Some(keys) => keys.is_empty() || keys.iter().any(|key| &**key == name),
    }
}

fn shown(entry: Described, version: i16, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let mut result = DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(entry.name))
        .with_value(entry.value.map(StrBytes::from_string))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source.code())
        .with_is_sensitive(entry.sensitive);
    if version >= TYPES_FROM {
        result.config_type = entry.kind;
        // Loggers have none, which Kafka says whether it is asked or not.
        let is_wanted = request.include_documentation || entry.source == Source::BrokerLogger;
        result.documentation = is_wanted.then(|| StrBytes::from_string(entry.documentation));
    }
    if request.include_synonyms {
        let synonyms = entry.synonyms.into_iter().map(|synonym| {
            DescribeConfigsSynonym::default()
                .with_name(StrBytes::from_string(synonym.name))
                .with_value(synonym.value.map(StrBytes::from_string))
                .with_source(synonym.source.code())
        });
        result.synonyms = synonyms.collect();
    }
    result
}

impl Settings<'_> {
    fn describe(&self, kind: Kind, name: &str) -> Result<Vec<Described>, Refusal> {
        let invalid = |why: String| Refusal::new(ErrorCode::InvalidRequest, why);
        match kind {
            Kind::Topic => {
                if let Some(why) = illegal_name(name) {
                    return Err(Refusal::new(ErrorCode::InvalidTopicException, why));
                }
                let topic = self.image.topic(name).ok_or(Refusal::bare(ErrorCode::UnknownTopicOrPartition))?;
                Ok(describe::topic(self.config, self.dynamic(), name, &topic.config))
            }
            Kind::Broker if name.is_empty() => Ok(describe::all_brokers(self.dynamic())),
            Kind::Broker => {
                let own = self.config.node_id;
                match name.parse::<i32>() {
                    Ok(id) if id == own => Ok(describe::broker(self.config, self.dynamic())),
                    Ok(id) => {
                        Err(invalid(format!("Unexpected broker id, expected {own} or empty string, but received {id}")))
                    }
                    Err(_) => Err(invalid(format!("Broker id must be an integer, but it is: {name}"))),
                }
            }
            Kind::Logger => match name.parse::<i32>() {
                Ok(id) if id == self.config.node_id => Ok(loggers::describe()),
                Ok(id) => {
                    Err(invalid(format!("Unexpected broker id, expected {} but received {id}", self.config.node_id)))
                }
                Err(_) if name.is_empty() => Err(invalid("Broker id must not be empty".to_owned())),
                Err(_) => Err(invalid(format!("Broker id must be an integer, but it is: {name}"))),
            },
            Kind::ClientMetrics if name.is_empty() => {
                Err(invalid("Client metrics subscription name must not be empty".to_owned()))
            }
            Kind::ClientMetrics => {
                let nothing = BTreeMap::new();
                let overrides = self.image.client_metrics.get(name).unwrap_or(&nothing);
                Ok(describe::client_metrics(self.config, overrides))
            }
            Kind::Group if name.is_empty() => Err(invalid("Group name must not be empty".to_owned())),
            Kind::Group => {
                let nothing = BTreeMap::new();
                let overrides = self.image.group_configs.get(name).unwrap_or(&nothing);
                Ok(describe::group(self.config, self.dynamic(), overrides))
            }
        }
    }
}

#[cfg(test)]
mod tests;
