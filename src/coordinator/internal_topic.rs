//! The topics that coordinators keep their state in.

use uuid::Uuid;

use crate::metadata::image::{ConfigOverrides, Topic};

/// Live brokers: internal topics have as many replicas as are asked, at most these.
pub const BROKERS: i16 = 1;

/// An internal topic as it is made on demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InternalTopic {
    /// Kafka's name for it.
    pub name: &'static str,
    /// Its partitions, each a shard.
    pub partitions: i32,
    /// Replicas that the configuration asks for.
    pub replication_factor: i16,
    /// What it overrides, as Kafka does.
    pub config: ConfigOverrides,
}

impl InternalTopic {
    /// The topic to commit.
    pub fn create(self, id: Uuid) -> Topic {
        Topic {
            id,
            name: self.name.into(),
            partition_count: self.partitions,
            replication_factor: self.replication_factor.clamp(1, BROKERS),
            config: self.config,
        }
    }
}
