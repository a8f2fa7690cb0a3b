//! Codes and words were taken from Apache Kafka 4.3.1.

use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};
use kafka_protocol::protocol::Encodable;
use rstest::rstest;
use terrace_tiering::platform::random::SeededRandom;

use super::*;

fn ask(name: &str, partitions: i32, factor: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(StrBytes::from_string(name.to_owned()).into())
        .with_num_partitions(partitions)
        .with_replication_factor(factor)
}

fn with_config(mut topic: CreatableTopic, key: &'static str, value: Option<&'static str>) -> CreatableTopic {
    topic.configs.push(
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str(key))
            .with_value(value.map(StrBytes::from_static_str)),
    );
    topic
}

fn with_assignment(mut topic: CreatableTopic, partition: i32, brokers: &[i32]) -> CreatableTopic {
    topic.assignments.push(
        CreatableReplicaAssignment::default()
            .with_partition_index(partition)
            .with_broker_ids(brokers.iter().map(|id| BrokerId(*id)).collect()),
    );
    topic
}

fn manual(partitions: i32, factor: i16, assignments: &[(i32, &[i32])]) -> CreatableTopic {
    assignments.iter().fold(ask("m", partitions, factor), |topic, (at, brokers)| with_assignment(topic, *at, brokers))
}

/// Topics `p1` and `a.b` exist.
fn image() -> Image {
    let mut image = Image::default();
    for (number, name) in [(1, "p1"), (2, "a.b")] {
        let topic = Topic {
            id: uuid::Uuid::from_u128(number),
            name: Arc::from(name),
            partition_count: 1,
            replication_factor: 1,
            config: ConfigOverrides::new(),
        };
        image.apply(&Change::CreateTopic(topic)).expect("a new topic");
    }
    image
}

fn plan(config: &BrokerConfig, asked: &[CreatableTopic]) -> (Vec<CreatableTopicResult>, Vec<Topic>) {
    let image = image();
    let random = SeededRandom::new(1);
    Creation { config, image: &image, random: &*random }.plan(asked)
}

#[rstest]
#[case::plain(ask("t", 2, 1), 0, "")]
#[case::defaults(ask("t", -1, -1), 0, "")]
#[case::exists(ask("p1", 1, 3), 36, "Topic 'p1' already exists.")]
#[case::zero_partitions(ask("t", 0, 1), 37, "Number of partitions was set to an invalid non-positive value.")]
#[case::no_partitions(ask("t", -2, 1), 37, "Number of partitions was set to an invalid non-positive value.")]
#[case::zero_factor(ask("t", 1, 0), 38, "Replication factor must be larger than 0, or -1 to use the default value.")]
#[case::both_zero(ask("t", 0, 0), 38, "Replication factor must be larger than 0, or -1 to use the default value.")]
#[case::factor(
    ask("t", 1, 3),
    38,
    "Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached because only 1 broker(s) are registered or some brokers have all their log directories cordoned."
)]
#[case::empty_name(ask("", 1, 1), 17, "Topic name is invalid: the empty string is not allowed")]
#[case::name_before_factor(
    ask("a b", 1, 3),
    17,
    "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
)]
#[case::collides(ask("a_b", 1, 1), 17, "Topic 'a_b' collides with existing topic: a.b")]
#[case::collides_before_config(
    with_config(ask("a_b", 1, 1), "retention.ms", Some("x")),
    17,
    "Topic 'a_b' collides with existing topic: a.b"
)]
#[case::other_length(ask("a.b.", 1, 1), 0, "")]
#[case::metadata_topic(
    ask("__cluster_metadata", 1, 1),
    42,
    "Creation of internal topic __cluster_metadata is prohibited."
)]
#[case::internal_topic(ask("__transaction_state", 3, 1), 0, "")]
#[case::assigned(manual(-1, -1, &[(1, &[1]), (0, &[1])]), 0, "")]
#[case::assigned_and_counted(manual(1, -1, &[(0, &[1])]), 42, "A manual partition assignment was specified, but numPartitions was not set to -1.")]
#[case::assigned_and_both(manual(1, 1, &[(0, &[1])]), 42, "A manual partition assignment was specified, but replication factor was not set to -1.")]
#[case::assigned_gap(manual(-1, -1, &[(1, &[1])]), 39, "partitions should be a consecutive 0-based integer sequence")]
#[case::assigned_negative(manual(-1, -1, &[(-1, &[1])]), 39, "partitions should be a consecutive 0-based integer sequence")]
#[case::assigned_twice(manual(-1, -1, &[(0, &[1]), (0, &[1])]), 39, "Found multiple manual partition assignments for partition 0")]
#[case::assigned_to_nobody(manual(-1, -1, &[(0, &[])]), 39, "The manual partition assignment includes an empty replica list.")]
#[case::assigned_elsewhere(manual(-1, -1, &[(0, &[9])]), 39, "The manual partition assignment includes broker 9, but no such broker is registered.")]
#[case::assigned_twice_here(manual(-1, -1, &[(0, &[1, 1])]), 39, "The manual partition assignment includes the broker 1 more than once.")]
#[case::bad_value(
    with_config(ask("t", 1, 1), "retention.ms", Some("abc")),
    40,
    "Invalid value abc for configuration retention.ms: Not a number of type LONG"
)]
#[case::config_before_counts(
    with_config(ask("t", 0, 3), "retention.ms", Some("x")),
    40,
    "Invalid value x for configuration retention.ms: Not a number of type LONG"
)]
#[case::unknown_key(with_config(ask("t", 1, 1), "foo", Some("1")), 40, "Unknown topic config name: foo")]
#[case::null_value(
    with_config(ask("t", 1, 1), "retention.ms", None),
    40,
    "Null value not supported for topic configs: retention.ms"
)]
#[case::out_of_bounds(
    with_config(ask("t", 1, 1), "retention.ms", Some("-2")),
    40,
    "Invalid value -2 for configuration retention.ms: Value must be at least -1"
)]
#[case::policy(
    with_config(ask("t", 1, 1), "cleanup.policy", Some("foo")),
    40,
    "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete"
)]
#[case::too_many(ask("t", 10_001, 1), 44, "Excessively large number of partitions per request.")]
fn each_topic_is_answered_as_in_kafka(#[case] asked: CreatableTopic, #[case] code: i16, #[case] message: &str) {
    let (results, topics) = plan(&BrokerConfig::defaults(), &[asked]);
    assert_eq!(results[0].error_code, code);
    // Null, not empty, where Kafka has no words.
    assert_eq!(results[0].error_message.as_deref(), Some(message).filter(|message| !message.is_empty()));
    assert_eq!(topics.len(), usize::from(code == 0));
}

#[test]
fn topics_of_one_request_stand_or_fall_by_themselves() {
    let asked = [ask("d", 1, 1), ask("d", 2, 1), ask("e", 1, 1), ask("p1", 1, 1)];
    let (results, topics) = plan(&BrokerConfig::defaults(), &asked);
    let codes: Vec<_> = results.iter().map(|result| (result.name.to_string(), result.error_code)).collect();
    assert_eq!(codes, [("e".to_owned(), 0), ("p1".to_owned(), 36), ("d".to_owned(), 42)]);
    assert_eq!(results[2].error_message.as_deref(), Some("Duplicate topic name."));
    assert_eq!(topics.len(), 1);
}

#[test]
fn too_many_partitions_spoil_the_whole_request() {
    let (results, _) = plan(&BrokerConfig::defaults(), &[ask("t", 6000, 1), ask("u", 6000, 1)]);
    assert!(results.iter().all(|result| result.error_code == 44));
}

#[test]
fn any_replication_factor_is_stored_where_that_is_configured() {
    let mut config = BrokerConfig::defaults();
    config.topics.accept_any_replication_factor = true;
    let (results, topics) = plan(&config, &[ask("t", 1, 3)]);
    assert_eq!((results[0].error_code, results[0].replication_factor), (0, 3));
    assert_eq!(topics[0].replication_factor, 3);
}

#[test]
fn the_answer_tells_id_counts_and_configuration() {
    let asked = with_config(ask("t", -1, -1), "retention.ms", Some("1000"));
    let (results, topics) = plan(&BrokerConfig::defaults(), &[asked]);
    assert_eq!((results[0].num_partitions, results[0].replication_factor, results[0].topic_id), (1, 1, topics[0].id));
    let configs = results[0].configs.as_deref().unwrap_or_default();
    let retention = configs.iter().find(|config| &*config.name == "retention.ms").expect("listed");
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("1000"), 1));
    assert_eq!(topics[0].config.get("retention.ms").map(String::as_str), Some("1000"));
}

#[rstest]
fn answers_encode_in_every_version(#[values(2, 3, 4, 5, 6, 7)] version: i16) {
    let (results, _) = plan(&BrokerConfig::defaults(), &[ask("t", 1, 1), ask("p1", 1, 1)]);
    let response = CreateTopicsResponse::default().with_topics(results);
    response.encode(&mut bytes::BytesMut::new(), version).expect("encodes");
}
