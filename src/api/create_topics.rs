//! CreateTopics 2-7.
//!
//! Versions: 4 -1 for the broker's default counts (KIP-464; older versions are read alike, as Kafka does), 5 flexible, the answer
//! tells counts and configuration (KIP-525), 7 topic ids.
//!
//! Codes, words and their precedence are Kafka's: names, then existing topics, then configuration, then counts. All
//! topics of a request that pass are committed together.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use kafka_protocol::protocol::StrBytes;
use terrace_tiering::platform::random::Random;

use super::change::{Refusal, commit, duplicates};
use super::topic_creation::illegal_name;
use super::{Call, Disconnect, Node, assignment};
use crate::config::layers::Dynamic;
use crate::config::server::BrokerConfig;
use crate::config::{alter, describe};
use crate::metadata::image::{Change, ConfigOverrides, Image, Topic};
use crate::protocol::error_code::ErrorCode;

/// Partitions that one request may create, as in Kafka.
pub(super) const PARTITIONS_PER_REQUEST_MAX: i64 = 10_000;
const CLUSTER_METADATA: &str = "__cluster_metadata";

/// Answers one request.
pub async fn handle(
    node: &Node,
    _call: &Call,
    request: CreateTopicsRequest,
) -> Result<CreateTopicsResponse, Disconnect> {
    let (mut results, outcome) = commit(node, |image| {
        let creation = Creation { config: &node.config, image, random: &*node.random };
        let (results, topics) = creation.plan(&request.topics);
        let changes = if request.validate_only { Vec::new() } else { topics };
        (results, changes.into_iter().map(Change::CreateTopic).collect())
    })
    .await;
    if let Err(refusal) = outcome {
        for result in results.iter_mut().filter(|result| result.error_code == ErrorCode::None.code()) {
            *result = refused(&result.name.0, &refusal);
        }
    }
    Ok(CreateTopicsResponse::default().with_topics(results))
}

fn refused(name: &StrBytes, refusal: &Refusal) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(name.clone().into())
        .with_error_code(refusal.code.code())
        .with_error_message(refusal.text())
}

/// What decides whether a topic can be created.
struct Creation<'a> {
    config: &'a BrokerConfig,
    image: &'a Image,
    random: &'a dyn Random,
}

impl Creation<'_> {
    /// One result for each name of the request, and the topics of those that pass.
    fn plan(&self, asked: &[CreatableTopic]) -> (Vec<CreatableTopicResult>, Vec<Topic>) {
        let twice = duplicates(asked.iter().map(|topic| topic.name.0.clone()));
        let partitions: i64 = asked.iter().map(|topic| self.partitions_asked(topic)).sum();
        let too_many = partitions > PARTITIONS_PER_REQUEST_MAX;
        let (mut results, mut topics) = (Vec::new(), Vec::new());
        for topic in asked.iter().filter(|topic| !twice.contains(&topic.name.0)) {
            let outcome = match too_many {
                true => Err(too_many_partitions()),
                false => self.topic(topic),
            };
            results.push(match outcome {
                Ok(created) => {
                    let result = self.created(&created);
                    topics.push(created);
                    result
                }
                Err(refusal) => refused(&topic.name.0, &refusal),
            });
        }
        let duplicate = Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.");
        results.extend(twice.iter().map(|name| refused(name, &duplicate)));
        (results, topics)
    }

    fn partitions_asked(&self, topic: &CreatableTopic) -> i64 {
        match (topic.assignments.len(), topic.num_partitions) {
            (0, -1) => i64::from(self.config.topics.partitions),
            (0, count) => i64::from(count.max(0)),
            (assigned, _) => assigned as i64,
        }
    }

    fn topic(&self, asked: &CreatableTopic) -> Result<Topic, Refusal> {
        let name: &str = &asked.name.0;
        self.check_name(name)?;
        let config = self.overrides(name, asked)?;
        let (partition_count, replication_factor) =
            if asked.assignments.is_empty() { self.counts(asked)? } else { self.assigned(asked)? };
        let id = self.random.uuid();
        Ok(Topic { id, name: Arc::from(name), partition_count, replication_factor, config })
    }

    fn check_name(&self, name: &str) -> Result<(), Refusal> {
        if name == CLUSTER_METADATA {
            let why = format!("Creation of internal topic {CLUSTER_METADATA} is prohibited.");
            return Err(Refusal::new(ErrorCode::InvalidRequest, why));
        }
        if let Some(why) = illegal_name(name) {
            return Err(Refusal::new(ErrorCode::InvalidTopicException, why));
        }
        if self.image.topic(name).is_some() {
            let why = format!("Topic '{name}' already exists.");
            return Err(Refusal::new(ErrorCode::TopicAlreadyExists, why));
        }
        match colliding(self.image, name) {
            Some(other) => {
                let why = format!("Topic '{name}' collides with existing topic: {other}");
                Err(Refusal::new(ErrorCode::InvalidTopicException, why))
            }
            None => Ok(()),
        }
    }

    fn overrides(&self, name: &str, asked: &CreatableTopic) -> Result<ConfigOverrides, Refusal> {
        let invalid = |why: String| Refusal::new(ErrorCode::InvalidConfig, why);
        let nulls: Vec<&str> =
            asked.configs.iter().filter(|config| config.value.is_none()).map(|config| &*config.name).collect();
        if !nulls.is_empty() {
            return Err(invalid(format!("Null value not supported for topic configs: {}", nulls.join(","))));
        }
        let set = |value: &Option<StrBytes>| value.as_deref().unwrap_or_default().to_owned();
        let overrides: ConfigOverrides =
            asked.configs.iter().map(|config| (config.name.to_string(), set(&config.value))).collect();
        alter::validate_topic(self.config, self.dynamic(), name, &ConfigOverrides::new(), &overrides)
            .map_err(|error| invalid(error.to_string()))?;
        Ok(overrides)
    }

    fn counts(&self, asked: &CreatableTopic) -> Result<(i32, i16), Refusal> {
        let topics = &self.config.topics;
        let factor = match asked.replication_factor {
            -1 => topics.replication_factor,
            factor if factor > 0 => factor,
            _ => {
                let why = "Replication factor must be larger than 0, or -1 to use the default value.";
                return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, why));
            }
        };
        let count = match asked.num_partitions {
            -1 => topics.partitions,
            count if count > 0 => count,
            _ => {
                let why = "Number of partitions was set to an invalid non-positive value.";
                return Err(Refusal::new(ErrorCode::InvalidPartitions, why));
            }
        };
        if factor > 1 && !topics.accept_any_replication_factor {
            let why = format!(
                "Unable to replicate the partition {factor} time(s): The target replication factor of {factor} cannot be \
                 reached because only 1 broker(s) are registered or some brokers have all their log directories cordoned."
            );
            return Err(Refusal::new(ErrorCode::InvalidReplicationFactor, why));
        }
        Ok((count, factor))
    }

    fn assigned(&self, asked: &CreatableTopic) -> Result<(i32, i16), Refusal> {
        let both = |field: &str| {
            let why = format!("A manual partition assignment was specified, but {field} was not set to -1.");
            Err(Refusal::new(ErrorCode::InvalidRequest, why))
        };
        if asked.replication_factor != -1 {
            return both("replication factor");
        }
        if asked.num_partitions != -1 {
            return both("numPartitions");
        }
        let wrong = |why: String| Err(Refusal::new(ErrorCode::InvalidReplicaAssignment, why));
        let mut by_partition = BTreeMap::new();
        for assignment in &asked.assignments {
            if by_partition.contains_key(&assignment.partition_index) {
                let partition = assignment.partition_index;
                return wrong(format!("Found multiple manual partition assignments for partition {partition}"));
            }
            assignment::check(self.config.node_id, &assignment.broker_ids)?;
            by_partition.insert(assignment.partition_index, ());
        }
        if !by_partition.keys().copied().eq(0..by_partition.len() as i32) {
            return wrong("partitions should be a consecutive 0-based integer sequence".to_owned());
        }
        Ok((by_partition.len() as i32, 1))
    }

    fn created(&self, topic: &Topic) -> CreatableTopicResult {
        let described = describe::topic(self.config, self.dynamic(), &topic.name, &topic.config);
        let configs = described.into_iter().map(|entry| {
            CreatableTopicConfigs::default()
                .with_name(StrBytes::from_static_str(entry.name))
                .with_value(entry.value.map(StrBytes::from_string))
                .with_read_only(entry.read_only)
                .with_config_source(entry.source.code())
                .with_is_sensitive(entry.sensitive)
        });
        CreatableTopicResult::default()
            .with_name(StrBytes::from_string(topic.name.to_string()).into())
            .with_error_message(None)
            .with_topic_id(topic.id)
            .with_num_partitions(topic.partition_count)
            .with_replication_factor(topic.replication_factor)
            .with_configs(Some(configs.collect()))
    }

    fn dynamic(&self) -> Dynamic<'_> {
        Dynamic::of(&self.image.broker_configs, self.config.node_id)
    }
}

/// What Kafka says to a request that would create more than [`PARTITIONS_PER_REQUEST_MAX`].
pub(super) fn too_many_partitions() -> Refusal {
    Refusal::new(ErrorCode::PolicyViolation, "Excessively large number of partitions per request.")
}

/// The topic whose metrics could not be told from those of `name`: `.` and `_` are one there.
fn colliding<'i>(image: &'i Image, name: &str) -> Option<&'i str> {
    let plain = |byte: u8| if byte == b'.' { b'_' } else { byte };
    if !name.contains(['.', '_']) {
        return None;
    }
    let same = |other: &str| other.len() == name.len() && other.bytes().map(plain).eq(name.bytes().map(plain));
    image.topics.keys().map(|other| &**other).find(|other| same(other))
}

#[cfg(test)]
mod tests;
