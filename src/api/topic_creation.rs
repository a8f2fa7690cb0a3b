//! What CreateTopics, auto-creation and the internal topics have in common: one way to commit a topic.

use std::sync::Arc;

use super::Node;
use crate::group::internal_topic::{OFFSETS_TOPIC, offsets_topic};
use crate::metadata::image::{Change, ConfigOverrides, Topic};
use crate::metadata::store::CommitError;
pub use crate::metadata::topic_name::illegal_name;
use crate::protocol::error_code::ErrorCode;
use crate::transaction::internal_topic::{TRANSACTION_TOPIC, transaction_topic};

/// Commits a topic and waits until its partitions can be asked for. The caller checked name, counts and configuration.
pub async fn create(
    node: &Node,
    name: &str,
    partition_count: i32,
    replication_factor: i16,
    config: ConfigOverrides,
) -> Result<Topic, CommitError> {
    let topic = Topic { id: node.random.uuid(), name: Arc::from(name), partition_count, replication_factor, config };
    let image = node.metadata.commit(None, vec![Change::CreateTopic(topic.clone())]).await?;
    node.partitions.followed(image).await;
    Ok(topic)
}

/// Creates a topic that a client asked about, with the broker's defaults, as Kafka does: whoever asked is told
/// UNKNOWN_TOPIC_OR_PARTITION and finds it when asking again.
pub async fn auto_create(node: &Node, name: &str) -> ErrorCode {
    if illegal_name(name).is_some() {
        return ErrorCode::InvalidTopicException;
    }
    let internal = match name {
        OFFSETS_TOPIC => Some(offsets_topic(&node.config.offsets)),
        TRANSACTION_TOPIC => Some(transaction_topic(&node.config.transactions)),
        _ => None,
    };
    let created = if let Some(topic) = internal {
        let topic = topic.create(node.random.uuid());
        create(node, name, topic.partition_count, topic.replication_factor, topic.config).await.map(|_| ())
    } else {
        // One broker lives, whatever `default.replication.factor` says; Kafka refuses more than that.
        let factor = node.config.topics.replication_factor;
        if factor > 1 && !node.config.topics.accept_any_replication_factor {
            return ErrorCode::InvalidReplicationFactor;
        }
        create(node, name, node.config.topics.partitions, factor.max(1), ConfigOverrides::new()).await.map(|_| ())
    };
    match created {
        // Somebody else was quicker: the same answer.
        Ok(()) | Err(CommitError::TopicExists(_)) => ErrorCode::UnknownTopicOrPartition,
        Err(error) => {
            tracing::warn!(topic = name, %error, "topic is not created");
            ErrorCode::UnknownTopicOrPartition
        }
    }
}
