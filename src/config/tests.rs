//! What the facts of Apache Kafka and the shipped files demand of the whole table.

use std::collections::BTreeMap;
use std::path::Path;

use rstest::rstest;

use super::given::Given;
use super::key::{Importance, Key, Kind, Standing};
use super::keys::{self, Table};
use super::server::BrokerConfig;
use super::value;

/// A line of the facts: `key = default | type | importance`.
fn facts(text: &str) -> BTreeMap<&str, (&str, &str, &str)> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let parts = lines.map(|line| {
        let (name, rest) = line.split_once(" = ").expect("a fact has a default");
        let mut parts = rest.rsplitn(3, " | ");
        let (importance, kind) = (parts.next().expect("importance"), parts.next().expect("type"));
        (name, (parts.next().unwrap_or_default().trim(), kind.trim(), importance.trim()))
    });
    parts.collect()
}

/// Kafka's default as it would be written in a file.
fn written(default: &str, kind: &str) -> Option<String> {
    match default {
        "null" | "(required)" => None,
        list if kind == "LIST" => Some(value::elements(list.trim_matches(['[', ']'])).join(",")),
        class if kind == "CLASS" => Some(class.trim_start_matches("class ").to_owned()),
        other => Some(other.to_owned()),
    }
}

#[rstest]
#[case("broker", include_str!("testdata/kafka-4.3.1-broker-defaults.txt"), &keys::BROKER)]
#[case("topic", include_str!("testdata/kafka-4.3.1-topic-defaults.txt"), &keys::TOPIC)]
#[case("group", include_str!("testdata/kafka-4.3.1-group-defaults.txt"), &keys::GROUP)]
fn every_key_of_kafka_is_known_with_its_type_and_default(
    #[case] area: &str,
    #[case] text: &str,
    #[case] table: &Table,
) {
    for (name, (default, kind, importance)) in facts(text) {
        let key: &Key = table.get(name).unwrap_or_else(|| panic!("{area} key {name} is not known"));
        assert_eq!(key.kind.name(), kind, "{name}");
        let ours = match key.differs {
            Some((kafka, _)) => {
                assert_ne!(kafka, key.default, "{name} does not differ");
                kafka
            }
            None => key.default,
        };
        assert_eq!(ours, written(default, kind).as_deref(), "{area} key {name}");
        let expected = match importance {
            "HIGH" => Importance::High,
            "MEDIUM" => Importance::Medium,
            _ => Importance::Low,
        };
        assert_eq!(key.importance, expected, "{name}");
        assert_ne!(key.standing, Standing::Ours, "{name}");
    }
}

#[test]
fn declarations_hold_together() {
    for table in [&*keys::BROKER, &*keys::TOPIC, &*keys::GROUP] {
        for key in table.values() {
            if let Some(default) = key.default {
                assert_eq!(key.validate(default), Ok(()), "default of {}", key.name);
            }
            assert_eq!(key.text.is_empty(), key.standing == Standing::Accepted, "{}", key.name);
            for synonym in key.synonyms {
                let behind = keys::broker(synonym.name).unwrap_or_else(|| panic!("{} is not known", synonym.name));
                let number = |kind| matches!(kind, Kind::Int | Kind::Long);
                assert!(behind.kind == key.kind || number(behind.kind) && number(key.kind), "{}", key.name);
            }
        }
    }
    // A table built from areas loses a key that two of them declare.
    assert_eq!(keys::BROKER.len(), keys::declared_for_brokers(), "a key is declared twice");
}

#[rstest]
#[case("config/server.properties")]
#[case("config/dev.properties")]
fn the_shipped_files_are_valid_and_fully_known(#[case] file: &str) {
    let mut given = Given::default();
    given.read_file(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("readable");
    let (remarks, errors) = given.check_names(true);
    assert_eq!((errors, remarks.accepted), (vec![], vec![]));
    BrokerConfig::build(&given, None).expect("valid");
}
