//! One record of `__cluster_metadata`, as Kafka's metadata schemas (`common/metadata/*.json` of its jar) lay it out.
//!
//! A value is a frame version, the record's type and its version, all unsigned varints, then the fields. All versions are
//! flexible: fields of newer releases are tagged or at the end, so what we need is read from any version.

use uuid::Uuid;

use crate::protocol::cursor::{Cursor, ReadError};
use crate::protocol::varint;

const FRAME_VERSION: u32 = 1;

/// What we take from Kafka's metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum MetadataRecord {
    /// TopicRecord.
    Topic {
        /// Its id.
        id: Uuid,
        /// Its name.
        name: String,
    },
    /// RemoveTopicRecord.
    RemoveTopic(Uuid),
    /// PartitionRecord.
    Partition {
        /// The topic.
        topic: Uuid,
        /// The partition's number.
        partition: i32,
        /// Brokers that hold it.
        replicas: Vec<i32>,
        /// Its leader epoch.
        leader_epoch: i32,
    },
    /// PartitionChangeRecord.
    PartitionChange {
        /// The topic.
        topic: Uuid,
        /// The partition's number.
        partition: i32,
        /// Brokers that hold it from now on.
        replicas: Option<Vec<i32>>,
        /// Each of these raises the leader epoch by one.
        leader_changed: bool,
    },
    /// ConfigRecord.
    Config {
        /// 2 topic, 4 broker, 16 client metrics, 32 group.
        resource_type: i8,
        /// The resource.
        resource: String,
        /// The key.
        key: String,
        /// `None` removes it.
        value: Option<String>,
    },
    /// ClientQuotaRecord.
    Quota {
        /// Entity type to name, no name for the default.
        entity: Vec<(String, Option<String>)>,
        /// What is limited.
        key: String,
        /// The limit; `None` removes it.
        value: Option<f64>,
    },
    /// ProducerIdsRecord: the first id that nobody was given.
    NextProducerId(i64),
    /// FeatureLevelRecord.
    Feature {
        /// The feature.
        name: String,
        /// Its level; 0 takes it away.
        level: i16,
    },
    /// An ACL, a SCRAM credential or a delegation token, kept as Kafka wrote it. `None` removes it.
    Security {
        /// What is unique about it.
        key: String,
        /// The whole value.
        value: Option<Vec<u8>>,
    },
    /// BeginTransactionRecord: what follows counts only when it ends.
    Begin,
    /// EndTransactionRecord.
    End,
    /// AbortTransactionRecord.
    Abort,
    /// Speaks of Kafka's own brokers and controllers.
    Ignored,
    /// Of a type that we don't know.
    Unknown(u32),
}

/// Why a record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// A field is not what it has to be.
    #[error(transparent)]
    Field(#[from] ReadError),
    /// A framing that we don't know.
    #[error("frame version {0} is unknown")]
    Frame(u32),
}

/// Reads the value of a record.
pub fn decode(value: &[u8]) -> Result<MetadataRecord, BadRecord> {
    let mut rest = value;
    let frame = varint::read_unsigned(&mut rest).map_err(ReadError::from)?;
    if frame != FRAME_VERSION {
        return Err(BadRecord::Frame(frame));
    }
    let kind = varint::read_unsigned(&mut rest).map_err(ReadError::from)?;
    varint::read_unsigned(&mut rest).map_err(ReadError::from)?;
    let mut at = Cursor::new(rest, true);
    Ok(match kind {
        0 | 1 | 7 | 8 | 17 | 20 | 21 | 27 | 28 => MetadataRecord::Ignored,
        2 => {
            let name = at.string()?.to_owned();
            MetadataRecord::Topic { id: at.uuid()?, name }
        }
        3 => partition(&mut at)?,
        4 => MetadataRecord::Config {
            resource_type: at.i8()?,
            resource: at.string()?.to_owned(),
            key: at.string()?.to_owned(),
            value: at.nullable_string()?.map(str::to_owned),
        },
        5 => partition_change(&mut at)?,
        9 => MetadataRecord::RemoveTopic(at.uuid()?),
        10 => {
            for _ in 0..2 {
                at.string()?; // owner, requester
            }
            for _ in 0..at.array(1)?.unwrap_or(0) {
                at.string()?; // renewers
            }
            at.take(3 * 8)?; // issued, latest end, end
            security(format!("delegation-token/{}", at.string()?), Some(value))
        }
        26 => security(format!("delegation-token/{}", at.string()?), None),
        11 => security(scram_key(&mut at)?, Some(value)),
        22 => security(scram_key(&mut at)?, None),
        18 => security(format!("acl/{}", at.uuid()?), Some(value)),
        19 => security(format!("acl/{}", at.uuid()?), None),
        12 => MetadataRecord::Feature { name: at.string()?.to_owned(), level: at.i16()? },
        14 => quota(&mut at)?,
        15 => {
            at.take(4 + 8)?; // broker, its epoch
            MetadataRecord::NextProducerId(at.i64()?)
        }
        23 => MetadataRecord::Begin,
        24 => MetadataRecord::End,
        25 => MetadataRecord::Abort,
        other => MetadataRecord::Unknown(other),
    })
}

fn security(key: String, value: Option<&[u8]>) -> MetadataRecord {
    MetadataRecord::Security { key, value: value.map(<[u8]>::to_vec) }
}

fn scram_key(at: &mut Cursor<'_>) -> Result<String, ReadError> {
    let name = at.string()?.to_owned();
    Ok(format!("scram/{}/{name}", at.i8()?))
}

fn brokers(at: &mut Cursor<'_>) -> Result<Option<Vec<i32>>, ReadError> {
    let Some(count) = at.array(4)? else { return Ok(None) };
    (0..count).map(|_| at.i32()).collect::<Result<_, _>>().map(Some)
}

fn partition(at: &mut Cursor<'_>) -> Result<MetadataRecord, ReadError> {
    let (partition, topic) = (at.i32()?, at.uuid()?);
    let replicas = brokers(at)?.unwrap_or_default();
    for _ in 0..3 {
        brokers(at)?; // in sync, being removed, being added
    }
    at.i32()?; // leader
    Ok(MetadataRecord::Partition { topic, partition, replicas, leader_epoch: at.i32()? })
}

fn partition_change(at: &mut Cursor<'_>) -> Result<MetadataRecord, ReadError> {
    const LEADER: u32 = 1;
    const REPLICAS: u32 = 2;
    let (partition, topic) = (at.i32()?, at.uuid()?);
    let (mut replicas, mut leader_changed) = (None, false);
    at.tags(|tag, mut field| {
        match tag {
            LEADER => leader_changed = field.i32()? != -2,
            REPLICAS => replicas = brokers(&mut field)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(MetadataRecord::PartitionChange { topic, partition, replicas, leader_changed })
}

fn quota(at: &mut Cursor<'_>) -> Result<MetadataRecord, ReadError> {
    let mut entity = Vec::new();
    for _ in 0..at.array(3)?.unwrap_or(0) {
        entity.push((at.string()?.to_owned(), at.nullable_string()?.map(str::to_owned)));
        at.skip_tags()?;
    }
    let key = at.string()?.to_owned();
    let value = f64::from_bits(at.i64()? as u64);
    let removed = at.i8()? != 0;
    Ok(MetadataRecord::Quota { entity, key, value: (!removed).then_some(value) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const ID: [u8; 16] = [7; 16];

    fn value(kind: u8, version: u8, fields: &[&[u8]]) -> Vec<u8> {
        [&[1, kind, version][..], &fields.concat()].concat()
    }

    fn config(value: Option<&str>) -> MetadataRecord {
        let value = value.map(str::to_owned);
        MetadataRecord::Config { resource_type: 2, resource: "t".into(), key: "k".into(), value }
    }

    #[rstest]
    #[case::topic(value(2, 0, &[b"\x03ab", &ID, &[0]]), MetadataRecord::Topic { id: Uuid::from_bytes(ID), name: "ab".into() })]
    #[case::partition(
        value(3, 2, &[&[0, 0, 0, 4], &ID, &[2, 0, 0, 0, 1], &[2, 0, 0, 0, 1], &[1], &[1], &[0, 0, 0, 1], &[0, 0, 0, 9], &[0, 0, 0, 9], &[1], &[0]]),
        MetadataRecord::Partition { topic: Uuid::from_bytes(ID), partition: 4, replicas: vec![1], leader_epoch: 9 }
    )]
    #[case::a_new_leader(
        value(5, 2, &[&[0, 0, 0, 4], &ID, &[2, 0, 5, 2, 0, 0, 0, 1, 1, 4, 0, 0, 0, 1]]),
        MetadataRecord::PartitionChange { topic: Uuid::from_bytes(ID), partition: 4, replicas: None, leader_changed: true }
    )]
    #[case::config_set(value(4, 0, &[&[2], b"\x02t\x02k\x02v", &[0]]), config(Some("v")))]
    #[case::config_removed(value(4, 0, &[&[2], b"\x02t\x02k\x00", &[0]]), config(None))]
    #[case::quota(
        value(14, 0, &[&[2], b"\x05user\x00\x00", b"\x02k", &2.5f64.to_bits().to_be_bytes(), &[0, 0]]),
        MetadataRecord::Quota { entity: vec![("user".into(), None)], key: "k".into(), value: Some(2.5) }
    )]
    #[case::producer_ids(
        value(15, 0, &[&[0; 12], &1000i64.to_be_bytes(), &[0]]),
        MetadataRecord::NextProducerId(1000)
    )]
    #[case::unknown(value(99, 0, &[]), MetadataRecord::Unknown(99))]
    fn records_are_read(#[case] value: Vec<u8>, #[case] expected: MetadataRecord) {
        assert_eq!(decode(&value), Ok(expected));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(kind in 0u8..40, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
            let _ = decode(&value(kind, 0, &[&bytes]));
        }
    }
}
