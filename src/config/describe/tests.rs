use std::path::Path;

use super::*;
use crate::config::given::Given;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn broker_config(text: &str) -> BrokerConfig {
    let mut given = Given::default();
    given.read_text(Path::new("f"), text).expect("syntax");
    BrokerConfig::build(&given, None).expect("valid")
}

fn find(all: &[Described], name: &str) -> Described {
    all.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("{name} is missing")).clone()
}

fn synonyms(entry: &Described) -> Vec<String> {
    let shown = |s: &DescribedSynonym| format!("{:?}:{}={}", s.source, s.name, s.value.as_deref().unwrap_or("null"));
    entry.synonyms.iter().map(shown).collect()
}

#[test]
fn synonyms_come_in_kafkas_order() {
    let config = broker_config("log.retention.hours=2\nlog.retention.ms=7200001");
    let (this_broker, all_brokers) = (map(&[("log.retention.ms", "3")]), map(&[("log.retention.ms", "4")]));
    let dynamic = Dynamic { this_broker: &this_broker, all_brokers: &all_brokers };
    let entry = find(&topic(&config, dynamic, "t", &map(&[("retention.ms", " 5")])), "retention.ms");
    assert_eq!(
        (entry.value.as_deref(), entry.source, entry.read_only, entry.kind),
        (Some("5"), Source::DynamicTopic, false, 5)
    );
    assert_eq!(
        synonyms(&entry),
        [
            "DynamicTopic:retention.ms=5",
            "DynamicBroker:log.retention.ms=3",
            "DynamicDefaultBroker:log.retention.ms=4",
            "StaticBroker:log.retention.ms=7200001",
            "StaticBroker:log.retention.hours=2",
            "Default:log.retention.hours=168",
        ]
    );
}

#[test]
fn a_topic_key_that_nobody_set_is_a_default() {
    let entries = topic(&broker_config(""), Dynamic::none(), "t", &BTreeMap::new());
    let entry = find(&entries, "segment.bytes");
    assert!(entry.is_default() && entry.value.as_deref() == Some("1073741824"));
    assert_eq!(synonyms(&entry), ["Default:log.segment.bytes=1073741824"]);
    assert!(!entries.iter().any(|entry| entry.name == "internal.segment.bytes"));
    assert!(!entry.documentation.is_empty());
}

/// Kafka 4.3.1 names the source by the first key's own name only: a value in hours counts, but reads as a default.
#[test]
fn a_static_broker_value_shows_through_to_the_topic() {
    let entries = topic(&broker_config("log.roll.hours=2"), Dynamic::none(), "t", &BTreeMap::new());
    let entry = find(&entries, "segment.ms");
    assert_eq!((entry.value.as_deref(), entry.source), (Some("7200000"), Source::Default));
    assert!(synonyms(&entry).is_empty());
    let entries = topic(&broker_config("log.roll.ms=7200000"), Dynamic::none(), "t", &BTreeMap::new());
    assert_eq!(find(&entries, "segment.ms").source, Source::StaticBroker);
}

#[test]
fn tiering_is_shown_as_it_is() {
    let enabled = |overrides: &[(&str, &str)]| {
        let entries = topic(&broker_config(""), Dynamic::none(), "t", &map(overrides));
        find(&entries, "remote.storage.enable").value
    };
    assert_eq!(enabled(&[]).as_deref(), Some("true"));
    assert_eq!(enabled(&[("cleanup.policy", "compact")]).as_deref(), Some("false"));
}

#[test]
fn a_broker_shows_every_key_and_hides_secrets() {
    let config = broker_config("ssl.key.password=hush\nnum.io.threads=3");
    let all = map(&[("max.connections", "7")]);
    let dynamic = Dynamic { this_broker: &BTreeMap::new(), all_brokers: &all };
    let entries = broker(&config, dynamic);
    let secret = find(&entries, "ssl.key.password");
    assert!(secret.sensitive && secret.value.is_none() && secret.synonyms.iter().all(|s| s.value.is_none()));
    assert!(!format!("{entries:?}").contains("hush"));
    let threads = find(&entries, "num.io.threads");
    assert_eq!((threads.value.as_deref(), threads.source, threads.read_only), (Some("3"), Source::StaticBroker, false));
    let connections = find(&entries, "max.connections");
    assert_eq!((connections.value.as_deref(), connections.source), (Some("7"), Source::DynamicDefaultBroker));
    assert!(find(&entries, "node.id").read_only);
    assert_eq!(all_brokers(dynamic).len(), 1);
}

#[test]
fn a_group_stands_on_its_broker_keys() {
    let config = broker_config("group.consumer.session.timeout.ms=50000");
    let entries = group(&config, Dynamic::none(), &map(&[("consumer.heartbeat.interval.ms", "6000")]));
    assert_eq!(find(&entries, "consumer.session.timeout.ms").value.as_deref(), Some("50000"));
    assert_eq!(find(&entries, "consumer.heartbeat.interval.ms").source, Source::Group);
}
