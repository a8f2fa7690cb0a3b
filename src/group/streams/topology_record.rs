//! The record of a topology in Kafka's format, version 0.

use std::sync::Arc;

use bytes::BufMut;

use super::records::{pairs, put_pairs};
use super::topology::{CopartitionGroup, InternalTopic, Subtopology, Topology};
use crate::group::record_fields::write;
use crate::protocol::cursor::{Cursor, ReadError};
use crate::protocol::put::Put;

pub(super) fn decode_topology(value: &mut Cursor<'_>) -> Result<Topology, ReadError> {
    let mut topology = Topology { epoch: value.i32()?, ..Topology::default() };
    // Id, six lists and tags.
    for _ in 0..value.array(8)?.ok_or(ReadError::Null)? {
        let id = value.string()?.into();
        let one = Subtopology {
            source_topics: names(value)?,
            source_topic_regex: names(value)?,
            changelog_topics: internal_topics(value)?,
            repartition_sinks: names(value)?,
            repartition_sources: internal_topics(value)?,
            copartition_groups: copartition_groups(value)?,
        };
        value.skip_tags()?;
        topology.subtopologies.insert(id, one);
    }
    value.skip_tags()?;
    Ok(topology)
}

pub(super) fn encode_topology(topology: &Topology) -> Vec<u8> {
    write(|put| {
        put.out.put_i32(topology.epoch);
        put.len(Some(topology.subtopologies.len()));
        for (id, one) in &topology.subtopologies {
            put.string(id);
            put_names(put, &one.source_topics);
            put_names(put, &one.source_topic_regex);
            put_internal_topics(put, &one.changelog_topics);
            put_names(put, &one.repartition_sinks);
            put_internal_topics(put, &one.repartition_sources);
            put.len(Some(one.copartition_groups.len()));
            for group in &one.copartition_groups {
                for indexes in [&group.source_topics, &group.source_topic_regex, &group.repartition_sources] {
                    put.len(Some(indexes.len()));
                    indexes.iter().for_each(|index| put.out.put_i16(*index));
                }
                put.tags(0);
            }
            put.tags(0);
        }
    })
}

fn names(value: &mut Cursor<'_>) -> Result<Vec<Arc<str>>, ReadError> {
    (0..value.array(1)?.ok_or(ReadError::Null)?).map(|_| value.string().map(Arc::from)).collect()
}

fn put_names(put: &mut Put<'_, Vec<u8>>, names: &[Arc<str>]) {
    put.len(Some(names.len()));
    names.iter().for_each(|name| put.string(name));
}

fn internal_topics(value: &mut Cursor<'_>) -> Result<Vec<InternalTopic>, ReadError> {
    let mut topics = Vec::new();
    // Name, two numbers, a list and tags.
    for _ in 0..value.array(9)?.ok_or(ReadError::Null)? {
        let name = value.string()?.into();
        let (partitions, replication_factor) = (value.i32()?, value.i16()?);
        let configs = pairs(value, false)?;
        value.skip_tags()?;
        topics.push(InternalTopic { name, partitions, replication_factor, configs });
    }
    Ok(topics)
}

fn put_internal_topics(put: &mut Put<'_, Vec<u8>>, topics: &[InternalTopic]) {
    put.len(Some(topics.len()));
    for topic in topics {
        put.string(&topic.name);
        put.out.put_i32(topic.partitions);
        put.out.put_i16(topic.replication_factor);
        put_pairs(put, topic.configs.iter().map(|(key, value)| (key, value)));
        put.tags(0);
    }
}

fn copartition_groups(value: &mut Cursor<'_>) -> Result<Vec<CopartitionGroup>, ReadError> {
    let mut groups = Vec::new();
    for _ in 0..value.array(4)?.ok_or(ReadError::Null)? {
        let (source_topics, source_topic_regex) = (indexes(value)?, indexes(value)?);
        let repartition_sources = indexes(value)?;
        value.skip_tags()?;
        groups.push(CopartitionGroup { source_topics, source_topic_regex, repartition_sources });
    }
    Ok(groups)
}

fn indexes(value: &mut Cursor<'_>) -> Result<Vec<i16>, ReadError> {
    (0..value.array(2)?.ok_or(ReadError::Null)?).map(|_| value.i16()).collect()
}
