//! `__consumer_offsets` as a topic.

use uuid::Uuid;

use crate::config::server::OffsetsSettings;
use crate::metadata::image::{ConfigOverrides, Topic};

/// The topic's name.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Live brokers: internal topics have as many replicas as are asked, at most these.
const BROKERS: i16 = 1;

/// The topic as it is created on demand.
pub fn offsets_topic(settings: &OffsetsSettings, id: Uuid) -> Topic {
    Topic {
        id,
        name: OFFSETS_TOPIC.into(),
        partition_count: settings.partitions,
        replication_factor: settings.replication_factor.clamp(1, BROKERS),
        config: offsets_topic_config(settings),
    }
}

/// What the topic overrides, as Kafka does.
pub fn offsets_topic_config(settings: &OffsetsSettings) -> ConfigOverrides {
    let overrides = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", settings.segment_bytes.to_string()),
    ];
    overrides.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
