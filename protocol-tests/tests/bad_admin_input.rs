//! Requests of the administrative APIs, and of those of groups and transactions that answer at once, with bytes changed, cut off or replaced: each gets an answer or a closed connection,
//! and nothing panics.

use kafka_protocol::messages::*;
use kafka_protocol::protocol::Encodable;
use terrace_protocol_tests::broker::{Broker, Options};
use terrace_protocol_tests::raw_client::RawClient;
use terrace_protocol_tests::requests::{text, topic_name};

/// The APIs that are asked.
const KEYS: [ApiKey; 31] = [
    ApiKey::AlterConfigs,
    ApiKey::AlterReplicaLogDirs,
    ApiKey::ElectLeaders,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::AlterPartitionReassignments,
    ApiKey::ListPartitionReassignments,
    ApiKey::DescribeClientQuotas,
    ApiKey::AlterClientQuotas,
    ApiKey::DescribeQuorum,
    ApiKey::UpdateFeatures,
    ApiKey::UnregisterBroker,
    ApiKey::GetTelemetrySubscriptions,
    ApiKey::PushTelemetry,
    ApiKey::ListConfigResources,
    ApiKey::DescribeConfigs,
    ApiKey::FindCoordinator,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::OffsetDelete,
    ApiKey::DescribeGroups,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
    ApiKey::InitProducerId,
    ApiKey::AddPartitionsToTxn,
    ApiKey::AddOffsetsToTxn,
    ApiKey::EndTxn,
    ApiKey::TxnOffsetCommit,
    ApiKey::DescribeProducers,
    ApiKey::DescribeTransactions,
];

/// Sound requests, and what becomes of them: a part of it, some bytes changed to those that lengths and counts are made of,
/// and noise behind a sound header.
#[test]
fn changed_requests_get_an_answer_or_a_closed_connection() {
    let broker = Broker::start(&Options::new());
    let ranges = {
        let answer = RawClient::connect(broker.kafka).call(0, &ApiVersionsRequest::default());
        answer.api_keys.iter().map(|row| (row.api_key, row.min_version..=row.max_version)).collect::<Vec<_>>()
    };
    let mut random = Random(7);
    for (key, versions) in ranges.into_iter().filter(|(key, _)| KEYS.iter().any(|asked| *asked as i16 == *key)) {
        for version in versions {
            for round in 0..16 {
                let sound = sound_body(key, version).unwrap_or_default();
                let body = match round {
                    0 => sound,
                    1 => sound[..random.below(sound.len() + 1)].to_vec(),
                    2..12 => random.change(sound),
                    _ => (0..random.below(120)).map(|_| random.next() as u8).collect(),
                };
                let mut client = RawClient::connect(broker.kafka);
                client.set_read_timeout(std::time::Duration::from_secs(20));
                let header = header_version(key, version);
                client.send_encoded(key, version, header, &body);
                client.close_sending();
                client.read_until_closed();
            }
        }
    }
    let mut client = RawClient::connect(broker.kafka);
    assert_eq!(client.call(0, &ApiVersionsRequest::default()).error_code, 0);
    let output = broker.output();
    assert!(!output.iter().any(|line| line.contains("panicked")), "{}", output.join("\n"));
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as u32
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end.max(1)
    }

    /// A few bytes replaced by those that lengths and counts are made of.
    fn change(&mut self, mut body: Vec<u8>) -> Vec<u8> {
        for _ in 0..3.min(body.len()) {
            let at = self.below(body.len());
            body[at] = [0, 1, 0x7f, 0x80, 0xff, self.next() as u8][self.below(6)];
        }
        body
    }
}

fn header_version(key: i16, version: i16) -> i16 {
    ApiKey::try_from(key).map_or(1, |key| key.request_header_version(version))
}

/// A request with one element in each of its arrays, by the crate.
fn sound_body(key: i16, version: i16) -> Option<Vec<u8>> {
    let mut body = bytes::BytesMut::new();
    let encoded = match ApiKey::try_from(key).ok()? {
        ApiKey::AlterConfigs => AlterConfigsRequest::default()
            .with_resources(vec![
                alter_configs_request::AlterConfigsResource::default()
                    .with_resource_type(16)
                    .with_resource_name(text("r"))
                    .with_configs(vec![
                        alter_configs_request::AlterableConfig::default()
                            .with_name(text("interval.ms"))
                            .with_value(Some(text("100"))),
                    ]),
            ])
            .encode(&mut body, version),
        ApiKey::IncrementalAlterConfigs => IncrementalAlterConfigsRequest::default()
            .with_resources(vec![
                incremental_alter_configs_request::AlterConfigsResource::default()
                    .with_resource_type(8)
                    .with_resource_name(text("1"))
                    .with_configs(vec![
                        incremental_alter_configs_request::AlterableConfig::default()
                            .with_name(text("root"))
                            .with_value(Some(text("INFO"))),
                    ]),
            ])
            .encode(&mut body, version),
        ApiKey::ElectLeaders => ElectLeadersRequest::default()
            .with_timeout_ms(100)
            .with_topic_partitions(Some(vec![
                elect_leaders_request::TopicPartitions::default().with_topic(text("t").into()).with_partitions(vec![0]),
            ]))
            .encode(&mut body, version),
        ApiKey::AlterPartitionReassignments => AlterPartitionReassignmentsRequest::default()
            .with_timeout_ms(100)
            .with_topics(vec![
                alter_partition_reassignments_request::ReassignableTopic::default()
                    .with_name(text("t").into())
                    .with_partitions(vec![
                        alter_partition_reassignments_request::ReassignablePartition::default()
                            .with_replicas(Some(vec![BrokerId(1)])),
                    ]),
            ])
            .encode(&mut body, version),
        ApiKey::ListPartitionReassignments => ListPartitionReassignmentsRequest::default()
            .with_topics(Some(vec![
                list_partition_reassignments_request::ListPartitionReassignmentsTopics::default()
                    .with_name(text("t").into())
                    .with_partition_indexes(vec![0]),
            ]))
            .encode(&mut body, version),
        ApiKey::AlterReplicaLogDirs => AlterReplicaLogDirsRequest::default()
            .with_dirs(vec![
                alter_replica_log_dirs_request::AlterReplicaLogDir::default().with_path(text("/d")).with_topics(vec![
                    alter_replica_log_dirs_request::AlterReplicaLogDirTopic::default()
                        .with_name(text("t").into())
                        .with_partitions(vec![0]),
                ]),
            ])
            .encode(&mut body, version),
        ApiKey::AlterClientQuotas => AlterClientQuotasRequest::default()
            .with_entries(vec![
                alter_client_quotas_request::EntryData::default()
                    .with_entity(vec![
                        alter_client_quotas_request::EntityData::default()
                            .with_entity_type(text("user"))
                            .with_entity_name(Some(text("u"))),
                    ])
                    .with_ops(vec![
                        alter_client_quotas_request::OpData::default()
                            .with_key(text("producer_byte_rate"))
                            .with_value(1.0),
                    ]),
            ])
            .encode(&mut body, version),
        ApiKey::DescribeClientQuotas => DescribeClientQuotasRequest::default()
            .with_components(vec![
                describe_client_quotas_request::ComponentData::default()
                    .with_entity_type(text("user"))
                    .with_match_type(2)
                    .with_match(None),
            ])
            .encode(&mut body, version),
        ApiKey::DescribeQuorum => DescribeQuorumRequest::default()
            .with_topics(vec![
                describe_quorum_request::TopicData::default()
                    .with_topic_name(text("__cluster_metadata").into())
                    .with_partitions(vec![describe_quorum_request::PartitionData::default()]),
            ])
            .encode(&mut body, version),
        ApiKey::UpdateFeatures => UpdateFeaturesRequest::default()
            .with_feature_updates(vec![
                update_features_request::FeatureUpdateKey::default()
                    .with_feature(text("group.version"))
                    .with_max_version_level(1),
            ])
            .encode(&mut body, version),
        ApiKey::UnregisterBroker => UnregisterBrokerRequest::default().encode(&mut body, version),
        ApiKey::ListConfigResources if version > 0 => {
            ListConfigResourcesRequest::default().with_resource_types(vec![2]).encode(&mut body, version)
        }
        ApiKey::GetTelemetrySubscriptions => GetTelemetrySubscriptionsRequest::default().encode(&mut body, version),
        ApiKey::PushTelemetry => PushTelemetryRequest::default()
            .with_client_instance_id(uuid::Uuid::from_u128(9))
            .with_metrics(vec![10, 0, 10, 2, 18, 0].into())
            .encode(&mut body, version),
        key => return encode_group_or_transaction(key, version, &mut body).map(|()| body.to_vec()),
    };
    encoded.ok().map(|()| body.to_vec())
}

/// The same for groups and transactions.
fn encode_group_or_transaction(key: ApiKey, version: i16, body: &mut bytes::BytesMut) -> Option<()> {
    let (group, topic) = (GroupId(text("g")), topic_name("t"));
    let id = TransactionalId(text("id"));
    let encoded = match key {
        ApiKey::FindCoordinator if version < 4 => {
            FindCoordinatorRequest::default().with_key(text("g")).encode(body, version)
        }
        ApiKey::FindCoordinator => {
            FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]).encode(body, version)
        }
        ApiKey::Heartbeat => {
            HeartbeatRequest::default().with_group_id(group).with_member_id(text("m")).encode(body, version)
        }
        ApiKey::LeaveGroup if version < 3 => {
            LeaveGroupRequest::default().with_group_id(group).with_member_id(text("m")).encode(body, version)
        }
        ApiKey::LeaveGroup => LeaveGroupRequest::default()
            .with_group_id(group)
            .with_members(vec![leave_group_request::MemberIdentity::default().with_member_id(text("m"))])
            .encode(body, version),
        ApiKey::OffsetCommit => OffsetCommitRequest::default()
            .with_group_id(group)
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![
                offset_commit_request::OffsetCommitRequestTopic::default()
                    .with_name(topic)
                    .with_partitions(vec![offset_commit_request::OffsetCommitRequestPartition::default()]),
            ])
            .encode(body, version),
        ApiKey::OffsetFetch if version < 8 => OffsetFetchRequest::default()
            .with_group_id(group)
            .with_topics(Some(vec![
                offset_fetch_request::OffsetFetchRequestTopic::default()
                    .with_name(topic)
                    .with_partition_indexes(vec![0]),
            ]))
            .encode(body, version),
        ApiKey::OffsetFetch => OffsetFetchRequest::default()
            .with_groups(vec![offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(group)])
            .encode(body, version),
        ApiKey::OffsetDelete => OffsetDeleteRequest::default()
            .with_group_id(group)
            .with_topics(vec![
                offset_delete_request::OffsetDeleteRequestTopic::default()
                    .with_name(topic)
                    .with_partitions(vec![offset_delete_request::OffsetDeleteRequestPartition::default()]),
            ])
            .encode(body, version),
        ApiKey::DescribeGroups => DescribeGroupsRequest::default().with_groups(vec![group]).encode(body, version),
        ApiKey::ConsumerGroupHeartbeat => ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group)
            .with_member_id(text("m"))
            .with_rebalance_timeout_ms(1000)
            .with_subscribed_topic_names(Some(vec![topic]))
            .with_topic_partitions(Some(vec![]))
            .encode(body, version),
        ApiKey::ConsumerGroupDescribe => {
            ConsumerGroupDescribeRequest::default().with_group_ids(vec![group]).encode(body, version)
        }
        ApiKey::InitProducerId => InitProducerIdRequest::default()
            .with_transactional_id(Some(id))
            .with_transaction_timeout_ms(1000)
            .encode(body, version),
        ApiKey::AddPartitionsToTxn => {
            let topics = vec![
                add_partitions_to_txn_request::AddPartitionsToTxnTopic::default()
                    .with_name(topic)
                    .with_partitions(vec![0]),
            ];
            let request = AddPartitionsToTxnRequest::default();
            match version {
                0..4 => request.with_v3_and_below_transactional_id(id).with_v3_and_below_topics(topics),
                _ => request.with_transactions(vec![
                    add_partitions_to_txn_request::AddPartitionsToTxnTransaction::default()
                        .with_transactional_id(id)
                        .with_topics(topics),
                ]),
            }
            .encode(body, version)
        }
        ApiKey::AddOffsetsToTxn => {
            AddOffsetsToTxnRequest::default().with_transactional_id(id).with_group_id(group).encode(body, version)
        }
        ApiKey::EndTxn => EndTxnRequest::default().with_transactional_id(id).encode(body, version),
        ApiKey::TxnOffsetCommit => TxnOffsetCommitRequest::default()
            .with_transactional_id(id)
            .with_group_id(group)
            .with_topics(vec![
                txn_offset_commit_request::TxnOffsetCommitRequestTopic::default()
                    .with_name(topic)
                    .with_partitions(vec![txn_offset_commit_request::TxnOffsetCommitRequestPartition::default()]),
            ])
            .encode(body, version),
        ApiKey::DescribeProducers => DescribeProducersRequest::default()
            .with_topics(vec![
                describe_producers_request::TopicRequest::default().with_name(topic).with_partition_indexes(vec![0]),
            ])
            .encode(body, version),
        ApiKey::DescribeTransactions => {
            DescribeTransactionsRequest::default().with_transactional_ids(vec![id]).encode(body, version)
        }
        _ => return None,
    };
    encoded.ok()
}
