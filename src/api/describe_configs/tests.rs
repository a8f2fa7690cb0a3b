//! Codes and words were taken from Apache Kafka 4.3.1.

use std::sync::Arc;

use kafka_protocol::protocol::Encodable;
use rstest::rstest;
use uuid::Uuid;

use super::*;
use crate::config::server::BrokerConfig;
use crate::metadata::image::{Change, ConfigOverrides, Image, Topic};

fn overrides(pairs: &[(&str, &str)]) -> ConfigOverrides {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn image() -> Image {
    let mut image = Image::default();
    let topic = Topic {
        id: Uuid::from_u128(1),
        name: Arc::from("t"),
        partition_count: 1,
        replication_factor: 1,
        config: overrides(&[("retention.ms", "3000")]),
    };
    let broker = |id: &str, value: &str| Change::SetBrokerConfig {
        broker: id.to_owned(),
        config: overrides(&[("log.retention.ms", value)]),
    };
    for change in [Change::CreateTopic(topic), broker("1", "500000"), broker("", "600000")] {
        image.apply(&change).expect("it applies");
    }
    image
}

fn ask(resources: &[(i8, &'static str, Option<&[&'static str]>)]) -> DescribeConfigsRequest {
    let resources = resources.iter().map(|(kind, name, keys)| {
        DescribeConfigsResource::default()
            .with_resource_type(*kind)
            .with_resource_name(StrBytes::from_static_str(name))
            .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| StrBytes::from_static_str(key)).collect()))
    });
    DescribeConfigsRequest::default().with_resources(resources.collect()).with_include_synonyms(true)
}

fn results(request: &DescribeConfigsRequest) -> Vec<DescribeConfigsResult> {
    let (config, image) = (BrokerConfig::defaults(), image());
    answer(&Settings { config: &config, image: &image }, 4, request).results
}

#[rstest]
#[case::topic(2, "t", 0, "")]
#[case::unknown_topic(2, "nope", 3, "")]
#[case::illegal_topic(2, "", 17, "Topic name is invalid: the empty string is not allowed")]
#[case::broker(4, "1", 0, "")]
#[case::all_brokers(4, "", 0, "")]
#[case::other_broker(4, "9", 42, "Unexpected broker id, expected 1 or empty string, but received 9")]
#[case::no_broker(4, "abc", 42, "Broker id must be an integer, but it is: abc")]
#[case::group(32, "g", 0, "")]
#[case::no_group(32, "", 42, "Group name must not be empty")]
#[case::unknown_type(99, "x", 42, MALFORMED)]
fn each_resource_is_answered_as_in_kafka(
    #[case] kind: i8,
    #[case] name: &'static str,
    #[case] code: i16,
    #[case] message: &str,
) {
    let results = results(&ask(&[(kind, name, None)]));
    assert_eq!((results[0].error_code, results[0].error_message.as_deref()), (code, Some(message)));
    assert_eq!(results[0].configs.is_empty(), code != 0);
}

#[test]
fn one_unknown_type_spoils_the_whole_request() {
    let results = results(&ask(&[(99, "x", None), (2, "t", None)]));
    assert!(results.iter().all(|result| result.error_code == 42));
}

#[test]
fn synonyms_come_in_the_order_in_which_they_count() {
    let results = results(&ask(&[(2, "t", Some(&["retention.ms", "nope"]))]));
    let [entry] = results[0].configs.as_slice() else { panic!("one key is known") };
    assert_eq!((entry.value.as_deref(), entry.config_source, entry.config_type), (Some("3000"), 1, 5));
    let synonyms: Vec<_> = entry
        .synonyms
        .iter()
        .map(|synonym| (&*synonym.name, synonym.value.as_deref().unwrap_or_default(), synonym.source))
        .collect();
    assert_eq!(
        synonyms[..3],
        [("retention.ms", "3000", 1), ("log.retention.ms", "500000", 2), ("log.retention.ms", "600000", 3)]
    );
    assert_eq!(synonyms.last(), Some(&("log.retention.hours", "168", 5)));
}

#[test]
fn secrets_are_never_told() {
    let results = results(&ask(&[(4, "1", Some(&["ssl.key.password"]))]));
    let [entry] = results[0].configs.as_slice() else { panic!("the key is known") };
    assert_eq!((&entry.value, entry.is_sensitive, entry.config_type), (&None, true, 9));
}

#[rstest]
fn answers_encode_in_every_version(#[values(1, 2, 3, 4)] version: i16) {
    let (config, image) = (BrokerConfig::defaults(), image());
    let request = ask(&[(2, "t", None), (4, "1", None), (2, "nope", None)]).with_include_documentation(true);
    let response = answer(&Settings { config: &config, image: &image }, version, &request);
    response.encode(&mut bytes::BytesMut::new(), version).expect("encodes");
}
