//! StreamsGroupHeartbeat 0-1: a member of a streams group joins, lives, and leaves (KIP-1071). At `streams.version` 0 it is
//! answered UNSUPPORTED_VERSION.
//!
//! Internal topics that the topology lacks are made here, before the answer that says so goes out: the next heartbeat finds
//! them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};

use super::text::text;
use super::topic_creation::illegal_name;
use super::{Call, Disconnect, Frame, Node, create_topics};
use crate::config::topic::is_internal;
use crate::group::consumer::Refused;
use crate::group::streams::heartbeat::{HeartbeatAnswer, HeartbeatRequest, Owned};
use crate::group::streams::member::Endpoint;
use crate::group::streams::status::StatusCode;
use crate::group::streams::tasks::{TaskSet, Tasks};
use crate::group::streams::topology::{CopartitionGroup, InternalTopic, Subtopology, Topology, invalid};
use crate::metadata::features::Feature;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame::FrameStart;
use crate::protocol::header::put_response_header;
use crate::protocol::messages::streams::{self, StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse};
use crate::protocol::messages::streams::{EndpointToPartitions, HeartbeatStatus, TaskIds};

/// Failed creations that an answer names.
const FAILURES_MAX: usize = 3;

/// Reads and answers one request.
pub async fn serve(node: &Node, call: &Call, body: Bytes) -> Result<Frame, Disconnect> {
    let request = StreamsGroupHeartbeatRequest::decode(&body);
    let request = request.map_err(|error| Disconnect::Malformed(error.to_string()))?;
    let response = match live(node, call, request).await {
        Ok(answer) => response(answer),
        Err(refused) => refusal(&refused),
    };
    let mut out = BytesMut::new();
    let frame = FrameStart::new(&mut out);
    put_response_header(&mut out, call.key, call.version, call.correlation_id);
    response.encode(call.version, &mut out);
    frame.finish(&mut out, 0);
    Ok(out.freeze())
}

async fn live(node: &Node, call: &Call, request: StreamsGroupHeartbeatRequest) -> Result<HeartbeatAnswer, Refused> {
    if node.metadata.image().features.level(Feature::Streams) < 1 {
        return Err(ErrorCode::UnsupportedVersion.into());
    }
    let heartbeat = heartbeat(call, request)?;
    heartbeat.topology.as_ref().map_or(Ok(()), check_names)?;
    let mut answer = node.groups.streams_heartbeat(heartbeat).await?;
    let missing = std::mem::take(&mut answer.missing);
    if !missing.is_empty() {
        let failures = create(node, call, missing).await?;
        let status = answer.statuses.iter_mut().find(|status| status.code == StatusCode::MissingInternalTopics);
        if let Some(status) = status.filter(|_| !failures.is_empty()) {
            status.detail.push_str(&format!("; Creation failed: {}.", summary(&failures)));
        }
    }
    Ok(answer)
}

fn heartbeat(call: &Call, request: StreamsGroupHeartbeatRequest) -> Result<HeartbeatRequest, Refused> {
    let owned = match (request.active_tasks, request.standby_tasks, request.warmup_tasks) {
        (None, None, None) => Owned::Unchanged,
        (Some(active), Some(standby), Some(warmup)) => {
            Owned::All(Tasks { active: task_set(active), standby: task_set(standby), warmup: task_set(warmup) })
        }
        (active, standby, warmup) => Owned::Partial([active, standby, warmup].map(|role| role.map(task_set))),
    };
    Ok(HeartbeatRequest {
        group: request.group_id,
        member_id: request.member_id,
        epoch: request.member_epoch,
        endpoint_epoch: request.endpoint_epoch,
        instance_id: request.instance_id,
        rack_id: request.rack_id,
        rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|ms| *ms != -1),
        topology: request.topology.map(|(epoch, parts)| topology(epoch, parts)).transpose()?,
        owned,
        process_id: request.process_id,
        endpoint: request.endpoint.map(|endpoint| Endpoint { host: endpoint.host, port: endpoint.port }),
        client_tags: request.client_tags.map(|tags| tags.into_iter().collect()),
        has_task_offsets: request.has_task_offsets,
        has_task_end_offsets: request.has_task_end_offsets,
        shutdown: request.shutdown_application,
        client_id: call.client_id.clone().unwrap_or_default(),
        // As Java prints an address without a name.
        client_host: format!("/{}", call.peer.ip().to_canonical()).into(),
    })
}

fn task_set(tasks: Vec<TaskIds>) -> TaskSet {
    let mut set = TaskSet::new();
    for one in tasks {
        set.entry(one.subtopology).or_default().extend(one.partitions);
    }
    set
}

fn topology(epoch: i32, parts: Vec<streams::Subtopology>) -> Result<Topology, Refused> {
    if epoch < 0 {
        return Err(invalid("Topology epoch must be non-negative."));
    }
    let mut topology = Topology { epoch, ..Topology::default() };
    for part in parts {
        let group = |[source_topics, source_topic_regex, repartition_sources]: [Vec<i16>; 3]| CopartitionGroup {
            source_topics,
            source_topic_regex,
            repartition_sources,
        };
        let one = Subtopology {
            source_topics: part.source_topics,
            source_topic_regex: part.source_topic_regex,
            changelog_topics: part.changelog_topics.into_iter().map(internal).collect(),
            repartition_sinks: part.repartition_sinks,
            repartition_sources: part.repartition_sources.into_iter().map(internal).collect(),
            copartition_groups: part.copartition_groups.into_iter().map(group).collect(),
        };
        if let Some(_twice) = topology.subtopologies.insert(Arc::clone(&part.id), one) {
            return Err(invalid(format!("Subtopology {} is there twice.", part.id)));
        }
    }
    Ok(topology)
}

fn internal(topic: streams::TopicInfo) -> InternalTopic {
    InternalTopic {
        name: topic.name,
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        configs: topic.configs,
    }
}

fn check_names(topology: &Topology) -> Result<(), Refused> {
    let names = topology.topic_names();
    let those = |wrong: fn(&str) -> bool| {
        names.iter().filter(|name| wrong(name)).map(|name| &***name).collect::<Vec<_>>().join(",")
    };
    let prohibited = those(is_internal);
    if !prohibited.is_empty() {
        return Err(invalid(format!(
            "Use of Kafka internal topics {prohibited} in a Kafka Streams topology is prohibited."
        )));
    }
    let illegal = those(|name| illegal_name(name).is_some());
    if !illegal.is_empty() {
        return Err(invalid(format!("Topic names {illegal} are not valid topic names.")));
    }
    Ok(())
}

/// Makes topics as CreateTopics does; tells those that cannot be made, and why.
async fn create(node: &Node, call: &Call, topics: Vec<InternalTopic>) -> Result<Vec<String>, ErrorCode> {
    let topics = topics.into_iter().map(|topic| {
        let configs = topic
            .configs
            .iter()
            .map(|(key, value)| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value))));
        CreatableTopic::default()
            .with_name(text(&topic.name).into())
            .with_num_partitions(topic.partitions)
            .with_replication_factor(if topic.replication_factor == 0 { -1 } else { topic.replication_factor })
            .with_configs(configs.collect())
    });
    let request = CreateTopicsRequest::default().with_topics(topics.collect());
    let answer = create_topics::handle(node, call, request).await.map_err(|_| ErrorCode::UnknownServerError)?;
    // Another member's heartbeat may have been quicker.
    let fine = [ErrorCode::None.code(), ErrorCode::TopicAlreadyExists.code()];
    let failed = answer.topics.iter().filter(|topic| !fine.contains(&topic.error_code));
    Ok(failed
        .map(|topic| {
            let why = topic.error_message.as_deref().unwrap_or_default();
            tracing::warn!(topic = &*topic.name.0, why, "internal topic of a streams group is not made");
            format!("{} ({why})", &*topic.name.0)
        })
        .collect())
}

fn summary(failures: &[String]) -> String {
    let shown = failures[..failures.len().min(FAILURES_MAX)].join(", ");
    match failures.len() - failures.len().min(FAILURES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn refusal(refused: &Refused) -> StreamsGroupHeartbeatResponse {
    let message = Some(&*refused.message).filter(|message| !message.is_empty());
    StreamsGroupHeartbeatResponse {
        error_code: refused.code.code(),
        error_message: message.map(Arc::from),
        statuses: Some(Vec::new()),
        ..StreamsGroupHeartbeatResponse::default()
    }
}

fn response(answer: HeartbeatAnswer) -> StreamsGroupHeartbeatResponse {
    let statuses = answer.statuses.into_iter();
    let statuses = statuses.map(|status| HeartbeatStatus { code: status.code as i8, detail: status.detail });
    let endpoints = answer.endpoints.map(|all| {
        let each = all.into_iter().map(|one| EndpointToPartitions {
            endpoint: streams::Endpoint { host: one.endpoint.host, port: one.endpoint.port },
            active: one.active,
            standby: one.standby,
        });
        each.collect()
    });
    StreamsGroupHeartbeatResponse {
        error_code: ErrorCode::None.code(),
        error_message: None,
        member_id: answer.member_id,
        member_epoch: answer.epoch,
        heartbeat_interval_ms: answer.interval_ms,
        statuses: Some(statuses.collect()),
        tasks: answer.tasks.as_ref().map(task_ids),
        endpoint_epoch: answer.endpoint_epoch,
        endpoints,
    }
}

/// Tasks by role, as messages have them.
pub(super) fn task_ids(tasks: &Tasks) -> [Vec<TaskIds>; 3] {
    tasks.roles().map(|role| {
        let each = role.iter().map(|(id, partitions)| TaskIds {
            subtopology: Arc::clone(id),
            partitions: partitions.iter().copied().collect(),
        });
        each.collect()
    })
}
