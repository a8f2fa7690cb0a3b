//! IncrementalAlterConfigs 0-1 (KIP-339) of topics, brokers and groups. Version 1 is flexible.
//!
//! Each resource stands or falls by itself; those that pass are committed together.

use std::collections::BTreeMap;

use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, IncrementalAlterConfigsRequest,
};
use kafka_protocol::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};

use super::change::{Refusal, commit, duplicates};
use super::config_resource::{Kind, Settings};
use super::topic_creation::illegal_name;
use super::{Call, Disconnect, Node};
use crate::config::alter::{self, Operation, Resource};
use crate::metadata::image::{Change, ConfigOverrides};
use crate::protocol::error_code::ErrorCode;

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: IncrementalAlterConfigsRequest,
) -> Result<IncrementalAlterConfigsResponse, Disconnect> {
    let (mut responses, outcome) = commit(node, |image| {
        let (responses, changes) = Settings::of(node, image).plan(&request.resources);
        (responses, if request.validate_only { Vec::new() } else { changes })
    })
    .await;
    if let Err(refusal) = outcome {
        for response in responses.iter_mut().filter(|response| response.error_code == ErrorCode::None.code()) {
            response.error_code = refusal.code.code();
            response.error_message = refusal.text();
        }
    }
    Ok(IncrementalAlterConfigsResponse::default().with_responses(responses))
}

impl Settings<'_> {
    fn plan(&self, resources: &[AlterConfigsResource]) -> (Vec<AlterConfigsResourceResponse>, Vec<Change>) {
        let named = |resource: &AlterConfigsResource| (resource.resource_type, resource.resource_name.clone());
        let twice = duplicates(resources.iter().map(named));
        let (mut responses, mut changes) = (Vec::new(), Vec::new());
        for resource in resources {
            let outcome = match twice.contains(&named(resource)) {
                true => Err(Refusal::new(ErrorCode::InvalidRequest, "Each resource must appear at most once.")),
                false => self.alter(resource),
            };
            let response = AlterConfigsResourceResponse::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone())
                .with_error_message(None);
            responses.push(match outcome {
                Ok(change) => {
                    changes.extend(change);
                    response
                }
                Err(refusal) => response.with_error_code(refusal.code.code()).with_error_message(refusal.text()),
            });
        }
        (responses, changes)
    }

    /// What the resource's settings become; nothing when they stay as they are.
    fn alter(&self, asked: &AlterConfigsResource) -> Result<Option<Change>, Refusal> {
        let invalid = |why: String| Refusal::new(ErrorCode::InvalidRequest, why);
        check_entries(asked)?;
        let kind = Kind::from_code(asked.resource_type)
            .ok_or_else(|| invalid(format!("Unknown resource type {}", asked.resource_type)))?;
        let name: &str = &asked.resource_name;
        match kind {
            Kind::Topic => self.alter_topic(name, asked),
            Kind::Broker => self.alter_broker(name, asked),
            Kind::Logger => Err(invalid("Levels of single loggers cannot be changed".to_owned())),
            Kind::ClientMetrics => Err(invalid("Metrics of clients cannot be subscribed to".to_owned())),
            Kind::Group if name.is_empty() => Err(invalid("Default group resources are not allowed.".to_owned())),
            Kind::Group => {
                let before = self.image.group_configs.get(name).cloned().unwrap_or_default();
                let config = self.stepped(Resource::Group, &before, asked)?;
                alter::validate_group(&config).map_err(invalid_config)?;
                Ok((config != before).then(|| Change::SetGroupConfig { group: name.to_owned(), config }))
            }
        }
    }

    fn alter_topic(&self, name: &str, asked: &AlterConfigsResource) -> Result<Option<Change>, Refusal> {
        let nothing = ConfigOverrides::new();
        let topic = self.image.topic(name);
        let before = topic.map_or(&nothing, |topic| &topic.config);
        let config = self.stepped(Resource::Topic, before, asked)?;
        if name.is_empty() {
            return Err(Refusal::new(ErrorCode::InvalidRequest, "Default topic resources are not allowed."));
        }
        if let Some(why) = illegal_name(name) {
            return Err(Refusal::new(ErrorCode::InvalidTopicException, why));
        }
        let Some(topic) = topic else {
            let why = format!("The topic '{name}' does not exist.");
            return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, why));
        };
        alter::validate_topic(self.config, self.dynamic(), name, &config).map_err(invalid_config)?;
        Ok((config != topic.config).then_some(Change::SetTopicConfig { topic: topic.id, config }))
    }

    fn alter_broker(&self, name: &str, asked: &AlterConfigsResource) -> Result<Option<Change>, Refusal> {
        let invalid = |why: String| Refusal::new(ErrorCode::InvalidRequest, why);
        let own = self.config.node_id;
        if !name.is_empty() {
            match name.parse::<i32>() {
                Ok(id) if id == own => {}
                Ok(id) => return Err(invalid(format!("Unexpected broker id, expected {own}, but received {id}"))),
                Err(_) => return Err(invalid(format!("Node id must be an integer, but it is: {name}"))),
            }
        }
        let before = self.image.broker_configs.get(name).cloned().unwrap_or_default();
        let config = self.stepped(Resource::Broker, &before, asked)?;
        alter::validate_broker(self.config, self.dynamic(), !name.is_empty(), &config)
            .map_err(|error| invalid(error.to_string()))?;
        Ok((config != before).then(|| Change::SetBrokerConfig { broker: name.to_owned(), config }))
    }

    fn stepped(
        &self,
        resource: Resource,
        before: &BTreeMap<String, String>,
        asked: &AlterConfigsResource,
    ) -> Result<ConfigOverrides, Refusal> {
        let mut config = before.clone();
        for entry in &asked.configs {
            // Kafka has no better answer either.
            let operation =
                Operation::from_code(entry.config_operation).ok_or(Refusal::bare(ErrorCode::UnknownServerError))?;
            let value = entry.value.as_deref();
            alter::apply(resource, self.config, self.dynamic(), &mut config, operation, &entry.name, value)
                .map_err(invalid_config)?;
        }
        Ok(config)
    }
}

fn invalid_config(error: crate::config::value::Invalid) -> Refusal {
    Refusal::new(ErrorCode::InvalidConfig, error.to_string())
}

/// What is wrong with the entries by themselves.
fn check_entries(asked: &AlterConfigsResource) -> Result<(), Refusal> {
    if !duplicates(asked.configs.iter().map(|entry| entry.name.clone())).is_empty() {
        return Err(Refusal::new(ErrorCode::InvalidRequest, "Error due to duplicate config keys"));
    }
    let needs_value = |operation: i8| Operation::from_code(operation) != Some(Operation::Delete);
    let nulls: Vec<&str> = asked
        .configs
        .iter()
        .filter(|entry| entry.value.is_none() && needs_value(entry.config_operation))
        .map(|entry| &*entry.name)
        .collect();
    if !nulls.is_empty() {
        let why = format!("Null value not supported for : {}", nulls.join(","));
        return Err(Refusal::new(ErrorCode::InvalidRequest, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
