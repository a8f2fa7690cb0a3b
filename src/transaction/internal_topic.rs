//! `__transaction_state` as a topic.

use crate::config::server::TransactionSettings;
use crate::coordinator::internal_topic::{BROKERS, InternalTopic};

/// The topic's name.
pub const TRANSACTION_TOPIC: &str = "__transaction_state";

/// The topic as it is made on demand; what it overrides as Kafka does.
pub fn transaction_topic(settings: &TransactionSettings) -> InternalTopic {
    let overrides = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "uncompressed".to_owned()),
        ("min.insync.replicas", settings.min_isr.clamp(1, i32::from(BROKERS)).to_string()),
        ("segment.bytes", settings.segment_bytes.to_string()),
        ("unclean.leader.election.enable", "false".to_owned()),
    ];
    InternalTopic {
        name: TRANSACTION_TOPIC,
        partitions: settings.partitions,
        replication_factor: settings.replication_factor,
        config: overrides.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}
