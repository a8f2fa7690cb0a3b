//! CreatePartitions 0-3: raises the number of partitions of topics. Version 2 is flexible, 3 says quota errors (KIP-599).
//!
//! More than 10 000 new partitions in one request are refused by policy; Kafka answers UNKNOWN_SERVER_ERROR.

use kafka_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use kafka_protocol::messages::create_partitions_response::{CreatePartitionsResponse, CreatePartitionsTopicResult};

use super::change::{Refusal, commit, duplicates};
use super::create_topics::{PARTITIONS_PER_REQUEST_MAX, too_many_partitions};
use super::{Call, Disconnect, Node, assignment};
use crate::metadata::image::{Change, Image};
use crate::protocol::error_code::ErrorCode;

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: CreatePartitionsRequest,
) -> Result<CreatePartitionsResponse, Disconnect> {
    let (mut results, outcome) = commit(node, |image| {
        let (results, changes) = plan(image, node.config.node_id, &request.topics);
        (results, if request.validate_only { Vec::new() } else { changes })
    })
    .await;
    if let Err(refusal) = outcome {
        for result in results.iter_mut().filter(|result| result.error_code == ErrorCode::None.code()) {
            result.error_code = refusal.code.code();
            result.error_message = refusal.text();
        }
    }
    Ok(CreatePartitionsResponse::default().with_results(results))
}

fn plan(
    image: &Image,
    node_id: i32,
    asked: &[CreatePartitionsTopic],
) -> (Vec<CreatePartitionsTopicResult>, Vec<Change>) {
    let twice = duplicates(asked.iter().map(|topic| topic.name.clone()));
    let (mut results, mut changes) = (Vec::new(), Vec::new());
    let mut room = PARTITIONS_PER_REQUEST_MAX;
    for topic in asked.iter().filter(|topic| !twice.contains(&topic.name)) {
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        results.push(match raise(image, node_id, topic, &mut room) {
            Ok(change) => {
                changes.push(change);
                result
            }
            Err(refusal) => result.with_error_code(refusal.code.code()).with_error_message(refusal.text()),
        });
    }
    let duplicate = Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.");
    results.extend(twice.into_iter().map(|name| {
        CreatePartitionsTopicResult::default()
            .with_name(name)
            .with_error_code(duplicate.code.code())
            .with_error_message(duplicate.text())
    }));
    (results, changes)
}

fn raise(image: &Image, node_id: i32, asked: &CreatePartitionsTopic, room: &mut i64) -> Result<Change, Refusal> {
    let topic = image.topic(&asked.name).ok_or(Refusal::bare(ErrorCode::UnknownTopicOrPartition))?;
    let (now, count) = (topic.partition_count, asked.count);
    if count == now {
        let why = format!("Topic already has {now} partition(s).");
        return Err(Refusal::new(ErrorCode::InvalidPartitions, why));
    }
    if count < now {
        let why =
            format!("The topic {} currently has {now} partition(s); {count} would not be an increase.", topic.name);
        return Err(Refusal::new(ErrorCode::InvalidPartitions, why));
    }
    let additional = i64::from(count) - i64::from(now);
    if let Some(assignments) = &asked.assignments {
        if assignments.len() as i64 != additional {
            let why = format!(
                "Attempted to add {additional} additional partition(s), but only {} assignment(s) were specified.",
                assignments.len()
            );
            return Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, why));
        }
        assignments.iter().try_for_each(|each| assignment::check(node_id, &each.broker_ids))?;
    }
    *room = room.checked_sub(additional).filter(|left| *left >= 0).ok_or_else(too_many_partitions)?;
    Ok(Change::SetPartitionCount { topic: topic.id, count })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kafka_protocol::messages::BrokerId;
    use kafka_protocol::messages::create_partitions_request::CreatePartitionsAssignment;
    use kafka_protocol::protocol::StrBytes;
    use rstest::rstest;
    use uuid::Uuid;

    use super::*;
    use crate::metadata::image::{ConfigOverrides, Topic};

    fn image() -> Image {
        let mut image = Image::default();
        let topic = Topic {
            id: Uuid::from_u128(7),
            name: Arc::from("p1"),
            partition_count: 3,
            replication_factor: 1,
            config: ConfigOverrides::new(),
        };
        image.apply(&Change::CreateTopic(topic)).expect("a new topic");
        image
    }

    fn ask(name: &'static str, count: i32, assignments: Option<Vec<Vec<i32>>>) -> CreatePartitionsTopic {
        let assignment = |brokers: Vec<i32>| {
            CreatePartitionsAssignment::default().with_broker_ids(brokers.into_iter().map(BrokerId).collect())
        };
        CreatePartitionsTopic::default()
            .with_name(StrBytes::from_static_str(name).into())
            .with_count(count)
            .with_assignments(assignments.map(|list| list.into_iter().map(assignment).collect()))
    }

    /// Codes and words were taken from Apache Kafka 4.3.1.
    #[rstest]
    #[case("p1", 5, None, 0, None)]
    #[case("p1", 3, None, 37, Some("Topic already has 3 partition(s)."))]
    #[case("p1", 1, None, 37, Some("The topic p1 currently has 3 partition(s); 1 would not be an increase."))]
    #[case("p1", -1, None, 37, Some("The topic p1 currently has 3 partition(s); -1 would not be an increase."))]
    #[case("nope", 3, None, 3, None)]
    #[case("p1", 4, Some(vec![vec![1]]), 0, None)]
    #[case("p1", 5, Some(vec![vec![1]]), 39, Some("Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified."))]
    #[case("p1", 4, Some(vec![vec![9]]), 39, Some("The manual partition assignment includes broker 9, but no such broker is registered."))]
    #[case("p1", 4, Some(vec![vec![]]), 39, Some("The manual partition assignment includes an empty replica list."))]
    #[case("p1", 4, Some(vec![vec![1, 1]]), 39, Some("The manual partition assignment includes the broker 1 more than once."))]
    #[case("p1", i32::MAX, None, 44, Some("Excessively large number of partitions per request."))]
    fn each_topic_is_answered_as_in_kafka(
        #[case] name: &'static str,
        #[case] count: i32,
        #[case] assignments: Option<Vec<Vec<i32>>>,
        #[case] code: i16,
        #[case] message: Option<&str>,
    ) {
        let (results, changes) = plan(&image(), 1, &[ask(name, count, assignments)]);
        assert_eq!((results[0].error_code, results[0].error_message.as_deref()), (code, message));
        assert_eq!(changes.len(), usize::from(code == 0));
    }

    #[test]
    fn a_topic_named_twice_is_refused_once() {
        let (results, changes) = plan(&image(), 1, &[ask("p1", 5, None), ask("p1", 7, None)]);
        assert_eq!(results.len(), 1);
        assert_eq!((results[0].error_code, results[0].error_message.as_deref()), (42, Some("Duplicate topic name.")));
        assert!(changes.is_empty());
    }
}
