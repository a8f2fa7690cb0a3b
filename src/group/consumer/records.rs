//! The records of a consumer group (KIP-848) in Kafka's formats: what the log keeps of the group itself, of each member,
//! and of each regular expression.
//!
//! ```text
//!  key type  key              value
//!   3        group            group epoch, hash of the subscribed topics' metadata
//!   4        group            (written before Kafka 4.1 only; buried when met)
//!   5        group, member    who the member is and what it subscribes to
//!   6        group            epoch of the target assignment, and when it was made
//!   7        group, member    the member's target assignment
//!   8        group, member    the member's epoch, state and what it owns
//!  16        group, regex     the topics that the expression named when it was last resolved
//! ```
//! All values have version 0, compact lengths and tags.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use uuid::Uuid;

use super::member::{ClassicMember, Current, MemberState, Subscription};
use super::{EpochPartitions, Partitions};
use crate::group::record_fields::{
    TAG, integers, key, partitions, put_integers, put_partitions, put_strings, put_tag, read, strings, tagged_i64,
    write, write_with_tag,
};
use crate::protocol::cursor::{Cursor, ReadError};
use crate::protocol::put::Put;

/// Type of the record that a group begins and ends with.
pub const KEY_EPOCH: i16 = 3;
const KEY_PARTITION_METADATA: i16 = 4;
const KEY_MEMBER: i16 = 5;
const KEY_TARGET_EPOCH: i16 = 6;
const KEY_TARGET: i16 = 7;
const KEY_CURRENT: i16 = 8;
const KEY_REGEX: i16 = 16;

/// The group's epoch: rises with every change of members, subscriptions or subscribed topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupEpoch {
    /// The epoch.
    pub epoch: i32,
    /// Hash over the metadata of the subscribed topics ([`super::topic_hash`]), 0 for none.
    pub metadata_hash: i64,
}

/// The epoch that the target assignment belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetEpoch {
    /// The group epoch that it was made for.
    pub epoch: i32,
    /// Wall time at which it was made, 0 when that is not known.
    pub timestamp: i64,
}

/// What a regular expression resolved to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolved {
    /// The topics whose whole name it matches.
    pub topics: BTreeSet<Arc<str>>,
    /// Generation of the metadata image that was looked at.
    pub version: i64,
    /// Wall time of the look.
    pub timestamp: i64,
}

/// One record of a consumer group; a missing value is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerRecord {
    /// The group's epoch; without it there is no group.
    Epoch(Option<GroupEpoch>),
    /// Topic metadata as Kafka wrote it before 4.1: only that it is there counts.
    PartitionMetadata(Option<()>),
    /// Who a member is.
    Member(Arc<str>, Option<Subscription>),
    /// The epoch of the target assignment.
    TargetEpoch(Option<TargetEpoch>),
    /// The target assignment of a member.
    Target(Arc<str>, Option<Partitions>),
    /// Epoch, state and partitions of a member.
    Current(Arc<str>, Option<Current>),
    /// A regular expression.
    Regex(Arc<str>, Option<Resolved>),
}

impl ConsumerRecord {
    /// Is `key_type` one of ours?
    pub fn has_type(key_type: i16) -> bool {
        matches!(key_type, KEY_EPOCH..=KEY_CURRENT | KEY_REGEX)
    }

    /// Does it end what it is about?
    pub fn is_tombstone(&self) -> bool {
        match self {
            Self::Epoch(value) => value.is_none(),
            Self::PartitionMetadata(value) => value.is_none(),
            Self::Member(_, value) => value.is_none(),
            Self::TargetEpoch(value) => value.is_none(),
            Self::Target(_, value) => value.is_none(),
            Self::Current(_, value) => value.is_none(),
            Self::Regex(_, value) => value.is_none(),
        }
    }

    /// Reads a record whose key is behind its type; returns the group too. The bytes may be anybody's.
    pub fn decode(key_type: i16, mut key: Cursor<'_>, value: Option<&[u8]>) -> Result<(Arc<str>, Self), ReadError> {
        let group = key.string()?.into();
        let record = match key_type {
            KEY_EPOCH => Self::Epoch(read(value, decode_epoch)?),
            KEY_PARTITION_METADATA => Self::PartitionMetadata(value.map(|_| ())),
            KEY_MEMBER => Self::Member(key.string()?.into(), read(value, decode_member)?),
            KEY_TARGET_EPOCH => Self::TargetEpoch(read(value, decode_target_epoch)?),
            KEY_TARGET => Self::Target(key.string()?.into(), read(value, decode_target)?),
            KEY_CURRENT => Self::Current(key.string()?.into(), read(value, decode_current)?),
            KEY_REGEX => Self::Regex(key.string()?.into(), read(value, decode_regex)?),
            other => return Err(ReadError::Version(other)),
        };
        Ok((group, record))
    }

    /// Key and value of the record in `group`.
    pub fn encode(&self, group: &str) -> (Vec<u8>, Option<Vec<u8>>) {
        match self {
            Self::Epoch(value) => (key(KEY_EPOCH, group, None), value.as_ref().map(encode_epoch)),
            Self::PartitionMetadata(value) => {
                (key(KEY_PARTITION_METADATA, group, None), value.map(|()| write(|put| put.len(Some(0)))))
            }
            Self::Member(id, value) => (key(KEY_MEMBER, group, Some(id)), value.as_ref().map(encode_member)),
            Self::TargetEpoch(value) => (key(KEY_TARGET_EPOCH, group, None), value.as_ref().map(encode_target_epoch)),
            Self::Target(id, value) => (key(KEY_TARGET, group, Some(id)), value.as_ref().map(encode_target)),
            Self::Current(id, value) => (key(KEY_CURRENT, group, Some(id)), value.as_ref().map(encode_current)),
            Self::Regex(regex, value) => (key(KEY_REGEX, group, Some(regex)), value.as_ref().map(encode_regex)),
        }
    }
}

fn decode_epoch(value: &mut Cursor<'_>) -> Result<GroupEpoch, ReadError> {
    let epoch = value.i32()?;
    let metadata_hash = tagged_i64(value)?;
    Ok(GroupEpoch { epoch, metadata_hash })
}

fn encode_epoch(value: &GroupEpoch) -> Vec<u8> {
    let hash = value.metadata_hash.to_be_bytes();
    write_with_tag(|put| put.out.put_i32(value.epoch), Some(&hash[..]).filter(|_| value.metadata_hash != 0))
}

fn decode_target_epoch(value: &mut Cursor<'_>) -> Result<TargetEpoch, ReadError> {
    let epoch = value.i32()?;
    let timestamp = tagged_i64(value)?;
    Ok(TargetEpoch { epoch, timestamp })
}

fn encode_target_epoch(value: &TargetEpoch) -> Vec<u8> {
    let timestamp = value.timestamp.to_be_bytes();
    write_with_tag(|put| put.out.put_i32(value.epoch), Some(&timestamp[..]).filter(|_| value.timestamp != 0))
}

fn decode_member(value: &mut Cursor<'_>) -> Result<Subscription, ReadError> {
    let instance_id = value.nullable_string()?.map(Arc::from);
    let rack_id = value.nullable_string()?.map(Arc::from);
    let client_id = value.string()?.into();
    let client_host = value.string()?.into();
    let topics = strings(value)?;
    let regex = value.nullable_string()?.map(Arc::from);
    let rebalance_timeout_ms = value.i32()?;
    let assignor = value.nullable_string()?.map(Arc::from);
    let mut classic = None;
    value.tags(|tag, mut field| {
        if tag == TAG {
            classic = decode_classic(&mut field)?;
        }
        Ok(())
    })?;
    Ok(Subscription {
        instance_id,
        rack_id,
        client_id,
        client_host,
        topics,
        regex,
        rebalance_timeout_ms,
        assignor,
        classic,
    })
}

/// A nullable struct begins with one byte: below zero is null.
fn decode_classic(field: &mut Cursor<'_>) -> Result<Option<ClassicMember>, ReadError> {
    if field.i8()? < 0 {
        return Ok(None);
    }
    let session_timeout_ms = field.i32()?;
    let count = field.array(3)?.ok_or(ReadError::Null)?;
    let mut protocols = Vec::with_capacity(count);
    for _ in 0..count {
        let name = field.string()?.into();
        let metadata = Bytes::copy_from_slice(field.nullable_bytes()?.ok_or(ReadError::Null)?);
        field.skip_tags()?;
        protocols.push((name, metadata));
    }
    field.skip_tags()?;
    Ok(Some(ClassicMember { session_timeout_ms, protocols }))
}

fn encode_member(value: &Subscription) -> Vec<u8> {
    let classic = value.classic.as_ref().map(encode_classic);
    write_with_tag(
        |put| {
            put.nullable_string(value.instance_id.as_deref());
            put.nullable_string(value.rack_id.as_deref());
            put.string(&value.client_id);
            put.string(&value.client_host);
            put_strings(put, &value.topics);
            put.nullable_string(value.regex.as_deref());
            put.out.put_i32(value.rebalance_timeout_ms);
            put.nullable_string(value.assignor.as_deref());
        },
        classic.as_deref(),
    )
}

fn encode_classic(classic: &ClassicMember) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i8(1);
    out.put_i32(classic.session_timeout_ms);
    let mut put = Put { out: &mut out, flexible: true };
    put.len(Some(classic.protocols.len()));
    for (name, metadata) in &classic.protocols {
        put.string(name);
        put.len(Some(metadata.len()));
        put.out.put_slice(metadata);
        put.tags(0);
    }
    put.tags(0);
    out
}

fn decode_target(value: &mut Cursor<'_>) -> Result<Partitions, ReadError> {
    let target = partitions(value)?;
    value.skip_tags()?;
    Ok(target)
}

fn encode_target(value: &Partitions) -> Vec<u8> {
    write(|put| put_partitions(put, value))
}

fn decode_current(value: &mut Cursor<'_>) -> Result<Current, ReadError> {
    let epoch = value.i32()?;
    let previous_epoch = value.i32()?;
    let state = MemberState::from_code(value.i8()?);
    let assigned = epoch_partitions(value, epoch)?;
    let revoking = epoch_partitions(value, epoch)?;
    value.skip_tags()?;
    Ok(Current { epoch, previous_epoch, state, assigned, revoking })
}

/// Partitions with the epoch each was assigned at; records before Kafka 4.3 don't have those, where the member's counts.
fn epoch_partitions(value: &mut Cursor<'_>, member_epoch: i32) -> Result<EpochPartitions, ReadError> {
    let mut topics = EpochPartitions::new();
    for _ in 0..value.array(18)?.ok_or(ReadError::Null)? {
        let topic = value.uuid()?;
        let partitions = integers(value)?;
        let mut epochs = Vec::new();
        value.tags(|tag, mut field| {
            if tag == TAG {
                epochs = integers(&mut field)?;
            }
            Ok(())
        })?;
        if epochs.len() != partitions.len() {
            epochs = vec![member_epoch.max(0); partitions.len()];
        }
        topics.insert(topic, partitions.into_iter().zip(epochs).collect());
    }
    Ok(topics)
}

fn encode_current(value: &Current) -> Vec<u8> {
    write(|put| {
        put.out.put_i32(value.epoch);
        put.out.put_i32(value.previous_epoch);
        put.out.put_i8(value.state.code());
        for topics in [&value.assigned, &value.revoking] {
            put.len(Some(topics.len()));
            for (topic, partitions) in topics {
                put.uuid(*topic);
                put_integers(put, partitions.keys().copied(), partitions.len());
                let mut epochs = Vec::new();
                let mut tagged = Put { out: &mut epochs, flexible: true };
                put_integers(&mut tagged, partitions.values().copied(), partitions.len());
                put_tag(put, Some(&epochs));
            }
        }
    })
}

fn decode_regex(value: &mut Cursor<'_>) -> Result<Resolved, ReadError> {
    let topics = strings(value)?;
    let version = value.i64()?;
    let timestamp = value.i64()?;
    value.skip_tags()?;
    Ok(Resolved { topics, version, timestamp })
}

fn encode_regex(value: &Resolved) -> Vec<u8> {
    write(|put| {
        put_strings(put, &value.topics);
        put.out.put_i64(value.version);
        put.out.put_i64(value.timestamp);
    })
}

/// The same partitions without their epochs.
pub fn without_epochs(partitions: &EpochPartitions) -> Partitions {
    partitions.iter().map(|(topic, partitions)| (*topic, partitions.keys().copied().collect())).collect()
}

/// All partitions at one epoch.
pub fn at_epoch(partitions: &Partitions, epoch: i32) -> EpochPartitions {
    let each = |(topic, partitions): (&Uuid, &BTreeSet<i32>)| {
        (*topic, partitions.iter().map(|&partition| (partition, epoch)).collect::<BTreeMap<_, _>>())
    };
    partitions.iter().map(each).collect()
}

#[cfg(test)]
mod tests;
