//! The tables of `meta.redb`: every name in it is built here. docs/formats.md describes the rows.

use redb::{Durability, TableDefinition};

/// Every transaction of ours is durable when its commit returns.
pub(super) const DURABILITY: Durability = Durability::Immediate;

/// Numbers of the node by name: format, generation, boot counter, next producer id.
pub(super) const NODE: TableDefinition<'_, &str, u64> = TableDefinition::new("node");
/// Texts of the node by name: the cluster id.
pub(super) const NODE_TEXT: TableDefinition<'_, &str, &str> = TableDefinition::new("node_text");
/// Topics by id.
pub(super) const TOPICS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("topics");
/// Dynamic broker configuration by broker id; "" for all brokers.
pub(super) const BROKER_CONFIGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("broker_configs");
/// Group configuration by group id.
pub(super) const GROUP_CONFIGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("group_configs");
/// Subscriptions to metrics of clients, by name.
pub(super) const CLIENT_METRICS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("client_metrics");
/// Client quotas by entity, written as a JSON object with sorted keys.
pub(super) const CLIENT_QUOTAS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("client_quotas");
/// Levels of features by name, as far as they were changed.
pub(super) const FEATURES: TableDefinition<'_, &str, i16> = TableDefinition::new("features");
/// ACLs, SCRAM credentials and delegation tokens of an adopted broker, as Kafka wrote them, by what is unique about each.
pub(super) const KAFKA_SECURITY: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("kafka_security");
/// Remote state, one row per partition.
pub(super) const REMOTE_PARTITIONS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("remote_partitions");
/// Remote state, one row per segment.
pub(super) const REMOTE_SEGMENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("remote_segments");
/// Segments of the tier that were found damaged.
pub(super) const REMOTE_DAMAGE: TableDefinition<'_, &[u8], &str> = TableDefinition::new("remote_damage");

/// In [`NODE`]: the version of the file.
pub(super) const FORMAT: &str = "format";
/// In [`NODE`]: the generation of the image.
pub(super) const GENERATION: &str = "generation";
/// In [`NODE`]: the boot counter.
pub(super) const NODE_EPOCH: &str = "node_epoch";
/// In [`NODE`]: the first producer id that nobody was given.
pub(super) const NEXT_PRODUCER_ID: &str = "next_producer_id";
/// In [`NODE_TEXT`]: Kafka's cluster id.
pub(super) const CLUSTER_ID: &str = "cluster_id";
