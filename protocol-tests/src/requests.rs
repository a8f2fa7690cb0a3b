//! Requests that many tests make, with the values that clients send where a test asks for nothing else.

use kafka_protocol::messages::alter_replica_log_dirs_request::{AlterReplicaLogDir, AlterReplicaLogDirTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

/// Text as the protocol crate wants it.
pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic name as the protocol crate wants it.
pub fn topic_name(topic: &str) -> TopicName {
    TopicName(text(topic))
}

/// A Fetch without a session of at most 4 MiB of one partition, which waits for nothing. Up to version 12, which names
/// topics.
pub fn fetch(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(offset)
        .with_last_fetched_epoch(-1)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(4 << 20);
    let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
    FetchRequest::default().with_max_bytes(8 << 20).with_session_epoch(-1).with_topics(vec![topic])
}

/// One directory of an AlterReplicaLogDirs with what is to go there.
pub fn move_to(path: &str, topic: &str, partitions: Vec<i32>) -> AlterReplicaLogDir {
    let topic = AlterReplicaLogDirTopic::default().with_name(topic_name(topic)).with_partitions(partitions);
    AlterReplicaLogDir::default().with_path(text(path)).with_topics(vec![topic])
}
