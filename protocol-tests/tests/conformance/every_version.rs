//! Each API at each version that is advertised: a plain request gets an answer that decodes, never a closed connection.
//! (What the crate cannot encode or decode is tested beside our own codecs.)

use kafka_protocol::messages::*;
use terrace_protocol_tests::batch::Batch;
use terrace_protocol_tests::broker::{Broker, Options};
use terrace_protocol_tests::raw_client::RawClient;

use crate::scenario::{Scenario, fetch_request, produce_request, text, topic_name};

/// Sends one request of each version that both we advertise and the crate can encode.
macro_rules! ask {
    ($client:expr, $advertised:expr, $request:expr, $versions:expr) => {{
        let request = $request;
        let key = key_of(&request);
        let (min, max) = $advertised[&key];
        for version in $versions {
            if (min..=max).contains(&version) {
                $client.call(version, &request(version));
            }
        }
    }};
}

fn key_of<R: kafka_protocol::protocol::Request>(_: &impl Fn(i16) -> R) -> i16 {
    R::KEY
}

#[test]
fn a_plain_request_of_every_version_is_answered() {
    let broker = Broker::start(&Options::new());
    let mut s = Scenario::on(broker.kafka);
    let topic = s.topic(2, &[]);
    let t = topic.as_str();
    s.produce(t, 0, Batch::of(&["a"]).build());
    let mut client = RawClient::connect(broker.kafka);
    let advertised: std::collections::HashMap<i16, (i16, i16)> = client
        .call(
            3,
            &ApiVersionsRequest::default().with_client_software_name(text("t")).with_client_software_version(text("1")),
        )
        .api_keys
        .iter()
        .map(|row| (row.api_key, (row.min_version, row.max_version)))
        .collect();
    let g = || GroupId(text("g"));

    ask!(client, advertised, |_| produce_request(t, -1, &[(0, Some(Batch::of(&["b"]).build()))]), 3..=12);
    ask!(client, advertised, |_| fetch_request(t, 0, 0, 10), 4..=12);
    ask!(
        client,
        advertised,
        |_| ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![
            list_offsets_request::ListOffsetsTopic::default().with_name(topic_name(t)).with_partitions(vec![
                list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(-1)
            ])
        ]),
        1..=10
    );
    ask!(
        client,
        advertised,
        |_| MetadataRequest::default()
            .with_topics(Some(vec![metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(t)))])),
        0..=13
    );
    ask!(
        client,
        advertised,
        |v| if v < 3 {
            ApiVersionsRequest::default()
        } else {
            ApiVersionsRequest::default().with_client_software_name(text("t")).with_client_software_version(text("1"))
        },
        0..=4
    );
    ask!(
        client,
        advertised,
        |_| CreateTopicsRequest::default().with_timeout_ms(1000).with_topics(vec![
            create_topics_request::CreatableTopic::default()
                .with_name(topic_name(t))
                .with_num_partitions(1)
                .with_replication_factor(1)
        ]),
        2..=7
    );
    ask!(
        client,
        advertised,
        |v| if v < 6 {
            DeleteTopicsRequest::default().with_timeout_ms(1000).with_topic_names(vec![topic_name("none")])
        } else {
            DeleteTopicsRequest::default().with_timeout_ms(1000).with_topics(vec![
                delete_topics_request::DeleteTopicState::default().with_name(Some(topic_name("none"))),
            ])
        },
        1..=6
    );
    ask!(
        client,
        advertised,
        |_| DeleteRecordsRequest::default().with_timeout_ms(1000).with_topics(vec![
            delete_records_request::DeleteRecordsTopic::default().with_name(topic_name(t)).with_partitions(vec![
                delete_records_request::DeleteRecordsPartition::default().with_partition_index(1).with_offset(-1)
            ])
        ]),
        0..=2
    );
    ask!(
        client,
        advertised,
        |_| InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(1000),
        0..=5
    );
    ask!(
        client,
        advertised,
        |_| OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-2)).with_topics(vec![
            offset_for_leader_epoch_request::OffsetForLeaderTopic::default().with_topic(topic_name(t)).with_partitions(
                vec![
                    offset_for_leader_epoch_request::OffsetForLeaderPartition::default().with_current_leader_epoch(-1)
                ]
            )
        ]),
        2..=4
    );
    ask!(
        client,
        advertised,
        |_| DescribeConfigsRequest::default().with_resources(
            [(2, t), (4, "1"), (2, "none")]
                .iter()
                .map(|(kind, name)| {
                    describe_configs_request::DescribeConfigsResource::default()
                        .with_resource_type(*kind)
                        .with_resource_name(text(name))
                        .with_configuration_keys(None)
                })
                .collect()
        ),
        1..=4
    );
    ask!(client, advertised, |_| DescribeLogDirsRequest::default().with_topics(None), 1..=4);
    ask!(
        client,
        advertised,
        |_| CreatePartitionsRequest::default().with_timeout_ms(1000).with_topics(vec![
            create_partitions_request::CreatePartitionsTopic::default()
                .with_name(topic_name(t))
                .with_count(1)
                .with_assignments(None)
        ]),
        0..=3
    );
    ask!(
        client,
        advertised,
        |_| IncrementalAlterConfigsRequest::default().with_resources(vec![
            incremental_alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text(t))
                .with_configs(vec![
                    incremental_alter_configs_request::AlterableConfig::default()
                        .with_name(text("retention.ms"))
                        .with_value(Some(text("1000000")))
                ])
        ]),
        0..=1
    );
    ask!(client, advertised, |_| DescribeClusterRequest::default(), 0..=2);
    ask!(
        client,
        advertised,
        |_| DescribeTopicPartitionsRequest::default()
            .with_response_partition_limit(100)
            .with_topics(vec![describe_topic_partitions_request::TopicRequest::default().with_name(topic_name(t))]),
        0..=0
    );
    ask!(
        client,
        advertised,
        |v| if v < 4 {
            FindCoordinatorRequest::default().with_key(text("g"))
        } else {
            FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")])
        },
        0..=6
    );
    ask!(
        client,
        advertised,
        |_| JoinGroupRequest::default()
            .with_group_id(g())
            .with_session_timeout_ms(1)
            .with_protocol_type(text("consumer")),
        0..=9
    );
    ask!(client, advertised, |_| SyncGroupRequest::default().with_group_id(g()).with_member_id(text("m")), 0..=5);
    ask!(client, advertised, |_| HeartbeatRequest::default().with_group_id(g()).with_member_id(text("m")), 0..=4);
    ask!(
        client,
        advertised,
        |v| if v < 3 {
            LeaveGroupRequest::default().with_group_id(g()).with_member_id(text("m"))
        } else {
            LeaveGroupRequest::default()
                .with_group_id(g())
                .with_members(vec![leave_group_request::MemberIdentity::default().with_member_id(text("m"))])
        },
        0..=5
    );
    ask!(
        client,
        advertised,
        |_| OffsetCommitRequest::default().with_group_id(g()).with_generation_id_or_member_epoch(-1).with_topics(vec![
            offset_commit_request::OffsetCommitRequestTopic::default().with_name(topic_name(t)).with_partitions(vec![
                offset_commit_request::OffsetCommitRequestPartition::default()
                    .with_committed_offset(1)
                    .with_committed_leader_epoch(-1)
            ])
        ]),
        2..=9
    );
    ask!(
        client,
        advertised,
        |v| if v < 8 {
            OffsetFetchRequest::default().with_group_id(g()).with_topics(Some(vec![
                offset_fetch_request::OffsetFetchRequestTopic::default()
                    .with_name(topic_name(t))
                    .with_partition_indexes(vec![0, 1]),
            ]))
        } else {
            OffsetFetchRequest::default().with_groups(vec![
                offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(g()).with_topics(None),
            ])
        },
        1..=9
    );
    ask!(
        client,
        advertised,
        |_| OffsetDeleteRequest::default().with_group_id(g()).with_topics(vec![
            offset_delete_request::OffsetDeleteRequestTopic::default().with_name(topic_name(t)).with_partitions(vec![
                offset_delete_request::OffsetDeleteRequestPartition::default().with_partition_index(1)
            ])
        ]),
        0..=0
    );
    ask!(client, advertised, |_| DescribeGroupsRequest::default().with_groups(vec![g(), GroupId(text("none"))]), 0..=6);
    ask!(client, advertised, |_| ListGroupsRequest::default(), 0..=5);
    ask!(client, advertised, |_| DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("none"))]), 0..=2);
}
