//! Every key that is known, a file per area. A key is declared here and nowhere else.

mod client_metrics;
mod group;
mod groups;
mod logs;
mod network;
mod node;
mod quotas;
mod remote;
mod replication;
mod security;
mod topic;
mod topics;
mod transactions;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::key::Key;

/// Keys by name, sorted.
pub type Table = BTreeMap<&'static str, &'static Key>;

const BROKER_AREAS: [&[Key]; 10] = [
    node::KEYS,
    network::KEYS,
    topics::KEYS,
    logs::KEYS,
    remote::KEYS,
    groups::KEYS,
    transactions::KEYS,
    replication::KEYS,
    quotas::KEYS,
    security::KEYS,
];

/// Keys of the broker.
pub static BROKER: LazyLock<Table> = LazyLock::new(|| table(&BROKER_AREAS));

/// Keys of a topic.
pub static TOPIC: LazyLock<Table> = LazyLock::new(|| table(&[topic::KEYS]));

/// Keys of a group.
pub static GROUP: LazyLock<Table> = LazyLock::new(|| table(&[group::KEYS]));

/// Keys of a subscription to metrics of clients.
pub static CLIENT_METRICS: LazyLock<Table> = LazyLock::new(|| table(&[client_metrics::KEYS]));

fn table(areas: &[&'static [Key]]) -> Table {
    areas.iter().flat_map(|keys| keys.iter()).map(|key| (key.name, key)).collect()
}

/// The broker key of this name. A listener's own setting (`listener.name.<listener>.<key>`) is found by its key.
pub fn broker(name: &str) -> Option<&'static Key> {
    BROKER.get(name).copied().or_else(|| {
        let (_, key) = name.strip_prefix("listener.name.")?.split_once('.')?;
        // A mechanism may stand between: listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config.
        BROKER.get(key).or_else(|| BROKER.get(key.split_once('.')?.1)).copied()
    })
}

/// How many broker keys are declared, however often each.
#[cfg(test)]
pub(super) fn declared_for_brokers() -> usize {
    BROKER_AREAS.iter().map(|keys| keys.len()).sum()
}
