//! What IncrementalAlterConfigs and AlterConfigs share: a resource's settings become others, which are checked as a whole.
//! The two differ in how the new settings are made of the old ones.

use super::change::Refusal;
use super::config_resource::{Kind, Settings};
use super::topic_creation::illegal_name;
use crate::config::alter::{self, Refused, Resource};
use crate::config::value::Invalid;
use crate::metadata::image::{Change, ConfigOverrides};
use crate::protocol::error_code::ErrorCode;

/// Makes the settings that a resource is to have of those that it has.
pub(super) type Make<'a> = &'a dyn Fn(Resource, &ConfigOverrides) -> Result<ConfigOverrides, Refusal>;

impl Settings<'_> {
    /// What the settings of a resource become; nothing when they stay as they are.
    pub(super) fn alter(&self, kind: Kind, name: &str, make: Make<'_>) -> Result<Option<Change>, Refusal> {
        match kind {
            Kind::Topic => self.alter_topic(name, make),
            Kind::Broker => self.alter_broker(name, make),
            Kind::ClientMetrics => self.alter_client_metrics(name, make),
            Kind::Group if name.is_empty() => Err(invalid("Default group resources are not allowed.")),
            Kind::Group => {
                let before = self.image.group_configs.get(name).cloned().unwrap_or_default();
                let config = make(Resource::Group, &before)?;
                alter::validate_group(self.config, self.dynamic(), &config).map_err(invalid_config)?;
                Ok((config != before).then(|| Change::SetGroupConfig { group: name.to_owned(), config }))
            }
            Kind::Logger => Err(invalid(format!("Unknown resource type {}", kind.code()))),
        }
    }

    fn alter_topic(&self, name: &str, make: Make<'_>) -> Result<Option<Change>, Refusal> {
        let nothing = ConfigOverrides::new();
        let topic = self.image.topic(name);
        let before = topic.map_or(&nothing, |topic| &topic.config);
        let config = make(Resource::Topic, before)?;
        if name.is_empty() {
            return Err(invalid("Default topic resources are not allowed."));
        }
        if let Some(why) = illegal_name(name) {
            return Err(Refusal::new(ErrorCode::InvalidTopicException, why));
        }
        // Kafka looks at the settings before it looks for the topic.
        alter::validate_topic(self.config, self.dynamic(), name, before, &config).map_err(invalid_config)?;
        let Some(topic) = topic else {
            let why = format!("The topic '{name}' does not exist.");
            return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, why));
        };
        Ok((config != topic.config).then_some(Change::SetTopicConfig { topic: topic.id, config }))
    }

    fn alter_broker(&self, name: &str, make: Make<'_>) -> Result<Option<Change>, Refusal> {
        let own = self.config.node_id;
        if !name.is_empty() {
            match name.parse::<i32>() {
                Ok(id) if id == own => {}
                Ok(id) => return Err(invalid(format!("Unexpected broker id, expected {own}, but received {id}"))),
                Err(_) => return Err(invalid(format!("Node id must be an integer, but it is: {name}"))),
            }
        }
        let before = self.image.broker_configs.get(name).cloned().unwrap_or_default();
        let config = make(Resource::Broker, &before)?;
        alter::validate_broker(self.config, self.dynamic(), !name.is_empty(), &config)
            .map_err(|error| invalid(error.to_string()))?;
        Ok((config != before).then(|| Change::SetBrokerConfig { broker: name.to_owned(), config }))
    }

    fn alter_client_metrics(&self, name: &str, make: Make<'_>) -> Result<Option<Change>, Refusal> {
        let before = self.image.client_metrics.get(name).cloned().unwrap_or_default();
        let config = make(Resource::ClientMetrics, &before)?;
        alter::validate_client_metrics(name, &config).map_err(|refused| match refused {
            Refused::Request(why) => invalid(why),
            Refused::Config(error) => invalid_config(error),
        })?;
        Ok((config != before).then(|| Change::SetClientMetrics { subscription: name.to_owned(), config }))
    }
}

/// The kind of a resource by its number.
pub(super) fn kind(code: i8) -> Result<Kind, Refusal> {
    Kind::from_code(code).ok_or_else(|| invalid(format!("Unknown resource type {code}")))
}

/// INVALID_REQUEST.
pub(super) fn invalid(why: impl Into<String>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, why)
}

/// INVALID_CONFIG.
pub(super) fn invalid_config(error: Invalid) -> Refusal {
    Refusal::new(ErrorCode::InvalidConfig, error.to_string())
}
