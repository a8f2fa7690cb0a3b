//! The records of a streams group (KIP-1071) in Kafka's formats.
//!
//! ```text
//!  key type  key              value
//!  17        group            group epoch, hash of the required topics' metadata, validated topology epoch,
//!                             configuration of the last assignment
//!  19        group, member    who the member is
//!  20        group            epoch of the target assignment, and when it was made
//!  21        group, member    the member's target assignment
//!  22        group, member    the member's epoch, what it owns and gives back
//!  23        group            the topology                                        (topology_record.rs)
//! ```
//! All values have version 0, compact lengths and tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BufMut;

use super::member::{Current, Endpoint, MemberState, Subscription};
use super::tasks::{EpochTasks, OwnedTasks, TaskSet, Tasks};
use super::topology::{Pair, Topology};
use super::topology_record::{decode_topology, encode_topology};
use crate::group::consumer::records::TargetEpoch;
use crate::group::record_fields::{
    TAG, integers, key, put_integers, put_tag, read, tagged_i64, write, write_with_tag, write_with_tags,
};
use crate::protocol::cursor::{Cursor, ReadError};
use crate::protocol::put::Put;

/// Type of the record that a group begins and ends with.
pub const KEY_EPOCH: i16 = 17;
const KEY_MEMBER: i16 = 19;
const KEY_TARGET_EPOCH: i16 = 20;
const KEY_TARGET: i16 = 21;
const KEY_CURRENT: i16 = 22;
const KEY_TOPOLOGY: i16 = 23;

const TAG_VALIDATED: u32 = 0;
const TAG_CONFIGS: u32 = 1;
const TAG_EPOCHS: u32 = TAG;
const NOT_VALIDATED: i32 = -1;

/// The group's epoch and what it was raised for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupEpoch {
    /// The epoch.
    pub epoch: i32,
    /// Over the metadata of all topics that the topology needs.
    pub metadata_hash: i64,
    /// The topology whose topics are all there and fit, -1 for none.
    pub validated_topology_epoch: i32,
    /// With which configuration tasks are assigned.
    pub assignment_configs: BTreeMap<Arc<str>, Arc<str>>,
}

impl Default for GroupEpoch {
    /// Of a group of which the log says nothing yet. A member's epoch of 0 means that it joins, so a group begins at 1.
    fn default() -> Self {
        Self {
            epoch: 1,
            metadata_hash: 0,
            validated_topology_epoch: NOT_VALIDATED,
            assignment_configs: BTreeMap::new(),
        }
    }
}

/// One record of a streams group; a missing value is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamsRecord {
    /// The group's epoch; without it there is no group.
    Epoch(Option<GroupEpoch>),
    /// The application.
    Topology(Option<Topology>),
    /// Who a member is.
    Member(Arc<str>, Option<Subscription>),
    /// The epoch of the target assignment.
    TargetEpoch(Option<TargetEpoch>),
    /// The target assignment of a member.
    Target(Arc<str>, Option<Tasks>),
    /// Epoch and tasks of a member.
    Current(Arc<str>, Option<Current>),
}

impl StreamsRecord {
    /// Is `key_type` one of ours?
    pub fn has_type(key_type: i16) -> bool {
        matches!(key_type, KEY_EPOCH | KEY_MEMBER..=KEY_TOPOLOGY)
    }

    /// Does it end what it is about?
    pub fn is_tombstone(&self) -> bool {
        match self {
            Self::Epoch(value) => value.is_none(),
            Self::Topology(value) => value.is_none(),
            Self::Member(_, value) => value.is_none(),
            Self::TargetEpoch(value) => value.is_none(),
            Self::Target(_, value) => value.is_none(),
            Self::Current(_, value) => value.is_none(),
        }
    }

    /// Reads a record whose key is behind its type; returns the group too. The bytes may be anybody's.
    pub fn decode(key_type: i16, mut key: Cursor<'_>, value: Option<&[u8]>) -> Result<(Arc<str>, Self), ReadError> {
        let group = key.string()?.into();
        let record = match key_type {
            KEY_EPOCH => Self::Epoch(read(value, decode_epoch)?),
            KEY_TOPOLOGY => Self::Topology(read(value, decode_topology)?),
            KEY_MEMBER => Self::Member(key.string()?.into(), read(value, decode_member)?),
            KEY_TARGET_EPOCH => Self::TargetEpoch(read(value, decode_target_epoch)?),
            KEY_TARGET => Self::Target(key.string()?.into(), read(value, decode_target)?),
            KEY_CURRENT => Self::Current(key.string()?.into(), read(value, decode_current)?),
            other => return Err(ReadError::Version(other)),
        };
        Ok((group, record))
    }

    /// Key and value of the record in `group`.
    pub fn encode(&self, group: &str) -> (Vec<u8>, Option<Vec<u8>>) {
        match self {
            Self::Epoch(value) => (key(KEY_EPOCH, group, None), value.as_ref().map(encode_epoch)),
            Self::Topology(value) => (key(KEY_TOPOLOGY, group, None), value.as_ref().map(encode_topology)),
            Self::Member(id, value) => (key(KEY_MEMBER, group, Some(id)), value.as_ref().map(encode_member)),
            Self::TargetEpoch(value) => (key(KEY_TARGET_EPOCH, group, None), value.as_ref().map(encode_target_epoch)),
            Self::Target(id, value) => (key(KEY_TARGET, group, Some(id)), value.as_ref().map(encode_target)),
            Self::Current(id, value) => (key(KEY_CURRENT, group, Some(id)), value.as_ref().map(encode_current)),
        }
    }
}

fn decode_epoch(value: &mut Cursor<'_>) -> Result<GroupEpoch, ReadError> {
    let (epoch, metadata_hash) = (value.i32()?, value.i64()?);
    let mut read = GroupEpoch { epoch, metadata_hash, ..GroupEpoch::default() };
    value.tags(|tag, mut field| {
        match tag {
            TAG_VALIDATED => read.validated_topology_epoch = field.i32()?,
            TAG_CONFIGS => read.assignment_configs = pairs(&mut field, true)?.into_iter().collect(),
            _ => {}
        }
        Ok(())
    })?;
    Ok(read)
}

fn encode_epoch(value: &GroupEpoch) -> Vec<u8> {
    let validated = value.validated_topology_epoch.to_be_bytes();
    let mut configs = Vec::new();
    put_pairs(&mut Put { out: &mut configs, flexible: true }, value.assignment_configs.iter());
    // What is as nobody said it is not written.
    let validated = Some((TAG_VALIDATED, &validated[..])).filter(|_| value.validated_topology_epoch != NOT_VALIDATED);
    let configs = Some((TAG_CONFIGS, &configs[..])).filter(|_| !value.assignment_configs.is_empty());
    let tags: Vec<_> = validated.into_iter().chain(configs).collect();
    write_with_tags(
        |put| {
            put.out.put_i32(value.epoch);
            put.out.put_i64(value.metadata_hash);
        },
        &tags,
    )
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
    let (client_id, client_host) = (value.string()?.into(), value.string()?.into());
    let (rebalance_timeout_ms, topology_epoch) = (value.i32()?, value.i32()?);
    let process_id = value.string()?.into();
    let mut endpoint = None;
    if value.i8()? >= 0 {
        endpoint = Some(Endpoint { host: value.string()?.into(), port: value.i16()?.cast_unsigned() });
        value.skip_tags()?;
    }
    let client_tags = pairs(value, true)?.into_iter().collect();
    value.skip_tags()?;
    Ok(Subscription {
        instance_id,
        rack_id,
        client_id,
        client_host,
        rebalance_timeout_ms,
        topology_epoch,
        process_id,
        endpoint,
        client_tags,
    })
}

fn encode_member(value: &Subscription) -> Vec<u8> {
    write(|put| {
        put.nullable_string(value.instance_id.as_deref());
        put.nullable_string(value.rack_id.as_deref());
        put.string(&value.client_id);
        put.string(&value.client_host);
        put.out.put_i32(value.rebalance_timeout_ms);
        put.out.put_i32(value.topology_epoch);
        put.string(&value.process_id);
        match &value.endpoint {
            None => put.out.put_i8(-1),
            Some(endpoint) => {
                put.out.put_i8(1);
                put.string(&endpoint.host);
                put.out.put_u16(endpoint.port);
                put.tags(0);
            }
        }
        put_pairs(put, value.client_tags.iter());
    })
}

fn decode_target(value: &mut Cursor<'_>) -> Result<Tasks, ReadError> {
    let target = Tasks { active: tasks(value)?, standby: tasks(value)?, warmup: tasks(value)? };
    value.skip_tags()?;
    Ok(target)
}

fn encode_target(value: &Tasks) -> Vec<u8> {
    write(|put| value.roles().into_iter().for_each(|tasks| put_tasks(put, tasks)))
}

fn decode_current(value: &mut Cursor<'_>) -> Result<Current, ReadError> {
    let (epoch, previous_epoch) = (value.i32()?, value.i32()?);
    let state = MemberState::from_code(value.i8()?);
    let mut owned = || {
        let active = epoch_tasks(value, epoch)?;
        Ok::<_, ReadError>(OwnedTasks { active, standby: tasks(value)?, warmup: tasks(value)? })
    };
    let (assigned, revoking) = (owned()?, owned()?);
    value.skip_tags()?;
    Ok(Current { epoch, previous_epoch, state, assigned, revoking })
}

fn encode_current(value: &Current) -> Vec<u8> {
    write(|put| {
        put.out.put_i32(value.epoch);
        put.out.put_i32(value.previous_epoch);
        put.out.put_i8(value.state.code());
        for owned in [&value.assigned, &value.revoking] {
            put_epoch_tasks(put, &owned.active);
            put_tasks(put, &owned.standby);
            put_tasks(put, &owned.warmup);
        }
    })
}

fn tasks(value: &mut Cursor<'_>) -> Result<TaskSet, ReadError> {
    let mut tasks = TaskSet::new();
    // Id, a length and tags.
    for _ in 0..value.array(3)?.ok_or(ReadError::Null)? {
        tasks.insert(value.string()?.into(), integers(value)?.into_iter().collect());
        value.skip_tags()?;
    }
    Ok(tasks)
}

fn put_tasks(put: &mut Put<'_, Vec<u8>>, tasks: &TaskSet) {
    put.len(Some(tasks.len()));
    for (id, partitions) in tasks {
        put.string(id);
        put_integers(put, partitions.iter().copied(), partitions.len());
        put.tags(0);
    }
}

/// Where epochs are missing, or not as many as partitions, the member's counts.
fn epoch_tasks(value: &mut Cursor<'_>, member_epoch: i32) -> Result<EpochTasks, ReadError> {
    let mut tasks = EpochTasks::new();
    for _ in 0..value.array(3)?.ok_or(ReadError::Null)? {
        let (id, partitions) = (value.string()?.into(), integers(value)?);
        let mut epochs = None;
        value.tags(|tag, mut field| {
            if tag == TAG_EPOCHS {
                epochs = nullable_integers(&mut field)?;
            }
            Ok(())
        })?;
        let epochs = epochs.filter(|epochs| epochs.len() == partitions.len());
        let epochs = epochs.unwrap_or_else(|| vec![member_epoch; partitions.len()]);
        tasks.insert(id, partitions.into_iter().zip(epochs).collect());
    }
    Ok(tasks)
}

fn put_epoch_tasks(put: &mut Put<'_, Vec<u8>>, tasks: &EpochTasks) {
    put.len(Some(tasks.len()));
    for (id, partitions) in tasks {
        put.string(id);
        put_integers(put, partitions.keys().copied(), partitions.len());
        let mut epochs = Vec::with_capacity(5 + 4 * partitions.len());
        put_integers(&mut Put { out: &mut epochs, flexible: true }, partitions.values().copied(), partitions.len());
        put_tag(put, Some(&epochs));
    }
}

fn nullable_integers(value: &mut Cursor<'_>) -> Result<Option<Vec<i32>>, ReadError> {
    let Some(count) = value.array(4)? else { return Ok(None) };
    (0..count).map(|_| value.i32()).collect::<Result<_, _>>().map(Some)
}

/// Keys and values in order; none for null where that is allowed.
pub(super) fn pairs(value: &mut Cursor<'_>, nullable: bool) -> Result<Vec<Pair>, ReadError> {
    let count = match value.array(3)? {
        None if nullable => 0,
        count => count.ok_or(ReadError::Null)?,
    };
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        pairs.push((value.string()?.into(), value.string()?.into()));
        value.skip_tags()?;
    }
    Ok(pairs)
}

/// The same.
pub(super) fn put_pairs<'p>(
    put: &mut Put<'_, Vec<u8>>,
    pairs: impl ExactSizeIterator<Item = (&'p Arc<str>, &'p Arc<str>)>,
) {
    put.len(Some(pairs.len()));
    for (key, value) in pairs {
        put.string(key);
        put.string(value);
        put.tags(0);
    }
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
