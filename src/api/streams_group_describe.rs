//! StreamsGroupDescribe 0: state, epochs, topology, members and assignments of streams groups (KIP-1071). At
//! `streams.version` 0 it is answered UNSUPPORTED_VERSION.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::describe_groups::ALL_OPERATIONS;
use super::streams_group_heartbeat::task_ids;
use super::{Call, Disconnect, Frame, Node};
use crate::group::consumer::Refused;
use crate::group::streams::describe::Description;
use crate::group::streams::member::Member;
use crate::group::streams::tasks::Tasks;
use crate::group::streams::topology::{InternalTopic, Subtopology};
use crate::metadata::features::Feature;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::frame::FrameStart;
use crate::protocol::header::put_response_header;
use crate::protocol::messages::streams::{
    self, DescribedGroup, DescribedMember, DescribedTopology, StreamsGroupDescribeRequest, TopicInfo, write_described,
};

/// Reads and answers one request.
pub async fn serve(node: &Node, call: &Call, body: Bytes) -> Result<Frame, Disconnect> {
    let request = StreamsGroupDescribeRequest::decode(&body);
    let request = request.map_err(|error| Disconnect::Malformed(error.to_string()))?;
    let mut groups = Vec::with_capacity(request.group_ids.len());
    for id in request.group_ids {
        let described = match node.metadata.image().features.level(Feature::Streams) {
            ..1 => Err(ErrorCode::UnsupportedVersion.into()),
            1.. => node.groups.describe_streams(Arc::clone(&id)).await,
        };
        let authorized_operations = match request.include_authorized_operations && described.is_ok() {
            true => ALL_OPERATIONS,
            false => i32::MIN,
        };
        let group = described.map_or_else(refusal, describe);
        groups.push(DescribedGroup { group_id: id, authorized_operations, ..group });
    }
    let mut out = BytesMut::new();
    let frame = FrameStart::new(&mut out);
    put_response_header(&mut out, call.key, call.version, call.correlation_id);
    write_described(&groups, &mut out);
    frame.finish(&mut out, 0);
    Ok(out.freeze())
}

fn refusal(refused: Refused) -> DescribedGroup {
    let message = Some(refused.message).filter(|message| !message.is_empty());
    DescribedGroup {
        error_code: refused.code.code(),
        error_message: message.map(Arc::from),
        ..DescribedGroup::default()
    }
}

fn describe(description: Description) -> DescribedGroup {
    DescribedGroup {
        state: description.state.into(),
        epoch: description.epoch,
        assignment_epoch: description.target_epoch,
        topology: description.topology.map(|(epoch, parts)| describe_topology(epoch, parts)),
        members: description.members.iter().map(|(id, member, target)| describe_member(id, member, target)).collect(),
        ..DescribedGroup::default()
    }
}

/// Names in their order, as Kafka's are.
fn describe_topology(epoch: i32, parts: BTreeMap<Arc<str>, Subtopology>) -> DescribedTopology {
    let sorted = |mut names: Vec<Arc<str>>| {
        names.sort();
        names
    };
    let infos = |topics: Vec<InternalTopic>| {
        let mut infos: Vec<_> = topics.into_iter().map(info).collect();
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        infos
    };
    let subtopologies = parts.into_iter().map(|(id, one)| streams::Subtopology {
        id,
        source_topics: sorted(one.source_topics),
        source_topic_regex: Vec::new(),
        changelog_topics: infos(one.changelog_topics),
        repartition_sinks: sorted(one.repartition_sinks),
        repartition_sources: infos(one.repartition_sources),
        copartition_groups: Vec::new(),
    });
    DescribedTopology { epoch, subtopologies: subtopologies.collect() }
}

fn info(topic: InternalTopic) -> TopicInfo {
    TopicInfo {
        name: topic.name,
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        configs: topic.configs,
    }
}

fn describe_member(id: &Arc<str>, member: &Member, target: &Tasks) -> DescribedMember {
    let who = &member.subscription;
    let endpoint = who.endpoint.as_ref();
    DescribedMember {
        id: Arc::clone(id),
        epoch: member.current.epoch,
        instance_id: who.instance_id.clone(),
        rack_id: who.rack_id.clone(),
        client_id: Arc::clone(&who.client_id),
        client_host: Arc::clone(&who.client_host),
        topology_epoch: who.topology_epoch,
        process_id: Arc::clone(&who.process_id),
        endpoint: endpoint.map(|endpoint| streams::Endpoint { host: Arc::clone(&endpoint.host), port: endpoint.port }),
        client_tags: who.client_tags.iter().map(|(key, value)| (Arc::clone(key), Arc::clone(value))).collect(),
        assignment: task_ids(&member.current.assigned.tasks()),
        target: task_ids(target),
    }
}
