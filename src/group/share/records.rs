//! The records of a share group (KIP-932) in Kafka's formats.
//!
//! ```text
//!  key type  key              value
//!  10        group, member    who the member is and what it subscribes to
//!  11        group            group epoch, hash of the subscribed topics' metadata
//!  12        group            epoch of the target assignment, and when it was made
//!  13        group, member    the member's target assignment
//!  14        group, member    the member's epoch and what it may read
//!  15        group            the partitions whose state the share coordinator keeps, is to keep, is to forget
//! ```
//! All values have version 0, compact lengths and tags.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::BufMut;
use uuid::Uuid;

use super::{Current, Subscription};
use crate::group::consumer::Partitions;
use crate::group::consumer::records::{GroupEpoch, TargetEpoch};
use crate::group::record_fields::{
    integers, key, partitions, put_integers, put_partitions, put_strings, read, strings,
};
use crate::group::record_fields::{tagged_i64, write, write_with_tag};
use crate::protocol::cursor::{Cursor, ReadError};
use crate::protocol::put::Put;

const KEY_MEMBER: i16 = 10;
/// Type of the record that a group begins and ends with.
pub const KEY_EPOCH: i16 = 11;
const KEY_TARGET_EPOCH: i16 = 12;
const KEY_TARGET: i16 = 13;
const KEY_CURRENT: i16 = 14;
const KEY_STATES: i16 = 15;
/// A member is always at what its epoch's assignment gives it.
const STABLE: i8 = 0;

/// Which partitions' states are where. Of each topic its name and partitions, by its id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatePartitions {
    /// The share coordinator is to begin to keep them.
    pub initializing: BTreeMap<Uuid, TopicPartitions>,
    /// It keeps them.
    pub initialized: BTreeMap<Uuid, TopicPartitions>,
    /// It is to forget them.
    pub deleting: BTreeMap<Uuid, Arc<str>>,
}

/// Partitions of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPartitions {
    /// The topic's name.
    pub name: Arc<str>,
    /// Its partitions, rising.
    pub partitions: Vec<i32>,
}

impl StatePartitions {
    /// Topics of this name, also when they are to be forgotten.
    pub fn topics_named(&self, name: &str) -> Vec<Uuid> {
        let kept = self.initializing.iter().chain(&self.initialized).map(|(id, topic)| (id, &topic.name));
        kept.chain(&self.deleting).filter(|(_, of)| ***of == *name).map(|(id, _)| *id).collect()
    }

    /// All topics.
    pub fn topics(&self) -> Vec<Uuid> {
        let all: BTreeSet<_> =
            self.initializing.keys().chain(self.initialized.keys()).chain(self.deleting.keys()).collect();
        all.into_iter().copied().collect()
    }

    /// Those of `wanted` that nobody keeps.
    pub fn lacking(&self, wanted: &Partitions) -> Partitions {
        let of_topic = |(id, wanted): (&Uuid, &BTreeSet<i32>)| {
            let kept: BTreeSet<i32> =
                self.initialized.get(id).into_iter().flat_map(|topic| topic.partitions.iter().copied()).collect();
            let lacking: BTreeSet<i32> = wanted.difference(&kept).copied().collect();
            (!lacking.is_empty()).then_some((*id, lacking))
        };
        wanted.iter().filter_map(of_topic).collect()
    }

    /// Nothing at all?
    pub fn is_empty(&self) -> bool {
        self.initializing.is_empty() && self.initialized.is_empty() && self.deleting.is_empty()
    }
}

/// One record of a share group; a missing value is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareRecord {
    /// The group's epoch; without it there is no group.
    Epoch(Option<GroupEpoch>),
    /// Who a member is.
    Member(Arc<str>, Option<Subscription>),
    /// The epoch of the target assignment.
    TargetEpoch(Option<TargetEpoch>),
    /// The target assignment of a member.
    Target(Arc<str>, Option<Partitions>),
    /// Epoch and partitions of a member.
    Current(Arc<str>, Option<Current>),
    /// Where the partitions' states are.
    States(Option<StatePartitions>),
}

impl ShareRecord {
    /// Is `key_type` one of ours?
    pub fn has_type(key_type: i16) -> bool {
        matches!(key_type, KEY_MEMBER..=KEY_STATES)
    }

    /// Does it end what it is about?
    pub fn is_tombstone(&self) -> bool {
        match self {
            Self::Epoch(value) => value.is_none(),
            Self::Member(_, value) => value.is_none(),
            Self::TargetEpoch(value) => value.is_none(),
            Self::Target(_, value) => value.is_none(),
            Self::Current(_, value) => value.is_none(),
            Self::States(value) => value.is_none(),
        }
    }

    /// Reads a record whose key is behind its type; returns the group too. The bytes may be anybody's.
    pub fn decode(key_type: i16, mut key: Cursor<'_>, value: Option<&[u8]>) -> Result<(Arc<str>, Self), ReadError> {
        let group = key.string()?.into();
        let record = match key_type {
            KEY_EPOCH => Self::Epoch(read(value, decode_epoch)?),
            KEY_MEMBER => Self::Member(key.string()?.into(), read(value, decode_member)?),
            KEY_TARGET_EPOCH => Self::TargetEpoch(read(value, decode_target_epoch)?),
            KEY_TARGET => Self::Target(key.string()?.into(), read(value, decode_target)?),
            KEY_CURRENT => Self::Current(key.string()?.into(), read(value, decode_current)?),
            KEY_STATES => Self::States(read(value, decode_states)?),
            other => return Err(ReadError::Version(other)),
        };
        Ok((group, record))
    }

    /// Key and value of the record in `group`.
    pub fn encode(&self, group: &str) -> (Vec<u8>, Option<Vec<u8>>) {
        match self {
            Self::Epoch(value) => (key(KEY_EPOCH, group, None), value.as_ref().map(encode_epoch)),
            Self::Member(id, value) => (key(KEY_MEMBER, group, Some(id)), value.as_ref().map(encode_member)),
            Self::TargetEpoch(value) => (key(KEY_TARGET_EPOCH, group, None), value.as_ref().map(encode_target_epoch)),
            Self::Target(id, value) => (key(KEY_TARGET, group, Some(id)), value.as_ref().map(encode_target)),
            Self::Current(id, value) => (key(KEY_CURRENT, group, Some(id)), value.as_ref().map(encode_current)),
            Self::States(value) => (key(KEY_STATES, group, None), value.as_ref().map(encode_states)),
        }
    }
}

fn decode_epoch(value: &mut Cursor<'_>) -> Result<GroupEpoch, ReadError> {
    let (epoch, metadata_hash) = (value.i32()?, value.i64()?);
    value.skip_tags()?;
    Ok(GroupEpoch { epoch, metadata_hash })
}

fn encode_epoch(value: &GroupEpoch) -> Vec<u8> {
    write(|put| {
        put.out.put_i32(value.epoch);
        put.out.put_i64(value.metadata_hash);
    })
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
    let rack_id = value.nullable_string()?.map(Arc::from);
    let client_id = value.string()?.into();
    let client_host = value.string()?.into();
    let topics = strings(value)?;
    value.skip_tags()?;
    Ok(Subscription { rack_id, client_id, client_host, topics })
}

fn encode_member(value: &Subscription) -> Vec<u8> {
    write(|put| {
        put.nullable_string(value.rack_id.as_deref());
        put.string(&value.client_id);
        put.string(&value.client_host);
        put_strings(put, &value.topics);
    })
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
    let (epoch, previous_epoch, _state) = (value.i32()?, value.i32()?, value.i8()?);
    let assigned = partitions(value)?;
    value.skip_tags()?;
    Ok(Current { epoch, previous_epoch, assigned })
}

fn encode_current(value: &Current) -> Vec<u8> {
    write(|put| {
        put.out.put_i32(value.epoch);
        put.out.put_i32(value.previous_epoch);
        put.out.put_i8(STABLE);
        put_partitions(put, &value.assigned);
    })
}

fn decode_states(value: &mut Cursor<'_>) -> Result<StatePartitions, ReadError> {
    let initializing = topics(value)?;
    let initialized = topics(value)?;
    let mut deleting = BTreeMap::new();
    for _ in 0..value.array(18)?.ok_or(ReadError::Null)? {
        deleting.insert(value.uuid()?, value.string()?.into());
        value.skip_tags()?;
    }
    value.skip_tags()?;
    Ok(StatePartitions { initializing, initialized, deleting })
}

fn topics(value: &mut Cursor<'_>) -> Result<BTreeMap<Uuid, TopicPartitions>, ReadError> {
    let mut topics = BTreeMap::new();
    // Id, name, partitions, tags.
    for _ in 0..value.array(19)?.ok_or(ReadError::Null)? {
        let id = value.uuid()?;
        let (name, partitions) = (value.string()?.into(), integers(value)?);
        value.skip_tags()?;
        topics.insert(id, TopicPartitions { name, partitions });
    }
    Ok(topics)
}

fn encode_states(value: &StatePartitions) -> Vec<u8> {
    write(|put| {
        put_topics(put, &value.initializing);
        put_topics(put, &value.initialized);
        put.len(Some(value.deleting.len()));
        for (id, name) in &value.deleting {
            put.uuid(*id);
            put.string(name);
            put.tags(0);
        }
    })
}

fn put_topics(put: &mut Put<'_, Vec<u8>>, topics: &BTreeMap<Uuid, TopicPartitions>) {
    put.len(Some(topics.len()));
    for (id, topic) in topics {
        put.uuid(*id);
        put.string(&topic.name);
        put_integers(put, topic.partitions.iter().copied(), topic.partitions.len());
        put.tags(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn states() -> StatePartitions {
        let topic = |name: &str| TopicPartitions { name: name.into(), partitions: vec![0, 2] };
        StatePartitions {
            initializing: [(Uuid::from_u128(1), topic("a"))].into(),
            initialized: [(Uuid::from_u128(2), topic("b")), (Uuid::from_u128(3), topic("c"))].into(),
            deleting: [(Uuid::from_u128(4), "d".into())].into(),
        }
    }

    #[test]
    fn records_come_back_as_written() {
        let owned: Partitions = [(Uuid::from_u128(7), [0, 1].into())].into();
        let subscription = Subscription {
            rack_id: Some("r".into()),
            client_id: "c".into(),
            client_host: "/1".into(),
            topics: ["t".into()].into(),
        };
        let records = [
            ShareRecord::Epoch(Some(GroupEpoch { epoch: 3, metadata_hash: 9 })),
            ShareRecord::Member("m".into(), Some(subscription)),
            ShareRecord::TargetEpoch(Some(TargetEpoch { epoch: 3, timestamp: 5 })),
            ShareRecord::Target("m".into(), Some(owned.clone())),
            ShareRecord::Current("m".into(), Some(Current { epoch: 3, previous_epoch: 2, assigned: owned })),
            ShareRecord::States(Some(states())),
            ShareRecord::States(None),
        ];
        for record in records {
            let (key, value) = record.encode("g");
            let mut cursor = Cursor::new(&key, false);
            let key_type = cursor.i16().unwrap();
            assert!(ShareRecord::has_type(key_type));
            assert_eq!(ShareRecord::decode(key_type, cursor, value.as_deref()), Ok(("g".into(), record)));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_read(key_type in KEY_MEMBER..=KEY_STATES, key: Vec<u8>, value: Vec<u8>) {
            let _ = ShareRecord::decode(key_type, Cursor::new(&key, false), Some(&value));
        }
    }
}
