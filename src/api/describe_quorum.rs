//! DescribeQuorum 0-2 (KIP-595, KIP-836, KIP-853): the quorum of one that the metadata store is, told as Kafka's combined
//! mode tells it. The offsets of its log are the generations of the metadata image. Version 1 has times, 2 messages,
//! directory ids and the voters' addresses.

use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::describe_quorum_request::DescribeQuorumRequest;
use kafka_protocol::messages::describe_quorum_response::{
    DescribeQuorumResponse, Listener, Node as Voter, PartitionData, ReplicaState, TopicData,
};
use kafka_protocol::protocol::StrBytes;

use super::text::text;
use super::{Call, Disconnect, Node};
use crate::protocol::error_code::ErrorCode;

/// The topic that stands for Kafka's metadata log.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// The first version with times.
const TIMES_FROM: i16 = 1;
/// The first version with messages and nodes.
const NODES_FROM: i16 = 2;

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: DescribeQuorumRequest,
) -> Result<DescribeQuorumResponse, Disconnect> {
    // Nothing but the one partition alone is served, as in Kafka.
    let is_sound = match request.topics.as_slice() {
        [topic] => {
            &**topic.topic_name == METADATA_TOPIC
                && matches!(topic.partitions.as_slice(), [partition] if partition.partition_index == 0)
        }
        _ => false,
    };
    let partition = |index| if is_sound { quorum(node, call.version) } else { not_hosted(index, call.version) };
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| partition(asked.partition_index));
        TopicData::default().with_topic_name(topic.topic_name.clone()).with_partitions(partitions.collect())
    });
    let mut response = DescribeQuorumResponse::default().with_topics(topics.collect());
    if call.version >= NODES_FROM && is_sound {
        response.nodes = vec![voter(node)];
    }
    Ok(response)
}

fn quorum(node: &Node, version: i16) -> PartitionData {
    let image = node.metadata.image();
    let id = BrokerId(node.config.node_id);
    let end = i64::try_from(image.generation).unwrap_or(i64::MAX);
    let mut state = ReplicaState::default().with_replica_id(id).with_log_end_offset(end);
    if version >= TIMES_FROM {
        let now_ms = node.clock.now_ms();
        state = state.with_last_fetch_timestamp(now_ms).with_last_caught_up_timestamp(now_ms);
    }
    PartitionData::default()
        .with_leader_id(id)
        // Kafka's first leader of a quorum has epoch 1.
        .with_leader_epoch(image.node_epoch.saturating_add(1))
        .with_high_watermark(end)
        .with_current_voters(vec![state])
}

fn not_hosted(index: i32, version: i16) -> PartitionData {
    let mut partition =
        PartitionData::default().with_partition_index(index).with_error_code(ErrorCode::UnknownTopicOrPartition.code());
    if version >= NODES_FROM {
        let why = "This server does not host this topic-partition.";
        partition.error_message = Some(StrBytes::from_static_str(why));
    }
    partition
}

/// Who votes: this node, reached where brokers reach each other, as there is no listener for controllers.
fn voter(node: &Node) -> Voter {
    let name = &node.config.inter_broker_listener;
    let listener = node.endpoint(name).map(|endpoint| {
        Listener::default().with_name(text(name)).with_host(text(&endpoint.host)).with_port(endpoint.port)
    });
    Voter::default().with_node_id(BrokerId(node.config.node_id)).with_listeners(listener.into_iter().collect())
}
