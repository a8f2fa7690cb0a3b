//! What a client may set: the steps of IncrementalAlterConfigs, and the checks over keys, with Kafka's messages.

mod client_metrics;
mod group;

use std::collections::BTreeMap;

use super::given::{ConfigError, Given};
use super::key::{Key, Kind, Mode};
use super::keys::{self, Table};
use super::layers::{Dynamic, Layers};
use super::server::{BrokerConfig, RemoteSettings};
use super::topic::{Copies, TopicConfig};
use super::value::{self, Invalid};

pub use client_metrics::{Refused, validate_client_metrics};
pub use group::validate_group;

/// One step of an incremental alteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Sets the value.
    Set,
    /// Goes back to the default.
    Delete,
    /// Adds elements to a list.
    Append,
    /// Takes elements out of a list.
    Subtract,
}

impl Operation {
    /// The operation with this number on the wire.
    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Operation::Set),
            1 => Some(Operation::Delete),
            2 => Some(Operation::Append),
            3 => Some(Operation::Subtract),
            _ => None,
        }
    }
}

/// The kind of resource whose keys are altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A topic.
    Topic,
    /// One broker or all.
    Broker,
    /// A group.
    Group,
    /// A subscription to metrics of clients.
    ClientMetrics,
}

impl Resource {
    fn keys(self) -> &'static Table {
        match self {
            Resource::Topic => &keys::TOPIC,
            Resource::Broker => &keys::BROKER,
            Resource::Group => &keys::GROUP,
            Resource::ClientMetrics => &keys::CLIENT_METRICS,
        }
    }
}

/// Applies one step to the settings of a resource. What it gives still has to be validated as a whole.
pub fn apply(
    resource: Resource,
    broker: &BrokerConfig,
    dynamic: Dynamic<'_>,
    settings: &mut BTreeMap<String, String>,
    operation: Operation,
    name: &str,
    text: Option<&str>,
) -> Result<(), Invalid> {
    let key = resource.keys().get(name).copied();
    match (operation, text) {
        (Operation::Delete, _) => {
            settings.remove(name);
        }
        (Operation::Set, Some(text)) => {
            settings.insert(name.to_owned(), text.to_owned());
        }
        (Operation::Set, None) => return Err(Invalid::Rule(format!("Null value not supported for {name}"))),
        (Operation::Append | Operation::Subtract, _) => {
            // Kafka looks up the types of subscriptions nowhere, so that their lists take no elements.
            let is_list = |key: &&Key| key.kind == Kind::List && resource != Resource::ClientMetrics;
            let Some(key) = key.filter(is_list) else {
                return Err(no_list(resource, operation, name, key.is_some()));
            };
            let layers = Layers { own: settings, dynamic, given: &broker.given };
            let current = match resource {
                Resource::Broker => settings.get(name).cloned().or_else(|| layers.broker(name)),
                Resource::Topic | Resource::Group | Resource::ClientMetrics => layers.value(key),
            };
            let current = current.or_else(|| key.default.map(str::to_owned)).unwrap_or_default();
            let mut list = value::elements(&current);
            let wanted = value::elements(text.unwrap_or_default());
            match operation {
                Operation::Append => {
                    for element in wanted {
                        if !list.contains(&element) {
                            list.push(element);
                        }
                    }
                }
                _ => list.retain(|element| !wanted.contains(element)),
            }
            let joined = list.join(",");
            settings.insert(name.to_owned(), joined);
        }
    }
    Ok(())
}

/// Elements for a key that has none. Kafka's brokers have other words for their own keys than its controller.
fn no_list(resource: Resource, operation: Operation, name: &str, is_known: bool) -> Invalid {
    let is_append = operation == Operation::Append;
    Invalid::Rule(match resource {
        Resource::Broker if !is_known => format!("Unknown config name: {name}"),
        Resource::Broker => {
            let word = if is_append { "append" } else { "subtract" };
            format!("Config value {word} is not allowed for config key: {name}")
        }
        Resource::Topic | Resource::Group | Resource::ClientMetrics => {
            let word = if is_append { "APPEND" } else { "SUBTRACT" };
            format!("Can't {word} to key {name} because its type is not LIST.")
        }
    })
}

/// Checks all settings that a topic would have, which has `before` now.
pub fn validate_topic(
    broker: &BrokerConfig,
    dynamic: Dynamic<'_>,
    name: &str,
    before: &BTreeMap<String, String>,
    settings: &BTreeMap<String, String>,
) -> Result<(), Invalid> {
    known(&keys::TOPIC, "topic", settings)?;
    let wants_tier = names_tier(settings) == Some(true);
    let resolved = TopicConfig::resolve(broker, dynamic, name, settings);
    if resolved.min_compaction_lag_ms > resolved.max_compaction_lag_ms {
        return Err(Invalid::Rule(format!(
            "conflict topic config setting min.compaction.lag.ms ({}) > max.compaction.lag.ms ({})",
            resolved.min_compaction_lag_ms, resolved.max_compaction_lag_ms
        )));
    }
    if wants_tier && !broker.remote.enable {
        return Err(Invalid::Rule(
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
                .to_owned(),
        ));
    }
    if !resolved.remote_storage_enable {
        // A topic that is tiered by default only never asked for it: its copies stay readable.
        return if names_tier(before) == Some(true) { turned_off(&resolved) } else { Ok(()) };
    }
    local_within_total(&resolved)?;
    if resolved.remote_log_copy_disable {
        identical_without_copies(&resolved)?;
    }
    Ok(())
}

/// What the topic itself says of tiering.
fn names_tier(settings: &BTreeMap<String, String>) -> Option<bool> {
    settings.get("remote.storage.enable").and_then(|text| value::parse_boolean(text))
}

/// Whoever turns tiering off says what becomes of the copies (KIP-950).
fn turned_off(topic: &TopicConfig) -> Result<(), Invalid> {
    if topic.copies() != Copies::Stay {
        return Ok(());
    }
    Err(Invalid::Rule(
        "It is invalid to disable remote storage without deleting remote data. If you want to keep the remote data and \
         turn to read only, please set `remote.storage.enable=true,remote.log.copy.disable=true`. If you want to disable \
         remote storage and delete all remote data, please set \
         `remote.storage.enable=false,remote.log.delete.on.disable=true`."
            .to_owned(),
    ))
}

/// Keys that Kafka lets clients change only behind a listener's prefix.
const LISTENER_ONLY: [&str; 10] = [
    "ssl.key.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
];

/// Checks all dynamic settings that one broker, or all (`per_broker` false), would have.
pub fn validate_broker(
    broker: &BrokerConfig,
    dynamic: Dynamic<'_>,
    per_broker: bool,
    settings: &BTreeMap<String, String>,
) -> Result<(), Invalid> {
    let of_mode = |mode: Mode| {
        let names: Vec<&str> = settings.keys().map(String::as_str).collect();
        names.into_iter().filter(move |name| keys::broker(name).is_some_and(|key| key.mode == mode)).collect::<Vec<_>>()
    };
    let fixed = of_mode(Mode::ReadOnly);
    if !fixed.is_empty() {
        return Err(Invalid::Rule(format!("Cannot update these configs dynamically: [{}]", fixed.join(", "))));
    }
    let secured: Vec<&str> = LISTENER_ONLY.into_iter().filter(|name| settings.contains_key(*name)).collect();
    if !secured.is_empty() {
        return Err(Invalid::Rule(format!(
            "These security configs can be dynamically updated only per-listener using the listener prefix: [{}]",
            secured.join(", ")
        )));
    }
    let single = of_mode(Mode::PerBroker);
    if !per_broker && !single.is_empty() {
        return Err(Invalid::Rule(format!(
            "Cannot update these configs at default cluster level, broker id must be specified: [{}]",
            single.join(", ")
        )));
    }
    for (name, text) in settings {
        keys::broker(name).map_or(Ok(()), |key| key.validate(text))?;
    }
    let (all_brokers, this_broker) =
        if per_broker { (dynamic.all_brokers, settings) } else { (settings, dynamic.this_broker) };
    match broker.with_dynamic(all_brokers, this_broker) {
        Ok(_) => Ok(()),
        Err(errors) => Err(Invalid::Rule(errors.into_iter().map(|error| error.reason).collect::<Vec<_>>().join("; "))),
    }
}

/// Names and values, each by itself.
fn known(table: &Table, what: &str, settings: &BTreeMap<String, String>) -> Result<(), Invalid> {
    for name in settings.keys() {
        if !table.contains_key(name.as_str()) {
            return Err(Invalid::Rule(format!("Unknown {what} config name: {name}")));
        }
    }
    for (name, text) in settings {
        table.get(name.as_str()).map_or(Ok(()), |key| key.validate(text))?;
    }
    Ok(())
}

/// What the broker's own values would mean for a topic without settings.
pub(super) fn check_defaults(given: &Given, remote: &RemoteSettings) -> Vec<ConfigError> {
    let resolved = TopicConfig::of_broker(given, remote);
    let tiered = if resolved.remote_storage_enable { local_within_total(&resolved) } else { Ok(()) };
    let origin = |names: [&str; 2]| {
        let set = names.into_iter().find_map(|name| given.get(name));
        set.map_or("default".to_owned(), |setting| setting.origin.to_string())
    };
    tiered
        .err()
        .map(|why| ConfigError::new(origin(["log.local.retention.ms", "log.local.retention.bytes"]), why))
        .into_iter()
        .collect()
}

/// The local part of a tiered topic is never kept longer than the whole.
fn local_within_total(topic: &TopicConfig) -> Result<(), Invalid> {
    check_pair("bytes", topic.local_retention_bytes, topic.retention_bytes)?;
    check_pair("ms", topic.local_retention_ms, topic.retention_ms)
}

fn check_pair<N: Copy + PartialOrd + ToString>(unit: &str, local: Option<N>, total: Option<N>) -> Result<(), Invalid> {
    let (key, whole) = (format!("local.retention.{unit}"), format!("retention.{unit}"));
    match (local, total) {
        (None, Some(total)) => {
            let reason = format!("Value must not be -1 as {whole} value is set as {}.", total.to_string());
            Err(Invalid::value(&key, -1, reason))
        }
        (Some(local), Some(total)) if local > total => {
            let reason = format!("Value must not be more than {whole} property value: {}", total.to_string());
            Err(Invalid::value(&key, local.to_string(), reason))
        }
        _ => Ok(()),
    }
}

/// Without copies the local log is the whole log, so that both retentions must be one.
fn identical_without_copies(topic: &TopicConfig) -> Result<(), Invalid> {
    let differ = |unit: &str| {
        Err(Invalid::Rule(format!(
            "When `remote.log.copy.disable` is set to true, the `local.retention.{unit}` and `retention.{unit}` must be \
             set to the identical value because there will be no more logs copied to the remote storage."
        )))
    };
    if topic.local_retention_bytes != topic.retention_bytes {
        return differ("bytes");
    }
    if topic.local_retention_ms != topic.retention_ms {
        return differ("ms");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
