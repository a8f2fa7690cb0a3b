//! WriteTxnMarkers 1-2: ends transactions in partitions by hand, as a coordinator elsewhere would. Our own coordinator does
//! not come this way; `kafka-transactions abort` does, to end a transaction that no coordinator knows any more (KIP-664).
//!
//! A partition's answer waits until its marker is durable. Version 2 names the transaction version (KIP-1228).

use bytes::Bytes;
use futures::future::join_all;
use indexmap::{IndexMap, IndexSet};
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult, WriteTxnMarkersResponse,
};

use super::text::text;
use super::{Call, Disconnect, Frame, Node, encode};
use crate::group::internal_topic::OFFSETS_TOPIC;
use crate::partition::transactions::EndMarker;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::messages::write_txn_markers::{WritableTxnMarker, WriteTxnMarkersRequest};
use crate::wal::ticket::Rejected;

/// The newest answer that the crate knows; version 2 has the same bytes.
const RESPONSE_NEWEST: i16 = 1;

/// Answers one request.
pub async fn serve(node: &Node, call: &Call, body: Bytes) -> Result<Frame, Disconnect> {
    let request = WriteTxnMarkersRequest::decode(call.version, &body)
        .map_err(|error| Disconnect::Malformed(error.to_string()))?;
    let mut results = Results::default();
    if request.markers.iter().any(|marker| cannot_be_written(node, marker)) {
        for (marker, topic, index) in partitions(&request) {
            results.add(marker.producer_id, topic, index, ErrorCode::UnknownServerError);
        }
        return answer(call, results);
    }
    for marker in &request.markers {
        let end = EndMarker {
            producer_id: marker.producer_id,
            producer_epoch: marker.producer_epoch,
            coordinator_epoch: marker.coordinator_epoch,
            commit: marker.commit,
            transaction_version: marker.transaction_version,
        };
        let places: IndexSet<_> = partitions_of(marker).collect();
        let written = join_all(places.iter().map(|(topic, index)| write_to(node, topic, *index, end))).await;
        for ((topic, index), error) in places.into_iter().zip(written) {
            results.add(marker.producer_id, topic, index, error);
        }
    }
    answer(call, results)
}

fn partitions_of(marker: &WritableTxnMarker) -> impl Iterator<Item = (&str, i32)> {
    marker.topics.iter().flat_map(|(topic, indexes)| indexes.iter().map(move |index| (&**topic, *index)))
}

fn partitions(request: &WriteTxnMarkersRequest) -> impl Iterator<Item = (&WritableTxnMarker, &str, i32)> {
    request.markers.iter().flat_map(|marker| partitions_of(marker).map(move |(topic, index)| (marker, topic, index)))
}

/// A batch says by -1 that it has no producer, so no marker can: Kafka fails the whole request when it comes to write it.
fn cannot_be_written(node: &Node, marker: &WritableTxnMarker) -> bool {
    (marker.producer_id == -1 || marker.producer_epoch == -1)
        && partitions_of(marker).any(|(topic, index)| node.partitions.by_name(topic, index).is_some())
}

/// Outcomes by producer, topic and partition: each once, however often it was named; the last one counts.
#[derive(Default)]
struct Results<'r>(IndexMap<i64, IndexMap<&'r str, IndexMap<i32, ErrorCode>>>);

impl<'r> Results<'r> {
    fn add(&mut self, producer_id: i64, topic: &'r str, index: i32, error: ErrorCode) {
        self.0.entry(producer_id).or_default().entry(topic).or_default().insert(index, error);
    }
}

fn answer(call: &Call, results: Results<'_>) -> Result<Frame, Disconnect> {
    let partition = |(index, error): (i32, ErrorCode)| {
        WritableTxnMarkerPartitionResult::default().with_partition_index(index).with_error_code(error.code())
    };
    let topic = |(name, partitions): (&str, IndexMap<i32, ErrorCode>)| {
        let partitions = partitions.into_iter().map(partition).collect();
        WritableTxnMarkerTopicResult::default().with_name(TopicName(text(name))).with_partitions(partitions)
    };
    let markers = results.0.into_iter().map(|(producer_id, topics)| {
        let topics = topics.into_iter().map(topic).collect();
        WritableTxnMarkerResult::default().with_producer_id(producer_id.into()).with_topics(topics)
    });
    let response = WriteTxnMarkersResponse::default().with_markers(markers.collect());
    encode(call, call.version.min(RESPONSE_NEWEST), &response)
}

async fn write_to(node: &Node, topic: &str, index: i32, marker: EndMarker) -> ErrorCode {
    let Some(partition) = node.partitions.by_name(topic, index) else { return ErrorCode::UnknownTopicOrPartition };
    // No producer has such an id, so nothing of its can be open; Kafka writes a marker that means nothing.
    if marker.producer_id < 0 {
        return ErrorCode::None;
    }
    if topic == OFFSETS_TOPIC {
        // The offsets that the transaction committed are the group's.
        return node
            .groups
            .end_transaction(index, marker)
            .await
            .map_or_else(|error| error.code(), |()| ErrorCode::None);
    }
    partition.opened().await;
    let ticket = match partition.append_marker(&marker) {
        Ok(appended) => appended.ticket,
        Err(error) => return error.code(),
    };
    match ticket.wait().await {
        Ok(()) => ErrorCode::None,
        Err(Rejected::Storage) => ErrorCode::KafkaStorageError,
        Err(Rejected::NotLeader) => ErrorCode::NotLeaderOrFollower,
    }
}
