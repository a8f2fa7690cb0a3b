//! What CreateTopics, auto-creation and the internal topics have in common: legal names, and one way to commit a topic.

use std::sync::Arc;

use super::Node;
use crate::group::internal_topic::{OFFSETS_TOPIC, offsets_topic};
use crate::metadata::image::{Change, ConfigOverrides, Topic};
use crate::metadata::store::CommitError;
use crate::protocol::error_code::ErrorCode;
use crate::transaction::internal_topic::{TRANSACTION_TOPIC, transaction_topic};

const NAME_BYTES_MAX: usize = 249;

/// Why a topic cannot have this name, in Kafka's words; `None` when it can.
pub fn illegal_name(name: &str) -> Option<String> {
    let why = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." => "'.' is not allowed".to_owned(),
        ".." => "'..' is not allowed".to_owned(),
        long if long.len() > NAME_BYTES_MAX => {
            format!("the length of '{name}' is longer than the max allowed length {NAME_BYTES_MAX}")
        }
        name if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) => {
            return None;
        }
        _ => format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"),
    };
    Some(format!("Topic name is invalid: {why}"))
}

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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("orders", true)]
    #[case("a.b_c-D9", true)]
    #[case("", false)]
    #[case(".", false)]
    #[case("..", false)]
    #[case("with space", false)]
    #[case("ümlaut", false)]
    fn names_are_legal_as_in_kafka(#[case] name: &str, #[case] legal: bool) {
        assert_eq!(illegal_name(name).is_none(), legal);
    }

    #[test]
    fn names_have_a_longest_length() {
        assert_eq!(illegal_name(&"x".repeat(249)), None);
        assert!(illegal_name(&"x".repeat(250)).is_some());
    }
}
