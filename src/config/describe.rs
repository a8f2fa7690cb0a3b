//! What DescribeConfigs answers: for each key the value that counts, where it comes from, and what stands behind it.

use std::collections::BTreeMap;

use super::key::{Key, Mode, Standing};
use super::keys;
use super::layers::{Dynamic, Layers};
use super::server::BrokerConfig;
use super::topic::TopicConfig;
use super::value;

/// Where a value comes from, in Kafka's order of precedence, with the numbers of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// Set on the topic.
    DynamicTopic = 1,
    /// Set on this broker while it ran.
    DynamicBroker = 2,
    /// Set on all brokers while they ran.
    DynamicDefaultBroker = 3,
    /// Set in the file, the environment or on the command line.
    StaticBroker = 4,
    /// Set by nobody.
    Default = 5,
    /// The level of a logger.
    BrokerLogger = 6,
    /// Set on the subscription.
    ClientMetrics = 7,
    /// Set on the group.
    Group = 8,
}

impl Source {
    /// The number on the wire.
    pub fn code(self) -> i8 {
        self as i8
    }
}

/// One value among those that could count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedSynonym {
    /// The key under which it was set.
    pub name: String,
    /// The value; hidden if sensitive.
    pub value: Option<String>,
    /// Where.
    pub source: Source,
}

/// One key of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The key.
    pub name: &'static str,
    /// The value that counts; hidden if sensitive.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: Source,
    /// No client can change it.
    pub read_only: bool,
    /// Its value is never shown.
    pub sensitive: bool,
    /// Kafka's number of the type.
    pub kind: i8,
    /// What it is for.
    pub documentation: String,
    /// What counts, and what would count without it.
    pub synonyms: Vec<DescribedSynonym>,
}

impl Described {
    /// Set by nobody.
    pub fn is_default(&self) -> bool {
        self.source == Source::Default
    }
}

/// All keys of a topic.
pub fn topic(
    broker: &BrokerConfig,
    dynamic: Dynamic<'_>,
    name: &str,
    overrides: &BTreeMap<String, String>,
) -> Vec<Described> {
    let layers = Layers { own: overrides, dynamic, given: &broker.given };
    let resolved = TopicConfig::resolve(broker, dynamic, name, overrides);
    let mut described = resource(keys::TOPIC.values().copied(), &layers, Source::DynamicTopic);
    for entry in &mut described {
        // The rule over several keys decides, not the key by itself.
        if entry.name == "remote.storage.enable" && entry.source != Source::DynamicTopic {
            entry.value = Some(resolved.remote_storage_enable.to_string());
        }
    }
    described
}

/// All keys of a group.
pub fn group(broker: &BrokerConfig, dynamic: Dynamic<'_>, overrides: &BTreeMap<String, String>) -> Vec<Described> {
    let layers = Layers { own: overrides, dynamic, given: &broker.given };
    resource(keys::GROUP.values().copied(), &layers, Source::Group)
}

/// All keys of a subscription to metrics of clients.
pub fn client_metrics(broker: &BrokerConfig, overrides: &BTreeMap<String, String>) -> Vec<Described> {
    let layers = Layers { own: overrides, dynamic: Dynamic::none(), given: &broker.given };
    resource(keys::CLIENT_METRICS.values().copied(), &layers, Source::ClientMetrics)
}

/// All keys of this broker.
pub fn broker(config: &BrokerConfig, dynamic: Dynamic<'_>) -> Vec<Described> {
    let own = BTreeMap::new();
    let layers = Layers { own: &own, dynamic, given: &config.given };
    let listed = keys::BROKER.values().filter(|key| !key.internal);
    listed
        .map(|key| {
            let behind = behind(&layers, &broker_names(key.name), key.is_sensitive());
            let set = layers.broker(key.name).or_else(|| key.default.map(str::to_owned));
            described(key, set, behind, key.mode == Mode::ReadOnly)
        })
        .collect()
}

/// What was set on all brokers while they ran.
pub fn all_brokers(dynamic: Dynamic<'_>) -> Vec<Described> {
    let set = dynamic.all_brokers.iter().filter_map(|(name, text)| Some((keys::broker(name)?, text)));
    set.map(|(key, text)| {
        let synonym = DescribedSynonym {
            name: key.name.to_owned(),
            value: (!key.is_sensitive()).then(|| text.clone()),
            source: Source::DynamicDefaultBroker,
        };
        described(key, Some(text.clone()), vec![synonym], key.mode == Mode::ReadOnly)
    })
    .collect()
}

fn resource(table: impl Iterator<Item = &'static Key>, layers: &Layers<'_>, own: Source) -> Vec<Described> {
    let listed = table.filter(|key| !key.internal);
    listed
        .map(|key| {
            let names: Vec<&str> = key.synonyms.iter().map(|synonym| synonym.name).collect();
            let mut synonyms = behind(layers, &names, key.is_sensitive());
            // A key of groups that no broker key stands behind is its own default.
            if names.is_empty() && own == Source::Group {
                let value = key.default.map(str::to_owned);
                synonyms.push(DescribedSynonym { name: key.name.to_owned(), value, source: Source::Default });
            }
            if let Some(text) = layers.own.get(key.name) {
                let value = Some(value::normal(key, text)).filter(|_| !key.is_sensitive());
                synonyms.insert(0, DescribedSynonym { name: key.name.to_owned(), value, source: own });
            }
            described(key, layers.value(key), synonyms, false)
        })
        .collect()
}

fn described(key: &'static Key, value: Option<String>, synonyms: Vec<DescribedSynonym>, read_only: bool) -> Described {
    Described {
        name: key.name,
        value: value.filter(|_| !key.is_sensitive()).map(|text| value::normal(key, &text)),
        source: synonyms.first().map_or(Source::Default, |first| first.source),
        read_only,
        sensitive: key.is_sensitive(),
        kind: key.kind.code(),
        documentation: documentation(key),
        synonyms,
    }
}

/// The text of a key as clients and `docs/configuration.md` show it.
pub fn documentation(key: &Key) -> String {
    match key.standing {
        Standing::Accepted => "Accepted for compatibility; it has no effect here.".to_owned(),
        Standing::Kafka | Standing::Ours => key.text.to_owned(),
    }
}

/// All that is set under one of `names`, this broker's first, then all brokers', the file's and the defaults.
fn behind(layers: &Layers<'_>, names: &[&str], sensitive: bool) -> Vec<DescribedSynonym> {
    let given = |name: &str| layers.given.get(name).map(|setting| setting.value.clone());
    let default = |name: &str| keys::broker(name)?.default.map(str::to_owned);
    let mut found = Vec::new();
    let mut add = |source: Source, look_up: &dyn Fn(&str) -> Option<String>| {
        for name in names {
            if let Some(text) = look_up(name) {
                let value = Some(text).filter(|_| !sensitive);
                found.push(DescribedSynonym { name: (*name).to_owned(), value, source });
            }
        }
    };
    add(Source::DynamicBroker, &|name| layers.dynamic.this_broker.get(name).cloned());
    add(Source::DynamicDefaultBroker, &|name| layers.dynamic.all_brokers.get(name).cloned());
    add(Source::StaticBroker, &given);
    add(Source::Default, &default);
    // Kafka begins with the first key's own name: older names of it show up behind it only.
    let first = found.iter().position(|synonym| Some(&synonym.name.as_str()) == names.first());
    found.split_off(first.unwrap_or(found.len()))
}

/// A broker key and those that stand in for it.
fn broker_names(name: &'static str) -> Vec<&'static str> {
    match name {
        "log.retention.ms" => vec![name, "log.retention.minutes", "log.retention.hours"],
        "log.retention.minutes" => vec![name, "log.retention.hours"],
        "log.roll.ms" => vec![name, "log.roll.hours"],
        "log.roll.jitter.ms" => vec![name, "log.roll.jitter.hours"],
        _ => vec![name],
    }
}

#[cfg(test)]
mod tests;
