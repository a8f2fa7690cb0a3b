use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest};
use terrace_protocol_tests::compare::fresh_name;
use uuid::Uuid;

use crate::scenario::{Scenario, scenario, text, topic_name};

fn topic(name: &str, partitions: i32, factor: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(factor)
}

fn create(s: &mut Scenario, what: &str, validate_only: bool, topics: Vec<CreatableTopic>) {
    let names: Vec<_> = topics.iter().map(|t| t.name.to_string()).collect();
    let request =
        CreateTopicsRequest::default().with_timeout_ms(10_000).with_validate_only(validate_only).with_topics(topics);
    let mut answer = s.client.call(7, &request).topics;
    answer.sort_by(|a, b| a.name.cmp(&b.name));
    for found in answer {
        let mut message = found.error_message.map(|m| m.to_string());
        for name in &names {
            message = message.map(|m| m.replace(name.as_str(), "NAME"));
        }
        s.say(format!(
            "{what}: {} {message:?} partitions {} factor {} id {}",
            found.error_code,
            found.num_partitions,
            found.replication_factor,
            found.topic_id != Uuid::nil(),
        ));
    }
}

#[test]
fn topics_are_made_and_every_refusal_has_a_reason() {
    scenario(
        |s| {
            let name = fresh_name("t");
            create(s, "only validated", true, vec![topic(&name, 3, 1)]);
            create(s, "made", false, vec![topic(&name, 3, 1)]);
            while s.topic_id(&name).is_none() {}
            create(s, "exists", false, vec![topic(&name, 3, 1)]);
            create(s, "defaults", false, vec![topic(&fresh_name("t"), -1, -1)]);
            create(s, "no partitions", false, vec![topic(&fresh_name("t"), 0, 1)]);
            create(s, "no replicas", false, vec![topic(&fresh_name("t"), 1, 0)]);
            create(s, "too many replicas", false, vec![topic(&fresh_name("t"), 1, 3)]);
            create(s, "bad name", false, vec![topic("bad name", 1, 1)]);
            let twice = fresh_name("t");
            create(s, "twice", false, vec![topic(&twice, 1, 1), topic(&twice, 1, 1)]);
            let base = fresh_name("t").replace('-', "_");
            create(s, "underscore", false, vec![topic(&format!("{base}_x"), 1, 1)]);
            while s.topic_id(&format!("{base}_x")).is_none() {}
            let with_dot = vec![topic(&format!("{base}.x"), 1, 1)];
            let request = CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(with_dot);
            let answer = s.client.call(7, &request);
            s.say(format!("collides: {}", answer.topics[0].error_code));
        },
        r#"only validated: 0 None partitions 3 factor 1 id true
           made: 0 None partitions 3 factor 1 id true
           exists: 36 Some("Topic 'NAME' already exists.") partitions -1 factor -1 id false
           defaults: 0 None partitions 1 factor 1 id true
           no partitions: 37 Some("Number of partitions was set to an invalid non-positive value.") partitions -1 factor -1 id false
           no replicas: 38 Some("Replication factor must be larger than 0, or -1 to use the default value.") partitions -1 factor -1 id false
           too many replicas: 38 Some("Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached because only 1 broker(s) are registered or some brokers have all their log directories cordoned.") partitions -1 factor -1 id false
           bad name: 17 Some("Topic name is invalid: 'NAME' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'") partitions -1 factor -1 id false
           twice: 42 Some("Duplicate topic name.") partitions -1 factor -1 id false
           underscore: 0 None partitions 1 factor 1 id true
           collides: 17"#,
    );
}

#[test]
fn assignments_and_configurations_are_checked() {
    scenario(
        |s| {
            let assigned = |partition: i32, brokers: &[i32]| {
                CreatableReplicaAssignment::default()
                    .with_partition_index(partition)
                    .with_broker_ids(brokers.iter().map(|b| BrokerId(*b)).collect())
            };
            let with = |assignments: Vec<CreatableReplicaAssignment>| {
                topic(&fresh_name("t"), -1, -1).with_assignments(assignments)
            };
            create(s, "assigned", false, vec![with(vec![assigned(0, &[1]), assigned(1, &[1])])]);
            create(s, "unknown broker", false, vec![with(vec![assigned(0, &[7])])]);
            create(s, "gap", false, vec![with(vec![assigned(1, &[1])])]);
            create(s, "broker twice", false, vec![with(vec![assigned(0, &[1, 1])])]);
            let both = topic(&fresh_name("t"), 1, -1).with_assignments(vec![assigned(0, &[1])]);
            create(s, "both", false, vec![both]);
            for (key, value) in
                [("retention.ms", "x"), ("no.such.key", "1"), ("cleanup.policy", "shred"), ("segment.bytes", "1")]
            {
                let config = CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)));
                create(s, key, false, vec![topic(&fresh_name("t"), 1, 1).with_configs(vec![config])]);
            }
            let null = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(None);
            create(s, "null", false, vec![topic(&fresh_name("t"), 1, 1).with_configs(vec![null])]);
        },
        r#"assigned: 0 None partitions 2 factor 1 id true
           unknown broker: 39 Some("The manual partition assignment includes broker 7, but no such broker is registered.") partitions -1 factor -1 id false
           gap: 39 Some("partitions should be a consecutive 0-based integer sequence") partitions -1 factor -1 id false
           broker twice: 39 Some("The manual partition assignment includes the broker 1 more than once.") partitions -1 factor -1 id false
           both: 42 Some("A manual partition assignment was specified, but numPartitions was not set to -1.") partitions -1 factor -1 id false
           retention.ms: 40 Some("Invalid value x for configuration retention.ms: Not a number of type LONG") partitions -1 factor -1 id false
           no.such.key: 40 Some("Unknown topic config name: no.such.key") partitions -1 factor -1 id false
           cleanup.policy: 40 Some("Invalid value shred for configuration cleanup.policy: String must be one of: compact, delete") partitions -1 factor -1 id false
           segment.bytes: 40 Some("Invalid value 1 for configuration segment.bytes: Value must be at least 1048576") partitions -1 factor -1 id false
           null: 40 Some("Null value not supported for topic configs: retention.ms") partitions -1 factor -1 id false"#,
    );
}

#[test]
fn topics_are_deleted_by_name_and_by_id() {
    scenario(
        |s| {
            let (a, b) = (s.topic(1, &[]), s.topic(1, &[]));
            let id = s.topic_id(&b).expect("it exists");
            let states = vec![
                DeleteTopicState::default().with_name(Some(topic_name(&a))),
                DeleteTopicState::default().with_name(None).with_topic_id(id),
                DeleteTopicState::default().with_name(None).with_topic_id(Uuid::from_u128(8)),
                DeleteTopicState::default().with_name(Some(topic_name("no-such-topic"))),
            ];
            let answer = s.client.call(6, &DeleteTopicsRequest::default().with_timeout_ms(10_000).with_topics(states));
            let mut rows: Vec<_> = answer
                .responses
                .iter()
                .map(|r| (r.error_code, r.name.as_ref().is_some_and(|n| *n == topic_name(&b)), r.topic_id == id))
                .collect();
            rows.sort_unstable();
            s.say(format!("{rows:?}"));
            while s.topic_id(&a).is_some() || s.topic_id(&b).is_some() {}
            s.say("gone");
        },
        "[(0, false, false), (0, true, true), (3, false, false), (100, false, false)]
         gone",
    );
}

#[test]
fn partitions_are_added_and_never_taken_away() {
    scenario(
        |s| {
            let t = s.topic(2, &[]);
            for (name, count) in [(t.as_str(), 3), (&t, 3), (&t, 1), (&t, 0), ("no-such-topic", 2)] {
                let request = CreatePartitionsRequest::default().with_timeout_ms(10_000).with_topics(vec![
                    CreatePartitionsTopic::default()
                        .with_name(topic_name(name))
                        .with_count(count)
                        .with_assignments(None),
                ]);
                let answer = s.client.call(3, &request);
                let found = &answer.results[0];
                let message = found.error_message.as_ref().map(|m| m.to_string().replace(&t, "NAME"));
                s.say(format!("{count}: {} {message:?}", found.error_code));
                while name == t && s.list_offset(&t, 2, -1).0 != 0 {}
            }
        },
        r#"3: 0 None
           3: 37 Some("Topic already has 3 partition(s).")
           1: 37 Some("The topic NAME currently has 3 partition(s); 1 would not be an increase.")
           0: 37 Some("The topic NAME currently has 3 partition(s); 0 would not be an increase.")
           2: 3 None"#,
    );
}

#[test]
fn names_that_differ_only_by_dots_collide() {
    scenario(
        |s| {
            let base = fresh_name("t").replace('-', "_");
            let names = [format!("{base}_x"), format!("{base}.x"), format!("{base}.y.z"), format!("{base}_y.z")];
            create(s, "underscore", false, vec![topic(&names[0], 1, 1)]);
            while s.topic_id(&names[0]).is_none() {}
            for validate in [true, false] {
                let request = CreateTopicsRequest::default()
                    .with_timeout_ms(10_000)
                    .with_validate_only(validate)
                    .with_topics(names[1..].iter().map(|name| topic(name, 1, 1)).collect());
                let mut answer = s.client.call(7, &request).topics;
                answer.sort_by_key(|found| names.iter().position(|name| *name == found.name.as_str()));
                for found in answer {
                    let message = found.error_message.map(|m| m.replace(&base, "BASE"));
                    s.say(format!("{} {message:?}", found.error_code));
                }
            }
            create(s, "dot", false, vec![topic(".", 1, 1)]);
            create(s, "long", false, vec![topic(&"x".repeat(250), 1, 1)]);
            create(s, "factor -2", false, vec![topic(&fresh_name("t"), 1, -2)]);
            create(s, "partitions -2", false, vec![topic(&fresh_name("t"), -2, 1)]);
        },
        r#"underscore: 0 None partitions 1 factor 1 id true
           17 Some("Topic 'BASE.x' collides with existing topic: BASE_x")
           0 None
           0 None
           17 Some("Topic 'BASE.x' collides with existing topic: BASE_x")
           0 None
           0 None
           dot: 17 Some("Topic name is invalid: 'NAME' is not allowed") partitions -1 factor -1 id false
           long: 17 Some("Topic name is invalid: the length of 'NAME' is longer than the max allowed length 249") partitions -1 factor -1 id false
           factor -2: 38 Some("Replication factor must be larger than 0, or -1 to use the default value.") partitions -1 factor -1 id false
           partitions -2: 37 Some("Number of partitions was set to an invalid non-positive value.") partitions -1 factor -1 id false"#,
    );
}

#[test]
fn configurations_come_back_with_the_topic_and_mixed_requests_with_each_result() {
    scenario(
        |s| {
            let config = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("77")));
            let good = fresh_name("a");
            let topics = vec![
                topic(&good, 1, 1).with_configs(vec![config.clone()]),
                topic(&fresh_name("b"), 1, 9),
                topic(&fresh_name("c"), 1, 1).with_configs(vec![config.clone(), config]),
            ];
            let request = CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(topics);
            let mut answer = s.client.call(7, &request).topics;
            answer.sort_by(|a, b| a.name.cmp(&b.name));
            for found in answer {
                let configs = found.configs.unwrap_or_default();
                let one = configs.iter().find(|c| &*c.name == "retention.ms");
                s.say(format!(
                    "{} {} {:?}",
                    found.error_code,
                    found.topic_config_error_code,
                    one.map(|c| (c.value.as_deref(), c.config_source, c.read_only, c.is_sensitive))
                ));
            }
            for version in [2, 4, 5] {
                let request = CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic(
                    &fresh_name("t"),
                    1,
                    1,
                )]);
                let answer = s.client.call(version, &request).topics.remove(0);
                s.say(format!(
                    "v{version}: {} configs {}",
                    answer.error_code,
                    answer.configs.is_some_and(|c| !c.is_empty())
                ));
            }
        },
        r#"0 0 Some((Some("77"), 1, false, false))
           38 0 None
           0 0 Some((Some("77"), 1, false, false))
           v2: 0 configs false
           v4: 0 configs false
           v5: 0 configs true"#,
    );
}
