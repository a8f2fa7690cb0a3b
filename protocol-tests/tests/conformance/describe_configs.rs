use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};
use terrace_protocol_tests::broker::Options;
use terrace_protocol_tests::compare::both;

use crate::scenario::{Scenario, text};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn describe(s: &mut Scenario, kind: i8, name: &str, keys: &[&str]) {
    let request = DescribeConfigsRequest::default().with_include_synonyms(true).with_resources(vec![
        DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(Some(keys.iter().map(|k| text(k)).collect())),
    ]);
    let answer = s.client.call(4, &request);
    let result = &answer.results[0];
    if result.error_code != 0 {
        let message = result.error_message.as_ref().map(|m| m.to_string());
        s.say(format!("error {} {message:?}", result.error_code));
    }
    let mut rows: Vec<_> = result
        .configs
        .iter()
        .map(|c| {
            let synonyms: Vec<_> = c
                .synonyms
                .iter()
                .map(|s| format!("{}={}@{}", &*s.name, s.value.as_deref().unwrap_or("null"), s.source))
                .collect();
            format!(
                "{}={} source {} read-only {} sensitive {} type {} synonyms {}",
                &*c.name,
                c.value.as_deref().unwrap_or("null"),
                c.config_source,
                c.read_only,
                c.is_sensitive,
                c.config_type,
                synonyms.join(" ")
            )
        })
        .collect();
    rows.sort_unstable();
    for row in rows {
        s.say(row);
    }
}

fn alter(s: &mut Scenario, kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) {
    let configs = changes
        .iter()
        .map(|(key, operation, value)| {
            AlterableConfig::default()
                .with_name(text(key))
                .with_config_operation(*operation)
                .with_value(value.map(text))
        })
        .collect();
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![
        AlterConfigsResource::default().with_resource_type(kind).with_resource_name(text(name)).with_configs(configs),
    ]);
    let answer = s.client.call(1, &request);
    let result = &answer.responses[0];
    let message = result.error_message.as_ref().map(|m| m.to_string());
    s.say(format!("altered: {} {message:?}", result.error_code));
}

#[test]
fn values_come_with_their_sources_and_synonyms_in_order() {
    both(
        &Options::new(),
        |address| {
            let mut s = Scenario::on(address);
            let t = s.topic(1, &[("retention.ms", "1000000")]);
            describe(&mut s, TOPIC, &t, &["retention.ms", "segment.bytes", "cleanup.policy", "flush.ms"]);
            describe(&mut s, TOPIC, "no-such-topic", &["retention.ms"]);
            s.end()
        },
        r#"cleanup.policy=delete source 5 read-only false sensitive false type 7 synonyms log.cleanup.policy=delete@5
           flush.ms=9223372036854775807 source 5 read-only false sensitive false type 5 synonyms
           retention.ms=1000000 source 1 read-only false sensitive false type 5 synonyms retention.ms=1000000@1
           segment.bytes=1073741824 source 5 read-only false sensitive false type 3 synonyms log.segment.bytes=1073741824@5
           error 3 Some("")"#,
    );
}

#[test]
fn changes_are_set_deleted_appended_and_subtracted() {
    both(
        &Options::new(),
        |address| {
            let mut s = Scenario::on(address);
            let t = s.topic(1, &[]);
            let (set, delete, append, subtract) = (0, 1, 2, 3);
            let look = |s: &mut Scenario| {
                // Apache Kafka answers before its broker has applied the change.
                std::thread::sleep(std::time::Duration::from_millis(200));
                describe(s, TOPIC, &t, &["cleanup.policy", "retention.ms"]);
            };
            alter(
                &mut s,
                TOPIC,
                &t,
                &[("retention.ms", set, Some("5000")), ("cleanup.policy", append, Some("compact"))],
            );
            look(&mut s);
            alter(&mut s, TOPIC, &t, &[("cleanup.policy", subtract, Some("delete")), ("retention.ms", delete, None)]);
            look(&mut s);
            alter(&mut s, TOPIC, &t, &[("retention.ms", append, Some("1"))]);
            alter(&mut s, TOPIC, &t, &[("retention.ms", set, Some("x"))]);
            alter(&mut s, TOPIC, &t, &[("no.such.key", set, Some("1"))]);
            alter(&mut s, TOPIC, &t, &[("retention.ms", set, None)]);
            alter(&mut s, TOPIC, &t, &[("retention.ms", set, Some("1")), ("retention.ms", delete, None)]);
            alter(&mut s, TOPIC, &t, &[("retention.ms", 9, Some("1"))]);
            s.end()
        },
        r#"altered: 0 None
           cleanup.policy=delete,compact source 1 read-only false sensitive false type 7 synonyms cleanup.policy=delete,compact@1 log.cleanup.policy=delete@5
           retention.ms=5000 source 1 read-only false sensitive false type 5 synonyms retention.ms=5000@1
           altered: 0 None
           cleanup.policy=compact source 1 read-only false sensitive false type 7 synonyms cleanup.policy=compact@1 log.cleanup.policy=delete@5
           retention.ms=604800000 source 5 read-only false sensitive false type 5 synonyms
           altered: 40 Some("Can't APPEND to key retention.ms because its type is not LIST.")
           altered: 40 Some("Invalid value x for configuration retention.ms: Not a number of type LONG")
           altered: 40 Some("Unknown topic config name: no.such.key")
           altered: 42 Some("Null value not supported for : retention.ms")
           altered: 42 Some("Error due to duplicate config keys")
           altered: -1 None"#,
    );
}

#[test]
fn a_broker_s_dynamic_keys_change_and_its_static_ones_do_not() {
    both(
        &Options::new(),
        |address| {
            let mut s = Scenario::on(address);
            alter(&mut s, BROKER, "1", &[("log.retention.ms", 0, Some("777777"))]);
            std::thread::sleep(std::time::Duration::from_millis(200));
            describe(&mut s, BROKER, "1", &["log.retention.ms", "message.max.bytes"]);
            alter(&mut s, BROKER, "1", &[("log.retention.ms", 1, None)]);
            alter(&mut s, BROKER, "1", &[("node.id", 0, Some("5"))]);
            describe(&mut s, BROKER, "7", &["node.id"]);
            s.end()
        },
        r#"altered: 0 None
           log.retention.ms=777777 source 2 read-only false sensitive false type 5 synonyms log.retention.ms=777777@2 log.retention.hours=168@5
           message.max.bytes=1048588 source 5 read-only false sensitive false type 3 synonyms message.max.bytes=1048588@5
           altered: 0 None
           altered: 42 Some("Cannot update these configs dynamically: [node.id]")
           error 42 Some("Unexpected broker id, expected 1 or empty string, but received 7")"#,
    );
}
