//! AlterReplicaLogDirs 1-2 (KIP-113): moves a partition to another of `log.dirs`. Version 2 is flexible.

use std::collections::BTreeMap;
use std::path::Path;

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::alter_replica_log_dirs_request::AlterReplicaLogDirsRequest;
use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsResponse,
};

use super::{Call, Disconnect, Node};
use crate::protocol::error_code::ErrorCode;

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: AlterReplicaLogDirsRequest,
) -> Result<AlterReplicaLogDirsResponse, Disconnect> {
    // Where each is to go; the last directory that names a partition counts, as in Kafka.
    let mut targets: BTreeMap<(TopicName, i32), &str> = BTreeMap::new();
    for dir in &request.dirs {
        for topic in &dir.topics {
            targets.extend(topic.partitions.iter().map(|partition| ((topic.name.clone(), *partition), &*dir.path)));
        }
    }
    let mut topics: BTreeMap<TopicName, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for ((topic, partition), path) in targets {
        let result = AlterReplicaLogDirPartitionResult::default()
            .with_partition_index(partition)
            .with_error_code(place(node, &topic, partition, Path::new(path)).code());
        topics.entry(topic).or_default().push(result);
    }
    let results = topics.into_iter().map(|(name, partitions)| {
        AlterReplicaLogDirTopicResult::default().with_topic_name(name).with_partitions(partitions)
    });
    Ok(AlterReplicaLogDirsResponse::default().with_results(results.collect()))
}

/// A partition stays where it is, and that is all that can be asked of it: moving is refused as Kafka refuses it for a
/// directory that failed.
fn place(node: &Node, topic: &str, partition: i32, path: &Path) -> ErrorCode {
    let known = |dir: &Path| std::path::absolute(dir).is_ok_and(|dir| dir == path);
    let Some((dir, works)) = node.partitions.log_dirs().find(|(dir, _)| known(dir)) else {
        return ErrorCode::LogDirNotFound;
    };
    let Some(found) = node.partitions.by_name(topic, partition) else {
        return ErrorCode::UnknownTopicOrPartition;
    };
    if works && found.log_dir() == dir { ErrorCode::None } else { ErrorCode::KafkaStorageError }
}
