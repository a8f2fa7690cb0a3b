//! AlterConfigs 0-2 (KIP-133) of topics, brokers, groups and subscriptions to metrics of clients: what is given replaces
//! all settings of the resource. Version 2 is flexible. Levels of loggers are set by IncrementalAlterConfigs only.
//!
//! A resource that is named twice is refused; Kafka leaves such a request without an answer.

use kafka_protocol::messages::alter_configs_request::{AlterConfigsRequest, AlterConfigsResource};
use kafka_protocol::messages::alter_configs_response::{AlterConfigsResourceResponse, AlterConfigsResponse};

use super::alter_config::{invalid, kind};
use super::change::{Refusal, commit, duplicates};
use super::config_resource::Settings;
use super::{Call, Disconnect, Node};
use crate::metadata::image::{Change, ConfigOverrides};
use crate::protocol::error_code::ErrorCode;

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: AlterConfigsRequest,
) -> Result<AlterConfigsResponse, Disconnect> {
    let (mut responses, outcome) = commit(node, |image| {
        let (responses, changes) = Settings::of(node, image).replace_all(&request.resources);
        (responses, if request.validate_only { Vec::new() } else { changes })
    })
    .await;
    if let Err(refusal) = outcome {
        for response in responses.iter_mut().filter(|response| response.error_code == ErrorCode::None.code()) {
            response.error_code = refusal.code.code();
            response.error_message = refusal.text();
        }
    }
    Ok(AlterConfigsResponse::default().with_responses(responses))
}

impl Settings<'_> {
    fn replace_all(&self, resources: &[AlterConfigsResource]) -> (Vec<AlterConfigsResourceResponse>, Vec<Change>) {
        let named = |resource: &AlterConfigsResource| (resource.resource_type, resource.resource_name.clone());
        let twice = duplicates(resources.iter().map(named));
        let (mut responses, mut changes) = (Vec::new(), Vec::new());
        for resource in resources {
            let outcome = match twice.contains(&named(resource)) {
                true => Err(invalid("Each resource must appear at most once.")),
                false => self.replace(resource),
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

    fn replace(&self, asked: &AlterConfigsResource) -> Result<Option<Change>, Refusal> {
        if !duplicates(asked.configs.iter().map(|entry| entry.name.clone())).is_empty() {
            return Err(invalid("Error due to duplicate config keys"));
        }
        let nulls: Vec<&str> =
            asked.configs.iter().filter(|entry| entry.value.is_none()).map(|entry| &*entry.name).collect();
        if !nulls.is_empty() {
            return Err(invalid(format!("Null value not supported for : {}", nulls.join(","))));
        }
        let kind = kind(asked.resource_type)?;
        let given: ConfigOverrides = asked
            .configs
            .iter()
            .map(|entry| (entry.name.to_string(), entry.value.as_deref().unwrap_or_default().to_owned()))
            .collect();
        self.alter(kind, &asked.resource_name, &|_, _| Ok(given.clone()))
    }
}
