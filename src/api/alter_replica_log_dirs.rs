//! AlterReplicaLogDirs 1-2 (KIP-113): moves partitions to another of `log.dirs`. Version 2 is flexible.
//!
//! The answer tells that moves are under way; DescribeLogDirs shows how far they are. A partition that does not exist yet
//! will be created in the directory that was named for it, and is unknown all the same, as in Kafka.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::alter_replica_log_dirs_request::AlterReplicaLogDirsRequest;
use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsResponse,
};

use super::{Call, Disconnect, Node};
use crate::partition::moving::MoveError;
use crate::protocol::error_code::ErrorCode;

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: AlterReplicaLogDirsRequest,
) -> Result<AlterReplicaLogDirsResponse, Disconnect> {
    // Where each is to go; the last directory that names a partition counts, as in Kafka.
    let mut targets: BTreeMap<(TopicName, i32), Arc<Path>> = BTreeMap::new();
    for dir in &request.dirs {
        let path: Arc<Path> = Path::new(&*dir.path).into();
        for topic in &dir.topics {
            let partitions = topic.partitions.iter();
            targets.extend(partitions.map(|partition| ((topic.name.clone(), *partition), Arc::clone(&path))));
        }
    }
    let (partitions, asked) = (Arc::clone(&node.partitions), targets.clone());
    // Each move begins with a directory, and one that just ends is waited for.
    let moved = tokio::task::spawn_blocking(move || {
        let ask = |((topic, number), path): ((TopicName, i32), Arc<Path>)| {
            partitions.move_partition(&topic, number, &path).map_or_else(MoveError::code, |()| ErrorCode::None)
        };
        asked.into_iter().map(ask).collect()
    });
    // The panic hook has logged what went wrong.
    let codes: Vec<_> = moved.await.unwrap_or_else(|_| vec![ErrorCode::UnknownServerError; targets.len()]);
    let mut topics: BTreeMap<TopicName, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for ((topic, number), code) in targets.into_keys().zip(codes) {
        let result =
            AlterReplicaLogDirPartitionResult::default().with_partition_index(number).with_error_code(code.code());
        topics.entry(topic).or_default().push(result);
    }
    let results = topics.into_iter().map(|(name, partitions)| {
        AlterReplicaLogDirTopicResult::default().with_topic_name(name).with_partitions(partitions)
    });
    Ok(AlterReplicaLogDirsResponse::default().with_results(results.collect()))
}
