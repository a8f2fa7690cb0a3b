use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};

use crate::scenario::{Scenario, scenario, text};

pub const TOPIC: i8 = 2;
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

pub fn alter(s: &mut Scenario, kind: i8, name: &str, changes: &[(&str, i8, Option<&str>)]) {
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
    scenario(
        |s| {
            let t = s.topic(1, &[("retention.ms", "1000000")]);
            describe(s, TOPIC, &t, &["retention.ms", "segment.bytes", "cleanup.policy", "flush.ms"]);
            describe(s, TOPIC, "no-such-topic", &["retention.ms"]);
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
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let (set, delete, append, subtract) = (0, 1, 2, 3);
            let look = |s: &mut Scenario| {
                // Apache Kafka answers before its broker has applied the change.
                std::thread::sleep(std::time::Duration::from_millis(500));
                describe(s, TOPIC, &t, &["cleanup.policy", "retention.ms"]);
            };
            alter(s, TOPIC, &t, &[("retention.ms", set, Some("5000")), ("cleanup.policy", append, Some("compact"))]);
            look(s);
            alter(s, TOPIC, &t, &[("cleanup.policy", subtract, Some("delete")), ("retention.ms", delete, None)]);
            look(s);
            alter(s, TOPIC, &t, &[("retention.ms", append, Some("1"))]);
            alter(s, TOPIC, &t, &[("retention.ms", set, Some("x"))]);
            alter(s, TOPIC, &t, &[("no.such.key", set, Some("1"))]);
            alter(s, TOPIC, &t, &[("retention.ms", set, None)]);
            alter(s, TOPIC, &t, &[("retention.ms", set, Some("1")), ("retention.ms", delete, None)]);
            alter(s, TOPIC, &t, &[("retention.ms", 9, Some("1"))]);
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
    scenario(
        |s| {
            alter(s, BROKER, "1", &[("background.threads", 0, Some("7"))]);
            std::thread::sleep(std::time::Duration::from_millis(500));
            describe(s, BROKER, "1", &["background.threads", "message.max.bytes"]);
            alter(s, BROKER, "1", &[("background.threads", 1, None)]);
            alter(s, BROKER, "1", &[("node.id", 0, Some("5"))]);
            describe(s, BROKER, "7", &["node.id"]);
        },
        r#"altered: 0 None
           background.threads=7 source 2 read-only false sensitive false type 3 synonyms background.threads=7@2 background.threads=10@5
           message.max.bytes=1048588 source 5 read-only false sensitive false type 3 synonyms message.max.bytes=1048588@5
           altered: 0 None
           altered: 42 Some("Cannot update these configs dynamically: [node.id]")
           error 42 Some("Unexpected broker id, expected 1 or empty string, but received 7")"#,
    );
}

/// Descriptions of several resources in one request: kind, error, message.
fn describe_all(s: &mut Scenario, version: i16, resources: &[(i8, &str)]) {
    let resources = resources.iter().map(|(kind, name)| {
        DescribeConfigsResource::default()
            .with_resource_type(*kind)
            .with_resource_name(text(name))
            .with_configuration_keys(None)
    });
    let answer = s.client.call(version, &DescribeConfigsRequest::default().with_resources(resources.collect()));
    for r in answer.results {
        let message = r.error_message.as_ref().map(|m| m.to_string());
        s.say(format!("{} {:?}: {} {message:?}", r.resource_type, &*r.resource_name, r.error_code));
    }
}

#[test]
fn each_resource_stands_for_itself_and_an_unknown_type_spoils_all() {
    scenario(
        |s| {
            describe_all(s, 4, &[(BROKER, "1"), (8, "1"), (16, "no-such"), (32, "g")]);
            describe_all(s, 4, &[(8, ""), (8, "x"), (8, "7"), (16, ""), (32, "")]);
            describe_all(s, 4, &[(BROKER, "1"), (99, "x")]);
            describe_all(s, 4, &[(BROKER, "x"), (BROKER, "1")]);
        },
        r#"4 "1": 0 Some("")
           8 "1": 0 Some("")
           16 "no-such": 0 Some("")
           32 "g": 0 Some("")
           8 "": 42 Some("Broker id must not be empty")
           8 "x": 42 Some("Broker id must be an integer, but it is: x")
           8 "7": 42 Some("Unexpected broker id, expected 1 but received 7")
           16 "": 42 Some("Client metrics subscription name must not be empty")
           32 "": 42 Some("Group name must not be empty")
           4 "1": 42 Some("This most likely occurs because of a request being malformed by the client library or the message was sent to an incompatible broker. See the broker logs for more details.")
           99 "x": 42 Some("This most likely occurs because of a request being malformed by the client library or the message was sent to an incompatible broker. See the broker logs for more details.")
           4 "x": 42 Some("Broker id must be an integer, but it is: x")
           4 "1": 0 Some("")"#,
    );
}

#[test]
fn sensitive_values_are_never_told() {
    scenario(
        |s| {
            let keys = ["ssl.keystore.password", "ssl.key.password", "sasl.jaas.config", "ssl.keystore.location"];
            describe(s, BROKER, "1", &keys);
        },
        "sasl.jaas.config=null source 5 read-only false sensitive true type 9 synonyms
         ssl.key.password=null source 5 read-only false sensitive true type 9 synonyms
         ssl.keystore.location=null source 5 read-only false sensitive false type 2 synonyms
         ssl.keystore.password=null source 5 read-only false sensitive true type 9 synonyms",
    );
}
