//! StreamsGroupDescribe.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::{
    Endpoint, Pair, Subtopology, TaskIds, TopicInfo, array, name, put_array, put_endpoint, put_names, put_tasks,
};
use crate::protocol::cursor::{Cursor, ReadError};
use crate::protocol::put::Put;

/// Which groups are asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamsGroupDescribeRequest {
    /// Their ids.
    pub group_ids: Vec<Arc<str>>,
    /// Are the operations that the caller may do wanted too?
    pub include_authorized_operations: bool,
}

impl StreamsGroupDescribeRequest {
    /// Reads a request body.
    pub fn decode(body: &[u8]) -> Result<Self, ReadError> {
        let fields = &mut Cursor::new(body, true);
        let request = Self { group_ids: array(fields, 1, name)?, include_authorized_operations: fields.i8()? != 0 };
        fields.skip_tags()?;
        Ok(request)
    }
}

/// A group in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DescribedGroup {
    /// Of this group.
    pub error_code: i16,
    /// Its words.
    pub error_message: Option<Arc<str>>,
    /// The group.
    pub group_id: Arc<str>,
    /// Its state's name.
    pub state: Arc<str>,
    /// Its epoch.
    pub epoch: i32,
    /// The epoch of its target assignment.
    pub assignment_epoch: i32,
    /// Its application.
    pub topology: Option<DescribedTopology>,
    /// Its members.
    pub members: Vec<DescribedMember>,
    /// What the caller may do.
    pub authorized_operations: i32,
}

/// An application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedTopology {
    /// Its epoch.
    pub epoch: i32,
    /// Its parts.
    pub subtopologies: Vec<Subtopology>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub id: Arc<str>,
    /// Its epoch.
    pub epoch: i32,
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// Where it runs.
    pub rack_id: Option<Arc<str>>,
    /// As its client calls itself.
    pub client_id: Arc<str>,
    /// Its address.
    pub client_host: Arc<str>,
    /// The epoch of its topology.
    pub topology_epoch: i32,
    /// The process it runs in.
    pub process_id: Arc<str>,
    /// Where it answers queries.
    pub endpoint: Option<Endpoint>,
    /// Its tags.
    pub client_tags: Vec<Pair>,
    /// What it owns: active, standby, warm-up tasks.
    pub assignment: [Vec<TaskIds>; 3],
    /// What it shall own.
    pub target: [Vec<TaskIds>; 3],
}

/// Writes the body of an answer behind what `out` has.
pub fn write_described(groups: &[DescribedGroup], out: &mut BytesMut) {
    let put = &mut Put { out, flexible: true };
    put.out.put_i32(0); // throttle time
    put_array(put, groups, put_group);
    put.tags(0);
}

fn put_group(put: &mut Put<'_, BytesMut>, group: &DescribedGroup) {
    put.out.put_i16(group.error_code);
    put.nullable_string(group.error_message.as_deref());
    put.string(&group.group_id);
    put.string(&group.state);
    put.out.put_i32(group.epoch);
    put.out.put_i32(group.assignment_epoch);
    match &group.topology {
        None => put.out.put_i8(-1),
        Some(topology) => {
            put.out.put_i8(1);
            put.out.put_i32(topology.epoch);
            put_array(put, &topology.subtopologies, put_subtopology);
            put.tags(0);
        }
    }
    put_array(put, &group.members, put_member);
    put.out.put_i32(group.authorized_operations);
    put.tags(0);
}

fn put_subtopology(put: &mut Put<'_, BytesMut>, one: &Subtopology) {
    put.string(&one.id);
    put_names(put, &one.source_topics);
    put_names(put, &one.repartition_sinks);
    put_array(put, &one.changelog_topics, put_topic_info);
    put_array(put, &one.repartition_sources, put_topic_info);
    put.tags(0);
}

fn put_topic_info(put: &mut Put<'_, BytesMut>, topic: &TopicInfo) {
    put.string(&topic.name);
    put.out.put_i32(topic.partitions);
    put.out.put_i16(topic.replication_factor);
    put_array(put, &topic.configs, put_pair);
    put.tags(0);
}

fn put_pair(put: &mut Put<'_, BytesMut>, (key, value): &Pair) {
    put.string(key);
    put.string(value);
    put.tags(0);
}

fn put_member(put: &mut Put<'_, BytesMut>, member: &DescribedMember) {
    put.string(&member.id);
    put.out.put_i32(member.epoch);
    put.nullable_string(member.instance_id.as_deref());
    put.nullable_string(member.rack_id.as_deref());
    put.string(&member.client_id);
    put.string(&member.client_host);
    put.out.put_i32(member.topology_epoch);
    put.string(&member.process_id);
    match &member.endpoint {
        None => put.out.put_i8(-1),
        Some(endpoint) => {
            put.out.put_i8(1);
            put_endpoint(put, endpoint);
        }
    }
    put_array(put, &member.client_tags, put_pair);
    put.len(Some(0)); // offsets of tasks: members send none
    put.len(Some(0));
    for assignment in [&member.assignment, &member.target] {
        assignment.iter().for_each(|tasks| put_tasks(put, tasks));
        put.tags(0);
    }
    put.out.put_i8(0); // not of the classic protocol
    put.tags(0);
}
