//! StreamsGroupHeartbeat.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};

use super::{
    Endpoint, Pair, Subtopology, TaskIds, TopicInfo, array, name, nullable_array, nullable_name, put_array,
    put_endpoint, put_integers, put_tasks,
};
use crate::protocol::cursor::{Cursor, ReadError};
use crate::protocol::put::Put;

/// From here on the lag of warm-ups has eight bytes.
const LONG_LAG_FROM: i16 = 1;
/// Kafka 4.3.1 has no warm-ups: 0 where it says nothing of them, -1 where it can say that.
const NO_LAG: i64 = -1;

/// What a member says; what is absent has not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamsGroupHeartbeatRequest {
    /// The group.
    pub group_id: Arc<str>,
    /// The member.
    pub member_id: Arc<str>,
    /// Its epoch.
    pub member_epoch: i32,
    /// Of the endpoints that it knows.
    pub endpoint_epoch: i32,
    /// Its static id.
    pub instance_id: Option<Arc<str>>,
    /// Where it runs.
    pub rack_id: Option<Arc<str>>,
    /// How long it may take to give tasks back, or -1.
    pub rebalance_timeout_ms: i32,
    /// Epoch and parts of the application.
    pub topology: Option<(i32, Vec<Subtopology>)>,
    /// What it owns.
    pub active_tasks: Option<Vec<TaskIds>>,
    /// The same.
    pub standby_tasks: Option<Vec<TaskIds>>,
    /// The same.
    pub warmup_tasks: Option<Vec<TaskIds>>,
    /// The process it runs in.
    pub process_id: Option<Arc<str>>,
    /// Where it answers queries.
    pub endpoint: Option<Endpoint>,
    /// Tags for where standbys go.
    pub client_tags: Option<Vec<Pair>>,
    /// Did it send offsets of tasks?
    pub has_task_offsets: bool,
    /// Did it send end offsets of tasks?
    pub has_task_end_offsets: bool,
    /// The whole application is to end.
    pub shutdown_application: bool,
}

impl StreamsGroupHeartbeatRequest {
    /// Reads a request body of any version.
    pub fn decode(body: &[u8]) -> Result<Self, ReadError> {
        let fields = &mut Cursor::new(body, true);
        let request = Self {
            group_id: name(fields)?,
            member_id: name(fields)?,
            member_epoch: fields.i32()?,
            endpoint_epoch: fields.i32()?,
            instance_id: nullable_name(fields)?,
            rack_id: nullable_name(fields)?,
            rebalance_timeout_ms: fields.i32()?,
            topology: nullable(fields, topology)?,
            active_tasks: nullable_array(fields, 3, tasks)?,
            standby_tasks: nullable_array(fields, 3, tasks)?,
            warmup_tasks: nullable_array(fields, 3, tasks)?,
            process_id: nullable_name(fields)?,
            endpoint: nullable(fields, endpoint)?,
            client_tags: nullable_array(fields, 3, pair)?,
            has_task_offsets: nullable_array(fields, 14, task_offset)?.is_some(),
            has_task_end_offsets: nullable_array(fields, 14, task_offset)?.is_some(),
            shutdown_application: fields.i8()? != 0,
        };
        fields.skip_tags()?;
        Ok(request)
    }
}

/// A structure behind a byte that says whether it is there.
fn nullable<T>(
    fields: &mut Cursor<'_>,
    read: impl FnOnce(&mut Cursor<'_>) -> Result<T, ReadError>,
) -> Result<Option<T>, ReadError> {
    if fields.i8()? < 0 { Ok(None) } else { read(fields).map(Some) }
}

fn topology(fields: &mut Cursor<'_>) -> Result<(i32, Vec<Subtopology>), ReadError> {
    let epoch = fields.i32()?;
    // Id, six lists and tags.
    let subtopologies = array(fields, 8, |fields| {
        let one = Subtopology {
            id: name(fields)?,
            source_topics: array(fields, 1, name)?,
            source_topic_regex: array(fields, 1, name)?,
            changelog_topics: array(fields, 9, topic_info)?,
            repartition_sinks: array(fields, 1, name)?,
            repartition_sources: array(fields, 9, topic_info)?,
            copartition_groups: array(fields, 4, |fields| {
                let mut indexes = || array(fields, 2, |fields| fields.i16());
                let group = [indexes()?, indexes()?, indexes()?];
                fields.skip_tags()?;
                Ok(group)
            })?,
        };
        fields.skip_tags()?;
        Ok(one)
    })?;
    fields.skip_tags()?;
    Ok((epoch, subtopologies))
}

fn topic_info(fields: &mut Cursor<'_>) -> Result<TopicInfo, ReadError> {
    let topic = TopicInfo {
        name: name(fields)?,
        partitions: fields.i32()?,
        replication_factor: fields.i16()?,
        configs: array(fields, 3, pair)?,
    };
    fields.skip_tags()?;
    Ok(topic)
}

fn pair(fields: &mut Cursor<'_>) -> Result<Pair, ReadError> {
    let pair = (name(fields)?, name(fields)?);
    fields.skip_tags()?;
    Ok(pair)
}

fn tasks(fields: &mut Cursor<'_>) -> Result<TaskIds, ReadError> {
    let tasks = TaskIds { subtopology: name(fields)?, partitions: array(fields, 4, |fields| fields.i32())? };
    fields.skip_tags()?;
    Ok(tasks)
}

fn endpoint(fields: &mut Cursor<'_>) -> Result<Endpoint, ReadError> {
    let endpoint = Endpoint { host: name(fields)?, port: fields.i16()?.cast_unsigned() };
    fields.skip_tags()?;
    Ok(endpoint)
}

/// Read for its length alone.
fn task_offset(fields: &mut Cursor<'_>) -> Result<(), ReadError> {
    fields.string()?;
    fields.take(12)?;
    fields.skip_tags()
}

/// What a member is answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamsGroupHeartbeatResponse {
    /// Of the request as a whole.
    pub error_code: i16,
    /// Its words.
    pub error_message: Option<Arc<str>>,
    /// The member.
    pub member_id: Arc<str>,
    /// What its next heartbeat must carry.
    pub member_epoch: i32,
    /// When that is due.
    pub heartbeat_interval_ms: i32,
    /// How the group is; none of it in an error.
    pub statuses: Option<Vec<HeartbeatStatus>>,
    /// Active, standby and warm-up tasks, if they changed.
    pub tasks: Option<[Vec<TaskIds>; 3]>,
    /// Of the endpoints.
    pub endpoint_epoch: i32,
    /// Who answers queries for what, if that changed.
    pub endpoints: Option<Vec<EndpointToPartitions>>,
}

/// One status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatStatus {
    /// Kafka's number.
    pub code: i8,
    /// Words.
    pub detail: String,
}

/// What one member reads, by topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointToPartitions {
    /// Where it answers.
    pub endpoint: Endpoint,
    /// Of its active tasks.
    pub active: Vec<(Arc<str>, Vec<i32>)>,
    /// Of its standbys.
    pub standby: Vec<(Arc<str>, Vec<i32>)>,
}

impl StreamsGroupHeartbeatResponse {
    /// Writes the body behind what `out` has.
    pub fn encode(&self, version: i16, out: &mut BytesMut) {
        let put = &mut Put { out, flexible: true };
        put.out.put_i32(0); // throttle time
        put.out.put_i16(self.error_code);
        put.nullable_string(self.error_message.as_deref());
        put.string(&self.member_id);
        put.out.put_i32(self.member_epoch);
        put.out.put_i32(self.heartbeat_interval_ms);
        if version < LONG_LAG_FROM {
            put.out.put_i32(0);
        }
        put.out.put_i32(0); // interval of task offsets: none are wanted
        if version >= LONG_LAG_FROM {
            put.out.put_i64(NO_LAG);
        }
        put_nullable(put, self.statuses.as_deref(), |put, status| {
            put.out.put_i8(status.code);
            put.string(&status.detail);
            put.tags(0);
        });
        match &self.tasks {
            Some(roles) => roles.iter().for_each(|tasks| put_tasks(put, tasks)),
            None => (0..3).for_each(|_| put.len(None)),
        }
        if version >= LONG_LAG_FROM {
            put.out.put_i8(0); // no description of the topology is wanted
        }
        put.out.put_i32(self.endpoint_epoch);
        put_nullable(put, self.endpoints.as_deref(), |put, one| {
            put_endpoint(put, &one.endpoint);
            for topics in [&one.active, &one.standby] {
                put_array(put, topics, |put, (topic, partitions)| {
                    put.string(topic);
                    put_integers(put, partitions);
                    put.tags(0);
                });
            }
            put.tags(0);
        });
        put.tags(0);
    }
}

fn put_nullable<B: BufMut, T>(put: &mut Put<'_, B>, all: Option<&[T]>, one: impl FnMut(&mut Put<'_, B>, &T)) {
    match all {
        Some(all) => put_array(put, all, one),
        None => put.len(None),
    }
}
