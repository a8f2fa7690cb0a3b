//! OffsetForLeaderEpoch 2-4: where an epoch ended, over both tiers (KIP-320).
//!
//! Versions: 3 replica id; 4 flexible.

use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};

use super::list_offsets::known;
use super::{Call, Disconnect, Node};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::{LeaderEpoch, Offset};

const NONE: (LeaderEpoch, Offset) = (-1, -1);

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: OffsetForLeaderEpochRequest,
) -> Result<OffsetForLeaderEpochResponse, Disconnect> {
    if !node.partitions.all_open() {
        let of_topic = |topic: &OffsetForLeaderTopic| {
            let find = |asked: &OffsetForLeaderPartition| node.partitions.by_name(&topic.topic, asked.partition);
            topic.partitions.iter().filter_map(find).collect::<Vec<_>>()
        };
        let named = request.topics.iter().flat_map(of_topic).collect();
        node.partitions.opened(named).await;
    }
    let topics = request.topics.iter().map(|topic| {
        let ends = topic.partitions.iter().map(|asked| {
            let (error, (epoch, end)) = match end(node, &topic.topic, asked) {
                Ok(end) => (ErrorCode::None, end),
                Err(error) => (error, NONE),
            };
            EpochEndOffset::default()
                .with_error_code(error.code())
                .with_partition(asked.partition)
                .with_leader_epoch(epoch)
                .with_end_offset(end)
        });
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(ends.collect())
    });
    Ok(OffsetForLeaderEpochResponse::default().with_topics(topics.collect()))
}

fn end(node: &Node, topic: &str, asked: &OffsetForLeaderPartition) -> Result<(LeaderEpoch, Offset), ErrorCode> {
    let partition = node.partitions.by_name(topic, asked.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    partition.check_leader_epoch(known(asked.current_leader_epoch)).map_err(|error| error.code())?;
    partition.epoch_end(asked.leader_epoch).map_err(|error| error.code())
}
