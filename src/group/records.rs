//! The records of `__consumer_offsets` in Kafka's formats: a key and a value, each behind its type or version (i16).
//!
//! Written at the versions that Kafka 4.3.1 writes at its default features: offsets at version 4 (1 when the client named
//! a retention time), classic groups at version 3. Read at every version since 0. Those
//! of consumer groups are in [`super::consumer::records`], those of share groups in [`super::share::records`], those of
//! streams groups in [`super::streams::records`]. Keys of other types are not ours to judge: they read as
//! [`Record::Unknown`] and stay in the log as they are.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use uuid::Uuid;

use super::consumer::records::ConsumerRecord;
use super::share::records::ShareRecord;
use super::streams::records::StreamsRecord;
use crate::coordinator::Encoded;
use crate::protocol::cursor::{Cursor, ReadError};
use crate::protocol::put::Put;
use crate::protocol::record_batch::{LeaderEpoch, Offset};

const KEY_OFFSET_LEGACY: i16 = 0;
const KEY_OFFSET: i16 = 1;
const KEY_GROUP: i16 = 2;

const OFFSET_VERSION_EXPIRING: i16 = 1;
const OFFSET_VERSION: i16 = 4;
const GROUP_VERSION: i16 = 3;
/// From here on both values have compact lengths and tags.
const FLEXIBLE_FROM: i16 = 4;
const TAG_TOPIC_ID: u32 = 0;

/// Which offset a record is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OffsetKey {
    /// The group.
    pub group: Arc<str>,
    /// The topic, by name.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

/// One committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: Offset,
    /// Leader epoch of the last record read, -1 when the client did not say.
    pub leader_epoch: LeaderEpoch,
    /// The client's own note.
    pub metadata: Arc<str>,
    /// Wall time of the commit.
    pub commit_timestamp: i64,
    /// When it expires whatever the group does; only from clients that name a retention time.
    pub expire_timestamp: Option<i64>,
    /// The topic's id, nil when it was not known.
    pub topic_id: Uuid,
}

/// One member of a classic group as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberMetadata {
    /// The id that the coordinator gave it.
    pub member_id: Arc<str>,
    /// The id that its owner gave it, for a static member.
    pub instance_id: Option<Arc<str>>,
    /// As its client calls itself.
    pub client_id: Arc<str>,
    /// Where it last joined from.
    pub client_host: Arc<str>,
    /// How long a rebalance waits for it; -1 in old records: its session timeout.
    pub rebalance_timeout_ms: i32,
    /// How long it lives without a heartbeat.
    pub session_timeout_ms: i32,
    /// Its metadata for the chosen protocol.
    pub subscription: Bytes,
    /// What the leader assigned to it.
    pub assignment: Bytes,
}

/// A classic group as the log keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadata {
    /// "consumer", "connect" or any other; empty for a group that only commits offsets.
    pub protocol_type: Arc<str>,
    /// The generation.
    pub generation: i32,
    /// The protocol (assignor) that the members agreed on.
    pub protocol: Option<Arc<str>>,
    /// The member that assigns.
    pub leader: Option<Arc<str>>,
    /// When its state last changed, -1 in old records.
    pub state_timestamp: i64,
    /// Its members.
    pub members: Vec<MemberMetadata>,
}

/// A record, read. A missing value is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A committed offset or its end.
    Offset(OffsetKey, Option<Committed>),
    /// A classic group or its end.
    Group(Arc<str>, Option<GroupMetadata>),
    /// One of a consumer group.
    Consumer(Arc<str>, ConsumerRecord),
    /// One of a share group.
    Share(Arc<str>, ShareRecord),
    /// One of a streams group.
    Streams(Arc<str>, StreamsRecord),
    /// Of a type we do not know; stays in the log.
    Unknown {
        /// The type in front of the key.
        key_type: i16,
    },
}

impl Record {
    /// Reads a record of any version; the bytes may be anybody's.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, ReadError> {
        let mut key = Cursor::new(key, false);
        match key.i16()? {
            KEY_OFFSET_LEGACY | KEY_OFFSET => {
                let key = OffsetKey { group: key.string()?.into(), topic: key.string()?.into(), partition: key.i32()? };
                Ok(Self::Offset(key, value.map(decode_offset).transpose()?))
            }
            KEY_GROUP => Ok(Self::Group(key.string()?.into(), value.map(decode_group).transpose()?)),
            key_type if ConsumerRecord::has_type(key_type) => {
                let (group, record) = ConsumerRecord::decode(key_type, key, value)?;
                Ok(Self::Consumer(group, record))
            }
            key_type if ShareRecord::has_type(key_type) => {
                let (group, record) = ShareRecord::decode(key_type, key, value)?;
                Ok(Self::Share(group, record))
            }
            key_type if StreamsRecord::has_type(key_type) => {
                let (group, record) = StreamsRecord::decode(key_type, key, value)?;
                Ok(Self::Streams(group, record))
            }
            key_type => Ok(Self::Unknown { key_type }),
        }
    }

    /// Writes a record as Kafka 4.3.1 does. There is nothing to write for a type we do not know.
    pub fn encode(&self) -> Option<Encoded> {
        let mut key = Vec::new();
        let value = match self {
            Self::Offset(of, committed) => {
                key.put_i16(KEY_OFFSET);
                let mut put = Put { out: &mut key, flexible: false };
                put.string(&of.group);
                put.string(&of.topic);
                key.put_i32(of.partition);
                committed.as_ref().map(encode_offset)
            }
            Self::Group(group, metadata) => {
                key.put_i16(KEY_GROUP);
                Put { out: &mut key, flexible: false }.string(group);
                metadata.as_ref().map(encode_group)
            }
            Self::Consumer(group, record) => {
                let (key, value) = record.encode(group);
                return Some(Encoded { key, value });
            }
            Self::Share(group, record) => {
                let (key, value) = record.encode(group);
                return Some(Encoded { key, value });
            }
            Self::Streams(group, record) => {
                let (key, value) = record.encode(group);
                return Some(Encoded { key, value });
            }
            Self::Unknown { .. } => return None,
        };
        Some(Encoded { key, value })
    }
}

fn value_cursor(value: &[u8]) -> Result<(i16, Cursor<'_>), ReadError> {
    let version = Cursor::new(value, false).i16()?;
    if !(0..=FLEXIBLE_FROM).contains(&version) {
        return Err(ReadError::Version(version));
    }
    let mut value = Cursor::new(value, version >= FLEXIBLE_FROM);
    value.i16()?;
    Ok((version, value))
}

fn decode_offset(value: &[u8]) -> Result<Committed, ReadError> {
    let (version, mut value) = value_cursor(value)?;
    let offset = value.i64()?;
    let leader_epoch = if version >= 3 { value.i32()? } else { -1 };
    let metadata = value.string()?.into();
    let commit_timestamp = value.i64()?;
    let expire_timestamp = if version == OFFSET_VERSION_EXPIRING { Some(value.i64()?) } else { None };
    let mut topic_id = Uuid::nil();
    value.tags(|tag, mut field| {
        if tag == TAG_TOPIC_ID {
            topic_id = field.uuid()?;
        }
        Ok(())
    })?;
    let expire_timestamp = expire_timestamp.filter(|&at| at != -1);
    Ok(Committed { offset, leader_epoch, metadata, commit_timestamp, expire_timestamp, topic_id })
}

fn encode_offset(committed: &Committed) -> Vec<u8> {
    let version = if committed.expire_timestamp.is_some() { OFFSET_VERSION_EXPIRING } else { OFFSET_VERSION };
    let mut out = Vec::with_capacity(32 + committed.metadata.len());
    out.put_i16(version);
    out.put_i64(committed.offset);
    if version >= 3 {
        out.put_i32(committed.leader_epoch);
    }
    Put { out: &mut out, flexible: version >= FLEXIBLE_FROM }.string(&committed.metadata);
    out.put_i64(committed.commit_timestamp);
    if let Some(at) = committed.expire_timestamp {
        out.put_i64(at);
    } else {
        let mut put = Put { out: &mut out, flexible: true };
        put.tags(u32::from(!committed.topic_id.is_nil()));
        if !committed.topic_id.is_nil() {
            put.tag(TAG_TOPIC_ID, 16);
            put.uuid(committed.topic_id);
        }
    }
    out
}

fn decode_group(value: &[u8]) -> Result<GroupMetadata, ReadError> {
    let (version, mut value) = value_cursor(value)?;
    let protocol_type = value.string()?.into();
    let generation = value.i32()?;
    let protocol = value.nullable_string()?.map(Arc::from);
    let leader = value.nullable_string()?.map(Arc::from);
    let state_timestamp = if version >= 2 { value.i64()? } else { -1 };
    let count = value.array(16)?.ok_or(ReadError::Null)?;
    let members = (0..count).map(|_| decode_member(version, &mut value)).collect::<Result<_, _>>()?;
    value.skip_tags()?;
    Ok(GroupMetadata { protocol_type, generation, protocol, leader, state_timestamp, members })
}

fn decode_member(version: i16, value: &mut Cursor<'_>) -> Result<MemberMetadata, ReadError> {
    let member_id = value.string()?.into();
    let instance_id = if version >= 3 { value.nullable_string()?.map(Arc::from) } else { None };
    let client_id = value.string()?.into();
    let client_host = value.string()?.into();
    let rebalance_timeout_ms = if version >= 1 { value.i32()? } else { -1 };
    let session_timeout_ms = value.i32()?;
    let subscription = Bytes::copy_from_slice(value.nullable_bytes()?.ok_or(ReadError::Null)?);
    let assignment = Bytes::copy_from_slice(value.nullable_bytes()?.ok_or(ReadError::Null)?);
    value.skip_tags()?;
    Ok(MemberMetadata {
        member_id,
        instance_id,
        client_id,
        client_host,
        rebalance_timeout_ms,
        session_timeout_ms,
        subscription,
        assignment,
    })
}

fn encode_group(group: &GroupMetadata) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_i16(GROUP_VERSION);
    let mut put = Put { out: &mut out, flexible: false };
    put.string(&group.protocol_type);
    put.out.put_i32(group.generation);
    put.nullable_string(group.protocol.as_deref());
    put.nullable_string(group.leader.as_deref());
    put.out.put_i64(group.state_timestamp);
    put.len(Some(group.members.len()));
    for member in &group.members {
        put.string(&member.member_id);
        put.nullable_string(member.instance_id.as_deref());
        put.string(&member.client_id);
        put.string(&member.client_host);
        put.out.put_i32(member.rebalance_timeout_ms);
        put.out.put_i32(member.session_timeout_ms);
        for bytes in [&member.subscription, &member.assignment] {
            put.len(Some(bytes.len()));
            put.out.put_slice(bytes);
        }
    }
    out
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
