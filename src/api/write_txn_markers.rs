//! WriteTxnMarkers 1-2: ends transactions in partitions by hand, as a coordinator elsewhere would. Our own coordinator does
//! not come this way; `kafka-transactions abort` does, to end a transaction that no coordinator knows any more (KIP-664).
//!
//! A partition's answer waits until its marker is durable. Version 2 names the transaction version (KIP-1228).

use bytes::Bytes;
use futures::future::join_all;
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
    let mut markers = Vec::with_capacity(request.markers.len());
    for marker in &request.markers {
        markers.push(write(node, marker).await);
    }
    encode(call, call.version.min(RESPONSE_NEWEST), &WriteTxnMarkersResponse::default().with_markers(markers))
}

async fn write(node: &Node, marker: &WritableTxnMarker) -> WritableTxnMarkerResult {
    let end = EndMarker {
        producer_id: marker.producer_id,
        producer_epoch: marker.producer_epoch,
        coordinator_epoch: marker.coordinator_epoch,
        commit: marker.commit,
        transaction_version: marker.transaction_version,
    };
    let mut topics = Vec::with_capacity(marker.topics.len());
    for (topic, partitions) in &marker.topics {
        let written = join_all(partitions.iter().map(|index| write_to(node, topic, *index, end))).await;
        let results = partitions.iter().zip(written).map(|(index, error)| {
            WritableTxnMarkerPartitionResult::default().with_partition_index(*index).with_error_code(error.code())
        });
        topics.push(
            WritableTxnMarkerTopicResult::default()
                .with_name(TopicName(text(topic)))
                .with_partitions(results.collect()),
        );
    }
    WritableTxnMarkerResult::default().with_producer_id(marker.producer_id.into()).with_topics(topics)
}

async fn write_to(node: &Node, topic: &str, index: i32, marker: EndMarker) -> ErrorCode {
    let Some(partition) = node.partitions.by_name(topic, index) else { return ErrorCode::UnknownTopicOrPartition };
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
