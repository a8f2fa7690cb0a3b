use kafka_protocol::messages::MetadataRequest;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use terrace_protocol_tests::compare::fresh_name;
use uuid::Uuid;

use crate::scenario::{Scenario, scenario, topic_name};

fn by_name(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(topic_name(name)))
}

#[test]
fn null_means_all_and_an_empty_list_none() {
    scenario(
        |s| {
            let t = s.topic(2, &[]);
            for version in [1, 8, 12] {
                let all = s.client.call(version, &MetadataRequest::default().with_topics(None));
                let none = s.client.call(version, &MetadataRequest::default().with_topics(Some(vec![])));
                let found = all.topics.iter().find(|found| found.name.as_ref() == Some(&topic_name(&t)));
                s.say(format!(
                    "v{version}: all {:?} none {} brokers {} controller {}",
                    found.map(|t| t.partitions.len()),
                    none.topics.len(),
                    none.brokers.len(),
                    none.controller_id.0
                ));
            }
            // Version 0 has no null: an empty list means all.
            let all = s.client.call(0, &MetadataRequest::default().with_topics(Some(vec![])));
            s.say(format!("v0: {}", all.topics.iter().any(|found| found.name.as_ref() == Some(&topic_name(&t)))));
        },
        "v1: all Some(2) none 0 brokers 1 controller 1
         v8: all Some(2) none 0 brokers 1 controller 1
         v12: all Some(2) none 0 brokers 1 controller 1
         v0: true",
    );
}

#[test]
fn an_unknown_topic_is_made_as_it_is_asked_for() {
    scenario(
        |s| {
            let name = fresh_name("auto");
            let without = MetadataRequest::default()
                .with_allow_auto_topic_creation(false)
                .with_topics(Some(vec![by_name(&name)]));
            let answer = s.client.call(9, &without);
            s.say(format!("not allowed: {}", answer.topics[0].error_code));
            let with = MetadataRequest::default().with_topics(Some(vec![by_name(&name)]));
            let answer = s.client.call(9, &with);
            s.say(format!("first: {} partitions {}", answer.topics[0].error_code, answer.topics[0].partitions.len()));
            let answer = loop {
                let answer = s.client.call(9, &with);
                if answer.topics[0].error_code == 0 {
                    break answer;
                }
            };
            s.say(format!("then: {} partitions {}", answer.topics[0].error_code, answer.topics[0].partitions.len()));
        },
        "not allowed: 3
         first: 3 partitions 0
         then: 0 partitions 1",
    );
}

#[test]
fn illegal_names_and_unknown_ids_are_errors_of_their_topic() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            let id = s.topic_id(&t).expect("it exists");
            let long = "x".repeat(250);
            for name in ["bad name", "..", long.as_str()] {
                let request = MetadataRequest::default().with_topics(Some(vec![by_name(name)]));
                let error = s_topic_error(s, 9, &request);
                s.say(format!("name: {error}"));
            }
            for id in [id, Uuid::from_u128(5)] {
                let topic = MetadataRequestTopic::default().with_name(None).with_topic_id(id);
                let request = MetadataRequest::default().with_topics(Some(vec![topic]));
                let answer = s.client.call(12, &request);
                let found = &answer.topics[0];
                s.say(format!("id: {} named {}", found.error_code, found.name.as_ref() == Some(&topic_name(&t))));
            }
        },
        "name: 17
         name: 17
         name: 17
         id: 0 named true
         id: 100 named false",
    );
}

fn s_topic_error(s: &mut Scenario, version: i16, request: &MetadataRequest) -> i16 {
    s.client.call(version, request).topics[0].error_code
}

#[test]
fn authorized_operations_are_told_when_asked_for() {
    scenario(
        |s| {
            let t = s.topic(1, &[]);
            for include in [false, true] {
                let request = MetadataRequest::default()
                    .with_include_topic_authorized_operations(include)
                    .with_topics(Some(vec![by_name(&t)]));
                let answer = s.client.call(12, &request);
                s.say(answer.topics[0].topic_authorized_operations);
            }
        },
        "-2147483648
         3576",
    );
}

#[test]
fn the_cluster_id_is_stable_and_internal_topics_are_shown_as_such() {
    scenario(
        |s| {
            let request = MetadataRequest::default().with_topics(Some(vec![]));
            let (first, second) = (s.client.call(9, &request), s.client.call(9, &request));
            s.say(format!(
                "same {} length {:?}",
                first.cluster_id == second.cluster_id,
                first.cluster_id.as_ref().map(|id| id.len())
            ));
            let request = MetadataRequest::default().with_topics(Some(vec![by_name("__consumer_offsets")]));
            let answer = loop {
                let answer = s.client.call(9, &request);
                if answer.topics[0].error_code == 0 {
                    break answer;
                }
            };
            s.say(format!(
                "internal {} partitions {}",
                answer.topics[0].is_internal,
                answer.topics[0].partitions.len()
            ));
        },
        "same true length Some(22)
         internal true partitions 50",
    );
}
