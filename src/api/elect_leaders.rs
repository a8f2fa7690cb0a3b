//! ElectLeaders 0-2 (KIP-460). One broker leads every partition, so that no election is ever needed: what is asked for is
//! looked up and answered as Kafka answers then. Version 1 has the type of the election, 2 is flexible.

use kafka_protocol::messages::elect_leaders_request::{ElectLeadersRequest, TopicPartitions};
use kafka_protocol::messages::elect_leaders_response::{ElectLeadersResponse, PartitionResult, ReplicaElectionResult};

use super::change::Refusal;
use super::text::text;
use super::{Call, Disconnect, Node};
use crate::metadata::image::Image;
use crate::protocol::error_code::ErrorCode;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
/// The version since which an answer has a code of its own.
const WHOLE_ERROR_FROM: i16 = 1;

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: ElectLeadersRequest,
) -> Result<ElectLeadersResponse, Disconnect> {
    let mut answer = answer(&node.metadata.image(), &request);
    if call.version < WHOLE_ERROR_FROM {
        // It is said of each partition, and an answer with a code that its version lacks does not encode.
        answer.error_code = ErrorCode::None.code();
    }
    Ok(answer)
}

fn answer(image: &Image, request: &ElectLeadersRequest) -> ElectLeadersResponse {
    // What is wrong with the request as a whole, for each of its partitions.
    let whole = match request.election_type {
        _ if request.timeout_ms <= 0 => Some(Refusal::bare(ErrorCode::RequestTimedOut)),
        PREFERRED | UNCLEAN => None,
        unknown => Some(Refusal::new(ErrorCode::InvalidRequest, format!("Unknown election type {unknown}"))),
    };
    let results = match (&request.topic_partitions, &whole) {
        (Some(asked), _) => asked.iter().map(|topic| topic_result(image, topic, whole.as_ref())).collect(),
        (None, Some(_)) => Vec::new(),
        // All there are, of which only those that changed are listed.
        (None, None) => {
            image.topics.keys().map(|name| ReplicaElectionResult::default().with_topic(text(name).into())).collect()
        }
    };
    ElectLeadersResponse::default()
        .with_error_code(whole.map_or(ErrorCode::None, |refusal| refusal.code).code())
        .with_replica_election_results(results)
}

fn topic_result(image: &Image, asked: &TopicPartitions, whole: Option<&Refusal>) -> ReplicaElectionResult {
    let partitions = asked.partitions.iter().map(|partition| {
        let refusal = whole.cloned().unwrap_or_else(|| not_elected(image, &asked.topic, *partition));
        PartitionResult::default()
            .with_partition_id(*partition)
            .with_error_code(refusal.code.code())
            .with_error_message(refusal.text())
    });
    ReplicaElectionResult::default().with_topic(asked.topic.clone()).with_partition_result(partitions.collect())
}

fn not_elected(image: &Image, topic: &str, partition: i32) -> Refusal {
    match image.topic(topic) {
        None => Refusal::new(ErrorCode::UnknownTopicOrPartition, format!("No such topic as {topic}")),
        Some(found) if !(0..found.partition_count).contains(&partition) => {
            Refusal::new(ErrorCode::UnknownTopicOrPartition, format!("No such partition as {topic}-{partition}"))
        }
        Some(_) => Refusal::new(ErrorCode::ElectionNotNeeded, "Leader election not needed for topic partition."),
    }
}
