//! `__consumer_offsets` as a topic.

use crate::config::server::OffsetsSettings;
use crate::coordinator::internal_topic::InternalTopic;

/// The topic's name.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The topic as it is made on demand; what it overrides as Kafka does.
pub fn offsets_topic(settings: &OffsetsSettings) -> InternalTopic {
    let overrides = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", settings.segment_bytes.to_string()),
    ];
    InternalTopic {
        name: OFFSETS_TOPIC,
        partitions: settings.partitions,
        replication_factor: settings.replication_factor,
        config: overrides.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}
