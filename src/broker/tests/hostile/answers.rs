//! Frames of requests, and answers read by the crate's schemas.

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{self, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes};

use crate::protocol::api_key::ApiKey;

/// What an answer turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It reads to its last byte.
    Whole,
    /// The header reads; the crate lacks the version.
    NoSchema,
}

/// Versions whose answers the crate cannot read.
pub(super) fn without_schema(key: ApiKey, version: i16) -> bool {
    matches!(
        (key, version),
        (ApiKey::Produce, ..=2)
            | (ApiKey::ListOffsets, 11)
            | (ApiKey::WriteTxnMarkers, 2)
            | (ApiKey::DescribeLogDirs, 5)
            | (ApiKey::ShareFetch | ApiKey::ShareAcknowledge, 2)
            | (ApiKey::DescribeShareGroupOffsets, 1)
            | (ApiKey::StreamsGroupHeartbeat | ApiKey::StreamsGroupDescribe, _)
    )
}

/// The request with its length and a sound header, whose correlation id is 0.
pub(super) fn frame(key: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    let header = messages::RequestHeader::default()
        .with_request_api_key(key.code())
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("hostile")));
    let mut head = BytesMut::new();
    header.encode(&mut head, if key.is_flexible(version) { 2 } else { 1 }).expect("a header");
    let length = (head.len() + body.len()) as u32;
    [&length.to_be_bytes()[..], &head, body].concat()
}

/// Reads the flexible header of an answer that the crate does not know at all.
fn head(mut answer: Bytes) -> Result<Reading, String> {
    let header = ResponseHeader::decode(&mut answer, 1).map_err(|error| error.to_string())?;
    match header.correlation_id {
        0 => Ok(Reading::NoSchema),
        other => Err(format!("the answer to request {other}")),
    }
}

/// Reads the answer to a frame of [`frame`].
pub(super) fn read(key: ApiKey, version: i16, answer: Vec<u8>) -> Result<Reading, String> {
    fn go<Q: Request>(version: i16, answer: Bytes) -> Result<Reading, String> {
        let bad = |error| format!("{error}, in the answer {answer:02x?}");
        let mut rest = answer.clone();
        let header = ResponseHeader::decode(&mut rest, Q::Response::header_version(version)).map_err(&bad)?;
        if header.correlation_id != 0 {
            return Err(format!("the answer to request {}", header.correlation_id));
        }
        if version < Q::Response::VERSIONS.min || Q::Response::VERSIONS.max < version {
            return Ok(Reading::NoSchema);
        }
        Q::Response::decode(&mut rest, version).map_err(&bad)?;
        match rest.remaining() {
            0 => Ok(Reading::Whole),
            more => Err(format!("{more} bytes behind the answer")),
        }
    }
    let answer = Bytes::from(answer);
    match key {
        ApiKey::Produce => go::<messages::ProduceRequest>(version, answer),
        ApiKey::Fetch => go::<messages::FetchRequest>(version, answer),
        ApiKey::ListOffsets => go::<messages::ListOffsetsRequest>(version, answer),
        ApiKey::Metadata => go::<messages::MetadataRequest>(version, answer),
        ApiKey::OffsetCommit => go::<messages::OffsetCommitRequest>(version, answer),
        ApiKey::OffsetFetch => go::<messages::OffsetFetchRequest>(version, answer),
        ApiKey::FindCoordinator => go::<messages::FindCoordinatorRequest>(version, answer),
        ApiKey::JoinGroup => go::<messages::JoinGroupRequest>(version, answer),
        ApiKey::Heartbeat => go::<messages::HeartbeatRequest>(version, answer),
        ApiKey::LeaveGroup => go::<messages::LeaveGroupRequest>(version, answer),
        ApiKey::SyncGroup => go::<messages::SyncGroupRequest>(version, answer),
        ApiKey::DescribeGroups => go::<messages::DescribeGroupsRequest>(version, answer),
        ApiKey::ListGroups => go::<messages::ListGroupsRequest>(version, answer),
        ApiKey::ApiVersions => go::<messages::ApiVersionsRequest>(version, answer),
        ApiKey::CreateTopics => go::<messages::CreateTopicsRequest>(version, answer),
        ApiKey::DeleteTopics => go::<messages::DeleteTopicsRequest>(version, answer),
        ApiKey::DeleteRecords => go::<messages::DeleteRecordsRequest>(version, answer),
        ApiKey::InitProducerId => go::<messages::InitProducerIdRequest>(version, answer),
        ApiKey::OffsetForLeaderEpoch => go::<messages::OffsetForLeaderEpochRequest>(version, answer),
        ApiKey::AddPartitionsToTxn => go::<messages::AddPartitionsToTxnRequest>(version, answer),
        ApiKey::AddOffsetsToTxn => go::<messages::AddOffsetsToTxnRequest>(version, answer),
        ApiKey::EndTxn => go::<messages::EndTxnRequest>(version, answer),
        ApiKey::WriteTxnMarkers => go::<messages::WriteTxnMarkersRequest>(version, answer),
        ApiKey::TxnOffsetCommit => go::<messages::TxnOffsetCommitRequest>(version, answer),
        ApiKey::DescribeConfigs => go::<messages::DescribeConfigsRequest>(version, answer),
        ApiKey::AlterConfigs => go::<messages::AlterConfigsRequest>(version, answer),
        ApiKey::AlterReplicaLogDirs => go::<messages::AlterReplicaLogDirsRequest>(version, answer),
        ApiKey::DescribeLogDirs => go::<messages::DescribeLogDirsRequest>(version, answer),
        ApiKey::CreatePartitions => go::<messages::CreatePartitionsRequest>(version, answer),
        ApiKey::DeleteGroups => go::<messages::DeleteGroupsRequest>(version, answer),
        ApiKey::ElectLeaders => go::<messages::ElectLeadersRequest>(version, answer),
        ApiKey::IncrementalAlterConfigs => go::<messages::IncrementalAlterConfigsRequest>(version, answer),
        ApiKey::AlterPartitionReassignments => go::<messages::AlterPartitionReassignmentsRequest>(version, answer),
        ApiKey::ListPartitionReassignments => go::<messages::ListPartitionReassignmentsRequest>(version, answer),
        ApiKey::OffsetDelete => go::<messages::OffsetDeleteRequest>(version, answer),
        ApiKey::DescribeClientQuotas => go::<messages::DescribeClientQuotasRequest>(version, answer),
        ApiKey::AlterClientQuotas => go::<messages::AlterClientQuotasRequest>(version, answer),
        ApiKey::DescribeQuorum => go::<messages::DescribeQuorumRequest>(version, answer),
        ApiKey::UpdateFeatures => go::<messages::UpdateFeaturesRequest>(version, answer),
        ApiKey::DescribeCluster => go::<messages::DescribeClusterRequest>(version, answer),
        ApiKey::DescribeProducers => go::<messages::DescribeProducersRequest>(version, answer),
        ApiKey::UnregisterBroker => go::<messages::UnregisterBrokerRequest>(version, answer),
        ApiKey::ConsumerGroupHeartbeat => go::<messages::ConsumerGroupHeartbeatRequest>(version, answer),
        ApiKey::ConsumerGroupDescribe => go::<messages::ConsumerGroupDescribeRequest>(version, answer),
        ApiKey::GetTelemetrySubscriptions => go::<messages::GetTelemetrySubscriptionsRequest>(version, answer),
        ApiKey::PushTelemetry => go::<messages::PushTelemetryRequest>(version, answer),
        ApiKey::ListConfigResources => go::<messages::ListConfigResourcesRequest>(version, answer),
        ApiKey::DescribeTransactions => go::<messages::DescribeTransactionsRequest>(version, answer),
        ApiKey::ListTransactions => go::<messages::ListTransactionsRequest>(version, answer),
        ApiKey::DescribeTopicPartitions => go::<messages::DescribeTopicPartitionsRequest>(version, answer),
        ApiKey::ShareGroupHeartbeat => go::<messages::ShareGroupHeartbeatRequest>(version, answer),
        ApiKey::ShareGroupDescribe => go::<messages::ShareGroupDescribeRequest>(version, answer),
        ApiKey::ShareFetch => go::<messages::ShareFetchRequest>(version, answer),
        ApiKey::ShareAcknowledge => go::<messages::ShareAcknowledgeRequest>(version, answer),
        ApiKey::DescribeShareGroupOffsets => go::<messages::DescribeShareGroupOffsetsRequest>(version, answer),
        ApiKey::AlterShareGroupOffsets => go::<messages::AlterShareGroupOffsetsRequest>(version, answer),
        ApiKey::DeleteShareGroupOffsets => go::<messages::DeleteShareGroupOffsetsRequest>(version, answer),
        ApiKey::StreamsGroupHeartbeat | ApiKey::StreamsGroupDescribe => head(answer),
        other => panic!("{other:?} is served and has no schema here"),
    }
}
