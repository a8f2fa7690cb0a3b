use bytes::BytesMut;
use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16));
    digits.collect::<Result<_, _>>().unwrap()
}

fn tasks(subtopology: &str, partitions: &[i32]) -> Vec<TaskIds> {
    vec![TaskIds { subtopology: subtopology.into(), partitions: partitions.to_vec() }]
}

fn pair() -> Pair {
    ("k".into(), "v".into())
}

fn topic(name: &str, partitions: i32, replication_factor: i16, configs: Vec<Pair>) -> TopicInfo {
    TopicInfo { name: name.into(), partitions, replication_factor, configs }
}

// All bytes below as the message classes of Kafka write them: version 0 of 4.3.1, version 1 of 4.4.0.

#[test]
fn a_heartbeat_is_read() {
    let body = bytes(
        "0267026d00000000ffffffff00027200000009010000000302023002027302026502026300000000000102026b02760000020278020279000000\
         04000001000202000001020000000000020230020000000100010002700102689c400002026b02760002023000000001000000000000000200\
         000100",
    );
    let subtopology = Subtopology {
        id: "0".into(),
        source_topics: vec!["s".into()],
        source_topic_regex: vec!["e".into()],
        changelog_topics: vec![topic("c", 0, 1, vec![pair()])],
        repartition_sinks: vec!["x".into()],
        repartition_sources: vec![topic("y", 4, 0, vec![])],
        copartition_groups: vec![[vec![0], vec![], vec![0]]],
    };
    let expected = StreamsGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: "m".into(),
        member_epoch: 0,
        endpoint_epoch: -1,
        instance_id: None,
        rack_id: Some("r".into()),
        rebalance_timeout_ms: 9,
        topology: Some((3, vec![subtopology])),
        active_tasks: Some(tasks("0", &[1])),
        standby_tasks: Some(vec![]),
        warmup_tasks: None,
        process_id: Some("p".into()),
        endpoint: Some(Endpoint { host: "h".into(), port: 40_000 }),
        client_tags: Some(vec![pair()]),
        has_task_offsets: true,
        has_task_end_offsets: false,
        shutdown_application: true,
    };
    assert_eq!(StreamsGroupHeartbeatRequest::decode(&body), Ok(expected));
    for end in 0..body.len() {
        assert!(StreamsGroupHeartbeatRequest::decode(&body[..end]).is_err(), "cut at {end}");
    }
}

fn answer() -> StreamsGroupHeartbeatResponse {
    StreamsGroupHeartbeatResponse {
        member_id: "m".into(),
        member_epoch: 5,
        heartbeat_interval_ms: 5000,
        statuses: Some(vec![HeartbeatStatus { code: 5, detail: "d".into() }]),
        tasks: Some([tasks("0", &[0, 1]), vec![], vec![]]),
        endpoint_epoch: 4,
        endpoints: Some(vec![EndpointToPartitions {
            endpoint: Endpoint { host: "h".into(), port: 40_000 },
            active: vec![("t".into(), vec![0, 1])],
            standby: vec![],
        }]),
        ..StreamsGroupHeartbeatResponse::default()
    }
}

fn error() -> StreamsGroupHeartbeatResponse {
    StreamsGroupHeartbeatResponse {
        error_code: 25,
        error_message: Some("no".into()),
        ..StreamsGroupHeartbeatResponse::default()
    }
}

#[rstest]
#[case::v0(
    answer(),
    0,
    "00000000000000026d000000050000138800000000000000000205026400020230030000000000000001000101000000040202\
                         689c400002027403000000000000000100010000"
)]
#[case::v1(
    answer(),
    1,
    "00000000000000026d000000050000138800000000ffffffffffffffff020502640002023003000000000000000100010100\
                         000000040202689c400002027403000000000000000100010000"
)]
#[case::error(error(), 0, "000000000019036e6f010000000000000000000000000000000000000000000000000000")]
#[case::error_v1(error(), 1, "000000000019036e6f01000000000000000000000000ffffffffffffffff0000000000000000000000")]
fn a_heartbeat_is_answered(
    #[case] answer: StreamsGroupHeartbeatResponse,
    #[case] version: i16,
    #[case] expected: &str,
) {
    let mut out = BytesMut::new();
    answer.encode(version, &mut out);
    assert_eq!(out, bytes(expected));
}

#[test]
fn groups_are_described() {
    let expected =
        StreamsGroupDescribeRequest { group_ids: vec!["g".into(), "h".into()], include_authorized_operations: true };
    assert_eq!(StreamsGroupDescribeRequest::decode(&bytes("03026702680100")), Ok(expected));
    let topology = DescribedTopology {
        epoch: 1,
        subtopologies: vec![Subtopology {
            id: "0".into(),
            source_topics: vec!["s".into()],
            source_topic_regex: vec![],
            changelog_topics: vec![topic("c", 3, 1, vec![pair()])],
            repartition_sinks: vec!["x".into()],
            repartition_sources: vec![],
            copartition_groups: vec![],
        }],
    };
    let member = DescribedMember {
        id: "m".into(),
        epoch: 3,
        instance_id: None,
        rack_id: Some("r".into()),
        client_id: "c".into(),
        client_host: "/h".into(),
        topology_epoch: 1,
        process_id: "p".into(),
        endpoint: Some(Endpoint { host: "e".into(), port: 40_000 }),
        client_tags: vec![pair()],
        assignment: [tasks("0", &[1]), vec![], vec![]],
        target: [vec![], tasks("0", &[2]), vec![]],
    };
    let group = DescribedGroup {
        group_id: "g".into(),
        state: "Stable".into(),
        epoch: 3,
        assignment_epoch: 2,
        topology: Some(topology),
        members: vec![member],
        authorized_operations: i32::MIN,
        ..DescribedGroup::default()
    };
    let mut out = BytesMut::new();
    write_described(&[group], &mut out);
    let expected = "0000000002000000026707537461626c650000000300000002010000000102023002027302027802026300000003000102026b0276\
                    000001000002026d000000030002720263032f680000000102700102659c400002026b02760001010202300200000001000101\
                    000102023002000000020001000000800000000000";
    assert_eq!(out, bytes(expected));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read(body: Vec<u8>) {
        let _ = StreamsGroupHeartbeatRequest::decode(&body);
        let _ = StreamsGroupDescribeRequest::decode(&body);
    }
}
