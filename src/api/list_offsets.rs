//! ListOffsets 1-11: offsets by name and by time, over both tiers.
//!
//! Version 11 has the bytes of version 10. A partition named twice is INVALID_REQUEST, as in Kafka. All partitions are
//! asked at once; one whose tier doesn't answer in time is REQUEST_TIMED_OUT, the others answer.
//!
//! Versions: 2 isolation; 4 leader epochs (KIP-320); 6 flexible; 7 max timestamp (-3, KIP-734); 8 earliest local (-4,
//! KIP-405); 9 latest tiered (-5, KIP-1005); 10 timeout (KIP-1075); 11 earliest pending upload (-6, KIP-1023).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::future::join_all;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};

use super::{Call, Disconnect, Node};
use crate::partition::list_offsets::{Found, OffsetSpec};
use crate::partition::read::Isolation;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::record_batch::LeaderEpoch;

const LEADER_EPOCH_FROM: i16 = 4;
const TIMEOUT_FROM: i16 = 10;

/// Answers one request.
pub async fn handle(node: &Node, call: &Call, request: ListOffsetsRequest) -> Result<ListOffsetsResponse, Disconnect> {
    let isolation = isolation(request.isolation_level);
    let timeout_ms = match u64::try_from(request.timeout_ms) {
        Ok(ms) if call.version >= TIMEOUT_FROM && ms > 0 => ms,
        _ => node.effective.borrow().remote.list_offsets_timeout_ms,
    };
    let mut times_named: HashMap<(&str, i32), u32> = HashMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            *times_named.entry((&topic.name, partition.partition_index)).or_default() += 1;
        }
    }
    let questions = request.topics.iter().flat_map(|topic| {
        let times_named = &times_named;
        topic.partitions.iter().map(move |partition| async move {
            let twice = times_named.get(&(&*topic.name, partition.partition_index)).is_some_and(|times| *times > 1);
            let outcome = if twice {
                Err(ErrorCode::InvalidRequest)
            } else {
                let found = find(node, call.version, &topic.name, partition, isolation);
                tokio::time::timeout(Duration::from_millis(timeout_ms), found)
                    .await
                    .unwrap_or(Err(ErrorCode::RequestTimedOut))
            };
            answer(call.version, partition.partition_index, outcome)
        })
    });
    let mut answers = join_all(questions).await.into_iter();
    let mut answered: HashSet<(&str, i32)> = HashSet::new();
    let topics = request.topics.iter().map(|topic| {
        let rows = answers.by_ref().take(topic.partitions.len());
        // A partition named twice has one row.
        let rows = rows.filter(|row| answered.insert((&topic.name, row.partition_index)));
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(rows.collect())
    });
    Ok(ListOffsetsResponse::default().with_topics(topics.collect()))
}

async fn find(
    node: &Node,
    version: i16,
    topic: &str,
    asked: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<Found, ErrorCode> {
    let spec = spec(asked.timestamp, version).ok_or(ErrorCode::UnsupportedVersion)?;
    let partition = node.partitions.by_name(topic, asked.partition_index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    partition.opened().await;
    partition.check_leader_epoch(known(asked.current_leader_epoch)).map_err(|error| error.code())?;
    partition.list_offset(spec, isolation).await.map_err(|error| error.code())
}

/// An isolation level of the wire; Kafka reads every other number as read uncommitted's opposite too.
pub(super) fn isolation(level: i8) -> Isolation {
    if level == 0 { Isolation::ReadUncommitted } else { Isolation::ReadCommitted }
}

/// An epoch of the wire, where -1 stands for none.
pub(super) fn known(epoch: LeaderEpoch) -> Option<LeaderEpoch> {
    (epoch >= 0).then_some(epoch)
}

/// What a timestamp asks for; `None` for a special value that the version doesn't have.
fn spec(timestamp: i64, version: i16) -> Option<OffsetSpec> {
    let (spec, since) = match timestamp {
        -1 => (OffsetSpec::Latest, 1),
        -2 => (OffsetSpec::Earliest, 1),
        -3 => (OffsetSpec::MaxTimestamp, 7),
        -4 => (OffsetSpec::EarliestLocal, 8),
        -5 => (OffsetSpec::LatestTiered, 9),
        -6 => (OffsetSpec::EarliestPendingUpload, 11),
        time if time >= 0 => (OffsetSpec::Time(time), 1),
        _ => return None,
    };
    (version >= since).then_some(spec)
}

fn answer(version: i16, index: i32, outcome: Result<Found, ErrorCode>) -> ListOffsetsPartitionResponse {
    let (error, found) = match outcome {
        Ok(found) => (ErrorCode::None, found),
        Err(error) => (error, Found::NOTHING),
    };
    let answer = ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_error_code(error.code())
        .with_timestamp(found.timestamp)
        .with_offset(found.offset);
    // Before it had a place in the answer it must stay as it is made, or the answer does not encode.
    if version < LEADER_EPOCH_FROM { answer } else { answer.with_leader_epoch(found.leader_epoch) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(-1, 1, Some(OffsetSpec::Latest))]
    #[case(-3, 6, None)]
    #[case(-3, 7, Some(OffsetSpec::MaxTimestamp))]
    #[case(-4, 7, None)]
    #[case(-5, 9, Some(OffsetSpec::LatestTiered))]
    #[case(-6, 10, None)]
    #[case(-6, 11, Some(OffsetSpec::EarliestPendingUpload))]
    #[case(-7, 11, None)]
    #[case(0, 1, Some(OffsetSpec::Time(0)))]
    fn special_timestamps_belong_to_versions(
        #[case] timestamp: i64,
        #[case] version: i16,
        #[case] expected: Option<OffsetSpec>,
    ) {
        assert_eq!(spec(timestamp, version), expected);
    }
}
