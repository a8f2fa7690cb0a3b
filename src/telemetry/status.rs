//! What `/status` answers and `terrace status` prints.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::health::Health;

/// The broker at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// `node.id`.
    pub node_id: i32,
    /// Kafka's cluster id.
    pub cluster_id: String,
    /// Since the start.
    pub uptime_seconds: u64,
    /// A new start would not help.
    pub live: bool,
    /// Clients may come.
    pub ready: bool,
    /// What keeps it from being ready, or should worry.
    pub conditions: Vec<ConditionStatus>,
    /// Kafka listeners, as `NAME://address`.
    pub listeners: Vec<String>,
    /// Open connections.
    pub connections: u64,
    /// Topics, internal ones included.
    pub topics: u64,
    /// Partitions of all topics.
    pub partitions: u64,
    /// Local log bytes of all partitions.
    pub local_bytes: u64,
    /// The tier.
    pub tier: TierStatus,
}

/// A condition that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConditionStatus {
    /// Its name.
    pub name: String,
    /// Its reason.
    pub reason: String,
}

/// How tiering stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TierStatus {
    /// `remote.log.storage.system.enable`.
    pub enabled: bool,
    /// Where copies go.
    pub uri: String,
    /// Sealed segments that are due for a copy.
    pub uncopied_segments: u64,
    /// Their bytes.
    pub uncopied_bytes: u64,
    /// Age of the oldest record in them.
    pub oldest_uncopied_age_seconds: Option<f64>,
    /// What was asked of the store since the start.
    #[serde(default)]
    pub usage: Vec<PurposeStatus>,
    /// `remote.cost.currency`.
    #[serde(default)]
    pub currency: String,
}

/// What was asked of the store for one purpose since the start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PurposeStatus {
    /// The purpose.
    pub purpose: String,
    /// Requests that write or list.
    pub class_a: u64,
    /// Requests that read.
    pub class_b: u64,
    /// Requests that cost nothing.
    pub free: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Their price.
    pub price: f64,
}

impl Status {
    /// Takes over what health says.
    #[must_use]
    pub fn with_health(mut self, health: &Health) -> Self {
        (self.live, self.ready) = (health.is_live(), health.is_ready());
        let named = |(condition, reason): (super::health::Condition, String)| ConditionStatus {
            name: condition.name().to_owned(),
            reason,
        };
        self.conditions = health.conditions().into_iter().map(named).collect();
        self
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "terrace {}, node {}, cluster {}", self.version, self.node_id, self.cluster_id)?;
        let state = if self.ready { "ready" } else { "not ready" };
        writeln!(f, "  {state} for {} s, {} connections", self.uptime_seconds, self.connections)?;
        for ConditionStatus { name, reason } in &self.conditions {
            writeln!(f, "  {name}: {reason}")?;
        }
        writeln!(f, "  listening  {}", self.listeners.join(" "))?;
        writeln!(f, "  log        {} topics, {} partitions, {} bytes", self.topics, self.partitions, self.local_bytes)?;
        if !self.tier.enabled {
            return writeln!(f, "  tiering    off");
        }
        let age = self.tier.oldest_uncopied_age_seconds.map_or("none".to_owned(), |age| format!("{age:.0} s"));
        writeln!(
            f,
            "  tiering    {}, {} segments with {} bytes to copy, oldest record {age}",
            self.tier.uri, self.tier.uncopied_segments, self.tier.uncopied_bytes
        )
    }
}
