//! Metadata 0-13: brokers, topics, partitions and their leaders.
//!
//! Versions: 0 takes an empty list for "all topics", later ones null; 4 lets the client forbid auto-creation; 8 authorized
//! operations (KIP-430; those of the cluster until 10); 10 topic ids in the answer, 12 in the request (KIP-516); 13 an
//! error of the whole answer (KIP-1102).

use std::collections::BTreeSet;

use kafka_protocol::messages::metadata_request::MetadataRequest;
use kafka_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::topic_creation::{auto_create, illegal_name};
use super::{Call, Disconnect, Node};
use crate::config::topic::is_internal;
use crate::metadata::image::{Image, Topic};
use crate::protocol::error_code::ErrorCode;

/// Operations were not asked for.
const NOT_ASKED: i32 = i32::MIN;
/// All operations on a topic that Kafka's access control knows: what everybody may without an authorizer.
pub const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// The same for the cluster.
pub const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;
/// The first version whose client can forbid auto-creation.
const ALLOW_FLAG_FROM: i16 = 4;

/// Which topics are asked for.
enum Asked {
    All,
    Named(BTreeSet<StrBytes>),
    ById(Vec<Uuid>),
}

/// Answers one request.
pub async fn handle(node: &Node, call: &Call, request: MetadataRequest) -> Result<MetadataResponse, Disconnect> {
    let image = node.metadata.image();
    let operations = |asked: bool, all: i32| if asked { all } else { NOT_ASKED };
    let shown = Shown {
        node_id: BrokerId(node.config.node_id),
        image: &image,
        operations: operations(request.include_topic_authorized_operations, TOPIC_OPERATIONS),
    };
    let topics = match asked(call.version, &request) {
        Asked::All => image.topics.values().map(|topic| shown.topic(topic)).collect(),
        Asked::ById(ids) => ids
            .iter()
            .map(|id| match image.topic_by_id(id) {
                Some(topic) => shown.topic(topic),
                None => unknown(ErrorCode::UnknownTopicId).with_topic_id(*id),
            })
            .collect(),
        Asked::Named(names) => {
            let may_create =
                node.config.topics.auto_create && (call.version < ALLOW_FLAG_FROM || request.allow_auto_topic_creation);
            let mut topics = Vec::with_capacity(names.len());
            for name in names {
                topics.push(match image.topic(&name) {
                    Some(topic) => shown.topic(topic),
                    None => {
                        let error = if may_create {
                            auto_create(node, &name).await
                        } else if illegal_name(&name).is_some() {
                            ErrorCode::InvalidTopicException
                        } else {
                            ErrorCode::UnknownTopicOrPartition
                        };
                        unknown(error).with_is_internal(is_internal(&name)).with_name(Some(TopicName(name)))
                    }
                });
            }
            topics
        }
    };
    Ok(MetadataResponse::default()
        .with_brokers(brokers(node, call))
        .with_cluster_id(Some(StrBytes::from_string(image.cluster_id.to_string())))
        .with_controller_id(shown.node_id)
        .with_topics(topics)
        .with_cluster_authorized_operations(operations(
            request.include_cluster_authorized_operations,
            CLUSTER_OPERATIONS,
        )))
}

fn asked(version: i16, request: &MetadataRequest) -> Asked {
    let Some(topics) = &request.topics else { return Asked::All };
    if version == 0 && topics.is_empty() {
        return Asked::All;
    }
    let ids: Vec<Uuid> = topics.iter().map(|topic| topic.topic_id).filter(|id| !id.is_nil()).collect();
    if !ids.is_empty() {
        return Asked::ById(ids);
    }
    Asked::Named(topics.iter().filter_map(|topic| topic.name.as_ref().map(|name| name.0.clone())).collect())
}

fn brokers(node: &Node, call: &Call) -> Vec<MetadataResponseBroker> {
    let rack = node.config.rack.clone().map(StrBytes::from_string);
    let broker = |endpoint: &crate::config::listeners::Endpoint| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(node.config.node_id))
            .with_host(StrBytes::from_string(endpoint.host.clone()))
            .with_port(i32::from(endpoint.port))
            .with_rack(rack.clone())
    };
    node.endpoint(&call.listener).map(broker).into_iter().collect()
}

fn unknown(error: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_name(None)
        .with_topic_authorized_operations(NOT_ASKED)
}

struct Shown<'a> {
    node_id: BrokerId,
    image: &'a Image,
    operations: i32,
}

impl Shown<'_> {
    fn topic(&self, topic: &Topic) -> MetadataResponseTopic {
        let replicas = vec![self.node_id];
        let partition = |index: i32| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(self.node_id)
                .with_leader_epoch(self.image.node_epoch)
                .with_replica_nodes(replicas.clone())
                .with_isr_nodes(replicas.clone())
        };
        MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_string(topic.name.to_string()))))
            .with_topic_id(topic.id)
            .with_is_internal(is_internal(&topic.name))
            .with_partitions((0..topic.partition_count).map(partition).collect())
            .with_topic_authorized_operations(self.operations)
    }
}
