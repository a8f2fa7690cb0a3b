//! StreamsGroupHeartbeat 0-1 and StreamsGroupDescribe 0, which the crate lacks (KIP-1071).
//!
//! Versions: 1 of the heartbeat's answer says how far behind a warm-up may be in eight bytes, and whether the broker wants a
//! description of the topology (KIP-1331). The request did not change.

mod describe;
mod heartbeat;

use std::sync::Arc;

use bytes::BufMut;

pub use describe::{DescribedGroup, DescribedMember, DescribedTopology, StreamsGroupDescribeRequest, write_described};
pub use heartbeat::{
    EndpointToPartitions, HeartbeatStatus, StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse,
};

use crate::protocol::cursor::{Cursor, ReadError};
use crate::protocol::put::Put;

/// Key and value.
pub type Pair = (Arc<str>, Arc<str>);

/// Tasks of one subtopology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskIds {
    /// The subtopology.
    pub subtopology: Arc<str>,
    /// Which of its tasks.
    pub partitions: Vec<i32>,
}

/// Where a member answers queries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
}

/// An internal topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Its partitions, 0 where they follow from others.
    pub partitions: i32,
    /// Its replicas, 0 for the default.
    pub replication_factor: i16,
    /// Its configuration.
    pub configs: Vec<Pair>,
}

/// A subtopology in a request. An answer has neither expressions nor copartition groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subtopology {
    /// Its id.
    pub id: Arc<str>,
    /// What it reads that somebody else makes.
    pub source_topics: Vec<Arc<str>>,
    /// Expressions for the same.
    pub source_topic_regex: Vec<Arc<str>>,
    /// Where its state is kept.
    pub changelog_topics: Vec<TopicInfo>,
    /// What it writes for other subtopologies.
    pub repartition_sinks: Vec<Arc<str>>,
    /// What it reads of other subtopologies.
    pub repartition_sources: Vec<TopicInfo>,
    /// Of each group the indexes of source topics, of expressions, of repartition sources.
    pub copartition_groups: Vec<[Vec<i16>; 3]>,
}

/// An array that may not be null.
fn array<T>(
    fields: &mut Cursor<'_>,
    element_bytes_min: usize,
    element: impl FnMut(&mut Cursor<'_>) -> Result<T, ReadError>,
) -> Result<Vec<T>, ReadError> {
    nullable_array(fields, element_bytes_min, element)?.ok_or(ReadError::Null)
}

fn nullable_array<T>(
    fields: &mut Cursor<'_>,
    element_bytes_min: usize,
    mut element: impl FnMut(&mut Cursor<'_>) -> Result<T, ReadError>,
) -> Result<Option<Vec<T>>, ReadError> {
    let Some(count) = fields.array(element_bytes_min)? else { return Ok(None) };
    (0..count).map(|_| element(fields)).collect::<Result<_, _>>().map(Some)
}

fn name(fields: &mut Cursor<'_>) -> Result<Arc<str>, ReadError> {
    fields.string().map(Arc::from)
}

fn nullable_name(fields: &mut Cursor<'_>) -> Result<Option<Arc<str>>, ReadError> {
    Ok(fields.nullable_string()?.map(Arc::from))
}

fn put_array<B: BufMut, T>(put: &mut Put<'_, B>, all: &[T], mut one: impl FnMut(&mut Put<'_, B>, &T)) {
    put.len(Some(all.len()));
    all.iter().for_each(|each| one(put, each));
}

fn put_names<B: BufMut>(put: &mut Put<'_, B>, names: &[Arc<str>]) {
    put_array(put, names, |put, name| put.string(name));
}

fn put_integers<B: BufMut>(put: &mut Put<'_, B>, integers: &[i32]) {
    put_array(put, integers, |put, integer| put.out.put_i32(*integer));
}

fn put_tasks<B: BufMut>(put: &mut Put<'_, B>, tasks: &[TaskIds]) {
    put_array(put, tasks, |put, one| {
        put.string(&one.subtopology);
        put_integers(put, &one.partitions);
        put.tags(0);
    });
}

fn put_endpoint<B: BufMut>(put: &mut Put<'_, B>, endpoint: &Endpoint) {
    put.string(&endpoint.host);
    put.out.put_u16(endpoint.port);
    put.tags(0);
}

#[cfg(test)]
mod tests;
