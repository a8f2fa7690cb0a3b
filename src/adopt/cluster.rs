//! What Kafka's metadata amounts to: the fold of its records.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::metadata_record::MetadataRecord;
use crate::metadata::image::ConfigOverrides;
use crate::metadata::quotas::{QuotaEntity, Quotas};

/// One partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KafkaPartition {
    /// Brokers that hold it.
    pub replicas: Vec<i32>,
    /// Its leader epoch.
    pub leader_epoch: i32,
}

/// One topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KafkaTopic {
    /// Its name.
    pub name: String,
    /// Its partitions by number.
    pub partitions: BTreeMap<i32, KafkaPartition>,
}

/// The whole of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cluster {
    /// Topics by id.
    pub topics: BTreeMap<Uuid, KafkaTopic>,
    /// Configuration by type and name of the resource.
    pub configs: BTreeMap<(i8, String), ConfigOverrides>,
    /// Client quotas.
    pub quotas: BTreeMap<QuotaEntity, Quotas>,
    /// Feature levels above 0.
    pub features: BTreeMap<String, i16>,
    /// The first producer id that nobody was given.
    pub next_producer_id: i64,
    /// ACLs, SCRAM credentials and delegation tokens as Kafka wrote them.
    pub security: BTreeMap<String, Vec<u8>>,
    /// Records of types that we don't know, counted.
    pub unknown: BTreeMap<u32, u64>,
}

impl Cluster {
    /// Takes over one record.
    pub fn apply(&mut self, record: MetadataRecord) {
        match record {
            MetadataRecord::Topic { id, name } => {
                self.topics.insert(id, KafkaTopic { name, partitions: BTreeMap::new() });
            }
            MetadataRecord::RemoveTopic(id) => {
                if let Some(topic) = self.topics.remove(&id) {
                    self.configs.remove(&(TOPIC, topic.name));
                }
            }
            MetadataRecord::Partition { topic, partition, replicas, leader_epoch } => {
                let partitions = &mut self.topics.entry(topic).or_default().partitions;
                partitions.insert(partition, KafkaPartition { replicas, leader_epoch });
            }
            MetadataRecord::PartitionChange { topic, partition, replicas, leader_changed } => {
                let Some(topic) = self.topics.get_mut(&topic) else { return };
                let Some(known) = topic.partitions.get_mut(&partition) else { return };
                known.leader_epoch += i32::from(leader_changed);
                if let Some(replicas) = replicas {
                    known.replicas = replicas;
                }
            }
            MetadataRecord::Config { resource_type, resource, key, value } => {
                let config = self.configs.entry((resource_type, resource)).or_default();
                match value {
                    Some(value) => drop(config.insert(key, value)),
                    None => drop(config.remove(&key)),
                }
            }
            MetadataRecord::Quota { entity, key, value } => {
                let quotas = self.quotas.entry(entity.into_iter().collect()).or_default();
                match value {
                    Some(value) => drop(quotas.insert(key, value)),
                    None => drop(quotas.remove(&key)),
                }
            }
            MetadataRecord::NextProducerId(id) => self.next_producer_id = self.next_producer_id.max(id),
            MetadataRecord::Feature { name, level: 0 } => drop(self.features.remove(&name)),
            MetadataRecord::Feature { name, level } => drop(self.features.insert(name, level)),
            MetadataRecord::Security { key, value: Some(value) } => drop(self.security.insert(key, value)),
            MetadataRecord::Security { key, value: None } => drop(self.security.remove(&key)),
            MetadataRecord::Unknown(kind) => *self.unknown.entry(kind).or_default() += 1,
            // Transactions are resolved by who reads the log.
            MetadataRecord::Begin | MetadataRecord::End | MetadataRecord::Abort | MetadataRecord::Ignored => {}
        }
    }
}

/// Kafka's codes of resource types.
pub const TOPIC: i8 = 2;
/// See [`TOPIC`].
pub const BROKER: i8 = 4;
/// See [`TOPIC`].
pub const CLIENT_METRICS: i8 = 16;
/// See [`TOPIC`].
pub const GROUP: i8 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(value: Option<&str>) -> MetadataRecord {
        let value = value.map(str::to_owned);
        MetadataRecord::Config { resource_type: TOPIC, resource: "t".into(), key: "k".into(), value }
    }

    #[test]
    fn later_records_take_back_what_earlier_ones_said() {
        let id = Uuid::from_u128(1);
        let mut cluster = Cluster::default();
        cluster.apply(MetadataRecord::Topic { id, name: "t".into() });
        cluster.apply(MetadataRecord::Partition { topic: id, partition: 0, replicas: vec![1], leader_epoch: 3 });
        for leader_changed in [true, false, true] {
            cluster.apply(MetadataRecord::PartitionChange { topic: id, partition: 0, replicas: None, leader_changed });
        }
        cluster.apply(config(Some("v")));
        assert_eq!(cluster.topics[&id].partitions[&0].leader_epoch, 5);
        assert_eq!(cluster.configs[&(TOPIC, "t".into())]["k"], "v");
        cluster.apply(config(None));
        assert!(cluster.configs[&(TOPIC, "t".into())].is_empty());
        cluster.apply(MetadataRecord::RemoveTopic(id));
        assert_eq!(cluster, Cluster::default());
    }
}
