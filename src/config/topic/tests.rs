use std::path::Path;

use rstest::rstest;

use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn broker(text: &str) -> BrokerConfig {
    let mut given = Given::default();
    given.read_text(Path::new("f"), text).expect("syntax");
    BrokerConfig::build(&given, None).expect("valid")
}

fn resolve(text: &str, overrides: &[(&str, &str)]) -> TopicConfig {
    TopicConfig::resolve(&broker(text), Dynamic::none(), "t", &map(overrides))
}

#[test]
fn a_topic_without_settings_is_kafkas_but_tiered() {
    let topic = resolve("", &[]);
    assert_eq!(topic.cleanup_policy, CleanupPolicy { delete: true, compact: false });
    assert_eq!((topic.retention_ms, topic.retention_bytes), (Some(604_800_000), None));
    assert_eq!((topic.local_retention_ms, topic.local_retention_bytes), (Some(604_800_000), None));
    assert_eq!((topic.segment_bytes, topic.segment_ms, topic.max_message_bytes), (1 << 30, 604_800_000, 1_048_588));
    assert_eq!((topic.flush_messages, topic.flush_ms), (None, None));
    assert_eq!((topic.compression, topic.timestamp_type), (TopicCompression::Producer, TimestampType::CreateTime));
    assert_eq!((topic.remote_storage_enable, topic.remote_copy_lag_ms, topic.remote_copy_lag_bytes), (true, -1, -1));
    assert_eq!(topic.record_validation, RecordValidation::Header);
}

/// The most exact unit that is set wins, whatever the order of the lines.
#[rstest]
#[case("log.retention.hours=1", Some(3_600_000))]
#[case("log.retention.hours=1\nlog.retention.minutes=2", Some(120_000))]
#[case("log.retention.ms=3\nlog.retention.minutes=2\nlog.retention.hours=1", Some(3))]
#[case("log.retention.hours=-1", None)]
#[case("log.retention.ms=-1\nlog.retention.hours=1", None)]
#[case("log.retention.hours=2147483647", Some(2_147_483_647 * 3_600_000))]
fn retention_is_taken_in_the_finest_unit(#[case] text: &str, #[case] expected: Option<i64>) {
    assert_eq!(resolve(text, &[]).retention_ms, expected);
}

#[test]
fn rolling_is_taken_in_the_finest_unit() {
    let topic = resolve("log.roll.hours=2\nlog.roll.jitter.hours=1", &[]);
    assert_eq!((topic.segment_ms, topic.segment_jitter_ms), (7_200_000, 3_600_000));
    assert_eq!(resolve("log.roll.hours=2\nlog.roll.ms=5", &[]).segment_ms, 5);
}

#[test]
fn the_topic_wins_over_this_broker_over_all_brokers_over_the_file() {
    let broker = broker("log.retention.ms=1");
    let (all, own) = (map(&[("log.retention.ms", "2")]), map(&[("log.retention.ms", "3")]));
    let nothing = BTreeMap::new();
    let retention = |all_brokers, this_broker, topic: &[(&str, &str)]| {
        TopicConfig::resolve(&broker, Dynamic { this_broker, all_brokers }, "t", &map(topic)).retention_ms
    };
    assert_eq!(retention(&nothing, &nothing, &[]), Some(1));
    assert_eq!(retention(&all, &nothing, &[]), Some(2));
    assert_eq!(retention(&all, &own, &[]), Some(3));
    assert_eq!(retention(&all, &own, &[("retention.ms", "4")]), Some(4));
}

#[test]
fn local_retention_follows_the_total_unless_set() {
    let topic = resolve("", &[("retention.ms", "9"), ("retention.bytes", "8")]);
    assert_eq!((topic.local_retention_ms, topic.local_retention_bytes), (Some(9), Some(8)));
    let topic = resolve("log.local.retention.ms=5", &[("local.retention.bytes", "7")]);
    assert_eq!((topic.local_retention_ms, topic.local_retention_bytes), (Some(5), Some(7)));
}

/// Which topics are copied, and when.
#[rstest]
#[case::default_with_the_data_folder("", "t", &[], true, -1)]
#[case::default_with_a_bucket("remote.storage.uri=s3://b", "t", &[], true, 0)]
#[case::lag_of_the_broker("remote.storage.uri=s3://b\nlog.remote.copy.lag.ms=7", "t", &[], true, 7)]
#[case::lag_of_the_topic("log.remote.copy.lag.ms=7", "t", &[("remote.copy.lag.ms", "0")], true, 0)]
#[case::default_off("remote.storage.enable.default=false", "t", &[], false, -1)]
#[case::named_wins("remote.storage.enable.default=false", "t", &[("remote.storage.enable", "true")], true, -1)]
#[case::named_off("", "t", &[("remote.storage.enable", "false")], false, -1)]
#[case::compacted("", "t", &[("cleanup.policy", "compact")], false, -1)]
#[case::compacted_and_named("", "t", &[("cleanup.policy", "compact"), ("remote.storage.enable", "true")], true, -1)]
#[case::compacted_and_named_off("", "t", &[("cleanup.policy", "compact"), ("remote.storage.enable", "false")], false, -1)]
#[case::compacted_and_deleted("", "t", &[("cleanup.policy", "delete, compact")], false, -1)]
#[case::internal("", "__consumer_offsets", &[("cleanup.policy", "delete")], false, -1)]
#[case::broker_off("remote.log.storage.system.enable=false", "t", &[], false, -1)]
fn tiering_follows_one_rule(
    #[case] text: &str,
    #[case] name: &str,
    #[case] overrides: &[(&str, &str)],
    #[case] tiered: bool,
    #[case] lag_ms: i64,
) {
    let topic = TopicConfig::resolve(&broker(text), Dynamic::none(), name, &map(overrides));
    assert_eq!((topic.remote_storage_enable, topic.remote_copy_lag_ms), (tiered, lag_ms));
}

#[test]
fn never_and_small_values_are_read() {
    let topic = resolve("log.flush.scheduler.interval.ms=7", &[("flush.messages", "1")]);
    assert_eq!((topic.flush_messages, topic.flush_ms), (Some(1), Some(7)));
    assert_eq!(resolve("", &[("internal.segment.bytes", "100"), ("segment.bytes", "2097152")]).segment_bytes, 100);
    assert_eq!(resolve("", &[("cleanup.policy", "")]).cleanup_policy, CleanupPolicy { delete: false, compact: false });
    assert_eq!(resolve("", &[("cleanup.policy", "compact")]).record_validation, RecordValidation::Full);
}

/// A value of another release with other bounds must not stop a broker; what stands behind it counts.
#[test]
fn a_stored_value_that_is_not_valid_is_passed_over() {
    let topic = resolve("log.retention.ms=6", &[("retention.ms", "x"), ("segment.bytes", "1")]);
    assert_eq!((topic.retention_ms, topic.segment_bytes), (Some(6), 1 << 30));
}
