//! Codes and words were taken from Apache Kafka 4.3.1.

use std::sync::Arc;

use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::protocol::StrBytes;
use rstest::rstest;
use uuid::Uuid;

use super::*;
use crate::config::server::BrokerConfig;
use crate::metadata::image::{Image, Topic};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Step = (i8, &'static str, Option<&'static str>);

fn ask(kind: i8, name: &'static str, steps: &[Step]) -> AlterConfigsResource {
    let entry = |(operation, key, value): &Step| {
        AlterableConfig::default()
            .with_config_operation(*operation)
            .with_name(StrBytes::from_static_str(key))
            .with_value(value.map(StrBytes::from_static_str))
    };
    AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(StrBytes::from_static_str(name))
        .with_configs(steps.iter().map(entry).collect())
}

fn image() -> Image {
    let mut image = Image::default();
    let config = [("cleanup.policy", "delete"), ("flush.ms", "7")];
    let topic = Topic {
        id: Uuid::from_u128(1),
        name: Arc::from("t"),
        partition_count: 1,
        replication_factor: 1,
        config: config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    };
    image.apply(&Change::CreateTopic(topic)).expect("a new topic");
    image
}

fn plan(resources: &[AlterConfigsResource]) -> (Vec<AlterConfigsResourceResponse>, Vec<Change>) {
    let (config, image) = (BrokerConfig::defaults(), image());
    let (responses, changes, _) = Settings { config: &config, image: &image }.plan(resources);
    (responses, changes)
}

#[rstest]
#[case::set(2, "t", &[(SET, "retention.ms", Some("2000"))], 0, "")]
#[case::bad_value(2, "t", &[(SET, "retention.ms", Some("x"))], 40, "Invalid value x for configuration retention.ms: Not a number of type LONG")]
#[case::unknown_key(2, "t", &[(SET, "foo", Some("x"))], 40, "Unknown topic config name: foo")]
#[case::null(2, "t", &[(SET, "retention.ms", None)], 42, "Null value not supported for : retention.ms")]
#[case::null_append(2, "t", &[(APPEND, "cleanup.policy", None)], 42, "Null value not supported for : cleanup.policy")]
#[case::append_to_number(2, "t", &[(APPEND, "retention.ms", Some("1"))], 40, "Can't APPEND to key retention.ms because its type is not LIST.")]
#[case::subtract_from_number(2, "t", &[(SUBTRACT, "retention.ms", Some("1"))], 40, "Can't SUBTRACT to key retention.ms because its type is not LIST.")]
#[case::append_bad(2, "t", &[(APPEND, "cleanup.policy", Some("foo"))], 40, "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete")]
#[case::key_twice(2, "t", &[(SET, "flush.ms", Some("1")), (SET, "flush.ms", Some("2"))], 42, "Error due to duplicate config keys")]
#[case::no_operation(2, "t", &[(9, "flush.ms", Some("1"))], -1, "")]
#[case::unknown_topic(2, "nope", &[(SET, "flush.ms", Some("1"))], 3, "The topic 'nope' does not exist.")]
#[case::append_before_topic(2, "nope", &[(APPEND, "flush.ms", Some("1"))], 40, "Can't APPEND to key flush.ms because its type is not LIST.")]
#[case::all_topics(2, "", &[(SET, "flush.ms", Some("1"))], 42, "Default topic resources are not allowed.")]
#[case::illegal_topic(2, "a b", &[(SET, "flush.ms", Some("1"))], 17, "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")]
#[case::broker(4, "1", &[(SET, "log.retention.ms", Some("500000"))], 0, "")]
#[case::all_brokers(4, "", &[(SET, "log.retention.ms", Some("500000"))], 0, "")]
#[case::broker_fixed(4, "1", &[(SET, "num.partitions", Some("5")), (SET, "node.id", Some("3"))], 42, "Cannot update these configs dynamically: [node.id, num.partitions]")]
#[case::broker_bad_value(4, "1", &[(SET, "log.retention.ms", Some("x"))], 42, "Invalid value x for configuration log.retention.ms: Not a number of type LONG")]
#[case::broker_secret(4, "1", &[(SET, "ssl.key.password", Some("secret"))], 42, "These security configs can be dynamically updated only per-listener using the listener prefix: [ssl.key.password]")]
#[case::other_broker(4, "9", &[(SET, "log.retention.ms", Some("5"))], 42, "Unexpected broker id, expected 1, but received 9")]
#[case::no_broker(4, "abc", &[(SET, "log.retention.ms", Some("5"))], 42, "Node id must be an integer, but it is: abc")]
#[case::group(32, "g", &[(SET, "consumer.session.timeout.ms", Some("50000"))], 0, "")]
#[case::all_groups(32, "", &[(SET, "consumer.session.timeout.ms", Some("50000"))], 42, "Default group resources are not allowed.")]
#[case::unknown_group_key(32, "g", &[(SET, "nope", Some("5"))], 40, "Unknown group config name: nope")]
#[case::unknown_type(99, "x", &[(SET, "a", Some("b"))], 42, "Unknown resource type 99")]
fn each_resource_is_answered_as_in_kafka(
    #[case] kind: i8,
    #[case] name: &'static str,
    #[case] steps: &[Step],
    #[case] code: i16,
    #[case] message: &str,
) {
    let (responses, changes) = plan(&[ask(kind, name, steps)]);
    assert_eq!(responses[0].error_code, code);
    // Null, not empty, where Kafka has no words.
    assert_eq!(responses[0].error_message.as_deref(), Some(message).filter(|message| !message.is_empty()));
    assert_eq!(changes.len(), usize::from(code == 0));
}

#[rstest]
#[case::append(&[(APPEND, "cleanup.policy", Some("compact"))], "delete,compact")]
#[case::append_again(&[(APPEND, "cleanup.policy", Some("compact,delete"))], "delete,compact")]
#[case::subtract(&[(SUBTRACT, "cleanup.policy", Some("delete"))], "")]
fn lists_grow_and_shrink_by_elements(#[case] steps: &[Step], #[case] expected: &str) {
    let (_, changes) = plan(&[ask(2, "t", steps)]);
    let [Change::SetTopicConfig { config, .. }] = changes.as_slice() else { panic!("one change") };
    assert_eq!(config["cleanup.policy"], expected);
    assert_eq!(config["flush.ms"], "7");
}

#[test]
fn deleting_goes_back_to_the_default_and_what_is_not_set_is_no_change() {
    let (_, changes) = plan(&[ask(2, "t", &[(DELETE, "flush.ms", None)])]);
    let [Change::SetTopicConfig { config, .. }] = changes.as_slice() else { panic!("one change") };
    assert!(!config.contains_key("flush.ms"));
    let (responses, changes) = plan(&[ask(2, "t", &[(DELETE, "retention.ms", None), (DELETE, "foo", None)])]);
    assert_eq!((responses[0].error_code, changes.len()), (0, 0));
}

#[test]
fn a_resource_named_twice_is_refused_twice_and_others_pass() {
    let set = |value| ask(2, "t", &[(SET, "retention.ms", Some(value))]);
    let (responses, changes) = plan(&[set("1"), set("2"), ask(4, "1", &[(SET, "log.retention.ms", Some("5000"))])]);
    assert_eq!(responses.iter().map(|response| response.error_code).collect::<Vec<_>>(), [42, 42, 0]);
    assert_eq!(responses[0].error_message.as_deref(), Some("Each resource must appear at most once."));
    assert_eq!(changes.len(), 1);
}
