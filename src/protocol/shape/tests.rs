//! Random messages are made from the tables; the crate must decode each to its last byte, and what the crate encodes of it
//! must walk to its last byte. So a wrong kind or version in either shows.

use std::collections::BTreeSet;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages as crate_messages;
use kafka_protocol::protocol::{Decodable, Encodable, Message as CrateMessage};
use rstest::rstest;

use super::sample::{self, Values};
use super::*;

/// Decodes with the crate and encodes again. `None` where the crate says that it lacks the version.
fn through_crate(api_key: ApiKey, version: i16, body: &[u8]) -> Option<(usize, BytesMut)> {
    fn go<M: CrateMessage + Encodable + Decodable>(version: i16, body: &[u8]) -> Option<(usize, BytesMut)> {
        if version < M::VERSIONS.min || M::VERSIONS.max < version {
            return None;
        }
        let mut rest = Bytes::copy_from_slice(body);
        let Ok(message) = M::decode(&mut rest, version) else { return None };
        let mut encoded = BytesMut::new();
        message.encode(&mut encoded, version).expect("what was decoded encodes");
        Some((rest.remaining(), encoded))
    }
    match api_key {
        ApiKey::StreamsGroupHeartbeat | ApiKey::StreamsGroupDescribe => None,
        ApiKey::Produce => go::<crate_messages::ProduceRequest>(version, body),
        ApiKey::Fetch => go::<crate_messages::FetchRequest>(version, body),
        ApiKey::ListOffsets => go::<crate_messages::ListOffsetsRequest>(version, body),
        ApiKey::Metadata => go::<crate_messages::MetadataRequest>(version, body),
        ApiKey::OffsetCommit => go::<crate_messages::OffsetCommitRequest>(version, body),
        ApiKey::OffsetFetch => go::<crate_messages::OffsetFetchRequest>(version, body),
        ApiKey::FindCoordinator => go::<crate_messages::FindCoordinatorRequest>(version, body),
        ApiKey::JoinGroup => go::<crate_messages::JoinGroupRequest>(version, body),
        ApiKey::Heartbeat => go::<crate_messages::HeartbeatRequest>(version, body),
        ApiKey::LeaveGroup => go::<crate_messages::LeaveGroupRequest>(version, body),
        ApiKey::SyncGroup => go::<crate_messages::SyncGroupRequest>(version, body),
        ApiKey::DescribeGroups => go::<crate_messages::DescribeGroupsRequest>(version, body),
        ApiKey::ListGroups => go::<crate_messages::ListGroupsRequest>(version, body),
        ApiKey::SaslHandshake => go::<crate_messages::SaslHandshakeRequest>(version, body),
        ApiKey::ApiVersions => go::<crate_messages::ApiVersionsRequest>(version, body),
        ApiKey::CreateTopics => go::<crate_messages::CreateTopicsRequest>(version, body),
        ApiKey::DeleteTopics => go::<crate_messages::DeleteTopicsRequest>(version, body),
        ApiKey::DeleteRecords => go::<crate_messages::DeleteRecordsRequest>(version, body),
        ApiKey::InitProducerId => go::<crate_messages::InitProducerIdRequest>(version, body),
        ApiKey::OffsetForLeaderEpoch => go::<crate_messages::OffsetForLeaderEpochRequest>(version, body),
        ApiKey::AddPartitionsToTxn => go::<crate_messages::AddPartitionsToTxnRequest>(version, body),
        ApiKey::AddOffsetsToTxn => go::<crate_messages::AddOffsetsToTxnRequest>(version, body),
        ApiKey::EndTxn => go::<crate_messages::EndTxnRequest>(version, body),
        ApiKey::WriteTxnMarkers => go::<crate_messages::WriteTxnMarkersRequest>(version, body),
        ApiKey::TxnOffsetCommit => go::<crate_messages::TxnOffsetCommitRequest>(version, body),
        ApiKey::DescribeAcls => go::<crate_messages::DescribeAclsRequest>(version, body),
        ApiKey::CreateAcls => go::<crate_messages::CreateAclsRequest>(version, body),
        ApiKey::DeleteAcls => go::<crate_messages::DeleteAclsRequest>(version, body),
        ApiKey::DescribeConfigs => go::<crate_messages::DescribeConfigsRequest>(version, body),
        ApiKey::AlterConfigs => go::<crate_messages::AlterConfigsRequest>(version, body),
        ApiKey::AlterReplicaLogDirs => go::<crate_messages::AlterReplicaLogDirsRequest>(version, body),
        ApiKey::DescribeLogDirs => go::<crate_messages::DescribeLogDirsRequest>(version, body),
        ApiKey::SaslAuthenticate => go::<crate_messages::SaslAuthenticateRequest>(version, body),
        ApiKey::CreatePartitions => go::<crate_messages::CreatePartitionsRequest>(version, body),
        ApiKey::CreateDelegationToken => go::<crate_messages::CreateDelegationTokenRequest>(version, body),
        ApiKey::RenewDelegationToken => go::<crate_messages::RenewDelegationTokenRequest>(version, body),
        ApiKey::ExpireDelegationToken => go::<crate_messages::ExpireDelegationTokenRequest>(version, body),
        ApiKey::DescribeDelegationToken => go::<crate_messages::DescribeDelegationTokenRequest>(version, body),
        ApiKey::DeleteGroups => go::<crate_messages::DeleteGroupsRequest>(version, body),
        ApiKey::ElectLeaders => go::<crate_messages::ElectLeadersRequest>(version, body),
        ApiKey::IncrementalAlterConfigs => go::<crate_messages::IncrementalAlterConfigsRequest>(version, body),
        ApiKey::AlterPartitionReassignments => go::<crate_messages::AlterPartitionReassignmentsRequest>(version, body),
        ApiKey::ListPartitionReassignments => go::<crate_messages::ListPartitionReassignmentsRequest>(version, body),
        ApiKey::OffsetDelete => go::<crate_messages::OffsetDeleteRequest>(version, body),
        ApiKey::DescribeClientQuotas => go::<crate_messages::DescribeClientQuotasRequest>(version, body),
        ApiKey::AlterClientQuotas => go::<crate_messages::AlterClientQuotasRequest>(version, body),
        ApiKey::DescribeUserScramCredentials => {
            go::<crate_messages::DescribeUserScramCredentialsRequest>(version, body)
        }
        ApiKey::AlterUserScramCredentials => go::<crate_messages::AlterUserScramCredentialsRequest>(version, body),
        ApiKey::DescribeQuorum => go::<crate_messages::DescribeQuorumRequest>(version, body),
        ApiKey::UpdateFeatures => go::<crate_messages::UpdateFeaturesRequest>(version, body),
        ApiKey::DescribeCluster => go::<crate_messages::DescribeClusterRequest>(version, body),
        ApiKey::DescribeProducers => go::<crate_messages::DescribeProducersRequest>(version, body),
        ApiKey::UnregisterBroker => go::<crate_messages::UnregisterBrokerRequest>(version, body),
        ApiKey::DescribeTransactions => go::<crate_messages::DescribeTransactionsRequest>(version, body),
        ApiKey::ListTransactions => go::<crate_messages::ListTransactionsRequest>(version, body),
        ApiKey::ConsumerGroupHeartbeat => go::<crate_messages::ConsumerGroupHeartbeatRequest>(version, body),
        ApiKey::ConsumerGroupDescribe => go::<crate_messages::ConsumerGroupDescribeRequest>(version, body),
        ApiKey::GetTelemetrySubscriptions => go::<crate_messages::GetTelemetrySubscriptionsRequest>(version, body),
        ApiKey::PushTelemetry => go::<crate_messages::PushTelemetryRequest>(version, body),
        ApiKey::ListConfigResources => go::<crate_messages::ListConfigResourcesRequest>(version, body),
        ApiKey::DescribeTopicPartitions => go::<crate_messages::DescribeTopicPartitionsRequest>(version, body),
        ApiKey::ShareGroupHeartbeat => go::<crate_messages::ShareGroupHeartbeatRequest>(version, body),
        ApiKey::ShareGroupDescribe => go::<crate_messages::ShareGroupDescribeRequest>(version, body),
        ApiKey::ShareFetch => go::<crate_messages::ShareFetchRequest>(version, body),
        ApiKey::ShareAcknowledge => go::<crate_messages::ShareAcknowledgeRequest>(version, body),
        ApiKey::AddRaftVoter => go::<crate_messages::AddRaftVoterRequest>(version, body),
        ApiKey::RemoveRaftVoter => go::<crate_messages::RemoveRaftVoterRequest>(version, body),
        ApiKey::InitializeShareGroupState => go::<crate_messages::InitializeShareGroupStateRequest>(version, body),
        ApiKey::ReadShareGroupState => go::<crate_messages::ReadShareGroupStateRequest>(version, body),
        ApiKey::WriteShareGroupState => go::<crate_messages::WriteShareGroupStateRequest>(version, body),
        ApiKey::DeleteShareGroupState => go::<crate_messages::DeleteShareGroupStateRequest>(version, body),
        ApiKey::ReadShareGroupStateSummary => go::<crate_messages::ReadShareGroupStateSummaryRequest>(version, body),
        ApiKey::DescribeShareGroupOffsets => go::<crate_messages::DescribeShareGroupOffsetsRequest>(version, body),
        ApiKey::AlterShareGroupOffsets => go::<crate_messages::AlterShareGroupOffsetsRequest>(version, body),
        ApiKey::DeleteShareGroupOffsets => go::<crate_messages::DeleteShareGroupOffsetsRequest>(version, body),
    }
}

/// Versions that Kafka 4.3.1 knows and the crate lacks, or claims and cannot decode; those served are in `protocol::messages`.
const LACKED: [(ApiKey, i16); 14] = [
    (ApiKey::ListOffsets, 11),
    (ApiKey::OffsetCommit, 10),
    (ApiKey::OffsetFetch, 10),
    (ApiKey::InitProducerId, 6),
    (ApiKey::WriteTxnMarkers, 2),
    (ApiKey::DescribeLogDirs, 5),
    (ApiKey::ShareFetch, 2),
    (ApiKey::ShareAcknowledge, 2),
    (ApiKey::AddRaftVoter, 1),
    (ApiKey::WriteShareGroupState, 1),
    (ApiKey::ReadShareGroupStateSummary, 1),
    (ApiKey::StreamsGroupHeartbeat, 0),
    (ApiKey::StreamsGroupDescribe, 0),
    (ApiKey::DescribeShareGroupOffsets, 1),
];

/// A small generator: enough for choices, the same at every run.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn many(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next(256) as u8).collect()
    }
}

impl Values for Random {
    fn below(&mut self, end: usize) -> usize {
        self.next(end as u64) as usize
    }

    fn fixed(&mut self, size: usize) -> Vec<u8> {
        self.many(size)
    }

    fn text(&mut self) -> String {
        let length = self.next(12);
        (0..length).map(|_| char::from(b'a' + self.next(26) as u8)).collect()
    }

    fn bytes(&mut self) -> Vec<u8> {
        let count = self.below(4);
        self.many(count)
    }
}

/// Each API with each of its versions.
fn all_versions() -> impl Iterator<Item = (ApiKey, &'static Message, i16)> {
    tables::REQUESTS.iter().flat_map(|message| {
        let api_key = ApiKey::from_code(message.api_key).expect("a key of the broker's");
        (message.versions.0..=message.versions.1).map(move |version| (api_key, message, version))
    })
}

#[test]
fn every_api_has_its_table_and_the_same_first_flexible_version() {
    let keys: Vec<_> = tables::REQUESTS.iter().map(|message| message.api_key).collect();
    assert_eq!(keys, ApiKey::ALL.iter().map(|key| key.code()).collect::<Vec<_>>());
    for (api_key, message, version) in all_versions() {
        assert_eq!(api_key.is_flexible(version), version >= message.flexible, "{api_key:?} {version}");
    }
}

#[test]
fn every_element_takes_at_least_a_byte() {
    fn check(fields: &[Field], version: i16, flexible: bool, name: &str) {
        assert!(flexible || fields.iter().any(|field| field.is_in(version)), "{name} is empty in version {version}");
        for field in fields {
            if let (true, Kind::Array(inner)) = (field.is_in(version), &field.kind) {
                check(inner, version, flexible, field.name);
            }
        }
    }
    for (_, message, version) in all_versions() {
        for field in message.fields {
            if let (true, Kind::Array(inner)) = (field.is_in(version), &field.kind) {
                check(inner, version, version >= message.flexible, field.name);
            }
        }
    }
}

#[test]
fn random_messages_walk_to_their_end_and_the_crate_agrees() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut lacked = BTreeSet::new();
    for (api_key, _, version) in all_versions() {
        for _ in 0..40 {
            let body = sample::request(&mut random, api_key, version).expect("a version of the table");
            let shape = check(api_key, version, &body).unwrap_or_else(|error| panic!("{api_key:?} {version}: {error}"));
            assert_eq!(shape.bytes, body.len(), "{api_key:?} {version}");
            let Some((left, encoded)) = through_crate(api_key, version, &body) else {
                lacked.insert((api_key, version));
                continue;
            };
            assert_eq!(left, 0, "{api_key:?} {version}: the crate left bytes");
            assert_eq!(
                check(api_key, version, &encoded).map(|shape| shape.bytes),
                Ok(encoded.len()),
                "{api_key:?} {version}"
            );
        }
    }
    assert_eq!(lacked, BTreeSet::from(LACKED));
}

#[test]
fn cut_messages_are_refused_and_damaged_ones_do_no_harm() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (api_key, _, version) in all_versions() {
        for _ in 0..10 {
            let mut body = sample::request(&mut random, api_key, version).expect("a version of the table");
            for end in 0..body.len() {
                assert!(check(api_key, version, &body[..end]).is_err(), "{api_key:?} {version} cut at {end}");
            }
            for _ in 0..10.min(body.len()) {
                let at = random.next(body.len() as u64) as usize;
                body[at] = random.next(256) as u8;
                if check(api_key, version, &body).is_ok() {
                    let _ = through_crate(api_key, version, &body); // does not panic, does not abort
                }
            }
        }
    }
}

#[rstest]
#[case::metadata(ApiKey::Metadata, 1, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0])]
#[case::metadata_flexible(ApiKey::Metadata, 12, &[0xff, 0xff, 0xff, 0xff, 0x07, 0, 0, 0])]
#[case::group_ids(ApiKey::DeleteGroups, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0])]
#[case::endless_tags(ApiKey::ListGroups, 3, &[0xff, 0xff, 0xff, 0xff, 0x0f])]
fn a_count_beyond_the_bytes_is_refused(#[case] api_key: ApiKey, #[case] version: i16, #[case] body: &[u8]) {
    assert!(matches!(check(api_key, version, body), Err(ShapeError::Field { error: ReadError::Truncated, .. })));
}

#[test]
fn null_where_none_may_be_is_refused_and_bytes_behind_are_not() {
    let null = check(ApiKey::DeleteGroups, 0, &[0xff, 0xff, 0xff, 0xff]);
    assert_eq!(null, Err(ShapeError::Field { name: "GroupsNames", error: ReadError::Null }));
    let longer = check(ApiKey::Metadata, 1, &[0, 0, 0, 0, 0xde, 0xad]);
    assert_eq!(longer, Ok(Shape { bytes: 4, elements: 0 }));
    let unknown = check(ApiKey::Metadata, 99, &[]);
    assert_eq!(unknown, Err(ShapeError::Version { api_key: ApiKey::Metadata, version: 99 }));
}
