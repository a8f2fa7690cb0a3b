//! Tiering switched on, to read-only and off (KIP-405, KIP-950), on two brokers with a remote storage of their own: which
//! alterations are refused with which words, where the log begins afterwards, and what ListOffsets says of both tiers.

use std::time::{Duration, Instant};

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest};
use terrace_protocol_tests::batch::Batch;

use crate::describe_configs::{TOPIC, alter};
use crate::scenario::{Scenario, describe_fetch, fetch_request, scenario_apart, scenario_configured, topic_name};

/// Apache Kafka's keys, and ours that it doesn't know: each leaves the other's alone.
const TIERED: [&str; 11] = [
    "remote.log.storage.system.enable=true",
    "remote.log.metadata.manager.listener.name=PLAINTEXT",
    "remote.log.storage.manager.class.name=org.apache.kafka.server.log.remote.storage.LocalTieredStorage",
    "rlmm.config.remote.log.metadata.topic.replication.factor=1",
    "rsm.config.dir={folder}/remote",
    "remote.log.manager.task.interval.ms=500",
    "log.retention.check.interval.ms=500",
    "log.initial.task.delay.ms=500",
    "remote.storage.uri=file://{folder}/store",
    "remote.storage.enable.default=false",
    "remote.delete.grace.ms=0",
];

const SET: i8 = 0;
const DELETE: i8 = 1;

/// A topic's settings, one step each.
fn set(s: &mut Scenario, topic: &str, values: &[(&str, &str)]) {
    let steps: Vec<_> = values.iter().map(|(key, value)| (*key, SET, Some(*value))).collect();
    alter(s, TOPIC, topic, &steps);
}

/// What ListOffsets answers for earliest, latest, earliest local, latest tiered and earliest pending upload.
fn listed(s: &mut Scenario, topic: &str) -> [i64; 5] {
    [-2, -1, -4, -5, -6].map(|timestamp| {
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![
            ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![
                ListOffsetsPartition::default().with_current_leader_epoch(-1).with_timestamp(timestamp),
            ]),
        ]);
        // Version 11, which knows -6, has the bytes of version 10, the crate's newest.
        let answer = s.client.call_as(11, 10, &request);
        let partition = &answer.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.timestamp), (0, -1));
        partition.offset
    })
}

/// Says what ListOffsets answers once it holds; both brokers work it off in the background.
fn say_once(s: &mut Scenario, topic: &str, what: &str, holds: impl Fn([i64; 5]) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = listed(s, topic);
        if holds(found) {
            return s.say(format!("{what}: {found:?}"));
        }
        assert!(Instant::now() < deadline, "{what} within 30 s, not {found:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One record, in a batch of its own that fills more than half a segment.
fn fill(s: &mut Scenario, topic: &str, values: &[&str]) {
    for value in values {
        let long = format!("{value}{}", ".".repeat(700_000));
        assert_eq!(s.produce(topic, 0, Batch::of(&[&long]).build()).error_code, 0);
    }
}

/// The error of a Fetch from this offset, and the first letters of what came.
fn fetched(s: &mut Scenario, topic: &str, offset: i64) {
    let answer = s.client.call(11, &fetch_request(topic, 0, offset, 1000));
    let words = describe_fetch(&answer).replace('.', "");
    s.say(format!("fetch {offset}: {words}"));
}

#[test]
fn tiering_is_switched_by_the_rules_of_kip_950() {
    scenario_configured(
        &TIERED,
        |s| {
            let t = s.topic(1, &[]);
            let (enable, disable) = (("remote.storage.enable", "true"), ("remote.storage.enable", "false"));
            let (read_only, with_data) =
                (("remote.log.copy.disable", "true"), ("remote.log.delete.on.disable", "true"));
            set(s, &t, &[disable]);
            set(s, &t, &[read_only]);
            set(s, &t, &[("local.retention.ms", "1000")]);
            // Tiered and without copies, but the two retentions differ: which is named first?
            set(s, &t, &[enable]);
            set(s, &t, &[enable, ("local.retention.bytes", "1000"), ("retention.bytes", "2000")]);
            set(
                s,
                &t,
                &[enable, ("local.retention.ms", "-2"), ("local.retention.bytes", "1000"), ("retention.bytes", "2000")],
            );
            set(s, &t, &[enable, ("local.retention.ms", "604800000")]);
            // Tiered: what may it become?
            set(s, &t, &[disable]);
            alter(s, TOPIC, &t, &[("remote.storage.enable", DELETE, None)]);
            set(s, &t, &[disable, ("remote.log.copy.disable", "false")]);
            set(s, &t, &[disable, ("cleanup.policy", "compact")]);
            set(s, &t, &[("local.retention.ms", "604800001")]);
            set(
                s,
                &t,
                &[("local.retention.ms", "604800001"), ("local.retention.bytes", "10"), ("retention.bytes", "5")],
            );
            set(s, &t, &[("local.retention.ms", "1000")]);
            set(s, &t, &[("remote.log.copy.disable", "false"), ("local.retention.ms", "1000")]);
            set(s, &t, &[with_data]);
            set(s, &t, &[disable]);
            // No longer tiered: everything goes again.
            set(s, &t, &[("cleanup.policy", "compact")]);
            set(s, &t, &[("cleanup.policy", "delete"), ("remote.log.delete.on.disable", "x")]);
        },
        r#"altered: 0 None
           altered: 0 None
           altered: 0 None
           altered: 40 Some("When `remote.log.copy.disable` is set to true, the `local.retention.ms` and `retention.ms` must be set to the identical value because there will be no more logs copied to the remote storage.")
           altered: 40 Some("When `remote.log.copy.disable` is set to true, the `local.retention.bytes` and `retention.bytes` must be set to the identical value because there will be no more logs copied to the remote storage.")
           altered: 40 Some("When `remote.log.copy.disable` is set to true, the `local.retention.bytes` and `retention.bytes` must be set to the identical value because there will be no more logs copied to the remote storage.")
           altered: 0 None
           altered: 40 Some("It is invalid to disable remote storage without deleting remote data. If you want to keep the remote data and turn to read only, please set `remote.storage.enable=true,remote.log.copy.disable=true`. If you want to disable remote storage and delete all remote data, please set `remote.storage.enable=false,remote.log.delete.on.disable=true`.")
           altered: 40 Some("It is invalid to disable remote storage without deleting remote data. If you want to keep the remote data and turn to read only, please set `remote.storage.enable=true,remote.log.copy.disable=true`. If you want to disable remote storage and delete all remote data, please set `remote.storage.enable=false,remote.log.delete.on.disable=true`.")
           altered: 40 Some("It is invalid to disable remote storage without deleting remote data. If you want to keep the remote data and turn to read only, please set `remote.storage.enable=true,remote.log.copy.disable=true`. If you want to disable remote storage and delete all remote data, please set `remote.storage.enable=false,remote.log.delete.on.disable=true`.")
           altered: 40 Some("It is invalid to disable remote storage without deleting remote data. If you want to keep the remote data and turn to read only, please set `remote.storage.enable=true,remote.log.copy.disable=true`. If you want to disable remote storage and delete all remote data, please set `remote.storage.enable=false,remote.log.delete.on.disable=true`.")
           altered: 40 Some("Invalid value 604800001 for configuration local.retention.ms: Value must not be more than retention.ms property value: 604800000")
           altered: 40 Some("Invalid value 10 for configuration local.retention.bytes: Value must not be more than retention.bytes property value: 5")
           altered: 40 Some("When `remote.log.copy.disable` is set to true, the `local.retention.ms` and `retention.ms` must be set to the identical value because there will be no more logs copied to the remote storage.")
           altered: 0 None
           altered: 0 None
           altered: 0 None
           altered: 0 None
           altered: 40 Some("Invalid value x for configuration remote.log.delete.on.disable: Expected value to be either true or false")"#,
    );
}

#[test]
fn a_topic_is_tiered_kept_read_only_and_given_up() {
    scenario_configured(
        &TIERED,
        |s| {
            // The records' times are years old.
            let configs = [("segment.bytes", "1048576"), ("file.delete.delay.ms", "0"), ("retention.ms", "-1")];
            let t = s.topic(1, &configs);
            fill(s, &t, &["a", "b", "c"]);
            say_once(s, &t, "not tiered", |_| true);
            set(s, &t, &[("remote.storage.enable", "true")]);
            say_once(s, &t, "tiered", |found| found[3] == 1);
            set(s, &t, &[("local.retention.bytes", "1")]);
            say_once(s, &t, "mostly remote", |found| found[2] == 2);
            fetched(s, &t, 0);
            set(s, &t, &[("local.retention.bytes", "-2"), ("remote.log.copy.disable", "true")]);
            fill(s, &t, &["d", "e"]);
            // Some passes of both brokers' jobs, in which nothing may happen.
            std::thread::sleep(Duration::from_secs(2));
            say_once(s, &t, "read-only", |_| true);
            fetched(s, &t, 0);
            set(s, &t, &[("remote.log.copy.disable", "false")]);
            say_once(s, &t, "copying again", |found| found[3] == 3);
            set(s, &t, &[("remote.storage.enable", "false"), ("remote.log.delete.on.disable", "true")]);
            say_once(s, &t, "given up", |found| found[0] != 0);
            fetched(s, &t, 0);
            fetched(s, &t, 2);
            set(s, &t, &[("remote.storage.enable", "true")]);
            say_once(s, &t, "tiered again", |found| found[3] == 3);
            fetched(s, &t, 2);
        },
        "not tiered: [0, 3, 0, -1, -1]
           altered: 0 None
           tiered: [0, 3, 0, 1, 2]
           altered: 0 None
           mostly remote: [0, 3, 2, 1, 2]
           fetch 0: error 0; p0 error 0 hw 3 [a]
           altered: 0 None
           read-only: [0, 5, 2, 1, 2]
           fetch 0: error 0; p0 error 0 hw 5 [a]
           altered: 0 None
           copying again: [0, 5, 2, 3, 4]
           altered: 0 None
           given up: [2, 5, 2, -1, -1]
           fetch 0: error 0; p0 error 1 hw -1 []
           fetch 2: error 0; p0 error 0 hw 5 [c]
           altered: 0 None
           tiered again: [2, 5, 2, 3, 4]
           fetch 2: error 0; p0 error 0 hw 5 [c]",
    );
}

/// Apache Kafka refuses to tier what is compacted (docs/compatibility.md); the other rules count for it as for any topic.
#[test]
fn a_compacted_topic_is_tiered_here_and_refused_by_kafka() {
    let expected = |tiered: &str| {
        let kept = "altered: 40 Some(\"It is invalid to disable remote storage without deleting remote data. If you want to \
                    keep the remote data and turn to read only, please set \
                    `remote.storage.enable=true,remote.log.copy.disable=true`. If you want to disable remote storage and \
                    delete all remote data, please set `remote.storage.enable=false,remote.log.delete.on.disable=true`.\")";
        format!(
            "altered: 0 None
             {tiered}
             {tiered}
             {tiered}
             altered: 40 Some(\"Invalid value 604800001 for configuration local.retention.ms: Value must not be more than \
             retention.ms property value: 604800000\")
             {kept}
             altered: 0 None
             altered: 0 None"
        )
    };
    scenario_apart(
        &TIERED,
        |s| {
            let (enable, disable) = (("remote.storage.enable", "true"), ("remote.storage.enable", "false"));
            let compacted = s.topic(1, &[("cleanup.policy", "delete")]);
            set(s, &compacted, &[("cleanup.policy", "compact")]);
            set(s, &compacted, &[enable]);
            let tiered = s.topic(1, &[enable]);
            set(s, &tiered, &[("cleanup.policy", "compact")]);
            set(s, &tiered, &[("cleanup.policy", "compact,delete")]);
            set(s, &tiered, &[("local.retention.ms", "604800001")]);
            set(s, &tiered, &[disable]);
            set(s, &tiered, &[disable, ("remote.log.delete.on.disable", "true"), ("cleanup.policy", "compact")]);
            set(s, &tiered, &[("cleanup.policy", "delete")]);
        },
        &expected("altered: 0 None"),
        &expected(
            "altered: 40 Some(\"Remote log storage only supports topics with cleanup.policy=delete or cleanup.policy being \
             an empty list.\")",
        ),
    );
}
