//! The metadata of the node as one immutable value, swapped as a whole.
//!
//! Readers take an [`Arc<Image>`] and see one moment; writers commit [`Change`]s through the
//! [`MetadataStore`](super::store::MetadataStore), which publishes the next image.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use super::features::{Feature, FeatureLevels};
use super::quotas::{QuotaEntity, Quotas};
use crate::protocol::record_batch::LeaderEpoch;

/// Overrides of a resource's configuration: key to value, as a client set them.
pub type ConfigOverrides = BTreeMap<String, String>;

/// One partition of one topic, by id: delete and re-create of a name gives another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId {
    /// The topic's id.
    pub topic: Uuid,
    /// The partition's number.
    pub partition: i32,
}

/// What is known of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its id, from creation on.
    pub id: Uuid,
    /// Its name.
    pub name: Arc<str>,
    /// Number of partitions; they are numbered from 0.
    pub partition_count: i32,
    /// The replication factor it was created with, as shown to clients.
    pub replication_factor: i16,
    /// What the client set at creation or later; everything else is the broker's default.
    pub config: ConfigOverrides,
}

/// All metadata at one moment.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Rises by one with every commit.
    pub generation: u64,
    /// Kafka's cluster id (22 characters of URL-safe base64).
    pub cluster_id: Arc<str>,
    /// The durable boot counter of this node; the leader epoch of every partition it leads.
    pub node_epoch: LeaderEpoch,
    /// All topics by name, sorted.
    pub topics: BTreeMap<Arc<str>, Arc<Topic>>,
    /// The same topics by id.
    pub topics_by_id: HashMap<Uuid, Arc<Topic>>,
    /// Dynamic configuration of this broker ("1") and of all brokers ("").
    pub broker_configs: BTreeMap<String, ConfigOverrides>,
    /// Configuration of groups, by group id.
    pub group_configs: BTreeMap<String, ConfigOverrides>,
    /// Subscriptions to metrics of clients (KIP-714), by name.
    pub client_metrics: BTreeMap<String, ConfigOverrides>,
    /// Client quotas by whom they are for.
    pub client_quotas: BTreeMap<QuotaEntity, Quotas>,
    /// Finalized feature levels.
    pub features: FeatureLevels,
}

impl Image {
    /// The topic with this name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// The topic with this id.
    pub fn topic_by_id(&self, id: &Uuid) -> Option<&Arc<Topic>> {
        self.topics_by_id.get(id)
    }
}

/// One step of a commit. Steps of one commit become visible together.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A topic that must not exist, by name or id.
    CreateTopic(Topic),
    /// Removes a topic.
    DeleteTopic(Uuid),
    /// Raises the number of partitions.
    SetPartitionCount {
        /// The topic.
        topic: Uuid,
        /// Its new number of partitions.
        count: i32,
    },
    /// Replaces the overrides of a topic.
    SetTopicConfig {
        /// The topic.
        topic: Uuid,
        /// All its overrides from now on.
        config: ConfigOverrides,
    },
    /// Replaces the dynamic configuration of a broker ("" for all brokers).
    SetBrokerConfig {
        /// The broker's id in decimal, or "".
        broker: String,
        /// All its overrides from now on.
        config: ConfigOverrides,
    },
    /// Replaces the configuration of a group.
    SetGroupConfig {
        /// The group's id.
        group: String,
        /// All its overrides from now on.
        config: ConfigOverrides,
    },
    /// Replaces a subscription to metrics of clients.
    SetClientMetrics {
        /// The subscription's name.
        subscription: String,
        /// All its settings from now on; none: there is no such subscription.
        config: ConfigOverrides,
    },
    /// Replaces the quotas of one entity.
    SetClientQuotas {
        /// Whom they are for.
        entity: QuotaEntity,
        /// All its quotas from now on; none: it has no quota.
        quotas: Quotas,
    },
    /// Moves a feature to another level.
    SetFeature {
        /// The feature.
        feature: Feature,
        /// A level that is supported, or 0.
        level: i16,
    },
}
