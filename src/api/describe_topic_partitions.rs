//! DescribeTopicPartitions 0 (KIP-966): topics by name in order, so many partitions at a time, with a cursor to go on.

use std::collections::BTreeSet;

use kafka_protocol::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::metadata::TOPIC_OPERATIONS;
use super::topic_creation::illegal_name;
use super::{Call, Disconnect, Node};
use crate::config::topic::is_internal;
use crate::metadata::image::{Image, Topic};
use crate::protocol::error_code::ErrorCode;

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: DescribeTopicPartitionsRequest,
) -> Result<DescribeTopicPartitionsResponse, Disconnect> {
    let limit = i32::try_from(node.config.requests.described_partitions_max).unwrap_or(i32::MAX);
    Ok(describe(&node.metadata.image(), BrokerId(node.config.node_id), limit, &request))
}

fn describe(
    image: &Image,
    node_id: BrokerId,
    limit: i32,
    request: &DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let mut names: BTreeSet<&str> = match request.topics.as_slice() {
        [] => image.topics.keys().map(|name| &**name).collect(),
        named => named.iter().map(|topic| &**topic.name).collect(),
    };
    let mut from = 0;
    if let Some(cursor) = &request.cursor {
        let named = request.topics.is_empty() || names.contains(&**cursor.topic_name);
        if cursor.partition_index < 0 || !named {
            return invalid(request);
        }
        names.retain(|name| *name >= &**cursor.topic_name);
        if names.first() == Some(&&**cursor.topic_name) {
            from = cursor.partition_index;
        }
    }

    let mut response = DescribeTopicPartitionsResponse::default();
    let mut left = request.response_partition_limit.min(limit).max(1);
    for name in names {
        if left == 0 {
            response.next_cursor = Some(cursor(name, 0));
            break;
        }
        let Some(topic) = image.topic(name) else {
            response.topics.push(unknown(name));
            from = 0;
            continue;
        };
        let to = topic.partition_count.min(from.saturating_add(left));
        response.topics.push(described(image, node_id, topic, from..to));
        if to < topic.partition_count {
            response.next_cursor = Some(cursor(name, to));
            break;
        }
        left -= (to - from).max(0);
        from = 0;
    }
    response
}

fn text(name: &str) -> TopicName {
    StrBytes::from_string(name.to_owned()).into()
}

fn cursor(name: &str, partition_index: i32) -> Cursor {
    Cursor::default().with_topic_name(text(name)).with_partition_index(partition_index)
}

/// A cursor that fits nothing: every topic asked for says so.
fn invalid(request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let topics = request.topics.iter().map(|topic| {
        DescribeTopicPartitionsResponseTopic::default()
            .with_error_code(ErrorCode::InvalidRequest.code())
            .with_name(Some(topic.name.clone()))
    });
    DescribeTopicPartitionsResponse::default().with_topics(topics.collect())
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match illegal_name(name) {
        Some(_) => ErrorCode::InvalidTopicException,
        None => ErrorCode::UnknownTopicOrPartition,
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(text(name)))
        .with_is_internal(is_internal(name))
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

fn described(
    image: &Image,
    node_id: BrokerId,
    topic: &Topic,
    partitions: std::ops::Range<i32>,
) -> DescribeTopicPartitionsResponseTopic {
    let partition = |index: i32| {
        DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(node_id)
            .with_leader_epoch(image.node_epoch)
            .with_replica_nodes(vec![node_id])
            .with_isr_nodes(vec![node_id])
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(text(&topic.name)))
        .with_topic_id(topic.id)
        .with_is_internal(is_internal(&topic.name))
        .with_partitions(partitions.map(partition).collect())
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kafka_protocol::messages::describe_topic_partitions_request::{Cursor as AskedCursor, TopicRequest};
    use rstest::rstest;
    use uuid::Uuid;

    use super::*;
    use crate::metadata::image::{Change, ConfigOverrides};

    fn image() -> Image {
        let mut image = Image::default();
        for (number, name, partition_count) in [(1, "c1", 1), (2, "p1", 4), (3, "q", 1)] {
            let topic = Topic {
                id: Uuid::from_u128(number),
                name: Arc::from(name),
                partition_count,
                replication_factor: 1,
                config: ConfigOverrides::new(),
            };
            image.apply(&Change::CreateTopic(topic)).expect("a new topic");
        }
        image
    }

    /// Answers were compared with Apache Kafka 4.3.1; "name error first..end" for each topic, then the cursor.
    #[rstest]
    #[case::all(&[], None, 2000, "c1 0 0..1, p1 0 0..4, q 0 0..1", None)]
    #[case::all_up_to_a_border(&[], None, 1, "c1 0 0..1", Some(("p1", 0)))]
    #[case::inside_of_a_topic(&[], None, 3, "c1 0 0..1, p1 0 0..2", Some(("p1", 2)))]
    #[case::goes_on(&[], Some(("p1", 2)), 3, "p1 0 2..4, q 0 0..1", None)]
    #[case::goes_on_where_the_topic_was(&[], Some(("d", 2)), 9, "p1 0 0..4, q 0 0..1", None)]
    #[case::at_least_one(&["p1"], None, 0, "p1 0 0..1", Some(("p1", 1)))]
    #[case::unknown_take_no_place(&["p1", "nope", "a b"], None, 2, "a b 17 0..0, nope 3 0..0, p1 0 0..2", Some(("p1", 2)))]
    #[case::twice_is_once(&["q", "q"], None, 9, "q 0 0..1", None)]
    #[case::beyond_the_partitions(&["p1", "q"], Some(("p1", 9)), 9, "p1 0 0..0, q 0 0..1", None)]
    #[case::negative_cursor(&["p1"], Some(("p1", -1)), 2, "p1 42 0..0", None)]
    #[case::cursor_that_was_not_asked(&["p1"], Some(("zz", 0)), 2, "p1 42 0..0", None)]
    fn partitions_come_in_order_with_a_cursor(
        #[case] named: &[&'static str],
        #[case] cursor: Option<(&'static str, i32)>,
        #[case] limit: i32,
        #[case] expected: &str,
        #[case] next: Option<(&str, i32)>,
    ) {
        let name = |name: &'static str| TopicName(StrBytes::from_static_str(name));
        let request =
            DescribeTopicPartitionsRequest::default()
                .with_topics(named.iter().map(|topic| TopicRequest::default().with_name(name(topic))).collect())
                .with_response_partition_limit(limit)
                .with_cursor(cursor.map(|(topic, index)| {
                    AskedCursor::default().with_topic_name(name(topic)).with_partition_index(index)
                }));
        let response = describe(&image(), BrokerId(1), 2000, &request);
        let topics: Vec<String> = response
            .topics
            .iter()
            .map(|topic| {
                let first = topic.partitions.first().map_or(0, |partition| partition.partition_index);
                let name = topic.name.as_ref().map_or("", |name| &***name);
                format!("{name} {} {first}..{}", topic.error_code, first + topic.partitions.len() as i32)
            })
            .collect();
        assert_eq!(topics.join(", "), expected);
        let cursor = response.next_cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index));
        assert_eq!(cursor, next.map(|(name, index)| (name.to_owned(), index)));
    }
}
