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

fn told(settings: &[(&str, &str)]) -> String {
    let checked = validate_topic(&BrokerConfig::defaults(), Dynamic::none(), "t", &map(&[]), &map(settings));
    checked.map_or_else(|e| e.to_string(), |()| "ok".to_owned())
}

/// The texts are those of Apache Kafka 4.3.1's LogConfig for the same settings.
#[rstest]
#[case(&[("foo", "1")], "Unknown topic config name: foo")]
#[case(&[("segment.bytes", "abc")], "Invalid value abc for configuration segment.bytes: Not a number of type INT")]
#[case(&[("segment.bytes", "5")], "Invalid value 5 for configuration segment.bytes: Value must be at least 1048576")]
#[case(&[("segment.bytes", "")], "Invalid value  for configuration segment.bytes: Not a number of type INT")]
#[case(&[("segment.bytes", "99999999999")], "Invalid value 99999999999 for configuration segment.bytes: Not a number of type INT")]
#[case(&[("retention.ms", "-2")], "Invalid value -2 for configuration retention.ms: Value must be at least -1")]
#[case(&[("retention.ms", " 5 ")], "ok")]
#[case(&[("retention.ms", "1.5")], "Invalid value 1.5 for configuration retention.ms: Not a number of type LONG")]
#[case(&[("cleanup.policy", "foo")], "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete")]
#[case(&[("cleanup.policy", "")], "ok")]
#[case(&[("cleanup.policy", "delete , compact")], "ok")]
#[case(&[("cleanup.policy", "delete,")], "Configuration 'cleanup.policy' values must not be empty.")]
#[case(&[("compression.type", "bar")], "Invalid value bar for configuration compression.type: String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer")]
#[case(&[("message.timestamp.type", "x")], "Invalid value x for configuration message.timestamp.type: String must be one of: CreateTime, LogAppendTime")]
#[case(&[("preallocate", "yes")], "Invalid value yes for configuration preallocate: Expected value to be either true or false")]
#[case(&[("preallocate", "TRUE")], "ok")]
#[case(&[("min.cleanable.dirty.ratio", "1.5")], "Invalid value 1.5 for configuration min.cleanable.dirty.ratio: Value must be no more than 1")]
#[case(&[("min.cleanable.dirty.ratio", "x")], "Invalid value x for configuration min.cleanable.dirty.ratio: Not a number of type DOUBLE")]
#[case(&[("compression.gzip.level", "0")], "Invalid value 0 for configuration compression.gzip.level: Value must be between 1 and 9 or equal to -1")]
#[case(&[("compression.lz4.level", "18")], "Invalid value 18 for configuration compression.lz4.level: Value must be no more than 17")]
#[case(&[("compression.zstd.level", "23")], "Invalid value 23 for configuration compression.zstd.level: Value must be no more than 22")]
#[case(&[("follower.replication.throttled.replicas", "*")], "ok")]
#[case(&[("follower.replication.throttled.replicas", "1:2,3:4")], "ok")]
#[case(&[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "5")], "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)")]
#[case(&[("local.retention.ms", "10"), ("retention.ms", "5")], "Invalid value 10 for configuration local.retention.ms: Value must not be more than retention.ms property value: 5")]
#[case(&[("local.retention.ms", "10"), ("retention.ms", "5"), ("remote.storage.enable", "false")], "ok")]
#[case(&[("local.retention.bytes", "10"), ("retention.bytes", "5")], "Invalid value 10 for configuration local.retention.bytes: Value must not be more than retention.bytes property value: 5")]
#[case(&[("local.retention.ms", "-1"), ("retention.ms", "5")], "Invalid value -1 for configuration local.retention.ms: Value must not be -1 as retention.ms value is set as 5.")]
#[case(&[("local.retention.ms", "-3")], "Invalid value -3 for configuration local.retention.ms: Value must be at least -2")]
#[case(&[("cleanup.policy", "compact"), ("remote.storage.enable", "true")], "ok")]
#[case(&[("cleanup.policy", "compact,delete"), ("remote.storage.enable", "true")], "ok")]
#[case(&[("cleanup.policy", "compact")], "ok")]
#[case(&[("remote.storage.enable", "true")], "ok")]
#[case(&[("remote.log.copy.disable", "true"), ("local.retention.ms", "100")], "When `remote.log.copy.disable` is set to true, the `local.retention.ms` and `retention.ms` must be set to the identical value because there will be no more logs copied to the remote storage.")]
#[case(&[("flush.messages", "0")], "Invalid value 0 for configuration flush.messages: Value must be at least 1")]
#[case(&[("max.message.bytes", "-1")], "Invalid value -1 for configuration max.message.bytes: Value must be at least 0")]
#[case(&[("segment.index.bytes", "3")], "Invalid value 3 for configuration segment.index.bytes: Value must be at least 4")]
fn topic_settings_are_judged_in_kafkas_words(#[case] settings: &[(&str, &str)], #[case] expected: &str) {
    assert_eq!(told(settings), expected);
}

#[test]
fn a_broker_without_a_tier_refuses_tiered_topics() {
    let broker = broker("remote.log.storage.system.enable=false");
    let checked = validate_topic(&broker, Dynamic::none(), "t", &map(&[]), &map(&[("remote.storage.enable", "true")]));
    let message = checked.expect_err("refused").to_string();
    assert!(message.starts_with("Tiered Storage functionality is disabled in the broker."), "{message}");
}

/// What tiering may become of what it is.
#[rstest]
#[case::kept(&[("remote.storage.enable", "true")], &[("remote.storage.enable", "true")], "")]
#[case::begun(&[], &[("remote.storage.enable", "true")], "")]
#[case::begun_again(&[("remote.storage.enable", "false")], &[("remote.storage.enable", "true")], "")]
#[case::never_there(&[], &[("remote.storage.enable", "false")], "")]
#[case::off(&[("remote.storage.enable", "true")], &[("remote.storage.enable", "false")], "It is invalid to disable")]
#[case::off_by_default(&[("remote.storage.enable", "true")], &[], "It is invalid to disable")]
#[case::read_only(&[("remote.storage.enable", "true")], &[("remote.storage.enable", "true"), ("remote.log.copy.disable", "true")], "")]
#[case::drained(&[("remote.storage.enable", "true")], &[("remote.storage.enable", "false"), ("remote.log.drain.on.disable", "true")], "")]
#[case::with_its_data(&[("remote.storage.enable", "true")], &[("remote.storage.enable", "false"), ("remote.log.delete.on.disable", "true")], "")]
fn tiering_ends_only_where_it_is_said_what_becomes_of_the_copies(
    #[case] before: &[(&str, &str)],
    #[case] after: &[(&str, &str)],
    #[case] refusal: &str,
) {
    let broker = broker("remote.storage.enable.default=false");
    let checked = validate_topic(&broker, Dynamic::none(), "t", &map(before), &map(after));
    let message = checked.err().map_or(String::new(), |error| error.to_string());
    assert!(message.starts_with(refusal) && message.is_empty() == refusal.is_empty(), "{message}");
}

#[test]
fn the_broker_s_local_retention_counts_where_copies_are_disabled() {
    let broker = broker("log.local.retention.ms=100");
    let settings = map(&[("remote.storage.enable", "true"), ("remote.log.copy.disable", "true")]);
    let checked = validate_topic(&broker, Dynamic::none(), "t", &map(&[]), &settings);
    assert!(checked.is_err_and(|error| error.to_string().contains("`local.retention.ms` and `retention.ms`")));
}

#[rstest]
#[case(false, &[("max.connections", "5")], "ok")]
#[case(true, &[("log.retention.ms", "5")], "ok")]
#[case(true, &[("max.connections", "x")], "Invalid value x for configuration max.connections: Not a number of type INT")]
#[case(true, &[("broker.rack", "r"), ("log.dirs", "/x")], "Cannot update these configs dynamically: [broker.rack, log.dirs]")]
#[case(false, &[("sasl.enabled.mechanisms", "PLAIN")], "Cannot update these configs at default cluster level, broker id must be specified: [sasl.enabled.mechanisms]")]
#[case(true, &[("log.retention.ms", "5"), ("log.local.retention.ms", "6")], "Invalid value 6 for configuration local.retention.ms: Value must not be more than retention.ms property value: 5")]
#[case(true, &[("a.plugin", "x")], "ok")]
fn broker_settings_are_judged(#[case] per_broker: bool, #[case] settings: &[(&str, &str)], #[case] expected: &str) {
    let checked = validate_broker(&BrokerConfig::defaults(), Dynamic::none(), per_broker, &map(settings));
    assert_eq!(checked.map_or_else(|e| e.to_string(), |()| "ok".to_owned()), expected);
}

/// What Apache Kafka 4.3.1 answered with its default bounds.
#[rstest]
#[case("", &[("consumer.session.timeout.ms", "50000")], "ok")]
#[case("", &[("retention.ms", "5")], "Unknown group config name: retention.ms")]
#[case("", &[("consumer.session.timeout.ms", "44999")], "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms")]
#[case("", &[("consumer.session.timeout.ms", "60001"), ("consumer.heartbeat.interval.ms", "15001")], "consumer.heartbeat.interval.ms must be less than or equal to group.consumer.max.heartbeat.interval.ms")]
#[case("", &[("streams.num.standby.replicas", "3")], "streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas")]
#[case("", &[("share.assignment.interval.ms", "15001")], "share.assignment.interval.ms must be less than or equal to group.share.max.assignment.interval.ms")]
#[case("group.consumer.min.session.timeout.ms=1000", &[("consumer.session.timeout.ms", "5000")], "consumer.session.timeout.ms must be greater than consumer.heartbeat.interval.ms")]
#[case("group.consumer.min.session.timeout.ms=1000", &[("consumer.session.timeout.ms", "5001")], "ok")]
fn groups_stay_within_the_bounds_of_the_broker(
    #[case] file: &str,
    #[case] settings: &[(&str, &str)],
    #[case] expected: &str,
) {
    let checked = validate_group(&broker(file), Dynamic::none(), &map(settings));
    assert_eq!(checked.map_or_else(|e| e.to_string(), |()| "ok".to_owned()), expected);
}

/// Codes and texts are Apache Kafka's 4.3.1.
#[rstest]
#[case("", &[("nope", "1")], Err(Refused::Request("Subscription name can't be empty".to_owned())))]
#[case("s", &[("nope", "1")], Err(Refused::Request("Unknown client metrics configuration: nope".to_owned())))]
#[case("s", &[("interval.ms", "99")], Err(Refused::Request("Invalid value 99 for interval.ms, interval must be between 100 and 3600000 (1 hour)".to_owned())))]
#[case("s", &[("interval.ms", "100"), ("metrics", "*"), ("match", "client_id=a.*,client_source_port=9+")], Ok(()))]
#[case("s", &[("match", "client_id=a,nope=b")], Err(Refused::Config(Invalid::Rule("Illegal client matching pattern: nope=b".to_owned()))))]
#[case("s", &[("match", "client_id=a(b")], Err(Refused::Config(Invalid::Rule("Illegal client matching pattern: client_id=a(b".to_owned()))))]
#[case("s", &[("match", "client_id")], Err(Refused::Config(Invalid::Rule("Illegal client matching pattern: client_id".to_owned()))))]
#[case("s", &[("match", "client_id=")], Err(Refused::Config(Invalid::Rule("Illegal client matching pattern: client_id=".to_owned()))))]
fn subscriptions_are_checked_as_by_kafka(
    #[case] name: &str,
    #[case] settings: &[(&str, &str)],
    #[case] expected: Result<(), Refused>,
) {
    assert_eq!(validate_client_metrics(name, &map(settings)), expected);
}

fn step(before: &[(&str, &str)], operation: Operation, name: &str, text: Option<&str>) -> Result<String, String> {
    let mut settings = map(before);
    let broker = broker("log.cleanup.policy=compact");
    apply(Resource::Topic, &broker, Dynamic::none(), &mut settings, operation, name, text)
        .map_err(|e| e.to_string())?;
    Ok(settings.into_iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" "))
}

#[test]
fn steps_set_delete_append_and_subtract() {
    use Operation::{Append, Delete, Set, Subtract};
    let policy = "cleanup.policy";
    assert_eq!(step(&[], Set, "retention.ms", Some("5")), Ok("retention.ms=5".to_owned()));
    assert_eq!(step(&[("retention.ms", "5")], Delete, "retention.ms", None), Ok(String::new()));
    assert_eq!(
        step(&[(policy, "delete")], Append, policy, Some("compact,delete")),
        Ok(format!("{policy}=delete,compact"))
    );
    // What the broker says is where a list begins that the topic does not have.
    assert_eq!(step(&[], Append, policy, Some("delete")), Ok(format!("{policy}=compact,delete")));
    assert_eq!(step(&[(policy, "delete,compact")], Subtract, policy, Some("delete")), Ok(format!("{policy}=compact")));
    let message = "Can't APPEND to key retention.ms because its type is not LIST.";
    assert_eq!(step(&[], Append, "retention.ms", Some("5")), Err(message.to_owned()));
    assert!(step(&[], Set, "retention.ms", None).is_err());
}
