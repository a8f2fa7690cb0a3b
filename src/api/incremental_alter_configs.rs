//! IncrementalAlterConfigs 0-1 (KIP-339) of topics, brokers, groups, subscriptions to metrics of clients, and loggers
//! (KIP-412). Version 1 is flexible.
//!
//! Each resource stands or falls by itself; those that pass are committed together.

use std::collections::BTreeMap;

use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, IncrementalAlterConfigsRequest,
};
use kafka_protocol::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};

use super::alter_config::{invalid_config, kind};
use super::change::{Refusal, commit, duplicates};
use super::config_resource::{Kind, Settings};
use super::loggers;
use super::{Call, Disconnect, Node};
use crate::config::alter::{self, Operation, Resource};
use crate::metadata::image::{Change, ConfigOverrides};
use crate::protocol::error_code::ErrorCode;
use crate::telemetry::loggers::LevelStep;

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: IncrementalAlterConfigsRequest,
) -> Result<IncrementalAlterConfigsResponse, Disconnect> {
    let ((mut responses, levels), outcome) = commit(node, |image| {
        let (responses, changes, levels) = Settings::of(node, image).plan(&request.resources);
        ((responses, levels), if request.validate_only { Vec::new() } else { changes })
    })
    .await;
    if !request.validate_only {
        loggers::apply(&levels);
    }
    if let Err(refusal) = outcome {
        for response in responses.iter_mut().filter(|response| response.error_code == ErrorCode::None.code()) {
            response.error_code = refusal.code.code();
            response.error_message = refusal.text();
        }
    }
    Ok(IncrementalAlterConfigsResponse::default().with_responses(responses))
}

/// What one resource of a request comes to.
enum Planned {
    /// A change of metadata, if any.
    Settings(Option<Change>),
    /// Levels of loggers, which live in the process only.
    Levels(Vec<LevelStep>),
}

impl Settings<'_> {
    fn plan(
        &self,
        resources: &[AlterConfigsResource],
    ) -> (Vec<AlterConfigsResourceResponse>, Vec<Change>, Vec<LevelStep>) {
        let named = |resource: &AlterConfigsResource| (resource.resource_type, resource.resource_name.clone());
        let twice = duplicates(resources.iter().map(named));
        let (mut responses, mut changes, mut levels) = (Vec::new(), Vec::new(), Vec::new());
        for resource in resources {
            let outcome = match twice.contains(&named(resource)) {
                true => Err(Refusal::new(ErrorCode::InvalidRequest, "Each resource must appear at most once.")),
                false => self.step(resource),
            };
            let response = AlterConfigsResourceResponse::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone())
                .with_error_message(None);
            responses.push(match outcome {
                Ok(Planned::Settings(change)) => {
                    changes.extend(change);
                    response
                }
                Ok(Planned::Levels(steps)) => {
                    levels.extend(steps);
                    response
                }
                Err(refusal) => response.with_error_code(refusal.code.code()).with_error_message(refusal.text()),
            });
        }
        (responses, changes, levels)
    }

    /// What the resource's settings become; nothing when they stay as they are, or are the levels of loggers.
    fn step(&self, asked: &AlterConfigsResource) -> Result<Planned, Refusal> {
        check_entries(asked)?;
        let name: &str = &asked.resource_name;
        match kind(asked.resource_type)? {
            Kind::Logger => loggers::plan(self.config.node_id, name, &asked.configs).map(Planned::Levels),
            kind => {
                let change = self.alter(kind, name, &|resource, before| self.stepped(resource, before, asked))?;
                Ok(Planned::Settings(change))
            }
        }
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
