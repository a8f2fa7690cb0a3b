//! DeleteTopics 1-6. Version 4 is flexible, 5 has messages (KIP-599), 6 topic ids (KIP-516).

use std::collections::BTreeSet;

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::delete_topics_request::DeleteTopicsRequest;
use kafka_protocol::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::change::{Refusal, commit, duplicates};
use super::{Call, Disconnect, Node};
use crate::metadata::image::{Change, Image};
use crate::protocol::error_code::ErrorCode;

/// The first version in which a topic can be named by its id.
const TOPIC_IDS_FROM: i16 = 6;
/// The first version whose clients know TOPIC_DELETION_DISABLED.
const DISABLED_FROM: i16 = 3;

/// A topic as the request names it; the result repeats it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    name: Option<TopicName>,
    id: Uuid,
}

/// Answers one request.
pub async fn handle(
    node: &Node,
    call: &Call,
    request: DeleteTopicsRequest,
) -> Result<DeleteTopicsResponse, Disconnect> {
    let asked = asked(call.version, &request);
    if !node.config.topics.delete_enable {
        let code =
            if call.version < DISABLED_FROM { ErrorCode::InvalidRequest } else { ErrorCode::TopicDeletionDisabled };
        let disabled = Refusal::new(code, "Topic deletion is disabled.");
        let responses = asked.iter().map(|topic| result(topic, Some(&disabled))).collect();
        return Ok(DeleteTopicsResponse::default().with_responses(responses));
    }
    let (mut responses, outcome) = commit(node, |image| plan(image, &asked)).await;
    if let Err(refusal) = outcome {
        for response in responses.iter_mut().filter(|response| response.error_code == ErrorCode::None.code()) {
            response.error_code = refusal.code.code();
            response.error_message = refusal.text();
        }
    }
    Ok(DeleteTopicsResponse::default().with_responses(responses))
}

fn asked(version: i16, request: &DeleteTopicsRequest) -> Vec<Named> {
    if version >= TOPIC_IDS_FROM {
        request.topics.iter().map(|topic| Named { name: topic.name.clone(), id: topic.topic_id }).collect()
    } else {
        request.topic_names.iter().map(|name| Named { name: Some(name.clone()), id: Uuid::nil() }).collect()
    }
}

fn result(topic: &Named, refusal: Option<&Refusal>) -> DeletableTopicResult {
    let result = DeletableTopicResult::default().with_name(topic.name.clone()).with_topic_id(topic.id);
    match refusal {
        None => result,
        Some(refusal) => result.with_error_code(refusal.code.code()).with_error_message(refusal.text()),
    }
}

fn plan(image: &Image, asked: &[Named]) -> (Vec<DeletableTopicResult>, Vec<Change>) {
    let invalid = |why: &str| Refusal::new(ErrorCode::InvalidRequest, why);
    let (mut results, mut changes) = (Vec::new(), Vec::new());

    // First what is wrong with the request itself, then what it names.
    let (mut names, mut ids) = (Vec::new(), Vec::new());
    for topic in asked {
        match (&topic.name, topic.id.is_nil()) {
            (None, true) => results.push(result(topic, Some(&invalid("Neither topic name nor id were specified.")))),
            (Some(_), false) => {
                results.push(result(topic, Some(&invalid("You may not specify both topic name and topic id."))));
            }
            (Some(name), true) => names.push(name.clone()),
            (None, false) => ids.push(topic.id),
        }
    }
    let (names_twice, ids_twice) = (duplicates(names.iter().cloned()), duplicates(ids.iter().copied()));
    for name in &names_twice {
        let topic = Named { name: Some(name.clone()), id: Uuid::nil() };
        results.push(result(&topic, Some(&invalid("Duplicate topic name."))));
    }
    for id in &ids_twice {
        results.push(result(&Named { name: None, id: *id }, Some(&invalid("Duplicate topic id."))));
    }

    let mut supplied_both: BTreeSet<TopicName> = BTreeSet::new();
    for id in ids.into_iter().filter(|id| !ids_twice.contains(id)) {
        let Some(topic) = image.topic_by_id(&id) else {
            let unknown = Refusal::new(ErrorCode::UnknownTopicId, "This server does not host this topic ID.");
            results.push(result(&Named { name: None, id }, Some(&unknown)));
            continue;
        };
        let name: TopicName = StrBytes::from_string(topic.name.to_string()).into();
        let named = Named { name: Some(name.clone()), id };
        if names.contains(&name) {
            let why = "The provided topic name maps to an ID that was already supplied.";
            results.push(result(&named, Some(&invalid(why))));
            supplied_both.insert(name);
        } else {
            results.push(result(&named, None));
            changes.push(Change::DeleteTopic(id));
        }
    }
    for name in names.into_iter().filter(|name| !names_twice.contains(name) && !supplied_both.contains(name)) {
        match image.topic(&name) {
            Some(topic) => {
                results.push(result(&Named { name: Some(name), id: topic.id }, None));
                changes.push(Change::DeleteTopic(topic.id));
            }
            None => {
                let why = "This server does not host this topic-partition.";
                let unknown = Refusal::new(ErrorCode::UnknownTopicOrPartition, why);
                results.push(result(&Named { name: Some(name), id: Uuid::nil() }, Some(&unknown)));
            }
        }
    }
    (results, changes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::metadata::image::{ConfigOverrides, Topic};

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn image() -> Image {
        let mut image = Image::default();
        for (number, name) in [(5, "p5"), (2, "p2")] {
            let topic = Topic {
                id: id(number),
                name: Arc::from(name),
                partition_count: 1,
                replication_factor: 1,
                config: ConfigOverrides::new(),
            };
            image.apply(&Change::CreateTopic(topic)).expect("a new topic");
        }
        image
    }

    fn named(name: Option<&'static str>, number: u128) -> Named {
        Named { name: name.map(|name| StrBytes::from_static_str(name).into()), id: id(number) }
    }

    type Answer = (Option<String>, u128, i16, Option<String>);

    fn check(asked: &[Named], expected: &[(Option<&str>, u128, i16, Option<&str>)], deleted: &[u128]) {
        let (results, changes) = plan(&image(), asked);
        let answers: Vec<Answer> = results
            .into_iter()
            .map(|result| {
                let name = result.name.map(|name| name.to_string());
                let message = result.error_message.map(|message| message.to_string());
                (name, result.topic_id.as_u128(), result.error_code, message)
            })
            .collect();
        let owned = |text: &Option<&str>| text.map(str::to_owned);
        let expected: Vec<Answer> = expected
            .iter()
            .map(|(name, number, code, message)| (owned(name), *number, *code, owned(message)))
            .collect();
        assert_eq!(answers, expected);
        assert_eq!(changes, deleted.iter().map(|number| Change::DeleteTopic(id(*number))).collect::<Vec<_>>());
    }

    /// Codes and words of these tests were taken from Apache Kafka 4.3.1.
    #[test]
    fn a_topic_is_deleted_by_name_or_by_id() {
        check(&[named(Some("p5"), 0)], &[(Some("p5"), 5, 0, None)], &[5]);
        check(&[named(None, 2)], &[(Some("p2"), 2, 0, None)], &[2]);
    }

    #[test]
    fn what_is_named_twice_stays() {
        let twice = "The provided topic name maps to an ID that was already supplied.";
        check(&[named(Some("p5"), 0), named(None, 5)], &[(Some("p5"), 5, 42, Some(twice))], &[]);
        let name = [named(Some("p5"), 0), named(Some("p5"), 0)];
        check(&name, &[(Some("p5"), 0, 42, Some("Duplicate topic name."))], &[]);
        check(&[named(None, 5), named(None, 5)], &[(None, 5, 42, Some("Duplicate topic id."))], &[]);
    }

    #[test]
    fn what_is_not_named_rightly_is_refused() {
        check(&[named(None, 0)], &[(None, 0, 42, Some("Neither topic name nor id were specified."))], &[]);
        let both = "You may not specify both topic name and topic id.";
        check(&[named(Some("p2"), 2)], &[(Some("p2"), 2, 42, Some(both))], &[]);
        check(&[named(None, 9)], &[(None, 9, 100, Some("This server does not host this topic ID."))], &[]);
        let unknown = "This server does not host this topic-partition.";
        check(&[named(Some("nope"), 0)], &[(Some("nope"), 0, 3, Some(unknown))], &[]);
    }
}
